"""Where an archive goes: a file that appears when it is whole, or a stream that gets nothing before that."""

from __future__ import annotations

import contextlib
import os
import stat
import sys
import tarfile
import tempfile
from pathlib import Path
from typing import BinaryIO, cast

from anyio.from_thread import check_cancelled

from asyncrane.errors import InvalidInput
from asyncrane.stores.files import PIECE, complaining, destination, sweep, unfinished
from asyncrane.stores.tarball_opening import STREAM

_LARGEST_OCTAL = 8**11
_CHECKSUM, _DEVICE = slice(148, 156), slice(329, 345)


class Destination:
    """The file ``path``, ``-`` for stdout, or what is no regular file: a pipe, a device. For use in a thread.

    :raises InvalidInput: when it is a directory or a terminal, or there is no directory to make it in
    :raises AsyncraneError: when nothing can be written there
    """

    def __init__(self, path: str) -> None:
        self.name = "stdout" if path == STREAM else path
        with complaining(self.name):
            self._path = destination(Path(path))
        self._made: dict[int, Path | None] = {}
        self._streamed = path == STREAM or self._is_special()
        if path == STREAM and sys.stdout.isatty():
            raise InvalidInput("an archive is not written to a terminal: redirect stdout, or name a file")

    def _is_special(self) -> bool:
        with complaining(self.name):
            try:
                mode = self._path.stat().st_mode
            except FileNotFoundError:
                if not self._path.parent.is_dir():
                    raise InvalidInput(f"cannot write {self.name}: {self._path.parent} is no directory") from None
                return False
        if stat.S_ISDIR(mode):
            raise InvalidInput(f"{self.name} is a directory, not a file to write an archive to")
        return not stat.S_ISREG(mode)

    @property
    def place(self) -> str:
        """What tells it from others."""
        return STREAM if self.name == "stdout" else str(self._path)

    def create(self) -> int:
        """An empty file that may become it, open to write and read; it is gone after :meth:`close`."""
        if self._streamed:
            with complaining(tempfile.gettempdir()), tempfile.TemporaryFile() as file:
                descriptor, path = os.dup(file.fileno()), None
        else:
            if not self._made:
                sweep(self._path.parent)
            with complaining(self.name):
                descriptor, path = unfinished(self._path.parent)
        self._made[descriptor] = path
        return descriptor

    def commit(self, descriptor: int) -> None:
        """Let one of those that were created be it."""
        path = self._made[descriptor]
        if path is None:
            self._send(descriptor)
            return
        with complaining(self.name):
            with contextlib.suppress(FileNotFoundError):
                os.fchmod(descriptor, stat.S_IMODE(self._path.stat().st_mode))
            path.replace(self._path)
        self._made[descriptor] = None

    def _send(self, descriptor: int) -> None:
        """A reader that goes away is not complained of: it is for the caller to know what that means."""
        with contextlib.ExitStack() as stack:
            if self.name == "stdout":
                stream = cast("BinaryIO", sys.stdout.buffer)
            else:
                stream = stack.enter_context(self._path.open("wb", buffering=0))
            at = 0
            while data := os.pread(descriptor, PIECE, at):
                check_cancelled()
                rest = memoryview(data)
                while rest:
                    rest = rest[stream.write(rest) :]
                at += len(data)
            stream.flush()

    def close(self) -> None:
        """Remove what has not become it. What still writes to a descriptor of its own writes to nothing."""
        made, self._made = self._made, {}
        for descriptor, path in made.items():
            os.close(descriptor)
            if path is not None:
                path.unlink(missing_ok=True)

    def __repr__(self) -> str:
        return f"Destination({self.name!r})"


class TarWriter:
    """Writes a tar, entry after entry, as crane does: mode 0644, no owner, no times. For use in a thread."""

    def __init__(self, descriptor: int) -> None:
        self._descriptor = descriptor
        self._end = 0

    def add(self, name: str, content: bytes) -> None:
        """A file of ``content``."""
        self.begin(name, len(content))
        write_at(self._descriptor, content, self._end - padded(len(content)))

    def begin(self, name: str, size: int) -> int:
        """An entry whose ``size`` bytes the caller writes, or has written, at the offset that is returned."""
        write_at(self._descriptor, header(name, size), self._end)
        start = self._end + tarfile.BLOCKSIZE
        self._end = start + padded(size)
        if padded(size) > size:
            write_at(self._descriptor, bytes(padded(size) - size), start + size)
        return start

    def copy(self, name: str, source: int, offset: int, size: int) -> None:
        """A file of the ``size`` bytes that another file has at ``offset``, or this one has where they go."""
        start = self.begin(name, size)
        if source != self._descriptor:
            _copy(source, offset, self._descriptor, start, size)
        elif start != offset:
            raise AssertionError(f"{name} is at {offset}, not at {start}")

    @property
    def next(self) -> int:
        """Where the bytes of the next entry begin, for those that are written before their number is known."""
        return self._end + tarfile.BLOCKSIZE

    def finish(self) -> None:
        """The end of the archive."""
        write_at(self._descriptor, bytes(2 * tarfile.BLOCKSIZE), self._end)
        os.ftruncate(self._descriptor, self._end + 2 * tarfile.BLOCKSIZE)

    def __repr__(self) -> str:
        return f"TarWriter({self._end} bytes)"


def header(name: str, size: int) -> bytes:
    """The header of a file, one block long: Go's, which says of files, too, what device they are."""
    entry = tarfile.TarInfo(name)
    entry.size = size
    entry.mode = 0o644
    if size >= _LARGEST_OCTAL:
        return entry.tobuf(tarfile.GNU_FORMAT)
    block = bytearray(entry.tobuf(tarfile.USTAR_FORMAT))
    block[_DEVICE] = b"0000000\0" * 2
    block[_CHECKSUM] = b" " * 8
    block[_CHECKSUM] = b"%06o\0 " % sum(block)
    return bytes(block)


def padded(size: int) -> int:
    """Bytes that ``size`` bytes take in a tar."""
    return -(-size // tarfile.BLOCKSIZE) * tarfile.BLOCKSIZE


def write_at(descriptor: int, data: bytes, offset: int) -> None:
    """Write all of ``data`` at ``offset`` of an open file."""
    rest = memoryview(data)
    while rest:
        done = os.pwrite(descriptor, rest, offset)
        rest, offset = rest[done:], offset + done


def _copy(source: int, offset: int, target: int, start: int, size: int) -> None:
    """Copy between files, inside the kernel where it can do that."""
    done = 0
    with contextlib.suppress(OSError, AttributeError):  # other file systems, other platforms
        while done < size and (count := os.copy_file_range(source, target, size - done, offset + done, start + done)):
            check_cancelled()
            done += count
    while done < size:
        check_cancelled()
        data = os.pread(source, min(PIECE, size - done), offset + done)
        write_at(target, data, start + done)
        done += len(data)
