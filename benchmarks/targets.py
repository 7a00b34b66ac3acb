"""What asyncrane has to reach, as a table, and whether it did."""

from __future__ import annotations

import os
import statistics
from typing import TYPE_CHECKING, Literal

import msgspec

from .runners import CURL, MIRROR, OWN, REFERENCE
from .scenarios import SCALES

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Mapping

    from .results import Figures, Measured, Run

RSS_LIMIT = 120.0  # MiB, in every scenario


class Target(msgspec.Struct, frozen=True):
    """A limit on one figure of one scenario.

    ``faster`` is how many times longer ``versus`` takes than ``runner`` (at least the limit), ``longer`` how many times
    longer ``runner`` takes (at most); ``cpu`` is the CPU time
    of ``runner`` by that of ``versus`` for the same bytes (at most); ``requests`` is requests a tag (at most);
    ``cores`` is how much longer it takes than the CPU time of client and registries on all cores at once (at most).
    """

    scenario: str
    figure: Literal["faster", "longer", "cpu", "requests", "cores"]
    versus: str
    limit: float
    runner: str = REFERENCE


BEST = "the best peer"

TARGETS: tuple[Target, ...] = (
    Target("fleet", "faster", BEST, 1.8),
    Target("tiny", "faster", BEST, 2.2),
    Target("tiny-200ms", "faster", "crane", 12.0),
    Target("tiny-200ms", "faster", "crane-parallel", 3.0),
    Target("fleet-tls", "faster", BEST, 2.0),
    Target("big", "faster", BEST, 1.1),
    Target("big", "cpu", "crane", 1.0),
    Target("resync", "faster", BEST, 4.0),
    Target("big", "longer", CURL, 1.15),
    Target("fleet", "cores", "", 1.15),
    Target("fleet", "faster", REFERENCE, 1.0, runner=MIRROR),
    Target("tiny", "faster", REFERENCE, 1.0, runner=MIRROR),
    Target("resync", "faster", "crane", 3.0, runner=MIRROR),
    Target("resync-50ms", "faster", "crane", 6.0, runner=MIRROR),
    Target("resync", "requests", "", 2.0, runner=MIRROR),
)

GROWTH = 1.25
WEIGHT = 4.0  # KiB

CLAIMS_ON = "fleet"  # the scenario whose requests are held against the claims


class Verdict(msgspec.Struct, frozen=True):
    """A target, said in words, and what was seen."""

    target: str
    seen: str
    outcome: Literal["met", "missed", "not measured"]


def judge(measured: Iterable[Measured]) -> tuple[Verdict, ...]:
    """Every target of the table, then the memory of every scenario, then the requests."""
    by_name = {one.scenario: one for one in measured}
    return (
        *(_verdict(target, by_name.get(target.scenario)) for target in TARGETS),
        *_memory(by_name.values()),
        *_requests(by_name.get(CLAIMS_ON)),
        *_scaling(by_name),
    )


def _verdict(target: Target, measured: Measured | None) -> Verdict:
    said, unit = _words(target), " a tag" if target.figure == "requests" else "x"
    seen = _seen(target, measured) if measured else None
    if seen is None:
        return Verdict(said, "", "not measured")
    if target.versus == BEST and measured is not None:
        unit += f" ({_best(measured)})"
    good = seen >= target.limit if target.figure == "faster" else seen <= target.limit
    return Verdict(said, f"{seen:.2f}{unit}", "met" if good else "missed")


def _words(target: Target) -> str:
    who = "" if target.runner == REFERENCE else f"{target.runner} "
    match target.figure:
        case "faster":
            return f"{target.scenario}: {who}at least {target.limit:g}x as fast as {target.versus}"
        case "longer":
            return f"{target.scenario}: {who}takes at most {target.limit:g}x as long as {target.versus}"
        case "cpu":
            return f"{target.scenario}: {who}at most {target.limit:g}x the client CPU per GiB of {target.versus}"
        case "requests":
            return f"{target.scenario}: {who}at most {target.limit:g} requests a tag"
        case "cores":
            return f"{target.scenario}: {who}at most {target.limit:g}x the CPU of client and registries on all cores"


