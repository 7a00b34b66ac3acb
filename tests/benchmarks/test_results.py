"""Runs become medians and ratios, and those become verdicts."""

from __future__ import annotations

import os

import msgspec
import pytest

from benchmarks.report import from_json, markdown, to_json
from benchmarks.results import Machine, Measured, Results, Run
from benchmarks.targets import TARGETS, judge

MACHINE = Machine("Linux", "3.11", "chip", 2, 8.0, 0.0)


def run(runner: str, number: int, wall: float, *, error: str = "", cpu: float = 1.0, rss: float = 10.0) -> Run:
    return Run(runner=runner, round=number, wall=wall, user=cpu, rss=rss, rss_sum=rss, error=error)


def measured(*runs: Run, scenario: str = "fleet") -> Measured:
    return Measured(
        scenario=scenario,
        dataset="fleet",
        tls=False,
        rtt=0.0,
        filled=False,
        repositories=1,
        tags=1,
        blobs=1,
        bytes=1 << 30,
        runs=runs,
    )


def results(*scenarios: Measured) -> Results:
    return Results(began="now", quick=False, machine=MACHINE, versions={"crane": "v0"}, scenarios=scenarios)


def test_a_ratio_is_the_median_of_the_rounds_own_ratios() -> None:
    """A machine that is slow in one round is slow for everybody in it."""
    one = measured(
        *(run("asyncrane", number, wall) for number, wall in enumerate([1.0, 10.0, 2.0])),
        *(run("crane", number, wall) for number, wall in enumerate([2.0, 15.0, 6.0])),
    )
    crane = next(figures for figures in one.figures() if figures.runner == "crane")
    assert (crane.ratio, crane.wall, crane.runs) == (2.0, 6.0, 3)


def test_a_failed_run_counts_for_nothing_and_is_reported() -> None:
    """A runner does not win by not copying."""
    one = measured(run("asyncrane", 0, 0.1, error="it ended well, but: 3 missing"), run("crane", 0, 2.0))
    assert [figures.runner for figures in one.figures()] == ["crane"]
    assert "asyncrane failed: it ended well, but: 3 missing" in markdown(results(one))


@pytest.mark.parametrize(("crane", "outcome"), [(1.9, "met"), (1.7, "missed")])
def test_a_target_is_met_or_missed_with_its_figure(crane: float, outcome: str) -> None:
    """Fleet has to be at least 1.8 times as fast as whoever else is fastest."""
    others = run("skopeo", 0, 3.0), run("mirror", 0, 0.5)
    verdict = judge([measured(run("asyncrane", 0, 1.0), run("crane", 0, crane), *others)])[0]
    assert (verdict.outcome, verdict.seen) == (outcome, f"{crane:.2f}x (crane)")


def test_a_run_is_held_against_what_all_cores_could_have_done(monkeypatch: pytest.MonkeyPatch) -> None:
    """Two cores, and one CPU second of the client and two of the registries: 1.5 seconds at best."""
    monkeypatch.setattr(os, "cpu_count", lambda: 2)
    one = measured(msgspec.structs.replace(run("asyncrane", 0, 1.65), registries_cpu=2.0))
    verdict = next(verdict for verdict in judge([one]) if "all cores" in verdict.target)
    assert (verdict.outcome, verdict.seen) == ("met", "1.10x")


@pytest.mark.parametrize(("cpu", "outcome"), [(1.0, "met"), (1.1, "missed")])
def test_a_cpu_target_is_asyncranes_time_by_cranes(cpu: float, outcome: str) -> None:
    """At most crane's CPU for the same bytes."""
    one = measured(run("asyncrane", 0, 1.0, cpu=cpu), run("crane", 0, 1.0, cpu=1.0), scenario="big")
    verdict = next(verdict for verdict in judge([one]) if "CPU" in verdict.target)
    assert verdict.outcome == outcome


def test_memory_is_judged_by_the_worst_run_of_every_scenario() -> None:
    """One run over the limit is over the limit."""
    one = measured(run("asyncrane", 0, 1.0, rss=100.0), run("asyncrane", 1, 1.0, rss=121.0))
    verdict = next(verdict for verdict in judge([one]) if "RSS" in verdict.target)
    assert (verdict.outcome, verdict.seen) == ("missed", "121 MiB")


@pytest.mark.parametrize(("wall", "rss", "outcomes"), [(4.9, 21, ["met"] * 3), (5.1, 23, ["missed", "met", "missed"])])
def test_a_blob_may_not_cost_more_in_a_larger_fleet(wall: float, rss: float, outcomes: list[str]) -> None:
    """Seconds and CPU by the blob, and memory for each one more."""
    small, large = (measured(scenario=f"scale-{times}x") for times in (4, 16))
    small = msgspec.structs.replace(small, blobs=1024, runs=(run("asyncrane", 0, 1.0, cpu=1.0),))
    large = msgspec.structs.replace(large, blobs=4 * 1024, runs=(run("asyncrane", 0, wall, cpu=4.0, rss=rss),))
    verdicts = [one for one in judge([small, large]) if one.target.startswith("asyncrane: ")]
    assert [one.outcome for one in verdicts] == outcomes


def test_what_nobody_ran_is_not_measured() -> None:
    """No figure, no verdict."""
    verdicts = judge([])
    assert len(verdicts) == len(TARGETS) + 3
    assert {verdict.outcome for verdict in verdicts} == {"not measured"}


def test_a_result_file_is_read_back_as_it_was() -> None:
    """An earlier result can be reported again."""
    made = results(measured(run("asyncrane", 0, 1.0), run("crane", 0, 2.0)))
    data = to_json(made)
    assert from_json(data) == made
    assert msgspec.json.decode(data)["figures"]["fleet"][1]["ratio"] == 2.0
