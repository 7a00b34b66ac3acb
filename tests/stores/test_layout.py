"""A layout directory is a complete Source, Sink and Lister, and stays whole whoever writes into it however it ends."""

from __future__ import annotations

import json
import signal
import sys
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path

import anyio
import pytest

from asyncrane.abc import Attached, Lister, Reader, Sink, Source
from asyncrane.engine.messages import ManifestWritten, WriteManifest
from asyncrane.errors import (
    AsyncraneError,
    ContentError,
    DigestMismatch,
    Interrupted,
    NotFound,
    RegistryError,
    SizeMismatch,
)
from asyncrane.oci.descriptor import Descriptor
from asyncrane.oci.digest import Digest
from asyncrane.oci.platform import Platform
from asyncrane.operations.copy import Pair, copy_all
from asyncrane.operations.layout import layout_gc
from asyncrane.session import Session
from asyncrane.stores.layout import Layout, open_layout
from asyncrane.stores.memory import MemoryStore
from asyncrane.testing import FaultyRegistry, Gate, corrupt, delay, stall_response
from asyncrane.testing.checks import check_sink, check_sink_index, check_source
from asyncrane.testing.images import random_image, random_index, reader
from tests.cli.conftest import fill
from tests.promises.images import image, noise
from tests.stores.samples import EVERY_KIND, blobs, entries, left, move, names, stored


async def test_it_passes_the_conformance_suite(tmp_path: Path) -> None:
    async with open_layout(tmp_path / "out", writing=True) as layout:
        assert isinstance(layout, Source)
        assert isinstance(layout, Sink)
        assert isinstance(layout, Lister)
        assert isinstance(layout, Attached)
        sample = await check_sink(layout)
        many = await check_sink_index(layout)
    async with open_layout(tmp_path / "out") as again:
        await check_source(again, tag="checked", manifest=sample.manifest)
        await check_source(again, tag="many", manifest=many.manifest)
    assert [path.name for path in (tmp_path / "out").iterdir() if path.name.startswith(".")] == []


@pytest.mark.parametrize("kind", EVERY_KIND)
async def test_j3_every_kind_of_manifest_keeps_its_bytes_and_digest(kind: str, tmp_path: Path) -> None:
    """J3: registry -> layout -> registry."""
    sample = EVERY_KIND[kind]
    before, after = MemoryStore("before"), MemoryStore("after")
    await sample.store(before, "v1")
    async with open_layout(tmp_path / "out", writing=True) as layout:
        assert [outcome.failure for outcome in await move(before, layout, "v1")] == [None]
    async with open_layout(tmp_path / "out") as layout:
        assert [outcome.failure for outcome in await move(layout, after, "v1")] == [None]
    assert await after.manifest("v1") == sample.manifest
    for digest, content in sample.blobs.items():
        async with after.open(Descriptor("", digest, len(content))) as chunks:
            assert b"".join([chunk async for chunk in chunks]) == content


async def test_sha512_has_a_directory_of_its_own(tmp_path: Path) -> None:
    content = b"many bits"
    blob = Descriptor("text/plain", Digest.of(content, "sha512"), len(content))
    async with open_layout(tmp_path / "out", writing=True) as layout:
        assert await layout.put(blob, reader(content))
        assert await layout.has(blob.digest)
        assert (tmp_path / "out/blobs/sha512" / blob.digest.hex).read_bytes() == content


WRITER = """
import sys, anyio
from asyncrane.operations.copy import Pair, copy_all
from asyncrane.session import Session

async def main(address, directory, numbers):
    pairs = [Pair(f"{address}/app:{n}", (f"oci:{directory}:{n}",)) for n in numbers]
    async with Session() as session:
        failures = [o.failure for o in await copy_all(session, pairs) if o.failure]
    assert not failures, failures

anyio.run(main, sys.argv[1], sys.argv[2], range(int(sys.argv[3]), int(sys.argv[3]) + 25))
"""


