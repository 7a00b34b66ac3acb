"""Rates hold: in a simulated minute, and for a moment on a real connection (I7)."""

from __future__ import annotations

import heapq
import random
import time
from collections.abc import AsyncIterator

import anyio
import pytest
from aiohttp import web

from asyncrane.auth.keychain import FixedKeychain
from asyncrane.transport import Body
from asyncrane.transport.options import RegistryOptions
from asyncrane.transport.rate import BURST, Bucket, Pace, pace
from tests.transport.conftest import OpenPool, Serve
from tests.transport.origins import origin_of
from tests.transport.server import fine, take

MB = 1_000_000


def simulate(
    rate: float, *, streams: int, seconds: float, sizes: tuple[int, int], late: float
) -> list[tuple[float, int]]:
    """When which pieces pass, of ``streams`` that always have more and wake up to ``late`` seconds after their time."""
    dice, bucket = random.Random(7), Bucket(rate)
    passed: list[tuple[float, int]] = []
    waiting: list[tuple[float, int]] = []

    def ask(now: float) -> None:
        size = dice.randint(*sizes)
        heapq.heappush(waiting, (bucket.reserve(size, now) + dice.uniform(0, late), size))

    for _ in range(streams):
        ask(0.0)
    while waiting[0][0] <= seconds:
        now, size = heapq.heappop(waiting)
        passed.append((now, size))
        ask(now)
    return passed


@pytest.mark.parametrize("streams", [1, 8, 64])
@pytest.mark.parametrize("sizes", [(1000, 100_000), (200_000, 1_200_000)])
def test_a_rate_holds_for_a_minute_i7(streams: int, sizes: tuple[int, int]) -> None:
    """I7: within 5 %, also with pieces larger than what a burst may be and a loop that is late."""
    passed = simulate(10 * MB, streams=streams, seconds=60.0, sizes=sizes, late=0.002)
    assert sum(size for _, size in passed) == pytest.approx(600 * MB, rel=0.05)


def test_no_second_gets_more_than_its_share_i7() -> None:
    passed = simulate(10 * MB, streams=8, seconds=30.0, sizes=(1000, 100_000), late=0.0)
    for start in range(29):
        bytes_passed = sum(size for at, size in passed if start <= at < start + 1)
        assert bytes_passed <= 10 * MB * (1 + BURST) + 100_000


def test_what_was_not_used_is_not_saved_up() -> None:
    bucket = Bucket(MB)
    assert bucket.reserve(100_000, 0.0) == pytest.approx(0.1)
    assert bucket.reserve(MB, 1000.0) == pytest.approx(1001.0 - BURST)


def test_a_piece_larger_than_a_burst_takes_as_long_as_it_takes() -> None:
    bucket = Bucket(MB)
    assert bucket.reserve(20 * MB, 5.0) == pytest.approx(25.0)
    assert bucket.reserve(1, 5.0) >= 25.0


def test_what_is_given_back_is_there_for_who_comes_next() -> None:
    bucket = Bucket(MB)
    bucket.reserve(50 * MB, 0.0)
    bucket.give_back(50 * MB)
    assert bucket.reserve(100_000, 0.0) == pytest.approx(0.1)


def test_no_rate_is_no_pace() -> None:
    assert pace(None, None) is None
    with pytest.raises(ValueError, match="a rate is more than nothing"):
        Bucket(0)


async def test_who_is_cancelled_while_waiting_gives_the_bytes_back() -> None:
    shared = Pace([Bucket(MB), Bucket(2 * MB)])
    with anyio.move_on_after(0.01) as scope:
        await shared.take(1000 * MB)
    assert scope.cancelled_caught
    with anyio.fail_after(5):
        await shared.take(1000)


async def test_a_piece_is_waited_for_once() -> None:
    """No loop that looks at the clock again and again."""
    looks: list[float] = []

    def clock() -> float:
        looks.append(time.monotonic())
        return looks[-1]

    paced = Pace([Bucket(MB), Bucket(0.5 * MB)], clock=clock)
    for _ in range(5):
        await paced.take(5000)
    assert len(looks) == 5
    assert time.monotonic() - looks[0] >= 0.04


async def test_streams_of_both_directions_keep_to_the_rates_i7(serve: Serve, open_pool: OpenPool) -> None:
    """I7: one registry's rate for each direction, and one over all; other requests do not wait."""
    arrived: list[int] = []

    async def answer(request: web.BaseRequest) -> web.StreamResponse:
        if request.method == "PUT":
            arrived.append(len(await take(request)))
        return web.Response(body=b"x" * MB if "/blobs/" in request.path else b"fine")

    server, other = await serve(answer), await serve(answer)
    slow = RegistryOptions(plain_http=True, rate=2 * MB)
    registries = {server.address: slow, other.address: RegistryOptions(plain_http=True)}
    pool = await open_pool(registries=registries, rate=4 * MB)
    elapsed: dict[str, float] = {}

    async def read(name: str, address: str) -> None:
        started = time.monotonic()
        async with pool.origin(address, FixedKeychain()).stream("GET", "/v2/a/blobs/x") as answer:
            assert sum([len(chunk) async for chunk in answer.chunks()]) == MB
        elapsed[name] = time.monotonic() - started

    async def write() -> None:
        async def pieces() -> AsyncIterator[bytes]:
            for _ in range(10):
                yield b"x" * (MB // 10)

        started = time.monotonic()
        body = Body(pieces, MB)
        await pool.origin(server.address, FixedKeychain()).request("PUT", "/v2/a/blobs/uploads/1", body=body)
        elapsed["write"] = time.monotonic() - started

    async def ask() -> None:
        started = time.monotonic()
        await pool.origin(server.address, FixedKeychain()).request("GET", "/v2/a/manifests/x")
        elapsed["ask"] = time.monotonic() - started

    for address in (server.address, other.address):
        await pool.origin(address, FixedKeychain()).base()
    started = time.monotonic()
    async with anyio.create_task_group() as tasks:
        for number in range(2):
            tasks.start_soon(read, f"slow {number}", server.address)
            tasks.start_soon(read, f"other {number}", other.address)
        tasks.start_soon(write)
        tasks.start_soon(ask)
    whole = time.monotonic() - started
    assert arrived == [MB]
    assert 0.95 <= max(elapsed["slow 0"], elapsed["slow 1"]) <= 1.4  # 2 MB at 2 MB/s
    assert 0.95 <= whole <= 1.4  # 4 MB at 4 MB/s: sharing does not slow the slow one
    assert elapsed["write"] == pytest.approx(0.5, abs=0.2)  # the other direction
    assert elapsed["ask"] < 0.3


async def test_what_is_sent_is_counted_while_it_is_sent(serve: Serve, open_pool: OpenPool) -> None:
    """A registry's rate is what goes to it now, not what went when a large blob has ended."""
    origin = await origin_of(await serve(fine), open_pool)
    counted: list[int] = []

    async def looking() -> AsyncIterator[bytes]:
        for _ in range(3):
            counted.append(origin.statistics().sent)
            yield b"x" * MB

    await origin.request("PUT", "/v2/up", body=Body(looking, 3 * MB))
    assert counted == [0, MB, 2 * MB]
