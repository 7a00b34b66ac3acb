"""Blobs are read to the end whatever happens to the connection, and never beyond it."""

from __future__ import annotations

import pytest

from asyncrane.errors import NotFound, RegistryError, SizeMismatch, TransportError
from asyncrane.oci.descriptor import Descriptor
from asyncrane.testing import (
    FaultyRegistry,
    cut_response,
    ignore_range,
    lie_range,
    shorten,
    stall_response,
    status,
)
from tests.registry.conftest import MIB, Blob, Open, read

SIZE = 12 * MIB


async def test_a_blob_takes_one_request(registry: FaultyRegistry, remote: Open) -> None:
    blob, repository = Blob(3 * MIB), await remote()
    registry.put_blob("app", blob.data)
    for start in (0, 1, 2 * MIB, 3 * MIB - 1):
        registry.log.clear()
        assert await read(repository, blob.descriptor, start) == blob.data[start:]
        assert [request.response_bytes for request in registry.requests(kind="blob-get")] == [3 * MIB - start]


async def test_what_is_known_takes_none(registry: FaultyRegistry, remote: Open) -> None:
    repository, blob = await remote(), Blob(100)
    inline = Descriptor("text/plain", blob.digest, 100, data=blob.data)
    assert await read(repository, inline) == blob.data
    assert await read(repository, inline, 40) == blob.data[40:]
    assert await read(repository, blob.descriptor, 100) == b""
    assert len(registry.log) == 0


@pytest.mark.parametrize("reset", [False, True])
async def test_a_download_cut_five_times_is_read_once(registry: FaultyRegistry, remote: Open, reset: bool) -> None:
    """D5: the rest is asked for each time; less than 1.05 times the bytes are read."""
    registry.faults.add(cut_response(2 * MIB, reset=reset, times=5))
    repository, blob = await remote(), Blob(SIZE)
    registry.put_blob("app", blob.data)
    assert await read(repository, blob.descriptor) == blob.data
    ranges = [request.headers.get("Range") for request in registry.requests(kind="blob-get")]
    assert ranges == [None] + [f"bytes={at * 2 * MIB}-" for at in range(1, 6)]
    assert repository.origin.statistics().received < 1.05 * SIZE


async def test_a_resumed_download_asks_the_registry_not_the_storage(remote: Open) -> None:
    """D5: a signed URL may have run out."""
    async with FaultyRegistry(storage_host=True) as registry:
        registry.faults.add(cut_response(2 * MIB, kind="storage", times=2))
        repository, blob = await remote(of=registry), Blob(SIZE)
        registry.put_blob("app", blob.data)
        async with repository.open(blob.descriptor) as chunks:
            content = await anext(chunks)
            registry.expire_signatures()
            content += b"".join([chunk async for chunk in chunks])
        assert content == blob.data
        assert len(registry.requests(kind="blob-get")) == 3
        assert len(registry.requests(kind="storage")) == 3


async def test_a_stalled_download_is_resumed(registry: FaultyRegistry, remote: Open) -> None:
    """D7."""
    registry.faults.add(stall_response(2 * MIB, times=1))
    repository, blob = await remote(stall_timeout=0.2), Blob(SIZE)
    registry.put_blob("app", blob.data)
    assert await read(repository, blob.descriptor) == blob.data
    assert len(registry.requests(kind="blob-get")) == 2


@pytest.mark.parametrize(
    "wrong", [ignore_range(), lie_range(), status(416, kind="blob-get", where=lambda call: "Range" in call.headers)]
)
async def test_registries_that_cannot_send_parts_are_read_on_anyhow(
    registry: FaultyRegistry, remote: Open, wrong: object
) -> None:
    """D5: what is known already is skipped."""
    registry.faults.add(cut_response(2 * MIB, times=1), wrong)  # type: ignore[arg-type]  # a Fault
    repository, blob = await remote(), Blob(4 * MIB)
    registry.put_blob("app", blob.data)
    assert await read(repository, blob.descriptor) == blob.data
    assert await read(repository, blob.descriptor, 100) == blob.data[100:]


