"""What can be read only once as a layer: stdin, pipes, and directories, which are made into a tar on the way. It is
compressed and its digests are taken as it arrives, so that nothing has to be kept of it.
"""

from __future__ import annotations

import os
import stat
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager, closing, contextmanager
from pathlib import Path
from typing import Any, Literal, TypeAlias, cast

import anyio
import anyio.to_thread

from asyncrane.abc import Reader
from asyncrane.archive.compression import MAGIC, PIECE, sniff
from asyncrane.archive.directory import directory_tar, unreadable
from asyncrane.archive.formats import Packing
from asyncrane.archive.packing import Packer, is_kept
from asyncrane.archive.reading import Joined, arriving
from asyncrane.errors import InvalidInput

STDIN = "-"
"""What stdin is called."""

Kind: TypeAlias = Literal["file", "directory", "pipe"]

_NAMES = {STDIN: "stdin"}


def kind_of(name: str) -> Kind:
    """What ``name`` is: a regular file, a directory, or something that can be read once.

    :raises NotFound: when it is not there
    :raises InvalidInput: when it is none of these
    """
    if name == STDIN:
        return "pipe"
    try:
        mode = os.stat(name).st_mode  # noqa: PTH116  (as the shell passed it)
    except OSError as exc:
        raise unreadable(name, exc) from exc
    if stat.S_ISREG(mode):
        return "file"
    if stat.S_ISDIR(mode):
        return "directory"
    if stat.S_ISFIFO(mode):
        return "pipe"
    raise InvalidInput(f"cannot read {name}: it is not a file, a pipe or a directory (expected a tar)")


def goes_as_it_is(name: str, packing: Packing | None) -> bool:
    """Whether the file ``name`` is packed already as ``packing`` says, by its first bytes.

    :raises InvalidInput: when it cannot be read
    """
    try:
        with Path(name).open("rb") as file:
            return is_kept(sniff(file.read(MAGIC)), packing)
    except OSError as exc:
        raise unreadable(name, exc) from exc


@asynccontextmanager
async def packed(
    name: str, packing: Packing | None = None, *, newest: int = 0
) -> AsyncIterator[tuple[Packer, AsyncIterator[bytes]]]:
    """What ``name`` holds, as it goes up, and what packs it, which knows the layer at the end. No file of a directory
    says that it was changed after ``newest`` (seconds since 1970).

    :raises InvalidInput: when it cannot be read
    :raises ContentError: from the iterator, before its last piece: it is no layer
    """
    shown = _NAMES.get(name, name)
    if kind_of(name) == "directory":
        with (
            closing(cast("Any", directory_tar(Path(name), newest=newest))) as tar,
            _made(Packer(Joined(tar), shown, packing, tar=True)) as made,
        ):
            yield made
    else:
        async with _opened(name) as descriptor:
            with _made(Packer(arriving(_gathered(descriptor, shown)), shown, packing)) as made:
                yield made


@contextmanager
def _made(packer: Packer) -> Iterator[tuple[Packer, AsyncIterator[bytes]]]:
    with closing(packer.pieces()) as pieces:
        yield packer, _from_thread(pieces)


def in_memory(content: bytes) -> Reader:
    """Opens ``content``."""

    @asynccontextmanager
    async def opened(start: int) -> AsyncIterator[AsyncIterator[bytes]]:
        yield _slices(content, start)

    return opened


async def _slices(content: bytes, start: int) -> AsyncIterator[bytes]:
    for at in range(start, len(content), PIECE):
        yield content[at : at + PIECE]


async def _from_thread(pieces: Iterator[bytes]) -> AsyncIterator[bytes]:
    while (piece := await anyio.to_thread.run_sync(next, pieces, None)) is not None:
        yield piece


@asynccontextmanager
async def _opened(name: str) -> AsyncIterator[int]:
    """A descriptor of it. A pipe is opened without waiting for who writes to it: waiting can then be given up."""
    if name == STDIN:
        if os.isatty(0):
            raise InvalidInput("stdin is a terminal (expected a tar)")
        yield 0
        return
    try:
        descriptor = os.open(name, os.O_RDONLY | os.O_NONBLOCK | os.O_CLOEXEC)
    except OSError as exc:
        raise unreadable(name, exc) from exc
    try:
        yield descriptor
    finally:
        os.close(descriptor)


async def _gathered(descriptor: int, name: str) -> AsyncIterator[bytes]:
    """What is read from a descriptor, in pieces that are worth a thread."""
    try:
        mode = os.fstat(descriptor).st_mode
        waits = stat.S_ISFIFO(mode) or stat.S_ISSOCK(mode)
        held: list[bytes] = []
        size = 0
        while True:
            if waits:
                await anyio.wait_readable(descriptor)
                data = os.read(descriptor, PIECE)
            else:
                data = await anyio.to_thread.run_sync(os.read, descriptor, PIECE)
            held.append(data)
            size += len(data)
            if size >= PIECE or (not data and size):
                yield b"".join(held)
                held, size = [], 0
            if not data:
                return
    except OSError as exc:
        raise unreadable(name, exc) from exc
