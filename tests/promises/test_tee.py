"""Several destinations: the source is read once for all of them, and none of them waits long for another."""

from __future__ import annotations

import functools
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack
from dataclasses import replace

import anyio
import anyio.lowlevel
import pytest

from asyncrane import Session, copy
from asyncrane.auth.credentials import Credential
from asyncrane.auth.keychain import FixedKeychain
from asyncrane.engine import runner
from asyncrane.engine.transfer import WINDOW, transfer
from asyncrane.oci.reference import Repository
from asyncrane.server.call import Call, Handler
from asyncrane.server.reply import Reply
from asyncrane.stores.remote import Remote
from asyncrane.testing import FaultyRegistry, Gate, corrupt, cut_request, delay, fault, slow, stall_request
from asyncrane.testing.images import random_image
from asyncrane.transport import Pool
from tests.promises.images import incomplete, one, put, tags

MIB = 1024 * 1024
SIZE = WINDOW + 4 * MIB
HUGE = WINDOW + 14 * MIB  # more than sockets swallow besides
PATIENCE = 0.3


@pytest.fixture
async def destinations() -> AsyncIterator[list[FaultyRegistry]]:
    async with AsyncExitStack() as stack:
        yield [await stack.enter_async_context(FaultyRegistry()) for _ in range(3)]


@pytest.fixture
async def pool() -> AsyncIterator[Pool]:
    async with Pool(retry_base=0.001) as pool:
        yield pool


def remote(pool: Pool, registry: FaultyRegistry) -> Remote:
    return Remote(pool.origin(registry.address, FixedKeychain(Credential())), Repository(registry.address, "app"))


def read(registry: FaultyRegistry) -> int:
    return sum(r.response_bytes for r in registry.requests(kind="blob-get"))


async def test_a1_three_destinations_read_no_more_of_the_source_than_one(
    source: FaultyRegistry, destinations: list[FaultyRegistry]
) -> None:
    """A1: at most 1.05 times the bytes; also where one is slower than the others, but keeps up."""
    sample = random_image("tee", layers=(SIZE, 300_000, 2 * MIB, 10))
    name = put(source, "app", sample, "v1")
    await one(name, f"{destinations[0].address}/alone:v1")
    alone = read(source)
    source.log.clear()
    for number, registry in enumerate(destinations):
        registry.faults.add(delay(0.02 * number, kind=("mount", "upload-put")))
    outcome, done = await one(name, *[f"{registry.address}/app:v1" for registry in destinations])
    assert [target.status for target in outcome.targets] == ["copied"] * 3
    assert read(source) <= 1.05 * alone
    assert done.bytes_read == alone
    assert [incomplete(registry) for registry in destinations] == [[]] * 3


async def test_a_destination_that_stalls_is_let_go_and_reads_for_itself(
    source: FaultyRegistry, destinations: list[FaultyRegistry], monkeypatch: pytest.MonkeyPatch
) -> None:
    """The others are tagged while it still stands; afterwards it gets all of it, too."""
    monkeypatch.setattr(runner, "transfer", functools.partial(transfer, patience=PATIENCE))
    sample = random_image("stalled", layers=(HUGE,))
    layer = str(sample.manifest.layers()[0].digest)
    gate = Gate()
    stalled = destinations[1]
    stall = stalled.faults.add(
        stall_request(MIB, gate, kind="upload-put", times=1, where=lambda call: call.ask("digest") == layer),
        delay(gate, kind="mount", where=lambda call: call.ask("mount") == layer, after=1),
    )
    name = put(source, "app", sample, "v1")
    async with Session() as session, anyio.create_task_group() as tasks:

        async def release() -> None:
            while not (tags(destinations[0]) and tags(destinations[2])):
                await anyio.lowlevel.checkpoint()
            assert not tags(stalled)
            gate.release()

        tasks.start_soon(release)
        with anyio.fail_after(30):
            outcome = await copy(session, name, *[f"{registry.address}/app:v1" for registry in destinations])
    assert [target.status for target in outcome.targets] == ["copied"] * 3
    assert stall.hits >= 1
    assert [incomplete(registry) for registry in destinations] == [[]] * 3
    assert len(source.requests(kind="blob-get", digest=layer)) == 2
    assert all(registry.open_uploads == 0 for registry in destinations)


async def test_a_destination_that_crawls_is_let_go(
    source: FaultyRegistry, destinations: list[FaultyRegistry], pool: Pool
) -> None:
    """Every single chunk comes through in time, and yet it would make all of them wait."""
    sample = random_image("crawls", layers=(HUGE,))
    put(source, "app", sample, "v1")

    async def crawl(call: Call, handler: Handler) -> Reply:
        return await handler(replace(call, body=_crawling(call.body)))

    destinations[0].faults.add(fault("crawl", crawl, kind="upload-put"))
    sinks = [remote(pool, registry) for registry in destinations]
    layer = sample.manifest.layers()[0]
    landings = await transfer(layer, remote(pool, source), sinks, patience=PATIENCE, count=lambda size: None)
    assert [(landing.sent, landing.alone) for landing in landings] == [(False, True), (True, False), (True, False)]
    assert len(source.requests(kind="blob-get")) == 1