async def test_a_download_without_progress_is_given_up(registry: FaultyRegistry, remote: Open) -> None:
    cut = registry.faults.add(cut_response(0))
    repository, blob = await remote(), Blob(4 * MIB)
    registry.put_blob("app", blob.data)
    with pytest.raises(TransportError):
        await read(repository, blob.descriptor)
    assert cut.hits < 20


async def test_bytes_too_many_or_too_few_are_an_error(registry: FaultyRegistry, remote: Open) -> None:
    repository, blob = await remote(), Blob(4 * MIB)
    registry.put_blob("app", blob.data)
    for size in (len(blob.data) - 1, len(blob.data) + 1):
        with pytest.raises(SizeMismatch):
            await read(repository, Descriptor("text/plain", blob.digest, size))
    registry.faults.add(shorten(1))
    with pytest.raises(SizeMismatch):
        await read(repository, blob.descriptor)


async def test_a_blob_of_unknown_size_is_read_to_its_end(registry: FaultyRegistry, remote: Open) -> None:
    """Schema 1: the registry knows how much there is, also when the connection breaks."""
    registry.faults.add(cut_response(MIB, times=1))
    repository, blob = await remote(), Blob(4 * MIB)
    registry.put_blob("app", blob.data)
    assert await read(repository, Descriptor("text/plain", blob.digest, -1)) == blob.data


async def test_a_missing_blob_is_not_found_when_it_is_opened(remote: Open) -> None:
    repository, blob = await remote(), Blob(10)
    with pytest.raises(NotFound):
        async with repository.open(blob.descriptor):
            pytest.fail("it was opened")


async def test_a_foreign_layer_is_fetched_where_it_points_and_without_credentials(
    registry: FaultyRegistry, remote: Open
) -> None:
    """J6: the registry first, then each URL; what the registry said is the error."""
    blob, repository = Blob(2 * MIB), await remote()
    async with FaultyRegistry() as elsewhere:
        elsewhere.put_blob("win", blob.data)
        elsewhere.faults.add(cut_response(MIB, times=1))
        urls = (f"{elsewhere.url}/v2/win/blobs/sha256:{'0' * 64}", f"{elsewhere.url}/v2/win/blobs/{blob.digest}")
        foreign = Descriptor("text/plain", blob.digest, len(blob.data), urls=urls)
        assert await read(repository, foreign) == blob.data
        assert not any("Authorization" in request.headers for request in elsewhere.log)
        with pytest.raises(NotFound, match=registry.address):
            await read(repository, Descriptor("text/plain", blob.digest, len(blob.data), urls=urls[:1]))


async def test_leaving_early_lets_go(registry: FaultyRegistry, remote: Open) -> None:
    repository, blob = await remote(), Blob(SIZE)
    registry.put_blob("app", blob.data)
    async with repository.open(blob.descriptor) as chunks:
        await anext(chunks)
    assert await repository.has(blob.digest)


@pytest.mark.parametrize("code", [400, 403])
async def test_what_is_refused_is_asked_once(registry: FaultyRegistry, remote: Open, code: int) -> None:
    """D6: these are not retried."""
    fault = registry.faults.add(status(code, kind="blob-get"))
    repository, blob = await remote(), Blob(10)
    with pytest.raises(RegistryError):
        await read(repository, blob.descriptor)
    assert fault.hits == 1


async def test_a_blob_can_be_deleted(registry: FaultyRegistry, remote: Open) -> None:
    repository, blob = await remote(), Blob(10)
    registry.put_blob("app", blob.data)
    await repository.delete_blob(blob.digest)
    assert not await repository.has(blob.digest)
    with pytest.raises(NotFound):
        await repository.delete_blob(blob.digest)
