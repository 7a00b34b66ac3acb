"""An upload that breaks goes on where the registry says it stopped, and nothing is sent twice that need not be."""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

import pytest

from asyncrane.errors import Interrupted, RateLimited, ServerFault, TransportError
from asyncrane.registry.strategy import Kind
from asyncrane.server import Call, Handler, PlainUsers, Reply, TokenAuth, error_reply
from asyncrane.testing import (
    FaultyRegistry,
    acknowledge,
    cut_request,
    drop,
    fault,
    lose_answer,
    refuse_chunks,
    set_headers,
    stall_request,
    status,
)
from tests.registry.conftest import MIB, Blob, Open

SIZE = 10 * MIB


def sent(registry: FaultyRegistry) -> int:
    return sum(request.request_bytes for request in registry.log)


@pytest.mark.parametrize("reset", [False, True])
@pytest.mark.parametrize("kind", ["put", "patch", "chunks"])
async def test_a_cut_upload_goes_on_where_it_stopped(
    registry: FaultyRegistry, remote: Open, kind: str, reset: bool
) -> None:
    """D1: cut at 60 %, less than 1.1 times the bytes are sent."""
    repository, blob = await remote(), Blob(SIZE)
    repository.origin.capabilities.upload = kind  # type: ignore[assignment]  # each of the literals
    repository.origin.capabilities.chunk = SIZE
    registry.faults.add(cut_request(6 * MIB, reset=reset, times=1))
    assert await repository.put(blob.descriptor, blob.read)
    assert registry.get_blob("app", blob.digest) == blob.data
    assert sent(registry) < 1.1 * SIZE
    assert len(blob.opened) == 2
    assert len(registry.requests(kind="upload-status")) == 1
    assert repository.origin.capabilities.upload == kind, "a broken connection teaches nothing"
    assert registry.open_uploads == 0


