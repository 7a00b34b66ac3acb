"""Blobs reach a registry with the fewest requests, whatever kind of upload it takes."""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

import anyio
import pytest

from asyncrane.abc import DOUBTED
from asyncrane.errors import ContentError, Denied, DigestMismatch, NotFound, SizeMismatch
from asyncrane.oci.descriptor import Descriptor
from asyncrane.registry.strategy import Kind
from asyncrane.registry.uploads import SMALL
from asyncrane.testing import (
    FaultyRegistry,
    limit_body,
    refuse_chunks,
    refuse_mount,
    set_headers,
    status,
)
from tests.registry.conftest import MIB, Blob, Open

WAYS: tuple[Kind, ...] = ("put", "patch", "chunks")
REFUSALS = (400, 401, 403, 404, 405, 500)


def kinds(registry: FaultyRegistry) -> list[str]:
    return [request.kind for request in registry.log if request.kind != "ping"]


@pytest.mark.parametrize("size", [0, 1, SMALL, SMALL + 1, 3 * MIB])
async def test_a_new_blob_takes_one_post_and_one_put(registry: FaultyRegistry, remote: Open, size: int) -> None:
    blob = Blob(size)
    assert await (await remote()).put(blob.descriptor, blob.read)
    assert registry.get_blob("app", blob.digest) == blob.data
    assert kinds(registry) == ["mount", "upload-put"]
    put = registry.requests(kind="upload-put")[0]
    assert (put.request_bytes, put.headers["Content-Length"]) == (size, str(size))
    assert registry.open_uploads == 0


async def test_a_blob_that_is_there_takes_one_post_and_is_not_read(registry: FaultyRegistry, remote: Open) -> None:
    blob = Blob(1000)
    registry.put_blob("app", blob.data)
    assert not await (await remote()).put(blob.descriptor, blob.read)
    assert kinds(registry) == ["mount"]
    assert blob.opened == []


@pytest.mark.parametrize("locations", ["relative", "absolute", "opaque"])
async def test_a_location_is_used_as_it_came(locations: str, remote: Open) -> None:
    async with FaultyRegistry(locations=locations) as registry:  # type: ignore[arg-type]  # each of the literals
        repository, blob = await remote(of=registry), Blob(2 * MIB)
        repository.origin.capabilities.upload = "chunks"
        repository.origin.capabilities.chunk = MIB
        assert await repository.put(blob.descriptor, blob.read)
        assert registry.get_blob("app", blob.digest) == blob.data


async def test_a_blob_of_unknown_size_arrives_whole(registry: FaultyRegistry, remote: Open) -> None:
    """Schema 1 does not say how large its layers are."""
    for number, kind in enumerate(WAYS):
        repository, blob = await remote(f"app{number}"), Blob(5 * MIB + 7, kind)
        repository.origin.capabilities.upload = kind
        unsized = Descriptor("application/octet-stream", blob.digest, -1)
        assert await repository.put(unsized, blob.read)
        assert registry.get_blob(f"app{number}", blob.digest) == blob.data


@pytest.mark.parametrize("code", [400, 404, 405, 411, 416])
async def test_a_refused_put_is_one_downgrade_for_the_registry(
    registry: FaultyRegistry, remote: Open, code: int
) -> None:
    """D2: later blobs do not try what failed."""
    registry.faults.add(status(code, error="UNSUPPORTED", kind="upload-put", where=lambda call: call.length > 0))
    repository, blobs = await remote(), [Blob(MIB, seed) for seed in range(3)]
    for blob in blobs:
        assert await repository.put(blob.descriptor, blob.read)
        assert registry.get_blob("app", blob.digest) == blob.data
    assert repository.origin.capabilities.upload == "patch"
    assert len([r for r in registry.requests(kind="upload-put") if r.faults]) == 1
    assert kinds(registry)[-3:] == ["mount", "upload-patch", "upload-put"]
    assert not any("Content-Range" in r.headers for r in registry.log)


