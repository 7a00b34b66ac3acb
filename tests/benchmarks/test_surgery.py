"""What is done to images is measured, and a run that did not do it counts for nothing."""

from __future__ import annotations

import gzip
import io
import json
import os
import shutil
import tarfile
from pathlib import Path

import pytest
from rich.console import Console

from benchmarks.client import connected
from benchmarks.registries import COMMAND, serving
from benchmarks.results import Machine
from benchmarks.runners import REFERENCE, RUNNERS, Work
from benchmarks.surgery import CRANE, Bench, Run, Surgery, Task, Turn, judge, show, tasks
from benchmarks.workshop import Sizes, build, content, layer, write_tar

SIZES = Sizes(appended=1, layers=3, layer=1, rebases=2, base=1)
OURS = next(runner for runner in RUNNERS if runner.name == REFERENCE)


def surgery(*runs: Run) -> Surgery:
    machine = Machine("Linux", "3.11", "chip", 2, 8.0, 0.0)
    return Surgery(began="now", quick=False, machine=machine, versions={CRANE: "v0"}, runs=runs)


def runs(task: str, runner: str, *walls: float, rss: float = 100.0) -> list[Run]:
    return [Run(task=task, runner=runner, round=number, wall=wall, rss=rss) for number, wall in enumerate(walls)]


def test_a_ratio_is_the_median_of_the_rounds_own_ratios() -> None:
    found = surgery(*runs("pull", REFERENCE, 1.0, 10.0, 2.0), *runs("pull", CRANE, 2.0, 15.0, 6.0))
    assert found.ratio("pull") == 2.0
    assert found.ratio("append") is None


def test_targets_are_met_missed_or_not_measured() -> None:
    found = surgery(
        *runs("append", REFERENCE, 1.0),
        *runs("append", CRANE, 1.31),
        *runs("pull", REFERENCE, 1.0),
        *runs("pull", CRANE, 1.9),
        *runs("export", REFERENCE, 1.0, rss=151.0),
        *runs("version", REFERENCE, 0.1, 0.19, 0.9),
        Run(task="flatten", runner=REFERENCE, round=0, error="exit code 1"),
    )
    verdicts = {
        verdict.target.partition(" a")[0]: (verdict.seen, verdict.outcome) for verdict in judge(found, tasks(SIZES))
    }
    assert verdicts["append:"] == ("1.31x", "met")
    assert verdicts["pull:"] == ("1.90x", "missed")
    assert verdicts["export: peak RSS"] == ("151 MiB", "missed")
    assert verdicts["version:"] == ("190 ms", "met")
    assert verdicts["flatten:"] == verdicts["flatten: peak RSS"] == verdicts["rebase:"] == ("", "not measured")


def test_what_is_shown_has_every_figure_and_failure() -> None:
    out = io.StringIO()
    failed = Run(task="flatten", runner=REFERENCE, round=0, error="exit code 1: no")
    found = surgery(*runs("pull", REFERENCE, 1.0), *runs("pull", CRANE, 3.0), failed)
    show(found, tasks(SIZES), Console(file=out, width=130))
    assert "3.00x" in out.getvalue()
    assert "flatten, round 1: asyncrane failed: exit code 1: no" in out.getvalue()


def test_rebases_are_one_command_of_ours_and_one_for_each_of_cranes(tmp_path: Path) -> None:
    task = next(task for task in tasks(SIZES) if task.name == "rebase")
    assert task.crane is not None
    turn = Turn("program", "host:1", "turn", tmp_path, tmp_path / "tar", SIZES)
    (ours,) = task.asyncrane(turn).commands
    assert Path(ours[3]).read_text() == "host:1/app-000:1 host:1/app-000:turn\nhost:1/app-001:1 host:1/app-001:turn\n"
    assert [command[2] for command in task.crane(turn).commands] == ["host:1/app-000:1", "host:1/app-001:1"]


def test_layers_are_tars_that_gzip_makes_about_half_as_large() -> None:
    """The same every time, so that all rounds and machines measure the same."""
    made = layer(5, 1 << 20)
    assert made == layer(5, 1 << 20)
    plain = gzip.decompress(made.blob)
    with tarfile.open(fileobj=io.BytesIO(plain)) as archive:
        assert len(archive.getnames()) == 50
    assert 0.35 < len(made.blob) / len(plain) < 0.75
    assert content(1, 1000) != content(2, 1000)


async def test_every_task_is_done_on_a_real_registry(tmp_path: Path) -> None:
    """And a program that ends well without having done it has failed."""
    if shutil.which(COMMAND) is None:
        (pytest.fail if os.environ.get("CI") == "true" else pytest.skip)(f"{COMMAND} is not installed")
    if OURS.path() is None:
        pytest.skip("asyncrane is not installed here")
    write_tar(tmp_path / "tar", 1 << 20)
    async with serving(tmp_path / "storage", home=tmp_path / "home") as registry:
        async with connected(registry.url) as client:
            await build(client, SIZES)
        bench = Bench(
            registry=registry, home=tmp_path, tar=tmp_path / "tar", sizes=SIZES, timeout=60, say=lambda line: None
        )
        for task in tasks(SIZES):
            done = await bench.turn(task, OURS, task.asyncrane, 0)
            assert (done.error, done.wall > 0, done.rss > 1) == ("", True, True), task.name
        idle = Task("idle", lambda turn: Work((("true",),)), manifests=1)
        assert "wrote 0 of 1 manifests" in (await bench.turn(idle, OURS, idle.asyncrane, 0)).error
        logged = json.dumps(registry.log.read_text() if registry.log else "")
        assert all(f"/v2/app-{number:03}/manifests/rebase-asyncrane-0" in logged for number in range(SIZES.rebases))
