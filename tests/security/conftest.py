"""Registries that want to know who asks, and the program with the credentials for them."""

from __future__ import annotations

import base64
import json
from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from asyncrane.server import PlainUsers, TokenAuth
from asyncrane.testing import FaultyRegistry
from tests.cli.conftest import Program

PASSWORD = "hunter2-correct-horse"
BASIC = base64.b64encode(f"me:{PASSWORD}".encode()).decode()


class Guarded:
    """Two registries with token services, each with its own kind of credential, and the file that has both."""

    def __init__(self, source: FaultyRegistry, destination: FaultyRegistry, identity: str) -> None:
        self.source = source
        self.destination = destination
        self.identity = identity

    @property
    def config(self) -> str:
        """As ``config.json`` or ``DOCKER_AUTH_CONFIG``: a password for one, an identity token for the other."""
        auths = {self.source.address: {"auth": BASIC}, self.destination.address: {"identitytoken": self.identity}}
        return json.dumps({"auths": auths, "HttpHeaders": {"X-Meta-Key": "header-" + PASSWORD}})

    def secrets(self) -> set[str]:
        """What must be seen nowhere: what is in the file, and every token that was got for it and shown."""
        shown = {request.headers.get("Authorization", "") for registry in self.both for request in registry.log}
        tokens = {value.partition(" ")[2] for value in shown} - {""}
        signatures = {request.query for request in self.source.log if "X-Signature" in request.query}
        return {PASSWORD, BASIC, self.identity, *tokens, *signatures}

    @property
    def both(self) -> tuple[FaultyRegistry, FaultyRegistry]:
        return self.source, self.destination


@pytest.fixture
async def guarded() -> AsyncIterator[Guarded]:
    """The source answers with signed URLs of another host, the destination with upload locations that change."""
    users = PlainUsers({"me": PASSWORD})
    auth = TokenAuth(users)
    async with (
        FaultyRegistry(auth=TokenAuth(users), storage_host=True) as source,
        FaultyRegistry(auth=auth, locations="opaque") as destination,
    ):
        yield Guarded(source, destination, auth.refresh_token("me"))


@pytest.fixture
def program(tmp_path: Path) -> Program:
    return Program(tmp_path / "home")
