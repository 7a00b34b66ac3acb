"""Faults of bytes on their way."""

from __future__ import annotations

import random
from collections.abc import AsyncIterator
from functools import partial

import aiohttp
import anyio
import pytest

from asyncrane.oci.digest import Digest
from asyncrane.testing import (
    FaultyRegistry,
    Gate,
    acknowledge,
    corrupt,
    cut_request,
    cut_response,
    ignore_range,
    lie_range,
    overstate,
    redirect,
    shorten,
    slow,
    stall_request,
    stall_response,
    status,
    wrong_range,
)
from tests.server.client import Client

DATA = random.Random(7).randbytes(600_000)
DIGEST = Digest.of(DATA)
TARGET = f"/v2/a/blobs/{DIGEST}"


@pytest.fixture(autouse=True)
def blob(registry: FaultyRegistry) -> None:
    registry.put_blob("a", DATA)


async def read(client: Client, received: bytearray, **headers: str) -> None:
    async with client.session.get(client.base + TARGET, headers=headers) as response:
        async for chunk in response.content.iter_any():
            received.extend(chunk)


@pytest.mark.parametrize("at", [0, 1, 262_144, 300_000, 599_999])
async def test_a_cut_answer_ends_at_that_byte(registry: FaultyRegistry, client: Client, at: int) -> None:
    registry.faults.add(cut_response(at, times=1))
    received = bytearray()
    with pytest.raises(aiohttp.ClientError):
        await read(client, received)
    assert received == DATA[:at]
    assert (registry.log[0].status, registry.log[0].response_bytes) == (200, at)
    received = bytearray()
    await read(client, received)
    assert received == DATA


async def test_a_cut_may_be_a_reset(registry: FaultyRegistry, client: Client) -> None:
    registry.faults.add(cut_response(300_000, reset=True))
    received = bytearray()
    with pytest.raises(aiohttp.ClientError):
        await read(client, received)
    assert DATA.startswith(received)
    assert len(received) <= 300_000


async def test_a_range_is_cut_after_that_many_of_its_bytes(registry: FaultyRegistry, client: Client) -> None:
    registry.faults.add(cut_response(1000))
    received = bytearray()
    with pytest.raises(aiohttp.ClientError):
        await read(client, received, Range="bytes=500-")
    assert received == DATA[500:1500]


async def test_a_stalled_answer_stands_still_until_the_gate_opens(registry: FaultyRegistry, client: Client) -> None:
    gate = Gate()
    registry.faults.add(stall_response(1000, gate))
    received = bytearray()
    async with anyio.create_task_group() as group:
        group.start_soon(read, client, received)
        await gate.reached()
        assert (registry.log.active("blob-get"), registry.log[0].response_bytes) == (1, 1000)
        gate.release()
    assert received == DATA


async def test_a_stall_ends_with_the_connection_or_the_registry(registry: FaultyRegistry, client: Client) -> None:
    gate = Gate()
    registry.faults.add(stall_response(1000, gate))
    with anyio.fail_after(5):
        async with anyio.create_task_group() as group:
            group.start_soon(read, client, bytearray())
            await gate.reached()
            group.cancel_scope.cancel()
        while registry.log.active():
            await anyio.lowlevel.checkpoint()


async def test_a_wrong_byte_is_one_wrong_byte(registry: FaultyRegistry, client: Client) -> None:
    for at in (0, 262_143, 262_144, 599_999):
        registry.faults.add(corrupt(at, times=1))
        answer = await client.ask("GET", TARGET)
        assert answer.status == 200
        assert [i for i in (at - 1, at, (at + 1) % 600_000) if i >= 0 and answer.body[i] != DATA[i]] == [at]
        assert Digest.of(answer.body) != DIGEST
    assert registry.get_blob("a", DIGEST) == DATA


async def test_a_short_answer_looks_whole(registry: FaultyRegistry, client: Client) -> None:
    registry.faults.add(shorten(10))
    answer = await client.ask("GET", TARGET)
    assert (answer.status, answer.headers["Content-Length"], answer.body) == (200, "599990", DATA[:-10])


async def test_a_length_that_is_overstated_is_not_reached(registry: FaultyRegistry, client: Client) -> None:
    registry.faults.add(overstate(10, kind=("blob-get", "blob-head")))
    received = bytearray()
    with pytest.raises(aiohttp.ClientPayloadError):
        await read(client, received)
    assert received == DATA
    assert (await client.ask("HEAD", TARGET)).headers["Content-Length"] == "600010"


@pytest.mark.parametrize("method", ["HEAD", "GET"])
async def test_an_answer_without_a_body_is_cut_after_its_head(
    registry: FaultyRegistry, client: Client, method: str
) -> None:
    """Nothing is kept of the connection, and nothing is sent in place of the body."""
    gate = Gate()
    registry.faults.add(stall_response(0, gate, kind=("blob-head", "tags")), status(204, kind="tags"))
    answer = await client.ask(method, "/v2/a/tags/list" if method == "GET" else TARGET)
    assert (answer.status, answer.body, gate.arrived) == (204 if method == "GET" else 200, b"", 1)


