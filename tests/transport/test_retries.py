"""Trying again, and leaving a registry alone, against real servers."""

from __future__ import annotations

import asyncio
import itertools
import time
from collections.abc import AsyncIterator, Awaitable, Callable
from email.utils import formatdate

import anyio
import pytest
from aiohttp import web

from asyncrane.auth.keychain import FixedKeychain
from asyncrane.errors import (
    AsyncraneError,
    ConnectFailed,
    Denied,
    Interrupted,
    NotFound,
    RateLimited,
    RegistryError,
    ServerFault,
    TimedOut,
)
from asyncrane.transport import Body, Origin, pull_scope
from tests.transport.conftest import OpenPool, Serve
from tests.transport.server import Answering, Guarded, Server, fine, take

METHODS = ["HEAD", "GET", "POST", "PATCH", "PUT", "DELETE"]
Failing = Callable[[web.BaseRequest], Awaitable[web.StreamResponse]]


def _status(code: int) -> Failing:
    async def answer(request: web.BaseRequest) -> web.StreamResponse:
        await take(request)
        return web.Response(status=code)

    return answer


async def _reset(request: web.BaseRequest) -> web.StreamResponse:
    await take(request)
    assert request.transport is not None
    request.transport.abort()
    return web.Response()


async def _eof(request: web.BaseRequest) -> web.StreamResponse:
    await take(request)
    assert request.transport is not None
    request.transport.close()
    return web.Response()


async def _cut(request: web.BaseRequest) -> web.StreamResponse:
    """Half an answer."""
    await take(request)
    answer = web.StreamResponse(headers={"Content-Length": "10"})
    await answer.prepare(request)
    if request.method != "HEAD":
        await answer.write(b"12345")
    assert request.transport is not None
    request.transport.close()
    return answer


async def _silence(request: web.BaseRequest) -> web.StreamResponse:
    await asyncio.sleep(3600)
    return web.Response()


FAILURES: dict[str, Failing] = {str(code): _status(code) for code in (408, 429, 499, 500, 502, 503, 504, 522)}
FAILURES |= {"reset": _reset, "eof": _eof, "silence": _silence}


def _first(failing: Failing, times: int, path: str = "/v2/x") -> Answering:
    """Fails so often under ``path``, then is fine."""
    left = times

    async def answering(request: web.BaseRequest) -> web.StreamResponse:
        nonlocal left
        if request.path.startswith(path) and left > 0:
            left -= 1
            return await failing(request)
        return await fine(request)

    return answering


async def _origin(server: Server, open_pool: OpenPool, **settings: object) -> Origin:
    pool = await open_pool(**{"plain": [server.address], "stall_timeout": 0.15, **settings})
    return pool.origin(server.address, FixedKeychain())


@pytest.mark.parametrize("method", METHODS)
@pytest.mark.parametrize("failure", FAILURES)
async def test_what_may_pass_is_tried_again_d6(serve: Serve, open_pool: OpenPool, method: str, failure: str) -> None:
    """D6: every kind of failure with every method, with and without a body."""
    server = await serve(_first(FAILURES[failure], 2))
    origin = await _origin(server, open_pool)
    body = b"" if method in ("GET", "HEAD", "DELETE") else b"body"
    answer = await origin.request(method, "/v2/x", body=body)
    assert answer.status == 200
    assert len(server.of("/v2/x", method)) == 3
    assert origin.statistics().retries == 2


@pytest.mark.parametrize(
    ("code", "error"),
    [(400, RegistryError), (403, Denied), (404, NotFound), (405, RegistryError), (413, RegistryError)],
)
@pytest.mark.parametrize("method", METHODS)
async def test_what_is_final_is_not_asked_twice_d6(
    serve: Serve, open_pool: OpenPool, method: str, code: int, error: type[RegistryError]
) -> None:
    server = await serve(_first(_status(code), 9))
    origin = await _origin(server, open_pool)
    with pytest.raises(error) as caught:
        await origin.request(method, "/v2/x")
    assert type(caught.value) is error
    assert caught.value.status == code
    assert len(server.of("/v2/x")) == 1


async def test_of_a_body_that_is_too_large_its_size_is_told_d3(serve: Serve, open_pool: OpenPool) -> None:
    """D3: it is the only thing that a proxy lets us know about its limit."""
    server = await serve(_first(_status(413), 9))
    origin = await _origin(server, open_pool)
    with pytest.raises(RegistryError, match=r"413 [A-Za-z ]+ \(a body of 4 bytes\)$"):
        await origin.request("PUT", "/v2/x", body=b"body")


async def test_half_an_answer_is_asked_for_again_d6(serve: Serve, open_pool: OpenPool) -> None:
    server = await serve(_first(_cut, 2))
    origin = await _origin(server, open_pool)
    assert (await origin.request("GET", "/v2/x")).body == b"fine"


