"""Bytes in both directions: streaming answers and bodies, stalls, early answers, cancellation."""

from __future__ import annotations

import asyncio
import hashlib
from collections.abc import AsyncIterator

import anyio
import pytest
from aiohttp import web

from asyncrane.auth.keychain import FixedKeychain
from asyncrane.errors import (
    Denied,
    DigestMismatch,
    Interrupted,
    NotFound,
    RegistryError,
    ServerFault,
    SizeMismatch,
    TimedOut,
)
from asyncrane.transport import Body, Origin
from tests.transport.conftest import OpenPool, Serve
from tests.transport.server import Answering, Server, fine, take

PIECE = b"0123456789abcdef" * 4096


async def opened(server: Server, open_pool: OpenPool, **settings: object) -> Origin:
    pool = await open_pool(**{"plain": [server.address], "stall_timeout": 0.3, "retries": 1, **settings})
    return pool.origin(server.address, FixedKeychain())


def only(path: str, answering: Answering) -> Answering:
    async def choose(request: web.BaseRequest) -> web.StreamResponse:
        return await (answering if request.path == path else fine)(request)

    return choose


async def _pieces(count: int) -> AsyncIterator[bytes]:
    for _ in range(count):
        yield PIECE


async def _read(origin: Origin, into: bytearray) -> None:
    async with origin.stream("GET", "/v2/blob") as answer:
        async for chunk in answer.chunks():
            into += chunk


async def test_a_streamed_answer_comes_as_it_is(serve: Serve, open_pool: OpenPool) -> None:
    """Also when the server says it is compressed: a digest is of the bytes on the wire."""
    content = b"\x1f\x8b" + PIECE * 40

    async def blob(request: web.BaseRequest) -> web.StreamResponse:
        assert request.headers["Accept-Encoding"] == "identity"
        return web.Response(body=content, headers={"Content-Encoding": "gzip"})

    origin = await opened(await serve(only("/v2/blob", blob)), open_pool)
    async with origin.stream("GET", "/v2/blob") as answer:
        assert (answer.status, answer.body) == (200, b"")
        assert b"".join([chunk async for chunk in answer.chunks()]) == content
    assert origin.statistics().received >= len(content)


async def test_a_streamed_error_is_raised_on_entering(serve: Serve, open_pool: OpenPool) -> None:
    async def missing(request: web.BaseRequest) -> web.StreamResponse:
        return web.json_response({"errors": [{"code": "BLOB_UNKNOWN", "message": "unknown blob"}]}, status=404)

    server = await serve(only("/v2/blob", missing))
    origin = await opened(server, open_pool)
    with pytest.raises(NotFound) as caught:
        async with origin.stream("GET", "/v2/blob"):
            raise AssertionError
    assert str(caught.value) == f"GET {server.url}/v2/blob: 404 Not Found: BLOB_UNKNOWN: unknown blob"
    assert (caught.value.status, caught.value.codes) == (404, ("BLOB_UNKNOWN",))


async def test_a_cut_answer_is_interrupted_not_short(serve: Serve, open_pool: OpenPool) -> None:
    async def cut(request: web.BaseRequest) -> web.StreamResponse:
        answer = web.StreamResponse(headers={"Content-Length": str(len(PIECE) * 2)})
        await answer.prepare(request)
        await answer.write(PIECE)
        assert request.transport is not None
        request.transport.close()
        return answer

    origin = await opened(await serve(only("/v2/blob", cut)), open_pool)
    got = bytearray()
    with pytest.raises(Interrupted, match=r"/v2/blob: the connection broke"):
        await _read(origin, got)
    assert got == PIECE


async def test_a_silent_server_times_out_and_a_slow_one_does_not_d7(serve: Serve, open_pool: OpenPool) -> None:
    """D7: the watchdog is on bytes, not on total time."""

    async def slow(request: web.BaseRequest) -> web.StreamResponse:
        answer = web.StreamResponse(headers={"Content-Length": "1000"})
        await answer.prepare(request)
        for _ in range(12):
            await answer.write(b"x")
            await asyncio.sleep(0.05)
        await asyncio.sleep(3600)
        return answer

    origin = await opened(await serve(only("/v2/blob", slow)), open_pool)
    loop = asyncio.get_running_loop()
    got = bytearray()
    started = loop.time()
    with pytest.raises(TimedOut, match=r"nothing moved for 0\.3 s"):
        await _read(origin, got)
    assert got == b"x" * 12
    assert 0.8 <= loop.time() - started < 2.5


