"""Layers that can be read once, on their way: what is small is kept, the rest is uploaded as it arrives."""

from __future__ import annotations

from collections.abc import AsyncIterator, Callable
from contextlib import AsyncExitStack
from pathlib import Path

import anyio
import anyio.to_thread

from asyncrane.abc import Place, Stream
from asyncrane.archive.directory import unreadable
from asyncrane.archive.formats import Packing
from asyncrane.archive.layers import layer_file
from asyncrane.archive.packing import Layer
from asyncrane.archive.spool import Spool
from asyncrane.archive.streaming import goes_as_it_is, in_memory, packed
from asyncrane.errors import ServerFault, TransportError
from asyncrane.oci.descriptor import Descriptor
from asyncrane.oci.digest import Digest
from asyncrane.oci.reference import Repository
from asyncrane.registry.streamed import put_stream
from asyncrane.session import Session

SMALL = 4 * 1024 * 1024
"""Bytes of a compressed layer that are kept: what fits can be looked for, mounted and sent again like any other."""

LARGE = 32 * 1024 * 1024
"""Bytes of a file from which on it is uploaded while it is packed. Knowing its digest before would spare that where it
is there already, and costs packing it twice everywhere else.
"""


class Streams:
    """Reads streams one after the other. ``newest`` is the latest time of a file in a directory, in seconds since 1970;
    what is spooled is gone with ``stack``.
    """

    def __init__(self, session: Session, stack: AsyncExitStack, *, newest: int) -> None:
        self._session = session
        self._stack = stack
        self._newest = newest
        self._turn = anyio.Lock()

    async def layer(self, name: str, packing: Packing | None, target: Place) -> Layer:
        """The stream ``name`` (``-``: stdin) as a layer, packed as ``packing`` says (by default what is not compressed
        becomes gzip), for an image that goes to ``target``. It is stored there while it is read, where that is a
        repository of a registry; elsewhere it is kept in a temporary file.

        :raises InvalidInput: when it cannot be read
        :raises ContentError: when it is no layer; nothing was stored
        :raises AsyncraneError: when it cannot be stored: it cannot be read again
        """
        async with self._turn, packed(name, packing, newest=self._newest) as (packer, pieces):
            head = await _head(pieces)
            if sum(map(len, head)) <= SMALL:
                return packer.layer(in_memory(b"".join(head)))
            content = _joined(head, pieces)
            if not target.site.mounts:
                return packer.layer(await self._spooled(content))
            repository = Repository(target.site.name, target.repository)
            origin = self._session.remote(repository, writing=True).origin
            await put_stream(origin, repository.path, content, lambda: packer.digest)
            return packer.layer(self._reading(target, packer.digest, packer.size), home=target)

    async def file(self, path: Path, packing: Packing | None, target: Place) -> Layer:
        """The tar file ``path`` as a layer, likewise if it is a large one that has to be packed. As it can be read
        again, a broken upload is not its end.

        :raises InvalidInput: when it cannot be read
        :raises ContentError: when it is no layer; nothing was stored
        :raises AsyncraneError: when it cannot be stored
        """
        if target.site.mounts and await anyio.to_thread.run_sync(_is_large, path, packing):
            try:
                return await self.layer(str(path), packing, target)
            except (TransportError, ServerFault):  # what an upload of a known blob does about that has more patience
                pass
        return await layer_file(path, packing)

    async def _spooled(self, content: AsyncIterator[bytes]) -> Callable[[int], Stream]:
        spool = self._stack.enter_context(Spool())
        async for piece in content:
            await anyio.to_thread.run_sync(spool.write, piece)
        return spool.read

    def _reading(self, place: Place, digest: Digest, size: int) -> Callable[[int], Stream]:
        blob = Descriptor("application/octet-stream", digest, size)
        return lambda start: self._session.source(place).open(blob, start=start)


def _is_large(path: Path, packing: Packing | None) -> bool:
    try:
        return path.stat().st_size >= LARGE and not goes_as_it_is(str(path), packing)
    except OSError as exc:
        raise unreadable(path, exc) from exc


async def _head(pieces: AsyncIterator[bytes]) -> list[bytes]:
    """The first pieces: all, or more than :data:`SMALL` bytes."""
    head: list[bytes] = []
    size = 0
    async for piece in pieces:
        head.append(piece)
        size += len(piece)
        if size > SMALL:
            break
    return head


async def _joined(head: list[bytes], rest: AsyncIterator[bytes]) -> AsyncIterator[bytes]:
    while head:
        yield head.pop(0)
    async for piece in rest:
        yield piece