async def test_a_registry_that_refuses_whole_bodies_gets_chunks(registry: FaultyRegistry, remote: Open) -> None:
    """D2: put, then patch, then chunks, each tried once; the sizes of chunks are the registry's wish."""
    registry.faults.add(
        status(405, kind=("upload-put", "upload-patch"), where=lambda call: call.length > 6 * MIB),
        set_headers({"OCI-Chunk-Min-Length": str(5 * MIB)}, kind=("mount", "upload-post")),
    )
    repository, blobs = await remote(), [Blob(11 * MIB, seed) for seed in range(2)]
    for blob in blobs:
        assert await repository.put(blob.descriptor, blob.read)
        assert registry.get_blob("app", blob.digest) == blob.data
    assert len([r for r in registry.log if r.status == 405]) == 2
    ranges = [r.headers.get("Content-Range") for r in registry.requests(kind="upload-patch", status=202)]
    assert ranges == 2 * [f"0-{5 * MIB - 1}", f"{5 * MIB}-{10 * MIB - 1}", f"{10 * MIB}-{11 * MIB - 1}"]
    assert registry.open_uploads == 0


async def test_a_body_limit_is_found_once_and_kept_to(registry: FaultyRegistry, remote: Open) -> None:
    """D3: 413 from a proxy leads to chunks for what is larger, and only for that."""
    registry.faults.add(limit_body(3 * MIB))
    repository, large, small = await remote(), Blob(5 * MIB), Blob(2 * MIB)
    assert await repository.put(large.descriptor, large.read)
    assert registry.get_blob("app", large.digest) == large.data
    assert len(registry.requests(status=413)) == 1
    registry.log.clear()
    again, tiny = Blob(6 * MIB, "again"), Blob(1000)
    for blob in (again, small, tiny):
        assert await repository.put(blob.descriptor, blob.read)
    assert registry.requests(status=413) == []
    assert [kinds(registry).count(kind) for kind in ("mount", "upload-patch", "upload-put")] == [3, 3, 3]


async def test_chunks_are_halved_until_they_pass(registry: FaultyRegistry, remote: Open) -> None:
    """D3: the limit is not where we guess first; what arrived is not sent again."""
    registry.faults.add(limit_body(MIB))
    repository, blob = await remote(), Blob(5 * MIB)
    assert await repository.put(blob.descriptor, blob.read)
    assert registry.get_blob("app", blob.digest) == blob.data
    assert repository.origin.capabilities.chunk <= MIB
    assert sum(r.request_bytes for r in registry.requests(kind="upload-patch", status=202)) == 5 * MIB


async def test_chunks_above_a_range_limit_are_made_smaller(registry: FaultyRegistry, remote: Open) -> None:
    """GHCR answers 416 to chunks above its limit, and keeps the session."""
    registry.faults.add(status(416, error="RANGE_INVALID", kind="upload-patch", where=lambda call: call.length > MIB))
    repository, blob = await remote(), Blob(5 * MIB)
    repository.origin.capabilities.upload = "chunks"
    assert await repository.put(blob.descriptor, blob.read)
    assert registry.get_blob("app", blob.digest) == blob.data


async def test_nothing_is_committed_when_the_reader_complains(registry: FaultyRegistry, remote: Open) -> None:
    """The reader's own error comes out, also when it comes after the last byte."""
    for kind in WAYS:
        for size in (1000, 2 * MIB):
            blob = Blob(size, kind)

            @asynccontextmanager
            async def complaining(start: int, data: bytes = blob.data) -> AsyncIterator[AsyncIterator[bytes]]:
                async def chunks() -> AsyncIterator[bytes]:
                    yield data[start:]
                    raise ContentError("the digest is wrong")

                yield chunks()

            repository = await remote()
            repository.origin.capabilities.upload = kind
            with pytest.raises(ContentError, match="the digest is wrong"):
                await repository.put(blob.descriptor, complaining)
            assert registry.get_blob("app", blob.digest) is None
            assert registry.open_uploads == 0


