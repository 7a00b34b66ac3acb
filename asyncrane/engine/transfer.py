"""Moving one blob: one read, one hash, any number of writes.

A single destination pulls the bytes through. Several are fed from one reading task through windows of a few chunks; one
that falls behind for too long is let go and afterwards reads for itself, so that it cannot hold the others.
"""

from __future__ import annotations

import time
from collections.abc import AsyncIterator, Callable, Sequence
from contextlib import AsyncExitStack, asynccontextmanager
from typing import TypeAlias

import anyio
from anyio.streams.memory import MemoryObjectReceiveStream, MemoryObjectSendStream

from asyncrane.abc import Sink, Source
from asyncrane.archive.digesting import Verifier
from asyncrane.engine.messages import Landing
from asyncrane.engine.placing import SMALL
from asyncrane.errors import (
    AsyncraneError,
    ContentError,
    Failure,
    NotFound,
    ServerFault,
    SizeMismatch,
    TransportError,
)
from asyncrane.oci.descriptor import Descriptor

Count: TypeAlias = Callable[[int], None]

ATTEMPTS = 3
"""How often the bytes of one blob are sent to one destination before that is an error."""

WINDOW = 8
"""Chunks that a destination may be behind the fastest of several."""

PATIENCE = 10.0
"""Seconds that several destinations wait for the slowest of them."""


async def transfer(
    blob: Descriptor, source: Source, sinks: Sequence[Sink], *, eager: bool = False, count: Count
) -> tuple[Landing, ...]:
    """Copy ``blob`` to every sink, telling ``count`` the number of bytes as they are read.

    What happens to one sink is its own affair: the answer has one landing for each.
    """
    if len(sinks) == 1:
        return (await _deliver(blob, source, sinks[0], eager=eager, count=count),)
    landings = await _tee(blob, source, sinks, count)
    for at, landing in enumerate(landings):
        if landing.failure is not None and _may_alone(landing.failure.error()):
            landings[at] = await _deliver(blob, source, sinks[at], eager=False, count=count)
    return tuple(landings)


async def _deliver(blob: Descriptor, source: Source, sink: Sink, *, eager: bool, count: Count) -> Landing:
    """Copy to one sink, again from the start where that can help."""
    for attempt in range(1, ATTEMPTS + 1):
        pull = _Pull(blob, source, count)
        try:
            return Landing(sink.place, sent=await _once(blob, pull, sink, eager=eager))
        except AsyncraneError as exc:
            if attempt == ATTEMPTS or not _may_again(exc, pull, attempt):
                return Landing(sink.place, failure=Failure.of(exc))
    raise AssertionError("unreachable")


def _may_again(error: AsyncraneError, pull: _Pull, attempt: int) -> bool:
    """Whether doing it all again can help: bytes garbled on the way, a lost session, a source that broke off. What a
    destination does not take has been tried often enough where the upload is known.
    """
    if isinstance(error, ContentError):
        return attempt == 1
    return _is_lost_session(error) or (isinstance(error, TransportError) and error is pull.failure)


def _may_alone(error: AsyncraneError) -> bool:
    """Whether a destination may take by itself what it has not taken with others: there it cannot go back."""
    return isinstance(error, TransportError | ServerFault | ContentError) or _is_lost_session(error)


def _is_lost_session(error: AsyncraneError) -> bool:
    return isinstance(error, NotFound) and "BLOB_UPLOAD_UNKNOWN" in error.codes


async def _once(blob: Descriptor, pull: _Pull, sink: Sink, *, eager: bool) -> bool:
    if not (eager and 0 <= blob.size <= SMALL):
        return await sink.put(blob, pull.read)
    ahead = _Ahead(pull)
    sent, error = False, None
    async with anyio.create_task_group() as tasks:
        tasks.start_soon(ahead.run)
        try:
            sent = await sink.put(blob, ahead.read)
        except AsyncraneError as exc:
            error = exc
        tasks.cancel_scope.cancel()
    if error is not None:
        raise error
    return sent


async def read_whole(source: Source, blob: Descriptor, *, limit: int) -> bytes:
    """The content of a small blob, checked.

    :raises SizeMismatch: when it has more than ``limit`` bytes
    """
    if blob.size > limit:
        raise SizeMismatch(f"blob {blob.digest!s} has {blob.size} bytes, more than the {limit} that are read")
    async with _Pull(blob, source, lambda size: None).read() as chunks:
        return b"".join([chunk async for chunk in chunks])


