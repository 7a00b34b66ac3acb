"""``demo``: see it work."""

from __future__ import annotations

import time
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from typing import TYPE_CHECKING, Annotated

import typer

import asyncrane
from asyncrane.cli.options import ProgressMode
from asyncrane.cli.output import note, notes_as_json
from asyncrane.cli.quantities import duration, plural, size
from asyncrane.cli.run import start

if TYPE_CHECKING:
    from rich.table import Table

_MB = 1_000_000
_SHORT = 12


def demo(
    *,
    megabytes: Annotated[int, typer.Option("--size", metavar="MB", min=1, help="Megabytes of blobs to make.")] = 200,
    mode: Annotated[
        ProgressMode, typer.Option("--progress", metavar="MODE", help="On stderr: auto, bar, log, json or none.")
    ] = ProgressMode.auto,
) -> None:
    """Copy a fleet of synthetic images between two registries started for it, and compare the digests."""

    @asynccontextmanager
    async def watch(title: str, statistics: Callable[[], asyncrane.Statistics]) -> AsyncIterator[None]:
        from asyncrane.cli.progress import progress

        started = time.monotonic()
        async with progress(mode, statistics, title=title):
            yield
        counts, seconds = statistics(), time.monotonic() - started
        note(f"{title}: {plural(counts.images_done, 'image')}, {size(counts.bytes_read)} in {duration(seconds)}")

    async def main() -> None:
        report = await asyncrane.demo(size=megabytes * _MB, watch=watch)
        _show(report)
        if not report.equal:
            raise asyncrane.JobsFailed("some images did not arrive as they were")

    notes_as_json(mode is ProgressMode.json)
    start(main)


def _show(report: asyncrane.DemoReport) -> None:
    from rich.console import Console

    console = Console()
    console.print()
    console.print(_images(report))
    console.print(_moved(report))
    equal = sum(comparison.equal for comparison in report.comparisons)
    console.print(
        f"[bold {'green' if report.equal else 'red'}]{equal} of {len(report.comparisons)} digests are equal[/]"
        f" · copied in {duration(report.seconds)}"
    )


def _images(report: asyncrane.DemoReport) -> Table:
    from rich.table import Table

    table = Table(title="Digests compared", title_justify="left", title_style="bold", header_style="dim")
    table.add_column("image", no_wrap=True)
    table.add_column("original", no_wrap=True, style="cyan")
    table.add_column("copy", no_wrap=True, style="cyan")
    table.add_column("")
    for comparison in report.comparisons:
        verdict = "[green]equal[/]" if comparison.equal else "[bold red]differs[/]"
        table.add_row(
            comparison.image, _short(comparison.original), _short(comparison.copy) or "[red]missing[/]", verdict
        )
    return table


def _short(digest: str) -> str:
    return digest.partition(":")[2][:_SHORT]


def _moved(report: asyncrane.DemoReport) -> Table:
    from rich.table import Table

    counts = report.statistics
    table = Table(title="What was moved", title_justify="left", title_style="bold", show_header=False)
    table.add_column()
    table.add_column(justify="right", style="green")
    table.add_column(style="dim")
    rows = (
        ("read", counts.bytes_read, f"{plural(counts.blobs_copied, 'blob')}, each once"),
        ("written", counts.bytes_written, "each once to the whole registry"),
        (
            "mounted",
            counts.bytes_mounted,
            f"{plural(counts.blobs_mounted, 'blob')} from another repository",
        ),
        ("skipped", counts.bytes_existing, f"{plural(counts.blobs_existing, 'blob')} there already"),
    )
    for what, amount, remark in rows:
        table.add_row(what, size(amount), remark)
    for host, kinds in counts.requests.items():
        table.add_row("requests", str(sum(kinds.values())), f"to {host}")
    return table
