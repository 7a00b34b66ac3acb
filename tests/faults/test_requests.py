"""Every kind of request meets every fault: the run ends with the right bytes, or with one clear error and no new tag.

``ASYNCRANE_FAULTS=all`` (``make faults``) runs the whole matrix, otherwise it is a sample in which everything meets
everything once.
"""

from __future__ import annotations

import os
import tempfile
from contextlib import AsyncExitStack
from pathlib import Path

import anyio
import pytest

from asyncrane import AsyncraneError
from asyncrane.testing import FaultyRegistry, Gate, When, refuse_mount, status
from tests.faults.effects import Struck
from tests.faults.matrix import KINDS, OPERATIONS, Cell, cells, sample
from tests.faults.world import PASSWORD, RUN, World, two_registries

EVERY = list(cells())
CHOSEN = EVERY if os.environ.get("ASYNCRANE_FAULTS") == "all" else sample(EVERY)

LONGEST = 120
"""Seconds after which a run counts as hanging."""


def bring_out(kind: str, destination: FaultyRegistry) -> None:
    """Let the destination be such that it is asked for ``kind``."""
    if kind == "HEAD blob":
        destination.faults.add(refuse_mount(405))
    if kind == "PATCH upload":
        destination.faults.add(status(405, kind="upload-put", where=lambda call: call.length > 0))


@pytest.fixture(autouse=True)
def temporary(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Temporary files would be seen."""
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path / "temporary"))


@pytest.mark.parametrize(
    "cell", [pytest.param(c, id=str(c), marks=pytest.mark.cell(c.fault, c.operation, c.kind)) for c in CHOSEN]
)
async def test_a_run_ends_with_the_right_bytes_or_a_clear_error(tmp_path: Path, cell: Cell) -> None:
    async with AsyncExitStack() as stack:
        world = await stack.enter_async_context(two_registries(tmp_path))
        registry = elsewhere = world.side(cell.side)
        if cell.fault == "redirect to another host":
            elsewhere = await stack.enter_async_context(FaultyRegistry(registry.storage))
        bring_out(cell.kind, world.destination)
        when = When(kind=KINDS[cell.kind]) if cell.lasting else When(kind=KINDS[cell.kind], times=cell.row.times)
        gate = Gate()
        strikes = registry.faults.add(cell.row.make(Struck(cell.kind, registry, elsewhere, gate), when))
        with anyio.fail_after(LONGEST):
            error = await run(world, cell, registry, gate)
        assert strikes.hits
        check(cell, world, registry, error)
        if elsewhere is not registry:
            assert not [request for request in elsewhere.log if "Authorization" in request.headers]


async def run(world: World, cell: Cell, registry: FaultyRegistry, gate: Gate) -> AsyncraneError | None:
    """What the operation ends with, while the registry goes down as soon as somebody stands at the gate, and in passing
    comes back as soon as somebody was refused.
    """
    refused = anyio.Event()

    def told(line: str) -> None:
        if "connection refused" in line:
            refused.set()

    async def go() -> None:
        await gate.reached()
        await registry.go_down()
        if not cell.lasting:
            await refused.wait()
            await registry.come_back()

    error = None
    async with anyio.create_task_group() as tasks:
        tasks.start_soon(go)
        try:
            await RUN[cell.operation](world, {"trace": told, **cell.options})
        except AsyncraneError as exc:
            error = exc
        tasks.cancel_scope.cancel()
    return error


def check(cell: Cell, world: World, registry: FaultyRegistry, error: AsyncraneError | None) -> None:
    if error is None:
        assert cell.ends_well is not False
        assert world.arrived(cell.operation) == []
        return
    assert not cell.ends_well, error
    assert type(error).__name__ in cell.row.errors, error
    text = str(error)
    assert registry.address in text
    assert "\n" not in text
    assert PASSWORD not in text
    assert "eyJ" not in text  # how tokens begin
    assert world.untouched(landed=cell.lands) == []


@pytest.mark.parametrize("operation", OPERATIONS)
@pytest.mark.parametrize("circumstance", ["plain", "HEAD blob", "PATCH upload"])
async def test_nothing_else_is_asked(tmp_path: Path, operation: str, circumstance: str) -> None:
    """What the matrix leaves out is not sent: it would be refused."""
    async with two_registries(tmp_path) as world:
        bring_out(circumstance, world.destination)
        others = {}
        for side, asked in OPERATIONS[operation].items():
            unasked = [name for kind, names in KINDS.items() if kind not in asked for name in names]
            others[side] = world.side(side).faults.add(status(500, kind=unasked))
        await RUN[operation](world, {})
        assert world.arrived(operation) == []
        for side, asked in OPERATIONS[operation].items():
            assert others[side].hits == 0
            sent = {request.kind for request in world.side(side).log}
            rare = {"HEAD blob", "PATCH upload"} - {circumstance}
            assert [kind for kind in asked if kind not in rare and sent.isdisjoint(KINDS[kind])] == []
