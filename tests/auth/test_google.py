"""Who we are to Google's registries: files, the metadata server, gcloud, in gcrane's order."""

from __future__ import annotations

import json
import sys
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import anyio
import pytest
from aiohttp import web
from cryptography.hazmat.primitives import serialization
from cryptography.hazmat.primitives.asymmetric import rsa

from asyncrane.auth.credentials import ANONYMOUS, Credential
from asyncrane.auth.google import GoogleCredentials, serves
from asyncrane.auth.keychain import DefaultKeychain, renew
from asyncrane.errors import CredentialError
from asyncrane.server.app import serving
from tests.auth.conftest import User, auth

_GCLOUD = """#!{python} -IS
import os, sys, time
folder = os.path.dirname(os.path.abspath(sys.argv[0]))
with open(os.path.join(folder, "gcloud.log"), "a") as log:
    log.write(" ".join(sys.argv[1:]) + "\\n")
{body}
"""


def gcloud(user: User, token: str = "of-gcloud", *, minutes: float = 60, body: str = "") -> None:
    """Put a gcloud on PATH that answers with ``token``, or does ``body``."""
    ends = (datetime.now(UTC) + timedelta(minutes=minutes)).strftime("%Y-%m-%dT%H:%M:%SZ")
    said = json.dumps({"credential": {"access_token": token, "token_expiry": ends}})
    path = user.bin / "gcloud"
    path.write_text(_GCLOUD.format(python=sys.executable, body=body or f"print({said!r})"))
    path.chmod(0o755)


def runs(user: User) -> list[str]:
    log = user.bin / "gcloud.log"
    return log.read_text().splitlines() if log.exists() else []


def google(user: User, **environ: str) -> GoogleCredentials:
    elsewhere = user.home / "no firmware"
    return GoogleCredentials(environ={**user.environ, **environ}, home=user.home, limit=20, product=elsewhere)


@asynccontextmanager
async def answering(said: Any, *, flavor: str = "Google", status: int = 200) -> AsyncIterator[tuple[str, list[str]]]:
    """A metadata server, or one that takes keys for tokens; its address, and what it was asked."""
    asked: list[str] = []

    async def answer(request: web.Request) -> web.Response:
        asked.append(f"{request.method} {request.path} {request.headers.get('Metadata-Flavor', '')}".rstrip())
        headers = {"Metadata-Flavor": flavor} if flavor else {}
        return web.json_response(said, status=status, headers=headers)

    app = web.Application()
    app.router.add_route("*", "/{path:.*}", answer)
    async with serving(app, grace=0.2) as address:
        yield address, asked


def service_account(path: Path, token_uri: str) -> str:
    """A key file with a key that nobody has; returns its text."""
    key = rsa.generate_private_key(public_exponent=65537, key_size=2048)
    pem = key.private_bytes(
        serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption()
    ).decode()
    fields = {
        "type": "service_account",
        "client_email": "robot@project.example",
        "private_key_id": "1",
        "private_key": pem,
        "token_uri": token_uri,
    }
    path.write_text(json.dumps(fields))
    return path.read_text()


@pytest.mark.parametrize(
    ("registry", "google_serves"),
    [
        ("gcr.io", True),
        ("eu.gcr.io", True),
        ("europe-west1-docker.pkg.dev", True),
        ("pkg.dev", False),
        ("evilgcr.io", False),
        ("gcr.io.example", False),
        ("registry.example", False),
    ],
)
def test_googles_hosts_are_known_by_their_names(registry: str, *, google_serves: bool) -> None:
    """Nobody else is shown a token for Google's."""
    assert serves(registry) is google_serves


async def test_without_anything_we_are_nobody(user: User) -> None:
    assert await google(user).find() == ANONYMOUS


async def test_gcloud_is_asked_once_for_all_and_again_when_its_token_ends(user: User) -> None:
    gcloud(user)
    credentials = google(user)
    async with anyio.create_task_group() as tasks:
        for _ in range(20):
            tasks.start_soon(credentials.find)
    assert await credentials.find() == Credential(username="_token", password="of-gcloud")
    assert runs(user) == ["config config-helper --force-auth-refresh --format=json(credential)"]
    gcloud(user, "ending", minutes=0.5)
    credentials.forget()
    assert (await credentials.find()).password == "ending"
    gcloud(user, "next")
    assert (await credentials.find()).password == "next"
    assert len(runs(user)) == 3