async def test_a7_fifty_pulls_of_two_processes_into_one_layout_are_fifty_entries(tmp_path: Path) -> None:
    """A7: none is lost, none is there twice, and what they share is there once."""
    base = noise("base", 300_000)
    samples = [image(number, [base, noise(number, 1000)]) for number in range(50)]
    async with FaultyRegistry() as registry:
        for number, sample in enumerate(samples):
            fill(registry, "app", sample, str(number))
        async with anyio.create_task_group() as tasks:
            for start in (0, 25):
                command = [sys.executable, "-c", WRITER, registry.address, str(tmp_path / "out"), str(start)]
                tasks.start_soon(anyio.run_process, command)
    assert sorted(names(tmp_path / "out"), key=str) == sorted(map(str, range(50)))
    assert len(blobs(tmp_path / "out")) == 1 + 3 * 50
    async with open_layout(tmp_path / "out") as layout:
        for number, sample in enumerate(samples):
            assert (await layout.manifest(str(number))).digest == sample.digest
    assert set(left(tmp_path / "out")) >= {"oci-layout", "index.json"}
    assert not list((tmp_path / "out").glob(".asyncrane-*"))


async def test_a_killed_writer_leaves_nothing_visible_and_the_next_one_goes_on(tmp_path: Path) -> None:
    """An image is listed when it is whole; what a dead process has left is garbage, and collected as such."""
    sample = image("big", [noise("big", 3_000_000), noise("small", 1000)])
    out, gate = tmp_path / "out", Gate()
    async with FaultyRegistry() as registry:
        fill(registry, "app", sample, "0")
        big = next(digest for digest, content in sample.blobs.items() if len(content) > 2_000_000)
        registry.faults.add(stall_response(2_000_000, gate, path=str(big), times=1))
        command = [sys.executable, "-c", WRITER.replace("+ 25", "+ 1"), registry.address, str(out), "0"]
        async with await anyio.open_process(command) as process:
            await gate.reached()
            process.send_signal(signal.SIGKILL)
            await process.wait()
        gate.release()
        assert not (out / "index.json").exists()
        assert str(big) not in blobs(out)
        with pytest.raises(NotFound, match="holds no image"):
            async with open_layout(out) as layout:
                await layout.sole()
        async with Session() as session:
            await copy_all(session, [Pair(f"{registry.address}/app:0", (f"oci:{out}:0",))])
    assert names(out) == ["0"]
    assert blobs(out) == {*sample.blobs, sample.digest}
    await layout_gc(out)
    assert not list(out.glob(".asyncrane-*"))


async def test_a_cancelled_write_leaves_no_file(tmp_path: Path) -> None:
    content = noise("x", 3_000_000)
    blob = Descriptor("x", Digest.of(content), len(content))
    arrived = anyio.Event()

    async with open_layout(tmp_path / "out", writing=True) as layout:
        await random_image().store(layout, "v1")
        before = left(tmp_path / "out")
        async with anyio.create_task_group() as tasks:

            async def put() -> None:
                await layout.put(blob, slow(content, arrived))

            tasks.start_soon(put)
            await arrived.wait()
            assert len(list((tmp_path / "out").glob(".asyncrane-*"))) == 1
            tasks.cancel_scope.cancel()
        assert left(tmp_path / "out") == before


async def test_closing_ends_what_nobody_waits_for(tmp_path: Path) -> None:
    """A transfer belongs to the engine, and may outlive whoever asked first."""
    content = noise("x", 3_000_000)
    blob = Descriptor("x", Digest.of(content), len(content))
    arrived, ended = anyio.Event(), anyio.Event()
    async with anyio.create_task_group() as tasks:
        async with open_layout(tmp_path / "out", writing=True) as layout:

            async def put() -> None:
                with pytest.raises(Interrupted, match="was closed before this was written"):
                    await layout.put(blob, slow(content, arrived))
                ended.set()

            tasks.start_soon(put)
            await arrived.wait()
        assert left(tmp_path) == []
        await ended.wait()
        with pytest.raises(Interrupted, match="has been closed"):
            await layout.put(blob, reader(content))


async def test_bytes_that_are_not_the_blob_leave_nothing_of_a_new_layout(tmp_path: Path) -> None:
    """Nor of the directories that were made for it; one that was there stays, with what it had."""
    sample = random_image("x")
    async with FaultyRegistry() as registry:
        source = fill(registry, "app", sample, "v1")
        registry.faults.add(corrupt(kind="blob-get"))
        await stored(tmp_path / "old", random_image("old"), "v0")
        async with Session() as session:
            new, old = f"oci:{tmp_path}/made/new:v1", f"oci:{tmp_path}/old:v1"
            outcomes = await copy_all(session, [Pair(source, (new, old))])
    assert [target.status for target in outcomes[0].targets] == ["failed", "failed"]
    assert {target.failure.kind for target in outcomes[0].targets if target.failure} == {"DigestMismatch"}
    assert {path.partition("/")[0] for path in left(tmp_path)} == {"old"}
    assert names(tmp_path / "old") == ["v0"]


