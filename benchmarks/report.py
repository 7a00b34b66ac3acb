"""What is printed: tables for a terminal, Markdown for the README, JSON for machines; all from the same results."""

from __future__ import annotations

from typing import TYPE_CHECKING

import msgspec
from rich.table import Table

from .results import GIB, Figures, Results
from .runners import RUNNERS
from .targets import Verdict, judge

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    from rich.console import Console

    from .results import Measured, Run

COLUMNS = ("scenario", "runner", "seconds", "range (runs)", "/ asyncrane", "CPU s", "CPU s/GiB", "peak MiB", "requests")
COUNTS = ("scenario", "runner", "side", "requests by method and kind")
VERDICTS = ("target", "measured", "outcome")


class Report(msgspec.Struct, frozen=True):
    """The JSON file: the results, and the figures and verdicts that are read from them."""

    results: Results
    figures: dict[str, tuple[Figures, ...]]
    verdicts: tuple[Verdict, ...]

    @classmethod
    def of(cls, results: Results) -> Report:
        """Everything that can be said about ``results``."""
        figures = {one.scenario: one.figures() for one in results.scenarios}
        return cls(results, figures, judge(results.scenarios))


def to_json(results: Results) -> bytes:
    """The report as indented JSON."""
    return msgspec.json.format(msgspec.json.encode(Report.of(results)), indent=2) + b"\n"


def from_json(data: bytes) -> Results:
    """The results in a file that :func:`to_json` made."""
    return msgspec.json.decode(data, type=Report).results


def show(results: Results, console: Console) -> None:
    """Print everything."""
    console.print(about(results), highlight=False)
    for line in peers(results):
        console.print(line, highlight=False, markup=False)
    _print(console, "What it took", COLUMNS, _costs(results))
    _print(console, "What the registries saw (first good run)", COUNTS, _counts(results))
    _print(console, "Targets", VERDICTS, _verdicts(results))
    for line in _failures(results):
        console.print(line, style="red", highlight=False, markup=False)


def markdown(results: Results) -> str:
    """The tables for the README, with the command that makes them."""
    parts = [
        f"Made by `make bench`. {about(results)}",
        "\n".join(f"- {line}" for line in peers(results)),
        _pipes(COLUMNS, _costs(results)),
        "Seconds are medians, each ratio is the median over the rounds of the two times of one round, memory is the "
        "largest of all runs. Every copy was verified.",
        _pipes(VERDICTS, _verdicts(results)),
        *_failures(results),
    ]
    return "\n\n".join(parts) + "\n"


def about(results: Results) -> str:
    """One paragraph: when, where, with what."""
    machine = results.machine
    versions = ", ".join(f"{name} {version}" for name, version in results.versions.items())
    sizes = "; ".join(_size(one) for one in {one.dataset: one for one in results.scenarios}.values())
    quick = "A quick run with small sizes: it says nothing about speed. " if results.quick else ""
    return (
        f"{quick}{results.began}, {machine.processors} x {machine.processor}, {machine.memory_gib:g} GiB, "
        f"{machine.system}, Python {machine.python}, load {machine.load:.1f} at the start; both registries on the "
        f"same machine. {versions}. {sizes}."
    )


def peers(results: Results) -> list[str]:
    """How each program was called, in the order of the table of runners."""
    ran = {run.runner for measured in results.scenarios for run in measured.runs}
    return [f"{runner.name}: {runner.settings}" for runner in RUNNERS if runner.name in ran]


def _size(one: Measured) -> str:
    return (
        f"{one.dataset}: {one.repositories} repositories, {one.tags} tags, {one.blobs} blobs, {one.bytes / GIB:.2f} GiB"
    )


def _costs(results: Results) -> Iterator[tuple[str, ...]]:
    for measured in results.scenarios:
        for one in measured.figures():
            together = f" (sum {one.rss_sum:.0f})" if one.rss_sum > one.rss else ""
            yield (
                measured.scenario,
                one.runner,
                f"{one.wall:.2f}",
                f"{one.fastest:.2f}-{one.slowest:.2f} ({one.runs})",
                "" if one.ratio is None else f"{one.ratio:.2f}x",
                f"{one.cpu:.2f}",
                f"{one.cpu_per_gib:.2f}",
                f"{one.rss:.0f}{together}",
                str(one.requests or ""),
            )


def _counts(results: Results) -> Iterator[tuple[str, ...]]:
    for measured in results.scenarios:
        for figures in measured.figures():
            run = next(iter(measured.done(figures.runner).values()))
            yield from (
                (measured.scenario, run.runner, side, ", ".join(f"{count} {kind}" for kind, count in seen.items()))
                for side, seen in _sides(run)
                if seen
            )


def _sides(run: Run) -> tuple[tuple[str, dict[str, int]], ...]:
    return ("source", run.source_requests), ("destination", run.destination_requests)


def _verdicts(results: Results) -> Iterator[tuple[str, ...]]:
    return ((one.target, one.seen, one.outcome) for one in judge(results.scenarios))


def _failures(results: Results) -> list[str]:
    return [
        f"{measured.scenario}, round {run.round + 1}: {run.runner} failed: {run.error}"
        for measured in results.scenarios
        for run in measured.errors()
    ]


def _print(console: Console, title: str, columns: Sequence[str], rows: Iterator[tuple[str, ...]]) -> None:
    table = Table(*columns, title=title, title_justify="left")
    for row in rows:
        table.add_row(*row)
    console.print(table)


def _pipes(columns: Sequence[str], rows: Iterator[tuple[str, ...]]) -> str:
    lines = [columns, ["---"] * len(columns), *rows]
    return "\n".join(f"| {' | '.join(line)} |" for line in lines)
