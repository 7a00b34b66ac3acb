"""What fails, fails alone, says so once, and leaves nothing half published."""

from __future__ import annotations

import json
from collections.abc import Callable, Sequence
from functools import partial

import pytest

from asyncrane import Denied, NotFound, Pair, Session, copy
from asyncrane.server.call import Call, Handler
from asyncrane.server.reply import Reply
from asyncrane.testing import (
    Fault,
    FaultyRegistry,
    corrupt,
    cut_response,
    drop,
    fault,
    lose_answer,
    shorten,
    status,
    wrong_digest_header,
)
from asyncrane.testing.images import Sample, random_image, random_index
from tests.cli.conftest import Program
from tests.promises.images import incomplete, one, put, run, tags

READS = ("manifest-head", "manifest-get", "blob-get")
WRITES = ("mount", "upload-put", "manifest-put")
STATUSES = (408, 429, 500, 502, 503, 504)


def _answered(code: int, kind: str) -> Fault:
    return status(code, kind=kind, times=1)


PASSING: dict[str, Callable[[str], Fault]] = {
    **{str(code): partial(_answered, code) for code in STATUSES},
    "reset": lambda kind: drop(kind=kind, times=1),
    "end": lambda kind: drop(reset=False, kind=kind, times=1),
    "answer lost": lambda kind: lose_answer(kind=kind, times=1),
}


@pytest.fixture
def nowhere(unused_tcp_port: int) -> str:
    return f"127.0.0.1:{unused_tcp_port}"


@pytest.mark.parametrize("failure", PASSING)
async def test_d6_what_passes_is_passed(source: FaultyRegistry, destination: FaultyRegistry, failure: str) -> None:
    """D6: whole copies, one for every kind of request that fails once in a way that may be different next time."""
    pairs, wanted = [], {}
    for kind in (*READS, *WRITES):
        sample = random_image(kind, layers=(100, 300_000))
        put(destination, kind, random_image("older"), "v1")
        pairs.append(Pair(put(source, kind, sample, "v1"), (f"{destination.address}/{kind}:v1",)))
        wanted[f"{kind}:v1"] = str(sample.digest)
        struck = PASSING[failure](kind)
        struck.when["path"] = f"/{kind}/"
        (source if kind in READS else destination).faults.add(struck)
    outcomes, _ = await run(pairs)
    assert [o.failure for o in outcomes if o.failure] == []
    assert [struck for side in (source, destination) for struck in side.faults if struck.hits != 1] == []
    assert tags(destination) == wanted
    assert incomplete(destination) == []
    # a session whose opening was never answered is unknown to us
    assert destination.open_uploads == (1 if failure == "answer lost" else 0)


@pytest.mark.parametrize("code", [400, 403, 404])
@pytest.mark.parametrize("kind", [*READS, "manifest-put"])
async def test_d6_what_is_final_is_asked_once(
    source: FaultyRegistry, destination: FaultyRegistry, kind: str, code: int
) -> None:
    """D6: and the tag stays what it was."""
    before = random_image("before")
    put(destination, "app", before, "v1")
    side = source if kind in READS else destination
    side.faults.add(status(code, kind=kind))
    name = put(source, "app", random_image("after", layers=(500_000,)), "v1")
    outcome, _ = await one(name, f"{destination.address}/app:v1")
    assert outcome.failure is not None
    assert outcome.failure.status == code
    struck = [(r.repository, r.path) for r in side.requests(kind=kind)]
    assert len(struck) == len(set(struck))
    assert tags(destination) == {"app:v1": str(before.digest)}
    assert destination.open_uploads == 0


@pytest.mark.parametrize("code", [403, 404])
async def test_d6_an_upload_that_is_refused_for_good_is_asked_for_once(
    source: FaultyRegistry, destination: FaultyRegistry, code: int
) -> None:
    """D6: DENIED and NAME_UNKNOWN are no matter of how bytes are sent."""
    errors = {403: "DENIED", 404: "NAME_UNKNOWN"}
    destination.faults.add(status(code, error=errors[code], kind=("mount", "upload-post")))
    outcome, done = await one(put(source, "app", random_image("no", layers=()), "v1"), f"{destination.address}/app:v1")
    assert outcome.failure is not None
    assert outcome.failure.status == code
    assert len(destination.requests(kind="mount")) + len(destination.requests(kind="upload-post")) <= 2
    assert done.bytes_written == 0


