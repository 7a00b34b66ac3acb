"""Passwords and tokens: every route asks, the token service answers."""

from __future__ import annotations

import base64
import re
from collections.abc import AsyncIterator
from typing import Any

import aiohttp
import pytest

from asyncrane.oci.digest import Digest
from asyncrane.server import Auth, BasicAuth, MemoryStorage, PlainUsers, Scope, TokenAuth, make_app, serving
from tests.server.client import Answer, Client

USERS = PlainUsers({"bob": "secret"})
BOB = f"Basic {base64.b64encode(b'bob:secret').decode()}"
MALLORY = f"Basic {base64.b64encode(b'bob:guess').decode()}"
DIGEST = Digest.of(b"")
ROUTES = [
    ("GET", "/v2/", ""),
    ("GET", "/v2/_catalog", "registry:catalog:*"),
    ("GET", "/v2/a/b/tags/list", "repository:a/b:pull"),
    ("GET", "/v2/a/b/manifests/x", "repository:a/b:pull"),
    ("HEAD", "/v2/a/b/manifests/x", "repository:a/b:pull"),
    ("PUT", "/v2/a/b/manifests/x", "repository:a/b:pull,push"),
    ("DELETE", "/v2/a/b/manifests/x", "repository:a/b:delete"),
    ("GET", f"/v2/a/b/blobs/{DIGEST}", "repository:a/b:pull"),
    ("HEAD", f"/v2/a/b/blobs/{DIGEST}", "repository:a/b:pull"),
    ("DELETE", f"/v2/a/b/blobs/{DIGEST}", "repository:a/b:delete"),
    ("POST", "/v2/a/b/blobs/uploads/", "repository:a/b:pull,push"),
    ("POST", f"/v2/a/b/blobs/uploads/?mount={DIGEST}&from=c/d", "repository:a/b:pull,push"),
    ("PATCH", "/v2/a/b/blobs/uploads/1", "repository:a/b:pull,push"),
    ("PUT", f"/v2/a/b/blobs/uploads/1?digest={DIGEST}", "repository:a/b:pull,push"),
    ("GET", "/v2/a/b/blobs/uploads/1", "repository:a/b:pull,push"),
    ("DELETE", "/v2/a/b/blobs/uploads/1", "repository:a/b:pull,push"),
    ("GET", f"/v2/a/b/referrers/{DIGEST}", "repository:a/b:pull"),
    ("GET", "/v2/nothing/here", ""),
]


class Clock:
    """A clock a test moves."""

    def __init__(self) -> None:
        self.now = 1_000_000.0

    def __call__(self) -> float:
        return self.now


async def registry(session: aiohttp.ClientSession, auth: Auth) -> AsyncIterator[Client]:
    async with serving(make_app(MemoryStorage(), auth=auth), grace=0.1) as address:
        yield Client(session, address)


@pytest.fixture
async def basic(session: aiohttp.ClientSession) -> AsyncIterator[Client]:
    async for client in registry(session, BasicAuth(USERS)):
        yield client


@pytest.fixture
def clock() -> Clock:
    return Clock()


@pytest.fixture
def auth(clock: Clock) -> TokenAuth:
    return TokenAuth(USERS, service="test", anonymous={"pull"}, clock=clock)


@pytest.fixture
async def bearer(session: aiohttp.ClientSession, auth: TokenAuth) -> AsyncIterator[Client]:
    async for client in registry(session, auth):
        yield client


async def token(client: Client, *scopes: str, user: str = BOB, query: str = "service=test") -> dict[str, Any]:
    asked = "&".join([query, *(f"scope={scope}" for scope in scopes)])
    answer = await client.ask("GET", f"/token?{asked}", headers={"Authorization": user} if user else {})
    assert answer.status == 200, answer
    fields: dict[str, Any] = answer.json
    return fields


async def with_token(client: Client, value: str, target: str = "/v2/", method: str = "GET") -> Answer:
    return await client.ask(method, target, headers={"Authorization": f"Bearer {value}"})


def challenge(answer: Answer) -> dict[str, str]:
    scheme, _, rest = answer.headers["WWW-Authenticate"].partition(" ")
    return {"": scheme, **dict(re.findall(r'(\w+)="([^"]*)"', rest))}


@pytest.mark.parametrize(("method", "target", "scope"), ROUTES)
async def test_every_route_wants_a_password(basic: Client, method: str, target: str, scope: str) -> None:
    for wrong in (None, MALLORY, "Basic !", "Basic Ym9i", "Bearer x"):
        answer = await basic.ask(method, target, headers={"Authorization": wrong} if wrong else {})
        assert (answer.status, challenge(answer)) == (401, {"": "Basic", "realm": "asyncrane registry"})
        assert method == "HEAD" or answer.code == "UNAUTHORIZED"
    assert (await basic.ask(method, target, headers={"Authorization": BOB}, data=b"")).status != 401


