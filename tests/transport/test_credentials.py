"""Whose credentials are shown to whom, in what way, and what happens when they run out."""

from __future__ import annotations

import time
from collections.abc import Mapping

import anyio
import pytest
from aiohttp import web

from asyncrane.auth.credentials import Credential
from asyncrane.auth.keychain import FixedKeychain
from asyncrane.errors import ServerFault, Unauthorized
from asyncrane.transport import pull_scope
from asyncrane.transport.challenge import Challenge, TokenRequest
from asyncrane.transport.tokens import Tokens
from tests.transport.conftest import OpenPool, Serve
from tests.transport.origins import PULL, origin_of
from tests.transport.server import Guarded, basic, take


class ChangingKeychain:
    """A helper whose secret is a new one each time it is really asked."""

    def __init__(self, *passwords: str) -> None:
        self.passwords = list(passwords)
        self.asked = 0
        self._known: Credential | None = None

    async def find(self, registry: str, repository: str = "") -> Credential:
        if self._known is None:
            self._known = Credential("AWS", self.passwords[min(self.asked, len(self.passwords) - 1)])
            self.asked += 1
        return self._known

    def forget(self, registry: str, repository: str = "") -> None:
        self._known = None

    def headers(self) -> Mapping[str, str]:
        return {}


async def test_passwords_go_to_the_token_service_only(serve: Serve, open_pool: OpenPool) -> None:
    registry = Guarded(password="hunter2")
    server = await serve(registry)
    origin = await origin_of(server, open_pool, Credential("me", "hunter2"))
    await origin.request("GET", "/v2/x/manifests/1", scopes=PULL)
    assert registry.users == ["me:hunter2"]
    shown = [asked.headers.get("Authorization", "") for asked in server.asked if asked.path != "/token"]
    assert shown == ["", "Bearer secret-token-1"]


async def test_a_refused_password_is_one_line_and_final(serve: Serve, open_pool: OpenPool) -> None:
    server = await serve(Guarded(password="right"))
    origin = await origin_of(server, open_pool, Credential("me", "wrong"))
    with pytest.raises(Unauthorized) as caught:
        await origin.request("GET", "/v2/x/manifests/1", scopes=PULL)
    message = f"GET {server.url}/token: 401 Unauthorized: incorrect username or password"
    assert str(caught.value) == message
    assert len(server.of("/token")) == 1


async def test_a_helper_is_asked_again_when_its_secret_ran_out_c3(serve: Serve, open_pool: OpenPool) -> None:
    """C3: through a token service; many tasks, one question to the helper."""
    registry = Guarded(password="A")
    server = await serve(registry)
    keychain = ChangingKeychain("A", "B")
    origin = (await open_pool()).origin(server.address, keychain)
    await origin.request("GET", "/v2/x/manifests/1", scopes=PULL)
    registry.password = "B"
    registry.given.clear()
    async with anyio.create_task_group() as group:
        for number in range(20):
            group.start_soon(lambda n: origin.request("GET", f"/v2/x/manifests/{n}", scopes=PULL), number)
    assert keychain.asked == 2
    assert registry.users == ["AWS:A", "AWS:A", "AWS:B"]


async def test_basic_credentials_are_renewed_too_c3(serve: Serve, open_pool: OpenPool) -> None:
    """C3: as at ECR: the registry itself wants the password, for twelve hours."""
    right = "A"

    async def ecr(request: web.BaseRequest) -> web.StreamResponse:
        await take(request)
        if basic(request) == f"AWS:{right}":
            return web.Response()
        return web.Response(status=401, headers={"WWW-Authenticate": 'Basic realm="ecr"'})

    server = await serve(ecr)
    keychain = ChangingKeychain("A", "B")
    origin = (await open_pool()).origin(server.address, keychain)
    await origin.request("HEAD", "/v2/x/blobs/1", scopes=PULL)
    right = "B"
    async with anyio.create_task_group() as group:
        for number in range(20):
            scopes = (pull_scope(f"x{number % 4}"),)
            group.start_soon(lambda n, s: origin.request("HEAD", f"/v2/x/blobs/{n}", scopes=s), number, scopes)
    assert keychain.asked == 2
    right = "C"
    with pytest.raises(Unauthorized):
        await origin.request("HEAD", "/v2/x/blobs/1", scopes=PULL)


async def test_a_403_that_says_expired_is_cured_by_renewal(serve: Serve, open_pool: OpenPool) -> None:
    """ECR's words for a password that ran out."""
    right = "B"

    async def ecr(request: web.BaseRequest) -> web.StreamResponse:
        if not basic(request):
            return web.Response(status=401, headers={"WWW-Authenticate": 'Basic realm="ecr"'})
        if basic(request) == f"AWS:{right}":
            return web.Response()
        return web.Response(status=403, text="Your authorization token has expired. Reauthenticate and try again.")

    origin = (await open_pool()).origin((await serve(ecr)).address, ChangingKeychain("A", "B"))
    assert (await origin.request("GET", "/v2/x/manifests/1", scopes=PULL)).status == 200


async def test_a_registry_token_is_shown_as_it_is(serve: Serve, open_pool: OpenPool) -> None:
    registry = Guarded()
    registry.given["ready"] = (time.monotonic() + 60, ())
    server = await serve(registry)
    origin = await origin_of(server, open_pool, Credential(registry_token="ready"))
    await origin.request("GET", "/v2/x/manifests/1", scopes=PULL)
    assert not server.of("/token")


