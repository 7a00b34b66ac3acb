"""``mirror apply`` between two real registries that are killed and started again, over lines that break and heal.

``ASYNCRANE_FAULTS=all`` has 20 moments for each fault, otherwise 1. How long a fault lasts is random, too: until the
run has noticed it so often that it tried something again, which may be more often than it has patience for.
"""

from __future__ import annotations

import random
from collections.abc import Awaitable, Callable, Iterator
from functools import partial
from pathlib import Path

import pytest

from tests.faults.ground import ALL, STEPS, Course, Ground, cells, course, marked, moments, two_registries
from tests.faults.line import Line

SIDES = ("source", "destination")

LONGEST = 40
"""Attempts that fail before the fault is over: a few dozen requests are under way, each is tried six times."""


@pytest.fixture(scope="module")
def ground(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Ground]:
    with two_registries(tmp_path_factory.mktemp("ground")) as made:
        yield made


@pytest.mark.parametrize(
    "side",
    [pytest.param(side, marks=cells(f"{side} killed, started again", "mirror apply")) for side in SIDES],
)
async def test_a_registry_is_killed_at_any_moment_and_started_again(ground: Ground, tmp_path: Path, side: str) -> None:
    """Connections break, new ones are refused until it is there again, and uploads are as far as its disk says."""
    registry = ground.source if side == "source" else ground.destination

    async def heal(line: Line) -> None:
        await registry.restart()
        line.open()

    def strike(line: Line) -> None:
        registry.kill()
        line.close()

    await strike_often(ground, tmp_path, side, "killed", strike, heal)


@marked("network cut, healed", "mirror apply", "destination")
async def test_the_network_is_cut_at_any_moment_and_heals(ground: Ground, tmp_path: Path) -> None:
    """Connections are reset and new ones refused."""

    async def heal(line: Line) -> None:
        line.open()

    await strike_often(ground, tmp_path, "destination", "refused", Line.close, heal)


@pytest.mark.parametrize(
    "side",
    [
        pytest.param(side, marks=cells("network silent, healed", "mirror apply", side))
        for side in (SIDES if ALL else SIDES[1:])
    ],
)
async def test_the_network_is_silent_from_any_moment_and_heals(ground: Ground, tmp_path: Path, side: str) -> None:
    """Bytes go nowhere and nobody is told: what broke is found by the clock alone, and later the bytes arrive."""

    async def heal(line: Line) -> None:
        line.speak()

    await strike_often(ground, tmp_path, side, "silent", Line.fall_silent, heal)


async def strike_often(
    ground: Ground,
    home: Path,
    side: str,
    name: str,
    strike: Callable[[Line], object],
    heal: Callable[[Line], Awaitable[None]],
) -> None:
    """Strike the line of one side at each moment, heal it later, and see every run through."""
    dice = random.Random(f"{name} {side}")
    for at in moments(f"{name} {side}", STEPS[side]):
        patience = dice.randint(1, LONGEST if ALL else 4)
        async with course(ground, home, f"{name}-{side}-{at}-{patience}") as run:
            code = await _through(run, run.lines[side], at, patience, strike, heal)
            await run.finish(code)


async def _through(
    run: Course,
    line: Line,
    at: int,
    patience: int,
    strike: Callable[[Line], object],
    heal: Callable[[Line], Awaitable[None]],
) -> int:
    """One process, struck once; its exit code."""
    async with run.begun("-v", "--stall-timeout", "1") as witnessed:
        with line.at(at, partial(strike, line)) as struck:
            await witnessed.struck(struck)
            await witnessed.noticed(patience)
            await heal(line)
            code = await witnessed.ended()
    assert struck.is_set(), run.name
    assert code in (0, 1), f"{run.name}: {witnessed.words[-2000:]}"
    return code
