"""What a person reads before and after a run: the plan on stdout, the report on stderr."""

from __future__ import annotations

from pathlib import Path

import pytest

from asyncrane.cli.fleet import show_plan, show_report
from asyncrane.engine.outcome import Statistics
from asyncrane.engine.planning import SiteCosts
from asyncrane.errors import Failure
from asyncrane.mirror.apply import Lost, MirrorReport
from asyncrane.mirror.plan import MirrorPlan, PlannedImage, PlannedTarget
from asyncrane.mirror.wishes import Unreadable

SOURCE, HOST = "a.example.com/app", "[fe80::1]:5000"
DENIED = Failure("Denied", "GET https://a.example.com/v2/b/tags/list: 403 Forbidden", 403)


@pytest.fixture(autouse=True)
def wide(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("COLUMNS", "160")


def plan(*targets: PlannedTarget) -> MirrorPlan:
    image = PlannedImage(f"{SOURCE}:v1", f"sha256:{'0' * 64}", targets)
    costs = SiteCosts(blobs=3, bytes_written=5_000_000, bytes_mounted=7000, requests={"PUT manifests": 2})
    return MirrorPlan(1, "", "", "", (image,) if targets else (), {HOST: costs}, bytes_read=5_000_000, seconds=61)


def test_a_plan_says_what_will_happen_where(capsys: pytest.CaptureFixture[str]) -> None:
    show_plan(plan(PlannedTarget(f"{HOST}/app:v1", "new"), PlannedTarget(f"{HOST}/b:v1", "equal")), Path("[red]p.json"))
    said = capsys.readouterr()
    assert said.err == ""
    rows = [line.strip("│").split("│") for line in said.out.splitlines() if HOST in line]
    assert [[cell.strip() for cell in row] for row in rows] == [
        [HOST, "1", "1"],
        [HOST, "0 B", "5.0 MB", "3", "7.0 kB", "0 B", "2", "2 PUT manifests"],
    ]
    assert "5.0 MB to read, 0 B to write · about 1:01" in said.out
    assert "'asyncrane mirror apply [red]p.json'" in said.out, "a name is never taken for a style"


def test_a_plan_names_a_few_conflicts_and_counts_the_rest(capsys: pytest.CaptureFixture[str]) -> None:
    show_plan(plan(*(PlannedTarget(f"{HOST}/app:v{n}", "conflict", why="never") for n in range(20))), None)
    said = capsys.readouterr().out
    assert said.count(f"conflict: {SOURCE}:v1 -> ") == 12
    assert "… and 8 more" in said


def test_an_empty_plan_says_so(capsys: pytest.CaptureFixture[str]) -> None:
    show_plan(plan(), None)
    assert "Nothing to do." in capsys.readouterr().out


def test_a_report_says_what_became_of_images_and_how_to_go_on(capsys: pytest.CaptureFixture[str]) -> None:
    counts = Statistics(bytes_read=10, bytes_mounted=20, requests={HOST: {"PUT manifests": 3}})
    lost = Lost(f"{SOURCE}:v1", f"{HOST}/app:v1", "failed", DENIED)
    report = MirrorReport(
        7,
        "stopped",
        3.0,
        {"copied": 5, "failed": 1},
        4,
        (lost,),
        (Unreadable("a.example.com/b", DENIED),),
        (),
        (),
        counts,
    )
    show_report(report, Path("failures.jsonl"), "'asyncrane mirror resume 7'")
    said = capsys.readouterr()
    assert said.out == ""
    assert [line.rstrip() for line in said.err.splitlines()] == [
        "run 7: stopped in 3.0 s",
        "images    5 copied, 1 failed",
        "bytes     10 B read, 20 B mounted",
        f"requests  3 to {HOST}",
        f"cannot be read: a.example.com/b: {DENIED.message}",
        "1 failure: failures.jsonl",
        "4 images left: 'asyncrane mirror resume 7'",
    ]