async def test_a_reader_that_has_not_got_it_is_heard(registry: FaultyRegistry, remote: Open) -> None:
    blob = Blob(MIB)

    @asynccontextmanager
    async def missing(start: int) -> AsyncIterator[AsyncIterator[bytes]]:
        if start == 0:
            raise NotFound("no such blob at the source", status=404)
        async with blob.read(start) as chunks:
            yield chunks

    with pytest.raises(NotFound, match="at the source"):
        await (await remote()).put(blob.descriptor, missing)
    assert registry.requests(kind="upload-put") == []
    assert registry.open_uploads == 0


@pytest.mark.parametrize("change", [-1, 1])
@pytest.mark.parametrize("size", [1000, 2 * MIB])
async def test_a_reader_with_more_or_fewer_bytes_is_an_error(
    registry: FaultyRegistry, remote: Open, size: int, change: int
) -> None:
    blob = Blob(size)
    promised = Descriptor("application/octet-stream", blob.digest, size + change)
    with pytest.raises(SizeMismatch):
        await (await remote()).put(promised, blob.read)
    assert registry.get_blob("app", blob.digest) is None
    assert registry.open_uploads == 0


@pytest.mark.parametrize("size", [1000, 2 * MIB])
async def test_other_bytes_are_refused_without_another_try(registry: FaultyRegistry, remote: Open, size: int) -> None:
    blob, other = Blob(size, "this"), Blob(size, "that")
    with pytest.raises(DigestMismatch):
        await (await remote()).put(blob.descriptor, other.read)
    assert len(registry.requests(kind="upload-put")) == 1
    assert registry.open_uploads == 0


async def test_a_cancelled_upload_is_given_up(registry: FaultyRegistry, remote: Open) -> None:
    repository, blob, reached = await remote(), Blob(4 * MIB), anyio.Event()

    @asynccontextmanager
    async def stuck(start: int) -> AsyncIterator[AsyncIterator[bytes]]:
        async def chunks() -> AsyncIterator[bytes]:
            yield blob.data[:MIB]
            reached.set()
            await anyio.sleep_forever()

        yield chunks()

    async with anyio.create_task_group() as tasks:
        tasks.start_soon(repository.put, blob.descriptor, stuck)
        await reached.wait()
        tasks.cancel_scope.cancel()
    assert len(registry.requests(kind="upload-delete")) == 1
    assert registry.open_uploads == 0


async def test_a_denied_upload_is_one_clear_error(registry: FaultyRegistry, remote: Open) -> None:
    registry.faults.add(status(403, error="DENIED", kind=("mount", "upload-post")))
    repository, blob = await remote(), Blob(1000)
    with pytest.raises(Denied):
        await repository.put(blob.descriptor, blob.read)
    assert repository.origin.capabilities.self_mount, "a repository that is closed to us says nothing about mounts"


@pytest.mark.parametrize("code", REFUSALS)
async def test_a_refused_question_to_itself_is_asked_once(registry: FaultyRegistry, remote: Open, code: int) -> None:
    """D10: where a repository cannot be mounted from itself, HEAD tells what is there."""
    registry.faults.add(refuse_mount(code))
    there, blobs = Blob(1000, "there"), [Blob(1000, seed) for seed in range(5)]
    registry.put_blob("app", there.data)
    repository = await remote()
    async with anyio.create_task_group() as tasks:
        for blob in blobs:
            tasks.start_soon(repository.put, blob.descriptor, blob.read)
    assert not await repository.put(there.descriptor, there.read)
    assert len(registry.requests(kind="mount")) == 1
    assert len(registry.requests(kind="upload-post")) == 5
    assert all(registry.get_blob("app", blob.digest) == blob.data for blob in blobs)


