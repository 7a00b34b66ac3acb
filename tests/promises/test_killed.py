"""``mirror apply`` killed with -9 at any moment, and resumed until it is done: the same end, and nothing sent twice.

``ASYNCRANE_KILLS=50`` kills as often as the promise says; by default it is fewer, for the sake of time.
"""

from __future__ import annotations

import json
import os
import random
import re
import signal
from collections import Counter
from collections.abc import AsyncIterator, Iterator
from pathlib import Path

import anyio
import anyio.lowlevel
import pytest

from asyncrane import Journal, Session
from asyncrane.engine.messages import WriteManifest
from asyncrane.oci.reference import Repository
from asyncrane.testing import FaultyRegistry, Gate, delay, stall_request
from asyncrane.testing.images import Sample, random_index
from tests.cli.conftest import Program, stopped_by
from tests.copies.registries import RealRegistry, docker_registry
from tests.promises.images import image, incomplete, noise, put, tags
from tests.promises.mirrors import Life, Mirror

MIB = 1024 * 1024
KILLS = int(os.environ.get("ASYNCRANE_KILLS", "4"))
REPOSITORIES, VERSIONS = 4, 4

_COMMIT = re.compile(r'"PUT /v2/(\S+)/blobs/uploads/\S*[?&]digest=(\S+?)(?:&\S*)? HTTP/1.1" 201')


def fleet() -> dict[str, Sample]:
    """Images that share layers, small ones and some that take a while; an index in every repository."""
    pool = [noise(f"layer {n}", (1 + n % 4) * 150_000) for n in range(20)]
    large = [noise(f"large {n}", 9 * MIB) for n in range(2)]
    made = {}
    for number in range(REPOSITORIES * VERSIONS):
        layers = [pool[(number * 7 + step * 3) % len(pool)] for step in range(4)]
        if number % 6 == 0:
            layers.append(large[number % 2])
        made[f"team/app{number % REPOSITORIES}:v{number // REPOSITORIES}"] = image(number, layers)
    for number in range(REPOSITORIES):
        made[f"team/app{number}:multi"] = random_index(f"index {number % 2}", layers=(20_000, 70_000))
    return made


@pytest.fixture
async def source() -> AsyncIterator[FaultyRegistry]:
    async with FaultyRegistry() as started:
        yield started


def fill(source: FaultyRegistry, images: dict[str, Sample]) -> None:
    for name, sample in images.items():
        repository, _, tag = name.partition(":")
        put(source, repository, sample, tag)


@pytest.fixture(scope="module")
def real(tmp_path_factory: pytest.TempPathFactory) -> Iterator[RealRegistry]:
    with docker_registry(tmp_path_factory.mktemp("registry")) as started:
        yield started


def commits(registry: RealRegistry, prefix: str) -> Counter[str]:
    """How often each blob was finished below ``prefix``, by the registry's access log."""
    found = _COMMIT.findall(registry.log.read_text())
    return Counter(digest.replace("%3A", ":") for name, digest in found if name.startswith(f"{prefix}/"))


async def state(registry: RealRegistry, prefix: str, images: dict[str, Sample]) -> dict[str, str]:
    """Every tag below ``prefix`` and the digest it names; all that belongs to it is there."""
    found: dict[str, str] = {}
    async with Session() as session:
        for repository in sorted({name.partition(":")[0] for name in images}):
            remote = session.remote(Repository(registry.address, f"{prefix}/{repository}"), writing=True)
            for tag in [tag async for tag in remote.tags()]:
                present = await remote.probe(tag)
                assert present is not None
                found[f"{repository}:{tag}"] = str(present.digest)
            for name, sample in images.items():
                if name.startswith(f"{repository}:"):
                    for digest in sample.blobs:
                        assert await remote.has(digest), f"{prefix}/{name} lacks {digest!s}"
    return found


