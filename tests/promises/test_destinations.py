"""Several destinations: the source is read once, and what goes wrong at one is not the others' affair."""

from __future__ import annotations

from collections import Counter

import pytest

from asyncrane import Pair, Session, copy_all
from asyncrane.testing import FaultyRegistry, cut_request, drop, status
from asyncrane.testing.images import random_index
from tests.promises.images import image, incomplete, noise, one, put, run, tags

MIB = 1024 * 1024


@pytest.mark.parametrize("size", [2000, 3 * MIB])
async def test_several_destinations_read_the_source_once(
    source: FaultyRegistry, destination: FaultyRegistry, size: int
) -> None:
    """A1: at several registries, and several repositories of one."""
    sample = random_index("several", layers=(1000, size))
    async with FaultyRegistry() as second, FaultyRegistry() as third:
        targets = [f"{r.address}/{name}:v1" for r in (destination, second, third) for name in ("a", "b")]
        outcome, done = await one(put(source, "app", sample, "v1"), *targets)
        assert outcome.failure is None
        assert [t.destination for t in outcome.targets] == targets
        assert Counter(r.digest for r in source.requests(kind="blob-get")) == dict.fromkeys(sample.blobs, 1)
        assert done.bytes_read == sample.size
        assert done.bytes_written == done.bytes_mounted == 3 * sample.size
        for registry in (destination, second, third):
            assert set(tags(registry)) == {"a:v1", "b:v1"}
            assert incomplete(registry) == []
            assert len(registry.requests(kind="upload-put")) == len(sample.blobs)


BREAKAGES = {
    "refuses uploads": status(403, error="DENIED", kind=("mount", "upload-post")),
    "refuses the manifest": status(400, error="MANIFEST_INVALID", kind="manifest-put"),
    "answers 500 to every upload": status(500, kind=("upload-put", "upload-patch")),
    "breaks off every upload": cut_request(100_000, kind=("upload-put", "upload-patch")),
    "hangs up": drop(kind=("mount", "upload-post")),
}


@pytest.mark.parametrize("how", BREAKAGES)
async def test_a_destination_that_fails_does_not_spoil_the_other(
    source: FaultyRegistry, destination: FaultyRegistry, how: str
) -> None:
    """I1: the other gets all of it, in one reading."""
    sample = image("two", [noise("x", 2 * MIB), noise("y", 500)])
    async with FaultyRegistry() as broken:
        pattern = BREAKAGES[how]
        pattern.matched = pattern.hits = 0
        broken.faults.add(pattern)
        outcome, _ = await one(
            put(source, "app", sample, "v1"),
            f"{broken.address}/app:v1",
            f"{destination.address}/app:v1",
            retries=1,
        )
        assert [t.status for t in outcome.targets] == ["failed", "copied"]
        assert incomplete(destination) == []
        assert tags(destination) == {"app:v1": str(sample.digest)}
        assert tags(broken) == {}
        assert len(destination.requests(kind="upload-put")) == len(sample.blobs)
        tried = [r for r in broken.log if r.kind in ("upload-put", "upload-patch") and r.request_bytes > 1000]
        assert len(tried) <= 7  # one with the others, and then no retrier on top of another


async def test_a_destination_that_has_it_gets_nothing(source: FaultyRegistry, destination: FaultyRegistry) -> None:
    """A2: and the other one all."""
    sample = random_index("has it")
    async with FaultyRegistry() as second:
        put(second, "app", sample, "v1")
        name = put(source, "app", sample, "v1")
        outcome, _ = await one(name, f"{second.address}/app:v1", f"{destination.address}/app:v1")
        assert [t.status for t in outcome.targets] == ["equal", "copied"]
        assert second.log.counts() == {"ping": 1, "manifest-head": 1}
        assert incomplete(destination) == []


async def test_no_clobber_is_a_matter_of_each_destination(source: FaultyRegistry, destination: FaultyRegistry) -> None:
    """H6: the tag that exists stays, the others come."""
    sample, mine = random_index("theirs"), random_index("mine")
    name = put(source, "app", sample, "v1")
    put(destination, "a", mine, "v1")
    pairs = [Pair(name, (f"{destination.address}/a:v1", f"{destination.address}/b:v1"))]
    outcomes, _ = await run(pairs)
    assert [t.status for t in outcomes[0].targets] == ["copied", "copied"]
    put(destination, "a", mine, "v1")
    async with Session() as session:
        outcomes = await copy_all(session, pairs, clobber=False)
    assert [t.status for t in outcomes[0].targets] == ["skipped", "equal"]
    assert tags(destination) == {"a:v1": str(mine.digest), "b:v1": str(sample.digest)}