@pytest.mark.parametrize(
    ("failure", "error"),
    [("500", ServerFault), ("429", RateLimited), ("reset", Interrupted), ("eof", Interrupted), ("silence", TimedOut)],
)
async def test_retries_end_with_the_last_error(
    serve: Serve, open_pool: OpenPool, failure: str, error: type[AsyncraneError]
) -> None:
    server = await serve(_first(FAILURES[failure], 99))
    origin = await _origin(server, open_pool, retries=2, stall_timeout=0.05)
    with pytest.raises(error, match=rf"^GET {server.url}/v2/x: "):
        await origin.request("GET", "/v2/x?a=b")
    assert len(server.of("/v2/x")) == 3


async def test_the_time_for_retries_is_limited_too(serve: Serve, open_pool: OpenPool) -> None:
    server = await serve(_first(_status(500), 99))
    origin = await _origin(server, open_pool, retries=99, retry_base=10.0, retry_max_time=1.0)
    with pytest.raises(ServerFault):
        await origin.request("GET", "/v2/x")
    assert len(server.of("/v2/x")) == 1


async def test_a_caller_that_tries_again_itself_gets_one_attempt(serve: Serve, open_pool: OpenPool) -> None:
    """Also where aiohttp would have sent an idempotent request twice, unasked."""
    for method in METHODS:
        server = await serve(_first(_reset, 1))
        origin = await _origin(server, open_pool)
        await origin.base()
        with pytest.raises(Interrupted):
            await origin.request(method, "/v2/x", retry=False)
        assert len(server.of("/v2/x")) == 1


async def test_an_expected_status_is_no_failure(serve: Serve, open_pool: OpenPool) -> None:
    server = await serve(_first(_status(503), 99))
    origin = await _origin(server, open_pool)
    assert (await origin.request("GET", "/v2/x", expect=(200, 503))).status == 503
    assert len(server.of("/v2/x")) == 1


@pytest.mark.parametrize("path", ["/v2/", "/token"])
@pytest.mark.parametrize("failure", ["503", "429", "reset"])
async def test_pings_and_token_requests_are_tried_again_d6(
    serve: Serve, open_pool: OpenPool, path: str, failure: str
) -> None:
    registry, left = Guarded(), 2

    async def answering(request: web.BaseRequest) -> web.StreamResponse:
        nonlocal left
        if request.path == path and left:
            left -= 1
            return await FAILURES[failure](request)
        return await registry(request)

    server = await serve(answering)
    origin = await _origin(server, open_pool)
    await origin.request("GET", "/v2/x/manifests/1", scopes=(pull_scope("x"),))
    assert len(server.of(path)) == 3


async def test_a_dead_token_service_is_tried_by_one_retrier_only(serve: Serve, open_pool: OpenPool) -> None:
    registry = Guarded()

    async def answering(request: web.BaseRequest) -> web.StreamResponse:
        return await (_reset if request.path == "/token" else registry)(request)

    server = await serve(answering)
    origin = await _origin(server, open_pool, retries=3)
    with pytest.raises(Interrupted, match="/token: "):
        await origin.request("GET", "/v2/x/manifests/1", scopes=(pull_scope("x"),))
    assert len(server.of("/token")) == 4


async def test_nobody_there_is_one_line_at_once(open_pool: OpenPool, free_port: int) -> None:
    pool = await open_pool(retry_base=60.0)
    origin = pool.origin(f"localhost:{free_port}", FixedKeychain())
    with pytest.raises(ConnectFailed, match=rf"^GET https://localhost:{free_port}/v2/: no connection: connection"):
        await origin.request("GET", "/v2/x")


async def test_no_such_host_is_one_line_at_once(open_pool: OpenPool) -> None:
    pool = await open_pool(retry_base=60.0)
    with pytest.raises(ConnectFailed, match=r"^GET https://registry\.invalid/v2/: no connection: "):
        await pool.origin("registry.invalid", FixedKeychain()).request("GET", "/v2/x")


async def test_a_body_that_was_read_from_is_not_sent_again(serve: Serve, open_pool: OpenPool) -> None:
    server = await serve(_first(_status(500), 99))
    origin = await _origin(server, open_pool)

    async def content() -> AsyncIterator[bytes]:
        yield b"abc"

    with pytest.raises(ServerFault):
        await origin.request("PUT", "/v2/x", body=Body(content, 3))
    assert len(server.of("/v2/x")) == 1


async def test_large_bytes_are_sent_again(serve: Serve, open_pool: OpenPool) -> None:
    content, got = b"m" * 3_000_000, list[bytes]()

    async def answering(request: web.BaseRequest) -> web.StreamResponse:
        if request.method == "PUT":
            got.append(await take(request))
            return web.Response(status=500 if len(got) == 1 else 201)
        return await fine(request)

    origin = await _origin(await serve(answering), open_pool)
    await origin.request("PUT", "/v2/x", body=content, expect=(201,))
    assert got == [content, content]


