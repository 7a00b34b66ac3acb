"""Being sent elsewhere: without credentials across hosts, URLs as they came, not to places nobody should be sent to."""

from __future__ import annotations

import ssl
from pathlib import Path

import pytest
import trustme
from aiohttp import web
from hypothesis import given
from hypothesis import strategies as st

from asyncrane.auth.credentials import Credential
from asyncrane.auth.keychain import FixedKeychain
from asyncrane.errors import Denied, ServerFault
from asyncrane.transport import Origin, pull_scope
from asyncrane.transport.redirect import resolve
from tests.transport.conftest import OpenPool, Serve
from tests.transport.server import Answering, Guarded, Server, fine, take

PULL = (pull_scope("x"),)
SIGNED = "/bucket/a%2Fb/data%20x?X-Sig=a%2Bb%2Fc%3D&x=%7E~+%2520&y=(!*')"


def _sends(path: str, location: str, status: int = 307, *, otherwise: Answering = fine) -> Answering:
    async def answering(request: web.BaseRequest) -> web.StreamResponse:
        if request.path == path and (otherwise is fine or "Authorization" in request.headers):
            await take(request)
            return web.Response(status=status, headers={"Location": location})
        return await otherwise(request)

    return answering


async def _origin(server: Server, open_pool: OpenPool, **settings: object) -> Origin:
    pool = await open_pool(**settings)
    return pool.origin(server.address, FixedKeychain(Credential("me", "hunter2")))


@pytest.mark.parametrize("method", ["GET", "HEAD"])
@pytest.mark.parametrize("status", [301, 302, 303, 307, 308])
async def test_storage_gets_the_url_as_signed_and_no_credentials(
    serve: Serve, open_pool: OpenPool, method: str, status: int
) -> None:
    storage = await serve(fine)
    server = await serve(_sends("/v2/x/blobs/1", f"{storage.url}{SIGNED}", status, otherwise=Guarded()))
    origin = await _origin(server, open_pool)
    answer = await origin.request(method, "/v2/x/blobs/1", scopes=PULL, headers={"Range": "bytes=1-"})
    assert answer.url == f"{storage.url}{SIGNED}"
    [asked] = storage.asked
    assert (asked.method, asked.raw_path, asked.headers["Range"]) == (method, SIGNED, "bytes=1-")
    assert "Authorization" not in asked.headers


async def test_a_stream_follows_too(serve: Serve, open_pool: OpenPool) -> None:
    storage = await serve(fine)
    origin = await _origin(await serve(_sends("/v2/x/blobs/1", f"{storage.url}/data")), open_pool)
    async with origin.stream("GET", "/v2/x/blobs/1") as answer:
        assert [chunk async for chunk in answer.chunks()] == [b"fine"]


async def test_the_same_host_keeps_the_credentials(serve: Serve, open_pool: OpenPool) -> None:
    server = await serve(_sends("/v2/x/blobs/1", "../elsewhere%2F?a=%2F", otherwise=Guarded()))
    origin = await _origin(server, open_pool)
    await origin.request("GET", "/v2/x/blobs/1", scopes=PULL)
    assert server.asked[-1].raw_path == "/v2/x/elsewhere%2F?a=%2F"
    assert server.asked[-1].headers["Authorization"].startswith("Bearer ")


async def test_a_failing_storage_is_asked_by_way_of_the_registry_again(serve: Serve, open_pool: OpenPool) -> None:
    """A signed URL runs out; the registry signs a new one."""
    left = 1

    async def flaky(request: web.BaseRequest) -> web.StreamResponse:
        nonlocal left
        left -= 1
        return web.Response(status=503 if left >= 0 else 200)

    storage = await serve(flaky)
    server = await serve(_sends("/v2/x/blobs/1", f"{storage.url}/data"))
    origin = await _origin(server, open_pool)
    await origin.request("GET", "/v2/x/blobs/1")
    assert len(server.of("/v2/x/blobs/1")) == 2


async def test_a_throttled_storage_does_not_park_the_registry_and_is_left_alone(
    serve: Serve, open_pool: OpenPool
) -> None:
    times: list[float] = []

    async def throttled(request: web.BaseRequest) -> web.StreamResponse:
        times.append(storage.asked[-1].at)
        return web.Response(status=429 if len(times) == 1 else 200, headers={"Retry-After": "1"})

    storage = await serve(throttled)
    origin = await _origin(await serve(_sends("/v2/x/blobs/1", f"{storage.url}/data")), open_pool)
    await origin.request("GET", "/v2/x/blobs/1")
    assert times[1] - times[0] >= 1.0
    assert origin.statistics().throttled == 0.0


async def test_a_refusal_by_storage_is_final_and_costs_no_token(serve: Serve, open_pool: OpenPool) -> None:
    async def refuses(request: web.BaseRequest) -> web.StreamResponse:
        return web.Response(status=403, text="<?xml?><Error><Code>Expired</Code></Error>")

    storage = await serve(refuses)
    server = await serve(_sends("/v2/x/blobs/1", f"{storage.url}/data?X-Sig=secret", otherwise=Guarded()))
    origin = await _origin(server, open_pool)
    with pytest.raises(Denied) as caught:
        await origin.request("GET", "/v2/x/blobs/1", scopes=PULL)
    assert str(caught.value) == f"GET {storage.url}/data: 403 Forbidden (sent there by {server.address})"
    assert len(server.of("/token")) == 1


