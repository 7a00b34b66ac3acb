"""Logging in and out: where a credential is put, and how it is taken away again, as docker does it."""

from __future__ import annotations

import os
from collections.abc import Mapping
from pathlib import Path

import msgspec

from asyncrane.auth.credentials import Credential
from asyncrane.auth.dockerconfig import AuthFile, normalise, server_key, write_entry
from asyncrane.auth.helpers import Helpers, program
from asyncrane.auth.locations import home_of, login_file
from asyncrane.errors import CredentialError


class Kept(msgspec.Struct, frozen=True):
    """Where a credential went: into ``file`` itself, or with ``helper`` (a program's name) in the helper's store."""

    file: Path
    helper: str = ""


async def login(
    registry: str,
    credential: Credential,
    *,
    environ: Mapping[str, str] | None = None,
    home: Path | None = None,
    helper_limit: float = 30.0,
) -> Kept:
    """Keep a credential for a registry, in the helper that is configured for it, else in the file.

    The registry is not asked whether it accepts the credential, as in crane.

    :raises CredentialError: when there is nothing to keep, or it cannot be kept
    """
    if credential.anonymous:
        raise CredentialError(f"no credential to keep for {normalise(registry)}")
    environ = os.environ if environ is None else environ
    path, suffix = _place(registry, environ, home)
    if suffix:
        await Helpers(environ=environ, limit=helper_limit).store(suffix, server_key(normalise(registry)), credential)
        write_entry(path, registry, {})  # docker notes the registry without its secret, to list what it knows
        return Kept(path, program(suffix))
    write_entry(path, registry, _entry(credential))
    return Kept(path)


async def logout(
    registry: str,
    *,
    environ: Mapping[str, str] | None = None,
    home: Path | None = None,
    helper_limit: float = 30.0,
) -> bool:
    """Take a registry's credential out of the helper and the file; ``False`` when the file did not know it.

    :raises CredentialError: when the file cannot be changed or the helper fails
    """
    environ = os.environ if environ is None else environ
    path, suffix = _place(registry, environ, home)
    if suffix:
        await Helpers(environ=environ, limit=helper_limit).erase(suffix, server_key(normalise(registry)))
    return write_entry(path, registry, None)


def _place(registry: str, environ: Mapping[str, str], home: Path | None) -> tuple[Path, str]:
    path = login_file(environ, home or home_of(environ))
    if path is None:
        raise CredentialError("no home directory to keep credentials in: set HOME, DOCKER_CONFIG or REGISTRY_AUTH_FILE")
    file = AuthFile.read(path)
    return path, file.helper(normalise(registry)) if file else ""


def _entry(credential: Credential) -> dict[str, str]:
    fields = {
        "auth": credential.basic() if credential.username or credential.password else "",
        "identitytoken": credential.identity_token,
        "registrytoken": credential.registry_token,
    }
    return {name: value for name, value in fields.items() if value}
