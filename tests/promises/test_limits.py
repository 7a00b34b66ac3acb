"""How much is asked of a registry at once, and what happens when it says that this is too much."""

from __future__ import annotations

import pytest

from asyncrane import Pair
from asyncrane.testing import FaultyRegistry, LoggedRequest, delay, refuse_mount, set_headers, status
from asyncrane.testing.images import random_image, random_index
from tests.cli.conftest import Program
from tests.promises.images import incomplete, one, put, run, tags


@pytest.mark.parametrize("jobs", [1, 2, 5])
async def test_a5_never_more_requests_at_once_than_jobs(
    source: FaultyRegistry, destination: FaultyRegistry, jobs: int
) -> None:
    """A5: of all kinds together, listings included."""
    pairs = []
    for repository in range(10):
        for tag in range(3):
            put(source, f"r{repository}", random_index(f"{repository}/{tag}", layers=(500, 300_000)), f"v{tag}")
        pairs.append(Pair(f"{source.address}/r{repository}", (f"{destination.address}/r{repository}",)))
    for side in (source, destination):
        side.faults.add(delay(0.001))
    await run(pairs, all_tags=True, jobs=jobs)
    assert tags(destination) == tags(source)
    assert (source.log.peak(), destination.log.peak()) == (jobs, jobs)


async def test_a5_a_copy_within_a_registry_reads_and_writes_there_at_once(source: FaultyRegistry) -> None:
    """A5: where nothing is mounted a job is a request to read and one to write, never more."""
    source.faults.add(refuse_mount(), delay(0.001))
    pairs = []
    for number in range(12):
        name = put(source, f"a{number}", random_image(number, layers=(1000, 4_000_000)), "v1")
        pairs.append(Pair(name, (f"{source.address}/b{number}:v1",)))
    await run(pairs, jobs=4)
    assert incomplete(source) == []
    assert source.log.peak() <= 8


def hasty(requests: list[LoggedRequest], window: float, *, grace: float) -> list[LoggedRequest]:
    """Requests that came within ``window`` seconds after an answer 429; ``grace`` is for what was on its way."""
    ends = [r.ended for r in requests if r.status == 429 and r.ended is not None]
    return [r for r in requests if any(end + grace < r.started < end + window for end in ends)]


@pytest.mark.parametrize("side", ["source", "destination"])
async def test_b1_requests_of_every_kind_throttled_end_well(
    source: FaultyRegistry, destination: FaultyRegistry, side: str
) -> None:
    """B1: nothing is sent to that host while it wants to be left alone."""
    pairs = []
    for repository in range(4):
        for tag in range(4):
            put(source, f"r{repository}", random_image(f"{repository}/{tag}", layers=(500, 300_000)), f"v{tag}")
        pairs.append(Pair(f"{source.address}/r{repository}", (f"{destination.address}/r{repository}",)))
    struck, other = (source, destination) if side == "source" else (destination, source)
    kinds = (
        ("tags", "manifest-get", "blob-get") if side == "source" else ("tags", "mount", "upload-put", "manifest-put")
    )
    throttles = [status(429, headers={"Retry-After": "1"}, error="TOOMANYREQUESTS", kind=k, nth=(2, 12)) for k in kinds]
    struck.faults.add(*throttles)
    outcomes, done = await run(pairs, all_tags=True)
    assert [o.failure for o in outcomes if o.failure] == []
    assert tags(destination) == tags(source)
    assert all(throttle.hits for throttle in throttles)
    assert hasty(list(struck.log), 1.0, grace=0.2) == []
    assert other.requests(status=429) == []
    assert done.images_failed == 0


async def test_b1_a_throttled_registry_does_not_hold_back_the_others(
    source: FaultyRegistry, destination: FaultyRegistry
) -> None:
    """B1: what has nothing to do with it is through before its window is over."""
    async with FaultyRegistry() as third:
        slow = put(third, "slow", random_image("slow"), "v1")
        throttle = third.faults.add(status(429, headers={"Retry-After": "3"}, kind="manifest-get", times=1))
        pairs = [Pair(slow, (f"{destination.address}/slow:v1",))]
        pairs += [
            Pair(put(source, f"r{n}", random_image(n), "v1"), (f"{destination.address}/r{n}:v1",)) for n in range(30)
        ]
        outcomes, _ = await run(pairs)
        assert [o.failure for o in outcomes if o.failure] == []
        again = third.requests(kind="manifest-get", status=200)[0].started
        others = destination.requests(kind="manifest-put")
        assert throttle.hits == 1
        assert len([r for r in others if r.started < again]) == 30


async def test_b2_a_used_up_quota_ends_with_6_and_the_reset_time(
    source: FaultyRegistry, destination: FaultyRegistry, program: Program
) -> None:
    """B2: six hours are not waited for when there is no time; other hosts finish, and what is left can be run again."""
    async with FaultyRegistry() as limited:
        limited.faults.add(
            set_headers({"RateLimit-Limit": "1;w=21600", "RateLimit-Remaining": "0;w=21600"}, kind="manifest-get")
        )
        names = [put(limited, f"q{n}", random_image(f"q{n}"), "v1") for n in range(3)]
        good = put(source, "good", random_image("good"), "v1")
        lines = "".join(f"{name} {destination.address}/q{n}:v1\n" for n, name in enumerate(names))
        lines += f"{good} {destination.address}/good:v1\n"
        ended = await program("cp", "--from-file", "-", "-j", "1", "--retry-max-time", "60", stdin=lines)
        assert ended.code == 1, ended.err
        assert ended.err.splitlines()[-1] == "asyncrane: error: 2 of 4 images failed"
        assert "rate limited for 21" in ended.err
        assert set(tags(destination)) == {"q0:v1", "good:v1"}
        assert len(limited.requests(kind="manifest-get")) == 1
        limited.faults.clear()
        assert (await program("cp", "--from-file", "-", stdin=lines)).code == 0
        assert len(tags(destination)) == 4


async def test_b2_a_single_image_beyond_the_quota_is_exit_code_6(
    source: FaultyRegistry, destination: FaultyRegistry, program: Program
) -> None:
    """B2, I6: the limit says when it ends."""
    name = put(source, "a", random_image("six"), "v1")
    headers = {"RateLimit-Limit": "100;w=21600", "RateLimit-Remaining": "0;w=21600"}
    source.faults.add(status(429, headers=headers, error="TOOMANYREQUESTS", kind=("manifest-get", "manifest-head")))
    ended = await program("cp", name, f"{destination.address}/a:v1", "--retry-max-time", "60")
    assert ended.code == 6
    assert "429" in ended.error
    assert ended.error.endswith("(to be asked again in 21600 s)")
    assert tags(destination) == {}
    assert len(source.requests(status=429)) == 1


async def test_one_image_with_a_limit_of_one_passes_where_nothing_is_mounted(source: FaultyRegistry) -> None:
    """A5: reading and writing at one registry need two requests at once; one job may do that."""
    source.faults.add(refuse_mount())
    name = put(source, "a", random_image("alone", layers=(1000, 400_000)), "v1")
    outcome, _ = await one(name, f"{source.address}/b:v1", jobs=1)
    assert outcome.failure is None
    assert incomplete(source) == []