async def test_a_symbolic_link_is_neither_read_nor_written_through(tmp_path: Path) -> None:
    sample = random_image("x")
    await stored(tmp_path / "out", sample, "v1")
    digest, content = next(iter(sample.blobs.items()))
    path = tmp_path / "out/blobs" / digest.algorithm / digest.hex
    (tmp_path / "elsewhere").write_bytes(content)
    path.unlink()
    path.symlink_to(tmp_path / "elsewhere")
    async with open_layout(tmp_path / "out", writing=True) as layout:
        for ask in (layout.has(digest), layout.put(sample.blob(digest), reader(content))):
            with pytest.raises(ContentError, match="is a symbolic link"):
                await ask
        with pytest.raises(ContentError, match="is a symbolic link"):
            async with layout.open(sample.blob(digest)):
                pass
        with pytest.raises(ContentError, match="is a symbolic link"):
            await layout.publish(sample.manifest, "v2")
    assert (tmp_path / "elsewhere").read_bytes() == content


async def test_what_is_damaged_is_noticed_when_it_is_read(tmp_path: Path) -> None:
    sample, out = random_image("x"), tmp_path / "out"
    await stored(out, sample, "v1")
    layer = sample.manifest.layers()[0]
    path = out / "blobs/sha256" / layer.digest.hex
    path.write_bytes(bytes(layer.size))
    async with open_layout(out) as layout:
        outcomes = await move(layout, MemoryStore(), "v1")
        assert outcomes[0].failure is not None
        assert outcomes[0].failure.kind == "DigestMismatch"
        path.write_bytes(b"short")
        with pytest.raises(SizeMismatch, match="has 5 bytes and should have"):
            async with layout.open(layer):
                pass
        manifest = out / "blobs/sha256" / sample.digest.hex
        manifest.write_bytes(manifest.read_bytes().replace(b'"schemaVersion":2', b'"schemaVersion":3'))
        with pytest.raises(DigestMismatch):
            await layout.manifest(str(sample.digest))


async def test_what_is_damaged_is_written_again(tmp_path: Path) -> None:
    sample, out = random_image("x"), tmp_path / "out"
    await stored(out, sample, "v1")
    for digest in (sample.digest, sample.manifest.layers()[0].digest):
        (out / "blobs/sha256" / digest.hex).write_bytes(b"cut")
    before = MemoryStore()
    await sample.store(before, "v1")
    async with open_layout(out, writing=True) as layout:
        assert await layout.probe("v1") is None
        assert [outcome.targets[0].status for outcome in await move(before, layout, "v1")] == ["copied"]
        await check_source(layout, tag="v1", manifest=sample.manifest)


async def test_an_incomplete_manifest_is_not_published(tmp_path: Path) -> None:
    sample, index = random_image("x"), random_index("y")
    async with open_layout(tmp_path / "out", writing=True) as layout:
        for manifest in (sample.manifest, index.manifest):
            with pytest.raises(RegistryError, match="is unknown here"):
                await layout.publish(manifest, "v1")
        assert await layout.probe("v1") is None
    assert left(tmp_path) == []


@pytest.mark.parametrize(
    ("files", "error", "text"),
    [
        (None, NotFound, "no such directory"),
        ({}, ContentError, "is not an OCI layout: it has no oci-layout file"),
        ({"oci-layout": "no json"}, ContentError, "names no version"),
        ({"oci-layout": '{"imageLayoutVersion":"2.0.0"}'}, ContentError, "of version 2.0.0; this reads 1.x"),
    ],
)
async def test_what_is_no_layout_is_said_to_be_none(
    files: dict[str, str] | None, error: type[AsyncraneError], text: str, tmp_path: Path
) -> None:
    if files is not None:
        (tmp_path / "out").mkdir()
        for name, content in files.items():
            (tmp_path / "out" / name).write_text(content)
    with pytest.raises(error, match=text):
        async with open_layout(tmp_path / "out"):
            pass