class _Pull:
    """Opens the source when the sink asks for bytes, and checks them as they pass; ``failure`` is what went wrong with
    that.
    """

    def __init__(self, blob: Descriptor, source: Source, count: Count) -> None:
        self._blob = blob
        self._source = source
        self._count = count
        self._verifier = Verifier(blob)
        self.failure: AsyncraneError | None = None

    @asynccontextmanager
    async def read(self, start: int = 0) -> AsyncIterator[AsyncIterator[bytes]]:
        async with AsyncExitStack() as stack:
            try:
                chunks = await stack.enter_async_context(self._source.open(self._blob, start=start))
            except AsyncraneError as exc:
                self.failure = exc
                raise
            yield self._checked(chunks, start)

    async def _checked(self, chunks: AsyncIterator[bytes], position: int) -> AsyncIterator[bytes]:
        verifier, count = self._verifier, self._count
        try:
            async for chunk in chunks:
                verifier.update(chunk, position)
                position += len(chunk)
                count(len(chunk))
                yield chunk
            verifier.finish()
        except AsyncraneError as exc:
            self.failure = exc
            raise


class _Ahead:
    """Reads a small blob whole while the sink still gets ready."""

    def __init__(self, pull: _Pull) -> None:
        self._pull = pull
        self._done = anyio.Event()
        self._data = b""
        self._error: AsyncraneError | None = None

    async def run(self) -> None:
        try:
            async with self._pull.read() as chunks:
                self._data = b"".join([chunk async for chunk in chunks])
        except AsyncraneError as exc:
            self._error = exc
        self._done.set()

    @asynccontextmanager
    async def read(self, start: int = 0) -> AsyncIterator[AsyncIterator[bytes]]:
        await self._done.wait()
        if self._error is not None:
            raise self._error
        yield _one(self._data[start:] if start else self._data)


async def _one(data: bytes) -> AsyncIterator[bytes]:
    yield data


class _Overtaken(AsyncraneError):
    """This destination was too slow for the others, or came too late, and has to read for itself."""


class _Branch:
    """One of several destinations: its window of chunks."""

    def __init__(self, blob: Descriptor) -> None:
        self._blob = blob
        self._send: MemoryObjectSendStream[bytes]
        self._receive: MemoryObjectReceiveStream[bytes]
        self._send, self._receive = anyio.create_memory_object_stream[bytes](WINDOW)
        self._read = False
        self._lost: AsyncraneError | None = None
        self.asked = anyio.Event()
        self.open = True

    @asynccontextmanager
    async def read(self, start: int = 0) -> AsyncIterator[AsyncIterator[bytes]]:
        if start or self._read:
            raise _Overtaken(f"blob {self._blob.digest!s}: the bytes have passed")
        self._read = True
        self.asked.set()
        yield self._chunks()

    async def _chunks(self) -> AsyncIterator[bytes]:
        async for chunk in self._receive:
            yield chunk
        if self._lost is not None:
            raise self._lost

    async def give(self, chunk: bytes) -> None:
        if not self.open:
            return
        try:
            with anyio.fail_after(PATIENCE):
                await self._send.send(chunk)
        except anyio.BrokenResourceError:
            self.open = False
        except TimeoutError:
            self.close(_Overtaken(f"blob {self._blob.digest!s}: fell {WINDOW} chunks behind for {PATIENCE:.0f} s"))

    def close(self, error: AsyncraneError | None = None) -> None:
        if error is not None and self._lost is None:
            self._lost = error
        self.open = False
        self._send.close()

    def leave(self) -> None:
        """The destination wants no more bytes."""
        self.open = False
        self._receive.close()
        self.asked.set()


async def _tee(blob: Descriptor, source: Source, sinks: Sequence[Sink], count: Count) -> list[Landing]:
    branches = [_Branch(blob) for _ in sinks]
    landings = [Landing(sink.place) for sink in sinks]

    async def write(at: int) -> None:
        try:
            landings[at] = Landing(sinks[at].place, sent=await sinks[at].put(blob, branches[at].read))
        except _Overtaken as exc:
            landings[at] = Landing(sinks[at].place, failure=Failure("Interrupted", str(exc)))
        except AsyncraneError as exc:
            landings[at] = Landing(sinks[at].place, failure=Failure.of(exc))
        finally:
            branches[at].leave()

    try:
        async with anyio.create_task_group() as tasks:
            for at in range(len(sinks)):
                tasks.start_soon(write, at)
            await _all_asked(branches)
            await _feed(blob, source, branches, count)
    finally:
        for branch in branches:
            branch.close()
            branch.leave()
    return landings


async def _all_asked(branches: Sequence[_Branch]) -> None:
    """Until every destination wants bytes or none; a late one is left behind its window and then alone."""
    deadline = time.monotonic() + PATIENCE
    for branch in branches:
        with anyio.move_on_after(max(deadline - time.monotonic(), 0)):
            await branch.asked.wait()


async def _feed(blob: Descriptor, source: Source, branches: Sequence[_Branch], count: Count) -> None:
    error: AsyncraneError | None = None
    try:
        if any(branch.open for branch in branches):
            async with _Pull(blob, source, count).read() as chunks:
                async for chunk in chunks:
                    for branch in branches:
                        await branch.give(chunk)
                    if not any(branch.open for branch in branches):
                        break
    except AsyncraneError as exc:
        error = exc
    for branch in branches:
        branch.close(error)