async def _crawling(body: AsyncIterator[bytes]) -> AsyncIterator[bytes]:
    async for chunk in body:
        await anyio.sleep(len(chunk) / 2_000_000)
        yield chunk


async def test_a_destination_that_does_not_get_done_with_a_small_blob_is_let_go(
    source: FaultyRegistry, destinations: list[FaultyRegistry], pool: Pool
) -> None:
    """All bytes may be on a line that takes long; what the others waited is told, and less than all of the time for
    nobody else.
    """
    sample = random_image("small", layers=(100_000,))
    put(source, "app", sample, "v1")
    destinations[0].faults.add(delay(gate := Gate(), kind="upload-put"))
    sinks = [remote(pool, registry) for registry in destinations]
    layer = sample.manifest.layers()[0]
    with anyio.fail_after(30):
        landings = await transfer(layer, remote(pool, source), sinks, patience=PATIENCE, count=lambda size: None)
    gate.release()
    assert [(landing.sent, landing.alone) for landing in landings] == [(False, True), (True, False), (True, False)]
    assert landings[0].late >= 0.9 * PATIENCE > max(landing.late for landing in landings[1:])


async def test_destinations_wait_for_one_another_where_all_are_slow(
    source: FaultyRegistry, destinations: list[FaultyRegistry], pool: Pool
) -> None:
    """Nobody could be faster without the others, so nobody is let go."""
    sample = random_image("all slow", layers=(SIZE,))
    put(source, "app", sample, "v1")

    async def even(call: Call, handler: Handler) -> Reply:
        return await handler(replace(call, body=_even(call.body)))

    for registry in destinations:
        registry.faults.add(fault("even", even, kind="upload-put"))
    sinks = [remote(pool, registry) for registry in destinations]
    layer = sample.manifest.layers()[0]
    landings = await transfer(layer, remote(pool, source), sinks, patience=PATIENCE, count=lambda size: None)
    assert [landing.sent for landing in landings] == [True] * 3
    assert len(source.requests(kind="blob-get")) == 1


async def _even(body: AsyncIterator[bytes]) -> AsyncIterator[bytes]:
    async for chunk in body:
        await anyio.sleep(len(chunk) / 8_000_000)
        yield chunk


async def test_d1_an_upload_that_breaks_is_finished_alone(
    source: FaultyRegistry, destinations: list[FaultyRegistry]
) -> None:
    """D1: the bytes have passed the others; it reads the blob once more, and they are not read again for anybody."""
    sample = random_image("breaks", layers=(SIZE,))
    layer = str(sample.manifest.layers()[0].digest)
    destinations[2].faults.add(cut_request(2 * MIB, kind="upload-put", times=1, where=lambda c: c.length > MIB))
    outcome, _ = await one(put(source, "app", sample, "v1"), *[f"{r.address}/app:v1" for r in destinations])
    assert [target.status for target in outcome.targets] == ["copied"] * 3
    assert [incomplete(registry) for registry in destinations] == [[]] * 3
    assert len(source.requests(kind="blob-get", digest=layer)) == 2
    for registry in destinations[:2]:
        assert len(registry.requests(kind="upload-put", digest=layer)) == 1


async def test_garbled_bytes_reach_nobody(source: FaultyRegistry, destinations: list[FaultyRegistry]) -> None:
    """E.g. a bad cable: each destination gets the right ones with the next reading."""
    sample = random_image("garbled", layers=(SIZE,))
    layer = str(sample.manifest.layers()[0].digest)
    source.faults.add(corrupt(SIZE // 2, path=layer, times=1))
    outcome, _ = await one(put(source, "app", sample, "v1"), *[f"{r.address}/app:v1" for r in destinations])
    assert [target.status for target in outcome.targets] == ["copied"] * 3
    assert [incomplete(registry) for registry in destinations] == [[]] * 3
    assert all(registry.open_uploads == 0 for registry in destinations)


async def test_a6_a_slow_source_is_read_in_parts_for_all(
    source: FaultyRegistry, destinations: list[FaultyRegistry], monkeypatch: pytest.MonkeyPatch
) -> None:
    """A6: still each byte once."""
    for name, value in (("LARGE", 4 * MIB), ("PART", MIB), ("WINDOW", 0.05)):
        monkeypatch.setattr(f"asyncrane.registry.ranges.{name}", value)
    sample = random_image("parts for all", layers=(SIZE,))
    layer = sample.manifest.layers()[0]
    source.faults.add(slow(15_000_000, path=str(layer.digest)))
    outcome, _ = await one(put(source, "app", sample, "v1"), *[f"{r.address}/app:v1" for r in destinations])
    assert outcome.failure is None
    assert [incomplete(registry) for registry in destinations] == [[]] * 3
    asked = source.requests(kind="blob-get", digest=str(layer.digest))
    assert len(asked) > 3
    assert sum(r.response_bytes for r in asked) < 1.05 * layer.size