def _retry_after(value: Callable[[], str], times: int = 1, code: int = 429) -> tuple[Answering, list[float]]:
    """The first ``times`` requests are throttled; and when the last of them was."""
    when: list[float] = []

    async def throttled(request: web.BaseRequest) -> web.StreamResponse:
        await take(request)
        when.append(time.monotonic())
        return web.json_response(
            {"errors": [{"code": "TOOMANYREQUESTS", "message": "slow down"}]},
            status=code,
            headers={"Retry-After": value()},
        )

    return _first(throttled, times), when


@pytest.mark.parametrize(
    ("value", "least", "code"),
    [
        (lambda: "1", 1.0, 429),
        (lambda: "0.3", 0.3, 503),
        (lambda: formatdate(time.time() + 2, usegmt=True), 0.9, 429),
    ],
    ids=["seconds", "seconds-503", "date"],
)
async def test_retry_after_parks_the_whole_registry_b1(
    serve: Serve, open_pool: OpenPool, value: Callable[[], str], least: float, code: int
) -> None:
    """B1: nothing reaches that host inside the window, other hosts keep their speed."""
    answering, when = _retry_after(value, code=code)
    server, other = await serve(answering), await serve(fine)
    pool = await open_pool(plain=[server.address, other.address])
    origin = pool.origin(server.address, FixedKeychain())
    neighbour = pool.origin(other.address, FixedKeychain())
    await origin.base()
    told: list[float] = []
    parked = anyio.Event()

    def tell(seconds: float) -> None:
        told.append(seconds)
        parked.set()

    origin.on_throttle = tell
    async with anyio.create_task_group() as group:
        group.start_soon(origin.request, "GET", "/v2/x/first")
        await parked.wait()
        assert origin.parked > 0.0
        started = time.monotonic()
        for number in range(20):
            group.start_soon(origin.request, "HEAD", f"/v2/y/{number}")
        await neighbour.request("GET", "/v2/z")
        assert time.monotonic() - started < 0.2
    later = [asked.at for asked in server.asked if asked.at > when[0] and asked.path != "/v2/"]
    assert len(later) == 21
    assert min(later) - when[0] >= least
    assert len(told) == 1
    assert origin.statistics().throttled == pytest.approx(told[0], abs=0.01)


async def test_waits_the_registry_asked_for_do_not_use_up_the_retries_b1(serve: Serve, open_pool: OpenPool) -> None:
    answering, when = _retry_after(lambda: "1", times=2)
    origin = await _origin(await serve(answering), open_pool, retries=1)
    assert (await origin.request("GET", "/v2/x")).status == 200
    assert len(when) == 2


async def test_a_tenth_of_all_requests_throttled_ends_well_b1(serve: Serve, open_pool: OpenPool) -> None:
    """B1: on whatever kind of request it strikes."""
    registry, count = Guarded(), itertools.count(1)

    async def answering(request: web.BaseRequest) -> web.StreamResponse:
        if next(count) % 10 == 0:
            await take(request)
            return web.Response(status=429, headers={"Retry-After": "0.02"})
        return await registry(request)

    server = await serve(answering)
    origin = await _origin(server, open_pool)
    async with anyio.create_task_group() as group:
        for number in range(50):
            scopes = (pull_scope(f"x{number % 5}"),)
            for method in ("GET", "HEAD", "POST", "PATCH"):
                group.start_soon(lambda m, n, s: origin.request(m, f"/v2/x/{n}", scopes=s), method, number, scopes)
    assert origin.statistics().retries >= 20


async def test_a_throttle_without_a_time_backs_off_the_whole_registry_b1(serve: Serve, open_pool: OpenPool) -> None:
    server = await serve(_first(_status(429), 1))
    origin = await _origin(server, open_pool, retry_base=0.2)
    told: list[float] = []
    origin.on_throttle = told.append
    await origin.request("GET", "/v2/x")
    assert len(told) == 1
    assert 0.1 <= told[0] <= 0.2


async def test_a_hopeless_wait_is_refused_at_once_b2(serve: Serve, open_pool: OpenPool) -> None:
    """B2: and so are the requests that follow, without asking."""
    answering, _ = _retry_after(lambda: "3600", times=99)
    server = await serve(answering)
    origin = await _origin(server, open_pool, retry_max_time=60.0)
    with pytest.raises(RateLimited, match=r"429 Too Many Requests: TOOMANYREQUESTS: slow down") as caught:
        await origin.request("GET", "/v2/x")
    assert caught.value.retry_after == 3600.0
    with pytest.raises(RateLimited, match=r"rate limited for 3\d\d\d s more") as caught:
        await origin.request("HEAD", "/v2/x")
    assert caught.value.retry_after == pytest.approx(3600, abs=5)
    assert len(server.of("/v2/x")) == 1
