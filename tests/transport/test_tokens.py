"""Who we are to a registry: pings, tokens, credentials, and what happens when they run out."""

from __future__ import annotations

import time
from collections.abc import AsyncIterator, Mapping
from urllib.parse import parse_qs

import anyio
import anyio.lowlevel
import pytest
from aiohttp import web

from asyncrane.auth.credentials import ANONYMOUS, Credential
from asyncrane.auth.keychain import FixedKeychain
from asyncrane.errors import ServerFault, Unauthorized
from asyncrane.transport import Body, Origin, pull_scope, push_scope
from asyncrane.transport.challenge import Challenge, TokenRequest
from asyncrane.transport.tokens import Tokens
from tests.transport.conftest import OpenPool, Serve
from tests.transport.server import Guarded, Server, basic, take

PULL = (pull_scope("x"),)
PUSH = (push_scope("x"),)


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


async def _origin(server: Server, open_pool: OpenPool, credential: Credential = ANONYMOUS) -> Origin:
    pool = await open_pool()
    return pool.origin(server.address, FixedKeychain(credential))


async def test_64_first_requests_make_one_ping_and_one_token_request_a4(serve: Serve, open_pool: OpenPool) -> None:
    """A4: single flight, for what everybody needs before anybody can begin."""
    registry = Guarded()
    registry.pause = 0.02
    server = await serve(registry)
    origin = await _origin(server, open_pool)
    async with anyio.create_task_group() as group:
        for number in range(64):
            group.start_soon(lambda n: origin.request("GET", f"/v2/x/manifests/{n}", scopes=PULL), number)
    assert len(server.of("/v2/")) == 1
    assert len(server.of("/token")) == 1
    assert len(server.asked) == 66
    assert origin.statistics().requests["GET manifests"] == 64


async def test_a_cancelled_first_request_does_not_take_the_others_with_it(serve: Serve, open_pool: OpenPool) -> None:
    registry = Guarded()
    registry.pause = 0.05
    server = await serve(registry)
    origin = await _origin(server, open_pool)
    await origin.base()
    answers = []

    async def ask() -> None:
        answers.append(await origin.request("GET", "/v2/x/manifests/1", scopes=PULL))

    async with anyio.create_task_group() as group:
        first = anyio.CancelScope()

        async def doomed() -> None:
            with first:
                await ask()

        group.start_soon(doomed)
        while not server.of("/token"):
            await anyio.lowlevel.checkpoint()
        group.start_soon(ask)
        group.start_soon(ask)
        await anyio.lowlevel.checkpoint()
        first.cancel()
    assert [answer.status for answer in answers] == [200, 200]


async def test_tokens_are_kept_per_scopes_until_shortly_before_their_end(serve: Serve, open_pool: OpenPool) -> None:
    registry = Guarded(life=300.0)
    server = await serve(registry)
    origin = await _origin(server, open_pool)
    for _ in range(3):
        await origin.request("GET", "/v2/x/manifests/1", scopes=PULL)
    assert len(server.of("/token")) == 1
    token = await origin.token(PULL)
    assert token.expires - token.usable_until == pytest.approx(5.0)
    assert origin._tokens.ready(PULL, token.usable_until - 0.01) is token
    assert origin._tokens.ready(PULL, token.usable_until) is None
    token.usable_until = 0.0
    await origin.request("GET", "/v2/x/manifests/1", scopes=PULL)
    assert len(server.of("/token")) == 2
    await origin.request("GET", "/v2/x/manifests/1", scopes=PUSH)
    assert len(server.of("/token")) == 3


async def test_a_thousand_renewals_ask_with_the_same_url_c2(serve: Serve, open_pool: OpenPool) -> None:
    """C2: scopes do not pile up, whatever is demanded."""
    registry = Guarded(life=0.0001)
    registry.demands = "repository:x:pull,push repository:y:pull"
    server = await serve(registry)
    origin = await _origin(server, open_pool)
    for _ in range(340):
        with pytest.raises(Unauthorized):
            await origin.request("GET", "/v2/x/manifests/1", scopes=PULL)
    lengths = {len(asked.raw_path) for asked in server.of("/token")[1:]}
    assert len(server.of("/token")) >= 500
    assert len(lengths) == 1


async def test_a_missing_expires_in_is_sixty_seconds_from_receipt_c2(serve: Serve, open_pool: OpenPool) -> None:
    registry = Guarded(expires_in=False)
    origin = await _origin(await serve(registry), open_pool)
    token = await origin.token(PULL)
    assert token.expires - token.obtained == pytest.approx(60.0)
    assert token.fresh_until - token.obtained == pytest.approx(45.0)


