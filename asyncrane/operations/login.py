"""Credentials as the user keeps them: writing them down, forgetting them, looking them up, trading them for a token."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from asyncrane.auth.credentials import Credential
from asyncrane.auth.dockerconfig import normalise
from asyncrane.auth.keychain import DefaultKeychain
from asyncrane.auth.login import Kept
from asyncrane.auth.login import login as _login
from asyncrane.auth.login import logout as _logout
from asyncrane.errors import InvalidInput, Unauthorized
from asyncrane.oci.reference import Repository, parse_registry
from asyncrane.session import Session
from asyncrane.transport.challenge import pull_scope, push_scope


async def login(registry: str, username: str, password: str, *, environ: Mapping[str, str] | None = None) -> Kept:
    """Keep a credential for ``registry``, with the helper its file names or in the file. The registry is not asked.

    :raises InvalidInput: when the user name or the password is empty
    :raises CredentialError: when it cannot be kept
    """
    if not username or not password:
        raise InvalidInput("username and password required")
    return await _login(_host(registry), Credential.of(username, password), environ=environ)


async def logout(registry: str, *, environ: Mapping[str, str] | None = None) -> bool:
    """Forget the credential for ``registry``; ``False`` when there was none, which is fine.

    :raises CredentialError: when the file or the helper cannot be used
    """
    return await _logout(_host(registry), environ=environ)


async def find_credential(registry: str, *, environ: Mapping[str, str] | None = None) -> Credential:
    """Who we are at ``registry[/path]``, as every command here finds out; anonymous when nobody knows.

    :raises CredentialError: when a file or a helper that should know cannot be used
    """
    host, _, path = normalise(registry).partition("/")
    return await DefaultKeychain(environ=environ).find(parse_registry(host), path)


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


def _host(registry: str) -> str:
    return parse_registry(normalise(registry))
