"""One repository of a registry, as a Source, a Sink and a Lister."""

from __future__ import annotations

from collections.abc import AsyncIterator

from asyncrane.abc import Place, Reader, Site, Stream, UploadLedger
from asyncrane.oci.descriptor import Descriptor
from asyncrane.oci.digest import Digest
from asyncrane.oci.manifest import Manifest
from asyncrane.oci.reference import Repository
from asyncrane.registry import blobs, listing, manifests
from asyncrane.registry.referrers import announce, attached, referrers
from asyncrane.registry.uploads import Uploads
from asyncrane.transport.challenge import push_scope
from asyncrane.transport.origin import Origin


class Remote:
    """A repository, reached through ``origin``. Use one object for all that is written to it: sessions that a mount
    has opened are used by the puts that follow. Large uploads leave a trail in ``ledger``, and go on from what it has.
    """

    def __init__(
        self,
        origin: Origin,
        repository: Repository,
        *,
        site: Site | None = None,
        ledger: UploadLedger | None = None,
    ) -> None:
        self._origin = origin
        self._path = repository.path
        self._place = Place(site or Site(repository.registry, mounts=True), repository.path)
        self._writing = (push_scope(repository.path),)
        self._uploads = Uploads(origin, repository.path, ledger=ledger)

    @property
    def place(self) -> Place:
        """Where this is."""
        return self._place

    @property
    def origin(self) -> Origin:
        """The registry."""
        return self._origin

    # to read from

    async def resolve(self, identifier: str) -> Descriptor:
        """What a tag or digest names (one HEAD).

        :raises NotFound: when it names nothing
        """
        return await manifests.head(self._origin, self._path, identifier)

    async def manifest(self, identifier: str) -> Manifest:
        """The manifest a tag or digest names, checked against the digest (one GET).

        :raises NotFound: when it names nothing
        :raises ContentError: when the bytes are not that manifest
        """
        return await manifests.fetch(self._origin, self._path, identifier)

    def open(self, blob: Descriptor, *, start: int = 0) -> Stream:
        """The bytes of ``blob`` from offset ``start`` on, resumed when the connection breaks.

        :raises NotFound: when it is not there
        """
        return blobs.read(self._origin, self._path, blob, start=start)

    async def referrers(self, subject: Digest, *, artifact_type: str = "") -> tuple[Descriptor, ...]:
        """The manifests attached to ``subject``, those of ``artifact_type`` if that is given."""
        return await referrers(self._origin, self._path, subject, artifact_type=artifact_type)

    async def attached(self, subject: Digest, *, fallback: bool = True) -> tuple[tuple[Descriptor, ...], bool]:
        """As :meth:`asyncrane.abc.Attached.attached`."""
        return await attached(self._origin, self._path, subject, fallback=fallback)

    # to write to

    async def probe(self, identifier: str) -> Descriptor | None:
        """What a tag or manifest digest names here, ``None`` when it names nothing (one HEAD)."""
        return await manifests.probe(self._origin, self._path, identifier, scopes=self._writing)

    async def has(self, digest: Digest) -> bool:
        """Whether the blob is here (one HEAD)."""
        return await blobs.exists(self._origin, self._path, digest, scopes=self._writing)

    async def mount(self, blob: Descriptor, donor: str) -> bool:
        """Take the blob from repository ``donor`` of the same registry; ``False`` when it could not be had."""
        return await self._uploads.mount(blob, donor)

    async def put(self, blob: Descriptor, read: Reader) -> bool:
        """Store the blob; ``False`` when it was here already and nothing was read.

        :raises ContentError: when the bytes are not the blob
        """
        return await self._uploads.put(blob, read)

    async def publish(self, manifest: Manifest, tag: str | None = None) -> None:
        """Store the exact bytes of ``manifest`` under its digest, or under ``tag``; what it is attached to learns of it
        also where the registry has no referrers API.

        :raises DigestMismatch: when the registry computed another digest
        """
        said = await manifests.push(self._origin, self._path, manifest, tag)
        await announce(self._origin, self._path, manifest, said)

    async def delete(self, identifier: str) -> None:
        """Delete a tag, or by digest a manifest with all its tags.

        :raises NotFound: when it names nothing
        """
        await manifests.delete(self._origin, self._path, identifier)

    async def delete_blob(self, digest: Digest) -> None:
        """Delete a blob.

        :raises NotFound: when it is not here
        """
        await blobs.delete(self._origin, self._path, digest)

    # to list

    def tags(self) -> AsyncIterator[str]:
        """Every tag, in the registry's order, never cut short.

        :raises NotFound: when there is no such repository
        """
        return listing.tags(self._origin, self._path)

    async def tags_page(self, *, writing: bool = False) -> tuple[tuple[str, ...], bool] | None:
        """What one request tells: tags, and whether these are all. ``None`` when there is no such repository.

        ``writing`` asks with the token that is needed to write here afterwards.
        """
        return await listing.tags_page(self._origin, self._path, scopes=self._writing if writing else ())

    def __repr__(self) -> str:
        return f"Remote({str(self._place)!r})"
