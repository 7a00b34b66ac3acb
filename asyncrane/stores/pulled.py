"""A repository as it is pulled from: manifests are read once, and blobs may be kept in a directory between runs.

The directory is laid out as the blobs of an OCI layout are (``DIR/blobs/sha256/HEX``), so that it may be one. What is
taken from it is checked first, and fetched again when it is damaged; what comes into it appears when it is whole.
"""

from __future__ import annotations

import contextlib
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path

import anyio
import anyio.to_thread
from anyio.from_thread import check_cancelled

from asyncrane.abc import Place, Site, Source
from asyncrane.oci.descriptor import Descriptor
from asyncrane.oci.digest import Digest
from asyncrane.oci.manifest import Manifest
from asyncrane.stores.files import PIECE, Extent, Incoming, complaining, sweep


class BlobCache:
    """Blobs kept in ``directory``, which is made when the first one comes."""

    def __init__(self, directory: Path) -> None:
        self._directory = directory
        self._swept: set[Path] = set()

    async def find(self, blob: Descriptor) -> Extent | None:
        """The blob, checked, to be closed by whoever got it; ``None`` when it is not here.

        :raises ContentError: when a symbolic link, or no file, stands in its place
        """
        return await anyio.to_thread.run_sync(self._find, blob)

    def _find(self, blob: Descriptor) -> Extent | None:
        path = self._path(blob.digest)
        extent = Extent.file(path)
        if extent is None:
            return None
        if blob.size in (-1, extent.size) and _digest(extent, blob.digest) == blob.digest.hex:
            return extent
        extent.close()
        path.unlink(missing_ok=True)
        return None

    @asynccontextmanager
    async def keeping(self, blob: Descriptor, chunks: AsyncIterator[bytes]) -> AsyncIterator[AsyncIterator[bytes]]:
        """``chunks``, the whole of ``blob``, kept when they have come to their end.

        :raises ContentError: when they are something else
        """
        path = self._path(blob.digest)
        await anyio.to_thread.run_sync(self._prepare, path.parent)
        async with Incoming(path.parent, blob) as incoming:
            yield _kept(chunks, incoming, path)

    def _prepare(self, directory: Path) -> None:
        with complaining(directory):
            directory.mkdir(parents=True, exist_ok=True)
        if directory not in self._swept:
            self._swept.add(directory)
            sweep(directory)

    def _path(self, digest: Digest) -> Path:
        return self._directory / "blobs" / digest.algorithm / digest.hex

    def __repr__(self) -> str:
        return f"BlobCache({str(self._directory)!r})"


def _digest(extent: Extent, digest: Digest) -> str:
    hasher, at = digest.hasher(), 0
    while at < extent.size:
        check_cancelled()
        piece = extent.read(PIECE, at)
        hasher.update(piece)
        at += len(piece)
    return str(hasher.hexdigest())


async def _kept(chunks: AsyncIterator[bytes], incoming: Incoming, path: Path) -> AsyncIterator[bytes]:
    async for chunk in chunks:
        await incoming.write(chunk)
        yield chunk
    await incoming.keep(path)


class PulledSource:
    """The repository ``source``. It is at a place of its own, so that a session can have both."""

    def __init__(self, source: Source, cache: BlobCache | None = None) -> None:
        self._source = source
        self._cache = cache
        self._place = Place(Site(source.place.site.name), source.place.repository)
        self._manifests: dict[str, Manifest] = {}
        self._locks: dict[str, anyio.Lock] = {}

    @property
    def place(self) -> Place:
        """Where this is."""
        return self._place

    async def resolve(self, identifier: str) -> Descriptor:
        """What a tag or digest names.

        :raises NotFound: when it names nothing
        """
        return (await self.manifest(identifier)).descriptor

    async def manifest(self, identifier: str) -> Manifest:
        """The manifest a tag or digest names, the same however often it is asked for.

        :raises NotFound: when it names nothing
        """
        name = str.__str__(identifier)
        async with self._locks.setdefault(name, anyio.Lock()):
            found = self._manifests.get(name)
            if found is None:
                found = self._manifests[name] = await self._source.manifest(identifier)
                self._manifests[str.__str__(found.digest)] = found
        return found

    @asynccontextmanager
    async def open(self, blob: Descriptor, *, start: int = 0) -> AsyncIterator[AsyncIterator[bytes]]:
        """The bytes of ``blob`` from offset ``start`` on, from the cache if it has them.

        :raises NotFound: when it is not there
        """
        extent = await self._cache.find(blob) if self._cache is not None else None
        if extent is not None:
            with contextlib.closing(extent):
                yield extent.pieces(start)
            return
        async with self._source.open(blob, start=start) as chunks:
            if start or self._cache is None:
                yield chunks
                return
            async with self._cache.keeping(blob, chunks) as kept:
                yield kept

    def __repr__(self) -> str:
        return f"PulledSource({self._source!r}, {self._cache!r})"
