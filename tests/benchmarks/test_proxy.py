"""The line with a round-trip time: it delays, keeps the order, loses nothing, and ends when its ends do."""

from __future__ import annotations

import asyncio
import hashlib
import random
import time
from contextlib import asynccontextmanager
from typing import TYPE_CHECKING

import anyio
import pytest

from benchmarks.proxy import delayed, lines

if TYPE_CHECKING:
    from collections.abc import AsyncIterator

    from anyio.abc import SocketStream

RTT = 0.06
LARGE = 24 << 20


@asynccontextmanager
async def echoing() -> AsyncIterator[str]:
    """A server that says what it hears, until its caller has nothing more to say."""

    async def echo(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        while data := await reader.read(1 << 16):
            writer.write(data)
            await writer.drain()
        writer.close()

    server = await asyncio.start_server(echo, "127.0.0.1", 0)
    async with server:
        yield f"127.0.0.1:{server.sockets[0].getsockname()[1]}"


async def connect(address: str) -> SocketStream:
    host, _, port = address.partition(":")
    return await anyio.connect_tcp(host, int(port))


async def ask(stream: SocketStream, word: bytes) -> float:
    """Seconds until the word came back."""
    began = time.perf_counter()
    await stream.send(word)
    heard = b""
    while len(heard) < len(word):
        heard += await stream.receive()
    assert heard == word
    return time.perf_counter() - began


async def test_an_answer_takes_a_round_trip_and_the_first_one_more_for_the_handshake() -> None:
    """Half a round trip in each direction; connecting costs one as it does over a real line."""
    async with echoing() as upstream, delayed(upstream, RTT) as address, await connect(address) as stream:
        first, second = await ask(stream, b"first"), await ask(stream, b"second")
    assert first >= 1.9 * RTT
    assert second >= 0.95 * RTT
    assert second < first


async def test_bytes_arrive_whole_and_in_order_and_the_end_arrives_after_them() -> None:
    """A half-closed connection still carries everything that is on its way back, then ends."""
    sent = random.Random(1).randbytes(LARGE)
    heard = hashlib.sha256()
    async with echoing() as upstream, delayed(upstream, RTT) as address, await connect(address) as stream:

        async def talk() -> None:
            await stream.send(sent)
            await stream.send_eof()

        async with anyio.create_task_group() as group:
            group.start_soon(talk)
            async for data in stream:
                heard.update(data)
    assert heard.digest() == hashlib.sha256(sent).digest()


async def test_each_connection_has_a_rate_of_its_own() -> None:
    """Twice the connections are twice the bytes a second; what was sent arrives whole."""
    rate, sent = 8e6, random.Random(2).randbytes(3 << 20)
    least = len(sent) / rate

    async def talk(address: str) -> float:
        began, heard = time.perf_counter(), hashlib.sha256()
        async with await connect(address) as stream, anyio.create_task_group() as group:

            async def say() -> None:
                await stream.send(sent)
                await stream.send_eof()

            group.start_soon(say)
            async for data in stream:
                heard.update(data)
        assert heard.digest() == hashlib.sha256(sent).digest()
        return time.perf_counter() - began

    took: list[float] = []
    async with echoing() as upstream, lines([upstream], 0.0, rate) as line, anyio.create_task_group() as group:
        began = time.perf_counter()

        async def one() -> None:
            took.append(await talk(line.addresses[0]))

        for _ in range(4):
            group.start_soon(one)
    assert min(took) >= 0.9 * least
    assert time.perf_counter() - began < 3 * least + 1, "side by side, not one after the other"


async def test_a_caller_of_a_dead_upstream_is_hung_up_on() -> None:
    """Nobody listens behind the line: the connection ends instead of hanging."""
    async with echoing() as upstream:
        pass
    async with delayed(upstream, RTT) as address, await connect(address) as stream:
        with anyio.fail_after(5), pytest.raises((anyio.EndOfStream, anyio.BrokenResourceError)):
            await stream.receive()


async def test_lines_are_served_by_a_process_that_counts_its_work() -> None:
    """As the benchmarks use it: one line per upstream, in order."""
    async with echoing() as one, echoing() as other, lines([one, other], RTT) as line:
        assert len(line.addresses) == 2
        assert line.pid
        for address in line.addresses:
            async with await connect(address) as stream:
                assert await ask(stream, b"word") >= 1.9 * RTT


async def test_no_round_trip_means_no_proxy() -> None:
    """The bare loopback is the registries' own addresses."""
    async with lines(["127.0.0.1:1", "127.0.0.1:2"], 0.0) as line:
        assert line.addresses == ("127.0.0.1:1", "127.0.0.1:2")
        assert line.cpu_seconds() == 0.0
