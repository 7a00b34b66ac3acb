"""Moving one blob: one read, one hash, any number of writes.

A single destination pulls the bytes through. Several are fed from one reading task through windows of a few MiB; one
that keeps the others waiting for too long is let go, and is to be served by itself.
"""

from __future__ import annotations

import math
import time
from collections import deque
from collections.abc import AsyncIterator, Callable, Sequence
from contextlib import AsyncExitStack, asynccontextmanager
from typing import TypeAlias

import anyio
import msgspec

from asyncrane.abc import Place, Sink, Source
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

WINDOW = 4 * 1024 * 1024
"""Bytes that a destination may be behind the fastest of several. They share what is held."""

PATIENCE = 10.0
"""Seconds that several destinations wait in vain for the slowest of them: a hiccup is cheaper than reading once more. A
slow one that lets them have bytes for as much of the time as it keeps them waiting is waited for.
"""

CHECKING = 50_000_000
"""Bytes a second that a registry may take to check a blob it has all bytes of, and be waited for by those that have.
"""


async def transfer(
    blob: Descriptor,
    source: Source,
    sinks: Sequence[Sink],
    *,
    eager: bool = False,
    patience: float = PATIENCE,
    count: Count,
) -> tuple[Landing, ...]:
    """Copy ``blob`` to every sink, telling ``count`` the number of bytes as they are read.

    What happens to one sink is its own affair: the answer has one landing for each. Of several, those that fell behind
    or went wrong in a way that does not concern the others are to be tried again alone.
    """
    if len(sinks) == 1:
        return (await _deliver(blob, source, sinks[0], eager=eager, count=count),)
    return tuple(await _tee(blob, source, sinks, count, patience))


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
            yield self._rest(chunks) if start and not self._verifier.seen else self._checked(chunks, start)

    async def _rest(self, chunks: AsyncIterator[bytes]) -> AsyncIterator[bytes]:
        """What is missing of an upload that an earlier process began: whether the whole is the blob is for the registry
        to say, which has the other part.
        """
        try:
            async for chunk in chunks:
                self._count(len(chunk))
                yield chunk
        except AsyncraneError as exc:
            self.failure = exc
            raise

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
    """One of several destinations: its window of bytes, and how long it has kept the others waiting. It is ``open`` as
    long as bytes may come, ``going`` until it has ended.
    """

    def __init__(self, blob: Descriptor) -> None:
        self._blob = blob
        self._window: deque[bytes] = deque()
        self._size = 0
        self._news = anyio.Event()
        self._room = anyio.Event()
        self._starved = 0.0
        self._starving_since: float | None = None
        self._read = False
        self._complete = False
        self._lost: AsyncraneError | None = None
        self._looked = time.monotonic()
        self.asked = anyio.Event()
        self.scope = anyio.CancelScope()
        self.kept_waiting = 0.0
        self.ended = 0.0
        self.open = self.going = True

    @asynccontextmanager
    async def read(self, start: int = 0) -> AsyncIterator[AsyncIterator[bytes]]:
        if start or self._read:
            raise _Overtaken(f"blob {self._blob.digest!s}: the bytes have passed")
        self._read = True
        self.asked.set()
        yield self._chunks()

    async def _chunks(self) -> AsyncIterator[bytes]:
        while self._lost is None:
            if self._window:
                chunk = self._window.popleft()
                self._size -= len(chunk)
                self._room.set()
                yield chunk
            elif self._complete:
                return
            else:
                await self._starve()
        raise self._lost

    async def _starve(self) -> None:
        self._starving_since = time.monotonic()
        self._news = anyio.Event()
        await self._news.wait()
        self._starved, self._starving_since = self.starved(), None

    def starved(self) -> float:
        """Seconds so far in which it had nothing to write."""
        since = self._starving_since
        return self._starved + (time.monotonic() - since if since is not None else 0.0)

    async def give(self, chunk: bytes, others: Sequence[_Branch], patience: float) -> None:
        """Hand it the next bytes, when its window has room for them. What ``others`` starve meanwhile adds up, what
        they do not is forgiven; at ``patience`` seconds it is let go.
        """
        while self._size and self._size + len(chunk) > WINDOW:
            if others and self.kept_waiting >= patience:
                self._overtaken()
                return
            before = [other.starved() for other in others]
            await self._taken(patience - self.kept_waiting if others else None)
            starved = [other.starved() - hunger for other, hunger in zip(others, before, strict=True)]
            self._weigh(max(starved, default=0.0))
        if self.open:
            self._window.append(chunk)
            self._size += len(chunk)
            self._news.set()

    async def drain(self, others: Sequence[_Branch], patience: float) -> None:
        """Return when it has taken the last bytes; it is let go if it takes none while others have ended."""
        while self._size:
            if not await self._taken(patience) and not all(other.going for other in others):
                self._overtaken()

    async def _taken(self, patience: float | None) -> bool:
        """Whether it takes something out of its window within ``patience`` seconds."""
        self._room = anyio.Event()
        with anyio.move_on_after(patience):
            await self._room.wait()
            return True
        return False

    def _weigh(self, starved: float) -> None:
        now = time.monotonic()
        elapsed, self._looked = now - self._looked, now
        self.kept_waiting = max(self.kept_waiting + starved - max(elapsed - starved, 0.0), 0.0)

    def _overrun(self) -> _Overtaken:
        return _Overtaken(f"blob {self._blob.digest!s}: the other destinations waited too long for this one")

    def _overtaken(self) -> None:
        self._lost = self._overrun()
        self.leave()
        self.scope.cancel()

    def close(self, error: AsyncraneError | None = None) -> None:
        """No more bytes come: these were all, or ``error`` happened."""
        if error is None:
            self._complete = True
        elif not self._complete and self._lost is None:
            self._lost = error
        self.open = False
        self._news.set()

    def leave(self) -> None:
        """The destination wants no more bytes."""
        self.open = self.going = False
        self.ended = time.monotonic()
        self._window.clear()
        self._size = 0
        self._room.set()
        self.asked.set()

    def landing(self, place: Place) -> Landing:
        """What becomes of a destination that was let go."""
        return Landing(place, failure=Failure("Interrupted", str(self._lost or self._overrun())), alone=True)