def fleet(registry: FaultyRegistry, count: int) -> dict[str, Sample]:
    samples = {f"app{n}": random_image(f"i{n}", layers=(1000 + n,)) for n in range(count)}
    for name, sample in samples.items():
        put(registry, name, sample, "v1")
    return samples


def lines(samples: Sequence[str], source: FaultyRegistry, destination: FaultyRegistry) -> str:
    return "".join(f"{source.address}/{name}:v1 {destination.address}/{name}:v1\n" for name in samples)


async def test_i1_seven_broken_images_of_many_do_not_stop_the_others(
    source: FaultyRegistry, destination: FaultyRegistry, program: Program
) -> None:
    """I1, I4: 93 arrive, 7 are named with what was asked and what came back, exit 1; the next run does only those."""
    samples = fleet(source, 100)
    broken = [f"app{n}" for n in range(3, 100, 14)]
    digests = [samples[name].manifest.layers()[0].digest for name in broken]
    hidden = [source.faults.add(status(404, error="BLOB_UNKNOWN", path=str(digest))) for digest in digests]
    words = ("cp", "--from-file", "-", "--output", "json", "--progress", "none")
    ended = await program(*words, stdin=lines(list(samples), source, destination))
    assert ended.code == 1
    result = json.loads(ended.text)["images"]
    assert (len(result["copied"]), len(result["failed"])) == (93, 7)
    for image in result["failed"]:
        failure = image["destinations"][0]["failure"]
        assert (failure["kind"], failure["status"]) == ("NotFound", 404)
        assert source.address in failure["message"]
    assert set(tags(destination)) == {f"{name}:v1" for name in samples if name not in broken}
    assert incomplete(destination) == []
    for struck in hidden:
        source.faults.remove(struck)
    source.log.clear()
    again = await program(*words, stdin=lines(list(samples), source, destination))
    assert again.code == 0, again.err
    assert len(json.loads(again.text)["images"]["equal"]) == 93
    assert {r.repository for r in source.requests(kind="blob-get")} == set(broken)


@pytest.mark.parametrize("all_tags", [True, False])
async def test_i1_a_dead_destination_spoils_only_its_own_images(
    source: FaultyRegistry, destination: FaultyRegistry, nowhere: str, all_tags: bool
) -> None:
    """I1: neither of another pair nor of the same one."""
    tag = "" if all_tags else ":v1"
    for name in ("a", "b"):
        put(source, name, random_image(name), "v1")
    pairs = [
        Pair(f"{source.address}/a{tag}", (f"{nowhere}/a{tag}", f"{destination.address}/a{tag}")),
        Pair(f"{source.address}/b{tag}", (f"{destination.address}/b{tag}",)),
    ]
    outcomes, _ = await run(pairs, all_tags=all_tags)
    ended = {t.destination: t.status for o in outcomes for t in o.targets}
    assert ended == {
        f"{nowhere}/a:v1": "failed",
        f"{destination.address}/a:v1": "copied",
        f"{destination.address}/b:v1": "copied",
    }
    assert incomplete(destination) == []


async def test_i1_a_dead_source_spoils_only_its_own_images(
    source: FaultyRegistry, destination: FaultyRegistry, nowhere: str
) -> None:
    """I1."""
    put(source, "b", random_image("b"), "v1")
    pairs = [
        Pair(f"{nowhere}/a", (f"{destination.address}/a",)),
        Pair(f"{source.address}/b", (f"{destination.address}/b",)),
    ]
    outcomes, _ = await run(pairs, all_tags=True)
    assert sorted(t.status for o in outcomes for t in o.targets) == ["copied", "failed"]
    assert set(tags(destination)) == {"b:v1"}


WRONG = {
    "a byte of a blob": lambda: corrupt(at=77),
    "a blob too short": lambda: shorten(1),
}


@pytest.mark.parametrize("what", WRONG)
@pytest.mark.parametrize("size", [2000, 900_000])
async def test_wrong_bytes_from_the_source_are_exit_5_and_nothing_is_published(
    source: FaultyRegistry, destination: FaultyRegistry, program: Program, what: str, size: int
) -> None:
    """I6: nothing wrong is committed, no session stays open, no manifest is written."""
    sample = random_image("wrong", layers=(size,))
    layer = sample.manifest.layers()[0].digest
    fault_ = WRONG[what]()
    fault_.when["path"] = str(layer)
    source.faults.add(fault_)
    ended = await program("cp", put(source, "app", sample, "v1"), f"{destination.address}/app:v1")
    assert ended.code == 5, ended.err
    assert str(layer) in ended.error
    assert destination.get_blob("app", layer) is None
    assert tags(destination) == {}
    assert destination.requests(kind="manifest-put") == []
    assert destination.open_uploads == 0


