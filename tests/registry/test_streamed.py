"""A stream of unknown length is uploaded as it comes, is there whole or not at all, and says when it was in vain."""

from __future__ import annotations

from collections.abc import AsyncIterator

import anyio
import pytest

from asyncrane.errors import AsyncraneError, ContentError, DigestMismatch, Interrupted, RegistryError, ServerFault
from asyncrane.oci.digest import Digest
from asyncrane.registry.sessions import HELD
from asyncrane.registry.streamed import HEAD, put_stream
from asyncrane.stores.remote import Remote
from asyncrane.testing import FaultyRegistry, cut_request, drop, lose_answer, refuse_chunks, set_headers, status
from tests.registry.conftest import MIB, Blob, Open

SIZE = 9 * MIB


async def chunks(blob: Blob, *, fail: AsyncraneError | None = None) -> AsyncIterator[bytes]:
    async with blob.read(0) as content:
        async for chunk in content:
            yield chunk
    if fail is not None:
        raise fail


async def send(repository: Remote, blob: Blob, **options: AsyncraneError) -> Digest:
    place = repository.place
    return await put_stream(repository.origin, place.repository, chunks(blob, **options), lambda: blob.digest)


def kinds(registry: FaultyRegistry) -> list[str]:
    return [request.kind for request in registry.log if request.kind != "ping"]


@pytest.mark.parametrize("size", [0, 1, SIZE])
async def test_a_stream_takes_one_session_and_one_request_for_its_bytes(
    registry: FaultyRegistry, remote: Open, size: int
) -> None:
    repository, blob = await remote(), Blob(size)
    assert await send(repository, blob) == blob.digest
    assert registry.get_blob("app", blob.digest) == blob.data
    assert kinds(registry) == ["upload-post", "upload-patch", "upload-put"]
    assert registry.open_uploads == 0


async def test_where_large_bodies_are_known_to_be_refused_it_goes_in_pieces(
    registry: FaultyRegistry, remote: Open
) -> None:
    """What earlier uploads have learned of the registry."""
    repository, blob = await remote(), Blob(SIZE)
    repository.origin.capabilities.upload, repository.origin.capabilities.chunk = "chunks", 2 * MIB
    assert await send(repository, blob) == blob.digest
    assert registry.get_blob("app", blob.digest) == blob.data
    assert [r.request_bytes for r in registry.requests(kind="upload-patch")] == [2 * MIB] * 4 + [MIB]


async def test_a_registry_that_wants_a_gigabyte_at_once_gets_what_can_be_held(
    registry: FaultyRegistry, remote: Open
) -> None:
    """A piece is put together in memory."""
    repository, blob = await remote(), Blob(HELD + MIB)
    repository.origin.capabilities.upload = "chunks"
    registry.faults.add(set_headers({"OCI-Chunk-Min-Length": "1073741824"}, kind="upload-post"))
    assert await send(repository, blob) == blob.digest
    assert [r.request_bytes for r in registry.requests(kind="upload-patch")] == [HELD, MIB]


@pytest.mark.parametrize("code", [400, 405, 411, 413])
async def test_a_registry_that_takes_no_stream_gets_pieces(registry: FaultyRegistry, remote: Open, code: int) -> None:
    """It says so before much is gone: that much is kept."""
    repository, blob = await remote(), Blob(SIZE)
    registry.faults.add(status(code, kind="upload-patch", times=1))
    assert await send(repository, blob) == blob.digest
    assert registry.get_blob("app", blob.digest) == blob.data
    assert registry.open_uploads == 0


@pytest.mark.parametrize("fault", [drop, lose_answer])
async def test_a_piece_that_broke_is_sent_again(registry: FaultyRegistry, remote: Open, fault: object) -> None:
    repository, blob = await remote(), Blob(SIZE)
    repository.origin.capabilities.upload = "chunks"
    registry.faults.add(fault(kind="upload-patch", nth=2))  # type: ignore[operator]
    assert await send(repository, blob) == blob.digest
    assert registry.get_blob("app", blob.digest) == blob.data


