"""A6: one large blob through several connections where one is what all waits for; in order, checked, bounded."""

from __future__ import annotations

import re
from collections.abc import AsyncIterator, Callable

import anyio
import anyio.lowlevel
import pytest

from asyncrane.auth.credentials import Credential
from asyncrane.auth.keychain import FixedKeychain
from asyncrane.oci.reference import Repository
from asyncrane.registry import ranges
from asyncrane.registry.ranges import Pace
from asyncrane.server.call import Call
from asyncrane.stores.remote import Remote
from asyncrane.testing import (
    FaultyRegistry,
    cut_response,
    ignore_range,
    lie_range,
    slow,
    stall_response,
    status,
    wrong_range,
)
from asyncrane.testing.faults import Fault
from asyncrane.testing.images import Sample, random_image
from asyncrane.testing.log import LoggedRequest
from asyncrane.transport import Pool
from tests.promises.images import incomplete, one, put

MIB = 1024 * 1024
SIZE = 8 * MIB
RATE = 15_000_000


@pytest.fixture
def small(monkeypatch: pytest.MonkeyPatch) -> None:
    """Parts of 1 MiB, of blobs from 4 MiB on."""
    monkeypatch.setattr(ranges, "LARGE", 4 * MIB)
    monkeypatch.setattr(ranges, "PART", MIB)
    monkeypatch.setattr(ranges, "WINDOW", 0.05)


@pytest.fixture
async def remote(source: FaultyRegistry) -> AsyncIterator[Remote]:
    """Repository ``app`` of the source."""
    async with Pool(retry_base=0.001) as pool:
        origin = pool.origin(source.address, FixedKeychain(Credential()))
        yield Remote(origin, Repository(source.address, "app"))


def in_parts(call: Call) -> bool:
    return re.fullmatch(r"bytes=\d+-\d+", call.headers.get("Range", "")) is not None


async def until(condition: Callable[[], bool]) -> None:
    with anyio.fail_after(20):
        while not condition():
            await anyio.lowlevel.checkpoint()


def layer_of(sample: Sample) -> str:
    return str(sample.manifest.layers()[0].digest)


def layer_size(sample: Sample) -> int:
    return sample.manifest.layers()[0].size


def reads(registry: FaultyRegistry, sample: Sample) -> list[LoggedRequest]:
    return registry.requests(kind="blob-get", digest=layer_of(sample))


def parts(requests: list[LoggedRequest]) -> list[LoggedRequest]:
    return [r for r in requests if "Range" in r.headers and not r.headers["Range"].endswith("-")]


async def test_a6_a_source_that_is_slow_per_connection_is_read_through_several(
    source: FaultyRegistry, destination: FaultyRegistry
) -> None:
    """A6: a handful of connections, one upload, hardly a byte twice."""
    sample = random_image("a6", layers=(72 * MIB,))
    source.faults.add(slow(2 * RATE, path=layer_of(sample)))
    outcome, done = await one(put(source, "app", sample, "v1"), f"{destination.address}/app:v1")
    assert outcome.failure is None
    asked = reads(source, sample)
    assert "Range" not in asked[0].headers
    assert len(parts(asked)) == len(asked) - 1 >= 5
    assert 3 <= source.log.peak("blob-get") <= 7  # six, and the config
    assert sum(r.response_bytes for r in asked) < 1.05 * layer_size(sample)
    assert done.bytes_read == sample.size
    sent = destination.requests(kind="upload-put", digest=layer_of(sample))
    assert [(r.status, r.request_bytes) for r in sent] == [(201, layer_size(sample))]
    assert incomplete(destination) == []


LIES = {
    "ignores ranges": ignore_range(),
    "says other bytes": lie_range(),
    "refuses ranges": status(416, kind="blob-get", where=lambda call: "Range" in call.headers),
    "refuses parts": status(403, kind="blob-get", where=in_parts),
}


