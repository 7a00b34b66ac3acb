"""Bytes on bad lines and into difficult registries: sent once more only where there is no other way."""

from __future__ import annotations

from collections import Counter

import pytest

from asyncrane import Pair
from asyncrane.server.call import Call, Handler
from asyncrane.server.reply import Reply
from asyncrane.testing import (
    FaultyRegistry,
    Gate,
    cut_request,
    cut_response,
    fault,
    limit_body,
    refuse_chunks,
    refuse_mount,
    stall_request,
    stall_response,
    status,
)
from asyncrane.testing.images import Sample, random_image
from tests.cli.conftest import Program
from tests.promises.images import image, incomplete, noise, one, put, run, tags

MIB = 1024 * 1024


def uploaded(registry: FaultyRegistry) -> int:
    return sum(r.request_bytes for r in registry.log if r.kind in ("upload-put", "upload-patch"))


async def test_d5_a_source_cut_five_times_is_read_once_into_one_upload(
    source: FaultyRegistry, destination: FaultyRegistry
) -> None:
    """D5: Range goes on where it broke, while the PUT stays open."""
    sample = random_image("d5", layers=(24 * MIB,))
    layer = sample.manifest.layers()[0]
    cuts = source.faults.add(cut_response(4 * MIB + 12345, path=str(layer.digest), times=5))
    outcome, done = await one(put(source, "app", sample, "v1"), f"{destination.address}/app:v1")
    assert outcome.failure is None
    assert cuts.hits == 5
    reads = source.requests(kind="blob-get", digest=str(layer.digest))
    assert ["Range" in r.headers for r in reads] == [False] + 5 * [True]
    assert done.bytes_read == sample.size
    assert sum(r.response_bytes for r in reads) < 1.05 * layer.size
    assert len(destination.requests(kind="mount", digest=str(layer.digest))) == 1
    sent = destination.requests(kind="upload-put", digest=str(layer.digest))
    assert [(r.status, r.request_bytes) for r in sent] == [(201, layer.size)]
    assert incomplete(destination) == []


async def test_d5_both_ends_cut_move_the_bytes_once(source: FaultyRegistry, destination: FaultyRegistry) -> None:
    """D1, D5: a cut upload goes on where the registry says it stopped, and the source is asked from there."""
    sample = random_image("both", layers=(16 * MIB,))
    source.faults.add(cut_response(5 * MIB, times=2, path=str(sample.manifest.layers()[0].digest)))
    cut = destination.faults.add(cut_request(6 * MIB, kind=("upload-put", "upload-patch"), times=2))
    outcome, _ = await one(put(source, "app", sample, "v1"), f"{destination.address}/app:v1")
    assert outcome.failure is None
    assert cut.hits == 2
    assert uploaded(destination) < 1.1 * sample.size
    assert incomplete(destination) == []
    assert destination.open_uploads == 0


@pytest.mark.parametrize("end", ["source", "destination"])
async def test_d7_silence_is_noticed_and_the_rest_is_moved(
    source: FaultyRegistry, destination: FaultyRegistry, program: Program, end: str
) -> None:
    """D7: a second without a byte, then it goes on where it was."""
    sample = random_image("d7", layers=(24 * MIB,))
    layer = str(sample.manifest.layers()[0].digest)
    gate = Gate()
    if end == "source":
        stall = source.faults.add(stall_response(3 * MIB, gate, path=layer, times=1))
    else:

        async def notice(call: Call, handler: Handler) -> Reply:
            gate.release()
            return await handler(call)

        # whoever holds a broken connection learns of it sooner or later: here when the client asks what has arrived
        destination.faults.add(fault("notice", notice, kind="upload-status"))
        stall = destination.faults.add(
            stall_request(3 * MIB, gate, kind="upload-put", times=1, where=lambda call: call.ask("digest") == layer)
        )
    words = (put(source, "app", sample, "v1"), f"{destination.address}/app:v1")
    ended = await program("cp", *words, "--stall-timeout", "1")
    gate.release()
    assert ended.code == 0, ended.err
    assert stall.hits == 1
    assert incomplete(destination) == []
    assert uploaded(destination) < 1.05 * sample.size
    assert len(source.requests(kind="blob-get", digest=layer)) <= (2 if end == "source" else 3)


def many(registry: FaultyRegistry, count: int, size: int) -> tuple[list[Pair], list[Sample]]:
    samples = [random_image(f"many {n}", layers=(size,)) for n in range(count)]
    names = [put(registry, f"r{n}", sample, "v1") for n, sample in enumerate(samples)]
    return [Pair(name, (f"#/r{n}:v1",)) for n, name in enumerate(names)], samples


def aimed(pairs: list[Pair], registry: FaultyRegistry) -> list[Pair]:
    return [Pair(p.source, tuple(d.replace("#", registry.address) for d in p.destinations)) for p in pairs]


