"""Bytes of unknown number kept in a temporary file without a name, so that nothing is left however the process ends."""

from __future__ import annotations

import os
import tempfile
import threading
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from types import TracebackType
from typing import Self

import anyio.to_thread

from asyncrane.abc import Stream
from asyncrane.errors import AsyncraneError

_CHUNK = 1024 * 1024


class Spool:
    """A temporary file (in ``TMPDIR``) that is written once and then read by many: ``with Spool() as spool``.

    :raises AsyncraneError: when it cannot be made, or written for want of room
    """

    def __init__(self) -> None:
        self.size = 0
        try:
            self._file = tempfile.TemporaryFile(buffering=0)  # noqa: SIM115  (closed by close)
        except OSError as exc:
            raise not_written(exc) from exc

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def write(self, data: bytes) -> None:
        """Add ``data``. For use in a thread."""
        rest = memoryview(data)
        try:
            while rest:
                rest = rest[self._file.write(rest) :]
        except OSError as exc:
            raise not_written(exc) from exc
        self.size += len(data)

    def read_at(self, offset: int, size: int) -> bytes:
        """Up to ``size`` bytes from ``offset`` on, none at the end. For use in a thread; any number may at once."""
        return os.pread(self._file.fileno(), size, offset)

    def read(self, start: int) -> Stream:
        """All bytes from ``start`` on: a :data:`~asyncrane.abc.Reader`."""
        return self._opened(start)

    @asynccontextmanager
    async def _opened(self, start: int) -> AsyncIterator[AsyncIterator[bytes]]:
        yield self._chunks(start)

    async def _chunks(self, start: int) -> AsyncIterator[bytes]:
        while chunk := await anyio.to_thread.run_sync(self.read_at, start, _CHUNK):
            yield chunk
            start += len(chunk)

    def fileno(self) -> int:
        """The file's descriptor, for those that read files."""
        return self._file.fileno()

    def close(self) -> None:
        """Give the room back; what is closed twice stays closed."""
        self._file.close()

    def __repr__(self) -> str:
        return f"Spool({self.size} bytes{', closed' if self._file.closed else ''})"


class Room:
    """Bytes that some :class:`Bounded` files may take in all. For use in threads."""

    def __init__(self, size: int) -> None:
        self._left = size
        self._lock = threading.Lock()

    def take(self, size: int) -> bool:
        """Take ``size`` bytes of it; ``False`` when there are not as many."""
        with self._lock:
            if size > self._left:
                return False
            self._left -= size
            return True

    def give(self, size: int) -> None:
        """Give ``size`` bytes back."""
        with self._lock:
            self._left += size

    def __repr__(self) -> str:
        return f"Room({self._left} bytes left)"


class Bounded:
    """A temporary file for what can be had in another way too: all that is written is in it, or there was no ``room``,
    and nothing is: ``with Bounded(room) as file``.
    """

    def __init__(self, room: Room) -> None:
        self._room = room
        self.spool: Spool | None = Spool()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if self.spool is not None:
            self.spool.close()

    def write(self, data: bytes) -> None:
        """Add ``data``, if there is room. For use in a thread."""
        if self.spool is None:
            return
        if self._room.take(len(data)):
            try:
                self.spool.write(data)
            except AsyncraneError:  # the disk is full: whoever needs the rest of it more has it now
                self._room.give(len(data))
            else:
                return
        self._room.give(self.spool.size)
        self.spool.close()
        self.spool = None

    def __repr__(self) -> str:
        return f"Bounded({self.spool!r})"


def not_written(error: OSError) -> AsyncraneError:
    """The error for a temporary file that could not be made or written."""
    where = os.environ.get("TMPDIR") or "/tmp"  # noqa: S108  (only said)
    return AsyncraneError(f"cannot write a temporary file in {where}: {error.strerror or error}")
