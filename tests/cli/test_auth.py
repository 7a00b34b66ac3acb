"""``auth``: credentials are kept where docker keeps them, and found again."""

from __future__ import annotations

import base64
import json

import pytest

from asyncrane.server import PlainUsers, TokenAuth
from asyncrane.testing import FaultyRegistry
from tests.cli.conftest import Program, run
from tests.peers import require

HOST = "registry.example.com"


async def test_login_get_logout(program: Program) -> None:
    config = program.home / ".docker" / "config.json"
    ended = await program("auth", "login", HOST, "-u", "me", "--password-stdin", stdin="hunter2\n")
    assert (ended.code, ended.out) == (0, b""), ended.err
    assert ended.err.splitlines()[-1] == f"logged in via {config}"
    assert "hunter2" not in ended.err
    assert json.loads(config.read_text())["auths"][HOST]["auth"] == base64.b64encode(b"me:hunter2").decode()
    assert (await program("auth", "get", HOST)).text == '{"Username":"me","Secret":"hunter2"}\n'
    assert (await program("auth", "get", stdin=f"{HOST}\n")).text == '{"Username":"me","Secret":"hunter2"}\n'
    gone = await program("auth", "logout", HOST)
    assert (gone.code, gone.out) == (0, b"")
    again = await program("auth", "get", HOST)
    assert (again.code, again.text) == (1, "credentials not found in native keychain\n")
    assert (await program("auth", "logout", HOST)).code == 0


async def test_crane_finds_what_we_keep_and_we_what_crane_keeps(program: Program) -> None:
    crane = str(require("crane"))
    assert (await program("auth", "login", "a.example.com", "-u", "me", "-p", "one")).code == 0
    login = await run([crane, "auth", "login", "b.example.com", "-u", "you", "-p", "two"], program.environ)
    assert login.code == 0
    for host in ("a.example.com", "b.example.com"):
        ours = await program("auth", "get", host)
        theirs = await run([crane, "auth", "get", host], program.environ)
        assert ours.out == theirs.out


@pytest.mark.parametrize("words", [["-u", "me"], ["-p", "x"], ["-u", "me", "-p", "x", "--password-stdin"]])
async def test_half_a_login_is_refused(program: Program, words: list[str]) -> None:
    ended = await program("auth", "login", HOST, *words)
    assert ended.code == 2
    assert ended.error
    assert not (program.home / ".docker").exists()


async def test_a_token_is_printed_as_json_or_header(program: Program) -> None:
    async with FaultyRegistry(auth=TokenAuth(PlainUsers({"me": "secret"}))) as registry:
        environ = {
            "DOCKER_AUTH_CONFIG": json.dumps({"auths": {registry.address: {"username": "me", "password": "secret"}}})
        }
        words = ("auth", "token", f"{registry.address}/a", "--push", "-m", "b,c")
        printed = await program(*words, **environ)
        assert printed.code == 0, printed.err
        assert json.loads(printed.text)["token"]
        header = await program(*words, "-H", **environ)
        assert header.text.startswith("Authorization: Bearer ")
        assert not header.text.endswith("\n")


async def test_a_registry_without_tokens_gives_none(program: Program, registry: FaultyRegistry) -> None:
    ended = await program("auth", "token", f"{registry.address}/a")
    assert ended.code == 4
    assert "no bearer tokens" in ended.error
