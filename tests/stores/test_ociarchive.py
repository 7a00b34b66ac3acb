"""An OCI archive: read in every compression and from every writer, written whole or not at all, the same every time."""

from __future__ import annotations

import contextlib
import gzip
import io
import json
import lzma
import resource
import tarfile
import tempfile
from collections.abc import Callable, Iterator
from contextlib import AsyncExitStack, contextmanager
from pathlib import Path

import anyio
import pytest
from backports import zstd

from asyncrane.errors import AsyncraneError, ContentError, Interrupted, InvalidInput, InvalidReference, NotFound
from asyncrane.oci import media
from asyncrane.oci.digest import Digest
from asyncrane.operations.copy import Pair, copy, copy_all
from asyncrane.operations.inspect import resolve
from asyncrane.session import Session
from asyncrane.stores.imageindex import IMAGE_NAME, REF_NAME
from asyncrane.stores.layoutfiles import MARKER
from asyncrane.stores.memory import MemoryStore
from asyncrane.stores.ociarchive import open_oci_archive
from asyncrane.testing import FaultyRegistry, corrupt, status
from asyncrane.testing.checks import check_sink, check_sink_index, check_source
from asyncrane.testing.images import Sample, random_image, random_index
from tests.cli.conftest import fill
from tests.stores.samples import EVERY_KIND, described, move

PACKED: dict[str, Callable[[bytes], bytes]] = {
    "plain": lambda data: data,
    "gzip": gzip.compress,
    "zstd": zstd.compress,
    "xz": lzma.compress,
}


async def stored(path: Path, **samples: Sample) -> None:
    async with open_oci_archive(path, writing=True) as archive:
        for tag, sample in samples.items():
            await sample.store(archive, tag)


def left(path: Path) -> list[str]:
    return sorted(found.name for found in path.glob("*"))


def tar(files: dict[str, bytes], *, prefix: str = "") -> bytes:
    packed = io.BytesIO()
    with tarfile.open(fileobj=packed, mode="w") as archive:
        for name, content in files.items():
            entry = tarfile.TarInfo(prefix + name)
            entry.size = len(content)
            archive.addfile(entry, io.BytesIO(content))
    return packed.getvalue()


def layout(sample: Sample, **annotations: str) -> dict[str, bytes]:
    """The files of a layout with one image."""
    root = described(sample.manifest.media_type, sample.manifest.body, annotations=annotations)
    contents = [*sample.blobs.items(), *[(m.digest, m.body) for m in sample.manifests]]
    index = {"schemaVersion": 2, "manifests": [root]}
    return {f"blobs/{digest.algorithm}/{digest.hex}": content for digest, content in contents} | {
        "index.json": json.dumps(index).encode(),
        "oci-layout": MARKER,
    }


async def test_what_is_written_passes_the_conformance_suite(tmp_path: Path) -> None:
    """While it is collected, and as an archive."""
    async with open_oci_archive(tmp_path / "f.tar", writing=True) as writing:
        sample = await check_sink(writing)
        many = await check_sink_index(writing)
        assert not (tmp_path / "f.tar").exists()
    async with open_oci_archive(tmp_path / "f.tar") as archive:
        await check_source(archive, tag="checked", manifest=sample.manifest)
        await check_source(archive, tag="many", manifest=many.manifest)
    assert left(tmp_path) == ["f.tar"]


@pytest.mark.parametrize("kind", EVERY_KIND)
async def test_j3_every_kind_of_manifest_keeps_its_bytes_and_digest(kind: str, tmp_path: Path) -> None:
    """J3: registry -> archive -> registry."""
    before, after = MemoryStore("before"), MemoryStore("after")
    await EVERY_KIND[kind].store(before, "v1")
    async with open_oci_archive(tmp_path / "f.tar", writing=True) as writing:
        assert [outcome.failure for outcome in await move(before, writing, "v1")] == [None]
    async with open_oci_archive(tmp_path / "f.tar") as archive:
        assert [outcome.failure for outcome in await move(archive, after, "v1")] == [None]
    assert await after.manifest("v1") == EVERY_KIND[kind].manifest


