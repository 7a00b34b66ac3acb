"""Image archives: what ``docker save`` writes and ``docker load`` reads, to read from or to write anew."""

from __future__ import annotations

import os
from collections.abc import AsyncIterator
from contextlib import AbstractAsyncContextManager, ExitStack, asynccontextmanager
from os import PathLike
from typing import Literal, overload

import anyio
import anyio.to_thread

from asyncrane.abc import Place, Site
from asyncrane.stores.tarball_opening import STREAM, opened
from asyncrane.stores.tarball_output import Destination
from asyncrane.stores.tarball_reading import ArchiveSource
from asyncrane.stores.tarball_writing import ArchiveSink, Format


@overload
def open_archive(
    path: str | PathLike[str], *, writing: Literal[False] = False
) -> AbstractAsyncContextManager[ArchiveSource]: ...


@overload
def open_archive(
    path: str | PathLike[str], *, writing: Literal[True], form: Format = "tarball"
) -> AbstractAsyncContextManager[ArchiveSink]: ...


@overload
def open_archive(
    path: str | PathLike[str], *, writing: bool, form: Format = "tarball"
) -> AbstractAsyncContextManager[ArchiveSource | ArchiveSink]: ...


def open_archive(
    path: str | PathLike[str], *, writing: bool = False, form: Format = "tarball"
) -> AbstractAsyncContextManager[ArchiveSource | ArchiveSink]:
    """The archive in the file ``path``, plain or compressed; ``-`` is stdin, or stdout.

    One that is written is in place when the context ends without an error; nothing is left of it otherwise, and what
    was there stays, as it does when no image came. A stream gets nothing before that either. ``form`` is crane's.

    :raises NotFound: when there is no such file
    :raises InvalidInput: when it is a directory, or a terminal
    :raises ContentError: when it is no image archive, cut off or damaged
    :raises AsyncraneError: when it cannot be read or written
    """
    return _writing(os.fspath(path), form) if writing else _reading(os.fspath(path))


@asynccontextmanager
async def _reading(path: str) -> AsyncIterator[ArchiveSource]:
    async with opened(path) as archive:
        with ExitStack() as stack:
            source = ArchiveSource(Place(Site.opened(f"docker-archive:{_absolute(path)}")), archive, stack)
            await source.load()
            yield source


def _absolute(path: str) -> str:
    return path if path == STREAM else os.path.realpath(path)


@asynccontextmanager
async def _writing(path: str, form: Format) -> AsyncIterator[ArchiveSink]:
    destination = await anyio.to_thread.run_sync(Destination, path)
    # what an earlier archive of this name had, which the engine remembers, is not in this one
    place = Place(Site.opened(f"docker-archive:{destination.place}"))
    try:
        sink = await anyio.to_thread.run_sync(ArchiveSink, place, destination, form)
        yield sink
        await sink.finish()
    finally:
        with anyio.CancelScope(shield=True):
            await anyio.to_thread.run_sync(destination.close)
