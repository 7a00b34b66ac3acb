"""Listing what there is: the tags of a repository, the repositories of a registry, everything in a tree of them."""

from __future__ import annotations

from collections.abc import AsyncIterator
from datetime import datetime, timedelta
from typing import Any

import msgspec

from asyncrane.abc import Lister
from asyncrane.errors import Failure, JobsFailed
from asyncrane.oci.reference import Repository, is_bare_registry, parse_registry
from asyncrane.operations.places import Places
from asyncrane.registry import tree
from asyncrane.registry.google import EPOCH, Listed, Listing
from asyncrane.registry.listing import catalog as _catalog
from asyncrane.registry.tree import Tree
from asyncrane.session import Session
from asyncrane.stores.locate import Location, parse_repository

_MILLISECOND = timedelta(milliseconds=1)


class Contents(msgspec.Struct, frozen=True):
    """What one repository has: its tags, and where the registry tells (Google's do) its manifests and the names of what
    is below it.
    """

    repository: Repository
    listing: Listing

    def references(self, *, digest_tags: bool = True) -> list[str]:
        """Everything in it by full reference: each manifest by digest, then by its tags (gcrane's ``ls -r``)."""
        found: list[str] = []
        for manifest in self.listing.manifests:
            found.append(str(self.repository.at(manifest.digest)))
            found += [f"{self.repository}:{tag}" for tag in _wanted(manifest.tags, digest_tags=digest_tags)]
        if self.listing.manifests:
            return found
        return [f"{self.repository}:{tag}" for tag in _wanted(self.listing.tags, digest_tags=digest_tags)]

    def fields(self, *, digest_tags: bool = True) -> dict[str, Any]:
        """The same as gcrane's JSON object, as far as it is known."""
        manifests = sorted(self.listing.manifests, key=lambda manifest: str.__str__(manifest.digest))
        return {
            "child": list(self.listing.children),
            "manifest": {str.__str__(one.digest): _described(one, digest_tags=digest_tags) for one in manifests},
            "name": self.repository.path,
            "tags": _wanted(self.listing.tags, digest_tags=digest_tags),
        }


async def tags(session: Session, repository: str, *, digest_tags: bool = True) -> AsyncIterator[Location]:
    """Every tag of ``repository``, in the registry's order, as they arrive; of a layout or archive every name.

    Without ``digest_tags`` those that only stand for a digest (``sha256-<hex>...``) are left out.

    :raises NotFound: when there is no such repository
    """
    location = parse_repository(repository)
    async with Places(session) as places:
        lister: Lister = await places.store(location)
        async for tag in lister.tags():
            if digest_tags or not is_digest_tag(tag):
                yield location.named(tag)


async def contents(session: Session, repository: str, *, recursive: bool = False) -> AsyncIterator[Contents]:
    """What ``repository`` has; with ``recursive`` also every repository below it, by path: the registry tells children,
    or has a catalog; then ``repository`` may be a registry, for all of it.

    :raises NotFound: when there is no such repository, and none below
    :raises RegistryError: when the registry does not tell what is below
    :raises JobsFailed: when some repositories could not be read, after all others
    """
    if recursive and is_bare_registry(repository):
        registry, top = parse_registry(repository.rstrip("/")), ""
    else:
        named = parse_repository(repository).repository
        registry, top = named.registry, named.path
    origin = session.origin(registry)
    found = await tree.read(origin, top) if recursive else Tree(((top, await tree.look(origin, top)),))
    for path, listing in found.repositories:
        yield Contents(Repository(registry, path), listing)
    if found.unread:
        failures = tuple(Failure.of(one.error) for one in found.unread)
        names = ", ".join(f"{registry}/{one.path}{'/**' if one.below else ''}" for one in found.unread[:5])
        message = f"{len(failures)} repositories could not be read: {names}: {failures[0].message}"
        raise JobsFailed(message, failures=failures)


async def catalog(session: Session, registry: str) -> AsyncIterator[Repository]:
    """Every repository of ``registry`` that we may see, in the registry's order, as they arrive.

    :raises Denied: when the registry does not say (most hosted ones do not)
    """
    host = parse_registry(registry)
    async for path in _catalog(session.origin(host)):
        yield Repository(host, path)


def is_digest_tag(tag: str) -> bool:
    """Whether a tag only stands for a digest (crane's rule)."""
    return tag.startswith("sha256-")


def _wanted(names: tuple[str, ...], *, digest_tags: bool) -> list[str]:
    return [tag for tag in names if digest_tags or not is_digest_tag(tag)]


def _described(manifest: Listed, *, digest_tags: bool) -> dict[str, Any]:
    fields = {
        "imageSizeBytes": str(manifest.size) if manifest.size >= 0 else None,
        "mediaType": manifest.media_type,
        "timeCreatedMs": _milliseconds(manifest.created),
        "timeUploadedMs": _milliseconds(manifest.uploaded),
        "tag": _wanted(manifest.tags, digest_tags=digest_tags),
    }
    return {key: value for key, value in fields.items() if value is not None}


def _milliseconds(time: datetime | None) -> str | None:
    return None if time is None else str((time - EPOCH) // _MILLISECOND)