async def _tee(blob: Descriptor, source: Source, sinks: Sequence[Sink], count: Count, patience: float) -> list[Landing]:
    branches = [_Branch(blob) for _ in sinks]
    landings = [Landing(sink.place) for sink in sinks]

    async def write(at: int) -> None:
        branch, place = branches[at], sinks[at].place
        with branch.scope:
            try:
                landings[at] = Landing(place, sent=await sinks[at].put(blob, branch.read))
            except _Overtaken as exc:
                landings[at] = Landing(place, failure=Failure("Interrupted", str(exc)), alone=True)
            except AsyncraneError as exc:
                landings[at] = Landing(place, failure=Failure.of(exc), alone=_may_alone(exc))
        if branch.scope.cancelled_caught:
            landings[at] = branch.landing(place)
        branch.leave()
        if landings[at].sent:
            latest = anyio.current_time() + patience + max(blob.size, 0) / CHECKING
            for other in branches:
                other.scope.deadline = min(other.scope.deadline, latest)

    async with anyio.create_task_group() as tasks:
        for at in range(len(sinks)):
            tasks.start_soon(write, at)
        await _all_asked(branches, patience)
        await _feed(blob, source, branches, count, patience)
    done = list(zip(landings, branches, strict=True))
    first = min((branch.ended for landing, branch in done if landing.sent), default=math.inf)
    return [
        msgspec.structs.replace(landing, late=round(branch.kept_waiting + max(0.0, branch.ended - first), 3))
        for landing, branch in done
    ]


async def _all_asked(branches: Sequence[_Branch], patience: float) -> None:
    """Until every destination wants bytes or none; for a late one the others have waited already."""
    with anyio.move_on_after(patience):
        for branch in branches:
            await branch.asked.wait()
    for branch in branches:
        if not branch.asked.is_set():
            branch.kept_waiting = patience


async def _feed(blob: Descriptor, source: Source, branches: Sequence[_Branch], count: Count, patience: float) -> None:
    error: AsyncraneError | None = None
    try:
        if any(branch.open for branch in branches):
            async with _Pull(blob, source, count).read() as chunks:
                async for chunk in chunks:
                    wanting = [branch for branch in branches if branch.open]
                    if not wanting:
                        break
                    for branch in wanting:
                        await branch.give(chunk, [other for other in wanting if other is not branch], patience)
    except AsyncraneError as exc:
        error = exc
    for branch in branches:
        branch.close(error)
    for branch in branches:
        await branch.drain([other for other in branches if other is not branch], patience)