@pytest.mark.usefixtures("small")
@pytest.mark.parametrize("how", LIES)
async def test_a6_where_ranges_cannot_be_had_the_one_stream_goes_on(
    source: FaultyRegistry, destination: FaultyRegistry, how: str
) -> None:
    """A6: nothing is read twice, and the attempt is made once."""
    sample = random_image(how, layers=(SIZE,))
    wrong = LIES[how]
    wrong.matched = wrong.hits = 0
    source.faults.add(slow(RATE, path=layer_of(sample)), wrong)
    outcome, _ = await one(put(source, "app", sample, "v1"), f"{destination.address}/app:v1")
    assert outcome.failure is None
    assert incomplete(destination) == []
    asked = reads(source, sample)
    assert len(asked) <= ranges.FIRST  # several were asked for at once
    assert asked[0].response_bytes == layer_size(sample)
    assert sum(r.response_bytes for r in asked) < 1.05 * layer_size(sample)


@pytest.mark.usefixtures("small")
async def test_a6_other_bytes_than_were_asked_for_are_read_again_in_one_stream(
    source: FaultyRegistry, destination: FaultyRegistry
) -> None:
    """A6: the digest finds them out before anything is committed, and no parts are asked for any more."""
    sample = random_image("other bytes", layers=(SIZE,))
    source.faults.add(slow(RATE, path=layer_of(sample)), wrong_range(where=in_parts))
    outcome, _ = await one(put(source, "app", sample, "v1"), f"{destination.address}/app:v1")
    assert outcome.failure is None
    assert incomplete(destination) == []
    asked = reads(source, sample)
    assert parts(asked)
    assert "Range" not in asked[-1].headers
    assert asked[-1].response_bytes == layer_size(sample)


BREAKS = {
    "cut": cut_response(300_000, where=in_parts, nth=(1, 3, 4)),
    "stalled": stall_response(300_000, where=in_parts, nth=(2, 3)),
}


@pytest.mark.usefixtures("small")
@pytest.mark.parametrize("how", BREAKS)
async def test_a6_a_part_that_breaks_is_resumed(source: FaultyRegistry, destination: FaultyRegistry, how: str) -> None:
    """A6, D5, D7: where it broke."""
    sample = random_image(how, layers=(SIZE,))
    fault = BREAKS[how]
    fault.matched = fault.hits = 0
    source.faults.add(slow(RATE, path=layer_of(sample)), fault)
    name = put(source, "app", sample, "v1")
    outcome, _ = await one(name, f"{destination.address}/app:v1", stall_timeout=0.3)
    assert outcome.failure is None
    assert incomplete(destination) == []
    assert fault.hits >= 2
    asked = reads(source, sample)
    assert sum(r.response_bytes for r in asked) < 1.05 * layer_size(sample)
    assert len([r for r in asked if "Range" not in r.headers]) == 1


@pytest.mark.usefixtures("small")
@pytest.mark.parametrize("fault", [status(404, kind="blob-get", where=in_parts, after=4), None])
async def test_a6_a_registry_that_stops_sending_parts_is_read_on_in_one_stream(
    source: FaultyRegistry, destination: FaultyRegistry, fault: Fault | None
) -> None:
    """A6: from where the parts end."""
    sample = random_image("stops", layers=(SIZE,))
    source.faults.add(slow(RATE, path=layer_of(sample)), fault or ignore_range(where=in_parts, after=4))
    outcome, _ = await one(put(source, "app", sample, "v1"), f"{destination.address}/app:v1")
    assert outcome.failure is None
    assert incomplete(destination) == []
    assert len(parts(reads(source, sample))) > 4


@pytest.mark.usefixtures("small")
async def test_a6_large_blobs_share_the_connections(source: FaultyRegistry, destination: FaultyRegistry) -> None:
    """A6: six at once leave none for parts, so each is one request."""
    sample = random_image("share", layers=(SIZE,) * 6)
    source.faults.add(slow(RATE))
    outcome, _ = await one(put(source, "app", sample, "v1"), f"{destination.address}/app:v1")
    assert outcome.failure is None
    early = [r for r in source.requests(kind="blob-get") if r.started < min(_ends(source))]
    assert len(early) == 7
    assert not parts(early)


def _ends(registry: FaultyRegistry) -> list[float]:
    large = [r for r in registry.requests(kind="blob-get") if r.response_bytes > MIB]
    return [r.ended for r in large if r.ended is not None and "Range" not in r.headers]