async def test_a_circle_ends(serve: Serve, open_pool: OpenPool) -> None:
    server = await serve(_sends("/v2/x", "/v2/x"))
    origin = await _origin(server, open_pool)
    with pytest.raises(ServerFault, match="redirected more than 5 times"):
        await origin.request("GET", "/v2/x")
    assert len(server.of("/v2/x")) == 6


async def test_an_expected_redirect_is_an_answer(serve: Serve, open_pool: OpenPool) -> None:
    origin = await _origin(await serve(_sends("/v2/x", "/v2/y", 303)), open_pool)
    answer = await origin.request("GET", "/v2/x", expect=(200, 303))
    assert (answer.status, answer.headers["Location"]) == (303, "/v2/y")


@pytest.mark.parametrize(("status", "follows"), [(301, False), (302, False), (303, False), (307, True), (308, True)])
async def test_what_writes_is_sent_elsewhere_only_as_it_is(
    serve: Serve, open_pool: OpenPool, status: int, follows: bool
) -> None:
    server = await serve(_sends("/v2/x", "/v2/y", status))
    origin = await _origin(server, open_pool)
    answer = await origin.request("PUT", "/v2/x", body=b"abc", expect=(200, 301, 302, 303) if not follows else (200,))
    assert answer.status == (200 if follows else status)
    assert [a.method for a in server.of("/v2/y")] == (["PUT"] if follows else [])


@pytest.mark.parametrize(
    ("location", "why"),
    [
        ("http://storage.example/data", "from https to http"),
        ("file:///etc/passwd", "not a URL to be asked"),
    ],
)
async def test_bad_places_are_refused(
    serve: Serve, open_pool: OpenPool, location: str, why: str, ca: trustme.CA, tmp_path: Path
) -> None:
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    ca.issue_cert("127.0.0.1").configure_cert(context)
    server = await serve(_sends("/v2/x", location), context=context)
    ca.cert_pem.write_to_path(tmp_path / "ca.pem")
    origin = await _origin(server, open_pool, ca=tmp_path / "ca.pem")
    with pytest.raises(ServerFault, match=why):
        await origin.request("GET", "/v2/x")


@pytest.mark.parametrize(
    "target", ["https://10.0.0.1/x", "https://169.254.169.254/x", "https://[::1]/x", "https://127.0.0.1:5000/x"]
)
def test_a_public_registry_does_not_send_us_to_private_addresses(target: str) -> None:
    with pytest.raises(ServerFault, match="a private address"):
        resolve("https://registry.example", target, insecure=False)


def test_a_private_registry_may_send_us_to_its_storage_nearby() -> None:
    assert resolve("http://10.0.0.1:5000", "http://10.0.0.2:9000/x", insecure=False)[1]
    assert resolve("http://localhost:5000", "http://127.0.0.1:9000/x", insecure=False)[1]


def test_a_registry_behind_a_tls_proxy_may_call_itself_http() -> None:
    url, foreign = resolve("https://registry.example", "http://registry.example/v2/x?a=%2F", insecure=False)
    assert (str(url), foreign) == ("https://registry.example/v2/x?a=%2F", False)


async def test_an_absolute_target_is_sent_as_it_is_with_credentials_only_at_home(
    serve: Serve, open_pool: OpenPool
) -> None:
    """An opaque upload Location, here or at another host."""
    server, storage = await serve(Guarded()), await serve(fine)
    origin = await _origin(server, open_pool)
    for place in (server, storage):
        await origin.request("GET", f"{place.url}{SIGNED}", scopes=PULL)
        assert place.asked[-1].raw_path == SIGNED
    assert server.asked[-1].headers["Authorization"].startswith("Bearer ")
    assert "Authorization" not in storage.asked[-1].headers


@given(
    st.text(st.sampled_from("abc/%2F%20?&=+~:@!$'()*,;._-"), max_size=40).filter(lambda text: not text.endswith("?"))
)
def test_a_target_comes_out_as_it_went_in(tail: str) -> None:
    target = f"https://registry.example/v2/{tail}"
    assert str(resolve("https://registry.example", target, insecure=False)[0]) == target


async def test_a_token_services_secrets_are_not_sent_on(serve: Serve, open_pool: OpenPool) -> None:
    """A redirect of the token request to another host takes no password along."""
    elsewhere = await serve(fine)
    registry = Guarded()

    async def answering(request: web.BaseRequest) -> web.StreamResponse:
        if request.path == "/token":
            return web.Response(status=307, headers={"Location": f"{elsewhere.url}/token"})
        return await registry(request)

    server = await serve(answering)
    pool = await open_pool()
    with pytest.raises(ServerFault, match="not JSON"):
        await pool.origin(server.address, FixedKeychain(Credential("me", "pw"))).request("GET", "/v2/x", scopes=PULL)
    assert "Authorization" not in elsewhere.asked[0].headers
    assert not [name for name, value in elsewhere.asked[0].headers.items() if "pw" in value]
