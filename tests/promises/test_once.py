"""Each blob over each wire at most once, and no request that could be spared."""

from __future__ import annotations

import json
from collections import Counter
from itertools import islice
from pathlib import Path

from asyncrane import Pair, Platform
from asyncrane.engine.journal import Journal
from asyncrane.testing import FaultyRegistry, refuse_mount
from asyncrane.testing.images import Sample, random_image, random_index
from tests.cli.conftest import Program
from tests.promises.images import image, incomplete, noise, one, put, run, tags

WRITES = ("upload-post", "mount", "upload-patch", "upload-put", "manifest-put")


def shared_fleet(registry: FaultyRegistry, *, repositories: int, versions: int, layers: int) -> dict[str, Sample]:
    """Images of five layers each out of ``layers``; no two the same."""
    pool = [noise(f"layer {n}", 2000 + 37 * n) for n in range(layers)]
    fleet = {}
    for number in range(repositories * versions):
        chosen = [pool[(number * 7 + step * 13) % layers] for step in range(5)]
        name = f"team/app{number % repositories}:v{number // repositories}"
        fleet[name] = image(name, chosen)
        put(registry, name.partition(":")[0], fleet[name], name.partition(":")[2])
    return fleet


def pairs_of(fleet: dict[str, Sample], source: FaultyRegistry, destination: FaultyRegistry) -> list[Pair]:
    names = sorted({name.partition(":")[0] for name in fleet})
    return [Pair(f"{source.address}/{name}", (f"{destination.address}/copy/{name}",)) for name in names]


async def test_a1_what_200_images_share_is_read_once_and_sent_once(
    source: FaultyRegistry, destination: FaultyRegistry
) -> None:
    """A1, A8: 20 repositories share 60 layers; every further placement is a mount, and the bytes add up."""
    fleet = shared_fleet(source, repositories=20, versions=10, layers=60)
    outcomes, done = await run(pairs_of(fleet, source, destination), all_tags=True)
    assert [outcome for outcome in outcomes if outcome.failure] == []
    unique = {digest: content for sample in fleet.values() for digest, content in sample.blobs.items()}
    assert Counter(r.digest for r in source.requests(kind="blob-get")) == dict.fromkeys(unique, 1)
    assert Counter(r.digest for r in destination.requests(kind="upload-put")) == dict.fromkeys(unique, 1)
    assert sum(r.request_bytes for r in destination.requests(kind="upload-put")) == sum(map(len, unique.values()))
    placements = {(name.partition(":")[0], digest) for name, sample in fleet.items() for digest in sample.blobs}
    assert len(destination.requests(kind="mount", status=201)) == len(placements) - len(unique)
    assert len(destination.requests(kind="mount")) == len(placements)
    assert destination.requests(kind="blob-head") == []
    assert len(destination.requests(kind="manifest-put")) == len(fleet)
    assert incomplete(destination) == []
    assert tags(destination) == {f"copy/{name}": str(sample.digest) for name, sample in fleet.items()}
    assert done.bytes_written + done.bytes_existing == done.bytes_read == sum(map(len, unique.values()))
    assert done.bytes_mounted + done.bytes_written == sum(len(unique[digest]) for _, digest in placements)


async def test_a2_unchanged_tags_cost_one_head_on_each_side(
    source: FaultyRegistry, destination: FaultyRegistry, program: Program
) -> None:
    """A2: exact tags are listed nowhere, and nothing is fetched."""
    fleet = shared_fleet(source, repositories=5, versions=60, layers=10)
    await run(pairs_of(fleet, source, destination), all_tags=True)
    source.log.clear()
    destination.log.clear()
    lines = "".join(f"{source.address}/{name} {destination.address}/copy/{name}\n" for name in fleet)
    ended = await program("cp", "--from-file", "-", "--output", "json", stdin=lines)
    assert ended.code == 0, ended.err
    assert len(json.loads(ended.text)["images"]["equal"]) == len(fleet)
    for side in (source, destination):
        counts = side.log.counts()
        assert counts.pop("ping") == 1
        assert counts == {"manifest-head": len(fleet)}


async def test_a2_all_tags_of_unchanged_repositories_fetch_nothing(
    source: FaultyRegistry, destination: FaultyRegistry
) -> None:
    """A2, H8: with listings, too."""
    fleet = shared_fleet(source, repositories=3, versions=20, layers=10)
    for _ in range(2):
        source.log.clear()
        destination.log.clear()
        await run(pairs_of(fleet, source, destination), all_tags=True)
    assert source.log.counts() == {"ping": 1, "tags": 3, "manifest-head": 60}
    assert destination.log.counts() == {"ping": 1, "tags": 3, "manifest-head": 60}


