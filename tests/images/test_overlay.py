"""The overlay is a Source of what is new, and of the rest wherever that is."""

from __future__ import annotations

import pytest

from asyncrane.abc import Source
from asyncrane.errors import NotFound, UnsupportedManifest
from asyncrane.images.mutate import Changes, mutate
from asyncrane.images.overlay import Overlay
from asyncrane.images.view import View, images, load, load_rest, manifests, opaques
from asyncrane.oci.manifest import Manifest
from asyncrane.oci.platform import Platform
from asyncrane.stores.memory import MemoryStore
from asyncrane.testing.checks import check_source
from asyncrane.testing.images import Sample
from tests.images.samples import BOTH, attested, image, index, sample, with_fields


async def stored(made: Sample) -> MemoryStore:
    store = MemoryStore("there", repository="app")
    await made.store(store, "v1")
    return store


async def test_it_passes_the_conformance_suite() -> None:
    store = await stored(sample(index("a", "b")))
    overlay = Overlay("test", lambda place: store)
    assert isinstance(overlay, Source)
    edited = mutate(await load(store, "v1"), Changes(labels={"a": "b"}))
    overlay.add(edited, tag="edited")
    await check_source(overlay, tag="edited", manifest=edited.manifest)
    assert repr(overlay) == "Overlay('test', 3 manifests, 6 blobs)"


async def test_what_is_removed_is_forgotten_unless_another_image_has_it() -> None:
    store = await stored(sample(index("a")))
    overlay = Overlay("test", lambda place: store)
    before = await load(store, "v1")
    one, two = (mutate(before, Changes(annotations={"number": n})) for n in "12")
    for view in (one, two):
        overlay.add(view)
    overlay.remove(one)
    with pytest.raises(NotFound):
        await overlay.manifest(one.manifest.digest)
    overlay.add(two, tag="two")
    overlay.remove(two)
    await check_source(overlay, tag="two", manifest=two.manifest)
    overlay.remove(two)
    assert repr(overlay) == "Overlay('test', 0 manifests, 0 blobs)"


async def test_platforms_are_chosen_before_anything_is_edited() -> None:
    """One gives that image, several an index of these, with their attestations."""
    store = await stored(attested(sample(index("a", platforms=(*BOTH, Platform("linux", "s390x"))))))
    one = await load(store, "v1", platforms=[BOTH[1]])
    assert [i.platform for i in images(one)] == [BOTH[1]]
    assert not one.manifest.is_index
    two = await load(store, "v1", platforms=BOTH)
    assert [i.platform for i in images(two)] == list(BOTH)
    assert len(list(opaques(two))) == 2


async def test_what_is_not_edited_is_read_when_it_goes_along() -> None:
    """An attestation of an image that stays is copied with it, by way of the overlay."""
    store = await stored(attested(sample(index("a"))))
    view = await load(store, "v1", platforms=BOTH)
    assert len(list(manifests(view))) == 3
    whole: View = await load_rest(store, view)
    overlay = Overlay("test", lambda place: store)
    overlay.add(whole, tag="whole")
    await check_source(overlay, tag="whole", manifest=whole.manifest)


async def test_an_artifact_and_a_schema_1_image_are_refused() -> None:
    made = sample(image("a"))
    fields = made.manifest.fields()
    fields["config"]["mediaType"] = "application/vnd.cncf.helm.config.v1+json"
    chart = await stored(with_fields(made, config=fields["config"]))
    with pytest.raises(UnsupportedManifest, match=r"is no image: its config is a application/vnd\.cncf\.helm"):
        await load(chart, "v1")
    old = MemoryStore("old")
    await old.publish(Manifest.read(b'{"schemaVersion":1,"fsLayers":[],"history":[],"name":"a","tag":"b"}'), "v1")
    with pytest.raises(UnsupportedManifest, match=r"manifest\.v1\+json, which cannot be edited"):
        await load(old, "v1")
