"""Answers that are wanted whole, such as manifests, tokens and lists: how large they may be, and how slow."""

from __future__ import annotations

import asyncio

import anyio
import pytest
from aiohttp import web

from asyncrane.errors import ServerFault, TimedOut
from tests.transport.conftest import OpenPool, Serve
from tests.transport.test_streams import PIECE, only, opened


async def test_an_answer_larger_than_its_limit_is_refused(serve: Serve, open_pool: OpenPool) -> None:
    async def large(request: web.BaseRequest) -> web.StreamResponse:
        if request.query.get("chunked"):
            answer = web.StreamResponse()
            answer.enable_chunked_encoding()
            await answer.prepare(request)
            for _ in range(1000):
                await answer.write(PIECE)
            return answer
        return web.Response(body=PIECE)

    origin = await opened(await serve(only("/v2/large", large)), open_pool)
    assert (await origin.request("GET", "/v2/large", limit=len(PIECE))).body == PIECE
    for target in ("/v2/large", "/v2/large?chunked=1"):
        with pytest.raises(ServerFault, match="longer than 1000 bytes"):
            await origin.request("GET", target, limit=1000)


async def test_a_head_of_something_large_has_no_body(serve: Serve, open_pool: OpenPool) -> None:
    async def large(request: web.BaseRequest) -> web.StreamResponse:
        return web.Response(headers={"Content-Length": str(1 << 40)})

    origin = await opened(await serve(only("/v2/blob", large)), open_pool)
    answer = await origin.request("HEAD", "/v2/blob")
    assert (answer.headers["content-length"], answer.body) == (str(1 << 40), b"")


@pytest.mark.parametrize("said", [True, False])
async def test_an_answer_that_comes_byte_by_byte_ends(serve: Serve, open_pool: OpenPool, said: bool) -> None:
    """What is wanted whole, a manifest, a token, a list, is not waited for as a blob is: it never stalls, and never
    ends.
    """

    async def dripping(request: web.BaseRequest) -> web.StreamResponse:
        answer = web.StreamResponse(headers={"Content-Length": "1000000"} if said else {})
        await answer.prepare(request)
        while True:
            await answer.write(b" ")
            await asyncio.sleep(0.02)

    origin = await opened(await serve(only("/v2/list", dripping)), open_pool)
    with anyio.fail_after(20), pytest.raises(TimedOut, match=r"/v2/list: \d+ bytes in 0 s, and no end"):
        await origin.request("GET", "/v2/list", retry=False)
