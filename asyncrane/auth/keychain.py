"""Keychains: from a registry and a repository to the credential to show there."""

from __future__ import annotations

import contextlib
import os
import re
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Protocol, runtime_checkable

from asyncrane.auth.credentials import ANONYMOUS, Credential
from asyncrane.auth.dockerconfig import AuthFile, candidates, normalise, server_key
from asyncrane.auth.google import GoogleCredentials, serves
from asyncrane.auth.helpers import Helpers
from asyncrane.auth.locations import docker_config, home_of, search_order
from asyncrane.errors import CredentialError, InvalidInput
from asyncrane.oci.reference import DOCKER_HUB

_VARIABLE = "ASYNCRANE_AUTH_"


@runtime_checkable
class Keychain(Protocol):
    """Knows who we are. Every method may be called by many tasks at once."""

    async def find(self, registry: str, repository: str = "") -> Credential:
        """The credential for a repository of a registry, :data:`ANONYMOUS` when there is none.

        :raises CredentialError: when a file or a helper that should know cannot be used
        """
        ...

    def forget(self, registry: str, repository: str = "") -> None:
        """The credential was refused: ask again next time. :func:`renew` keeps many tasks from doing so in turn."""
        ...

    def headers(self) -> Mapping[str, str]:
        """Headers to send with every request. They may be secrets."""
        ...


class FixedKeychain:
    """One credential for everything: ``--src-creds``, ``--dst-creds``."""

    def __init__(self, credential: Credential = ANONYMOUS, *, headers: Mapping[str, str] | None = None) -> None:
        self._credential = credential
        self._headers = dict(headers or {})

    async def find(self, registry: str, repository: str = "") -> Credential:
        """The one credential."""
        return self._credential

    def forget(self, registry: str, repository: str = "") -> None:
        """Nothing: there is nobody else to ask."""

    def headers(self) -> Mapping[str, str]:
        """The headers it was made with."""
        return self._headers

    def __repr__(self) -> str:
        return f"FixedKeychain({self._credential!r})"


class DefaultKeychain:
    """What this user has: ``ASYNCRANE_AUTH_<HOST>``, ``REGISTRY_AUTH_FILE``, ``DOCKER_AUTH_CONFIG``, docker's and
    podman's files, and the helpers they name; for Google's registries then what is found as gcrane finds it. The first
    that knows the repository wins.

    So what was said of a registry comes before what a machine is to Google, as in crane; gcrane asks Google's first.
    Where a registry of Google's refuses what a file has (it may be the token of a login an hour ago), Google's are
    tried next.

    Within a file the longest matching key wins (``host/a/b`` before ``host/a`` before ``host``); for one key
    ``credHelpers``, for a whole host ``credsStore``, come before ``auths``. ``<HOST>`` is the registry in upper case
    with ``_`` for everything that is neither letter nor digit. ``helper_limit`` is in seconds.
    """

    def __init__(
        self, *, environ: Mapping[str, str] | None = None, home: Path | None = None, helper_limit: float = 30.0
    ) -> None:
        self._environ = os.environ if environ is None else environ
        self._home = home or home_of(self._environ)
        self._helpers = Helpers(environ=environ, limit=helper_limit)
        self._files: tuple[AuthFile, ...] | None = None
        self._given: dict[tuple[str, str], Credential] = {}
        self._refused: dict[tuple[str, str], Credential] = {}
        self._google = GoogleCredentials(environ=self._environ, home=self._home, limit=helper_limit)

    async def find(self, registry: str, repository: str = "") -> Credential:
        """As :meth:`Keychain.find`."""
        if found := self._from_variable(registry):
            return found
        if self._files is None:
            self._files = tuple(self._read())
        for file in self._files:
            if found := await self._ask(file, registry, repository):
                return await self._better(found, registry, repository) if serves(registry) else found
        return await self._google.find() if serves(registry) else ANONYMOUS

    async def _better(self, found: Credential, registry: str, repository: str) -> Credential:
        """What a file has for one of Google's registries; once that was refused, what Google's own say, if anything."""
        if self._refused.get((registry, repository)) == found:
            with contextlib.suppress(CredentialError):  # the refusal says more
                own = await self._google.find()
                return found if own.anonymous else own
        self._given[registry, repository] = found
        return found

    def forget(self, registry: str, repository: str = "") -> None:
        """Ask helpers again, and read the files again: somebody may have logged in meanwhile (C3)."""
        self._helpers.forget(server_key(normalise(registry)))
        self._helpers.forget(normalise(registry))
        self._files = None
        if serves(registry):
            self._google.forget()
            if (given := self._given.pop((registry, repository), None)) is not None:
                self._refused[registry, repository] = given

    def headers(self) -> Mapping[str, str]:
        """``HttpHeaders`` of docker's ``config.json``, without User-Agent, as in crane.

        :raises CredentialError: when the file cannot be read or understood
        """
        path = docker_config(self._environ, self._home)
        file = AuthFile.read(path) if path else None
        return {name: value for name, value in (file.headers if file else {}).items() if name.lower() != "user-agent"}

    def statistics(self) -> dict[str, int]:
        """As :meth:`Helpers.statistics`."""
        return self._helpers.statistics()

    def __repr__(self) -> str:
        return f"DefaultKeychain({', '.join(map(str, search_order(self._environ, self._home)))})"

    def _from_variable(self, registry: str) -> Credential | None:
        host = normalise(registry)
        for known in (host, "docker.io") if host == DOCKER_HUB else (host,):
            name = variable(known)
            if text := self._environ.get(name):
                try:
                    return Credential.parse(text)
                except InvalidInput as exc:
                    raise CredentialError(f"{name}: {exc}") from exc
        return None

    def _read(self) -> Iterator[AuthFile]:
        """The sources in order. ``DOCKER_AUTH_CONFIG`` counts with or without files (crane needs one for it)."""
        paths = search_order(self._environ, self._home)
        explicit = bool(self._environ.get("REGISTRY_AUTH_FILE"))
        text = self._environ.get("DOCKER_AUTH_CONFIG", "")
        variables = [AuthFile.parse(text.encode(), "DOCKER_AUTH_CONFIG")] if text else []
        files = [file for path in paths if (file := AuthFile.read(path))]
        yield from (*files, *variables) if explicit else (*variables, *files)

    async def _ask(self, file: AuthFile, registry: str, repository: str) -> Credential | None:
        for key in candidates(registry, repository):
            if helper := file.helper(key):
                found = await self._helpers.get(helper, server_key(key))
                if not found.anonymous:
                    return found
            if credential := file.credential(key):
                return credential
        return None


