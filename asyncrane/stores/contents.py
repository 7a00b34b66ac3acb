"""What an OCI layout and an OCI archive have in common: how they are read. One says where its blobs are, this does the
rest.
"""

from __future__ import annotations

import contextlib
from abc import ABC, abstractmethod
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

import anyio.to_thread

from asyncrane.abc import Place
from asyncrane.errors import ContentError, InvalidDigest, NotFound, SizeMismatch
from asyncrane.oci import media
from asyncrane.oci.descriptor import Descriptor
from asyncrane.oci.digest import Digest
from asyncrane.oci.manifest import LARGEST, Manifest
from asyncrane.stores.files import Extent
from asyncrane.stores.imageindex import ImageIndex


class Contents(ABC):
    """A Source and a Lister, made of an ``index.json`` and blobs. Images are asked for by digest or by name."""

    def __init__(self, place: Place, where: str) -> None:
        self._place = place
        self._where = where
        self._subjects: dict[Digest, Descriptor | None] = {}

    @property
    def place(self) -> Place:
        """Where this is."""
        return self._place

    @abstractmethod
    async def index(self) -> ImageIndex:
        """What images there are."""

    @abstractmethod
    def extent(self, digest: Digest) -> Extent | None:
        """Open a blob, ``None`` if it is not here; for use in a thread."""

    async def resolve(self, identifier: str) -> Descriptor:
        """What a name or digest names.

        :raises NotFound: when it names nothing, or what it names is not here
        :raises InvalidReference: when it may be several
        """
        digest = _digest(identifier)
        if digest is not None:
            return (await self.manifest(identifier)).descriptor
        found = (await self.index()).find(identifier)
        await anyio.to_thread.run_sync(self._require, found)
        return Descriptor(found.media_type, found.digest, found.size)

    async def manifest(self, identifier: str) -> Manifest:
        """The manifest a name or digest names, checked against the digest.

        :raises NotFound: when it names nothing, or what it names is not here
        :raises InvalidReference: when it may be several
        :raises ContentError: when the bytes are not that manifest
        """
        index = await self.index()
        digest = _digest(identifier)
        found = index.find(identifier) if digest is None else index.digest(digest)
        wanted = found or Descriptor("", Digest(identifier), -1)
        return await anyio.to_thread.run_sync(self.read_manifest, wanted)

    async def sole(self) -> Descriptor:
        """The image that is meant where none is named: the only one.

        :raises NotFound: when there is none
        :raises InvalidReference: when there are several; the message names them
        """
        return (await self.index()).sole()

    @asynccontextmanager
    async def open(self, blob: Descriptor, *, start: int = 0) -> AsyncIterator[AsyncIterator[bytes]]:
        """The bytes of ``blob`` from offset ``start`` on; the digest is the reader's to check.

        :raises NotFound: when it is not here
        :raises ContentError: when it has another size, or is no regular file
        """
        extent = await anyio.to_thread.run_sync(self._require, blob)
        with contextlib.closing(extent):
            yield extent.pieces(start)

    async def tags(self) -> AsyncIterator[str]:
        """What the images are called, in the order of ``index.json``."""
        for name in (await self.index()).names():
            yield name

    async def attached(self, subject: Digest, *, fallback: bool = True) -> tuple[tuple[Descriptor, ...], bool]:
        """The listed manifests that are attached to ``subject``, and those that the tag lists which stands in for a
        registry's API; as :meth:`asyncrane.abc.Attached.attached`.
        """
        index = await self.index()
        found = await anyio.to_thread.run_sync(self._attached, index, subject)
        standing_in = index.named(f"{subject.algorithm}-{subject.hex[:64]}") if fallback else None
        if standing_in is not None:
            found += (await self.manifest(standing_in.digest)).children()
        return tuple({descriptor.digest: descriptor for descriptor in found}.values()), True

    def read_manifest(self, wanted: Descriptor) -> Manifest:
        """The manifest; the media type need not be known. For use in a thread.

        :raises NotFound: when it is not here
        :raises ContentError: when the bytes are not that manifest
        """
        with contextlib.closing(self._require(wanted)) as extent:
            if extent.size > LARGEST:
                raise NotFound(f"{self._where}: {wanted.digest!s} is too large to be a manifest", status=404)
            body = extent.read(extent.size)
        try:
            return Manifest.read(body, content_type=wanted.media_type, digest=wanted.digest)
        except ContentError as exc:
            raise type(exc)(f"{self._where}: {exc}") from exc

    def _require(self, blob: Descriptor) -> Extent:
        extent = self.extent(blob.digest)
        if extent is None:
            raise NotFound(f"{self._where} has no {blob.digest!s}", status=404)
        if blob.size not in (-1, extent.size):
            extent.close()
            raise SizeMismatch(f"{self._where}: {blob.digest!s} has {extent.size} bytes and should have {blob.size}")
        return extent

    def _attached(self, index: ImageIndex, subject: Digest) -> list[Descriptor]:
        return [entry.descriptor for entry in index if self._subject(entry.descriptor) == subject]

    def _subject(self, descriptor: Descriptor) -> Digest | None:
        """What a listed manifest is attached to, if it is here and says so."""
        if descriptor.media_type not in media.MANIFESTS:
            return None
        if descriptor.digest not in self._subjects:
            try:
                self._subjects[descriptor.digest] = self.read_manifest(descriptor).subject
            except (NotFound, ContentError):
                return None
        known = self._subjects[descriptor.digest]
        return known.digest if known is not None else None

    def missing(self, root: Descriptor) -> list[Digest]:
        """What ``root`` names, itself and through what it names, and is not here; layers that images leave elsewhere
        are no loss. For use in a thread.

        :raises ContentError: when a manifest is not what it should be
        """
        gone: dict[Digest, None] = {}
        waiting, seen = [root], {root.digest}
        while waiting:
            wanted = waiting.pop()
            try:
                manifest = self.read_manifest(wanted)
            except NotFound:
                gone[wanted.digest] = None
                continue
            for blob in manifest.blobs():
                if not media.is_nondistributable(blob.media_type) and not self.holds(blob.digest):
                    gone[blob.digest] = None
            for child in manifest.children():
                if child.digest not in seen:
                    seen.add(child.digest)
                    waiting.append(child)
        return list(gone)

    def holds(self, digest: Digest) -> bool:
        """Whether a blob is here; for use in a thread."""
        extent = self.extent(digest)
        if extent is not None:
            extent.close()
        return extent is not None


def _digest(identifier: str) -> Digest | None:
    try:
        return Digest.parse(identifier)
    except InvalidDigest:
        return None
