"""A registry in a directory: what is there after a restart, after kill -9, and while somebody else is there."""

from __future__ import annotations

import hashlib
import json
import sys
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path

import aiohttp
import anyio
import anyio.abc
import psutil
import pytest

from asyncrane.errors import AsyncraneError
from asyncrane.oci import media
from asyncrane.oci.digest import Digest
from asyncrane.oci.manifest import Manifest
from asyncrane.server import DiskStorage, make_app, serving
from tests.server.client import Client, described

MIB = 1024 * 1024


@asynccontextmanager
async def process(path: Path) -> AsyncIterator[tuple[str, anyio.abc.Process]]:
    """A registry in a process of its own; killed when left."""
    command = [sys.executable, "-m", "tests.server.standalone", str(path)]
    async with await anyio.open_process(command, stderr=None) as running:
        assert running.stdout is not None
        try:
            yield (await running.stdout.receive()).decode().strip(), running
        finally:
            if running.returncode is None:
                running.kill()


async def zeros(size: int) -> AsyncIterator[bytes]:
    for _ in range(size // MIB):
        yield bytes(MIB)


def files(path: Path) -> set[str]:
    return {found.relative_to(path).as_posix() for found in path.rglob("*") if found.is_file()}


async def test_everything_is_there_after_a_restart(tmp_path: Path, session: aiohttp.ClientSession) -> None:
    with DiskStorage(tmp_path) as storage:
        async with serving(make_app(storage), grace=0.1) as address:
            client = Client(session, address)
            old = await client.push_image("team/app", tag="V1", seed="old")
            new = await client.push_image("team/app", tag="v1", seed="new")
            subject = described(b"elsewhere", media.OCI_MANIFEST)
            attached = await client.push_image("team/app", seed="sbom", subject=subject)
            sha512 = await client.push_blob("team", b"x", algorithm="sha512")
            gone = await client.push_image("gone", tag="v1")
            await client.ask("DELETE", f"/v2/gone/manifests/{gone}")
    with DiskStorage(tmp_path) as storage:
        index = storage.index
        assert index.repositories() == ["gone", "team", "team/app"]
        assert index.tags("team/app") == ["V1", "v1"]
        assert (index.tagged("team/app", "V1"), index.tagged("team/app", "v1")) == (old, new)
        assert index.referrers("team/app", Digest(subject["digest"])) == [attached]
        assert index.blob_size("team", sha512) == 1
        assert index.tags("gone") == []
        assert index.manifest_size("gone", gone) is None
        for blob in storage.manifest("team/app", new).blobs():
            content = b"".join(storage.pieces(blob.digest, 0, blob.size))
            assert Digest.of(content) == blob.digest


async def test_repositories_share_a_blob_and_the_last_one_takes_it_along(
    tmp_path: Path, session: aiohttp.ClientSession
) -> None:
    with DiskStorage(tmp_path) as storage:
        async with serving(make_app(storage), grace=0.1) as address:
            client = Client(session, address)
            for name in ("a", "b"):
                digest = await client.push_blob(name, b"shared")
            content = f"blobs/sha256/{digest.hex[:2]}/{digest.hex}"
            assert [name for name in files(tmp_path) if name.startswith("blobs/")] == [content]
            await client.ask("DELETE", f"/v2/a/blobs/{digest}")
            assert content in files(tmp_path)
            await client.ask("DELETE", f"/v2/b/blobs/{digest}")
    assert files(tmp_path) == {".lock"}


def test_leftovers_are_swept_at_start(tmp_path: Path) -> None:
    """An upload that never ended, and content renamed into place by a process that died before it was linked."""
    DiskStorage(tmp_path).close()
    digest = Digest.of(b"orphan")
    orphan = tmp_path / "blobs" / "sha256" / digest.hex[:2] / digest.hex
    orphan.parent.mkdir(parents=True)
    orphan.write_bytes(b"orphan")
    (tmp_path / "uploads" / "leftover").write_bytes(b"half")
    with DiskStorage(tmp_path) as storage:
        assert storage.index.repositories() == []
        assert files(tmp_path) == {".lock"}


def test_what_is_not_whole_is_not_served(tmp_path: Path) -> None:
    """Files somebody spoiled: a manifest of other bytes, a tag of nothing, a link to no content, stray names."""
    body = json.dumps({"schemaVersion": 2, "mediaType": media.OCI_INDEX, "manifests": []}).encode()
    manifest = Manifest.read(body)
    with DiskStorage(tmp_path) as storage:
        storage.put_manifest("a", manifest)
        storage.put_tag("a", "v1", manifest.digest)
        storage.put_tag("a", "stray", Digest.of(b"nothing"))
    home = tmp_path / "repositories" / "a"
    (home / "_blobs" / "sha256").mkdir(parents=True)
    (home / "_blobs" / "sha256" / manifest.digest.hex).touch()
    (home / "_tags" / ".DS_Store").write_text("?")
    with DiskStorage(tmp_path) as storage:
        assert storage.index.tags("a") == ["v1"]
        assert storage.index.blob_size("a", manifest.digest) is None
    (home / "_manifests" / "sha256" / manifest.digest.hex).write_bytes(b"spoiled")
    with DiskStorage(tmp_path) as storage:
        assert storage.index.tags("a") == []


def test_one_directory_has_one_master(tmp_path: Path) -> None:
    first = DiskStorage(tmp_path)
    with pytest.raises(AsyncraneError, match="is in use by another registry"):
        DiskStorage(tmp_path)
    first.close()
    DiskStorage(tmp_path).close()


def test_a_directory_that_cannot_be_is_one_clear_error(tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    with pytest.raises(AsyncraneError, match="cannot keep a registry in"):
        DiskStorage(tmp_path / "file" / "below")


async def test_an_idle_upload_holds_no_file_open(tmp_path: Path, session: aiohttp.ClientSession) -> None:
    with DiskStorage(tmp_path) as storage:
        async with serving(make_app(storage), grace=0.1) as address:
            client = Client(session, address)
            await client.ask("GET", "/v2/")
            before = psutil.Process().num_fds()
            for _ in range(20):
                await client.ask("PATCH", await client.start_upload("a"), data=b"some bytes")
            assert psutil.Process().num_fds() == before


async def test_memory_does_not_depend_on_the_size_of_a_blob(tmp_path: Path, session: aiohttp.ClientSession) -> None:
    size = 192 * MIB
    hasher = hashlib.sha256()
    for _ in range(size // MIB):
        hasher.update(bytes(MIB))
    async with process(tmp_path) as (address, running):
        client = Client(session, address)
        await client.push_image("a", tag="v1")
        samples: list[int] = []

        def sample() -> None:
            samples.append(psutil.Process(running.pid).memory_info().rss)

        async def body() -> AsyncIterator[bytes]:
            async for chunk in zeros(size):
                sample()
                yield chunk

        location = await client.start_upload("a")
        answer = await client.ask("PUT", f"{location}?digest=sha256:{hasher.hexdigest()}", data=body())
        assert answer.status == 201
        received = 0
        async with session.get(f"{client.base}/v2/a/blobs/sha256:{hasher.hexdigest()}") as response:
            async for chunk in response.content.iter_chunked(MIB):
                received += len(chunk)
                sample()
        assert received == size
        assert max(samples) - samples[0] < 32 * MIB


async def test_kill_9_during_an_upload_leaves_no_half_written_blob(
    tmp_path: Path, session: aiohttp.ClientSession
) -> None:
    digest = Digest.of(bytes(8 * MIB))
    async with process(tmp_path) as (address, running):
        client = Client(session, address)
        location = await client.start_upload("a")
        half = {"Content-Range": f"0-{4 * MIB - 1}"}
        assert (await client.ask("PATCH", location, data=zeros(4 * MIB), headers=half)).status == 202

        async def rest() -> AsyncIterator[bytes]:
            yield bytes(MIB)
            running.kill()
            yield bytes(3 * MIB)

        with pytest.raises(aiohttp.ClientError):
            await client.ask("PUT", f"{location}?digest={digest}", data=rest())
        await running.wait()
    assert any(name.startswith("uploads/") for name in files(tmp_path))
    async with process(tmp_path) as (address, _):
        client = Client(session, address)
        assert (await client.ask("HEAD", f"/v2/a/blobs/{digest}")).status == 404
        assert (await client.ask("GET", location)).status == 404
        assert files(tmp_path) == {".lock"}


@pytest.mark.parametrize("acknowledged", [1, 7, 40])
async def test_after_kill_9_every_acknowledged_tag_is_whole(
    tmp_path: Path, session: aiohttp.ClientSession, acknowledged: int
) -> None:
    """Many pushes at once, the process killed between them: no tag is lost, none names something incomplete."""
    pushed: dict[str, Digest] = {}

    async def push(client: Client, running: anyio.abc.Process, worker: int) -> None:
        number = 0
        while True:
            name, number = f"t{worker}-{number}", number + 1
            try:
                pushed[name] = await client.push_image(f"repo{worker % 2}", tag=name, seed=name)
            except (aiohttp.ClientError, ConnectionError):
                return
            if len(pushed) == acknowledged:
                running.kill()

    async with process(tmp_path) as (address, running), anyio.create_task_group() as group:
        for worker in range(6):
            group.start_soon(push, Client(session, address), running, worker)
    assert len(pushed) >= acknowledged
    with DiskStorage(tmp_path) as storage:
        index = storage.index
        found = {tag: index.tagged(name, tag) for name in index.repositories() for tag in index.tags(name)}
        assert found.items() >= pushed.items()
        for name in index.repositories():
            for tag in index.tags(name):
                manifest = storage.manifest(name, Digest(index.tagged(name, tag) or ""))
                for blob in manifest.blobs():
                    assert index.blob_size(name, blob.digest) == blob.size
                    assert Digest.of(b"".join(storage.pieces(blob.digest, 0, blob.size))) == blob.digest
        assert not [path for path in files(tmp_path) if path.startswith("uploads/")]


def test_capitals_do_not_meet_small_letters_on_a_file_system_that_ignores_them(tmp_path: Path) -> None:
    body = json.dumps({"schemaVersion": 2, "mediaType": media.OCI_INDEX, "manifests": []}).encode()
    with DiskStorage(tmp_path) as storage:
        manifest = Manifest.read(body)
        storage.put_manifest("a", manifest)
        for tag in ("Release_1", "release_1", "RELEASE_1"):
            storage.put_tag("a", tag, manifest.digest)
        names = [Path(name).name for name in files(tmp_path) if "/_tags/" in name]
        assert len({name.lower() for name in names}) == 3
    with DiskStorage(tmp_path) as storage:
        assert storage.index.tags("a") == ["RELEASE_1", "Release_1", "release_1"]
