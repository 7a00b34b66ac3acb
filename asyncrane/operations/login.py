"""Credentials as the user keeps them: writing them down, forgetting them and looking them up."""

from __future__ import annotations

from collections.abc import Mapping

from asyncrane.auth.credentials import Credential
from asyncrane.auth.dockerconfig import normalise
from asyncrane.auth.keychain import DefaultKeychain
from asyncrane.auth.login import Kept
from asyncrane.auth.login import login as _login
from asyncrane.auth.login import logout as _logout
from asyncrane.errors import InvalidInput
from asyncrane.oci.reference import parse_registry


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


def _host(registry: str) -> str:
    return parse_registry(normalise(registry))
