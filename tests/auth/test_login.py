"""Logging in and out, as docker would find it afterwards."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from asyncrane.auth.credentials import ANONYMOUS, Credential
from asyncrane.auth.login import Kept, login, logout
from asyncrane.errors import CredentialError
from tests.auth.conftest import User, auth

HOST = "registry.example"


async def test_a_login_is_found_again_and_gone_after_logout(user: User) -> None:
    for credential in (Credential("u", "p:q"), Credential(identity_token="t"), Credential(registry_token="t")):
        assert await login(HOST, credential, environ=user.environ) == Kept(user.docker)
        assert await user.keychain().find(HOST) == credential
    assert await logout(HOST, environ=user.environ)
    assert await user.keychain().find(HOST) == ANONYMOUS
    assert not await logout(HOST, environ=user.environ)


async def test_a_login_goes_to_the_helper_when_one_is_configured(user: User) -> None:
    user.helper("all", {})
    user.write(user.docker, {"credsStore": "all", "auths": {HOST: auth("old", "plain")}})
    kept = await login(HOST, Credential("u", "hunter2"), environ=user.environ)
    assert kept == Kept(user.docker, "docker-credential-all")
    assert json.loads(user.docker.read_text()) == {"credsStore": "all", "auths": {HOST: {}}}
    assert await user.keychain().find(HOST) == Credential("u", "hunter2")
    assert await logout(HOST, environ=user.environ)
    assert json.loads(user.docker.read_text()) == {"credsStore": "all", "auths": {}}
    assert json.loads((user.bin / "all.store").read_text()) == {}


async def test_the_explicit_file_is_the_one_written(user: User, tmp_path: Path) -> None:
    user.environ["REGISTRY_AUTH_FILE"] = str(tmp_path / "auth.json")
    assert (await login("index.docker.io", Credential("u", "p"), environ=user.environ)).file == tmp_path / "auth.json"
    assert not user.docker.exists()
    assert (await user.keychain().find("index.docker.io")).username == "u"


async def test_a_failing_helper_leaves_the_file_alone(user: User) -> None:
    user.script("all", "#!/bin/sh\nexit 1\n")
    user.write(user.docker, {"credsStore": "all"})
    with pytest.raises(CredentialError, match="docker-credential-all store"):
        await login(HOST, Credential("u", "p"), environ=user.environ)
    assert json.loads(user.docker.read_text()) == {"credsStore": "all"}


async def test_nothing_is_no_credential(user: User) -> None:
    with pytest.raises(CredentialError, match="no credential"):
        await login(HOST, ANONYMOUS, environ=user.environ)
