"""An OCI image layout in a directory, as a Source, a Sink and a Lister (image-spec, image-layout.md).

Many may write into one layout at once, also from other processes (A7). An image is in ``index.json`` when all of it is
there, and not before. What is published without a tag is part of something else, or is listed without a name when the
layout is closed.
"""

from __future__ import annotations

import contextlib
from collections.abc import AsyncIterator, Callable, Collection, Iterator
from contextlib import asynccontextmanager
from os import PathLike
from pathlib import Path
from types import TracebackType
from typing import Self

import anyio
import anyio.to_thread

from asyncrane.abc import Place, Reader, Site
from asyncrane.errors import AsyncraneError, ContentError, Interrupted, RegistryError
from asyncrane.oci import media
from asyncrane.oci.descriptor import Descriptor
from asyncrane.oci.digest import Digest
from asyncrane.oci.manifest import Manifest
from asyncrane.stores.contents import Contents
from asyncrane.stores.files import Extent, Incoming, write_whole
from asyncrane.stores.imageindex import ImageIndex
from asyncrane.stores.layoutfiles import (
    Lease,
    blob_path,
    change_index,
    check_destination,
    check_layout,
    index_version,
    read_index,
)


@asynccontextmanager
async def open_layout(
    path: str | PathLike[str], *, writing: bool = False, earlier: Callable[[Digest], bool] | None = None
) -> AsyncIterator[Layout]:
    """The layout in the directory ``path``. With ``writing`` it is made when the first thing is written, and nothing is
    left of it when no image came. Blobs that ``earlier`` knows (in a thread) are left out when it is written.

    :raises NotFound: when there is no such directory
    :raises ContentError: when it is no layout, or holds other things
    """
    layout = Layout(path, earlier=earlier)
    await anyio.to_thread.run_sync(check_destination if writing else check_layout, layout.path)
    async with layout:
        yield layout


class Layout(Contents):
    """The layout in the directory ``path``: :func:`open_layout` checks it first. Close it when something was written:
    ``async with``, or :meth:`finish`.

    A tag is the ``org.opencontainers.image.ref.name`` of an entry, and may be any text here. An existing blob is taken
    for what it should be when its size is right; its digest is checked by whoever reads it.
    """

    def __init__(
        self,
        path: str | PathLike[str],
        *,
        place: Place | None = None,
        earlier: Callable[[Digest], bool] | None = None,
    ) -> None:
        self._root = Path(path).resolve()
        self._earlier = earlier or _nothing
        super().__init__(place or Place(Site.opened(f"oci:{self._root}")), str(self._root))
        self._known: tuple[tuple[int, ...], ImageIndex] | None = None
        self._lease: Lease | None = None
        self._opening = anyio.Lock()
        self._work = _Work(str(self._root))
        self._changes = _Changes(self._root)
        self._loose: dict[Digest, Descriptor] = {}
        self._parts: set[Digest] = set()

    @property
    def path(self) -> Path:
        """The directory."""
        return self._root

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if error is None:
            await self.finish()
        else:
            await self.close()

    async def finish(self) -> None:
        """List the images that were published without a tag, and close.

        :raises AsyncraneError: when ``index.json`` cannot be written
        """
        try:
            loose = [found for digest, found in self._loose.items() if digest not in self._parts]
            if loose:
                self._loose = {}
                await anyio.to_thread.run_sync(self._list, loose)
        finally:
            await self.close()

    async def close(self) -> None:
        """End what is being written and let others have the layout. Nothing is left of a new one without an image."""
        with anyio.CancelScope(shield=True):
            await self._work.stop()
            lease, self._lease = self._lease, None
            if lease is not None:
                await anyio.to_thread.run_sync(lease.release)

    def settle(self, roots: Collection[Digest]) -> None:
        """Of what was published without a tag only ``roots`` are images of their own; others belong to something that
        failed.
        """
        self._loose = {digest: found for digest, found in self._loose.items() if digest in roots}

    # to read from

    async def index(self) -> ImageIndex:
        """What images there are, now."""
        return await anyio.to_thread.run_sync(self._read_index)

    def extent(self, digest: Digest) -> Extent | None:
        """Open a blob, ``None`` if it is not here; for use in a thread.

        :raises ContentError: when it is a symbolic link
        """
        return Extent.file(blob_path(self._root, digest))

    def _read_index(self) -> ImageIndex:
        version = index_version(self._root)
        if self._known is None or self._known[0] != version:
            self._known = (version, read_index(self._root))
        return self._known[1]

    # to write to

    async def probe(self, identifier: str) -> Descriptor | None:
        """What a tag or manifest digest names here; ``None`` when it names nothing, or nothing that is of any use."""
        return await anyio.to_thread.run_sync(self._probe, identifier)

    async def has(self, digest: Digest) -> bool:
        """Whether the blob is here.

        :raises ContentError: when a symbolic link is
        """
        return await anyio.to_thread.run_sync(self.holds, digest)

    async def mount(self, blob: Descriptor, donor: str) -> bool:
        """There is no other repository here."""
        return False

    async def put(self, blob: Descriptor, read: Reader) -> bool:
        """Store the blob; ``False`` when it was here already and nothing was read.

        :raises ContentError: when the bytes are not the blob
        :raises AsyncraneError: when it cannot be written
        """
        with self._work.part():
            if await anyio.to_thread.run_sync(lambda: self._holds(blob) or self._earlier(blob.digest)):
                return False
            await self._prepare(blob.digest)
            async with Incoming(self._root, blob) as incoming:
                async with read(0) as chunks:
                    async for chunk in chunks:
                        await incoming.write(chunk)
                await incoming.keep(blob_path(self._root, blob.digest))
            return True

    async def publish(self, manifest: Manifest, tag: str | None = None) -> None:
        """Store the exact bytes of ``manifest`` under its digest, and call it ``tag``. What is attached to another
        manifest is listed without a name at once.

        :raises DigestMismatch: when its bytes have another digest
        :raises RegistryError: when something it names is not here
        :raises AsyncraneError: when it cannot be written
        """
        checked = Manifest.read(manifest.body, content_type=manifest.media_type, digest=manifest.digest)
        with self._work.part():
            await self._prepare(checked.digest)
            await anyio.to_thread.run_sync(self._store, checked)
            self._parts.update(child.digest for child in checked.children())
            described = checked.descriptor
            if tag is not None or checked.subject is not None:
                if checked.subject is not None:
                    described = Descriptor(
                        checked.media_type, checked.digest, checked.size, artifact_type=checked.artifact_type
                    )
                await self._changes.make(described, tag)
            else:
                self._loose[checked.digest] = described

    async def _prepare(self, digest: Digest) -> None:
        if self._lease is None:
            async with self._opening:
                if self._lease is None:
                    self._lease = await anyio.to_thread.run_sync(Lease, self._root)
        if digest.algorithm != "sha256":
            await anyio.to_thread.run_sync(self._lease.blob_directory, digest.algorithm)

    def _probe(self, identifier: str) -> Descriptor | None:
        named = self._read_index().named(identifier)
        if named is not None:
            return Descriptor(named.media_type, named.digest, named.size) if self._holds(named) else None
        try:
            digest = Digest.parse(identifier)
            return self.read_manifest(Descriptor("", digest, -1)).descriptor
        except AsyncraneError:  # what is damaged is written again
            return None

    def _holds(self, blob: Descriptor) -> bool:
        extent = self.extent(blob.digest)
        if extent is None:
            return False
        extent.close()
        return blob.size in (-1, extent.size)

    def _store(self, manifest: Manifest) -> None:
        for child in manifest.children():
            if not self.holds(child.digest):
                raise self._incomplete(f"manifest {child.digest!s}")
        for blob in manifest.blobs():
            if media.is_nondistributable(blob.media_type) or self.holds(blob.digest) or self._earlier(blob.digest):
                continue
            raise self._incomplete(f"blob {blob.digest!s}")
        path = blob_path(self._root, manifest.digest)
        extent = Extent.file(path)
        if extent is not None:
            with contextlib.closing(extent):
                if extent.size == manifest.size and extent.read(extent.size) == manifest.body:
                    return
        write_whole(path, manifest.body)

    def _list(self, loose: Collection[Descriptor]) -> None:
        """List images that no other image is known to be made of."""
        parts = set(self._parts_of(self._read_index()))
        change_index(self._root, [(found, None) for found in loose if found.digest not in parts])

    def _parts_of(self, index: ImageIndex) -> Iterator[Digest]:
        waiting = [entry.descriptor for entry in index if entry.descriptor.media_type in media.INDEXES]
        while waiting:
            with contextlib.suppress(RegistryError, ContentError):
                for child in self.read_manifest(waiting.pop()).children():
                    yield child.digest
                    if child.media_type in media.INDEXES:
                        waiting.append(child)

    def _incomplete(self, what: str) -> RegistryError:
        return RegistryError(f"{self._root}: {what} is unknown here", status=400, codes=("MANIFEST_BLOB_UNKNOWN",))

    def __repr__(self) -> str:
        return f"Layout({str(self._root)!r})"


