"""Pulling into files and pushing from them: what goes out comes back, in parallel, once, and whole or not at all."""

from __future__ import annotations

import gzip
import json
import tarfile
from collections.abc import Callable
from pathlib import Path

import anyio
import pytest

from asyncrane.errors import (
    AsyncraneError,
    ContentError,
    DigestMismatch,
    InvalidInput,
    InvalidPlatform,
    InvalidReference,
    NotFound,
    UnsupportedManifest,
)
from asyncrane.oci.manifest import Manifest
from asyncrane.oci.platform import Platform
from asyncrane.operations.local import pull, push
from asyncrane.session import Session
from asyncrane.testing import FaultyRegistry, Gate, corrupt, delay, status
from asyncrane.testing.images import Sample, random_image, random_index
from tests.cli.conftest import fill
from tests.stores.archives import containerd, docker20, left, unpacked, write
from tests.stores.samples import EVERY_KIND

ARM = Platform("linux", "arm64")


def listing(path: Path) -> list[dict[str, object]]:
    """``manifest.json``."""
    with tarfile.open(path) as archive:
        file = archive.extractfile("manifest.json")
        assert file is not None
        return list(json.load(file))


def manifest_of(registry: FaultyRegistry, repository: str, identifier: str) -> Manifest:
    found = registry.get_manifest(repository, identifier)
    assert found is not None
    return found


@pytest.mark.parametrize("form", ["tarball", "legacy"])
async def test_a_docker_image_comes_back_with_its_config_and_layers(
    source: FaultyRegistry, tmp_path: Path, form: str
) -> None:
    """J3: compressed layers are the same blobs again; unpacked ones are the same layers."""
    sample = random_image("there and back", docker=True)
    name = fill(source, "app", sample, "v1")
    async with Session() as session:
        saved = await pull(session, [name], tmp_path / "a.tar", form=form)  # type: ignore[arg-type]
        pushed = await push(session, tmp_path / "a.tar", f"{source.address}/back:v1")
    back = manifest_of(source, "back", "v1")
    assert [found.digest for found in saved] == [sample.digest]
    assert pushed == back.descriptor
    assert back.config() == sample.manifest.config()
    if form == "tarball":
        assert back.layers() == sample.manifest.layers()
    for before, after in zip(sample.manifest.layers(), back.layers(), strict=True):
        blob = source.get_blob("back", after.digest)
        assert blob is not None
        assert gzip.decompress(blob) == gzip.decompress(sample.blobs[before.digest])


@pytest.mark.parametrize("kind", [kind for kind in EVERY_KIND if not kind.startswith("schema1")])
async def test_a_layout_keeps_every_digest(
    source: FaultyRegistry, destination: FaultyRegistry, tmp_path: Path, kind: str
) -> None:
    """J3: registry, layout, registry."""
    sample = EVERY_KIND[kind]
    name = fill(source, "app", sample, "v1")
    async with Session() as session:
        await pull(session, [name], tmp_path / "layout", form="oci")
        pushed = await push(session, tmp_path / "layout", f"{destination.address}/back:v1")
    assert pushed.digest == sample.digest
    assert manifest_of(destination, "back", "v1").body == sample.manifest.body


async def test_of_an_index_an_archive_gets_one_image_and_a_layout_all(source: FaultyRegistry, tmp_path: Path) -> None:
    index = random_index("choice")
    name = fill(source, "app", index, "v1")
    amd64, arm64 = (manifest.digest for manifest in index.manifests[:2])
    async with Session() as session:
        assert [d.digest for d in await pull(session, [name], tmp_path / "a.tar")] == [amd64]
        assert [d.digest for d in await pull(session, [name], tmp_path / "b.tar", platform=ARM)] == [arm64]
        assert [d.digest for d in await pull(session, [name], tmp_path / "c", form="oci")] == [index.digest]
        assert [d.digest for d in await pull(session, [name], tmp_path / "d", form="oci", platform=ARM)] == [arm64]
        only = fill(source, "only", random_image("amd64"), "v1")
        for form in ("tarball", "oci"):
            with pytest.raises(InvalidPlatform, match="no image for linux/arm64"):
                await pull(session, [only], tmp_path / "e", form=form, platform=ARM)
    assert left(tmp_path) == ["a.tar", "b.tar", "c", "d"]


async def test_layers_are_fetched_side_by_side(source: FaultyRegistry, tmp_path: Path) -> None:
    sample = random_image("parallel", layers=[2000] * 16)
    name = fill(source, "app", sample, "v1")
    gate = Gate()
    source.faults.add(delay(gate, kind="blob-get"))
    async with Session() as session, anyio.create_task_group() as tasks:
        tasks.start_soon(pull, session, [name], tmp_path / "a.tar")
        with anyio.fail_after(20):
            await gate.reached(17)
        gate.release()
    assert len(source.requests(kind="blob-get")) == 17
    assert len(source.requests(kind="manifest-get")) == 1
    assert len(listing(tmp_path / "a.tar")[0]["Layers"]) == 16  # type: ignore[arg-type]