async def test_a_file_is_no_layout_and_a_directory_with_other_things_is_not_written_into(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("x")
    (tmp_path / "home").mkdir()
    (tmp_path / "home/diary").write_text("x")
    for path, writing in (("file", False), ("file", True), ("home", True)):
        with pytest.raises(ContentError):
            async with open_layout(tmp_path / path, writing=writing):
                pass
    assert left(tmp_path) == ["file", "home", "home/diary"]


async def test_an_unwritable_directory_is_one_clear_error(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("x")
    async with open_layout(tmp_path / "file/out", writing=True) as layout:
        with pytest.raises(AsyncraneError, match="Not a directory"):
            await layout.put(Descriptor("x", Digest.of(b"x"), 1), reader(b"x"))


async def test_others_entries_keep_their_annotations_and_platforms(tmp_path: Path) -> None:
    out, sample = tmp_path / "out", random_image("x")
    await stored(out, sample, "v1")
    index = json.loads((out / "index.json").read_bytes())
    own = {"platform": {"os": "linux", "architecture": "arm64"}, "x-own": 1}
    index["manifests"][0] |= own
    index["manifests"][0]["annotations"]["note"] = "kept"
    (out / "index.json").write_text(json.dumps(index))
    await stored(out, random_image("y"), "v2")
    await stored(out, sample, "v1")
    assert names(out) == ["v1", "v2"]
    assert entries(out)[0] == index["manifests"][0]
    async with open_layout(out) as layout:
        found = (await layout.index()).find("v1")
    assert found.platform == Platform("linux", "arm64")


async def test_a_tag_moves(tmp_path: Path) -> None:
    old, new = random_image("old"), random_image("new")
    await stored(tmp_path / "out", old, "v1", "v2")
    await stored(tmp_path / "out", new, "v1")
    async with open_layout(tmp_path / "out") as layout:
        assert (await layout.resolve("v1")).digest == new.digest
        assert (await layout.resolve("v2")).digest == old.digest
    assert sorted(map(str, names(tmp_path / "out"))) == ["v1", "v2"]


async def test_without_a_tag_an_image_is_listed_unless_something_else_names_it(tmp_path: Path) -> None:
    out, index, alone = tmp_path / "out", random_index("i"), random_image("alone")
    async with open_layout(out, writing=True) as layout:
        await index.store(layout)
        await alone.store(layout)
        assert await layout.probe(str(alone.digest)) is not None
        assert not (out / "index.json").exists()
    assert {(entry["digest"], "annotations" in entry) for entry in entries(out)} == {
        (index.digest, False),
        (alone.digest, False),
    }
    async with open_layout(out, writing=True) as layout:
        await layout.publish(index.manifests[0])
        await layout.publish(alone.manifest)
    assert len(entries(out)) == 2
    await stored(out, alone, "v1")
    assert sorted(map(str, names(out))) == ["None", "v1"]


async def test_a_copy_without_a_tag_lists_the_image_and_not_what_failed(tmp_path: Path) -> None:
    """Of an index that could not be copied whole nothing is listed, though some of its images came."""
    good, bad, out, gate = random_index("good"), random_index("bad"), tmp_path / "out", Gate()
    other: list[int] = []

    def see(event: object) -> None:
        """Let the bad blob come when the other image of its index is there."""
        if isinstance(event, WriteManifest) and event.manifest.digest == bad.manifests[1].digest:
            other.append(event.id)
        elif isinstance(event, ManifestWritten) and event.command in other:
            gate.release()

    async with FaultyRegistry() as registry:
        samples = {"good": good, "bad": bad}
        pairs = [Pair(fill(registry, name, sample, "v1"), (f"oci:{out}",)) for name, sample in samples.items()]
        path = str(bad.manifests[0].layers()[0].digest)
        registry.faults.add(delay(gate, path=path), corrupt(kind="blob-get", path=path))
        async with Session() as session:
            session.observe(see)
            with anyio.fail_after(30):
                outcomes = await copy_all(session, pairs)
    assert [outcome.failure is None for outcome in outcomes].count(True) == 1
    assert [entry["digest"] for entry in entries(out)] == [good.digest]
    assert bad.manifests[1].digest in blobs(out)


async def test_a_layout_that_is_not_closed_says_so(tmp_path: Path) -> None:
    layout = Layout(tmp_path / "out")
    await random_image("x").store(layout, "v1")
    with pytest.warns(ResourceWarning, match="unclosed layout"):
        del layout
    assert repr(Layout(tmp_path / "out")) == f"Layout('{tmp_path}/out')"


def slow(content: bytes, arrived: anyio.Event) -> Reader:
    """A reader that never comes to the end."""

    @asynccontextmanager
    async def opened(start: int) -> AsyncIterator[AsyncIterator[bytes]]:
        async def chunks() -> AsyncIterator[bytes]:
            yield content[:2_000_000]
            arrived.set()
            await anyio.sleep_forever()

        yield chunks()

    return opened
