"""An upload whose process died, or that was told to stop, goes on in the next one with what the registry has of it."""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import AsyncExitStack, asynccontextmanager

import anyio
import anyio.lowlevel
import pytest

from asyncrane.abc import Place, Site, UploadLedger
from asyncrane.auth.credentials import Credential
from asyncrane.auth.keychain import FixedKeychain
from asyncrane.engine.transfer import transfer
from asyncrane.errors import Denied, DigestMismatch, Interrupted, TransportError
from asyncrane.oci.digest import Digest
from asyncrane.oci.reference import Repository
from asyncrane.registry.trail import LARGE
from asyncrane.stores.remote import Remote
from asyncrane.testing import (
    FaultyRegistry,
    Gate,
    drop,
    refuse_chunks,
    set_headers,
    stall_request,
    stall_response,
    status,
)
from asyncrane.transport import Pool
from asyncrane.transport.proxy import Proxies
from tests.registry.conftest import MIB, Blob

SIZE = 12 * MIB
CUT = 2 * MIB
"""Some more arrives, out of the buffers of both sides; of the rest nothing."""


class Ledger:
    """The journal's part in this, in memory."""

    def __init__(self) -> None:
        self.uploads: dict[tuple[Place, Digest], tuple[str, int]] = {}
        self.offsets: list[int] = []

    def find(self, place: Place, digest: Digest) -> str | None:
        return self.uploads.get((place, digest), (None, 0))[0]

    def note(self, place: Place, digest: Digest, url: str, offset: int) -> None:
        self.uploads[place, digest] = url, offset
        self.offsets.append(offset)

    def drop(self, place: Place, digest: Digest) -> None:
        self.uploads.pop((place, digest), None)


@asynccontextmanager
async def process(registry: FaultyRegistry, ledger: UploadLedger | None, path: str = "app") -> AsyncIterator[Remote]:
    """A repository as a process sees it that knows nothing but what the ledger has."""
    async with Pool(retry_base=0.001, retries=1, proxies=Proxies()) as pool:
        origin = pool.origin(registry.address, FixedKeychain(Credential()))
        yield Remote(origin, Repository(registry.address, path), ledger=ledger)


async def die(registry: FaultyRegistry, ledger: Ledger, blob: Blob, at: int = CUT) -> None:
    """Begin to send the blob, and be gone when the registry has taken ``at`` bytes; what is on the wire arrives."""
    gate = Gate()
    held = registry.faults.add(stall_request(at, gate))
    with anyio.fail_after(10):
        async with process(registry, ledger) as repository, anyio.create_task_group() as tasks:
            tasks.start_soon(repository.put, blob.descriptor, blob.read)
            await gate.reached()
            tasks.cancel_scope.cancel()
    registry.faults.remove(held)
    gate.release()
    while registry.log.active():
        await anyio.lowlevel.checkpoint()


def sent(registry: FaultyRegistry) -> int:
    return sum(request.request_bytes for request in registry.log)


@pytest.mark.parametrize("at", [1, CUT, SIZE - 1])
async def test_d1_an_upload_goes_on_in_the_next_process(registry: FaultyRegistry, at: int) -> None:
    """D1: from what the registry has; neither is that sent again nor read again."""
    ledger, blob = Ledger(), Blob(SIZE)
    await die(registry, ledger, blob, at)
    assert list(ledger.uploads) == [(Place(Site(registry.address, mounts=True), "app"), blob.digest)]
    assert registry.open_uploads == 1
    arrived = sent(registry)
    blob.opened.clear()
    async with process(registry, ledger) as repository:
        assert await repository.put(blob.descriptor, blob.read)
    assert registry.get_blob("app", blob.digest) == blob.data
    assert sent(registry) == SIZE
    assert blob.opened == [arrived] or arrived == SIZE
    assert ledger.uploads == {}
    assert registry.open_uploads == 0
    assert len(registry.requests(kind="mount") + registry.requests(kind="upload-post")) == 1