@pytest.mark.usefixtures("small")
@pytest.mark.parametrize("fixed", [{"jobs": 4}, {"memory": 64 * MIB}])
async def test_a6_numbers_that_are_fixed_are_kept(
    source: FaultyRegistry, destination: FaultyRegistry, fixed: dict[str, int]
) -> None:
    """A5, A6, I7: nobody who says four gets six."""
    sample = random_image("fixed", layers=(SIZE,))
    source.faults.add(slow(RATE))
    await one(put(source, "app", sample, "v1"), f"{destination.address}/app:v1", **fixed)
    assert len(reads(source, sample)) == 1


@pytest.mark.usefixtures("small")
async def test_a6_a_fast_connection_is_left_alone(
    source: FaultyRegistry, destination: FaultyRegistry, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A6: the ordinary case stays one request."""
    monkeypatch.setattr(ranges, "FAST", 1_000_000)
    sample = random_image("fast", layers=(SIZE,))
    source.faults.add(slow(RATE))
    await one(put(source, "app", sample, "v1"), f"{destination.address}/app:v1")
    assert len(reads(source, sample)) == 1


@pytest.mark.usefixtures("small")
async def test_a6_a_slow_reader_gets_one_stream(source: FaultyRegistry, remote: Remote) -> None:
    sample = random_image("slow reader", layers=(SIZE,))
    put(source, "app", sample, "v1")
    async with remote.open(sample.manifest.layers()[0]) as chunks:
        async for chunk in chunks:
            await anyio.sleep(len(chunk) / (4 * RATE))
    assert len(source.log.requests(kind="blob-get")) == 1


@pytest.mark.usefixtures("small")
async def test_a6_what_waits_for_a_reader_is_bounded_and_let_go(source: FaultyRegistry, remote: Remote) -> None:
    """A6, D8: a few parts are held; whoever leaves early leaves no connection behind."""
    sample = random_image("bounded", layers=(64 * MIB,))
    put(source, "app", sample, "v1")
    source.faults.add(slow(RATE, where=lambda call: not in_parts(call)))
    taken, fetched = 0, remote.origin.statistics
    async with remote.open(sample.manifest.layers()[0]) as chunks:
        async for chunk in chunks:
            taken += len(chunk)
            if len(parts(source.requests(kind="blob-get"))) > ranges.FIRST + ranges.AHEAD:  # the plain stream is over
                break
        await until(lambda: not source.log.active("blob-get") and fetched().received > taken + 3 * MIB)
        assert fetched().received <= taken + (remote.origin.capabilities.parts + ranges.AHEAD + 1) * MIB
        assert remote.origin.capabilities.large == 1
    assert remote.origin.capabilities.large == 0
    assert await remote.has(sample.manifest.layers()[0].digest)


@pytest.mark.usefixtures("small")
async def test_a6_a_reader_that_is_cancelled_stops_every_part(source: FaultyRegistry, remote: Remote) -> None:
    sample = random_image("cancelled", layers=(SIZE,))
    put(source, "app", sample, "v1")
    source.faults.add(slow(RATE / 2))
    async with anyio.create_task_group() as tasks:

        async def reading() -> None:
            async with remote.open(sample.manifest.layers()[0]) as chunks:
                async for _ in chunks:
                    if source.log.active("blob-get") > 2:
                        tasks.cancel_scope.cancel()

        tasks.start_soon(reading)
    assert remote.origin.capabilities.large == 0
    await until(lambda: not source.log.active("blob-get"))


@pytest.mark.parametrize(("waits", "computes", "waiting"), [(1.0, 0.1, True), (0.2, 0.1, False), (1.0, 0.9, False)])
def test_a6_a_source_is_waited_for_when_nothing_else_is_done(waits: float, computes: float, waiting: bool) -> None:
    """A6: the time that the reader takes is not the source's, nor that in which there is no time to read."""
    now, cpu, step = [0.0], [0.0], ranges.WINDOW / 4.5
    pace = Pace(lambda: now[0], lambda: cpu[0])
    verdicts = []
    for _ in range(5):
        now[0] += waits * step
        cpu[0] += computes * step
        pace.came(1000)
        now[0] += (1 - waits) * step
        pace.asked()
        verdicts.append(pace.verdict(1))
    assert verdicts[:4] == [None] * 4
    assert verdicts[4] is not None
    assert verdicts[4][0] == pytest.approx(1000 / step)
    assert verdicts[4][1] is waiting
    assert pace.verdict(3) is None, "less than a round of parts"