class HostKeychain:
    """What is said of single registries, and ``others`` for all the rest.

    A registry with a credential, or with a helper that is to know it, is never shown anything else.
    """

    def __init__(
        self,
        others: Keychain,
        *,
        credentials: Mapping[str, Credential] | None = None,
        helpers: Mapping[str, str] | None = None,
        environ: Mapping[str, str] | None = None,
        helper_limit: float = 30.0,
    ) -> None:
        self._others = others
        self._credentials = dict(credentials or {})
        self._helpers = dict(helpers or {})
        self._programs = Helpers(environ=environ, limit=helper_limit)

    async def find(self, registry: str, repository: str = "") -> Credential:
        """As :meth:`Keychain.find`."""
        if (known := self._credentials.get(registry)) is not None:
            return known
        if (helper := self._helpers.get(registry)) is not None:
            return await self._programs.get(helper, server_key(registry))
        return await self._others.find(registry, repository)

    def forget(self, registry: str, repository: str = "") -> None:
        """The helper is asked again; a credential that was written down is what it is."""
        if registry in self._helpers:
            self._programs.forget(server_key(registry))
        elif registry not in self._credentials:
            self._others.forget(registry, repository)

    def headers(self) -> Mapping[str, str]:
        """Those of ``others``."""
        return self._others.headers()

    def statistics(self) -> dict[str, int]:
        """As :meth:`Helpers.statistics`."""
        return self._programs.statistics()

    def __repr__(self) -> str:
        return f"HostKeychain({', '.join(sorted({*self._credentials, *self._helpers}))}, {self._others!r})"


def variable(registry: str) -> str:
    """The name of the environment variable for a registry: ``ASYNCRANE_AUTH_REGISTRY_EXAMPLE_COM_5000``."""
    return _VARIABLE + re.sub(r"[^A-Z0-9]", "_", registry.upper())


async def renew(keychain: Keychain, refused: Credential, registry: str, repository: str = "") -> Credential:
    """The credential to try after ``refused``; of many tasks that were refused together only one asks anew (C3).

    Returns ``refused`` itself when the keychain knows no better.
    """
    current = await keychain.find(registry, repository)
    if current == refused:
        keychain.forget(registry, repository)
        current = await keychain.find(registry, repository)
    return current
