"""Synthetic images are valid, deterministic and readable from any offset."""

from __future__ import annotations

import gzip
import io
import json
import tarfile
import zlib

import pytest

from asyncrane.abc import Lister, Source
from asyncrane.errors import NotFound
from asyncrane.oci.digest import Digest
from asyncrane.oci.manifest import Manifest
from asyncrane.oci.platform import Platform
from asyncrane.stores.random import Image, Index, Kitchen, Layer, RandomSource, fleet
from asyncrane.testing.checks import check_source
from asyncrane.testing.images import random_image

SIZES = [0, 1, 511, 512, 513, 65535, 65536, 262143, 262144, 262145, 600_000]


@pytest.mark.parametrize("size", SIZES)
@pytest.mark.parametrize("compressed", [True, False])
def test_a_layer_is_a_tar_with_one_file_of_that_size(size: int, compressed: bool) -> None:
    kitchen = Kitchen()
    manifest = kitchen.make(Image((Layer("s", size, compressed),)))
    blob = b"".join(kitchen.read(manifest.layers()[0].digest))
    tar = gzip.decompress(blob) if compressed else blob
    with tarfile.open(fileobj=io.BytesIO(tar)) as archive:
        assert [entry.size for entry in archive] == [size]
    assert len(tar) % 512 == 0
    assert len(blob) == manifest.layers()[0].size


def test_the_config_names_the_uncompressed_layers() -> None:
    sample = random_image(layers=(10, 300_000), platform=Platform("linux", "arm", "v7"))
    described = sample.manifest.config()
    assert described is not None
    config = json.loads(sample.blobs[described.digest])
    layers = [gzip.decompress(sample.blobs[layer.digest]) for layer in sample.manifest.layers()]
    assert config["rootfs"]["diff_ids"] == [Digest.of(layer) for layer in layers]
    assert (config["os"], config["architecture"], config["variant"]) == ("linux", "arm", "v7")


def test_the_noise_does_not_compress() -> None:
    sample = random_image(layers=(1_000_000,), gzip=False)
    blob = max(sample.blobs.values(), key=len)
    assert len(zlib.compress(blob, 9)) > 0.99 * len(blob)


def test_the_same_seed_makes_the_same_image_on_every_machine() -> None:
    assert random_image("x", layers=(1000, 300_000)).digest == (
        "sha256:4e915ca435c1123a2d6284eda8bb309ea6a9b3899fe3180c0496866f44d49050"
    )
    assert random_image("x").digest != random_image("y").digest


def test_images_share_the_layers_that_are_equal() -> None:
    base, kitchen = Layer("base", 1000), Kitchen()
    first = kitchen.make(Image((base, Layer("a", 10))))
    second = kitchen.make(Image((base, Layer("b", 10)), Platform("linux", "arm64")))
    assert first.layers()[0] == second.layers()[0]
    assert first.layers()[1] != second.layers()[1]


@pytest.mark.parametrize("docker", [True, False])
async def test_a_source_passes_the_conformance_suite(docker: bool) -> None:
    layers = (Layer("a", 1000), Layer("b", 300_000, gzip=False))
    index = Index((Image(layers, docker=docker), Index((Image(layers[:1]),))), docker)
    source = RandomSource({"v1": index, "v2": Image(layers)}, repository="r")
    assert isinstance(source, Source)
    assert isinstance(source, Lister)
    await check_source(source, tag="v1", manifest=Kitchen().make(index))
    await check_source(source, tag="v2", manifest=Kitchen().make(Image(layers)))


async def test_a_blob_can_be_opened_before_its_manifest_was_asked_for() -> None:
    image = Image((Layer("a", 1000),))
    blob = Kitchen().make(image).layers()[0]
    async with RandomSource({"v1": image}).open(blob) as chunks:
        content = b"".join([chunk async for chunk in chunks])
    assert Digest.of(content) == blob.digest


async def test_a_fleet_shares_its_base_layers_across_repositories() -> None:
    sources = fleet(repositories=3, tags=2, shared=(1000, 2000), own=(100,))
    assert [source.place.repository for source in sources] == ["app-00", "app-01", "app-02"]
    assert len({source.place.site for source in sources}) == 1
    layers: set[Digest] = set()
    for source in sources:
        for tag in [t async for t in source.tags()]:
            index = await source.manifest(tag)
            images: list[Manifest] = [await source.manifest(child.digest) for child in index.children()]
            assert [str(child.platform) for child in index.children()] == ["linux/amd64", "linux/arm64"]
            layers |= {layer.digest for image in images for layer in image.layers()}
    assert len(layers) == 2 * 2 + 3 * 2 * 2


async def test_what_a_source_has_not_is_not_found() -> None:
    with pytest.raises(NotFound, match="random/r: no manifest 'v9'"):
        await RandomSource({}, repository="r").manifest("v9")
