"""How plans and reports of runs look on a terminal."""

from __future__ import annotations

from collections import Counter
from pathlib import Path

from rich.console import Console
from rich.table import Table
from rich.text import Text

import asyncrane
from asyncrane.cli.bars import plain_console
from asyncrane.cli.quantities import duration, plural, rate, size

_SHOWN = 12
"""Lines of one kind that are shown; the rest is counted."""

_ACTIONS = ("new", "changed", "attach", "equal", "skip", "conflict", "unreadable")
_STATUSES = ("copied", "tagged", "equal", "skipped", "conflict", "failed", "cancelled")
_STYLES = {"conflict": "bold red", "unreadable": "bold red", "failed": "bold red", "new": "green", "copied": "green"}


def show_plan(plan: asyncrane.MirrorPlan, file: Path | None) -> None:
    """Write the plan to stdout."""
    console = plain_console()
    console.print(_images(plan))
    console.print(_bytes(plan))
    _list(console, "cannot be read", [f"{p.repository}: {p.failure.message}" for p in plan.unreadable])
    for action in ("conflict", "unreadable"):
        lines = [
            f"{image.source} -> {target.destination}: {target.why}"
            for image in plan.images
            for target in image.targets
            if target.action == action
        ]
        _list(console, action, lines)
    _list(console, "will be deleted", [str(d) for d in plan.deletions if not d.refused])
    _list(console, "not pruned", list(dict.fromkeys(d.refused for d in plan.deletions if d.refused)))
    if plan.empty:
        console.print("Nothing to do.", style="bold green")
        return
    at = f" at {rate(plan.rate)}" if plan.rate else ""
    amount = f"{size(plan.bytes_read)} to read, {size(plan.bytes_written)} to write"
    console.print(Text.assemble((amount, "bold"), f" · about {duration(plan.seconds)}{at}"))
    if file is not None:
        console.print(f"'asyncrane mirror apply {file}' does exactly this.", style="dim", soft_wrap=True)


def show_report(report: asyncrane.MirrorReport, failures: Path, resume: str) -> None:
    """Write what a run did to stderr."""
    console = plain_console(stderr=True)
    counts = report.statistics
    table = Table.grid(padding=(0, 2))
    table.add_column(style="dim")
    table.add_column()
    table.add_row("images", _counted(report.images, _STATUSES))
    moved = [
        ("read", counts.bytes_read),
        ("written", counts.bytes_written),
        ("mounted", counts.bytes_mounted),
        ("there already", counts.bytes_existing),
    ]
    table.add_row("bytes", ", ".join(f"{size(count)} {what}" for what, count in moved if count) or "none moved")
    if counts.referrers_written:
        table.add_row("attached", plural(counts.referrers_written, "referrer"))
    for host, kinds in counts.requests.items():
        table.add_row("requests", f"{sum(kinds.values())} to {host}")
    if report.deleted:
        gone = Counter("left" if deleted.failure else "deleted" for deleted in report.deleted)
        table.add_row("pruned", _counted(gone, ("deleted", "left")))
    headline = (f"run {report.run}: {report.status}", "bold")
    console.print(Text.assemble(headline, f" in {duration(report.seconds)}"), highlight=False)
    console.print(table, highlight=False)
    _list(console, "cannot be read", [f"{p.repository}: {p.failure.message}" for p in report.unreadable])
    _list(console, "not deleted", [f"{d.destination}: {d.failure.message}" for d in report.deleted if d.failure])
    if report.failures:
        console.print(f"{plural(len(report.failures), 'failure')}: {failures}", soft_wrap=True, highlight=False)
    if report.left:
        console.print(f"{plural(report.left, 'image')} left: {resume}", soft_wrap=True, highlight=False)


def _images(plan: asyncrane.MirrorPlan) -> Table:
    counts = plan.counts()
    columns = [action for action in _ACTIONS if any(c.get(action) for c in counts.values())]
    table = Table(title="Images", title_justify="left", title_style="bold", header_style="dim")
    table.add_column("destination", no_wrap=True)
    for action in columns:
        table.add_column(action, justify="right", style=_STYLES.get(action, ""))
    for registry, found in counts.items():
        table.add_row(registry, *(str(found.get(action, 0)) for action in columns))
    return table


def _bytes(plan: asyncrane.MirrorPlan) -> Table:
    table = Table(title="Registries", title_justify="left", title_style="bold", header_style="dim")
    table.add_column("registry", no_wrap=True)
    for name in ("read", "write", "blobs", "mount", "there", "requests"):
        table.add_column(name, justify="right")
    table.add_column("of these", style="dim", overflow="fold")
    for registry, cost in plan.registries.items():
        table.add_row(
            registry,
            size(cost.bytes_read),
            size(cost.bytes_written),
            str(cost.blobs),
            size(cost.bytes_mounted),
            size(cost.bytes_existing),
            str(sum(cost.requests.values())),
            ", ".join(f"{count} {kind}" for kind, count in cost.requests.items()),
        )
    return table


def _counted(counts: dict[str, int] | Counter[str], order: tuple[str, ...]) -> Text:
    parts = [(f"{counts[name]} {name}", _STYLES.get(name, "")) for name in order if counts.get(name)]
    joined: list[str | tuple[str, str]] = []
    for part in parts:
        joined += [part, ", "]
    return Text.assemble(*joined[:-1]) if joined else Text("none")


def _list(console: Console, title: str, lines: list[str]) -> None:
    for line in lines[:_SHOWN]:
        console.print(Text.assemble((f"{title}: ", "yellow"), line), soft_wrap=True)
    if len(lines) > _SHOWN:
        console.print(f"… and {len(lines) - _SHOWN} more", style="dim")