async def test_a_slow_answer_takes_its_time(registry: FaultyRegistry, client: Client) -> None:
    registry.faults.add(slow(20_000_000))
    assert (await client.ask("GET", TARGET)).body == DATA
    request = registry.log[0]
    assert request.ended is not None
    assert request.ended - request.started >= 0.03


async def test_a_range_may_be_ignored(registry: FaultyRegistry, client: Client) -> None:
    registry.faults.add(ignore_range())
    answer = await client.ask("GET", TARGET, headers={"range": "bytes=5-9"})
    assert (answer.status, answer.body, "Accept-Ranges" in answer.headers) == (200, DATA, False)


async def test_a_range_may_lie_about_where_it_begins(registry: FaultyRegistry, client: Client) -> None:
    registry.faults.add(lie_range(3))
    answer = await client.ask("GET", TARGET, headers={"Range": "bytes=5-9"})
    assert (answer.status, answer.headers["Content-Range"], answer.body) == (206, "bytes 8-9/600000", DATA[5:10])


async def test_a_range_may_hold_other_bytes_than_it_says(registry: FaultyRegistry, client: Client) -> None:
    registry.faults.add(wrong_range(2))
    answer = await client.ask("GET", TARGET, headers={"range": "bytes=5-9"})
    assert (answer.status, answer.headers["Content-Range"], answer.body) == (206, "bytes 5-9/600000", DATA[3:8])


async def test_an_upload_is_cut_at_that_byte_and_keeps_what_came(registry: FaultyRegistry, client: Client) -> None:
    location = await client.start_upload("b")
    registry.faults.add(cut_request(100_000))
    with pytest.raises(aiohttp.ClientError):
        await client.ask("PATCH", location, data=DATA)
    registry.faults.clear()
    answer = await client.ask("GET", location)
    assert answer.headers["Range"] == "0-99999"
    assert (await client.ask("PUT", f"{location}?digest={DIGEST}", data=DATA[100_000:])).status == 201
    assert registry.get_blob("b", DIGEST) == DATA


async def test_an_upload_that_stalls_is_freed_when_its_client_leaves(registry: FaultyRegistry, client: Client) -> None:
    """D7: the upload can be gone on with from another connection."""
    location = await client.start_upload("b")
    gate = Gate()
    registry.faults.add(stall_request(100_000, gate, times=1))
    async with anyio.create_task_group() as group:
        group.start_soon(partial(client.ask, "PATCH", location, data=DATA))
        await gate.reached()
        group.cancel_scope.cancel()
    with anyio.fail_after(5):
        headers = {"Content-Range": "100000-599999"}
        assert (await client.ask("PATCH", location, data=DATA[100_000:], headers=headers)).status == 202
    assert (await client.ask("PUT", f"{location}?digest={DIGEST}")).status == 201


async def test_a_stalled_upload_goes_on_when_the_gate_opens(registry: FaultyRegistry, client: Client) -> None:
    location = await client.start_upload("b")
    gate = Gate()
    registry.faults.add(stall_request(0, gate))
    async with anyio.create_task_group() as group:
        group.start_soon(partial(client.ask, "PUT", f"{location}?digest={DIGEST}", data=DATA))
        await gate.reached()
        assert registry.get_blob("b", DIGEST) is None
        gate.release()
    assert registry.get_blob("b", DIGEST) == DATA


@pytest.mark.parametrize("stated", [True, False])
async def test_fewer_bytes_are_acknowledged_than_were_sent(
    registry: FaultyRegistry, client: Client, stated: bool
) -> None:
    """D4: the client must go on from the Range it was told."""
    registry.faults.add(acknowledge(1000, times=1))
    location = await client.start_upload("b")
    headers = {"content-range": "0-599999"} if stated else {}

    async def body() -> AsyncIterator[bytes]:
        yield DATA

    answer = await client.ask("PATCH", location, data=DATA if stated else body(), headers=headers)
    assert (answer.status, answer.headers["Range"]) == (202, "0-999")
    assert registry.requests(kind="upload-patch")[0].request_bytes == 600_000
    headers = {"Content-Range": "1000-599999"}
    assert (await client.ask("PATCH", location, data=DATA[1000:], headers=headers)).status == 202
    assert (await client.ask("PUT", f"{location}?digest={DIGEST}")).status == 201


async def test_a_get_is_sent_elsewhere(registry: FaultyRegistry, client: Client) -> None:
    registry.faults.add(redirect("http://127.0.0.1:1/x?a=%2F", nth=1))
    registry.faults.add(redirect(lambda call: f"{call.base}{call.path}", code=302, nth=2))
    first, second = await client.ask("GET", TARGET), await client.ask("GET", TARGET)
    assert (first.status, first.headers["Location"]) == (307, "http://127.0.0.1:1/x?a=%2F")
    assert (second.status, second.headers["Location"]) == (302, client.base + TARGET)
