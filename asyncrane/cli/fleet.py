"""How plans and reports of runs look on a terminal."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from pathlib import Path

from rich import box
from rich.console import Console
from rich.table import Table
from rich.text import Text

import asyncrane
from asyncrane.cli.bars import plain_console
from asyncrane.cli.quantities import duration, plural, rate, size

_SHOWN = 12
"""Lines of one kind that are shown; the rest is counted."""

_ACTIONS = ("new", "changed", "attach", "equal", "skip", "conflict", "unreadable")
_ALWAYS = frozenset({"new", "changed", "equal", "conflict"})
"""What a plan says even where it is none."""
_STATUSES = ("copied", "tagged", "equal", "skipped", "conflict", "failed", "cancelled")
_NARROWEST = 80
"""Columns that the tables need; a narrower terminal wraps their lines, and loses none of the numbers."""
_STYLES = {"conflict": "bold red", "unreadable": "bold red", "failed": "bold red", "new": "green", "copied": "green"}


def show_plan(plan: asyncrane.MirrorPlan, file: Path | None) -> None:
    """Write the plan to stdout."""
    console = plain_console()
    console.width = max(console.width, _NARROWEST)
    for table in (_requests(plan), _images(plan), _bytes(plan)):  # what matters most is still there on a small terminal
        console.print(table, crop=False)
        console.print()
    _list(console, "cannot be read", [f"{p.repository}: {p.failure.message}" for p in plan.unreadable])
    _list(console, "to note", plan.notes)
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
        if not plan.troubled:
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
    _list(console, "to note", report.notes)
    _list(console, "not deleted", [f"{d.destination}: {d.failure.message}" for d in report.deleted if d.failure])
    if report.failures:
        console.print(f"{plural(len(report.failures), 'failure')}: {failures}", soft_wrap=True, highlight=False)
    if report.left:
        console.print(f"{plural(report.left, 'image')} left: {resume}", soft_wrap=True, highlight=False)


def _images(plan: asyncrane.MirrorPlan) -> Table:
    counts = plan.counts()
    shown = [action for action in _ACTIONS if action in _ALWAYS or any(c.get(action) for c in counts.values())]
    rows = [(registry, *(str(found.get(action, 0)) for action in shown)) for registry, found in counts.items()]
    return _table("Images", ("destination",), shown, rows)


def _bytes(plan: asyncrane.MirrorPlan) -> Table:
    rows = [
        (
            registry,
            str(cost.blobs),
            size(cost.bytes_read),
            size(cost.bytes_written),
            size(cost.bytes_mounted),
            size(cost.bytes_existing),
        )
        for registry, cost in plan.registries.items()
    ]
    return _table("Bytes", ("registry",), ("unique blobs", "read", "write", "mount", "there"), rows)


def _requests(plan: asyncrane.MirrorPlan) -> Table:
    rows: list[tuple[str, ...]] = []
    for registry, cost in plan.registries.items():
        rows.append((registry, "all", str(sum(cost.requests.values()))))
        rows += [("", kind, str(count)) for kind, count in cost.requests.items()]
    return _table("Requests", ("registry", "kind"), ("requests",), rows)


def _table(title: str, names: Sequence[str], numbers: Sequence[str], rows: Sequence[tuple[str, ...]]) -> Table:
    """Columns of names, then columns of numbers. On a narrow terminal names take several lines, numbers never do."""
    table = Table(
        title=title,
        title_justify="left",
        title_style="bold",
        header_style="dim",
        box=box.SIMPLE_HEAD,
        show_edge=False,
        pad_edge=False,
        collapse_padding=True,
    )
    for name in names:
        table.add_column(name, overflow="fold")
    for place, number in enumerate(numbers, start=len(names)):
        widest = max(map(len, (number, *(row[place] for row in rows))))
        table.add_column(number, justify="right", no_wrap=True, min_width=widest, style=_STYLES.get(number, ""))
    for row in rows:
        table.add_row(*row)
    return table


def _counted(counts: dict[str, int] | Counter[str], order: tuple[str, ...]) -> Text:
    parts = [(f"{counts[name]} {name}", _STYLES.get(name, "")) for name in order if counts.get(name)]
    joined: list[str | tuple[str, str]] = []
    for part in parts:
        joined += [part, ", "]
    return Text.assemble(*joined[:-1]) if joined else Text("none")


def _list(console: Console, title: str, lines: Sequence[str]) -> None:
    for line in lines[:_SHOWN]:
        console.print(Text.assemble((f"{title}: ", "yellow"), line), soft_wrap=True)
    if len(lines) > _SHOWN:
        console.print(f"… and {len(lines) - _SHOWN} more", style="dim")