async def test_a_reader_that_takes_its_time_is_no_stall_d7(serve: Serve, open_pool: OpenPool) -> None:
    async def large(request: web.BaseRequest) -> web.StreamResponse:
        return web.Response(body=PIECE * 100)

    origin = await opened(await serve(only("/v2/blob", large)), open_pool, stall_timeout=0.1)
    got = 0
    async with origin.stream("GET", "/v2/blob") as answer:
        async for chunk in answer.chunks():
            if not got:
                await anyio.sleep(0.3)
            got += len(chunk)
    assert got == len(PIECE) * 100


async def test_a_server_that_takes_nothing_times_out_d7(serve: Serve, open_pool: OpenPool) -> None:
    """D7: in the other direction."""

    async def full(request: web.BaseRequest) -> web.StreamResponse:
        await asyncio.sleep(3600)
        return web.Response()

    server = await serve(only("/v2/up", full))
    origin = await opened(server, open_pool)
    closed = False

    async def endless() -> AsyncIterator[bytes]:
        nonlocal closed
        try:
            while True:
                yield PIECE
        finally:
            closed = True

    with pytest.raises(TimedOut, match=rf"PUT {server.url}/v2/up: nothing could be sent for 0\.3 s"):
        await origin.request("PUT", "/v2/up", body=Body(endless))
    assert closed


async def test_a_source_that_takes_its_time_is_no_stall_d7(serve: Serve, open_pool: OpenPool) -> None:
    origin = await opened(await serve(fine), open_pool, stall_timeout=0.2)

    async def slow() -> AsyncIterator[bytes]:
        yield b"abc"
        await anyio.sleep(0.5)
        yield b"def"

    assert (await origin.request("PUT", "/v2/up", body=Body(slow, 6))).status == 200


@pytest.mark.parametrize("known", [True, False], ids=["length", "chunked"])
async def test_a_streamed_body_arrives_whole(serve: Serve, open_pool: OpenPool, known: bool) -> None:
    digests: list[str] = []

    async def store(request: web.BaseRequest) -> web.StreamResponse:
        digests.append(hashlib.sha256(await take(request)).hexdigest())
        return web.Response(status=201)

    server = await serve(only("/v2/up", store))
    origin = await opened(server, open_pool)
    size = len(PIECE) * 50
    await origin.request("PUT", "/v2/up", body=Body(lambda: _pieces(50), size if known else None), expect=(201,))
    assert digests == [hashlib.sha256(PIECE * 50).hexdigest()]
    assert server.asked[-1].headers.get("Content-Length") == (str(size) if known else None)
    assert origin.statistics().sent == size


async def test_an_empty_streamed_body_is_a_body(serve: Serve, open_pool: OpenPool) -> None:
    server = await serve(fine)
    origin = await opened(server, open_pool)
    await origin.request("PUT", "/v2/up", body=Body(lambda: _pieces(0), 0))
    assert server.asked[-1].headers["Content-Length"] == "0"


async def test_a_bodys_own_exception_comes_out_as_itself(serve: Serve, open_pool: OpenPool) -> None:
    origin = await opened(await serve(fine), open_pool)
    wrong = DigestMismatch("not what was promised")

    async def failing() -> AsyncIterator[bytes]:
        yield PIECE
        raise wrong

    with pytest.raises(DigestMismatch) as caught:
        await origin.request("PUT", "/v2/up", body=Body(failing, 2 * len(PIECE)))
    assert caught.value is wrong
    with pytest.raises(ConnectionResetError, match="of the source"):
        await origin.request("PUT", "/v2/up", body=Body(_resetting, 2 * len(PIECE)))


async def _resetting() -> AsyncIterator[bytes]:
    yield PIECE
    raise ConnectionResetError("of the source")


async def test_a_verifying_body_can_refuse_before_the_last_bytes_leave(serve: Serve, open_pool: OpenPool) -> None:
    """So a registry never sees the end of a blob that is not what it should be."""
    got: list[int] = []
    ended = anyio.Event()

    async def store(request: web.BaseRequest) -> web.StreamResponse:
        size = 0
        try:
            async for chunk in request.content.iter_any():
                size += len(chunk)
        finally:
            got.append(size)
            ended.set()
        return web.Response(status=201)

    async def verifying() -> AsyncIterator[bytes]:
        for _ in range(10):
            yield PIECE
        raise DigestMismatch("wrong")

    origin = await opened(await serve(only("/v2/up", store)), open_pool)
    with pytest.raises(DigestMismatch):
        await origin.request("PUT", "/v2/up", body=Body(verifying, 10 * len(PIECE)), expect=(201,))
    with anyio.fail_after(2):
        await ended.wait()
    assert got[0] <= 9 * len(PIECE)


