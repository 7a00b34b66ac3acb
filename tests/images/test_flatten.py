"""Flattened images have one layer, and say of themselves what they said before."""

from __future__ import annotations

import gzip
import json
from typing import Any

import pytest

from asyncrane.archive.whole import read_blob
from asyncrane.errors import ContentError, UnsupportedManifest
from asyncrane.images.flatten import flatten
from asyncrane.images.overlay import Overlay
from asyncrane.images.view import Image, Index, View, images, load, load_rest, opaques
from asyncrane.oci import media
from asyncrane.oci.digest import Digest
from asyncrane.oci.manifest import Manifest
from asyncrane.oci.platform import Platform
from asyncrane.oci.select import ATTESTS
from asyncrane.stores.memory import MemoryStore
from asyncrane.stores.random import LINUX_AMD64, LINUX_ARM64
from asyncrane.testing.images import Sample
from tests.archive.overlay import contents, layer, tar
from tests.images.samples import attested, problems
from tests.images.tars import image, index

LAYERS = (layer("a", "b", "d/"), layer(".wh.a", "c"))
CONFIG: dict[str, Any] = {
    "config": {"Cmd": ["/b"], "Labels": {"x": "y"}, "unknown": {"kept": [1, 2.5]}},
    "author": "somebody",
    "x.vendor": None,
}


class Flat:
    """What became of an image: the view, its problems, and the files of each of its images."""

    def __init__(self, view: View, found: list[str], files: list[dict[str, str]], bodies: list[bytes]) -> None:
        self.view = view
        self.problems = found
        self.files = files
        self.bodies = bodies

    @property
    def settings(self) -> dict[str, Any]:
        """The config of the only image."""
        (only,) = images(self.view)
        return only.settings()


async def flat(made: Sample, **options: Any) -> Flat:
    """Flatten ``made`` and look at it."""
    store = MemoryStore()
    await made.store(store, "it")
    before = await load(store, "it")
    async with flatten(store, before, **options) as after:
        held = await load_rest(store, after)
        overlay = Overlay("flat", lambda place: store)
        overlay.add(held, tag="flat")
        files: list[dict[str, str]] = []
        bodies: list[bytes] = []
        for one in images(held):
            (blob,) = one.manifest.layers()
            bodies.append(await read_blob(overlay, blob, limit=10**8))
            files.append(contents(gzip.decompress(bodies[-1])))
        return Flat(held, await problems(overlay, "flat"), files, bodies)


@pytest.mark.parametrize("docker", [False, True])
async def test_an_image_becomes_one_layer_of_its_own_family(docker: bool) -> None:
    """K3, K4: types, sizes, digests and history fit."""
    made = image(*LAYERS, docker=docker, config=CONFIG)
    after = await flat(made)
    assert after.problems == []
    assert after.files == [{"b": "b", "c": "c"}]
    assert after.view.manifest.media_type == made.manifest.media_type
    assert after.view.manifest.layers()[0].media_type == made.manifest.layers()[0].media_type


async def test_everything_else_in_the_config_stays() -> None:
    """Unknown fields too; what the history was is its comment, as in crane."""
    made = image(*LAYERS, config=CONFIG)
    before = json.loads(made.blobs[made.manifest.config().digest])  # type: ignore[union-attr]
    after = (await flat(made)).settings
    gone = {"rootfs", "history"}
    assert {k: v for k, v in after.items() if k not in gone} == {k: v for k, v in before.items() if k not in gone}
    assert list(after) == list(before)
    (entry,) = after["history"]
    assert entry["created_by"] == f"asyncrane flatten {made.digest!s}"
    assert entry["created"] == before["created"]
    assert json.loads(entry["comment"]) == before["history"]


async def test_annotations_of_the_manifest_stay() -> None:
    made = image(*LAYERS)
    fields = {**made.manifest.fields(), "annotations": {"a": "b"}, "x": 1}
    annotated = Sample((Manifest.read(json.dumps(fields).encode()),), made.blobs)
    after = (await flat(annotated)).view.manifest
    assert after.annotations == {"a": "b"}
    assert after.fields()["x"] == 1


async def test_k5_the_same_image_gives_the_same_digest() -> None:
    """K5: the layer has no time and no name, the config keeps the time it had."""
    once, again = await flat(image(*LAYERS)), await flat(image(*LAYERS))
    assert once.view.manifest.digest == again.view.manifest.digest
    assert once.bodies[0][:10] == b"\x1f\x8b\x08\0\0\0\0\0\x04\xff"
    assert (await flat(image(*LAYERS), created="2024-02-03T04:05:06Z")).settings["created"] == "2024-02-03T04:05:06Z"


