"""https or http: asked once, https first, http where crane would ask it too."""

from __future__ import annotations

import asyncio
import math
import ssl

import anyio
import pytest
import trustme
from aiohttp import web

from asyncrane.auth.keychain import FixedKeychain
from asyncrane.errors import ConnectFailed, NotFound, RegistryError, ServerFault
from asyncrane.transport.scheme import first_good
from tests.transport.conftest import OpenPool, Serve
from tests.transport.server import fine


async def test_a_head_start_is_not_waited_for_when_the_first_fails() -> None:
    async def ask(scheme: str) -> str:
        if scheme == "https":
            raise ConnectFailed("refused")
        return scheme

    with anyio.fail_after(5):
        assert await first_good(["https", "http"], ask, head_start=math.inf) == "http"


async def test_a_late_first_still_wins_if_it_is_first() -> None:
    release = anyio.Event()

    async def ask(scheme: str) -> str:
        if scheme == "http":
            release.set()
            await anyio.sleep_forever()
        await release.wait()
        return scheme

    assert await first_good(["https", "http"], ask, head_start=0.01) == "https"


async def test_what_a_registry_said_counts_more_than_no_connection() -> None:
    async def ask(scheme: str) -> str:
        raise ConnectFailed("tls") if scheme == "https" else NotFound("404", status=404)

    with pytest.raises(NotFound):
        await first_good(["https", "http"], ask, head_start=0.01)


async def test_a_tls_port_that_refuses_plain_requests_is_no_answer() -> None:
    """Of an unknown authority the user learns that, not what Go's server says to a plain request on a TLS port."""

    async def ask(scheme: str) -> str:
        raise ConnectFailed("tls") if scheme == "https" else RegistryError("400", status=400)

    with pytest.raises(ConnectFailed):
        await first_good(["https", "http"], ask, head_start=0.01)


async def test_a_loopback_registry_may_be_plain(serve: Serve, open_pool: OpenPool) -> None:
    server = await serve(fine)
    origin = (await open_pool()).origin(server.address, FixedKeychain())
    assert await origin.base() == f"http://{server.address}"
    assert origin.statistics().requests == {"GET ping": 2}


async def test_tls_is_taken_where_there_is_tls(serve: Serve, open_pool: OpenPool) -> None:
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    trustme.CA().issue_cert("127.0.0.1").configure_cert(context)
    server = await serve(fine, context=context)
    origin = (await open_pool(insecure=True)).origin(server.address, FixedKeychain())
    assert await origin.base() == f"https://{server.address}"


async def test_a_silent_https_port_does_not_hold_up_http(open_pool: OpenPool) -> None:
    """http is asked 300 ms later, as in crane."""

    async def only_http(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        if (await reader.read(1)) == b"G":
            await reader.readuntil(b"\r\n\r\n")
            writer.write(b"HTTP/1.1 200 OK\r\nContent-Length: 0\r\n\r\n")
        else:
            await reader.read()
        writer.close()

    server = await asyncio.start_server(only_http, "127.0.0.1", 0)
    async with server:
        address = f"127.0.0.1:{server.sockets[0].getsockname()[1]}"
        origin = (await open_pool()).origin(address, FixedKeychain())
        with anyio.fail_after(3):
            assert await origin.base() == f"http://{address}"


async def test_a_plain_registry_gets_no_https_attempt_l1(serve: Serve, open_pool: OpenPool) -> None:
    server = await serve(fine)
    origin = (await open_pool(plain=[server.address])).origin(server.address, FixedKeychain())
    await origin.request("GET", "/v2/x")
    assert origin.statistics().requests == {"GET ping": 1, "GET other": 1}


async def test_other_hosts_are_asked_by_https_alone(open_pool: OpenPool) -> None:
    origin = (await open_pool()).origin("registry.invalid", FixedKeychain())
    with pytest.raises(ConnectFailed):
        await origin.base()
    assert origin.statistics().requests == {"GET ping": 1}


@pytest.mark.parametrize(("status", "error"), [(404, NotFound), (500, ServerFault)])
async def test_a_ping_answered_otherwise_is_an_error(
    serve: Serve, open_pool: OpenPool, status: int, error: type[Exception]
) -> None:
    async def not_a_registry(request: web.BaseRequest) -> web.StreamResponse:
        return web.Response(status=status)

    server = await serve(not_a_registry)
    origin = (await open_pool(retries=0)).origin(server.address, FixedKeychain())
    with pytest.raises(error, match=rf"^GET {server.url}/v2/: {status} "):
        await origin.request("GET", "/v2/x")


async def test_a_failed_search_is_not_remembered(serve: Serve, open_pool: OpenPool) -> None:
    status = 500

    async def recovering(request: web.BaseRequest) -> web.StreamResponse:
        return web.Response(status=status)

    server = await serve(recovering)
    origin = (await open_pool(retries=0)).origin(server.address, FixedKeychain())
    with pytest.raises(ServerFault):
        await origin.request("GET", "/v2/x")
    status = 200
    assert (await origin.request("GET", "/v2/x")).status == 200