def _nothing(digest: Digest) -> bool:
    """No blob is left out."""
    return False


class _Change:
    __slots__ = ("made", "manifest", "tag")

    def __init__(self, manifest: Descriptor, tag: str | None) -> None:
        self.manifest = manifest
        self.tag = tag
        self.made = False


class _Changes:
    """Changes of ``index.json``. Those that come while one is being made are made together."""

    def __init__(self, root: Path) -> None:
        self._root = root
        self._lock = anyio.Lock()
        self._waiting: list[_Change] = []

    async def make(self, manifest: Descriptor, tag: str | None) -> None:
        mine = _Change(manifest, tag)
        self._waiting.append(mine)
        try:
            async with self._lock:
                if not mine.made:
                    await self._make_all()
        finally:
            if mine in self._waiting:
                self._waiting.remove(mine)

    async def _make_all(self) -> None:
        """Make all that wait; when that fails the others try for themselves."""
        together = list(self._waiting)
        await anyio.to_thread.run_sync(change_index, self._root, [(one.manifest, one.tag) for one in together])
        self._waiting = [one for one in self._waiting if one not in together]
        for one in together:
            one.made = True


class _Work:
    """What is being written, which must end before the directory is let go: it may belong to nobody who waits."""

    def __init__(self, where: str) -> None:
        self._where = where
        self._scopes: set[anyio.CancelScope] = set()
        self._idle = anyio.Event()
        self._stopped = False

    @contextlib.contextmanager
    def part(self) -> Iterator[None]:
        if self._stopped:
            raise Interrupted(f"{self._where} has been closed")
        with anyio.CancelScope() as scope:
            self._scopes.add(scope)
            try:
                yield
            finally:
                self._scopes.discard(scope)
                if not self._scopes:
                    self._idle.set()
        if scope.cancelled_caught:
            raise Interrupted(f"{self._where} was closed before this was written")

    async def stop(self) -> None:
        self._stopped = True
        for scope in self._scopes:
            scope.cancel()
        while self._scopes:
            self._idle = anyio.Event()
            await self._idle.wait()
