"""The program at a real registry, as a person uses it: certificates, passwords, names and what it prints."""

from __future__ import annotations

from pathlib import Path

import pytest

from asyncrane.testing import FaultyRegistry
from tests.cli.conftest import Program
from tests.copies.registries import PASSWORD, USER
from tests.promises.images import put, tags
from tests.servers.conftest import Server, on
from tests.servers.samples import made


@pytest.fixture
def program(tmp_path: Path) -> Program:
    return Program(tmp_path / "home")


@on("htpasswd", "tls", "distribution-3")
async def test_copying_listing_and_reading_with_the_program(
    server: Server, home: FaultyRegistry, program: Program
) -> None:
    """Logged in where there is a password, and not let in before."""
    one, there = made("docker-list"), server.name()
    options = ["--ca", str(server.ca)] if server.ca else []
    name = put(home, "app", one, "v1")
    if server.password:
        refused = await program("cp", name, f"{there}:v1", "--progress", "none")
        assert refused.code == 4, refused.err
        login = ["auth", "login", server.address, "-u", USER, "--password-stdin"]
        assert (await program(*login, stdin=PASSWORD)).code == 0

    async def say(*words: str) -> str:
        ended = await program(*words, *options)
        assert ended.code == 0, ended.err
        return ended.text

    await say("cp", name, f"{there}:v1", "--progress", "none")
    assert await say("digest", f"{there}:v1") == f"{one.digest}\n"
    assert (await say("manifest", f"{there}:v1")).encode() == one.manifest.body
    assert await say("ls", there) == "v1\n"
    assert there.partition("/")[2] in (await say("catalog", server.address)).splitlines()
    assert await say("validate", "--remote", f"{there}:v1") == f"PASS: {there}:v1\n"
    await say("cp", "-a", there, f"{home.address}/back", "--progress", "none")
    assert tags(home)["back:v1"] == str(one.digest)