async def test_d1_it_goes_on_however_often_it_is_broken_off(registry: FaultyRegistry) -> None:
    """D1: each life adds its part."""
    ledger, blob = Ledger(), Blob(2 * SIZE)
    for _ in range(2):
        await die(registry, ledger, blob, 1000)
    async with process(registry, ledger) as repository:
        assert await repository.put(blob.descriptor, blob.read)
    assert registry.get_blob("app", blob.digest) == blob.data
    assert sent(registry) == 2 * SIZE


async def test_d1_an_engine_goes_on_and_reads_what_is_missing_with_a_range(registry: FaultyRegistry) -> None:
    """D1: also from the source only what the destination lacks is read."""
    ledger, blob, counted = Ledger(), Blob(SIZE), 0

    def count(size: int) -> None:
        nonlocal counted
        counted += size

    await die(registry, ledger, blob)
    arrived = sent(registry)
    async with FaultyRegistry() as source, process(source, None) as origin, process(registry, ledger) as repository:
        source.put_blob("app", blob.data)
        landings = await transfer(blob.descriptor, origin, [repository], count=count)
        assert [landing.sent for landing in landings] == [True]
        assert [r.headers.get("Range") for r in source.requests(kind="blob-get")] == [f"bytes={arrived}-"]
    assert registry.get_blob("app", blob.digest) == blob.data
    assert counted == SIZE - arrived


async def test_d1_of_several_destinations_each_goes_on_from_what_it_has(registry: FaultyRegistry) -> None:
    """D1: who has a part reads the rest for itself, the other gets all."""
    ledger, blob = Ledger(), Blob(SIZE)
    await die(registry, ledger, blob)
    async with AsyncExitStack() as stack:
        source, other = [await stack.enter_async_context(FaultyRegistry()) for _ in range(2)]
        source.put_blob("app", blob.data)
        origin = await stack.enter_async_context(process(source, None))
        sinks = [await stack.enter_async_context(process(each, ledger)) for each in (registry, other)]
        landings = await transfer(blob.descriptor, origin, sinks, count=lambda size: None)
        assert [(landing.sent, landing.alone) for landing in landings] == [(False, True), (True, False)]
        landings = await transfer(blob.descriptor, origin, sinks[:1], count=lambda size: None)
        assert [landing.sent for landing in landings] == [True]
        assert other.get_blob("app", blob.digest) == blob.data
    assert registry.get_blob("app", blob.digest) == blob.data
    assert sent(registry) == SIZE
    assert ledger.uploads == {}


async def test_an_upload_the_registry_does_not_know_any_more_starts_again(registry: FaultyRegistry) -> None:
    """ACR, and distribution 2.8 when a request broke off in the middle: one question more, and the right blob."""
    ledger, blob = Ledger(), Blob(SIZE)
    await die(registry, ledger, blob)
    registry.faults.add(status(404, error="BLOB_UPLOAD_INVALID", kind="upload-status"))
    blob.opened.clear()
    async with process(registry, ledger) as repository:
        assert await repository.put(blob.descriptor, blob.read)
    assert registry.get_blob("app", blob.digest) == blob.data
    assert blob.opened == [0]
    assert len(registry.requests(kind="upload-status")) == 1
    assert ledger.uploads == {}


async def test_an_upload_that_nobody_can_be_asked_about_starts_again(registry: FaultyRegistry) -> None:
    """Its address is dead: the registry itself is asked for a new one."""
    ledger, blob = Ledger(), Blob(SIZE)
    await die(registry, ledger, blob)
    registry.faults.add(drop(kind="upload-status"))
    async with process(registry, ledger) as repository:
        assert await repository.put(blob.descriptor, blob.read)
    assert registry.get_blob("app", blob.digest) == blob.data


