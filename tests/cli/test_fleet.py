"""What a person reads before and after a run: the plan on stdout, the report on stderr."""

from __future__ import annotations

import re
from pathlib import Path
from typing import get_args

import pytest

from asyncrane.cli.fleet import show_plan, show_report
from asyncrane.engine.outcome import Statistics
from asyncrane.engine.planning import SiteCosts
from asyncrane.errors import Failure
from asyncrane.mirror.apply import Lost, MirrorReport
from asyncrane.mirror.plan import Action, MirrorPlan, PlannedImage, PlannedTarget
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


def cells(text: str) -> list[list[str]]:
    """The words of each line that have at least two spaces between them."""
    return [re.split(" {2,}", line.strip()) for line in text.splitlines()]


def test_a_plan_says_what_will_happen_where(capsys: pytest.CaptureFixture[str]) -> None:
    show_plan(plan(PlannedTarget(f"{HOST}/app:v1", "new"), PlannedTarget(f"{HOST}/b:v1", "equal")), Path("[red]p.json"))
    said = capsys.readouterr()
    assert said.err == ""
    rows = cells(said.out)
    assert [row for row in rows if row[0] in (HOST, "PUT manifests", "destination")] == [
        [HOST, "all", "2"],
        ["PUT manifests", "2"],
        ["destination", "new", "changed", "equal", "conflict"],
        [HOST, "1", "0", "1", "0"],
        [HOST, "3", "0 B", "5.0 MB", "7.0 kB", "0 B"],
    ]
    assert "5.0 MB to read, 0 B to write · about 1:01" in said.out
    assert "'asyncrane mirror apply [red]p.json'" in said.out, "a name is never taken for a style"


@pytest.mark.parametrize("columns", [40, 80, 120])
def test_a_plan_splits_no_number_and_no_heading(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], columns: int
) -> None:
    """On 80 columns nothing is wider than they are; names that do not fit go on in the next line."""
    monkeypatch.setenv("COLUMNS", str(columns))
    hosts = ("backup-registry.eu-central-1.example.com:5000", "registry.example.com:5000")
    actions = get_args(Action)
    images = tuple(
        PlannedImage(f"{SOURCE}:v{n}", f"sha256:{'0' * 64}", tuple(PlannedTarget(f"{h}/app:v{n}", a) for h in hosts))
        for n, a in enumerate((*actions, "new"))
    )
    kinds = {"GET blobs": 123_456, "HEAD manifests": 1_234_567}
    cost = SiteCosts(123_456, 999_900_000_000, 888_800_000_000, 777_700_000_000, 666_600_000_000, kinds)
    show_plan(MirrorPlan(1, "", "", "", images, dict.fromkeys(hosts, cost)), None)
    shown = capsys.readouterr().out.partition("conflict: ")[0]
    rows = cells(shown)
    for heading in (
        ["registry", "kind", "requests"],
        ["destination", *actions],
        ["registry", "unique blobs", "read", "write", "mount", "there"],
    ):
        assert heading in rows
    for numbers in (
        ["all", "1358023"],
        ["2", *("1" for _ in actions[1:])],
        ["123456", "999.9 GB", "888.8 GB", "777.7 GB", "666.6 GB"],
    ):
        assert [row[0][:14] for row in rows if row[1:] == numbers] == [host[:14] for host in hosts]
    assert [row for row in rows if row[0] in kinds] == [[kind, str(n)] for kind, n in kinds.items()] * 2
    assert [hosts[1], "123456", "999.9 GB", "888.8 GB", "777.7 GB", "666.6 GB"] in rows, "an ordinary name fits"
    assert max(map(len, shown.splitlines())) <= max(columns, 80)


def test_a_plan_names_a_few_conflicts_and_counts_the_rest(capsys: pytest.CaptureFixture[str]) -> None:
    show_plan(plan(*(PlannedTarget(f"{HOST}/app:v{n}", "conflict", why="never") for n in range(20))), None)
    said = capsys.readouterr().out
    assert said.count(f"conflict: {SOURCE}:v1 -> ") == 12
    assert "… and 8 more" in said


def test_an_empty_plan_says_so(capsys: pytest.CaptureFixture[str]) -> None:
    """But not where nothing is all that can be done."""
    show_plan(plan(), None)
    assert "Nothing to do." in capsys.readouterr().out
    show_plan(plan(PlannedTarget(f"{HOST}/app:v1", "unreadable", why="gone")), None)
    assert "Nothing to do." not in capsys.readouterr().out


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
        ("a.example.com/app:v1: has moved",),
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
        "to note: a.example.com/app:v1: has moved",
        "1 failure: failures.jsonl",
        "4 images left: 'asyncrane mirror resume 7'",
    ]