async def test_images_in_one_file_share_what_they_have_in_common(source: FaultyRegistry, tmp_path: Path) -> None:
    """J2: a shared layer is fetched once and stored once; each image is found again by its name."""
    one, two = random_image("s", layers=(3000, 100)), random_image("s", layers=(3000, 200))
    names = [fill(source, "one", one, "v1"), fill(source, "two", two, "v1"), fill(source, "one", one, "v2")]
    async with Session() as session:
        await pull(session, names, tmp_path / "a.tar")
        assert len(source.requests(kind="blob-get")) == 5
        assert [entry["RepoTags"] for entry in listing(tmp_path / "a.tar")] == [[names[0], names[2]], [names[1]]]
        with pytest.raises(InvalidReference, match="holds 2 images, say which one"):
            await push(session, tmp_path / "a.tar", f"{source.address}/back:v1")
        await push(session, tmp_path / "a.tar", f"{source.address}/back:v1", name=names[1])
        with pytest.raises(NotFound, match="has no image 'x'"):
            await push(session, tmp_path / "a.tar", f"{source.address}/back:v1", name="x")
    assert manifest_of(source, "back", "v1").layers()[1].digest == two.manifest.layers()[1].digest


async def test_images_are_called_what_they_were_asked_for_as(source: FaultyRegistry, tmp_path: Path) -> None:
    sample, other = random_image("name"), random_image("other")
    fill(source, "app", sample, "latest")
    fill(source, "app", other, "other")
    app = f"{source.address}/app"
    asked = [app, f"{app}:named@{sample.digest}", f"{app}@{sample.digest}", f"{app}@{other.digest}"]
    async with Session() as session:
        await pull(session, asked, tmp_path / "a.tar")
    tags = [entry["RepoTags"] for entry in listing(tmp_path / "a.tar")]
    assert tags == [[f"{app}:i-was-a-digest", f"{app}:latest", f"{app}:named"], None]


async def test_a_session_pulls_the_same_image_into_the_same_file_again(source: FaultyRegistry, tmp_path: Path) -> None:
    name = fill(source, "app", random_image("again"), "v1")
    async with Session() as session:
        for _ in range(2):
            await pull(session, [name], tmp_path / "a.tar")
            (tmp_path / "a.tar").rename(tmp_path / "b.tar")
        await push(session, tmp_path / "b.tar", f"{source.address}/back:v1")
    assert source.get_manifest("back", "v1") is not None


async def test_what_fails_leaves_everything_as_it_was(source: FaultyRegistry, tmp_path: Path) -> None:
    good, bad = random_image("good"), random_image("bad")
    names = [fill(source, "good", good, "v1"), fill(source, "bad", bad, "v1")]
    target = write(tmp_path / "a.tar", b"what was there")
    layer = bad.manifest.layers()[1].digest
    fault = source.faults.add(corrupt(kind="blob-get", path=layer.hex))
    async with Session(retries=0) as session:
        for form in ("tarball", "legacy", "oci"):
            path = tmp_path / "layout" if form == "oci" else target
            with pytest.raises(DigestMismatch):
                await pull(session, names[1:] if form == "oci" else names, path, form=form)
        source.faults.remove(fault)
        source.faults.add(status(404, kind="manifest-get", path="/bad/"))
        with pytest.raises(NotFound):
            await pull(session, names, target)
    assert target.read_bytes() == b"what was there"
    assert left(tmp_path) == ["a.tar"]


async def test_what_is_cancelled_leaves_nothing(source: FaultyRegistry, tmp_path: Path) -> None:
    name = fill(source, "app", random_image("cancelled"), "v1")
    gate = Gate()
    source.faults.add(delay(gate, kind="blob-get"))
    async with Session() as session, anyio.create_task_group() as tasks:
        tasks.start_soon(pull, session, [name], tmp_path / "a.tar")
        await gate.reached(2)
        assert len(left(tmp_path)) == 1
        tasks.cancel_scope.cancel()
    assert left(tmp_path) == []
    gate.release()


async def test_a_cache_spares_the_second_fetch_and_is_not_believed(source: FaultyRegistry, tmp_path: Path) -> None:
    sample = random_image("cached")
    name = fill(source, "app", sample, "v1")
    cache = tmp_path / "cache"
    async with Session() as session:
        await pull(session, [name], tmp_path / "a.tar", cache=cache)
    kept = cache / "blobs" / "sha256"
    assert {f"sha256:{blob}": (kept / blob).read_bytes() for blob in left(kept)} == sample.blobs
    fetched = len(source.requests(kind="blob-get"))
    damaged = sample.manifest.layers()[0].digest
    (kept / damaged.hex).write_bytes(bytes(len(sample.blobs[damaged])))
    async with Session() as session:
        await pull(session, [name], tmp_path / "b.tar", cache=cache)
        await pull(session, [name], tmp_path / "layout", form="oci", cache=cache)
    assert [request.digest for request in source.requests(kind="blob-get")[fetched:]] == [damaged]
    assert (kept / damaged.hex).read_bytes() == sample.blobs[damaged]
    assert (tmp_path / "a.tar").read_bytes() == (tmp_path / "b.tar").read_bytes()


