"""Two registries that nobody here wrote, in three ways: plain, with a password, over TLS."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from itertools import count
from pathlib import Path
from typing import Any

import pytest

from asyncrane.auth.credentials import Credential
from asyncrane.auth.keychain import FixedKeychain
from asyncrane.session import Session
from tests.copies.registries import PASSWORD, USER, RealRegistry, docker_registry
from tests.peers import given_registries

_names = count(1)


@dataclass(frozen=True)
class Sides:
    """Where to copy from and to, and how to get in; :meth:`name` gives a repository no other test uses."""

    source: RealRegistry
    destination: RealRegistry
    way: str

    def name(self, side: str) -> str:
        """A new repository of one side."""
        registry = self.source if side == "source" else self.destination
        return f"{registry.address}/test/n{next(_names)}"

    def options(self) -> dict[str, Any]:
        """What a Session needs to get in."""
        keychain = FixedKeychain(Credential(USER, PASSWORD) if self.way == "password" else Credential())
        return {"keychain": keychain, "ca": self.source.ca}

    def session(self) -> Session:
        """A session that gets in."""
        return Session(**self.options())

    def skopeo(self, *sides: str) -> list[str]:
        """The flags skopeo needs to get in, for each of ``src``, ``dest`` or ``""``."""
        flags = []
        for side in sides:
            prefix = f"--{side}-" if side else "--"
            if self.way != "tls":
                flags.append(f"{prefix}tls-verify=false")
            if self.way == "password":
                flags.append(f"{prefix}creds={USER}:{PASSWORD}")
        return flags


@pytest.fixture(scope="session", params=["plain", "password", "tls"])
def sides(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Sides]:
    way: str = request.param
    given = given_registries()
    if given and way == "plain":
        nowhere = Path("/nonexistent")
        yield Sides(RealRegistry(given[0], None, nowhere), RealRegistry(given[1], None, nowhere), way)
        return
    base = tmp_path_factory.mktemp(way)
    if way == "tls":
        with docker_registry(base / "a", tls=True) as only:
            yield Sides(only, only, way)
        return
    with (
        docker_registry(base / "a", password=way == "password") as source,
        docker_registry(base / "b", password=way == "password") as destination,
    ):
        yield Sides(source, destination, way)