def _seen(target: Target, measured: Measured) -> float | None:
    match target.figure:
        case "faster":
            versus = _best(measured) if target.versus == BEST else target.versus
            return measured.ratio(versus, target.runner, _wall)
        case "longer":
            return measured.ratio(target.runner, target.versus, _wall)
        case "cpu":
            return measured.ratio(target.runner, target.versus, _cpu)
        case "requests":
            return max(
                (_about_tags(run) / measured.tags for run in measured.done(target.runner).values()), default=None
            )
        case "cores":
            runs = [run for run in measured.done(target.runner).values() if run.registries_cpu]
            return statistics.median(map(_of_all_cores, runs)) if runs else None


def _best(measured: Measured) -> str:
    """The peer that is fastest in the median; nobody where none ran."""
    peers = [one for one in measured.figures() if one.runner not in OWN | {CURL}]
    return min(peers, key=lambda one: one.wall).runner if peers else ""


def _of_all_cores(run: Run) -> float:
    return run.wall * (os.cpu_count() or 1) / (run.cpu + run.registries_cpu)


def _about_tags(run: Run) -> int:
    """Requests for manifests: pings and lists are the repository's."""
    asked = (run.source_requests, run.destination_requests)
    return sum(number for counts in asked for kind, number in counts.items() if "manifest" in kind)


def _memory(measured: Iterable[Measured]) -> Iterator[Verdict]:
    for one in measured:
        peaks = [run.rss for run in one.done(REFERENCE).values()]
        if peaks:
            said = f"{one.scenario}: peak RSS at most {RSS_LIMIT:g} MiB"
            yield Verdict(said, f"{max(peaks):.0f} MiB", "met" if max(peaks) <= RSS_LIMIT else "missed")


def _requests(measured: Measured | None) -> Iterator[Verdict]:
    runs = list(measured.done(REFERENCE).values()) if measured else []
    if not any(run.claims for run in runs):
        yield Verdict(f"{CLAIMS_ON}: every byte crosses each wire once", "", "not measured")
        return
    for claim in runs[-1].claims:
        seen = sorted({one.seen for run in runs for one in run.claims if one.name == claim.name})
        good = seen == [claim.said]
        said = f"{CLAIMS_ON}: {claim.name}: {claim.said}"
        yield Verdict(said, ", ".join(map(str, seen)), "met" if good else "missed")


def _scaling(by_name: Mapping[str, Measured]) -> Iterator[Verdict]:
    """What a blob costs in the largest fleet, by what it costs in the one before: in a small one, most is the start."""
    first, last = (by_name.get(name) for name in sorted(SCALES, key=SCALES.__getitem__)[-2:])
    for runner in (REFERENCE, MIRROR):
        small, large = (_figures(one, runner) if one else None for one in (first, last))
        if first is None or last is None or small is None or large is None:
            yield Verdict(f"{runner}: a blob costs the same in a larger fleet", "", "not measured")
            continue
        more = last.blobs / first.blobs
        said = f"{runner}: in a fleet of {more:.0f}x the blobs, at most {GROWTH:g}x"
        yield _limited(f"{said} the seconds a blob", large.wall / small.wall / more, GROWTH, "x")
        yield _limited(f"{said} the client CPU a blob", large.cpu / small.cpu / more, GROWTH, "x")
        weight = (large.rss - small.rss) * 1024 / (last.blobs - first.blobs)
        yield _limited(f"{runner}: each further blob takes at most {WEIGHT:g} KiB", weight, WEIGHT, " KiB")


def _figures(measured: Measured, runner: str) -> Figures | None:
    return next((one for one in measured.figures() if one.runner == runner), None)


def _limited(said: str, seen: float, limit: float, unit: str) -> Verdict:
    return Verdict(said, f"{seen:.2f}{unit}", "met" if seen <= limit else "missed")


def _wall(run: Run) -> float:
    return run.wall


def _cpu(run: Run) -> float:
    return run.cpu
