"""Opening an archive file to be read in any order: a plain one as it is, a compressed one or a stream by way of a
temporary file that has no name.
"""

from __future__ import annotations

import io
import os
import select
import stat
import sys
import threading
from collections.abc import AsyncIterator, Iterator
from contextlib import ExitStack, asynccontextmanager, contextmanager
from pathlib import Path
from typing import BinaryIO, cast

import anyio.from_thread
import anyio.to_thread

from asyncrane.archive.outer import HEAD, Unpacked, sniff_archive
from asyncrane.archive.spool import Spool
from asyncrane.archive.tarindex import Member, TarIndex, index_file, index_stream, read_at
from asyncrane.errors import AsyncraneError, ContentError, Interrupted, InvalidInput, NotFound
from asyncrane.stores.files import PIECE, Extent

STREAM = "-"
"""The path that means stdin, or stdout."""

_PATIENCE = 200
"""Milliseconds between looks whether anybody still waits for what a stream has not brought."""


class OpenArchive:
    """A tar that is open: its index, and the bytes of its members. Every method may be called by many tasks at once.

    The engine may still be reading for nobody when it is closed: that fails, and never reads what else has got the
    descriptor's number.
    """

    def __init__(self, descriptor: int, index: TarIndex) -> None:
        self._descriptor = os.dup(descriptor)
        self._lock = threading.Lock()
        self._users = 0
        self._closed = False
        self.index = index

    def close(self) -> None:
        """Let nobody read any more."""
        with self._lock:
            self._closed = True
            self._let_go()

    @contextmanager
    def _open(self) -> Iterator[int]:
        with self._lock:
            if self._closed:
                raise Interrupted(f"{self.name} has been closed")
            self._users += 1
        try:
            yield self._descriptor
        finally:
            with self._lock:
                self._users -= 1
                self._let_go()

    def _let_go(self) -> None:
        if self._closed and not self._users and self._descriptor >= 0:
            descriptor, self._descriptor = self._descriptor, -1
            os.close(descriptor)

    @property
    def name(self) -> str:
        """What errors call it."""
        return self.index.name

    def read(self, member: Member, start: int = 0, size: int = PIECE) -> bytes:
        """Up to ``size`` bytes from ``start`` on, none at the end. For use in a thread."""
        with self._open() as descriptor:
            return read_at(descriptor, member, start, size)

    def extent(self, member: Member) -> Extent:
        """The member as a part of the file, to be closed by whoever got it. For use in a thread."""
        with self._open() as descriptor:
            return Extent(os.dup(descriptor), self.name, member.offset, member.size)

    async def whole(self, path: str, *, limit: int) -> bytes:
        """A small file.

        :raises ContentError: when there is none of that name, or it has more than ``limit`` bytes
        """
        member = self.index.member(path)
        if member.size > limit:
            raise ContentError(f"{self.name}: {path} has {member.size} bytes, more than the {limit} that are read")
        return await anyio.to_thread.run_sync(lambda: self._all(member))

    def _all(self, member: Member) -> bytes:
        content = b""
        while len(content) < member.size:
            content += self.read(member, len(content), member.size)
        return content

    async def chunks(self, member: Member, start: int) -> AsyncIterator[bytes]:
        """The bytes from ``start`` on."""
        while chunk := await anyio.to_thread.run_sync(self.read, member, start):
            start += len(chunk)
            yield chunk

    def __repr__(self) -> str:
        return f"OpenArchive({self.index!r})"


class MemberFile:
    """Reads one member from start to end, for what wants a file. For use in a thread; stops when nobody waits."""

    def __init__(self, archive: OpenArchive, member: Member) -> None:
        self._archive = archive
        self._member = member
        self._at = 0

    def read(self, size: int, /) -> bytes:
        """Up to ``size`` bytes."""
        anyio.from_thread.check_cancelled()
        data = self._archive.read(self._member, self._at, size)
        self._at += len(data)
        return data


@asynccontextmanager
async def opened(path: Path | str) -> AsyncIterator[OpenArchive]:
    """Open the archive ``path``; ``-`` is stdin.

    :raises NotFound: when there is no such file
    :raises AsyncraneError: when it cannot be read, or not be kept
    :raises ContentError: when it is no tar, or is cut off or damaged
    """
    with ExitStack() as stack:
        archive = await anyio.to_thread.run_sync(_open, str(path), stack)
        stack.callback(archive.close)
        yield archive


def _open(path: str, stack: ExitStack) -> OpenArchive:
    name = "stdin" if path == STREAM else path
    try:
        file, regular = _stream(path, stack)
        head = _Peeked(file)
        outer = sniff_archive(head.peek(HEAD))
        if regular and outer == "plain":
            return OpenArchive(file.fileno(), index_file(file, name, anyio.from_thread.check_cancelled))
        spool = stack.enter_context(Spool())
        index = index_stream(Unpacked(head, outer, name), spool.write, name, anyio.from_thread.check_cancelled)
        return OpenArchive(spool.fileno(), index)
    except FileNotFoundError as exc:
        raise NotFound(f"{name}: no such file", status=404) from exc
    except IsADirectoryError as exc:
        raise ContentError(f"{name} is a directory, not an archive (for an OCI layout: oci:{name})") from exc
    except OSError as exc:
        raise AsyncraneError(f"cannot read {name}: {exc.strerror or exc}") from exc


def _stream(path: str, stack: ExitStack) -> tuple[BinaryIO, bool]:
    """The file, and whether it can be read in any order from its beginning."""
    if path != STREAM:
        file = stack.enter_context(Path(path).open("rb"))  # noqa: SIM115  (the stack closes it)
        return file, stat.S_ISREG(os.fstat(file.fileno()).st_mode)
    if sys.stdin.isatty():
        raise InvalidInput("stdin is a terminal: nothing to read an archive from")
    stdin = cast("BinaryIO", sys.stdin.buffer)
    return stdin, _pipe(stdin) is None and isinstance(stdin, io.BufferedReader) and stdin.tell() == 0


class _Peeked:
    """Reads ``file``, and may be asked what comes. Waits for a pipe only as long as anybody wants what it brings."""

    def __init__(self, file: BinaryIO) -> None:
        self._file = file
        self._ahead = b""
        self._pipe = _pipe(file)

    def peek(self, size: int) -> bytes:
        if self._pipe is None and self._file.seekable():
            at = self._file.tell()
            head = self._file.read(size)
            self._file.seek(at)
            return head
        while len(self._ahead) < size and (data := self._next(size)):
            self._ahead += data
        return self._ahead

    def read(self, size: int, /) -> bytes:
        ahead, self._ahead = self._ahead[:size], self._ahead[size:]
        return ahead or self._next(size)

    def _next(self, size: int) -> bytes:
        anyio.from_thread.check_cancelled()
        if self._pipe is None:
            return self._file.read(size)
        waiting = select.poll()
        waiting.register(self._pipe, select.POLLIN)
        while not waiting.poll(_PATIENCE):
            anyio.from_thread.check_cancelled()
        return os.read(self._pipe, size)


def _pipe(file: BinaryIO) -> int | None:
    """The descriptor, where reading may have to wait."""
    try:
        descriptor = file.fileno()
    except (OSError, io.UnsupportedOperation):
        return None
    return None if stat.S_ISREG(os.fstat(descriptor).st_mode) else descriptor
