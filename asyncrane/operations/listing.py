"""Listing what there is: the tags of a repository, the repositories of a registry."""

from __future__ import annotations

from collections.abc import AsyncIterator

from asyncrane.oci.reference import Reference, Repository, parse_registry
from asyncrane.registry.listing import catalog as _catalog
from asyncrane.session import Session


async def tags(session: Session, repository: str, *, digest_tags: bool = True) -> AsyncIterator[Reference]:
    """Every tag of ``repository``, in the registry's order, as they arrive.

    Without ``digest_tags`` those that only stand for a digest (``sha256-<hex>...``) are left out.

    :raises NotFound: when there is no such repository
    """
    place = Repository.parse(repository)
    async for tag in session.remote(place).tags():
        if digest_tags or not tag.startswith("sha256-"):
            yield Reference(place, tag)


async def catalog(session: Session, registry: str) -> AsyncIterator[Repository]:
    """Every repository of ``registry`` that we may see, in the registry's order, as they arrive.

    :raises Denied: when the registry does not say (most hosted ones do not)
    """
    host = parse_registry(registry)
    async for path in _catalog(session.origin(host)):
        yield Repository(host, path)
