"""Repositories in memory: the smallest complete Source and Sink, and the yardstick for the others."""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

from asyncrane.abc import Place, Reader, Site
from asyncrane.errors import DigestMismatch, NotFound, RegistryError, SizeMismatch
from asyncrane.oci import media
from asyncrane.oci.descriptor import Descriptor
from asyncrane.oci.digest import Digest
from asyncrane.oci.manifest import Manifest

_CHUNK = 256 * 1024


class _Contents:
    """What one repository holds."""

    def __init__(self) -> None:
        self.blobs: dict[Digest, bytes] = {}
        self.manifests: dict[Digest, Manifest] = {}
        self.tags: dict[str, Digest] = {}


class MemoryStore:
    """One repository: Source, Sink and Lister. Repositories made by :meth:`sibling` are of the same site, and mount
    from each other.

    It is as strict as a registry: what a manifest names has to be here before the manifest.
    """

    def __init__(self, name: str = "memory", *, repository: str = "", site: dict[str, _Contents] | None = None) -> None:
        self._place = Place(Site(name, mounts=True), repository)
        self._site = site if site is not None else {}
        self._here = self._site.setdefault(repository, _Contents())

    @property
    def place(self) -> Place:
        """Where this is."""
        return self._place

    def sibling(self, repository: str) -> MemoryStore:
        """Another repository of the same site, made when it is first asked for."""
        return MemoryStore(self._place.site.name, repository=repository, site=self._site)

    async def resolve(self, identifier: str) -> Descriptor:
        """What a tag or digest names.

        :raises NotFound: when it names nothing
        """
        return (await self.manifest(identifier)).descriptor

    async def manifest(self, identifier: str) -> Manifest:
        """The manifest a tag or digest names.

        :raises NotFound: when it names nothing
        """
        if (found := self._find(identifier)) is None:
            raise NotFound(f"{self._place}: no manifest {identifier!r}", status=404, codes=("MANIFEST_UNKNOWN",))
        return found

    @asynccontextmanager
    async def open(self, blob: Descriptor, *, start: int = 0) -> AsyncIterator[AsyncIterator[bytes]]:
        """The bytes of ``blob`` from offset ``start`` on.

        :raises NotFound: when it is not there
        """
        if (content := self._here.blobs.get(blob.digest)) is None:
            raise NotFound(f"{self._place}: no blob {blob.digest!s}", status=404, codes=("BLOB_UNKNOWN",))
        yield _slices(content, start)

    async def tags(self) -> AsyncIterator[str]:
        """Every tag, oldest first.

        :raises NotFound: when nothing was ever stored here
        """
        if not (self._here.tags or self._here.manifests or self._here.blobs):
            raise NotFound(f"{self._place}: no such repository", status=404, codes=("NAME_UNKNOWN",))
        for tag in list(self._here.tags):
            yield tag

    async def probe(self, identifier: str) -> Descriptor | None:
        """What a tag or manifest digest names here, ``None`` when it names nothing."""
        found = self._find(identifier)
        return found.descriptor if found else None

    async def has(self, digest: Digest) -> bool:
        """Whether the blob is here."""
        return digest in self._here.blobs

    async def mount(self, blob: Descriptor, donor: str) -> bool:
        """Take the blob from repository ``donor`` of the same site, if it is there."""
        other = self._site.get(donor)
        content = other.blobs.get(blob.digest) if other else None
        if content is None:
            return False
        self._here.blobs[blob.digest] = content
        return True

    async def put(self, blob: Descriptor, read: Reader) -> bool:
        """Store the blob; ``False`` when it was here already and nothing was read.

        :raises SizeMismatch: when there are more or fewer bytes than ``blob`` says
        :raises DigestMismatch: when they hash to another digest
        """
        if blob.digest in self._here.blobs:
            return False
        content = bytearray()
        async with read(0) as chunks:
            async for chunk in chunks:
                content += chunk
        if blob.size not in (-1, len(content)):
            raise SizeMismatch(f"{self._place}: blob {blob.digest!s} has {len(content)} bytes, expected {blob.size}")
        whole = bytes(content)
        actual = Digest.of(whole, blob.digest.algorithm)
        if actual != blob.digest:
            raise DigestMismatch(f"{self._place}: blob {blob.digest!s} arrived as {actual!s}")
        self._here.blobs[blob.digest] = whole
        return True

    async def publish(self, manifest: Manifest, tag: str | None = None) -> None:
        """Store ``manifest`` under its digest and ``tag``.

        :raises DigestMismatch: when its bytes have another digest
        :raises RegistryError: when something it names is not here
        """
        checked = Manifest.read(manifest.body, content_type=manifest.media_type, digest=manifest.digest)
        for child in checked.children():
            if child.digest not in self._here.manifests:
                raise self._incomplete(f"manifest {child.digest!s}")
        for blob in checked.blobs():
            if blob.digest not in self._here.blobs and not media.is_nondistributable(blob.media_type):
                raise self._incomplete(f"blob {blob.digest!s}")
        self._here.manifests[checked.digest] = checked
        if tag is not None:
            self._here.tags[tag] = checked.digest

    def _find(self, identifier: str) -> Manifest | None:
        return self._here.manifests.get(self._here.tags.get(identifier) or Digest(identifier))

    def _incomplete(self, what: str) -> RegistryError:
        return RegistryError(f"{self._place}: {what} is unknown here", status=400, codes=("MANIFEST_BLOB_UNKNOWN",))

    def __repr__(self) -> str:
        counts = f"{len(self._here.tags)} tags, {len(self._here.manifests)} manifests, {len(self._here.blobs)} blobs"
        return f"MemoryStore({str(self._place)!r}, {counts})"


async def _slices(content: bytes, start: int) -> AsyncIterator[bytes]:
    view = memoryview(content)[start:]
    for offset in range(0, len(view), _CHUNK):
        yield bytes(view[offset : offset + _CHUNK])
