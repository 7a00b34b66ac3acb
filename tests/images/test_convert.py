"""K3, K7: layers packed otherwise and images of the other family: types say what the bytes are, the rest stays."""

from __future__ import annotations

import json
from collections.abc import Iterator
from contextlib import ExitStack
from typing import Any

import pytest

from asyncrane.archive.compression import sniff
from asyncrane.archive.estargz_reader import EstargzReader
from asyncrane.archive.estargz_toc import TOC_DIGEST, UNCOMPRESSED_SIZE
from asyncrane.archive.formats import Format, Packing
from asyncrane.archive.layers import layer_file
from asyncrane.archive.recompress import repacked
from asyncrane.archive.spool import Spool
from asyncrane.archive.whole import read_blob
from asyncrane.errors import ContentError, InvalidInput, UnsupportedManifest
from asyncrane.images.append import append_layers
from asyncrane.images.convert import Repacked, convertible, retyped, with_layers
from asyncrane.images.family import DOCKER, LAYERS, OCI, Family, family, translated
from asyncrane.images.overlay import Overlay
from asyncrane.images.view import Image, Index, View, images, load, manifests, opaques
from asyncrane.oci import media
from asyncrane.oci.digest import Digest
from asyncrane.stores.memory import MemoryStore
from asyncrane.testing.images import Sample
from tests.archive.test_layers import tar, write
from tests.images.samples import attested, expanded, image, index, problems, sample, with_config, with_fields

FOREIGN = "application/vnd.oci.image.layer.nondistributable.v1.tar+gzip"
FORMATS: tuple[Format, ...] = ("plain", "gzip", "zstd", "estargz")


class Packed:
    """Images in memory, and what their layers become."""

    def __init__(self, stack: ExitStack) -> None:
        self.store = MemoryStore("packed")
        self.overlay = Overlay("packed", lambda place: self.store)
        self._stack = stack

    async def load(self, made: Sample, **options: Any) -> View:
        await made.store(self.store, "v1")
        return await load(self.store, "v1", **options)

    async def layers(self, view: View, format_: Format, level: int | None = None) -> dict[Digest, Repacked]:
        found: dict[Digest, Repacked] = {}
        for digest, blob in convertible(view).items():
            async with self.store.open(blob) as chunks:
                spool = self._stack.enter_context(Spool())
                packing = Packing(format_, level)
                found[digest] = await repacked(chunks, blob, packing, spool, always=level is not None)
        return found

    async def convert(self, view: View, format_: Format, level: int | None = None) -> View:
        return with_layers(view, await self.layers(view, format_, level))

    async def check(self, view: View, allowed: tuple[Family, ...] = (OCI, DOCKER)) -> None:
        """K3, K7: one family, layers that are what their types and the config say."""
        self.overlay.add(view, tag="converted")
        assert await problems(self.overlay, "converted") == []
        families = {family(manifest.media_type) for manifest in manifests(view)}
        assert len(families) == 1
        assert families <= set(allowed)
        for one in images(view):
            for layer in one.manifest.layers():
                content = await read_blob(self.overlay, layer)
                assert translated(layer.media_type, OCI) == LAYERS[sniff(content)]


@pytest.fixture
def packed() -> Iterator[Packed]:
    with ExitStack() as stack:
        yield Packed(stack)


def diff_ids(view: View) -> list[tuple[str, ...]]:
    return [one.diff_ids() for one in images(view)]


@pytest.mark.parametrize("docker", [False, True])
@pytest.mark.parametrize("format_", FORMATS)
async def test_k7_types_match_the_bytes_and_diff_ids_stay(packed: Packed, format_: Format, *, docker: bool) -> None:
    before = await packed.load(sample(index("a", "b", docker=docker)))
    after = await packed.convert(before, format_, 1 if format_ != "plain" else None)
    await packed.check(after)
    assert (diff_ids(after) == diff_ids(before)) == (format_ != "estargz")
    assert (family(after.manifest.media_type) == DOCKER) == (docker and format_ != "zstd")
    if format_ != "estargz":
        assert [one.config for one in images(after)] == [one.config for one in images(before)]
    platforms = [child.platform for child in after.manifest.children()]
    assert platforms == [child.platform for child in before.manifest.children()]