@pytest.mark.parametrize("said", [CUT - MIB, CUT + MIB, SIZE - 1, SIZE + 10])
async def test_d4_a_registry_that_is_wrong_about_what_it_has_gets_all_of_it(
    registry: FaultyRegistry, said: int
) -> None:
    """D4: never a corrupt blob, whatever the Range says."""
    ledger, blob = Ledger(), Blob(SIZE)
    await die(registry, ledger, blob)
    registry.faults.add(set_headers({"Range": f"0-{said}"}, kind="upload-status"))
    async with process(registry, ledger) as repository:
        assert await repository.put(blob.descriptor, blob.read)
    assert registry.get_blob("app", blob.digest) == blob.data
    assert registry.open_uploads == 0
    assert ledger.uploads == {}


async def test_d4_what_was_wrong_in_an_earlier_life_is_found_and_sent_again(registry: FaultyRegistry) -> None:
    """D4: the registry finds that the whole is not the blob; the second time all of it is checked on its way."""
    ledger, blob, other = Ledger(), Blob(SIZE), Blob(SIZE, "other")
    await die(registry, ledger, other)
    ((place, _), (url, offset)) = ledger.uploads.popitem()
    ledger.note(place, blob.digest, url, offset)
    async with process(registry, ledger) as repository:
        assert await repository.put(blob.descriptor, blob.read)
    assert registry.get_blob("app", blob.digest) == blob.data
    assert 0 in blob.opened


async def test_d4_wrong_bytes_that_stay_wrong_are_an_error(registry: FaultyRegistry) -> None:
    """D4: in whichever life they came; nothing is left open to go on with."""
    ledger, blob = Ledger(), Blob(SIZE)
    await die(registry, ledger, blob)
    blob.data = blob.data[:-1] + b"?"
    async with process(registry, ledger) as repository:
        with pytest.raises(DigestMismatch):
            await repository.put(blob.descriptor, blob.read)
    assert registry.get_blob("app", blob.digest) is None
    assert registry.open_uploads == 0
    assert ledger.uploads == {}


async def test_a_rest_that_is_refused_is_a_new_upload(registry: FaultyRegistry) -> None:
    """GCR says where an upload stopped and takes no Content-Range."""
    ledger, blob = Ledger(), Blob(SIZE)
    await die(registry, ledger, blob)
    registry.faults.add(refuse_chunks())
    async with process(registry, ledger) as repository:
        assert await repository.put(blob.descriptor, blob.read)
    assert registry.get_blob("app", blob.digest) == blob.data


async def test_a_blob_that_was_finished_is_found_and_its_trail_swept(registry: FaultyRegistry) -> None:
    """The process died after the last byte: nothing is sent, nothing asked of the old session again."""
    ledger, blob = Ledger(), Blob(SIZE)
    await die(registry, ledger, blob)
    ((key, entry),) = ledger.uploads.items()
    async with process(registry, ledger) as repository:
        assert await repository.put(blob.descriptor, blob.read)
        ledger.uploads[key] = entry
        before = sent(registry)
        assert not await repository.put(blob.descriptor, blob.read)
    assert sent(registry) == before
    assert ledger.uploads == {}


async def test_a_lost_connection_leaves_a_trail(registry: FaultyRegistry) -> None:
    """The source breaks, or the network: who tries again goes on."""
    ledger, blob = Ledger(), Blob(SIZE)

    @asynccontextmanager
    async def breaking(start: int) -> AsyncIterator[AsyncIterator[bytes]]:
        async def chunks() -> AsyncIterator[bytes]:
            yield blob.data[start:CUT]
            raise Interrupted("the source broke")

        yield chunks()

    async with process(registry, ledger) as repository:
        with pytest.raises(Interrupted, match="the source broke"):
            await repository.put(blob.descriptor, breaking)
        while registry.log.active():
            await anyio.lowlevel.checkpoint()
        assert await repository.put(blob.descriptor, blob.read)
    assert registry.get_blob("app", blob.digest) == blob.data
    assert sent(registry) == SIZE