async def test_d2_a_registry_that_refuses_chunks_never_sees_one(
    source: FaultyRegistry, destination: FaultyRegistry
) -> None:
    """D2: chunks are never the first choice."""
    destination.faults.add(refuse_chunks())
    pairs, _ = many(source, 4, MIB)
    outcomes, _ = await run(aimed(pairs, destination))
    assert [o.failure for o in outcomes if o.failure] == []
    assert destination.requests(kind="upload-patch") == []


@pytest.mark.parametrize("code", [405, 400])
async def test_d2_a_refused_way_is_left_once_for_all_blobs(
    source: FaultyRegistry, destination: FaultyRegistry, code: int
) -> None:
    """D2: one downgrade, and later blobs skip what failed; PATCH with Content-Range is refused, too."""

    async def no_body(call: Call, handler: Handler) -> Reply:
        return Reply(code, {}, b"") if call.length else await handler(call)

    refused = destination.faults.add(fault("no body", no_body, kind="upload-put"))
    destination.faults.add(refuse_chunks())
    pairs, samples = many(source, 6, MIB)
    outcomes, _ = await run(aimed(pairs, destination), jobs=1)
    assert [o.failure for o in outcomes if o.failure] == []
    assert len(destination.requests(kind="upload-put", status=code)) == 1
    assert refused.hits == 1 + sum(len(sample.blobs) for sample in samples)
    assert incomplete(destination) == []


async def test_d3_a_body_limit_is_met_once(source: FaultyRegistry, destination: FaultyRegistry) -> None:
    """D3: 413 from a proxy means chunks below the limit for that registry from then on."""
    destination.faults.add(limit_body(3 * MIB))
    pairs, _ = many(source, 4, 5 * MIB)
    outcomes, _ = await run(aimed(pairs, destination), jobs=1)
    assert [o.failure for o in outcomes if o.failure] == []
    assert len(destination.requests(status=413)) == 1
    assert incomplete(destination) == []


MOUNT_REFUSALS = [400, 401, 403, 404, 405, 500]


@pytest.mark.parametrize("code", MOUNT_REFUSALS)
async def test_d10_a_refused_mount_is_an_upload_and_its_donor_is_not_asked_again(
    source: FaultyRegistry, destination: FaultyRegistry, code: int
) -> None:
    """D10: at most one wasted request for each donor, whoever it was for."""

    def foreign(call: Call) -> bool:
        return call.ask("from") != call.route.repository

    refused = destination.faults.add(refuse_mount(code, where=foreign))
    layers = [noise(n, 300_000 + n) for n in range(3)]
    pairs = [Pair(put(source, f"r{n}", image(n, layers), "v1"), (f"{destination.address}/r{n}:v1",)) for n in range(8)]
    outcomes, _ = await run(pairs)
    assert [o.failure for o in outcomes if o.failure] == []
    assert incomplete(destination) == []
    asked = [r.query.partition("from=")[2] for r in destination.requests(kind="mount", status=code)]
    wasted = Counter(asked)
    assert refused.hits == wasted.total() > 0
    assert set(wasted.values()) == {1}
    assert destination.open_uploads == 0


async def test_d10_a_repository_that_may_not_be_written_spoils_no_donor(
    source: FaultyRegistry, destination: FaultyRegistry
) -> None:
    """D10, A1: a refusal that is about the destination says nothing about where to mount from."""
    destination.faults.add(status(403, error="DENIED", path="/v2/r1/"))
    layers = [noise(n, 300_000 + n) for n in range(3)]
    pairs = [Pair(put(source, f"r{n}", image(n, layers), "v1"), (f"{destination.address}/r{n}:v1",)) for n in range(6)]
    outcomes, _ = await run(pairs, jobs=1)
    failed = [t.destination for o in outcomes for t in o.targets if t.failure]
    assert failed == [f"{destination.address}/r1:v1"]
    shared = sum(len(r.digest) > 0 and r.request_bytes > 300_000 - 1 for r in destination.requests(kind="upload-put"))
    assert shared == len(layers)


async def test_d10_a_mount_that_mounts_nothing_leaves_no_session_open(
    source: FaultyRegistry, destination: FaultyRegistry
) -> None:
    """D10: 202 opens an upload: it is used, or given up."""
    destination.faults.add(refuse_mount(where=lambda call: call.ask("from") != call.route.repository, nth=(1, 3)))
    layers = [noise(n, 300_000 + n) for n in range(3)]
    pairs = [Pair(put(source, f"r{n}", image(n, layers), "v1"), (f"{destination.address}/r{n}:v1",)) for n in range(8)]
    outcomes, _ = await run(pairs)
    assert [o.failure for o in outcomes if o.failure] == []
    assert incomplete(destination) == []
    assert len(tags(destination)) == 8
    assert destination.open_uploads == 0
