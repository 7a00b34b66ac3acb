"""One large blob through several connections: parts of it are read side by side and handed on in order.

Many registries and storages give each connection only so much, and a long line fills slowly; one huge layer then takes
hours on a line that idles (containerd/containerd#9922). A blob begins as one plain stream. Only where whoever reads it
keeps waiting for the source are parts fetched beside it, twice as many each time that brought more. The plain stream is
kept until a part has been answered as it should: a registry that knows no ranges has cost one request, and no bytes.
"""

from __future__ import annotations

import time
from collections import deque
from collections.abc import AsyncGenerator, AsyncIterator, Callable
from contextlib import aclosing, asynccontextmanager
from typing import Protocol, TypeAlias

import anyio
from anyio.abc import TaskGroup

from asyncrane.abc import Stream
from asyncrane.errors import AsyncraneError, ContentError
from asyncrane.transport.capabilities import Capabilities

LARGE = 64 * 1024 * 1024
"""Bytes from which on a blob may be read in parts."""

PART = 8 * 1024 * 1024
"""Bytes of a part."""

AHEAD = 2
"""Parts that may wait in memory besides those that are on their way, so that no connection waits for another."""

FIRST = 4
"""Connections to begin with, the plain stream among them."""

WINDOW = 0.4
"""Seconds over which the source is measured."""

WAITING = 0.5
"""Share of the time spent waiting for the source from which on its connections are what is too slow."""

BUSY = 0.7
"""Share of the time in which this process computes from which on it is what is too slow."""

FAST = 100 * 1024 * 1024
"""Bytes a second of one connection from which on another one would only compete with it for the same CPU."""

GAIN = 1.3
"""Times the rate of before that twice as many connections must have brought, or there will be no more."""

PATIENCE = 2.0
"""Seconds that a plain stream which has done its share stands still for the first part to be answered."""

OpenPart: TypeAlias = Callable[[int, int], Stream]
"""Opens the bytes from one offset up to another, not included; entering it fails unless exactly these are coming."""


class Plain(Protocol):
    """The blob as one stream, as :mod:`~asyncrane.registry.blobs` reads it."""

    @property
    def position(self) -> int:
        """The offset of the next byte that it will give."""
        ...

    def chunks(self) -> AsyncGenerator[bytes, None]:
        """The bytes from ``position`` on."""
        ...

    async def go_on(self, position: int, cause: AsyncraneError) -> None:
        """Ask anew, from ``position`` on.

        :raises AsyncraneError: ``cause``, when that happens too often
        """
        ...

    async def close(self) -> None:
        """Let go of the connection."""
        ...


class Pace:
    """How fast bytes come, and how much of the time they are waited for, over one window after another."""

    def __init__(
        self, clock: Callable[[], float] = time.monotonic, processor: Callable[[], float] = time.process_time
    ) -> None:
        self._clock = clock
        self._processor = processor
        self.restart()

    def restart(self) -> None:
        """A new window begins."""
        self._began = self._asked = self._clock()
        self._computed = self._processor()
        self._waited = 0.0
        self._size = 0

    def came(self, size: int) -> None:
        """Bytes were waited for until now."""
        self._waited += self._clock() - self._asked
        self._size += size

    def asked(self) -> None:
        """More are waited for from now on."""
        self._asked = self._clock()

    def verdict(self, connections: int) -> tuple[float, bool] | None:
        """Bytes a second, and whether the source is what everything waits for; ``None`` while the window is open. With
        several connections whole rounds of parts are measured.
        """
        elapsed = self._asked - self._began
        if elapsed < WINDOW or (connections > 1 and self._size < connections * PART):
            return None
        idle = self._processor() - self._computed < BUSY * elapsed
        return self._size / elapsed, idle and self._waited >= WAITING * elapsed


class _Part:
    """One part on its way, or waiting to be handed on."""

    __slots__ = ("answered", "chunks", "ended", "failure", "news", "scope", "start", "stop")

    def __init__(self, start: int, stop: int) -> None:
        self.start = start
        self.stop = stop
        self.chunks: deque[bytes] = deque()
        self.answered = False
        self.ended = False
        self.failure: AsyncraneError | None = None
        self.news = anyio.Event()
        self.scope = anyio.CancelScope()

    def tell(self) -> None:
        """Something has changed."""
        self.news.set()
        self.news = anyio.Event()


