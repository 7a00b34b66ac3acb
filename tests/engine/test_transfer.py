"""Moving one blob: one read, one check, any number of writes; nothing of a wrong blob is kept."""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

import anyio
import pytest

from asyncrane.abc import Reader
from asyncrane.engine.transfer import read_whole, transfer
from asyncrane.errors import Denied, Interrupted, SizeMismatch
from asyncrane.oci.descriptor import Descriptor
from asyncrane.oci.digest import Digest
from asyncrane.stores.memory import MemoryStore

CONTENT = bytes(range(256)) * 20_000
BLOB = Descriptor("application/octet-stream", Digest.of(CONTENT), len(CONTENT))


async def _all(content: bytes) -> AsyncIterator[bytes]:
    yield content


def reader_of(content: bytes) -> Reader:
    @asynccontextmanager
    async def read(start: int) -> AsyncIterator[AsyncIterator[bytes]]:
        yield _all(content[start:])

    return read


async def filled(blob: Descriptor = BLOB, content: bytes = CONTENT) -> MemoryStore:
    store = MemoryStore("source")
    await store.put(blob, reader_of(content))
    return store


class CountingStore(MemoryStore):
    """Counts how often it is read; ``garbled`` reads give other bytes, ``broken`` ones end early."""

    opened = 0
    garbled = 0
    broken = 0

    @asynccontextmanager
    async def open(self, blob: Descriptor, *, start: int = 0) -> AsyncIterator[AsyncIterator[bytes]]:
        self.opened += 1
        async with super().open(blob, start=start) as chunks:
            yield self._passing(chunks)

    async def _passing(self, chunks: AsyncIterator[bytes]) -> AsyncIterator[bytes]:
        async for chunk in chunks:
            if self.broken:
                self.broken -= 1
                raise Interrupted("the source went away")
            if self.garbled:
                self.garbled -= 1
                yield bytes(len(chunk))
            else:
                yield chunk


class WaitingStore(MemoryStore):
    """Takes chunks when it wants."""

    async def put(self, blob: Descriptor, read: Reader) -> bool:
        @asynccontextmanager
        async def waiting(start: int) -> AsyncIterator[AsyncIterator[bytes]]:
            async with read(start) as chunks:
                yield self._wait(chunks)

        return await super().put(blob, waiting)

    def _wait(self, chunks: AsyncIterator[bytes]) -> AsyncIterator[bytes]:
        raise NotImplementedError


class SlowStore(WaitingStore):
    """Takes its first chunk and then nothing until ``go`` is set."""

    go: anyio.Event

    async def _wait(self, chunks: AsyncIterator[bytes]) -> AsyncIterator[bytes]:
        async for chunk in chunks:
            yield chunk
            await self.go.wait()


class PacedStore(WaitingStore):
    """Takes all the time it wants for every chunk."""

    async def _wait(self, chunks: AsyncIterator[bytes]) -> AsyncIterator[bytes]:
        async for chunk in chunks:
            await anyio.sleep(0.005)
            yield chunk


class LateStore(MemoryStore):
    """Does not get ready before ``go`` is set."""

    go: anyio.Event

    async def put(self, blob: Descriptor, read: Reader) -> bool:
        await self.go.wait()
        return await super().put(blob, read)


class FullStore(MemoryStore):
    """Takes one chunk and has no room for more."""

    async def put(self, blob: Descriptor, read: Reader) -> bool:
        async with read(0) as chunks:
            await anext(chunks)
            raise Denied("no room", status=403)


async def counting() -> CountingStore:
    store = CountingStore("source")
    await store.put(BLOB, reader_of(CONTENT))
    return store


async def test_one_destination_gets_the_bytes_and_they_are_counted() -> None:
    source, sink = await filled(), MemoryStore("sink")
    seen: list[int] = []
    (landing,) = await transfer(BLOB, source, [sink], count=seen.append)
    assert landing.sent
    assert sum(seen) == len(CONTENT)
    assert await sink.has(BLOB.digest)


async def test_a_blob_that_is_there_is_not_read() -> None:
    source, sink = await counting(), await filled()
    (landing,) = await transfer(BLOB, source, [sink], count=lambda size: None)
    assert not landing.sent
    assert landing.failure is None
    assert source.opened == 0


