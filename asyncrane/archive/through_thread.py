"""Work on a stream in a thread: what comes asynchronously is read there as a file, no faster than it is worked on."""

from __future__ import annotations

from collections.abc import AsyncIterator, Callable
from typing import TypeVar

import anyio
import anyio.from_thread
import anyio.to_thread
from anyio.streams.memory import MemoryObjectReceiveStream

from asyncrane.archive.compression import Readable
from asyncrane.errors import AsyncraneError

_AHEAD = 4
"""Chunks that may wait for the thread."""

Made = TypeVar("Made")


async def through_thread(
    chunks: AsyncIterator[bytes], work: Callable[[Readable], Made], *, limiter: anyio.CapacityLimiter | None = None
) -> Made:
    """What ``work`` makes of ``chunks`` in a thread, one of ``limiter``'s. It may stop reading early.

    :raises AsyncraneError: what ``chunks`` raises, else what ``work`` does
    """
    send, receive = anyio.create_memory_object_stream[bytes](_AHEAD)
    made: list[Made] = []
    feeding: list[AsyncraneError] = []
    working: list[AsyncraneError] = []

    async def feed() -> None:
        with send:
            try:
                async for chunk in chunks:
                    await send.send(chunk)
            except anyio.BrokenResourceError:  # enough was read
                pass
            except AsyncraneError as exc:
                feeding.append(exc)

    async with anyio.create_task_group() as tasks:
        tasks.start_soon(feed)
        with receive:
            try:
                made.append(await anyio.to_thread.run_sync(work, _Arriving(receive), limiter=limiter))
            except AsyncraneError as exc:
                working.append(exc)
    for error in (*feeding, *working):
        raise error
    return made[0]


class _Arriving:
    """The stream, as a file in the thread."""

    def __init__(self, stream: MemoryObjectReceiveStream[bytes]) -> None:
        self._stream = stream
        self._piece = memoryview(b"")

    def read(self, size: int, /) -> bytes:
        """Up to ``size`` bytes, none at the end."""
        if not self._piece:
            self._piece = memoryview(anyio.from_thread.run(self._next))
        data, self._piece = self._piece[:size], self._piece[size:]
        return bytes(data)

    async def _next(self) -> bytes:
        try:
            while not (chunk := await self._stream.receive()):
                pass
        except (anyio.EndOfStream, anyio.ClosedResourceError):
            return b""
        return chunk