async def test_a_finished_body_runs_to_its_end_and_is_closed(serve: Serve, open_pool: OpenPool) -> None:
    """aiohttp would cut it off when the answer comes."""
    ends: list[str] = []

    async def content() -> AsyncIterator[bytes]:
        try:
            yield PIECE
            yield PIECE
            await anyio.sleep(0.05)
            ends.append("finished")
        finally:
            ends.append("closed")

    origin = await opened(await serve(fine), open_pool)
    await origin.request("PUT", "/v2/up", body=Body(content, 2 * len(PIECE)))
    assert ends == ["finished", "closed"]


@pytest.mark.parametrize("count", [1, 3])
async def test_a_body_of_another_length_is_refused(serve: Serve, open_pool: OpenPool, count: int) -> None:
    origin = await opened(await serve(fine), open_pool)
    with pytest.raises(SizeMismatch, match=r"/v2/up: the body "):
        await origin.request("PUT", "/v2/up", body=Body(lambda: _pieces(count), 2 * len(PIECE)))


@pytest.mark.parametrize(("code", "error"), [(403, Denied), (413, RegistryError)])
async def test_an_early_answer_is_reported_not_a_broken_pipe(
    serve: Serve, open_pool: OpenPool, code: int, error: type[RegistryError]
) -> None:
    """The server answers before the body is through, and takes no more of it."""

    async def early(request: web.BaseRequest) -> web.StreamResponse:
        await request.content.readany()
        return web.Response(status=code, text="too much", headers={"Connection": "close"})

    server = await serve(only("/v2/up", early))
    origin = await opened(server, open_pool)
    closed = 0

    async def endless() -> AsyncIterator[bytes]:
        nonlocal closed
        try:
            while True:
                yield PIECE
        finally:
            closed += 1

    for attempt in range(10):
        with pytest.raises(error, match=rf"PUT {server.url}/v2/up: {code} .*: too much") as caught:
            await origin.request("PUT", "/v2/up", body=Body(endless, 1 << 40))
        assert caught.value.status == code
        assert closed == attempt + 1


async def test_an_early_answer_finds_a_body_that_waits_for_its_source(serve: Serve, open_pool: OpenPool) -> None:
    async def early(request: web.BaseRequest) -> web.StreamResponse:
        await request.content.readany()
        return web.Response(status=403)

    ends: list[str] = []

    async def waiting() -> AsyncIterator[bytes]:
        try:
            yield PIECE
            await anyio.sleep_forever()
        finally:
            ends.append("closed")

    origin = await opened(await serve(only("/v2/up", early)), open_pool)
    with pytest.raises(Denied):
        await origin.request("PUT", "/v2/up", body=Body(waiting, 1 << 30))
    assert ends == ["closed"]


async def test_cancelling_lets_go_of_body_and_connection(serve: Serve, open_pool: OpenPool) -> None:
    gone = asyncio.Event()

    async def slow(request: web.BaseRequest) -> web.StreamResponse:
        try:
            await take(request)
        finally:
            gone.set()
        return web.Response()

    ends: list[str] = []

    async def waiting() -> AsyncIterator[bytes]:
        try:
            yield PIECE
            scope.cancel()
            await anyio.sleep_forever()
        finally:
            ends.append("closed")

    origin = await opened(await serve(only("/v2/up", slow)), open_pool)
    with anyio.CancelScope() as scope:
        await origin.request("PUT", "/v2/up", body=Body(waiting, 1 << 30))
    assert scope.cancelled_caught
    assert ends == ["closed"]
    with anyio.fail_after(2):
        await gone.wait()
    assert (await origin.request("GET", "/v2/x")).status == 200


async def test_leaving_a_stream_early_does_not_spoil_the_next_request(serve: Serve, open_pool: OpenPool) -> None:
    async def large(request: web.BaseRequest) -> web.StreamResponse:
        return web.Response(body=PIECE * 200)

    origin = await opened(await serve(only("/v2/blob", large)), open_pool)
    for _ in range(3):
        async with origin.stream("GET", "/v2/blob") as answer:
            async for _chunk in answer.chunks():
                break
        assert (await origin.request("GET", "/v2/x")).body == b"fine"


async def test_an_answer_that_is_not_http_is_a_fault(open_pool: OpenPool) -> None:
    async def babble(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await reader.readuntil(b"\r\n\r\n")
        writer.write(b"SSH-2.0-OpenSSH_9.2\r\n\r\n")
        writer.close()

    server = await asyncio.start_server(babble, "127.0.0.1", 0)
    async with server:
        address = f"127.0.0.1:{server.sockets[0].getsockname()[1]}"
        pool = await open_pool(plain=[address], retries=0)
        with pytest.raises(ServerFault, match="the answer is not HTTP"):
            await pool.origin(address, FixedKeychain()).request("GET", "/v2/x")