async def test_a_layout_is_added_to_and_pushed_as_one_index(source: FaultyRegistry, tmp_path: Path) -> None:
    image, index = random_image("image"), random_index("index")
    names = [fill(source, "image", image, "v1"), fill(source, "index", index, "v1")]
    async with Session() as session:
        for name in (*names, names[0]):
            await pull(session, [name], tmp_path / "layout", form="oci", annotate_ref=True)
        body = (tmp_path / "layout" / "index.json").read_bytes()
        notes = [entry["annotations"]["org.opencontainers.image.ref.name"] for entry in json.loads(body)["manifests"]]
        assert sorted(notes) == names
        with pytest.raises(InvalidReference, match="holds 2 images, say which one"):
            await push(session, tmp_path / "layout", f"{source.address}/back:v1")
        whole = await push(session, tmp_path / "layout", f"{source.address}/back:v1", index=True)
        assert (await push(session, tmp_path / "layout", f"{source.address}/b:1", name=names[1])).digest == index.digest
    assert manifest_of(source, "back", "v1").body == body
    assert whole.digest == manifest_of(source, "back", "v1").digest


async def test_an_oci_archive_is_pushed_as_it_is(source: FaultyRegistry, tmp_path: Path) -> None:
    """J1, J3: what is a docker archive, too, keeps the digest it has as an OCI image."""
    sample = random_index("dual")
    archive = write(tmp_path / "a.tar.gz", gzip.compress(containerd(sample, "app:v1")))
    async with Session() as session:
        assert (await push(session, archive, f"{source.address}/back:v1")).digest == sample.digest
        plain = write(tmp_path / "b.tar", docker20(unpacked("x"), "x:1"))
        with pytest.raises(InvalidInput, match="has no index"):
            await push(session, plain, f"{source.address}/back:v2", index=True)
    assert source.get_manifest("back", "v2") is None


@pytest.mark.parametrize(
    ("make", "error"),
    [
        (lambda path: path / "none", NotFound),
        (lambda path: path, ContentError),
        (lambda path: write(path / "text", b"hello, world" * 100), ContentError),
        (lambda path: write(path / "cut", docker20(unpacked("cut"))[:6000]), ContentError),
    ],
    ids=["nothing", "a directory", "no archive", "cut off"],
)
async def test_what_cannot_be_pushed_publishes_nothing(
    source: FaultyRegistry, tmp_path: Path, make: Callable[[Path], Path], error: type[AsyncraneError]
) -> None:
    path = make(tmp_path)
    async with Session() as session:
        with pytest.raises(error):
            await push(session, path, f"{source.address}/back:v1")
    assert source.requests() == []


async def test_a_wrong_layer_publishes_no_tag(source: FaultyRegistry, tmp_path: Path) -> None:
    sample = random_image("spoilt")
    name = fill(source, "app", sample, "v1")
    async with Session(retries=0) as session:
        await pull(session, [name], tmp_path / "a.tar")
        body = (tmp_path / "a.tar").read_bytes()
        at = body.index(sample.blobs[sample.manifest.layers()[0].digest])
        write(tmp_path / "a.tar", body[: at + 100] + bytes(20) + body[at + 120 :])
        with pytest.raises(DigestMismatch):
            await push(session, tmp_path / "a.tar", f"{source.address}/back:v1")
    assert source.get_manifest("back", "v1") is None


async def test_words_that_cannot_be_meant_are_refused(source: FaultyRegistry, tmp_path: Path) -> None:
    name = f"{source.address}/app:v1"
    path = tmp_path / "a.tar"
    async with Session() as session:
        with pytest.raises(InvalidInput, match="no image to pull"):
            await pull(session, [], path)
        with pytest.raises(InvalidInput, match="in an OCI layout only"):
            await pull(session, [name], path, annotate_ref=True)
        with pytest.raises(InvalidInput, match="cannot be written to a stream"):
            await pull(session, [name], "-", form="oci")
        with pytest.raises(InvalidReference):
            await pull(session, ["A B"], path)
        with pytest.raises(InvalidInput, match="exclude each other"):
            await push(session, path, name, name="x", index=True)
        with pytest.raises(InvalidReference, match="without a repository"):
            await push(session, path, "localhost:5000")
        with pytest.raises(InvalidInput, match="is no directory"):
            await pull(session, [name], tmp_path / "none" / "a.tar")
    assert source.requests() == []
    assert left(tmp_path) == []


async def test_schema_1_has_no_place_in_an_archive(source: FaultyRegistry, tmp_path: Path) -> None:
    sample: Sample = EVERY_KIND["schema1-signed"]
    name = fill(source, "app", sample, "v1")
    async with Session() as session:
        with pytest.raises(UnsupportedManifest, match="has no place in a docker archive"):
            await pull(session, [name], tmp_path / "a.tar")
    assert left(tmp_path) == []
