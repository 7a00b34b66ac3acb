"""Quotas: what counts against one that is used up waits, or fails at once when there is no time (B2)."""

from __future__ import annotations

import anyio
import anyio.lowlevel
import pytest
from aiohttp import web

from asyncrane.errors import RateLimited
from tests.transport.conftest import OpenPool, Serve
from tests.transport.origins import origin_of


async def test_a_used_up_quota_holds_back_manifests_alone_b2(serve: Serve, open_pool: OpenPool) -> None:
    """B2: Docker Hub counts manifests that are fetched; blobs and checks go on."""

    async def hub(request: web.BaseRequest) -> web.StreamResponse:
        limits = {"ratelimit-limit": "100;w=21600", "ratelimit-remaining": "0;w=21600"}
        return web.Response(headers=limits if "/manifests/" in request.path else {})

    server = await serve(hub)
    origin = await origin_of(server, open_pool)
    await origin.request("GET", "/v2/x/manifests/1")
    await origin.request("GET", "/v2/x/blobs/1")
    await origin.request("HEAD", "/v2/x/manifests/1")
    with pytest.raises(RateLimited, match=rf"^GET {server.url}/v2/x/manifests/2: rate limited for 21[56]"):
        await origin.request("GET", "/v2/x/manifests/2")
    assert len(server.of("/v2/x/manifests/2")) == 0


async def test_a_wait_for_the_quota_shows_and_is_told_once_b2(serve: Serve, open_pool: OpenPool) -> None:
    """B2: however many wait for it; while nobody does, the registry waits for nothing."""
    counted: list[str] = []

    async def hub(request: web.BaseRequest) -> web.StreamResponse:
        counted.append(request.path)
        limits = {"ratelimit-limit": "100;w=21600", "ratelimit-remaining": "0;w=1"}
        return web.Response(headers=limits if request.path == "/v2/x/manifests/first" else {})

    origin = await origin_of(await serve(hub), open_pool)
    told: list[float] = []
    waiting = anyio.Event()

    def tell(seconds: float) -> None:
        told.append(seconds)
        waiting.set()

    origin.on_throttle = tell
    await origin.request("GET", "/v2/x/manifests/first")
    assert (origin.parked, told) == (0.0, [])
    async with anyio.create_task_group() as group:
        for number in range(12):
            group.start_soon(origin.request, "GET", f"/v2/x/manifests/{number}")
        await waiting.wait()
        await anyio.lowlevel.checkpoint()
        assert 0.0 < origin.parked <= 1.0
    assert told == [pytest.approx(1.0, abs=0.2)]
    assert origin.parked == 0.0
    assert len(counted) == 14


async def test_a_429_from_an_exhausted_quota_waits_for_its_window_b2(serve: Serve, open_pool: OpenPool) -> None:
    async def hub(request: web.BaseRequest) -> web.StreamResponse:
        if request.path == "/v2/":
            return web.Response()
        return web.Response(status=429, headers={"ratelimit-limit": "9;w=21600", "ratelimit-remaining": "0;w=21600"})

    origin = await origin_of(await serve(hub), open_pool)
    with pytest.raises(RateLimited) as caught:
        await origin.request("GET", "/v2/x/manifests/1")
    assert caught.value.retry_after == 21600.0
