"""Layers out of files and directories: a tar, plain or compressed, is looked through once for what an image has to say
of it, and read again when it goes up. Nothing is kept in memory and nothing is written to disk.
"""

from __future__ import annotations

import stat
from collections.abc import AsyncIterator, Callable, Iterator
from contextlib import AbstractContextManager, ExitStack, asynccontextmanager, closing, contextmanager
from functools import partial
from pathlib import Path
from typing import Any, TypeAlias, cast

import anyio
import anyio.to_thread

from asyncrane.abc import Reader
from asyncrane.archive.compression import PIECE, Expanded, Readable, sniff
from asyncrane.archive.directory import directory_tar, unreadable
from asyncrane.archive.formats import Packing
from asyncrane.archive.packing import CheckedTar, Layer, Packer
from asyncrane.archive.reading import Chained, Joined, Watched, read_head
from asyncrane.archive.tarcheck import TarCheck
from asyncrane.archive.windows import for_windows
from asyncrane.errors import InvalidInput

__all__ = ["Layer", "directory_layer", "layer_file", "windows_layer"]

_Opened: TypeAlias = Callable[[], AbstractContextManager[Readable]]
"""Opens a file with the same bytes each time it is called; for use in a thread."""


async def layer_file(path: Path, packing: Packing | None = None) -> Layer:
    """The layer in the tar file ``path``. One that is packed as ``packing`` says goes up as it is, any other is packed
    so; by default a gzip or zstd file goes up as it is, a plain one as gzip.

    :raises NotFound: when there is no such file
    :raises InvalidInput: when it is not a regular one
    :raises ContentError: when it is not a tar, is cut off or damaged, or has names that lead out of it
    """

    def made() -> Layer:
        opened = partial(_file, path)
        packer = _measured(opened, str(path), packing, tar=False)
        return packer.layer(_plainly(path) if packer.kept else _again(opened, str(path), packing, tar=False))

    return await anyio.to_thread.run_sync(made)


async def directory_layer(path: Path, packing: Packing | None = None, *, newest: int = 0) -> Layer:
    """A layer of what is in the directory ``path``, with the same bytes every time, and no time after ``newest``
    (seconds since 1970).

    :raises NotFound: when there is no such directory
    :raises InvalidInput: when it cannot be read, or has what no tar can hold
    """
    return await anyio.to_thread.run_sync(_of_tar, partial(_directory, path, newest), str(path), packing)


async def windows_layer(path: Path, packing: Packing | None = None, *, newest: int = 0) -> Layer:
    """The same for a Windows image, whose layers have a layout of their own, of a tar file or a directory.

    :raises NotFound: when there is nothing of that name
    :raises InvalidInput: when it is neither
    :raises ContentError: as :func:`layer_file`, and when it has that layout already
    """
    return await anyio.to_thread.run_sync(_of_tar, partial(_for_windows, path, newest), str(path), packing)


def _of_tar(opened: _Opened, name: str, packing: Packing | None) -> Layer:
    return _measured(opened, name, packing, tar=True).layer(_again(opened, name, packing, tar=True))


def _measured(opened: _Opened, name: str, packing: Packing | None, *, tar: bool) -> Packer:
    """Look all of it through."""
    with opened() as raw:
        packer = Packer(raw, name, packing, tar=tar)
        for _ in packer.pieces():
            pass
    return packer


def _again(opened: _Opened, name: str, packing: Packing | None, *, tar: bool) -> Reader:
    @asynccontextmanager
    async def read(start: int) -> AsyncIterator[AsyncIterator[bytes]]:
        with ExitStack() as stack:
            raw = await anyio.to_thread.run_sync(stack.enter_context, opened())
            pieces = stack.enter_context(closing(Packer(raw, name, packing, tar=tar).pieces()))
            yield _after(start, pieces)

    return read


async def _after(start: int, pieces: Iterator[bytes]) -> AsyncIterator[bytes]:
    """In a thread, as reading and compressing are work."""
    while piece := await anyio.to_thread.run_sync(next, pieces, b""):
        if len(piece) > start:
            yield piece[start:]
        start = max(start - len(piece), 0)


@contextmanager
def _file(path: Path) -> Iterator[Readable]:
    with _reading(path), path.open("rb", buffering=0) as file:
        yield Watched(cast("Readable", file))


@contextmanager
def _reading(path: Path) -> Iterator[None]:
    try:
        if not stat.S_ISREG(path.stat().st_mode):
            raise InvalidInput(f"cannot read {path}: it is not a regular file (expected a tar)")
        yield
    except OSError as exc:
        raise unreadable(path, exc) from exc


@contextmanager
def _directory(path: Path, newest: int) -> Iterator[Readable]:
    with closing(cast("Any", directory_tar(path, newest=newest))) as pieces:
        yield Joined(pieces)


@contextmanager
def _for_windows(path: Path, newest: int) -> Iterator[Readable]:
    """What is in it, laid out for Windows."""
    with _directory(path, newest) if path.is_dir() else _checked_file(path) as tar:
        yield Joined(for_windows(tar, str(path)))


@contextmanager
def _checked_file(path: Path) -> Iterator[Readable]:
    with _file(path) as raw:
        head = read_head(raw)
        yield CheckedTar(Expanded(Chained(head, raw), sniff(head), str(path)), TarCheck(str(path)))


def _plainly(path: Path) -> Reader:
    @asynccontextmanager
    async def opened(start: int) -> AsyncIterator[AsyncIterator[bytes]]:
        try:
            async with await anyio.open_file(path, "rb", buffering=0) as file:
                await file.seek(start)
                yield _chunks(file)
        except OSError as exc:
            raise unreadable(path, exc) from exc

    return opened


async def _chunks(file: anyio.AsyncFile[bytes]) -> AsyncIterator[bytes]:
    while chunk := await file.read(PIECE):
        yield chunk