async def test_i2_killed_at_random_and_resumed_it_ends_as_if_undisturbed(
    source: FaultyRegistry, real: RealRegistry, program: Program, tmp_path: Path
) -> None:
    """I2: against a registry that nobody here wrote; no blob that was finished is sent again, in no life."""
    images = fleet()
    fill(source, images)
    blobs = {str(digest) for sample in images.values() for digest in sample.blobs}
    wanted = {name: str(sample.digest) for name, sample in images.items()}
    calm = Mirror(program, tmp_path, source.address, real.address, "calm")
    undisturbed = await calm.live(60)
    assert undisturbed.code == 0, undisturbed.err
    assert await state(real, "calm", images) == wanted
    assert commits(real, "calm") == Counter(blobs)
    dice = random.Random(20)
    patience = undisturbed.seconds
    kills = runs = 0
    while kills < KILLS:
        runs += 1
        mirror = Mirror(program, tmp_path, source.address, real.address, f"run{runs}")
        code = -signal.SIGKILL
        while code == -signal.SIGKILL:
            life = await mirror.live(patience * dice.uniform(0.3, 0.9) if kills < KILLS else 60)
            code = life.code
            patience = min(patience, life.seconds) if code == 0 else patience  # others use the machine, too
            kills += code == -signal.SIGKILL
            assert code in (0, -signal.SIGKILL), life.err
        assert await state(real, mirror.name, images) == wanted
        assert commits(real, mirror.name) == Counter(blobs)
        with Journal.read(mirror.journal) as journal:
            assert [run.status for run in journal.runs()] == ["done"]
            assert all(record.outcome is not None for record in journal.jobs(1))


async def test_i2_what_one_image_got_before_the_kill_the_next_one_mounts_after_it(
    source: FaultyRegistry, program: Program, tmp_path: Path
) -> None:
    """I2: the first image is done with and not looked at again, and what it has is known from the journal."""
    shared = [noise(number, 50_000) for number in range(4)]
    first, second = image("first", shared), image("second", shared)
    put(source, "team/a", first, "v1")
    put(source, "team/b", second, "v1")
    gate = Gate()
    held = source.faults.add(delay(gate, kind="manifest-get", path="team/b"))
    async with FaultyRegistry() as destination:
        mirror = Mirror(program, tmp_path, source.address, destination.address, "copy")

        async def one_done() -> None:
            await gate.reached()
            while "done" not in mirror.outcomes():
                await anyio.lowlevel.checkpoint()

        ended = await stopped_by(mirror.command(), program.environ, signal.SIGKILL, one_done)
        assert ended.code == -signal.SIGKILL
        assert tags(destination) == {"copy/team/a:v1": str(first.digest)}
        source.faults.remove(held)
        gate.release()
        destination.log.clear()
        life = await mirror.live(60)
        assert life.code == 0, life.err
        assert tags(destination) == {"copy/team/a:v1": str(first.digest), "copy/team/b:v1": str(second.digest)}
        config = second.manifest.config()
        assert config is not None
        assert [request.digest for request in destination.requests(kind="upload-put")] == [config.digest]
        assert len(destination.requests(kind="mount", status=201)) == len(shared)


async def test_d1_killed_at_random_a_large_upload_goes_on(
    source: FaultyRegistry, program: Program, tmp_path: Path
) -> None:
    """D1: what a registry has of a blob is not sent again, whoever sent it; two are under way each time."""
    sample = image("large", [noise("large", 30 * MIB), noise("other", 20 * MIB)])
    put(source, "team/app", sample, "v1")
    total = sum(len(content) for content in sample.blobs.values())
    dice = random.Random(21)
    async with FaultyRegistry() as destination:
        mirror = Mirror(program, tmp_path, source.address, destination.address, "copy")
        for _ in range(3):
            gate = Gate()
            held = destination.faults.add(stall_request(dice.randrange(1, 2 * MIB), gate, kind="upload-patch"))
            ended = await stopped_by(mirror.command(), program.environ, signal.SIGKILL, gate.reached)
            assert ended.code == -signal.SIGKILL
            destination.faults.remove(held)
            gate.release()
            while destination.log.active():
                await anyio.lowlevel.checkpoint()
        life = await mirror.live(60)
        assert life.code == 0, life.err
        assert tags(destination) == {"copy/team/app:v1": str(sample.digest)}
        assert incomplete(destination) == []
        sent = sum(request.request_bytes for request in destination.log if request.kind.startswith("upload-"))
        assert sent < 1.1 * total


