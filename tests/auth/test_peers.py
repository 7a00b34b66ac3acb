"""What asyncrane keeps, crane and skopeo find, and the other way round."""

from __future__ import annotations

import json
import subprocess

import pytest

from asyncrane.auth.credentials import ANONYMOUS, Credential
from asyncrane.auth.login import login, logout
from tests import peers
from tests.auth.conftest import User

HOSTS = ("registry.example:5000", "index.docker.io")


def said(user: User, program: str, *arguments: str, package: str = "") -> str:
    command = [str(peers.require(program, package=package)), *arguments]
    ended = subprocess.run(command, env=user.environ, capture_output=True, text=True, timeout=30, check=True)
    return ended.stdout.strip()


@pytest.mark.parametrize("host", HOSTS)
@pytest.mark.parametrize("helper", [False, True], ids=["file", "helper"])
async def test_crane_finds_what_asyncrane_keeps(user: User, host: str, helper: bool) -> None:
    if helper:
        user.helper("all", {})
        user.write(user.docker, {"credsStore": "all"})
    await login(host, Credential("robot", "a:b"), environ=user.environ)
    assert json.loads(said(user, "crane", "auth", "get", host)) == {"Username": "robot", "Secret": "a:b"}


@pytest.mark.parametrize("host", HOSTS)
@pytest.mark.parametrize("helper", [False, True], ids=["file", "helper"])
async def test_asyncrane_finds_what_crane_keeps_and_takes_it_away(user: User, host: str, helper: bool) -> None:
    if helper:
        user.helper("all", {})
        user.write(user.docker, {"credsStore": "all"})
    said(user, "crane", "auth", "login", host, "-u", "robot", "-p", "a:b")
    assert await user.keychain().find(host, "library/x") == Credential("robot", "a:b")
    assert await logout(host, environ=user.environ)
    assert await user.keychain().find(host) == ANONYMOUS


@pytest.mark.parametrize(("host", "called"), [(HOSTS[0], HOSTS[0]), (HOSTS[1], "docker.io")])
async def test_skopeo_finds_what_asyncrane_keeps(user: User, host: str, called: str) -> None:
    """Both in docker's file and in podman's."""
    for file in ("", str(user.podman)):
        user.environ["REGISTRY_AUTH_FILE"] = file
        await login(host, Credential("robot", "a:b"), environ=user.environ)
        assert said(user, "skopeo", "login", "--get-login", called, package="skopeo") == "robot"
        assert await logout(host, environ=user.environ)