async def test_a_renewed_token_covers_what_the_registry_demands(serve: Serve, open_pool: OpenPool) -> None:
    registry = Guarded()
    server = await serve(registry)
    origin = await _origin(server, open_pool)
    await origin.request("GET", "/v2/x/manifests/1", scopes=PULL)
    registry.given.clear()
    registry.demands = "repository:x:push,pull"
    await origin.request("GET", "/v2/x/manifests/1", scopes=PULL)
    queries = [parse_qs(asked.raw_path.partition("?")[2]) for asked in server.of("/token")]
    assert [query["scope"] for query in queries] == [["repository:x:pull"], ["repository:x:pull,push"]]
    assert len(server.of("/v2/x/manifests/1")) == 3


async def test_a_token_that_is_refused_twice_is_an_error_after_one_renewal(serve: Serve, open_pool: OpenPool) -> None:
    registry = Guarded(life=0.0)
    server = await serve(registry)
    origin = await _origin(server, open_pool)
    with pytest.raises(Unauthorized, match=r"manifests/1: 401 Unauthorized: UNAUTHORIZED: .*no credentials for 127"):
        await origin.request("GET", "/v2/x/manifests/1", scopes=PULL)
    assert len(server.of("/v2/x/manifests/1")) == 2
    assert len(server.of("/token")) == 2


async def test_a_finished_body_is_never_sent_again_c1(serve: Serve, open_pool: OpenPool) -> None:
    """C1: the caller decides, with a new token, whether there is anything to send again."""
    registry = Guarded(life=300)
    server = await serve(registry)
    origin = await _origin(server, open_pool, Credential("u", "p"))
    await origin.token(PUSH)
    registry.given.clear()
    opened = 0

    async def content() -> AsyncIterator[bytes]:
        nonlocal opened
        opened += 1
        yield b"x" * 100_000
        yield b"y" * 100_000

    with pytest.raises(Unauthorized):
        await origin.request("PATCH", "/v2/x/blobs/uploads/1", scopes=PUSH, body=Body(content, 200_000), expect=(202,))
    assert opened == 1
    await origin.request("PUT", "/v2/x/blobs/uploads/1?digest=d", scopes=PUSH, expect=(201,))
    assert [len(body) for body in registry.bodies if body] == [200_000]
    assert len(server.of("/token")) == 2


async def test_a_stream_begins_only_with_a_quarter_of_the_tokens_life_left_c1(
    serve: Serve, open_pool: OpenPool
) -> None:
    registry = Guarded(life=100.0)
    server = await serve(registry)
    origin = await _origin(server, open_pool)

    async def content() -> AsyncIterator[bytes]:
        yield b"abc"

    token = await origin.token(PUSH)
    assert token.expires - token.fresh_until == pytest.approx(25.0)
    token.fresh_until = 0.0
    assert await origin.token(PUSH) is token
    await origin.request("PUT", "/v2/x/blobs/uploads/1", scopes=PUSH, body=Body(content, 3), expect=(201,))
    assert len(server.of("/token")) == 2
    assert await origin.token(PUSH) is not token


async def test_passwords_go_to_the_token_service_only(serve: Serve, open_pool: OpenPool) -> None:
    registry = Guarded(password="hunter2")
    server = await serve(registry)
    origin = await _origin(server, open_pool, Credential("me", "hunter2"))
    await origin.request("GET", "/v2/x/manifests/1", scopes=PULL)
    assert registry.users == ["me:hunter2"]
    shown = [asked.headers.get("Authorization", "") for asked in server.asked if asked.path != "/token"]
    assert shown == ["", "Bearer secret-token-1"]


async def test_a_refused_password_is_one_line_and_final(serve: Serve, open_pool: OpenPool) -> None:
    server = await serve(Guarded(password="right"))
    origin = await _origin(server, open_pool, Credential("me", "wrong"))
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
    origin = await _origin(server, open_pool, Credential(registry_token="ready"))
    await origin.request("GET", "/v2/x/manifests/1", scopes=PULL)
    assert not server.of("/token")


async def test_credentials_are_shown_to_a_registry_that_asked_for_none(serve: Serve, open_pool: OpenPool) -> None:
    """As crane does: reading may be free where writing is not."""
    users = []

    async def free(request: web.BaseRequest) -> web.StreamResponse:
        users.append(basic(request))
        return web.Response()

    origin = await _origin(await serve(free), open_pool, Credential("me", "pw"))
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
    origin = await _origin(server, open_pool, Credential("me", "pw"))
    await origin.request("GET", "/v2/x/manifests/1", scopes=PULL)
    assert registry.users == ["me:pw"]


async def test_nobody_gets_a_token_only_when_one_is_demanded(serve: Serve, open_pool: OpenPool) -> None:
    registry = Guarded()

    async def mixed(request: web.BaseRequest) -> web.StreamResponse:
        return web.Response() if request.path in ("/v2/", "/v2/free") else await registry(request)

    server = await serve(mixed)
    origin = await _origin(server, open_pool)
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
    origin = await _origin(server, open_pool, Credential("me", "pw"))
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
    origin = await _origin(server, open_pool, Credential(identity_token="refresh"))
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