async def test_three_destinations_cost_one_read() -> None:
    source = await counting()
    sinks = [MemoryStore(f"sink{n}") for n in range(3)]
    landings = await transfer(BLOB, source, sinks, count=lambda size: None)
    assert all(landing.sent for landing in landings)
    assert source.opened == 1


async def test_a_destination_that_stands_still_does_not_hold_the_others() -> None:
    """It is let go after a while, at once, and is to be served by itself."""
    source, fast, slow = await counting(), MemoryStore("fast"), SlowStore("slow")
    slow.go = anyio.Event()
    landings = await transfer(BLOB, source, [fast, slow], patience=0.1, count=lambda size: None)
    assert [(landing.sent, landing.alone) for landing in landings] == [(True, False), (False, True)]
    assert await fast.has(BLOB.digest)
    assert source.opened == 1


async def test_destinations_that_are_slow_together_are_waited_for() -> None:
    """Nobody starves, so nobody is let go, and the source is read once."""
    source = await counting()
    sinks = [PacedStore(f"paced{n}") for n in range(3)]
    landings = await transfer(BLOB, source, sinks, patience=0.02, count=lambda size: None)
    assert all(landing.sent for landing in landings)
    assert source.opened == 1


async def test_a_destination_that_comes_too_late_does_not_hold_the_others() -> None:
    """What it is given it takes as far as its window goes."""
    source, fast, late = await counting(), MemoryStore("fast"), LateStore("late")
    late.go = anyio.Event()
    landings = await transfer(BLOB, source, [fast, late], patience=0.1, count=lambda size: None)
    assert [(landing.sent, landing.alone) for landing in landings] == [(True, False), (False, True)]
    assert source.opened == 1


async def test_a_destination_that_takes_nothing_any_more_is_left_out_at_once() -> None:
    """Long before the patience is over."""
    source, fast, full = await counting(), MemoryStore("fast"), FullStore("full")
    with anyio.fail_after(5):
        landings = await transfer(BLOB, source, [full, fast], patience=60, count=lambda size: None)
    assert [landing.sent for landing in landings] == [False, True]
    assert landings[0].failure is not None
    assert not landings[0].alone


async def test_bytes_garbled_once_are_read_again() -> None:
    source, sink = await counting(), MemoryStore("sink")
    source.garbled = 1
    (landing,) = await transfer(BLOB, source, [sink], count=lambda size: None)
    assert landing.sent


async def test_bytes_garbled_for_several_are_to_be_read_again_for_each() -> None:
    source = await counting()
    source.garbled = 1
    landings = await transfer(BLOB, source, [MemoryStore("a"), MemoryStore("b")], count=lambda size: None)
    assert all(landing.alone and landing.failure for landing in landings)


@pytest.mark.parametrize("sinks", [1, 2])
async def test_bytes_that_never_hash_right_are_kept_nowhere(sinks: int) -> None:
    source = await counting()
    source.garbled = 10_000
    stores = [MemoryStore(f"sink{n}") for n in range(sinks)]
    landings = await transfer(BLOB, source, stores, count=lambda size: None)
    assert {landing.failure.kind if landing.failure else "" for landing in landings} == {"DigestMismatch"}
    assert not any([await store.has(BLOB.digest) for store in stores])


@pytest.mark.parametrize("eager", [False, True])
async def test_a_source_that_breaks_twice_is_asked_again(eager: bool) -> None:
    small = b"x" * 1000
    blob = Descriptor("application/octet-stream", Digest.of(small), len(small))
    source, sink = CountingStore("source"), MemoryStore("sink")
    await source.put(blob, reader_of(small))
    source.broken = 2
    (landing,) = await transfer(blob, source, [sink], eager=eager, count=lambda size: None)
    assert landing.sent
    assert source.opened == 3


async def test_a_small_blob_is_read_whole_up_to_a_limit() -> None:
    source = await filled()
    assert await read_whole(source, BLOB, limit=len(CONTENT)) == CONTENT
    with pytest.raises(SizeMismatch, match="more than"):
        await read_whole(source, BLOB, limit=10)


async def test_a_blob_of_unknown_size_is_checked_at_its_end() -> None:
    """Schema 1 does not say how large a layer is."""
    unknown = Descriptor(BLOB.media_type, BLOB.digest, -1)
    source, sink = await filled(), MemoryStore("sink")
    (landing,) = await transfer(unknown, source, [sink], count=lambda size: None)
    assert landing.sent
