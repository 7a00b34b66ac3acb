"""Files of stores: read and written in threads, in large pieces, so that no disk ever holds the event loop.

What is written survives the process that wrote it, however that ends: it is written beside and renamed into place when
it is whole. What a process that was killed left beside is removed by the next one that writes there. It need not
survive a power cut at once: blobs are not flushed, as with other tools, and what a power cut spoils is noticed when it
is read.
"""

from __future__ import annotations

import contextlib
import errno
import os
import re
import secrets
import shutil
import stat
from collections.abc import AsyncIterator, Iterator
from pathlib import Path
from types import TracebackType
from typing import BinaryIO, Self

import anyio
import anyio.to_thread

from asyncrane.archive.digesting import Verifier
from asyncrane.errors import AsyncraneError, ContentError, InvalidInput
from asyncrane.oci.descriptor import Descriptor

PIECE = 1024 * 1024
"""Bytes that are read or written at once: many enough that a thread's turn is worth it."""

PARTIAL = ".asyncrane-"
"""What names of files begin with that are being written. Who writes one has it locked."""

_NAME = re.compile(rf"{re.escape(PARTIAL)}[0-9a-f]{{16}}")


@contextlib.contextmanager
def complaining(what: object) -> Iterator[None]:
    """Turn what the system says of ``what`` into our error, in one line.

    :raises AsyncraneError: when it says anything
    """
    try:
        yield
    except OSError as exc:
        if exc.errno == errno.ELOOP:
            raise ContentError(f"{what} is a symbolic link, which is not followed") from exc
        raise AsyncraneError(f"{what}: {exc.strerror or exc}") from exc


def destination(path: Path) -> Path:
    """Where a file is that the user named: his own link is followed. In a directory where everybody may make links
    (``/tmp``) a stranger's is not, whether the kernel sees to that or not (``fs.protected_symlinks``).

    :raises PermissionError: when it is a stranger's
    """
    if path.is_symlink():
        link, directory = path.lstat(), path.parent.stat()
        shared = stat.S_ISVTX | stat.S_IWOTH
        if directory.st_mode & shared == shared and link.st_uid not in (os.geteuid(), directory.st_uid):
            raise PermissionError(errno.EACCES, "a link of another user's, which is not followed", str(path))
    return path.resolve()


def flock(fd: int, *, exclusive: bool, wait: bool) -> bool:
    """Whether we have the lock. Where the file system has none (some network ones), or the platform, nobody has."""
    try:
        import fcntl  # noqa: PLC0415 - not on Windows
    except ImportError:
        return False
    try:
        fcntl.flock(fd, (fcntl.LOCK_EX if exclusive else fcntl.LOCK_SH) | (0 if wait else fcntl.LOCK_NB))
    except OSError:
        return False
    return True


def unfinished(directory: Path, *, folder: bool = False) -> tuple[int, Path]:
    """A new file (or ``folder``) in ``directory`` with a name for what is not whole yet, open and locked; for use in a
    thread. Rename it before it is closed.
    """
    while True:
        path = directory / f"{PARTIAL}{secrets.token_hex(8)}"
        if folder:
            path.mkdir()
            fd = os.open(path, os.O_RDONLY | os.O_CLOEXEC)
        else:
            fd = os.open(path, os.O_RDWR | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o666)
        if not flock(fd, exclusive=True, wait=True) or path.exists():
            return fd, path
        os.close(fd)  # somebody has swept it away before it was locked


def sweep(directory: Path) -> None:
    """Remove what processes that are gone did not finish in ``directory``; for use in a thread. What is locked, or
    cannot be, is somebody's.
    """
    with contextlib.suppress(OSError):
        for path in directory.iterdir():
            if _NAME.fullmatch(path.name):
                _remove_left(path)


@contextlib.contextmanager
def replaced(path: Path) -> Iterator[BinaryIO]:
    """A file that takes the place of ``path`` when the context ends without an error; for use in a thread.

    :raises InvalidInput: when it cannot be made there
    """
    try:
        target = destination(path)
        if path.exists() and not path.is_file():
            with path.open("wb", buffering=0) as device:
                yield device
            return
        sweep(target.parent)
        descriptor, beside = unfinished(target.parent)
    except OSError as exc:
        raise InvalidInput(f"cannot write {path}: {exc.strerror or exc}") from exc
    try:
        with os.fdopen(descriptor, "wb") as file:
            yield file
            file.flush()
            with contextlib.suppress(FileNotFoundError):
                os.fchmod(descriptor, stat.S_IMODE(target.stat().st_mode))
            beside.replace(target)
    except BaseException:
        with contextlib.suppress(OSError):
            beside.unlink()
        raise