@pytest.mark.parametrize(("method", "target", "scope"), ROUTES)
async def test_every_route_wants_a_token_with_its_scope(bearer: Client, method: str, target: str, scope: str) -> None:
    answer = await bearer.ask(method, target)
    said = challenge(answer)
    assert (answer.status, said[""], said["realm"], said["service"]) == (401, "Bearer", f"{bearer.base}/token", "test")
    assert (said.get("scope", ""), said.get("error")) == (scope, None)
    if scope:
        other = (await token(bearer, "repository:other:pull,push,delete"))["token"]
        answer = await with_token(bearer, other, target, method)
        assert (answer.status, challenge(answer)["error"]) == (401, "insufficient_scope")
    good = (await token(bearer, scope))["token"]
    assert (await with_token(bearer, good, target, method)).status != 401


async def test_one_token_may_have_several_scopes_and_a_mount_needs_both(bearer: Client) -> None:
    push, pull = "repository:dst:push,pull", "repository:src:pull"
    value = (await token(bearer, "repository:src:push,pull"))["token"]
    answer = await bearer.ask(
        "POST",
        f"/v2/src/blobs/uploads/?digest={DIGEST}",
        headers={"Authorization": f"Bearer {value}", "Content-Length": "0"},
    )
    assert answer.status == 201
    for scopes, status in (((push,), 202), ((push, pull), 201), ((f"{push} {pull}".replace(" ", "%20"),), 201)):
        value = (await token(bearer, *scopes))["token"]
        target = f"/v2/dst/blobs/uploads/?mount={DIGEST}&from=src"
        assert (await with_token(bearer, value, target, "POST")).status == status


async def test_anybody_gets_what_is_for_anybody_and_no_more(bearer: Client) -> None:
    got = await token(bearer, "repository:a/b:pull,push", user="")
    assert got["scope"] == "repository:a/b:pull"
    assert (await with_token(bearer, got["token"], "/v2/a/b/tags/list")).status == 404
    answer = await with_token(bearer, got["token"], "/v2/a/b/blobs/uploads/", "POST")
    assert (answer.status, challenge(answer)["scope"]) == (401, "repository:a/b:pull,push")


async def test_a_wrong_password_gets_no_token(bearer: Client) -> None:
    answer = await bearer.ask("GET", "/token?service=test", headers={"Authorization": MALLORY})
    assert (answer.status, answer.code) == (401, "UNAUTHORIZED")


async def test_a_token_runs_out_and_says_so(bearer: Client, clock: Clock) -> None:
    got = await token(bearer)
    assert (got["expires_in"], got["issued_at"]) == (300, "1970-01-12T13:46:40Z")
    clock.now += 299
    assert (await with_token(bearer, got["token"])).status == 200
    clock.now += 1
    answer = await with_token(bearer, got["access_token"])
    assert (answer.status, challenge(answer)["error"]) == (401, "invalid_token")


async def test_revoked_and_forged_tokens_are_refused(bearer: Client, auth: TokenAuth) -> None:
    value = (await token(bearer))["token"]
    for forged in (value[:-2], value.upper(), "x.y", "", "é", f"{value.partition('.')[0]}."):
        answer = await bearer.ask("GET", "/v2/", headers={"Authorization": f"Bearer {forged}"})
        assert (answer.status, challenge(answer)["error"]) == (401, "invalid_token")
    auth.revoke()
    assert (await with_token(bearer, value)).status == 401


async def test_a_refresh_token_gets_tokens_by_post(bearer: Client) -> None:
    scope = "repository:a/b:pull,push"
    assert "refresh_token" not in await token(bearer, scope)
    got = await token(bearer, scope, query="service=test&offline_token=true")
    form = {
        "grant_type": "refresh_token",
        "refresh_token": got["refresh_token"],
        "scope": f"{scope} registry:catalog:*",
    }
    answer = await bearer.ask("POST", "/token", data=form)
    assert (answer.status, answer.json["scope"]) == (200, form["scope"])
    assert (await with_token(bearer, answer.json["access_token"], "/v2/_catalog")).status == 200
    answer = await bearer.ask("POST", "/token", data=form | {"refresh_token": got["token"]})
    assert answer.status == 401


async def test_a_password_gets_tokens_by_post(bearer: Client) -> None:
    form = {"grant_type": "password", "username": "bob", "password": "secret", "access_type": "offline"}
    answer = await bearer.ask("POST", "/token", data=form)
    assert (answer.status, "refresh_token" in answer.json) == (200, True)
    assert (await bearer.ask("POST", "/token", data=form | {"password": "guess"})).status == 401
    assert (await bearer.ask("POST", "/token", data=form | {"grant_type": "magic"})).status == 400


async def test_a_service_may_grant_less_than_was_asked(session: aiohttp.ClientSession) -> None:
    def grant(user: str, wanted: Scope) -> set[str]:
        return {"pull"} if wanted.name == "a/b" else set()

    async for client in registry(session, TokenAuth(USERS, grant=grant, announced=60)):
        got = await token(client, "repository:a/b:pull,push", "repository:c/d:pull")
        assert (got["scope"], got["expires_in"]) == ("repository:a/b:pull", 60)


def test_no_password_is_in_a_repr() -> None:
    for thing in (USERS, BasicAuth(USERS), TokenAuth(USERS)):
        assert "bob" in repr(thing)
        assert "secret" not in repr(thing)