async def test_a3_a_copy_within_one_registry_moves_no_bytes(source: FaultyRegistry) -> None:
    """A3: mounts only, with nothing known before."""
    sample = random_index("within", layers=(50_000, 70_000))
    name = put(source, "a", sample, "v1")
    _, done = await one(name, f"{source.address}/b:v1", f"{source.address}/c/d:v1")
    assert source.requests(kind="blob-get") == source.requests(kind="upload-put") == []
    assert sum(r.request_bytes for r in source.log) == sum(
        r.request_bytes for r in source.requests(kind="manifest-put")
    )
    assert incomplete(source) == []
    assert (done.bytes_read, done.bytes_mounted) == (0, 2 * sample.size)


async def test_a3_what_an_earlier_run_sent_is_mounted_by_the_next(
    source: FaultyRegistry, destination: FaultyRegistry, tmp_path: Path
) -> None:
    """A3, D10: the journal knows where it went; where that is gone, one request is wasted and the bytes are sent."""
    sample = random_index("earlier", layers=(50_000, 70_000))
    name = put(source, "app", sample, "v1")

    async def next_run(to: str) -> int:
        destination.log.clear()
        with Journal.open(tmp_path / "journal") as journal:
            journal.begin("copy", spec="", options="")
            outcome, done = await one(name, f"{destination.address}/{to}:v1", journal=journal)
        assert outcome.failure is None
        assert incomplete(destination) == []
        return done.bytes_written

    assert await next_run("first") == sample.size
    assert await next_run("second") == 0
    assert len(destination.requests(kind="mount")) == len(sample.blobs)
    destination.faults.add(refuse_mount(404, where=lambda call: call.ask("from") in ("first", "second")))
    assert await next_run("third") == sample.size
    wasted = Counter(r.query.partition("from=")[2] for r in destination.requests(kind="mount", status=404))
    assert set(wasted.values()) == {1}


async def test_a8_every_request_is_counted_once(source: FaultyRegistry) -> None:
    """A8: also where one registry is read from and written to."""
    name = put(source, "a", random_image("counted"), "v1")
    _, done = await one(name, f"{source.address}/b:v1")
    counted = sum(done.requests[source.address].values())
    # the attempt at https, which never arrives, is one more
    assert counted - 1 == len(source.log)


async def test_a8_existing_mounted_and_sent_bytes_add_up_to_what_was_asked_for(
    source: FaultyRegistry, destination: FaultyRegistry, program: Program
) -> None:
    """A8: a silent mount miss would show."""
    first, second, third = (noise(n, 100_000 + n) for n in range(3))
    one, two = image("one", [first, second]), image("two", [second, third])
    put(source, "a", one, "v1")
    put(source, "b", two, "v1")
    destination.put_blob("a", first)
    lines = "".join(f"{source.address}/{name}:v1 {destination.address}/{name}:v1\n" for name in "ab")
    result = json.loads((await program("cp", "--from-file", "-", "--output", "json", stdin=lines)).text)
    assert result["bytes_existing"] == len(first)
    assert result["bytes_mounted"] == len(second)
    moved = sum(r.request_bytes for r in destination.requests(kind="upload-put"))
    assert result["bytes_written"] == result["bytes_read"] == moved
    assert moved + len(first) + len(second) == one.size + two.size


async def test_b3_an_unchanged_index_of_eight_platforms_costs_one_head(
    source: FaultyRegistry, destination: FaultyRegistry
) -> None:
    """B3: children are not looked at."""
    platforms = [Platform("linux", arch) for arch in "abcdefgh"]
    sample = random_index("eight", layers=(100,), platforms=platforms)
    name = put(source, "app", sample, "v1")
    for _ in range(2):
        source.log.clear()
        await one(name, f"{destination.address}/app:v1")
    assert source.log.counts() == {"ping": 1, "manifest-head": 1}


async def test_b3_a_changed_index_fetches_only_the_children_that_changed(
    source: FaultyRegistry, destination: FaultyRegistry
) -> None:
    """B3: what the destination has is asked of the destination, which is not counted there."""
    platforms = [Platform("linux", arch) for arch in "abcd"]
    before = random_index("x", layers=(100,), platforms=platforms)
    after = random_index("x", layers=(100,), platforms=[*platforms, Platform("linux", "e")])
    put(destination, "app", before, "v1")
    name = put(source, "app", after, "v1")
    await one(name, f"{destination.address}/app:v1")
    assert len(source.requests(kind="manifest-get")) == 2
    assert len(source.requests(kind="blob-get")) == 2
    assert incomplete(destination) == []


async def test_one_image_costs_no_more_requests_than_it_must(
    source: FaultyRegistry, destination: FaultyRegistry
) -> None:
    """GET, POST, PUT for a blob; one HEAD to see that the tag is new."""
    sample = random_image("cost", layers=(10, 300_000))
    await one(put(source, "app", sample, "v1"), f"{destination.address}/app:v1")
    heads = source.log.counts().get("manifest-head", 0)
    assert heads <= 1
    assert len(source.log) == 1 + heads + 1 + len(sample.blobs)
    assert len(destination.log) == 1 + 1 + 2 * len(sample.blobs) + 1
    order = [r.kind for r in destination.log]
    assert order[-1] == "manifest-put"
    assert not set(islice(order, 2)) & set(WRITES)