async def test_a_gcloud_that_nobody_is_logged_in_to_is_no_error(user: User) -> None:
    gcloud(user, body="sys.exit(1)")
    assert await google(user).find() == ANONYMOUS


@pytest.mark.parametrize("body", ["print('hello')", "print('{\"credential\": {}}')"])
async def test_what_gcloud_says_is_not_shown_when_it_makes_no_sense(user: User, body: str) -> None:
    gcloud(user, body=body)
    with pytest.raises(CredentialError, match="the answer is not JSON with a token"):
        await google(user).find()


async def test_a_gcloud_that_hangs_is_killed(user: User) -> None:
    gcloud(user, body="time.sleep(600)")
    credentials = GoogleCredentials(environ=user.environ, home=user.home, limit=0.5, product=user.home / "none")
    with pytest.raises(CredentialError, match=r"gcloud .*no answer within 0.5 s, killed"):
        await credentials.find()


async def test_the_metadata_server_comes_before_gcloud(user: User) -> None:
    gcloud(user)
    async with answering({"access_token": "of-machine", "expires_in": 3000, "token_type": "Bearer"}) as (at, asked):
        credentials = google(user, GCE_METADATA_HOST=at)
        assert await credentials.find() == Credential(username="_token", password="of-machine")
        assert (await credentials.find()).password == "of-machine"
    assert asked == ["GET /computeMetadata/v1/instance/service-accounts/default/token Google"]
    assert runs(user) == []


@pytest.mark.parametrize("given", [{"flavor": ""}, {"status": 404}])
async def test_a_machine_without_an_account_and_somebody_elses_server_are_passed_over(
    user: User, given: dict[str, Any]
) -> None:
    gcloud(user)
    async with answering({"access_token": "x", "expires_in": 3000}, **given) as (at, _):
        assert (await google(user, GCE_METADATA_HOST=at).find()).password == "of-gcloud"


async def test_firmware_says_whose_machine_it_is(user: User, tmp_path: Path) -> None:
    """Elsewhere the metadata server's address is not tried: there it may be anybody's, or swallow packets."""
    product = tmp_path / "product_name"
    product.write_text("Google Compute Engine\n")
    credentials = GoogleCredentials(environ=user.environ, product=product)
    assert credentials._is_at_google()
    product.write_text("Standard PC\n")
    assert not credentials._is_at_google()


async def test_a_key_is_taken_for_a_token(user: User, tmp_path: Path) -> None:
    pytest.importorskip("google.auth.transport.requests")
    gcloud(user)
    async with answering({"access_token": "of-key", "expires_in": 3000}) as (at, asked):
        service_account(tmp_path / "key.json", f"http://{at}/token")
        found = await google(user, GOOGLE_APPLICATION_CREDENTIALS=str(tmp_path / "key.json")).find()
    assert found == Credential(username="_token", password="of-key")
    assert asked == ["POST /token"]


async def test_what_a_login_left_comes_before_gcloud_while_it_is_good(user: User) -> None:
    pytest.importorskip("google.auth.transport.requests")
    gcloud(user)
    left = user.home / ".config" / "gcloud" / "application_default_credentials.json"
    left.parent.mkdir(parents=True)
    async with answering({"access_token": "of-login", "expires_in": 3000}) as (at, _):
        service_account(left, f"http://{at}/token")
        assert (await google(user).find()).password == "of-login"
    async with answering({"error": "invalid_grant"}, status=400) as (at, _):
        service_account(left, f"http://{at}/token")
        assert (await google(user).find()).password == "of-gcloud"
        key = {"GOOGLE_APPLICATION_CREDENTIALS": str(left)}
        with pytest.raises(CredentialError, match="invalid_grant"):
            await google(user, **key).find()