async def test_bytes_garbled_once_are_read_again(source: FaultyRegistry, destination: FaultyRegistry) -> None:
    """G1: the second reading is right."""
    sample = random_image("once", layers=(900_000,))
    source.faults.add(corrupt(at=500, path=str(sample.manifest.layers()[0].digest), times=1))
    outcome, _ = await one(put(source, "app", sample, "v1"), f"{destination.address}/app:v1")
    assert outcome.failure is None
    assert incomplete(destination) == []
    assert destination.open_uploads == 0


async def test_another_manifest_than_was_asked_for_is_exit_5(
    source: FaultyRegistry, destination: FaultyRegistry, program: Program
) -> None:
    """I6: a child that is not what the index says."""
    sample, other = random_index("index"), random_image("other").manifest

    async def swapped(call: Call, handler: Handler) -> Reply:
        return Reply(200, {"Content-Type": other.media_type}, other.body)

    child = sample.manifest.children()[1].digest
    source.faults.add(fault("swapped", swapped, kind="manifest-get", path=str(child)))
    ended = await program("cp", put(source, "app", sample, "v1"), f"{destination.address}/app:v1")
    assert ended.code == 5
    assert str(child) in ended.error
    assert tags(destination) == {}


async def test_a_head_that_names_another_digest_publishes_nothing_wrong(
    source: FaultyRegistry, destination: FaultyRegistry
) -> None:
    """G1: what is copied is what its bytes say, whatever a header says."""
    sample = random_image("header")
    source.faults.add(wrong_digest_header(kind=("manifest-get", "manifest-head")))
    outcome, _ = await one(put(source, "app", sample, "v1"), f"{destination.address}/app:v1")
    assert set(tags(destination).values()) <= {str(sample.digest)}
    assert (outcome.failure is None) == bool(tags(destination))
    assert incomplete(destination) == []


async def test_a_destination_that_computed_another_digest_is_exit_5(
    source: FaultyRegistry, destination: FaultyRegistry, program: Program
) -> None:
    """G1: the digest that the PUT of a manifest is answered with is compared."""
    destination.faults.add(wrong_digest_header(kind="manifest-put"))
    ended = await program("cp", put(source, "app", random_image("put"), "v1"), f"{destination.address}/app:v1")
    assert ended.code == 5
    assert "stored" in ended.error


async def test_a_missing_child_publishes_no_index(source: FaultyRegistry, destination: FaultyRegistry) -> None:
    """Children come first: an index whose child is gone is never written."""
    sample = random_index("lost")
    name = put(source, "app", sample, "v1")
    source.storage.delete_manifest("app", sample.manifest.children()[0].digest)
    outcome, _ = await one(name, f"{destination.address}/app:v1")
    assert outcome.failure is not None
    assert outcome.failure.kind == "NotFound"
    assert destination.get_manifest("app", str(sample.digest)) is None


async def test_a_session_goes_on_after_a_failure(source: FaultyRegistry, destination: FaultyRegistry) -> None:
    """What failed in one run of a session is tried again in the next: the registry may be well by then."""
    sample = random_index("later")
    name = put(source, "app", sample, "v1")
    async with Session() as session:
        gone = source.faults.add(status(404, kind="blob-get"))
        with pytest.raises(NotFound):
            await copy(session, name, f"{destination.address}/app:v1")
        source.faults.remove(gone)
        gone = source.faults.add(status(404, kind="manifest-get", path="sha256"))
        with pytest.raises(NotFound):
            await copy(session, name, f"{destination.address}/app:v1")
        source.faults.remove(gone)
        gone = destination.faults.add(status(403, kind="manifest-put"))
        with pytest.raises(Denied):
            await copy(session, name, f"{destination.address}/app:v1")
        destination.faults.remove(gone)
        await copy(session, name, f"{destination.address}/app:v1")
    assert incomplete(destination) == []


async def test_a_cut_answer_to_a_manifest_is_asked_for_again(
    source: FaultyRegistry, destination: FaultyRegistry
) -> None:
    """D6: half a manifest is no manifest."""
    sample = random_image("half")
    source.faults.add(cut_response(50, kind="manifest-get", times=1))
    outcome, _ = await one(put(source, "app", sample, "v1"), f"{destination.address}/app:v1")
    assert outcome.failure is None
    assert incomplete(destination) == []