@pytest.mark.parametrize("prefix", ["", "./"])
@pytest.mark.parametrize("packing", PACKED)
async def test_j1_it_is_read_in_every_compression(packing: str, prefix: str, tmp_path: Path) -> None:
    """J1: what buildkit and podman write, whatever they compress it with."""
    sample = random_index("x")
    (tmp_path / "f").write_bytes(PACKED[packing](tar(layout(sample, **{REF_NAME: "v1"}), prefix=prefix)))
    async with open_oci_archive(tmp_path / "f") as archive:
        await check_source(archive, tag="v1", manifest=sample.manifest)
        assert (await archive.sole()).digest == sample.digest


async def test_a_plain_archive_is_not_unpacked(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """There is nowhere to unpack it to."""
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path / "nowhere"))
    sample = random_image("x", layers=(3_000_000,))
    await stored(tmp_path / "f.tar", v1=sample)
    async with open_oci_archive(tmp_path / "f.tar") as archive:
        await check_source(archive, tag="v1", manifest=sample.manifest)
    (tmp_path / "f.tar.gz").write_bytes(gzip.compress((tmp_path / "f.tar").read_bytes(), 1))
    with pytest.raises(AsyncraneError):
        async with open_oci_archive(tmp_path / "f.tar.gz"):
            pass


async def test_k5_the_same_images_in_another_order_give_the_same_bytes(tmp_path: Path) -> None:
    samples = {"a": random_image("a"), "b": random_index("b"), "c": random_image("a")}
    await stored(tmp_path / "one.tar", **samples)
    await stored(tmp_path / "two.tar", **dict(reversed(samples.items())))
    assert (tmp_path / "one.tar").read_bytes() == (tmp_path / "two.tar").read_bytes()
    with tarfile.open(tmp_path / "one.tar") as archive:
        entries = archive.getmembers()
    names = [entry.name for entry in entries]
    assert names[:4] == ["oci-layout", "index.json", "blobs", "blobs/sha256"]
    assert names[4:] == sorted(names[4:])
    assert {(entry.mtime, entry.uid, entry.gid, entry.uname) for entry in entries} == {(0, 0, 0, "")}


async def test_only_what_belongs_to_an_image_that_came_is_in_it(tmp_path: Path) -> None:
    """Of two images one fails half-way: the other makes the archive, without what the first had brought."""
    good, bad = random_image("good"), random_image("bad")
    async with FaultyRegistry() as registry, Session() as session:
        fill(registry, "app", good, "good")
        fill(registry, "app", bad, "bad")
        registry.faults.add(corrupt(kind="blob-get", path=str(bad.manifest.layers()[0].digest)))
        target = f"oci-archive:{tmp_path}/f.tar"
        pairs = [Pair(f"{registry.address}/app:{tag}", (f"{target}:{tag}",)) for tag in ("good", "bad")]
        outcomes = await copy_all(session, pairs)
    assert [outcome.failure is None for outcome in outcomes].count(True) == 1
    with tarfile.open(tmp_path / "f.tar") as archive:
        names = {Path(name).name for name in archive.getnames()}
    assert names == {"oci-layout", "index.json", "blobs", "sha256", good.digest.hex, *(d.hex for d in good.blobs)}


async def test_a_failure_leaves_the_archive_that_was_there(tmp_path: Path) -> None:
    """And no other file, nor a new archive."""
    await stored(tmp_path / "old.tar", v1=random_image("old"))
    before = (tmp_path / "old.tar").read_bytes()
    async with FaultyRegistry() as registry, Session() as session:
        source = fill(registry, "app", random_image("bad"), "v1")
        registry.faults.add(corrupt(kind="blob-get"))
        for name in ("old", "new"):
            with pytest.raises(ContentError):
                await copy(session, source, f"oci-archive:{tmp_path}/{name}.tar:v1")
            with pytest.raises(NotFound):
                await copy(session, f"{registry.address}/app:none", f"oci-archive:{tmp_path}/{name}.tar:v1")
    async with Session() as session:
        await stored(tmp_path / "x.tar", v1=random_image("x"))
        with pytest.raises(NotFound):
            await copy(session, f"oci-archive:{tmp_path}/x.tar:v2", f"oci-archive:{tmp_path}/new.tar")
        (tmp_path / "x.tar").unlink()
    assert (tmp_path / "old.tar").read_bytes() == before
    assert left(tmp_path) == ["old.tar"]


async def test_an_archive_that_got_nothing_is_not_made(tmp_path: Path) -> None:
    async with open_oci_archive(tmp_path / "f.tar", writing=True):
        pass
    assert left(tmp_path) == []


