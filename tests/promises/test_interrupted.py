"""Killed, stopped or cancelled at any moment: what has a tag is complete, and the next run does the rest."""

from __future__ import annotations

import signal
import subprocess

import anyio
import pytest

from asyncrane import Pair, Session, copy
from asyncrane.testing import Fault, FaultyRegistry, Gate, delay, stall_request, stall_response
from asyncrane.testing.images import random_image, random_index
from tests.cli.conftest import Program, stopped_by
from tests.promises.images import image, incomplete, noise, put, run, tags

MIB = 1024 * 1024


def fill(source: FaultyRegistry) -> None:
    """Images, and indexes above images, that share layers."""
    shared = noise("shared", 3 * MIB)
    for number in range(3):
        put(source, "app", image(number, [shared, noise(number, 300_000)]), f"v{number}")
    put(source, "app", random_index("index", layers=(1000, 400_000)), "multi")
    put(source, "app", random_index("index", layers=(1000, 400_000)), "again")


MOMENTS: dict[str, tuple[str, Fault]] = {
    "the source is read": ("source", stall_response(MIB, kind="blob-get")),
    "manifests are read": ("source", delay(0, kind="manifest-get", nth=3)),
    "the first bytes are sent": ("destination", stall_request(100_000, kind="upload-put")),
    "some blobs are there": ("destination", delay(0, kind="upload-put", after=4)),
    "the first manifest is written": ("destination", delay(0, kind="manifest-put", nth=1)),
    "an index is written": ("destination", delay(0, kind="manifest-put", after=3)),
}


def held(moment: str, source: FaultyRegistry, destination: FaultyRegistry) -> Gate:
    """Let nothing pass at that moment; the gate tells when it has come."""
    side, pattern = MOMENTS[moment]
    gate = Gate()
    make = {"stall_response": stall_response, "stall_request": stall_request}.get(pattern.name)
    registry = source if side == "source" else destination
    if make is None:
        registry.faults.add(delay(gate, **pattern.when))
    else:
        registry.faults.add(make(MIB if make is stall_response else 100_000, gate, **pattern.when))
    return gate


async def check(source: FaultyRegistry, destination: FaultyRegistry, gate: Gate) -> None:
    """Complete now, complete when all that was held has come in, and the same as the source after another run."""
    assert incomplete(destination) == []
    gate.release()
    for side in (source, destination):
        side.faults.clear()
    assert incomplete(destination) == []
    outcomes, _ = await run([Pair(f"{source.address}/app", (f"{destination.address}/app",))], all_tags=True)
    assert [o.failure for o in outcomes if o.failure] == []
    assert tags(destination) == tags(source)
    assert incomplete(destination) == []


@pytest.mark.parametrize("moment", MOMENTS)
async def test_i2_after_kill_9_what_has_a_tag_is_complete(
    source: FaultyRegistry, destination: FaultyRegistry, program: Program, moment: str
) -> None:
    """I2: at every moment."""
    fill(source)
    gate = held(moment, source, destination)
    command = program.command("cp", "-a", f"{source.address}/app", f"{destination.address}/app")
    ended = await stopped_by(command, program.environ, signal.SIGKILL, gate.reached)
    assert ended.code == -signal.SIGKILL
    await check(source, destination, gate)


@pytest.mark.parametrize(
    ("number", "code", "moment"),
    [
        (signal.SIGINT, 130, "the source is read"),
        (signal.SIGINT, 130, "the first bytes are sent"),
        (signal.SIGINT, 130, "an index is written"),
        (signal.SIGTERM, 143, "some blobs are there"),
        (signal.SIGTERM, 143, "the first manifest is written"),
    ],
)
async def test_i6_a_signal_ends_a_run_in_order(
    source: FaultyRegistry, destination: FaultyRegistry, program: Program, number: int, code: int, moment: str
) -> None:
    """I6: one line, its own exit code, uploads given up."""
    fill(source)
    gate = held(moment, source, destination)
    command = program.command("cp", "-a", f"{source.address}/app", f"{destination.address}/app", "--progress", "none")
    ended = await stopped_by(command, program.environ, signal.Signals(number), gate.reached)
    assert ended.code == code
    assert len(ended.err.splitlines()) == 1, ended.err
    assert ended.out == b""
    await check(source, destination, gate)