async def test_a_stream_that_broke_early_is_sent_again_from_what_is_kept(
    registry: FaultyRegistry, remote: Open
) -> None:
    repository, blob = await remote(), Blob(SIZE)
    registry.faults.add(cut_request(MIB // 2, reset=True, times=1))
    assert await send(repository, blob) == blob.digest
    assert registry.get_blob("app", blob.digest) == blob.data
    assert len(blob.opened) == 1


async def test_a_stream_that_broke_late_is_lost_and_says_so(registry: FaultyRegistry, remote: Open) -> None:
    repository, blob = await remote(), Blob(40 * MIB)
    registry.faults.add(cut_request(30 * MIB, reset=True))
    with pytest.raises(Interrupted, match=r"cannot be sent again: save it to a file") as caught:
        await send(repository, blob)
    assert "\n" not in str(caught.value)
    assert registry.get_blob("app", blob.digest) is None
    assert registry.open_uploads == 0


async def test_a_stream_that_turns_out_wrong_is_not_stored(registry: FaultyRegistry, remote: Open) -> None:
    """The error is the stream's own; a session that was begun is given up."""
    repository, blob = await remote(), Blob(SIZE)
    with pytest.raises(ContentError, match="no tar") as caught:
        await send(repository, blob, fail=ContentError("no tar"))
    assert str(caught.value) == "no tar"
    assert registry.get_blob("app", blob.digest) is None
    assert registry.requests(kind="upload-put") == []
    assert registry.open_uploads == 0


@pytest.mark.parametrize("code", [401, 403])
async def test_who_may_not_write_is_told_at_once(registry: FaultyRegistry, remote: Open, code: int) -> None:
    repository, blob = await remote(), Blob(SIZE)
    registry.faults.add(status(code, kind="upload-post"))
    with pytest.raises(RegistryError):
        await send(repository, blob)
    assert blob.taken <= HEAD


async def test_a_commit_whose_answer_is_lost_is_looked_for(registry: FaultyRegistry, remote: Open) -> None:
    repository, blob = await remote(), Blob(SIZE)
    registry.faults.add(lose_answer(kind="upload-put"))
    assert await send(repository, blob) == blob.digest
    assert registry.get_blob("app", blob.digest) == blob.data


async def test_a_commit_that_fails_is_an_error_and_leaves_nothing(registry: FaultyRegistry, remote: Open) -> None:
    repository, blob = await remote(retries=1), Blob(SIZE)
    registry.faults.add(status(503, kind="upload-put"))
    with pytest.raises(ServerFault, match="cannot be sent again"):
        await send(repository, blob)
    assert registry.get_blob("app", blob.digest) is None
    assert registry.open_uploads == 0


async def test_bytes_that_are_not_what_was_said_are_refused(registry: FaultyRegistry, remote: Open) -> None:
    repository, blob = await remote(), Blob(SIZE)
    with pytest.raises((DigestMismatch, RegistryError)):
        await put_stream(repository.origin, "app", chunks(blob), lambda: Digest.of(b"else"))
    assert registry.open_uploads == 0


async def test_a_cancelled_stream_leaves_no_session(registry: FaultyRegistry, remote: Open) -> None:
    repository, blob = await remote(), Blob(MIB)

    async def endless() -> AsyncIterator[bytes]:
        async for chunk in chunks(blob):
            yield chunk
        scope.cancel()
        await anyio.sleep_forever()

    with anyio.CancelScope() as scope:
        await put_stream(repository.origin, "app", endless(), lambda: blob.digest)
    assert scope.cancelled_caught
    assert registry.open_uploads == 0


async def test_a_registry_that_takes_streams_only_gets_one(registry: FaultyRegistry, remote: Open) -> None:
    """GCR refuses pieces: a stream is never begun with them."""
    repository, blob = await remote(), Blob(SIZE)
    registry.faults.add(refuse_chunks())
    assert await send(repository, blob) == blob.digest
    assert registry.get_blob("app", blob.digest) == blob.data