class _Parts:
    """The parts from ``start`` to ``end``: at most ``width`` on their way, and :data:`AHEAD` more waiting."""

    def __init__(self, tasks: TaskGroup, open_part: OpenPart, start: int, end: int) -> None:
        self.start = start
        self.width = 0
        self._tasks = tasks
        self._open = open_part
        self._next = start
        self._end = end
        self._under_way = 0
        self._queue: deque[_Part] = deque()

    def widen(self, width: int) -> None:
        """Fetch ``width`` parts at a time from now on."""
        self.width = width
        self._begin()

    async def proven(self) -> bool:
        """Whether the first part is coming; waits a little for the answer."""
        first = self._queue[0]
        with anyio.move_on_after(PATIENCE):
            while not (first.answered or first.ended):
                await first.news.wait()
        return first.answered and first.failure is None

    async def chunks(self) -> AsyncIterator[bytes]:
        """Everything, in order.

        :raises AsyncraneError: what a part failed with, when everything before it has been handed on
        """
        while self._queue:
            part = self._queue[0]
            while part.chunks or not part.ended:
                while part.chunks:
                    yield part.chunks.popleft()
                if not part.ended:
                    await part.news.wait()
            if part.failure is not None:
                raise part.failure
            self._queue.popleft()
            self._begin()

    def cancel(self) -> None:
        """Nobody wants them any more."""
        self._next = self._end
        for part in self._queue:
            part.scope.cancel()
        self._queue.clear()

    def _begin(self) -> None:
        """Fetch as many more as may be under way."""
        while self._next < self._end and self._under_way < self.width and len(self._queue) < self.width + AHEAD:
            part = _Part(self._next, min(self._next + PART, self._end))
            self._next = part.stop
            self._queue.append(part)
            self._under_way += 1
            self._tasks.start_soon(self._fetch, part)

    async def _fetch(self, part: _Part) -> None:
        with part.scope:
            try:
                async with self._open(part.start, part.stop) as chunks:
                    part.answered = True
                    async for chunk in chunks:
                        part.chunks.append(chunk)
                        part.tell()
            except AsyncraneError as exc:
                part.failure = exc
        self._under_way -= 1
        part.ended = True
        part.tell()
        if part.failure is None:
            self._begin()


class _Reading:
    """One blob: the plain stream, and the parts beside it."""

    def __init__(self, plain: Plain, open_part: OpenPart, tasks: TaskGroup, end: int, share: Callable[[], int]) -> None:
        self._plain = plain
        self._open = open_part
        self._tasks = tasks
        self._end = end
        self._share = share
        self._pace = Pace()
        self._rate = 0.0
        self._parts: _Parts | None = None
        self._given_up = False
        self.parted = False

    async def chunks(self) -> AsyncIterator[bytes]:
        """The bytes, in order, from however many connections."""
        plain, pace = self._plain, self._pace
        async with aclosing(plain.chunks()) as chunks:
            async for chunk in chunks:
                pace.came(len(chunk))
                beyond = await self._beyond_plain()
                if beyond is not None:
                    if beyond < len(chunk):
                        yield chunk[: len(chunk) - beyond]
                    break
                yield chunk
                pace.asked()
                self._consider()
            else:
                return
        if self._parts is not None:
            await plain.close()
            async for chunk in self._side_by_side(self._parts):
                yield chunk

    async def _side_by_side(self, parts: _Parts) -> AsyncIterator[bytes]:
        pace, position = self._pace, parts.start
        self.parted = True
        pace.restart()
        try:
            async for chunk in parts.chunks():
                pace.came(len(chunk))
                position += len(chunk)
                yield chunk
                pace.asked()
                self._reconsider(parts)
        except AsyncraneError as exc:
            parts.cancel()
            await self._plain.go_on(position, exc)
            async for chunk in self._plain.chunks():
                yield chunk

    def _consider(self) -> None:
        """Begin with parts, if that may help."""
        if self._parts is not None or self._given_up or (verdict := self._pace.verdict(1)) is None:
            return
        self._pace.restart()
        self._rate, waiting = verdict
        width, start = min(FIRST, self._share()), self._plain.position + PART
        if waiting and self._rate < FAST and width > 1 and self._end - start >= width * PART:
            self._parts = _Parts(self._tasks, self._open, start, self._end)
            self._parts.widen(width - 1)  # and the plain stream

    async def _beyond_plain(self) -> int | None:
        """How many bytes the plain stream is beyond where parts take over; ``None`` where they do not (yet)."""
        if self._parts is None or self._plain.position < self._parts.start:
            return None
        if await self._parts.proven():
            self._parts.widen(self._parts.width + 1)
            return self._plain.position - self._parts.start
        self._parts.cancel()
        self._parts, self._given_up = None, True
        return None

    def _reconsider(self, parts: _Parts) -> None:
        """More connections as long as that brings more, and no more than others leave."""
        if (verdict := self._pace.verdict(parts.width)) is None:
            return
        self._pace.restart()
        rate, waiting = verdict
        width, share = parts.width, max(self._share(), 1)
        if waiting and rate >= GAIN * self._rate and width < share:
            self._rate = rate
            width *= 2
        parts.widen(min(width, share))


@asynccontextmanager
async def side_by_side(
    plain: Plain, open_part: OpenPart, *, end: int, capabilities: Capabilities
) -> AsyncIterator[AsyncIterator[bytes]]:
    """The bytes of a large blob, ``plain`` at first, in parts where that is quicker; ``end`` is its size.

    What ``capabilities.parts`` allows is shared by all large blobs that are being read there.
    """
    error: Exception | None = None
    capabilities.large += 1
    try:
        async with anyio.create_task_group() as tasks:
            reading = _Reading(plain, open_part, tasks, end, lambda: capabilities.parts // capabilities.large)
            try:
                yield reading.chunks()
            except Exception as exc:
                error = exc  # the caller's: inside the task group it would come out wrapped
            tasks.cancel_scope.cancel()
    finally:
        capabilities.large -= 1
    if error is not None:
        if reading.parted and isinstance(error, ContentError):
            capabilities.ranges = False  # other bytes than were asked for, perhaps: not in parts the next time
        raise error
