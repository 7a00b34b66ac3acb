"""Files made of what is no file: pieces one after the other, bytes that were read already, streams of the event loop.

All are for use in a worker thread, and stop when nobody waits for that any more.
"""

from __future__ import annotations

from collections.abc import AsyncIterator, Iterator

import anyio.from_thread

from asyncrane.archive.compression import MAGIC, Readable


def read_head(raw: Readable) -> bytes:
    """The bytes that say how the rest is compressed; fewer where there are no more."""
    head = b""
    while len(head) < MAGIC and (data := raw.read(MAGIC - len(head))):
        head += data
    return head


class Joined:
    """Pieces as a file."""

    def __init__(self, pieces: Iterator[bytes]) -> None:
        self._pieces = pieces
        self._piece = memoryview(b"")

    def read(self, size: int, /) -> bytes:
        """Up to ``size`` bytes, none at the end."""
        if not self._piece:
            anyio.from_thread.check_cancelled()
            self._piece = memoryview(next(self._pieces, b""))
        data, self._piece = self._piece[:size], self._piece[size:]
        return bytes(data)


class Chained:
    """What was read already, and what comes."""

    def __init__(self, head: bytes, raw: Readable) -> None:
        self._head = head
        self._raw = raw

    def read(self, size: int, /) -> bytes:
        """Up to ``size`` bytes, none at the end."""
        if not self._head:
            return self._raw.read(size)
        head, self._head = self._head[:size], self._head[size:]
        return head + self._raw.read(size - len(head)) if len(head) < size else head


class Watched:
    """The same file, as long as somebody waits for it."""

    def __init__(self, raw: Readable) -> None:
        self._raw = raw

    def read(self, size: int, /) -> bytes:
        """Up to ``size`` bytes, none at the end."""
        anyio.from_thread.check_cancelled()
        return self._raw.read(size)


def arriving(chunks: AsyncIterator[bytes]) -> Joined:
    """What an iterator of the event loop gives, as a file."""

    async def following() -> bytes:
        async for chunk in chunks:
            if chunk:
                return chunk
        return b""

    return Joined(iter(lambda: anyio.from_thread.run(following), b""))