async def test_many_cuts_are_survived_while_there_is_progress(registry: FaultyRegistry, remote: Open) -> None:
    """D1: every piece of the way counts."""
    registry.faults.add(cut_request(SIZE // 8, times=9, kind=("upload-put", "upload-patch")))
    repository, blob = await remote(), Blob(SIZE)
    assert await repository.put(blob.descriptor, blob.read)
    assert registry.get_blob("app", blob.digest) == blob.data
    assert sent(registry) < 1.1 * SIZE


async def test_a_stalled_upload_goes_on(registry: FaultyRegistry, remote: Open) -> None:
    """D7: the registry takes no more bytes and says nothing."""
    registry.faults.add(stall_request(2 * MIB, times=1))
    blob = Blob(24 * MIB)
    assert await (await remote(stall_timeout=0.3)).put(blob.descriptor, blob.read)
    assert registry.get_blob("app", blob.digest) == blob.data


async def test_an_upload_of_which_nothing_arrived_begins_in_a_new_session(
    registry: FaultyRegistry, remote: Open
) -> None:
    """What was under way when the connection broke may still arrive in the old one, and spoil it."""
    registry.faults.add(cut_request(0, kind="upload-put", times=1))
    repository, blob = await remote(), Blob(SIZE)
    assert await repository.put(blob.descriptor, blob.read)
    assert registry.get_blob("app", blob.digest) == blob.data
    assert len(registry.requests(kind="upload-delete")) == 1
    assert registry.requests(kind="upload-patch") == []
    assert registry.open_uploads == 0


async def test_an_upload_that_cannot_go_on_begins_again(registry: FaultyRegistry, remote: Open) -> None:
    """ACR and distribution 2.8 do not know where a broken upload stopped."""
    registry.faults.add(cut_request(6 * MIB, times=1), status(404, error="BLOB_UPLOAD_UNKNOWN", kind="upload-status"))
    repository, blob = await remote(), Blob(SIZE)
    assert await repository.put(blob.descriptor, blob.read)
    assert registry.get_blob("app", blob.digest) == blob.data
    assert sent(registry) <= 1.7 * SIZE
    assert blob.opened == [0, 0]
    assert registry.open_uploads == 0


async def test_a_rest_that_is_refused_is_a_new_upload(registry: FaultyRegistry, remote: Open) -> None:
    """GCR says where an upload stopped and takes no Content-Range."""
    registry.faults.add(refuse_chunks(), cut_request(6 * MIB, times=1))
    repository, blob = await remote(), Blob(SIZE)
    assert await repository.put(blob.descriptor, blob.read)
    assert registry.get_blob("app", blob.digest) == blob.data
    assert repository.origin.capabilities.upload == "put"


@pytest.mark.parametrize("said", [SIZE - 1, 7 * MIB])
async def test_a_registry_that_is_wrong_about_what_it_has_gets_all_of_it(
    registry: FaultyRegistry, remote: Open, said: int
) -> None:
    """D4: never a corrupt blob, whatever the Range says."""
    registry.faults.add(cut_request(6 * MIB, times=1), set_headers({"Range": f"0-{said}"}, kind="upload-status"))
    blob = Blob(SIZE)
    assert await (await remote()).put(blob.descriptor, blob.read)
    assert registry.get_blob("app", blob.digest) == blob.data
    assert sent(registry) < 2 * SIZE
    assert registry.open_uploads == 0


async def test_a_body_that_never_gets_through_is_cut_up(registry: FaultyRegistry, remote: Open) -> None:
    """D2: something on the way resets long bodies without a word; later blobs go in chunks at once."""
    registry.faults.add(
        cut_request(5 * MIB, reset=True, kind=("upload-put", "upload-patch")),
        status(404, error="BLOB_UPLOAD_UNKNOWN", kind="upload-status"),
    )
    repository, blob, later = await remote(), Blob(SIZE), Blob(SIZE, "later")
    assert await repository.put(blob.descriptor, blob.read)
    assert repository.origin.capabilities.upload == "chunks"
    registry.log.clear()
    assert await repository.put(later.descriptor, later.read)
    assert registry.get_blob("app", later.digest) == later.data
    assert sent(registry) == SIZE


async def test_fewer_bytes_acknowledged_than_sent_are_sent_again(registry: FaultyRegistry, remote: Open) -> None:
    """D4: the registry's Range counts, not what we have sent."""
    ways: tuple[Kind, ...] = ("patch", "chunks")
    for kind in ways:
        repository, blob = await remote(), Blob(SIZE, kind)
        repository.origin.capabilities.upload = kind
        dropped = registry.faults.add(acknowledge(3 * MIB, times=1))
        assert await repository.put(blob.descriptor, blob.read)
        assert dropped.hits == 1
        assert registry.get_blob("app", blob.digest) == blob.data
        assert 3 * MIB in blob.opened


async def test_bytes_acknowledged_in_vain_are_sent_again(registry: FaultyRegistry, remote: Open) -> None:
    """D4: the second chunk is dropped, with the Range of the first."""
    repository, blob = await remote(), Blob(SIZE)
    repository.origin.capabilities.upload = "chunks"
    dropped = registry.faults.add(acknowledge(0, kind="upload-patch", nth=2))
    assert await repository.put(blob.descriptor, blob.read)
    assert dropped.hits == 1
    assert registry.get_blob("app", blob.digest) == blob.data


async def test_a_range_that_stands_still_is_not_followed(registry: FaultyRegistry, remote: Open) -> None:
    """ECR repeats the Range of the first chunk though it has all (aws/containers-roadmap#2831)."""
    registry.faults.add(set_headers({"Range": f"0-{4 * MIB - 1}"}, kind="upload-patch"))
    repository, blob = await remote(), Blob(SIZE)
    repository.origin.capabilities.upload = "chunks"
    assert await repository.put(blob.descriptor, blob.read)
    assert registry.get_blob("app", blob.digest) == blob.data
    assert sent(registry) == SIZE
    assert blob.opened == [0]


@pytest.mark.parametrize("size", [1000, SIZE])
@pytest.mark.parametrize("kind", ["put", "patch"])
async def test_a_commit_whose_answer_is_lost_is_looked_up(
    registry: FaultyRegistry, remote: Open, kind: str, size: int
) -> None:
    """The blob is there: HEAD says so before a byte is sent again."""
    registry.faults.add(lose_answer(kind="upload-put", times=1))
    repository, blob = await remote(), Blob(size)
    repository.origin.capabilities.upload = kind  # type: ignore[assignment]  # each of the literals
    assert await repository.put(blob.descriptor, blob.read)
    assert registry.get_blob("app", blob.digest) == blob.data
    assert len(blob.opened) == 1
    assert sum(request.request_bytes for request in registry.log if request.status in (0, 201, 202)) == size
    assert len(registry.requests(kind="mount") + registry.requests(kind="upload-post")) == 1
    assert repository.origin.capabilities.upload == kind


@pytest.mark.parametrize("code", [408, 429, 500, 502, 503, 504])
@pytest.mark.parametrize("kind", ["upload-put", "upload-patch", "mount"])
@pytest.mark.parametrize("size", [1000, 2 * MIB])
async def test_a_passing_fault_is_passed(
    registry: FaultyRegistry, remote: Open, code: int, kind: str, size: int
) -> None:
    """D6: whatever was read of the body when it came."""
    registry.faults.add(status(code, kind=kind, times=2))
    repository, blob = await remote(), Blob(size)
    way = "patch" if kind == "upload-patch" else "put"
    repository.origin.capabilities.upload = way  # type: ignore[assignment]  # each of the literals
    assert await repository.put(blob.descriptor, blob.read)
    assert registry.get_blob("app", blob.digest) == blob.data
    assert repository.origin.capabilities.upload == way


async def test_a_fault_that_stays_is_raised(registry: FaultyRegistry, remote: Open) -> None:
    registry.faults.add(status(503, kind="upload-put"))
    blob = Blob(1000)
    with pytest.raises(ServerFault):
        await (await remote(retries=1)).put(blob.descriptor, blob.read)
    assert registry.open_uploads == 0


async def test_a_dead_registry_is_an_error(registry: FaultyRegistry, remote: Open) -> None:
    registry.faults.add(drop(kind=("upload-put", "upload-status", "blob-head", "upload-post")))
    blob = Blob(2 * MIB)
    with pytest.raises(TransportError):
        await (await remote(retries=1)).put(blob.descriptor, blob.read)


async def test_a_token_that_runs_out_under_the_bytes_costs_them_once_more(
    registry: FaultyRegistry, remote: Open
) -> None:
    """C1: refused when all has arrived, they go again by PATCH; the registry's other uploads stay as they are."""

    async def too_late(call: Call, handler: Handler) -> Reply:
        async for _ in call.body:
            pass
        return error_reply(401, "UNAUTHORIZED", "the token has run out")

    registry.faults.add(fault("too late", too_late, kind="upload-put", times=1))
    repository, blob = await remote(), Blob(SIZE)
    assert await repository.put(blob.descriptor, blob.read)
    assert registry.get_blob("app", blob.digest) == blob.data
    assert sent(registry) == 2 * SIZE
    assert [r.request_bytes for r in registry.requests(kind="upload-patch")] == [SIZE]
    assert repository.origin.capabilities.upload == "put"


async def test_a_token_that_runs_out_before_the_commit_costs_no_byte(remote: Open) -> None:
    """C1: the PATCH is through, the PUT gets 401 and is repeated with a new token."""
    auth = TokenAuth(PlainUsers({}), anonymous=("pull", "push"))
    async with FaultyRegistry(auth=auth) as registry:
        repository, blob = await remote(of=registry), Blob(SIZE)
        repository.origin.capabilities.upload = "patch"

        @asynccontextmanager
        async def revoking(start: int) -> AsyncIterator[AsyncIterator[bytes]]:
            async with blob.read(start) as chunks:
                yield chunks
            auth.revoke()

        assert await repository.put(blob.descriptor, revoking)
        auth.revoke()
        assert registry.get_blob("app", blob.digest) == blob.data
        assert sum(request.request_bytes for request in registry.log if request.kind != "token") == SIZE


async def test_the_reader_breaking_is_not_the_registry_breaking(registry: FaultyRegistry, remote: Open) -> None:
    """A source that gives up is heard as itself, and not answered with another upload."""
    blob = Blob(2 * MIB)

    @asynccontextmanager
    async def breaking(start: int) -> AsyncIterator[AsyncIterator[bytes]]:
        async def chunks() -> AsyncIterator[bytes]:
            yield blob.data[:MIB]
            raise Interrupted("the source broke")

        yield chunks()

    with pytest.raises(Interrupted, match="the source broke"):
        await (await remote()).put(blob.descriptor, breaking)
    assert len(registry.requests(kind="upload-put")) == 1
    assert registry.open_uploads == 0


@pytest.mark.parametrize(
    ("kind", "size", "wait"),
    [
        ("upload-put", 1000, 3600),
        ("upload-put", SIZE, 3600),
        ("upload-put", SIZE, 1),
        ("upload-patch", SIZE, 3600),
        ("upload-patch", SIZE, 1),
    ],
)
async def test_an_upload_is_taken_back_from_a_registry_that_wants_to_be_left_alone(
    registry: FaultyRegistry, remote: Open, kind: str, size: int, wait: int
) -> None:
    """B2: who gives up because of a limit leaves no session open, whose bytes the registry would keep for days."""
    if kind == "upload-patch":
        registry.faults.add(status(405, kind="upload-put", where=lambda call: call.length > 0))
    registry.faults.add(status(429, headers={"Retry-After": str(wait)}, error="TOOMANYREQUESTS", kind=kind))
    blob = Blob(size)
    with pytest.raises(RateLimited):
        await (await remote(retry_max_time=0.9)).put(blob.descriptor, blob.read)
    assert registry.requests(kind="upload-delete", status=204) != []
    assert registry.open_uploads == 0
