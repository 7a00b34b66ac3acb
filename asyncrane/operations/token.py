"""Trading who we are for a bearer token, for use by hand."""

from __future__ import annotations

from collections.abc import Sequence

from asyncrane.errors import InvalidInput, Unauthorized
from asyncrane.oci.reference import Repository
from asyncrane.session import Session
from asyncrane.transport.challenge import pull_scope, push_scope


async def token(session: Session, repository: str, *, push: bool = False, mounts: Sequence[str] = ()) -> str:
    """A bearer token to pull from ``repository`` (and push), and to pull from ``mounts`` of the same registry.

    :raises Unauthorized: when the registry gives none, or asks for none
    """
    place = Repository.parse(repository)
    scope = push_scope(place.path) if push else pull_scope(place.path)
    scopes = [scope, *(pull_scope(_beside(place, other)) for other in mounts)]
    found = await session.origin(place.registry, writing=push).token(scopes)
    if not found.value:
        raise Unauthorized(f"{place.registry} gives no bearer tokens")
    return found.value


def _beside(place: Repository, other: str) -> str:
    """The path of a repository, given in full or as it is called at the registry of ``place``.

    :raises InvalidInput: when it is of another registry
    """
    host, slash, _ = other.partition("/")
    if not slash or not ("." in host or ":" in host or host == "localhost"):
        return Repository.parse(f"{place.registry}/{other}").path
    found = Repository.parse(other)
    if found.registry != place.registry:
        raise InvalidInput(f"{other!r} is not at {place.registry}: blobs are mounted within a registry")
    return found.path