async def test_a_registry_that_mounts_nothing_is_not_sent_what_it_has(registry: FaultyRegistry, remote: Open) -> None:
    """D10: 202 to every mount (ECR, crane's own) says nothing; for a large blob HEAD does, from then on for all."""
    registry.faults.add(refuse_mount(202))
    large, small, new = Blob(DOUBTED), Blob(1000), Blob(DOUBTED, "new")
    for blob in (large, small):
        registry.put_blob("app", blob.data)
    repository = await remote()
    assert await repository.put(new.descriptor, new.read)
    assert not await repository.put(large.descriptor, large.read)
    assert not await repository.put(small.descriptor, small.read)
    assert kinds(registry) == ["mount", "blob-head", "upload-put", "mount", "blob-head", "upload-delete", "blob-head"]
    assert (large.opened, small.opened, registry.open_uploads) == ([], [], 0)


async def test_a_large_blob_is_doubted_and_others_are_not(registry: FaultyRegistry, remote: Open) -> None:
    """D10, I3: also where something was mounted before, so that the number of requests is known beforehand."""
    large, less, base = Blob(DOUBTED), Blob(DOUBTED - 1, "less"), Blob(DOUBTED, "base")
    registry.put_blob("base", base.data)
    repository = await remote()
    assert await repository.mount(base.descriptor, "base")
    assert await repository.put(large.descriptor, large.read)
    assert await repository.put(less.descriptor, less.read)
    assert kinds(registry) == ["mount", "mount", "blob-head", "upload-put", "mount", "upload-put"]


async def test_a_mount_takes_one_request(registry: FaultyRegistry, remote: Open) -> None:
    blob = Blob(1000)
    registry.put_blob("base", blob.data)
    assert await (await remote()).mount(blob.descriptor, "base")
    assert registry.get_blob("app", blob.digest) == blob.data
    assert kinds(registry) == ["mount"]


async def test_the_session_of_a_mount_that_mounts_nothing_is_used(registry: FaultyRegistry, remote: Open) -> None:
    """D10: 202 is an ordinary path; no session leaks."""
    blob, repository = Blob(1000), await remote()
    assert not await repository.mount(blob.descriptor, "base")
    assert await repository.put(blob.descriptor, blob.read)
    assert kinds(registry) == ["mount", "upload-put"]
    assert registry.open_uploads == 0


async def test_a_session_that_is_gone_meanwhile_is_replaced(registry: FaultyRegistry, remote: Open) -> None:
    blob, repository = Blob(MIB), await remote()
    assert not await repository.mount(blob.descriptor, "base")
    registry.faults.add(status(404, error="BLOB_UPLOAD_UNKNOWN", kind="upload-put", times=1))
    assert await repository.put(blob.descriptor, blob.read)
    assert repository.origin.capabilities.upload == "put"


@pytest.mark.parametrize("code", REFUSALS)
async def test_a_refused_mount_is_an_upload(registry: FaultyRegistry, remote: Open, code: int) -> None:
    """D10: no exception, and one wasted request for a donor, however many ask at once."""
    registry.faults.add(refuse_mount(code, where=lambda call: call.ask("from") == "base"))
    repository, blobs = await remote(), [Blob(1000, seed) for seed in range(5)]

    async def place(blob: Blob) -> None:
        assert not await repository.mount(blob.descriptor, "base")
        assert await repository.put(blob.descriptor, blob.read)

    async with anyio.create_task_group() as tasks:
        for blob in blobs:
            tasks.start_soon(place, blob)
    assert len([r for r in registry.requests(kind="mount") if "from=base" in r.query]) == 1
    assert all(registry.get_blob("app", blob.digest) == blob.data for blob in blobs)


async def test_chunks_that_are_refused_are_never_tried_first(registry: FaultyRegistry, remote: Open) -> None:
    """D2: GCR takes whole bodies only."""
    registry.faults.add(refuse_chunks())
    blob = Blob(6 * MIB)
    assert await (await remote()).put(blob.descriptor, blob.read)
    assert kinds(registry) == ["mount", "blob-head", "upload-put"]