async def test_k7_there_and_back_again_is_the_image_that_it_was(packed: Packed) -> None:
    before = await packed.convert(await packed.load(sample(image("a", "b"))), "gzip", 6)
    there = await packed.convert(await reloaded(packed, before), "zstd")
    back = await packed.convert(await reloaded(packed, there), "gzip", 6)
    assert back.manifest == before.manifest


async def reloaded(packed: Packed, view: View) -> View:
    """The image as somebody sees it who finds it in a registry."""
    overlay = Overlay("found", lambda place: packed.store)
    overlay.add(view)
    for manifest in manifests(view):
        for blob in manifest.blobs():
            await packed.store.put(blob, lambda start, blob=blob: overlay.open(blob, start=start))  # type: ignore[misc]
        await packed.store.publish(manifest)
    return await load(packed.store, str(view.manifest.digest))


async def test_k7_what_is_packed_so_already_is_left_alone(packed: Packed) -> None:
    """K7: and gets the type that its bytes have, if it had another."""
    before = await packed.load(sample(image("a", "b")))
    assert await packed.convert(before, "gzip") is before
    fields = before.manifest.fields()
    wrong = [{**layer, "mediaType": media.OCI_LAYER} for layer in fields["layers"]]
    mistyped = await packed.load(with_fields(sample(image("a", "b")), layers=wrong))
    after = await packed.convert(mistyped, "gzip")
    await packed.check(after)
    assert after.manifest.fields()["layers"] == fields["layers"]


async def test_k7_estargz_is_announced_in_the_descriptor_and_forgotten_by_gzip(packed: Packed) -> None:
    before = await packed.load(sample(image("a", "b")))
    after = await packed.convert(before, "estargz")
    await packed.check(after)
    for layer, old in zip(after.manifest.layers(), before.manifest.layers(), strict=True):
        blob = await read_blob(packed.overlay, layer)
        reader = EstargzReader(
            lambda at, size, blob=blob: blob[at : at + size],  # type: ignore[misc]
            len(blob),
            "layer",
            toc_digest=Digest(layer.annotations[TOC_DIGEST]),
        )
        assert reader.verify() == 2
        assert layer.annotations[UNCOMPRESSED_SIZE] == str(len(expanded(blob)))
        assert layer.digest != old.digest
    found = await reloaded(packed, after)
    assert await packed.convert(found, "estargz") is found
    assert await packed.convert(found, "gzip") is found, "it is gzip, too"
    again = await packed.convert(found, "gzip", 6)
    assert [layer.annotations for layer in again.manifest.layers()] == [{}, {}]
    assert diff_ids(again) == diff_ids(after)


async def test_other_annotations_of_a_layer_stay_and_urls_go(packed: Packed) -> None:
    made = sample(image("a"))
    [layer] = made.manifest.fields()["layers"]
    noted = {**layer, "annotations": {"team": "x", TOC_DIGEST: "old"}, "urls": ["https://example.com/a"]}
    after = await packed.convert(await packed.load(with_fields(made, layers=[noted])), "zstd")
    [described] = after.manifest.fields()["layers"]
    assert described["annotations"] == {"team": "x"}
    assert "urls" not in described


async def test_foreign_layers_and_what_is_no_layer_stay_as_they_are(packed: Packed) -> None:
    made = sample(image("a", "b"))
    layers = made.manifest.fields()["layers"]
    foreign = {**layers[0], "mediaType": FOREIGN, "urls": ["https://example.com/a"]}
    other = {**layers[1], "mediaType": "application/vnd.example.thing"}
    view = await packed.load(with_fields(made, layers=[foreign, other]))
    assert convertible(view) == {}
    assert await packed.convert(view, "zstd") is view


async def test_a_layer_that_the_config_does_not_name_is_refused(packed: Packed) -> None:
    made = sample(image("a"))
    broken = with_config(made, rootfs={"type": "layers", "diff_ids": [f"sha256:{'0' * 64}"]})
    with pytest.raises(ContentError, match="says that layer sha256:"):
        await packed.convert(await packed.load(broken), "zstd")