async def test_an_archive_written_twice_in_a_session_is_whole_both_times(tmp_path: Path) -> None:
    """What an engine knows to be in the first is not in the second."""
    sample = random_image("x")
    async with FaultyRegistry() as registry, Session() as session:
        source = fill(registry, "app", sample, "v1")
        for _ in range(2):
            await copy(session, source, f"oci-archive:{tmp_path}/f.tar:v1")
            async with open_oci_archive(tmp_path / "f.tar") as archive:
                await check_source(archive, tag="v1", manifest=sample.manifest)


async def test_what_is_closed_is_not_read_by_those_who_come_late(tmp_path: Path) -> None:
    """The engine may still be reading for a job that has failed: never from whatever has the descriptor by then."""
    sample = random_image("x", layers=(3_000_000,), gzip=False)
    await stored(tmp_path / "f.tar", v1=sample)
    layer = sample.manifest.layers()[0]
    async with AsyncExitStack() as stack:
        async with open_oci_archive(tmp_path / "f.tar") as archive:
            chunks = await stack.enter_async_context(archive.open(layer))
            content = await anext(chunks)
        with pytest.raises(Interrupted, match=r"f\.tar has been closed"):
            async with archive.open(layer):
                pass
        content += b"".join([chunk async for chunk in chunks])
    assert Digest.of(content) == layer.digest


async def test_a_copy_that_failed_says_nothing_of_the_next(tmp_path: Path) -> None:
    """Though the engine is still busy with the first when the second begins."""
    sample = random_image("x", layers=(10, 20, 30, 3_000_000))
    await stored(tmp_path / "f.tar", v1=sample)
    async with FaultyRegistry() as registry, Session() as session:
        registry.faults.add(status(403, kind="upload-put", times=1))
        for _ in range(5):
            with contextlib.suppress(AsyncraneError):
                await copy(session, f"oci-archive:{tmp_path}/f.tar:v1", f"{registry.address}/app:v1")
            with contextlib.suppress(AsyncraneError):
                await copy(session, f"oci-archive:{tmp_path}/f.tar:none", f"oci:{tmp_path}/out:v1")
        await copy(session, f"oci-archive:{tmp_path}/f.tar:v1", f"{registry.address}/app:v1", f"oci:{tmp_path}/out:v1")
        assert registry.get_manifest("app", "v1") == sample.manifest


async def test_an_archive_is_not_read_and_written_at_once(tmp_path: Path) -> None:
    await stored(tmp_path / "f.tar", v1=random_image("x"))
    async with Session() as session:
        with pytest.raises(InvalidReference, match="cannot be read and written at once"):
            await copy(session, f"oci-archive:{tmp_path}/f.tar:v1", f"oci-archive:{tmp_path}/./f.tar:v2")


async def test_docker_25_archives_are_found_by_reference_and_by_tag(tmp_path: Path) -> None:
    """J1: ``docker save`` since version 25 writes both formats in one file."""
    sample = random_image("x", docker=True)
    files = layout(sample, **{IMAGE_NAME: "docker.io/library/alpine:3.20", REF_NAME: "3.20"})
    (tmp_path / "f.tar").write_bytes(tar(files | {"manifest.json": b"[]"}))
    async with open_oci_archive(tmp_path / "f.tar") as archive:
        assert [name async for name in archive.tags()] == ["docker.io/library/alpine:3.20"]
    async with Session() as session:
        for ref in ("alpine:3.20", "3.20", "docker.io/library/alpine:3.20"):
            assert (await resolve(session, f"oci-archive:{tmp_path}/f.tar:{ref}")).digest == sample.digest


async def test_j5_what_an_archive_lacks_is_named_and_nothing_is_published(tmp_path: Path) -> None:
    """Platforms that were never pulled are absent from docker's archives: one that is there can be chosen."""
    sample = random_index("x")
    files = layout(sample, **{REF_NAME: "v1"})
    absent = sample.manifest.children()[1]
    del files[f"blobs/sha256/{absent.digest.hex}"]
    (tmp_path / "f.tar").write_bytes(tar(files))
    async with FaultyRegistry() as registry, Session() as session:
        with pytest.raises(NotFound, match=f"f.tar has no {absent.digest}"):
            await copy(session, f"oci-archive:{tmp_path}/f.tar:v1", f"{registry.address}/app:v1")
        assert registry.requests(kind="manifest-put") == []
        child = sample.manifest.children()[0]
        assert child.platform is not None
        await copy(
            session, f"oci-archive:{tmp_path}/f.tar:v1", f"{registry.address}/app:v1", platforms=[child.platform]
        )
        assert registry.get_manifest("app", "v1") == sample.manifests[0]
    async with open_oci_archive(tmp_path / "f.tar") as archive:
        missing = await anyio.to_thread.run_sync(archive.missing, sample.manifest.descriptor)
    assert missing == [absent.digest]