async def test_credentials_are_shown_to_a_registry_that_asked_for_none(serve: Serve, open_pool: OpenPool) -> None:
    """As crane does: reading may be free where writing is not."""
    users = []

    async def free(request: web.BaseRequest) -> web.StreamResponse:
        users.append(basic(request))
        return web.Response()

    origin = await origin_of(await serve(free), open_pool, Credential("me", "pw"))
    await origin.request("GET", "/v2/x/manifests/1", scopes=PULL)
    assert users == ["", "me:pw"]


async def test_a_challenge_beside_200_counts_when_there_are_credentials(serve: Serve, open_pool: OpenPool) -> None:
    """zot, where anybody may read: lower case, no quotes."""
    registry = Guarded(password="pw")

    async def zot(request: web.BaseRequest) -> web.StreamResponse:
        if request.path == "/v2/":
            line = f"bearer realm=http://{request.host}/token,service=zot,scope="
            return web.Response(headers={"WWW-Authenticate": line})
        return await registry(request)

    server = await serve(zot)
    origin = await origin_of(server, open_pool, Credential("me", "pw"))
    await origin.request("GET", "/v2/x/manifests/1", scopes=PULL)
    assert registry.users == ["me:pw"]


async def test_nobody_gets_a_token_only_when_one_is_demanded(serve: Serve, open_pool: OpenPool) -> None:
    registry = Guarded()

    async def mixed(request: web.BaseRequest) -> web.StreamResponse:
        return web.Response() if request.path in ("/v2/", "/v2/free") else await registry(request)

    server = await serve(mixed)
    origin = await origin_of(server, open_pool)
    await origin.request("GET", "/v2/free", scopes=PULL)
    assert not server.of("/token")
    await origin.request("GET", "/v2/x/manifests/1", scopes=PULL)
    assert len(server.of("/token")) == 1


async def test_a_bearer_challenge_is_not_forgotten_for_a_basic_one(serve: Serve, open_pool: OpenPool) -> None:
    """Harbor answers Basic to whatever already carried a token."""
    registry = Guarded(password="pw")

    async def harbor(request: web.BaseRequest) -> web.StreamResponse:
        answer = await registry(request)
        if answer.status == 401 and "Authorization" in request.headers and request.path != "/token":
            answer.headers["WWW-Authenticate"] = 'Basic realm="harbor"'
        return answer

    server = await serve(harbor)
    origin = await origin_of(server, open_pool, Credential("me", "pw"))
    await origin.request("GET", "/v2/x/manifests/1", scopes=PULL)
    registry.given.clear()
    await origin.request("GET", "/v2/x/manifests/1", scopes=PULL)
    assert len(server.of("/token")) == 2


async def test_an_identity_token_is_posted_and_else_got(serve: Serve, open_pool: OpenPool) -> None:
    forms: list[bytes] = []
    registry = Guarded()
    oauth2 = True

    async def acr(request: web.BaseRequest) -> web.StreamResponse:
        if request.path == "/token" and request.method == "POST":
            forms.append(await take(request))
            if not oauth2:
                return web.Response(status=404)
        return await registry(request)

    server = await serve(acr)
    origin = await origin_of(server, open_pool, Credential(identity_token="refresh"))
    await origin.request("GET", "/v2/x/manifests/1", scopes=PULL)
    assert b"refresh_token=refresh" in forms[0]
    assert server.of("/token")[0].headers["Content-Type"] == "application/x-www-form-urlencoded"
    oauth2 = False
    await origin.request("GET", "/v2/y/manifests/1", scopes=(pull_scope("y"),))
    assert [asked.method for asked in server.of("/token")] == ["POST", "POST", "GET"]


@pytest.mark.parametrize(
    ("realm", "why"),
    [
        ("https://10.0.0.1/token", "a private address"),
        ("https://169.254.169.254/latest/meta-data", "a private address"),
        ("ftp://auth.example/token", "it is not https"),
    ],
)
async def test_secrets_go_only_where_they_are_safe(realm: str, why: str) -> None:
    async def send(request: TokenRequest) -> bytes:
        raise AssertionError(request.url)

    tokens = Tokens("registry.example", FixedKeychain(Credential("u", "p")), send)
    tokens.base = "https://registry.example"
    for base in (realm, realm.replace("https:", "http:")):
        tokens.challenged([Challenge("bearer", {"realm": base})], demanded=True)
        with pytest.raises(ServerFault, match=why if base == realm else "it is not https"):
            await tokens.get(PULL)


async def test_headers_of_the_docker_configuration_go_to_the_registry_alone(serve: Serve, open_pool: OpenPool) -> None:
    registry = Guarded()
    storage = await serve(Guarded())

    async def answering(request: web.BaseRequest) -> web.StreamResponse:
        if request.path == "/v2/x/blobs/1" and "Authorization" in request.headers:
            return web.Response(status=307, headers={"Location": f"{storage.url}/token"})
        return await registry(request)

    server = await serve(answering)
    origin = (await open_pool()).origin(server.address, FixedKeychain(headers={"X-Meta": "secret"}))
    await origin.request("GET", "/v2/x/blobs/1", scopes=PULL)
    assert [(a.path, a.headers.get("X-Meta")) for a in server.asked] == [
        ("/v2/", "secret"),
        ("/token", None),
        ("/v2/x/blobs/1", "secret"),
    ]
    assert [a.headers.get("X-Meta") for a in storage.asked] == [None]