async def test_a_flat_image_can_be_flattened_and_keeps_its_layer() -> None:
    store, made = MemoryStore(), image(*LAYERS)
    await made.store(store, "it")
    async with flatten(store, await load(store, "it")) as after:
        overlay = Overlay("flat", lambda place: store)
        overlay.add(after)
        async with flatten(overlay, after) as again:
            assert again.manifest.layers() == after.manifest.layers()
            assert isinstance(again, Image)
            assert set(again.added) == {again.manifest.config().digest, *(b.digest for b in again.manifest.layers())}  # type: ignore[union-attr]


@pytest.mark.parametrize("docker", [False, True])
async def test_every_image_of_an_index_is_flattened(docker: bool) -> None:
    """K1: order, platforms and annotations stay."""
    images_ = [
        image(layer("amd"), *LAYERS, docker=docker),
        image(layer("arm"), *LAYERS, docker=docker, platform=LINUX_ARM64),
    ]
    made = index(*images_, docker=docker, annotations={"x": "y"})
    after = await flat(made)
    assert after.problems == []
    assert after.files == [{"amd": "amd", "b": "b", "c": "c"}, {"arm": "arm", "b": "b", "c": "c"}]
    assert [child.platform for child in after.view.manifest.children()] == [LINUX_AMD64, LINUX_ARM64]
    assert after.view.manifest.annotations == {"x": "y"}


async def test_images_with_the_same_layers_share_the_flattened_one() -> None:
    """It is made once, and so uploaded once."""
    after = await flat(index(image(*LAYERS), image(*LAYERS, platform=LINUX_ARM64)))
    first, second = images(after.view)
    assert first.manifest.layers() == second.manifest.layers()
    (shared,) = {blob.digest for blob in first.manifest.layers()}
    assert first.added[shared] == second.added[shared]


async def test_nested_indexes_are_flattened_too() -> None:
    inner = index(image(*LAYERS))
    entry = {"mediaType": inner.manifest.media_type, "digest": str(inner.digest), "size": inner.manifest.size}
    body = json.dumps({"schemaVersion": 2, "mediaType": media.OCI_INDEX, "manifests": [entry]}).encode()
    after = await flat(Sample((*inner.manifests, Manifest.read(body)), inner.blobs))
    assert after.problems == []
    assert after.files == [{"b": "b", "c": "c"}]


async def test_attestations_are_left_out_as_their_layers_are_gone() -> None:
    after = await flat(attested(index(image(*LAYERS), image(*LAYERS, platform=LINUX_ARM64))))
    assert list(opaques(after.view)) == []
    assert len(after.view.manifest.children()) == 2
    assert after.problems == []


async def test_attestations_that_are_kept_are_listed_for_the_new_image() -> None:
    """Their own bytes stay as they are."""
    made = attested(index(image(*LAYERS), image(*LAYERS, platform=LINUX_ARM64)))
    after = await flat(made, keep_attestations=True)
    children = after.view.manifest.children()
    assert [child.annotations.get(ATTESTS) for child in children] == [
        None,
        None,
        *(str(c.digest) for c in children[:2]),
    ]
    assert {child.digest for child in children[2:]} == {manifest.digest for manifest in made.manifests[2:4]}
    assert after.problems == []


async def test_what_else_an_index_lists_stays() -> None:
    plain = index(image(*LAYERS))
    other = {"mediaType": "application/vnd.example+json", "digest": str(Digest.of(b"{}")), "size": 2}
    fields = plain.manifest.fields()
    fields["manifests"].append(other)
    made = Sample((*plain.manifests[:-1], Manifest.read(json.dumps(fields).encode())), plain.blobs)
    store = MemoryStore()
    for digest, blob in made.blobs.items():
        store._here.blobs[digest] = blob
    for manifest in made.manifests:
        store._here.manifests[manifest.digest] = manifest
    view = await load(store, str(made.digest))
    async with flatten(store, view) as after:
        assert isinstance(after, Index)
        assert after.manifest.fields()["manifests"][1] == other


async def test_an_image_for_windows_is_refused() -> None:
    with pytest.raises(UnsupportedManifest, match="Windows"):
        await flat(image(*LAYERS, platform=Platform("windows", "amd64")))


async def test_an_index_without_images_is_refused() -> None:
    with pytest.raises(UnsupportedManifest, match="no image to flatten"):
        await flat(index())


async def test_an_image_that_is_not_what_it_says_is_not_flattened() -> None:
    with pytest.raises(ContentError, match="sha256:"):
        await flat(image(*LAYERS, packed={1: gzip.compress(tar())}))