def _remove_left(path: Path) -> None:
    with contextlib.suppress(OSError):
        fd = os.open(path, os.O_RDONLY | os.O_NOFOLLOW | os.O_CLOEXEC | os.O_NONBLOCK)
        try:
            if not flock(fd, exclusive=True, wait=False):
                return
            if stat.S_ISDIR(os.fstat(fd).st_mode):
                shutil.rmtree(path)
            else:
                path.unlink()
        finally:
            os.close(fd)


class Extent:
    """``size`` bytes of an open file from ``offset`` on. It is closed by whoever got it."""

    __slots__ = ("_fd", "name", "offset", "size")

    def __init__(self, fd: int, name: str, offset: int, size: int) -> None:
        self._fd = fd
        self.name = name
        self.offset = offset
        self.size = size

    @classmethod
    def file(cls, path: Path) -> Extent | None:
        """All of the file ``path``, ``None`` if there is none; for use in a thread.

        :raises ContentError: when it is a symbolic link, or something else than a file
        """
        with complaining(path):
            try:
                fd = os.open(path, os.O_RDONLY | os.O_NOFOLLOW | os.O_CLOEXEC | os.O_NONBLOCK)
            except FileNotFoundError:
                return None
        try:
            status = os.fstat(fd)
            if status.st_mode & 0o170000 != 0o100000:
                raise ContentError(f"{path} is not a regular file")
        except BaseException:
            os.close(fd)
            raise
        return cls(fd, str(path), 0, status.st_size)

    def read(self, size: int, start: int = 0) -> bytes:
        """Up to ``size`` bytes from ``start`` on; for use in a thread.

        :raises ContentError: when the file has become shorter
        """
        wanted = min(size, self.size - start)
        with complaining(self.name):
            data = os.pread(self._fd, wanted, self.offset + start)
            while len(data) < wanted:
                more = os.pread(self._fd, wanted - len(data), self.offset + start + len(data))
                if not more:
                    break
                data += more
        if len(data) < wanted:
            raise ContentError(f"{self.name} is cut off: {start + len(data)} of {self.size} bytes are there")
        return data

    def close(self) -> None:
        """Let go of the file."""
        fd, self._fd = self._fd, -1
        if fd >= 0:
            os.close(fd)

    async def pieces(self, start: int = 0) -> AsyncIterator[bytes]:
        """Everything from ``start`` on."""
        while start < self.size:
            piece = await anyio.to_thread.run_sync(self.read, PIECE, start)
            start += len(piece)
            yield piece

    def __repr__(self) -> str:
        return f"Extent({self.name!r}, {self.size} bytes from {self.offset})"


class Incoming:
    """A blob on its way into ``directory``: written under another name and hashed as it comes; :meth:`keep` gives it
    its own. Nothing is left of one that is not kept.
    """

    def __init__(self, directory: Path, blob: Descriptor) -> None:
        self._directory = directory
        self._path = directory
        self._verifier = Verifier(blob)
        self._file: BinaryIO | None = None
        self._held: list[bytes] = []
        self._size = 0

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if self._file is not None:
            with anyio.CancelScope(shield=True):
                await anyio.to_thread.run_sync(self._discard)

    async def write(self, chunk: bytes) -> None:
        """Take in ``chunk``, which may stay in memory until there are more.

        :raises ContentError: when there is too much, or it is not the blob
        """
        self._held.append(chunk)
        self._size += len(chunk)
        if self._size >= PIECE:
            await anyio.to_thread.run_sync(self._flush)

    async def keep(self, path: Path) -> None:
        """That was all: let it be ``path``.

        :raises ContentError: when it is not the blob
        """
        await anyio.to_thread.run_sync(self._keep, path)

    def _flush(self) -> None:
        held, self._held, self._size = self._held, [], 0
        with complaining(self._directory):
            if self._file is None:
                fd, self._path = unfinished(self._directory)
                self._file = os.fdopen(fd, "wb")
            for chunk in held:
                self._verifier.update(chunk, self._verifier.seen)
                self._file.write(chunk)

    def _keep(self, path: Path) -> None:
        self._flush()
        self._verifier.finish()
        with complaining(path.parent):
            if self._file is not None:
                self._file.flush()
                self._path.replace(path)
                self._file.close()
        self._file = None

    def _discard(self) -> None:
        with contextlib.suppress(OSError):
            if self._file is not None:
                self._file.close()
        self._file = None
        self._path.unlink(missing_ok=True)

    def __repr__(self) -> str:
        return f"Incoming({self._verifier.seen} bytes)"


def write_whole(path: Path, content: bytes, *, durable: bool = False) -> None:
    """Let ``path`` have ``content``, from one moment to the next; for use in a thread. ``durable`` has it on the disk
    when this returns.
    """
    with complaining(path.parent):
        fd, beside = unfinished(path.parent)
        try:
            with os.fdopen(fd, "wb") as file:
                file.write(content)
                file.flush()
                if durable:
                    os.fsync(fd)
                beside.replace(path)
        except BaseException:
            beside.unlink(missing_ok=True)
            raise