async def test_a_second_process_on_one_journal_is_refused(
    source: FaultyRegistry, program: Program, tmp_path: Path
) -> None:
    """It is told whose it is; who only reads is not refused."""
    put(source, "team/app", image("a", [noise("a", 1000)]), "v1")
    gate = Gate()
    source.faults.add(delay(gate, kind="manifest-get"))
    async with FaultyRegistry() as destination, anyio.create_task_group() as tasks:
        mirror = Mirror(program, tmp_path, source.address, destination.address, "copy")
        lives: list[Life] = []

        async def first() -> None:
            lives.append(await mirror.live(60))

        tasks.start_soon(first)
        await gate.reached()
        second = await program.process(*mirror.words("apply", str(mirror.spec))[3:])
        listed = await program.process("mirror", "runs", "--journal", str(mirror.journal), "--output", "json")
        gate.release()
    (run,) = json.loads(listed.out)
    assert run["status"] == "running"
    assert second.code == 1
    assert second.error.endswith(f"is being written by process {run['pid']}")
    assert [life.code for life in lives] == [0]
    assert mirror.run == 1


async def test_i1_a_full_disk_stops_the_run_and_no_tag_is_written_that_the_journal_lacks(
    source: FaultyRegistry, program: Program, tmp_path: Path
) -> None:
    """I1: one clear error, complete images only, and with room again the rest is done."""
    images = {f"team/app:v{number}": image(number, [noise(number, 2000)]) for number in range(150)}
    fill(source, images)
    async with FaultyRegistry() as destination:
        mirror = Mirror(program, tmp_path, source.address, destination.address, "copy")
        limited = ["sh", "-c", 'ulimit -f 2000; exec "$@"', "sh", *mirror.command()]
        with anyio.fail_after(60):
            ended = await anyio.run_process(limited, env=program.environ, check=False)
        assert ended.returncode == 1
        hint, error = ended.stderr.decode().splitlines()[-2:]
        assert hint == f"run 1 is not finished: 'asyncrane mirror resume 1 --journal {mirror.journal}' goes on with it"
        assert error.startswith(f"asyncrane: error: journal {mirror.journal}: ")
        written = set(tags(destination))
        assert len(written) < len(images)
        assert incomplete(destination) == []
        with Journal.read(mirror.journal) as journal:
            messages = [record.message for record in journal.events(1)]
        told = {f"{m.place.repository}:{m.tag}" for m in messages if isinstance(m, WriteManifest)}
        assert written <= told
        life = await mirror.live(60)
        assert life.code == 0, life.err
        assert tags(destination) == {f"copy/{name}": str(sample.digest) for name, sample in images.items()}


async def test_i2_told_to_stop_it_says_how_to_go_on_and_does(
    source: FaultyRegistry, program: Program, tmp_path: Path
) -> None:
    """I2: Ctrl-C in the middle of a large upload; the command it names does the rest, from where it was."""
    sample = image("large", [noise("large", 20 * MIB)])
    put(source, "team/app", sample, "v1")
    gate = Gate()
    async with FaultyRegistry() as destination:
        destination.faults.add(stall_request(4 * MIB, gate, kind="upload-patch", times=1))
        mirror = Mirror(program, tmp_path, source.address, destination.address, "copy")
        ended = await stopped_by(mirror.command(), program.environ, signal.SIGINT, gate.reached)
        gate.release()
        assert ended.code == 130
        assert "mirror resume 1" in ended.err
        assert destination.open_uploads == 1
        life = await mirror.live(60)
        assert life.code == 0, life.err
        assert tags(destination) == {"copy/team/app:v1": str(sample.digest)}
        sent = sum(request.request_bytes for request in destination.log if request.kind.startswith("upload-"))
        assert sent == sum(len(content) for content in sample.blobs.values())
