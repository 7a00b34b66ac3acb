"""Registries that nobody here wrote, bare and behind nginx, one after the other, and one of our own to copy from."""

from __future__ import annotations

import os
from collections.abc import AsyncIterator, Iterator, Sequence
from contextlib import ExitStack
from dataclasses import dataclass
from itertools import count
from pathlib import Path
from typing import Any

import pytest

from asyncrane import Credential, FixedKeychain, RegistryView, Session
from asyncrane.testing import FaultyRegistry
from tests.copies.registries import PASSWORD, USER, docker_registry
from tests.servers.nginx import nginx
from tests.servers.programs import crane_registry, distribution

ALL = os.environ.get("ASYNCRANE_FAULTS", "") == "all"
"""Whether the long form is wanted (``make faults``)."""

_names = count(1)


@dataclass(frozen=True)
class Powers:
    """What a server can do besides what all do.

    :param mounts: takes a blob from another of its repositories
    :param untags: deletes a tag and leaves the image
    :param forgets: takes its tags away with a manifest
    :param keeps: an upload that its client left can be gone on with
    :param limit: bytes of the largest request body
    """

    mounts: bool = True
    untags: bool = False
    forgets: bool = True
    keeps: bool = False
    limit: int = 0


@dataclass(frozen=True)
class Server:
    """A registry that listens, and how to get in; :meth:`name` gives a repository no other test uses."""

    kind: str
    address: str
    powers: Powers
    ca: Path | None = None
    password: bool = False

    def name(self, words: str = "app") -> str:
        """A new repository."""
        return f"{self.address}/servers/n{next(_names)}/{words}"

    def session(self, **options: Any) -> Session:
        """A session that gets in."""
        return Session(keychain=self.keychain(), ca=self.ca, **options)

    def keychain(self) -> FixedKeychain:
        """Who we are there."""
        return FixedKeychain(Credential(USER, PASSWORD) if self.password else Credential())

    def view(self, session: Session) -> RegistryView:
        """What went over the wire to it so far."""
        return session.statistics().registries[self.address]


DOCKER = Powers()
DISTRIBUTION = Powers(untags=True, keeps=True)
CRANE = Powers(mounts=False, untags=True, forgets=False)
KINDS = ("docker-registry", "htpasswd", "tls", "nginx-tls", "nginx-limit", "nginx-cache", "distribution-3", "crane")
PROGRAMS = ("docker-registry", "distribution-3", "crane")


def on(*kinds: str) -> pytest.MarkDecorator:
    """Where a test runs in every suite; the long form runs it everywhere."""
    return pytest.mark.parametrize("server", KINDS if ALL else kinds, indirect=True, scope="session")


def on_each(name: str, values: Sequence[str], chosen: Sequence[tuple[str, str]]) -> pytest.MarkDecorator:
    """The same for a test that runs there with several ``values``: ``chosen`` in every suite, all in the long form."""
    pairs = [(kind, value) for kind in KINDS for value in values if ALL or (kind, value) in chosen]
    return pytest.mark.parametrize(("server", name), pairs, indirect=["server"], scope="session")


@pytest.fixture(scope="session", params=KINDS)
def server(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    kind: str = request.param
    base = tmp_path_factory.mktemp(kind)
    with ExitStack() as stack:
        yield _start(kind, base, stack)


def _start(kind: str, base: Path, stack: ExitStack) -> Server:
    if kind == "crane":
        return Server(kind, stack.enter_context(crane_registry(base)), CRANE)
    if kind == "distribution-3":
        real = stack.enter_context(docker_registry(base, program=distribution()))
        return Server(kind, real.address, DISTRIBUTION)
    password = kind == "htpasswd"
    real = stack.enter_context(docker_registry(base / "registry", tls=kind == "tls", password=password))
    if not kind.startswith("nginx"):
        return Server(kind, real.address, DOCKER, real.ca, password)
    tls, limit, cache = (kind == f"nginx-{what}" for what in ("tls", "limit", "cache"))
    proxy = nginx(base / "nginx", real.address, tls=tls, limit="8m" if limit else "0", cache=cache, buffering=not cache)
    powers = Powers(limit=8 * 1024 * 1024) if limit else DOCKER
    front = stack.enter_context(proxy)
    return Server(kind, front.address, powers, front.ca)


@pytest.fixture
async def home() -> AsyncIterator[FaultyRegistry]:
    """The embedded registry: images come from it and go back to it, and it holds what a test wants held."""
    async with FaultyRegistry() as started:
        yield started