async def test_i6_uploads_under_way_are_given_up_when_interrupted(
    source: FaultyRegistry, destination: FaultyRegistry, program: Program
) -> None:
    """I6: a registry would keep them for days."""
    put(source, "app", random_image("given up", layers=(3 * MIB,)), "v1")
    gate = Gate()
    source.faults.add(stall_response(MIB, gate, kind="blob-get"))
    command = program.command("cp", "-a", f"{source.address}/app", f"{destination.address}/app")
    ended = await stopped_by(command, program.environ, signal.SIGINT, gate.reached)
    gate.release()
    assert ended.code == 130
    assert len(destination.requests(kind="upload-delete", status=204)) >= 1
    assert destination.open_uploads == 0
    assert tags(destination) == {}


async def test_cancelling_one_of_two_jobs_leaves_the_other_whole(
    source: FaultyRegistry, destination: FaultyRegistry
) -> None:
    """What is shared belongs to nobody: the transfer goes on for who is left, and is not begun again."""
    shared = noise("shared", 2 * MIB)
    first, second = image("first", [shared, noise(1, 1000)]), image("second", [shared, noise(2, 1000)])
    names = put(source, "a", first, "v1"), put(source, "b", second, "v1")
    gate = Gate()
    source.faults.add(stall_response(MIB, gate, kind="blob-get", path=str(first.manifest.layers()[0].digest)))
    async with Session() as session, anyio.create_task_group() as tasks:
        scope = anyio.CancelScope()

        async def doomed() -> None:
            with scope:
                await copy(session, names[0], f"{destination.address}/a:v1")

        tasks.start_soon(doomed)
        await gate.reached()
        tasks.start_soon(copy, session, names[1], f"{destination.address}/b:v1")
        while not destination.requests(kind="upload-put"):
            await anyio.lowlevel.checkpoint()
        scope.cancel()
        gate.release()
    assert tags(destination) == {"b:v1": str(second.digest)}
    assert incomplete(destination) == []
    assert len(source.requests(kind="blob-get", digest=str(first.manifest.layers()[0].digest))) == 1


async def test_a_cancelled_copy_can_be_done_again_in_the_same_session(
    source: FaultyRegistry, destination: FaultyRegistry
) -> None:
    """Whatever it had begun is taken up or begun anew."""
    sample = random_index("again", layers=(1000, MIB))
    name = put(source, "app", sample, "v1")
    async with Session() as session:
        for kind in ("manifest-get", "blob-get"):
            gate = Gate()
            hold = source.faults.add(delay(gate, kind=kind))
            async with anyio.create_task_group() as tasks:
                tasks.start_soon(copy, session, name, f"{destination.address}/app:v1")
                await gate.reached()
                tasks.cancel_scope.cancel()
            source.faults.remove(hold)
            gate.release()
        outcome = await copy(session, name, f"{destination.address}/app:v1")
    assert outcome.digest == str(sample.digest)
    assert incomplete(destination) == []
    assert destination.open_uploads == 0


async def test_leaving_the_session_ends_what_is_under_way(source: FaultyRegistry, destination: FaultyRegistry) -> None:
    """Nothing is published after that."""
    name = put(source, "app", random_image("left", layers=(3 * MIB,)), "v1")
    gate = Gate()
    source.faults.add(stall_response(MIB, gate, kind="blob-get"))
    with anyio.CancelScope() as scope:
        async with Session() as session, anyio.create_task_group() as tasks:
            tasks.start_soon(copy, session, name, f"{destination.address}/app:v1")
            await gate.reached()
            scope.cancel()
    gate.release()
    assert scope.cancelled_caught
    assert tags(destination) == {}
    assert destination.open_uploads == 0


async def test_stdin_closed_and_nobody_watching_is_a_run_like_any_other(
    source: FaultyRegistry, destination: FaultyRegistry, program: Program
) -> None:
    """In a cron job."""
    fill(source)
    command = program.command("cp", "-a", f"{source.address}/app", f"{destination.address}/app")
    with anyio.fail_after(60):
        ended = await anyio.run_process(
            command, env=program.environ, stdin=subprocess.DEVNULL, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL
        )
    assert ended.returncode == 0
    assert tags(destination) == tags(source)
