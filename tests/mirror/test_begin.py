"""What happens before the first image: lists of tags, on both sides at once, and how many images begin after them."""

from __future__ import annotations

import time
from collections.abc import Callable

import anyio
import pytest

from asyncrane import Outcome
from asyncrane.engine.job import Job, Target
from asyncrane.mirror import running
from asyncrane.mirror.running import Running
from asyncrane.testing import FaultyRegistry, Gate, delay, status
from tests.cli.conftest import LIMIT
from tests.engine.world import place
from tests.mirror.runs import Mirror
from tests.promises.images import image, noise, put


async def until(mirror: Mirror, *gates: tuple[Gate, int]) -> None:
    """Let a run go on when so many requests stand at each gate."""
    async with anyio.create_task_group() as tasks:
        tasks.start_soon(mirror.apply)
        with anyio.fail_after(LIMIT):
            for gate, count in gates:
                await gate.reached(count)
        for gate, _ in gates:
            gate.release()


async def test_destinations_are_listed_beside_the_sources(mirror: Mirror) -> None:
    put(mirror.source, "app", image("app", [noise("app", 100)]), "v1")
    gates = Gate(), Gate()
    for registry, gate in zip((mirror.source, mirror.destination), gates, strict=True):
        registry.faults.add(delay(gate, kind="tags"))
    mirror.rules("{from: 'A/*', to: ['B/{path}']}")
    await until(mirror, *((gate, 1) for gate in gates))
    assert [len(registry.requests(kind="tags")) for registry in (mirror.source, mirror.destination)] == [1, 1]


@pytest.mark.parametrize("to", ["B/copy/{path}", "B/copy/{tag}"])
async def test_a_destination_that_gets_nothing_is_not_listed(mirror: Mirror, to: str) -> None:
    """Of a rule that selects, or whose repositories depend on the tag, only what is written to."""
    for name in ("one", "two"):
        put(mirror.source, name, image(name, [noise(name, 100)]), f"v-{name}")
    mirror.rules(f"{{from: 'A/*', to: ['{to}'], tags: {{include: ['v-one']}}}}")
    assert (await mirror.apply()).images == {"copied": 1}
    assert len(mirror.destination.requests(kind="tags")) == 1


async def test_where_both_sides_have_listed_more_begin(mirror: Mirror) -> None:
    """More than sixteen, the number for registries that may yet refuse us."""
    sample = image("app", [noise("app", 100)])
    put(mirror.source, "app", sample, *(f"v{number}" for number in range(40)))
    gate = Gate()
    mirror.source.faults.add(delay(gate, kind="manifest-get"))
    mirror.rules("{from: 'A/*', to: ['B/{path}']}")
    await until(mirror, (gate, 24))


@pytest.mark.parametrize("listed", [True, False], ids=["as many as are open at a time", "as many as are tried"])
async def test_registries_that_are_busy_hold_up_no_others(
    mirror: Mirror, monkeypatch: pytest.MonkeyPatch, *, listed: bool
) -> None:
    """A5, B2, I1: twenty images for a destination that answers nothing come before the one for another."""
    monkeypatch.setattr(running, "WINDOW", 18)
    put(mirror.source, "app", image("app", [noise("app", 100)]), *(f"v{number}" for number in range(20)))
    put(mirror.source, "last", image("last", [noise("last", 100)]), "v1")
    silent, done = Gate(), Gate()
    mirror.destination.faults.add(delay(silent, kind=("manifest-head", "mount", "upload-post")))
    if not listed:
        mirror.destination.faults.add(status(403, kind="tags"))
    async with FaultyRegistry() as other:
        other.faults.add(delay(done, kind="manifest-put"))
        mirror.rules("{from: A/app, to: [B/app]}", f"{{from: A/last, to: ['{other.address}/last']}}")
        await until(mirror, (silent, 1), (done, 1))


class Engine:
    """Ends the job that has been open for longest whenever it is told to; ``most`` were open at a time."""

    def __init__(self) -> None:
        self._open: list[tuple[Job, Callable[[Outcome], None]]] = []
        self.most = 0

    def add(self, job: Job, done: Callable[[Outcome], None]) -> None:
        self._open.append((job, done))
        self.most = max(self.most, len(self._open))

    async def run(self) -> None:
        while True:
            await anyio.lowlevel.checkpoint()
            if self._open:
                job, done = self._open.pop(0)
                done(Outcome(str(job)))


@pytest.mark.parametrize(("at_once", "most"), [(1, 1), (8, 8), (None, 16)])
async def test_before_a_set_time_no_more_images_begin_than_can_be_worked_on(at_once: int | None, most: int) -> None:
    """Who works on one at a time does not go on for sixteen images after the time; sixteen are for new registries."""
    jobs = [Job(n, place("a", "app"), (Target(place("b", "app"), f"v{n}"),), tag=f"v{n}") for n in range(50)]
    engine = Engine()
    fleet = Running(engine, jobs, until=time.time() + 3600, at_once=at_once)
    async with anyio.create_task_group() as tasks:
        tasks.start_soon(engine.run)
        await fleet.run()
        tasks.cancel_scope.cancel()
    assert (fleet.images, fleet.left) == (50, 0)
    assert engine.most >= most
    assert at_once is None or engine.most == most


@pytest.mark.parametrize(
    "rule", ["{from: 'A/gone/*', to: ['B/{path}']}", "{from: A/app, to: [B/app], tags: {regex: x}}"]
)
async def test_a_rule_that_means_nothing_is_noted(mirror: Mirror, rule: str) -> None:
    """Most likely it was meant to mean something."""
    put(mirror.source, "app", image("app", [noise("app", 100)]), "v1")
    mirror.rules("{from: A/app, to: [B/other]}", rule)
    plan, report = await mirror.plan(), await mirror.apply()
    assert len(plan.notes) == 1
    assert plan.notes == report.notes
    assert report.notes[0].startswith(f"{mirror.path}:4: {mirror.source.address}/")
    assert (report.status, report.images) == ("done", {"copied": 1})