async def test_a_key_goes_as_it_is_where_nothing_can_exchange_it(
    user: User, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Without the extra: registries take keys themselves; other files need it."""
    for name in ("google.auth", "google.auth.exceptions", "google.auth.transport.requests"):
        monkeypatch.setitem(sys.modules, name, None)
    path = tmp_path / "key.json"
    text = service_account(path, "http://127.0.0.1:9/token")
    found = await google(user, GOOGLE_APPLICATION_CREDENTIALS=str(path)).find()
    assert found == Credential(username="_json_key", password=text)
    path.write_text(json.dumps({"type": "authorized_user", "refresh_token": "secret"}))
    with pytest.raises(CredentialError, match=r"\(authorized_user\) needs google-auth: pip install") as raised:
        await google(user, GOOGLE_APPLICATION_CREDENTIALS=str(path)).find()
    assert "secret" not in str(raised.value)


@pytest.mark.parametrize(
    ("content", "says"),
    [(None, "No such file"), ("{", "not JSON"), ("[]", "no Google credentials"), ("{}", "no Google")],
)
async def test_a_named_file_of_no_use_is_an_error(user: User, tmp_path: Path, content: str | None, says: str) -> None:
    path = tmp_path / "key.json"
    if content is not None:
        path.write_text(content)
    with pytest.raises(CredentialError, match=says):
        await google(user, GOOGLE_APPLICATION_CREDENTIALS=str(path)).find()


async def test_files_of_docker_come_first_and_other_registries_never_see_a_token(user: User) -> None:
    """Somebody who has logged in to gcr.io means that login."""
    gcloud(user)
    user.write(user.docker, {"auths": {"eu.gcr.io": auth("me", "mine")}})
    chain = DefaultKeychain(environ=user.environ, home=user.home)
    chain._google._product = user.home / "no firmware"
    assert (await chain.find("eu.gcr.io", "p/app")).username == "me"
    assert (await chain.find("registry.example", "p/app")) == ANONYMOUS
    assert runs(user) == []
    assert (await chain.find("us-docker.pkg.dev", "p/app")).password == "of-gcloud"
    chain.forget("registry.example")
    assert (await chain.find("gcr.io")).password == "of-gcloud"
    assert len(runs(user)) == 1
    chain.forget("gcr.io")
    await chain.find("gcr.io")
    assert len(runs(user)) == 2


async def test_what_a_file_has_and_google_refuses_gives_way_to_googles_own(user: User) -> None:
    """``docker login -u oauth2accesstoken`` is good for an hour, and its file stays; gcrane asks Google's own first."""
    gcloud(user)
    user.write(user.docker, {"auths": {"eu.gcr.io": auth("oauth2accesstoken", "old"), "other.io": auth("me", "mine")}})
    chain = DefaultKeychain(environ=user.environ, home=user.home)
    chain._google._product = user.home / "no firmware"
    refused = await chain.find("eu.gcr.io", "p/app")
    assert (refused.password, runs(user)) == ("old", [])
    assert (await renew(chain, refused, "eu.gcr.io", "p/app")).password == "of-gcloud"
    assert (await chain.find("eu.gcr.io", "p/app")).password == "of-gcloud"
    assert (await renew(chain, refused, "eu.gcr.io", "p/app")).password == "of-gcloud"
    assert len(runs(user)) == 1
    mine = await chain.find("other.io")
    assert await renew(chain, mine, "other.io") == mine
    user.write(user.docker, {"auths": {"eu.gcr.io": auth("oauth2accesstoken", "new")}})
    chain.forget("eu.gcr.io", "p/app")
    assert (await chain.find("eu.gcr.io", "p/app")).password == "new"


async def test_a_refusal_stands_where_google_knows_nobody(user: User) -> None:
    gcloud(user, body="print('no JSON')")
    user.write(user.docker, {"auths": {"eu.gcr.io": auth("me", "wrong")}})
    chain = DefaultKeychain(environ=user.environ, home=user.home)
    chain._google._product = user.home / "no firmware"
    refused = await chain.find("eu.gcr.io", "p/app")
    assert await renew(chain, refused, "eu.gcr.io", "p/app") == refused
    assert len(runs(user)) == 1
