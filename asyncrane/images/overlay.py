"""The overlay: a source of what edits have made. It holds the new manifests, configs and layers, and knows where the
rest is, so that the engine mounts that, or leaves it where it is.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager

from asyncrane.abc import Place, Site, Source, Stream
from asyncrane.errors import NotFound
from asyncrane.images.view import Blob, View, images, manifests, opaques
from asyncrane.oci.descriptor import Descriptor
from asyncrane.oci.digest import Digest
from asyncrane.oci.manifest import Manifest

_CHUNK = 256 * 1024


def origins(view: View) -> tuple[tuple[Digest, Place], ...]:
    """Where every blob of ``view`` is that is not new, for the engine's jobs. A blob that is in several places is at
    an image's own home, where it may be left if that is the destination, too.
    """
    return tuple((digest, place) for digest, place in _whereabouts(view).items() if isinstance(place, Place))


def _whereabouts(view: View) -> dict[Digest, Blob | Place]:
    """Every blob of ``view``, or where it is."""
    found: dict[Digest, Blob | Place] = {}
    for image in images(view):
        for blob in image.manifest.blobs():
            place = image.origin(blob.digest)
            if place is None:
                found.setdefault(blob.digest, image.added[blob.digest])
            elif place == image.home or not isinstance(found.get(blob.digest), Place):
                found[blob.digest] = place
    for opaque in opaques(view):
        for blob in opaque.manifest.blobs() if opaque.manifest is not None else ():
            found.setdefault(blob.digest, opaque.home)
    return found


class Overlay:
    """A Source of edited images. What one holds is forgotten when it is removed and no other has it.

    :param name: tells it from others of the same session
    :param stores: opens the places where unchanged blobs are
    """

    def __init__(self, name: str, stores: Callable[[Place], Source]) -> None:
        self._place = Place(Site("overlay"), name)
        self._stores = stores
        self._manifests: dict[Digest, Manifest] = {}
        self._blobs: dict[Digest, Blob | Place] = {}
        self._tags: dict[str, Digest] = {}
        self._holders: Counter[Digest] = Counter()

    @property
    def place(self) -> Place:
        """Where this is."""
        return self._place

    def add(self, view: View, *, tag: str | None = None) -> None:
        """Hold ``view``, whose manifests are all at hand."""
        whereabouts = _whereabouts(view)
        self._blobs.update(whereabouts)
        for manifest in manifests(view):
            self._manifests[manifest.digest] = manifest
        self._holders.update({*whereabouts, *(manifest.digest for manifest in manifests(view))})
        if tag is not None:
            self._tags[tag] = view.manifest.digest

    def remove(self, view: View) -> None:
        """Let go of what was added."""
        for digest in {*_whereabouts(view), *(manifest.digest for manifest in manifests(view))}:
            self._holders[digest] -= 1
            if not self._holders[digest]:
                del self._holders[digest]
                self._manifests.pop(digest, None)
                self._blobs.pop(digest, None)

    async def resolve(self, identifier: str) -> Descriptor:
        """What a tag or digest names.

        :raises NotFound: when it names nothing
        """
        return (await self.manifest(identifier)).descriptor

    async def manifest(self, identifier: str) -> Manifest:
        """The manifest a tag or digest names.

        :raises NotFound: when it names nothing
        """
        found = self._manifests.get(self._tags.get(identifier) or Digest(identifier))
        if found is None:
            raise NotFound(f"{self._place}: no manifest {identifier!r}", status=404, codes=("MANIFEST_UNKNOWN",))
        return found

    def open(self, blob: Descriptor, *, start: int = 0) -> Stream:
        """The bytes of ``blob`` from offset ``start`` on, from wherever they are.

        :raises NotFound: when it is part of no image here
        """
        found = self._blobs.get(blob.digest)
        if found is None:
            raise NotFound(f"{self._place}: no blob {blob.digest!s}", status=404, codes=("BLOB_UNKNOWN",))
        if isinstance(found, Place):
            return self._stores(found).open(blob, start=start)
        return _content(found, start) if isinstance(found, bytes) else found(start)

    def __repr__(self) -> str:
        return f"Overlay({self._place.repository!r}, {len(self._manifests)} manifests, {len(self._blobs)} blobs)"


@asynccontextmanager
async def _content(data: bytes, start: int) -> AsyncIterator[AsyncIterator[bytes]]:
    yield _slices(data, start)


async def _slices(data: bytes, start: int) -> AsyncIterator[bytes]:
    for offset in range(start, len(data), _CHUNK):
        yield data[offset : offset + _CHUNK]