@pytest.mark.parametrize("docker", [False, True])
async def test_k3_the_whole_family_changes_and_changes_back(packed: Packed, *, docker: bool) -> None:
    """K3: index, manifests, configs and layers; blobs and digests of blobs stay."""
    before = await packed.load(sample(index("a", "b", docker=docker)))
    wanted, other = (OCI, DOCKER) if docker else (DOCKER, OCI)
    after = retyped(before, wanted)
    await packed.check(after, (wanted,))
    for old, new in zip(manifests(before), manifests(after), strict=True):
        assert [blob.digest for blob in new.blobs()] == [blob.digest for blob in old.blobs()]
    assert retyped(after, wanted) is after
    back = retyped(after, other)
    assert [manifest.named() for manifest in manifests(back)] == [manifest.named() for manifest in manifests(before)]
    assert {manifest.digest for manifest in manifests(retyped(back, wanted))} == {m.digest for m in manifests(after)}


async def test_k3_converted_layers_and_another_family_go_together(packed: Packed) -> None:
    zstd = await packed.convert(await packed.load(sample(image("a", "b", docker=True))), "zstd")
    assert family(zstd.manifest.media_type) == OCI
    with pytest.raises(UnsupportedManifest, match="there is no type for"):
        retyped(zstd, DOCKER)
    gzip = retyped(await packed.convert(await reloaded(packed, zstd), "gzip"), DOCKER)
    await packed.check(gzip, (DOCKER,))
    estargz = retyped(await packed.convert(await reloaded(packed, gzip), "estargz"), OCI)
    await packed.check(estargz, (OCI,))


@pytest.mark.parametrize("how", ["layers", "family"])
async def test_k3_attestations_of_converted_images_are_left_out(packed: Packed, how: str) -> None:
    before = await packed.load(attested(sample(index("a"))))
    assert isinstance(before, Index)
    assert len(list(opaques(before))) == 2
    after = retyped(before, DOCKER) if how == "family" else await packed.convert(before, "zstd")
    assert len(after.manifest.children()) == len(list(images(after))) == 2
    await packed.check(after)
    assert retyped(before, OCI) is before, "what does not change keeps them"


async def test_k3_docker_has_nothing_for_artifacts(packed: Packed) -> None:
    made = sample(image("a"))
    [layer] = made.manifest.fields()["layers"]
    odd = with_fields(made, layers=[{**layer, "mediaType": "application/vnd.example.thing"}])
    with pytest.raises(UnsupportedManifest, match=r"no type for a application/vnd\.example\.thing"):
        retyped(await packed.load(odd), DOCKER)
    attached = with_fields(made, subject={**layer, "mediaType": media.OCI_MANIFEST})
    with pytest.raises(UnsupportedManifest, match="attached to something"):
        retyped(await packed.load(attached), DOCKER)


async def test_an_estargz_layer_is_appended_with_its_annotations(packed: Packed, tmp_path: Any) -> None:
    path = write(tmp_path / "layer.tar", tar())
    new, ordinary = await layer_file(path, Packing("estargz")), await layer_file(path)
    after = append_layers(await packed.load(sample(image("a"))), [ordinary, new])
    await packed.check(after)
    assert [bool(layer.annotations) for layer in after.manifest.layers()] == [False, False, True]
    assert after.manifest.layers()[-1].annotations == new.annotations
    assert isinstance(after, Image)
    assert json.loads(after.config)["rootfs"]["diff_ids"][-1] == str(new.diff_id)


@pytest.mark.parametrize(
    ("packing", "says"),
    [
        (Packing("gzip", 10), "no level of gzip: 10"),
        (Packing("estargz", -1), "no level of estargz: -1"),
        (Packing("zstd", 0), "no level of zstd: 0"),
        (Packing("plain", 1), "not compressed"),
    ],
)
def test_a_level_that_there_is_not_is_refused(packing: Packing, says: str) -> None:
    with pytest.raises(InvalidInput, match=says):
        packing.check()
