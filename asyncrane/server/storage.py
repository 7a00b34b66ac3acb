"""Where a registry keeps things: the :class:`Storage` protocol, and :class:`MemoryStorage`.

Nothing here waits: reads and writes of at most a few hundred kilobytes at a time go straight to memory or to the page
cache, which costs less than handing each of them to a thread.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Protocol

from asyncrane.oci.digest import Digest
from asyncrane.oci.manifest import Manifest
from asyncrane.server.index import Index
from asyncrane.server.reply import Chunk

PIECE = 256 * 1024
"""Bytes read and sent at a time."""


class Incoming(Protocol):
    """The bytes of an upload: a blob nobody can see yet."""

    @property
    def size(self) -> int:
        """Bytes written so far."""
        ...

    def write(self, chunk: bytes) -> None:
        """Append."""
        ...

    def pause(self) -> None:
        """No more bytes for now: let go of what an idle upload needs not hold. :meth:`write` may follow."""
        ...

    def pieces(self, start: int, stop: int) -> Iterator[Chunk]:
        """What was written."""
        ...

    def discard(self) -> None:
        """Forget it all; may be called at any time, also after it was kept."""
        ...


class Storage(Protocol):
    """Content, and the index of it. Names and digests are checked by the caller; content is checked by the caller."""

    @property
    def index(self) -> Index:
        """What is where. Change it only through the methods below."""
        ...

    def incoming(self) -> Incoming:
        """Start an upload."""
        ...

    def keep(self, incoming: Incoming, repository: str, digest: Digest) -> None:
        """Make the upload a blob, at once and whole."""
        ...

    def pieces(self, digest: Digest, start: int, stop: int) -> Iterator[Chunk]:
        """Bytes ``start`` to ``stop`` of a blob."""
        ...

    def link(self, repository: str, digest: Digest) -> None:
        """Put a stored blob into another repository."""
        ...

    def unlink(self, repository: str, digest: Digest) -> None:
        """Take a blob out of a repository that has it; the last one takes the content along."""
        ...

    def manifest(self, repository: str, digest: Digest) -> Manifest:
        """A manifest the index knows."""
        ...

    def put_manifest(self, repository: str, manifest: Manifest) -> None:
        """Store a manifest under its digest."""
        ...

    def delete_manifest(self, repository: str, digest: Digest) -> None:
        """Remove a manifest the index knows, and the tags that name it."""
        ...

    def put_tag(self, repository: str, tag: str, digest: Digest) -> None:
        """Let a tag name a stored manifest."""
        ...

    def delete_tag(self, repository: str, tag: str) -> None:
        """Remove a tag the index knows."""
        ...


class MemoryStorage:
    """Everything in memory, gone with the process."""

    def __init__(self) -> None:
        self.index = Index()
        self._blobs: dict[Digest, bytearray] = {}
        self._manifests: dict[tuple[str, Digest], Manifest] = {}

    def __repr__(self) -> str:
        return f"MemoryStorage({self.index!r})"

    def incoming(self) -> Incoming:
        """Start an upload."""
        return _MemoryIncoming()

    def keep(self, incoming: Incoming, repository: str, digest: Digest) -> None:
        """Make the upload a blob."""
        if not isinstance(incoming, _MemoryIncoming):
            raise TypeError(f"{incoming!r} is another storage's")
        if self.index.stored_size(digest) is None:
            self._blobs[digest] = incoming.data
        self.index.link(repository, digest, incoming.size)

    def pieces(self, digest: Digest, start: int, stop: int) -> Iterator[Chunk]:
        """Bytes of a blob, without a copy."""
        return _cut(self._blobs[digest], start, stop)

    def link(self, repository: str, digest: Digest) -> None:
        """Put a stored blob into another repository."""
        self.index.link(repository, digest, len(self._blobs[digest]))

    def unlink(self, repository: str, digest: Digest) -> None:
        """Take a blob out of a repository that has it."""
        if self.index.unlink(repository, digest):
            del self._blobs[digest]

    def manifest(self, repository: str, digest: Digest) -> Manifest:
        """A manifest the index knows."""
        return self._manifests[repository, digest]

    def put_manifest(self, repository: str, manifest: Manifest) -> None:
        """Store a manifest under its digest."""
        self._manifests[repository, manifest.digest] = manifest
        subject = manifest.subject
        self.index.add_manifest(repository, manifest.digest, manifest.size, subject.digest if subject else None)

    def delete_manifest(self, repository: str, digest: Digest) -> None:
        """Remove a manifest the index knows."""
        self.index.remove_manifest(repository, digest)
        del self._manifests[repository, digest]

    def put_tag(self, repository: str, tag: str, digest: Digest) -> None:
        """Let a tag name a stored manifest."""
        self.index.set_tag(repository, tag, digest)

    def delete_tag(self, repository: str, tag: str) -> None:
        """Remove a tag the index knows."""
        self.index.remove_tag(repository, tag)


class _MemoryIncoming:
    def __init__(self) -> None:
        self.data = bytearray()

    @property
    def size(self) -> int:
        return len(self.data)

    def write(self, chunk: bytes) -> None:
        self.data += chunk

    def pause(self) -> None:
        """Nothing is held but the bytes."""

    def pieces(self, start: int, stop: int) -> Iterator[Chunk]:
        return _cut(self.data, start, stop)

    def discard(self) -> None:
        # A new object: the old one may have become a blob.
        self.data = bytearray()


def _cut(data: bytearray, start: int, stop: int) -> Iterator[Chunk]:
    view = memoryview(data)
    for at in range(start, stop, PIECE):
        yield view[at : min(at + PIECE, stop)]
