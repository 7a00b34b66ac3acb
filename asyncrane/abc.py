"""The names everything meets at: where images are (:class:`Site`, :class:`Place`), how they are read and written
(:class:`Source`, :class:`Sink`).

A fake is a small real implementation of these; :mod:`asyncrane.testing.checks` holds what every one must pass.
"""

from __future__ import annotations

import itertools
from collections.abc import AsyncIterator, Callable
from contextlib import AbstractAsyncContextManager
from typing import Protocol, TypeAlias, runtime_checkable

import msgspec

from asyncrane.oci.descriptor import Descriptor
from asyncrane.oci.digest import Digest
from asyncrane.oci.manifest import Manifest

DOUBTED = 4 * 1024 * 1024
"""Bytes from which on a blob is worth a request, to find out whether a registry that did not mount it has it."""

_openings = itertools.count(1)


class Site(msgspec.Struct, frozen=True, order=True, cache_hash=True):
    """One registry (or one directory): what has a speed, a limit and a set of blobs.

    ``name`` is a registry's ``host[:port]`` or a store's path; ``mounts`` says whether one repository of the site can
    take a blob from another without the bytes (distribution-spec, "Mounting a blob from another repository").
    ``opening`` tells one opening of a file or directory from the next: what an engine knows of the one, or has failed
    at there, says nothing of the other.
    """

    name: str
    mounts: bool = False
    opening: int = 0

    @classmethod
    def opened(cls, name: str) -> Site:
        """A file or directory that is opened now."""
        return cls(name, opening=next(_openings))

    def __str__(self) -> str:
        return self.name


class Place(msgspec.Struct, frozen=True, order=True, cache_hash=True):
    """One repository of one site. ``repository`` is empty where a site holds only one."""

    site: Site
    repository: str = ""

    def __str__(self) -> str:
        return f"{self.site.name}/{self.repository}" if self.repository else self.site.name


Stream: TypeAlias = AbstractAsyncContextManager[AsyncIterator[bytes]]
"""Bytes on their way: entering it opens the content, leaving it lets go of the connection."""

Reader: TypeAlias = Callable[[int], Stream]
"""Opens one blob's content at an offset in bytes; may be called again, also to go back."""


@runtime_checkable
class Source(Protocol):
    """A repository-shaped place to read from. Every method may be called by many tasks at once."""

    @property
    def place(self) -> Place:
        """Where this is."""
        ...

    async def resolve(self, identifier: str) -> Descriptor:
        """What a tag or digest names, without its content (one HEAD).

        :raises NotFound: when it names nothing
        """
        ...

    async def manifest(self, identifier: str) -> Manifest:
        """The manifest a tag or digest names, checked against the digest (one GET).

        :raises NotFound: when it names nothing
        :raises ContentError: when the bytes are not that manifest
        """
        ...

    def open(self, blob: Descriptor, *, start: int = 0) -> Stream:
        """The bytes of ``blob`` from offset ``start`` on. A broken connection is resumed here, unnoticed by the reader;
        the digest is the reader's to check.

        :raises NotFound: when it is not there
        """
        ...


@runtime_checkable
class Attached(Protocol):
    """A source that can say what is attached to a manifest."""

    async def attached(self, subject: Digest, *, fallback: bool = True) -> tuple[tuple[Descriptor, ...], bool]:
        """The manifests attached to ``subject``, and whether the place has an API that says so; without one
        ``fallback`` reads the tag that stands in for it (distribution-spec, "Referrers Tag Schema").

        :raises RegistryError: when there is no clear answer: that is not "nothing" (F3)
        """
        ...


@runtime_checkable
class Sink(Protocol):
    """A repository-shaped place to write to. Every method is idempotent and may be called by many tasks at once."""

    @property
    def place(self) -> Place:
        """Where this is."""
        ...

    async def probe(self, identifier: str) -> Descriptor | None:
        """What a tag or manifest digest names here, ``None`` when it names nothing (one HEAD)."""
        ...

    async def has(self, digest: Digest) -> bool:
        """Whether the blob is here (one HEAD)."""
        ...

    async def mount(self, blob: Descriptor, donor: str) -> bool:
        """Take the blob from repository ``donor`` of the same site. ``False`` means "could not": an ordinary path,
        never an error; what the attempt opened is used by the :meth:`put` that follows.
        """
        ...

    async def put(self, blob: Descriptor, read: Reader) -> bool:
        """Store the blob, reading it with ``read``; ``False`` when it was here already and nothing was read.

        Nothing becomes visible unless all bytes arrived and hash to the digest.
        """
        ...

    async def publish(self, manifest: Manifest, tag: str | None = None) -> None:
        """Store the exact bytes of ``manifest`` under its digest, or under ``tag``.

        :raises DigestMismatch: when the other side computed another digest
        """
        ...


@runtime_checkable
class Lister(Protocol):
    """A place that can say what tags it has."""

    def tags(self) -> AsyncIterator[str]:
        """Every tag, in the place's own order, never cut short.

        :raises NotFound: when there is no such repository
        """
        ...


@runtime_checkable
class UploadLedger(Protocol):
    """Remembers uploads that have begun, so that another process can go on with them. Every method is quick."""

    def find(self, place: Place, digest: Digest) -> str | None:
        """Where an unfinished upload of the blob goes on (an absolute URL), ``None`` when there is none."""
        ...

    def note(self, place: Place, digest: Digest, url: str, offset: int) -> None:
        """The upload goes on at ``url``; the registry has confirmed ``offset`` bytes."""
        ...

    def drop(self, place: Place, digest: Digest) -> None:
        """The upload has ended, in one way or the other."""
        ...
