"""Progress on a terminal: an overall bar and, below it, the registries and the largest transfers."""

from __future__ import annotations

from rich.console import Console, Group, RenderableType
from rich.live import Live
from rich.progress_bar import ProgressBar
from rich.table import Table
from rich.text import Text

import asyncrane
from asyncrane.cli.meter import Meter, Speed, amount, blobs, images, largest, part, percent
from asyncrane.cli.quantities import duration, rate, size

_REGISTRIES = 6
_ABOVE = 4
"""Lines of a terminal that are for neither registries nor transfers."""
_SHORT_DIGEST = 12
_SIZE = len("999.9 MB")
_RATE = len("↓ 999.9 MB/s")
_BAR, _NARROW_BAR = 20, 8
_NARROW = 70
"""Columns of a terminal below which less is said."""


def plain_console(*, stderr: bool = False) -> Console:
    """A terminal that takes text for nothing but text: ``[fe80::1]:5000`` is a registry, and no style."""
    return Console(stderr=stderr, markup=False, emoji=False)


class Bars:
    """An overall bar and, below it, a line for each registry and the largest transfers."""

    period = 0.25

    def __init__(self, title: str = "") -> None:
        self._title = title
        self._meter = Meter()
        self._speeds: dict[str, tuple[Speed, Speed]] = {}
        self._console = plain_console(stderr=True)
        self._live = Live(
            console=self._console, auto_refresh=False, transient=True, redirect_stdout=False, redirect_stderr=False
        )
        self._live.start()

    def show(self, statistics: asyncrane.Statistics) -> None:
        """Draw."""
        self._meter.take(statistics)
        self._live.update(self._draw(statistics), refresh=True)

    def say(self, text: str) -> None:
        """Print above the bars."""
        self._console.print(text, highlight=False, soft_wrap=True)

    def outcome(self, outcome: asyncrane.Outcome) -> None:
        """The counts show it."""

    def end(self, statistics: asyncrane.Statistics) -> None:
        """Take the bars away."""
        self._live.update("", refresh=True)
        self._live.stop()

    def _draw(self, statistics: asyncrane.Statistics) -> RenderableType:
        room = max(0, self._console.height - _ABOVE)
        registries = self._registries(statistics, room=min(_REGISTRIES, room // 2))
        # the empty line is where the terminal writes ^C: behind a full line that would scroll, and leave one over
        return Group(
            self._counts(statistics),
            self._overall(statistics),
            registries,
            self._transfers(statistics, room=room - registries.row_count),
            Text(),
        )

    @property
    def _narrow(self) -> bool:
        return self._console.width < _NARROW

    def _counts(self, statistics: asyncrane.Statistics) -> RenderableType:
        counts = f"{images(statistics)} · {blobs(statistics)} · {duration(self._meter.elapsed)}"
        parked = () if statistics.registries else statistics.parked.items()
        return Text.assemble(
            (self._title, "bold"),
            "  " if self._title else "",
            (counts, "dim"),
            *((f" · {host} waits {duration(wait)}", "yellow") for host, wait in parked),
            no_wrap=True,
            overflow="ellipsis",
        )

    def _overall(self, statistics: asyncrane.Statistics) -> RenderableType:
        left, done = self._meter.left(statistics), part(statistics)
        overall = Table.grid(padding=(0, 1), expand=True)
        overall.add_column(ratio=1)
        overall.add_column(justify="right", no_wrap=True)
        overall.add_row(
            ProgressBar(
                total=1.0 if done is not None else None,
                completed=done or 0.0,
                pulse=bool(statistics.transfers) and done is None,
                complete_style="green",
            ),
            Text.assemble(
                (percent(statistics), "bold"),
                "" if self._narrow else f"  {amount(statistics)}",
                (f"  {rate(self._meter.rate)}", "green"),
                f"  {duration(left)} left" if left is not None else "",
            ),
        )
        return overall

    def _registries(self, statistics: asyncrane.Statistics, *, room: int) -> Table:
        """A line for each registry: what it gives, what it gets, how many requests at once, and whether it waits."""
        table = Table.grid(padding=(0, 1 if self._narrow else 2), expand=self._narrow)
        table.add_column(no_wrap=True, overflow="ellipsis", ratio=1 if self._narrow else None)
        for _ in range(2 if self._narrow else 4):
            table.add_column(justify="right", no_wrap=True, style="dim", width=_RATE if self._narrow else None)
        table.add_column(no_wrap=True, overflow="ellipsis")
        busiest = sorted(statistics.registries, key=lambda host: -sum(statistics.registries[host].requests.values()))
        shown = set(busiest[:room])
        for host, seen in statistics.registries.items():
            down, up = self._speeds.setdefault(host, (Speed(), Speed()))
            rates = (f"↓ {rate(down.take(seen.received))}", f"↑ {rate(up.take(seen.sent))}")
            if host not in shown:
                continue
            waits = (f"waits {duration(seen.parked)}" if seen.parked else "", "yellow")
            if self._narrow:
                table.add_row(host, *rates, Text.assemble(waits))
                continue
            table.add_row(
                host,
                *rates,
                f"{seen.busy}/{seen.limit} at once" if seen.limit else "",
                f"{sum(seen.requests.values())} requests",
                Text.assemble((f"{seen.retries} repeated  " if seen.retries else "", "yellow"), waits),
            )
        return table

    def _transfers(self, statistics: asyncrane.Statistics, *, room: int) -> RenderableType:
        width = _NARROW_BAR if self._narrow else _BAR
        table = Table.grid(padding=(0, 1), expand=True)
        table.add_column(style="cyan", no_wrap=True, width=_SHORT_DIGEST)
        table.add_column(style="dim", ratio=1, no_wrap=True, overflow="ellipsis")
        table.add_column(width=width)
        table.add_column(justify="right", no_wrap=True, width=_SIZE)
        table.add_column(justify="right", no_wrap=True, width=_SIZE + 3)
        for transfer in largest(statistics)[: max(0, room)]:
            table.add_row(
                transfer.digest.partition(":")[2][:_SHORT_DIGEST],
                _where(transfer),
                ProgressBar(
                    total=transfer.size if transfer.size > 0 else None,
                    completed=transfer.done,
                    width=width,
                    complete_style="cyan",
                ),
                size(transfer.done),
                f"of {size(transfer.size)}" if transfer.size >= 0 else "",
            )
        return table


def _where(transfer: asyncrane.TransferView) -> str:
    """``team/app``, and where to if it is called otherwise there; the registries are known to who gave the command."""
    source, *places = (name.partition("/")[2] or name for name in (transfer.source, *transfer.destinations))
    if len(places) == 1:
        return source if places[0] == source else f"{source} → {places[0]}"
    return f"{source} → {len(places)} places"