def _claiming(size: int) -> bytes:
    """A header that claims more than there is."""
    entry = tarfile.TarInfo("oci-layout")
    entry.size = size
    return entry.tobuf() + b"x" * 512


BAD: dict[str, tuple[bytes, type[AsyncraneError], str]] = {
    "empty": (b"", ContentError, "bad"),
    "text": (b"hello " * 1000, ContentError, "bad"),
    "cut gzip": (gzip.compress(tar(layout(random_image("x"))))[:-200], ContentError, "bad"),
    "cut xz": (lzma.compress(tar(layout(random_image("x"))))[:-100], ContentError, "bad"),
    "cut tar": (tar(layout(random_image("x")))[:3000], ContentError, "bad"),
    "10 GB claimed": (gzip.compress(_claiming(10_000_000_000)), ContentError, "bad"),
    "a docker archive": (tar({"manifest.json": b"[]"}), ContentError, "may be a docker archive: docker-archive:"),
    "no index": (tar({"oci-layout": MARKER}), ContentError, "is not an OCI archive"),
    "another version": (
        tar({"oci-layout": b'{"imageLayoutVersion":"9"}', "index.json": b"{}"}),
        ContentError,
        "version 9",
    ),
    "bad index": (tar({"oci-layout": MARKER, "index.json": b"]"}), ContentError, "index.json is not JSON"),
}


@pytest.mark.parametrize("name", BAD)
async def test_bad_archives_are_one_clear_error(name: str, tmp_path: Path) -> None:
    content, error, text = BAD[name]
    (tmp_path / "bad").write_bytes(content)
    with pytest.raises(error, match=text) as raised:
        async with open_oci_archive(tmp_path / "bad"):
            pass
    assert "\n" not in str(raised.value)


async def test_a_missing_file_and_a_directory_are_said_to_be_so(tmp_path: Path) -> None:
    with pytest.raises(NotFound, match="no such file"):
        async with open_oci_archive(tmp_path / "nothing.tar"):
            pass
    with pytest.raises(AsyncraneError, match=r"is a directory.*oci:"):
        async with open_oci_archive(tmp_path):
            pass
    with pytest.raises(InvalidInput, match=r"is a directory.*oci:"):
        async with open_oci_archive(tmp_path, writing=True):
            pass
    with pytest.raises(InvalidInput, match="is no directory"):
        async with open_oci_archive(tmp_path / "no/f.tar", writing=True):
            pass
    assert left(tmp_path) == []


async def test_an_image_without_a_media_type_in_the_index_is_read_by_its_shape(tmp_path: Path) -> None:
    sample = random_image("x")
    files = layout(sample, **{REF_NAME: "v1"})
    files["index.json"] = files["index.json"].replace(media.OCI_MANIFEST.encode(), b"application/octet-stream")
    (tmp_path / "f.tar").write_bytes(tar(files))
    async with open_oci_archive(tmp_path / "f.tar") as archive:
        assert await archive.manifest("v1") == sample.manifest


@contextmanager
def no_file_above(size: int) -> Iterator[None]:
    """Files of this process grow no larger, as on a disk that is full."""
    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (size, hard))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))


@pytest.mark.parametrize("largest", [1, 100, 200_000])
async def test_what_cannot_be_written_is_said_of_the_archive(tmp_path: Path, largest: int) -> None:
    """Not of where it is put together, which is gone by then: a marker, a blob or the archive itself is too large."""
    target = tmp_path / "a.tar"
    with no_file_above(largest), pytest.raises(AsyncraneError) as failed:
        await stored(target, v1=random_image("full", layers=(150_000, 150_000)))
    assert str(failed.value) == f"{target}: File too large"
    assert left(tmp_path) == []