async def test_a_registry_that_cannot_be_reached_keeps_the_trail(registry: FaultyRegistry) -> None:
    """It is back the next time."""
    ledger, blob = Ledger(), Blob(SIZE)
    await die(registry, ledger, blob)
    away = [registry.faults.add(drop(kind=kind)) for kind in ("upload-status", "mount", "upload-post", "ping")]
    async with process(registry, ledger) as repository:
        with pytest.raises(TransportError):
            await repository.put(blob.descriptor, blob.read)
    for fault in away:
        registry.faults.remove(fault)
    async with process(registry, ledger) as repository:
        assert await repository.put(blob.descriptor, blob.read)
    assert sent(registry) == SIZE


async def test_an_upload_that_is_refused_leaves_nothing_behind(registry: FaultyRegistry) -> None:
    """What the registry says no to is no better the next time."""
    ledger, blob = Ledger(), Blob(SIZE)
    registry.faults.add(status(403, error="DENIED", kind="upload-patch"))
    async with process(registry, ledger) as repository:
        with pytest.raises(Denied):
            await repository.put(blob.descriptor, blob.read)
    assert ledger.uploads == {}
    assert registry.open_uploads == 0


async def test_what_is_small_or_has_no_ledger_is_sent_as_ever(registry: FaultyRegistry) -> None:
    """Two requests, no trail."""
    ledger, small, large = Ledger(), Blob(LARGE - 1), Blob(LARGE, "large")
    async with process(registry, ledger) as repository:
        assert await repository.put(small.descriptor, small.read)
    async with process(registry, None) as repository:
        assert await repository.put(large.descriptor, large.read)
    assert registry.requests(kind="upload-patch") == []
    assert ledger.offsets == []


async def test_every_confirmed_offset_is_noted(registry: FaultyRegistry) -> None:
    """Chunk by chunk; without chunks only the beginning, since nothing is confirmed on the way."""
    ledger, blob = Ledger(), Blob(SIZE)
    async with process(registry, ledger) as repository:
        repository.origin.capabilities.upload = "chunks"
        assert await repository.put(blob.descriptor, blob.read)
    assert ledger.offsets == [0, 4 * MIB, 8 * MIB, 12 * MIB]


async def test_locations_that_change_are_followed(registry: FaultyRegistry) -> None:
    """The newest location is what is noted, secrets in its query and all."""
    async with FaultyRegistry(locations="opaque") as opaque:
        ledger, blob = Ledger(), Blob(SIZE)
        gate = Gate()
        async with process(opaque, ledger) as repository, anyio.create_task_group() as tasks:
            repository.origin.capabilities.upload = "chunks"
            opaque.faults.add(stall_request(MIB, gate, nth=3))
            tasks.start_soon(repository.put, blob.descriptor, blob.read)
            await gate.reached()
            tasks.cancel_scope.cancel()
        gate.release()
        while opaque.log.active():
            await anyio.lowlevel.checkpoint()
        ((url, offset),) = ledger.uploads.values()
        assert offset == 8 * MIB
        assert "_state=" in url
        async with process(opaque, ledger) as repository:
            assert await repository.put(blob.descriptor, blob.read)
        assert opaque.get_blob("app", blob.digest) == blob.data
        assert sent(opaque) == SIZE


async def test_a_process_that_stops_while_the_source_stalls_leaves_a_trail(registry: FaultyRegistry) -> None:
    """Ctrl-C: the session is left open for the next run, and no goodbye is said."""
    ledger, blob, gate = Ledger(), Blob(SIZE), Gate()
    async with FaultyRegistry() as source, process(source, None) as origin, process(registry, ledger) as repository:
        source.put_blob("app", blob.data)
        source.faults.add(stall_response(CUT, gate, kind="blob-get"))

        async def copy() -> None:
            await transfer(blob.descriptor, origin, [repository], count=lambda size: None)

        async with anyio.create_task_group() as tasks:
            tasks.start_soon(copy)
            await gate.reached()
            tasks.cancel_scope.cancel()
        gate.release()
    assert registry.requests(kind="upload-delete") == []
    assert len(ledger.uploads) == 1
