"""Progress on a terminal: an overall bar and, below it, the busiest transfers."""

from __future__ import annotations

from rich.console import Console, Group, RenderableType
from rich.live import Live
from rich.progress_bar import ProgressBar
from rich.table import Table
from rich.text import Text

import asyncrane
from asyncrane.cli.meter import Meter, Speed, amount, blobs, images, percent
from asyncrane.cli.quantities import duration, rate, size

_BUSIEST = 8
_ABOVE = 4
"""Lines of a terminal that are not for transfers."""
_SHORT_DIGEST = 12
_SIZE = len("999.9 MB")
_BAR, _NARROW_BAR = 20, 8
_NARROW = 70
"""Columns of a terminal below which less is said."""


class Bars:
    """An overall bar and, below it, the busiest transfers."""

    period = 0.25

    def __init__(self, title: str = "") -> None:
        self._title = title
        self._meter = Meter()
        self._speeds: dict[str, tuple[Speed, Speed]] = {}
        self._console = Console(stderr=True)
        self._live = Live(
            console=self._console, auto_refresh=False, transient=True, redirect_stdout=False, redirect_stderr=False
        )
        self._live.start()

    def show(self, statistics: asyncrane.Statistics) -> None:
        """Draw."""
        self._meter.take(statistics.bytes_read)
        self._live.update(self._draw(statistics), refresh=True)

    def say(self, text: str) -> None:
        """Print above the bars."""
        self._console.print(text, markup=False, highlight=False, soft_wrap=True)

    def outcome(self, outcome: asyncrane.Outcome) -> None:
        """The counts show it."""

    def end(self, statistics: asyncrane.Statistics) -> None:
        """Take the bars away."""
        self._live.update("", refresh=True)
        self._live.stop()

    def _draw(self, statistics: asyncrane.Statistics) -> RenderableType:
        # the empty line is where the terminal writes ^C: behind a full line that would scroll, and leave one over
        return Group(
            self._counts(statistics),
            self._overall(statistics),
            self._registries(statistics),
            self._transfers(statistics, below=len(statistics.registries)),
            Text(),
        )

    @property
    def _narrow(self) -> bool:
        return self._console.width < _NARROW

    def _counts(self, statistics: asyncrane.Statistics) -> RenderableType:
        counts = f"{images(statistics)} · {blobs(statistics)} · {duration(self._meter.elapsed)}"
        return Text.assemble(
            (self._title, "bold"),
            "  " if self._title else "",
            (counts, "dim"),
            *((f" · {host} waits {duration(wait)}", "yellow") for host, wait in statistics.parked.items()),
            no_wrap=True,
            overflow="ellipsis",
        )

    def _overall(self, statistics: asyncrane.Statistics) -> RenderableType:
        left = self._meter.left(statistics)
        overall = Table.grid(padding=(0, 1), expand=True)
        overall.add_column(ratio=1)
        overall.add_column(justify="right", no_wrap=True)
        overall.add_row(
            ProgressBar(
                total=statistics.bytes_total or None,
                completed=statistics.bytes_read,
                pulse=bool(statistics.transfers) and not statistics.bytes_total,
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

    def _registries(self, statistics: asyncrane.Statistics) -> RenderableType:
        """A line for each registry: what it gets, what it gives, how many requests at once, and whether it waits."""
        table = Table.grid(padding=(0, 2))
        table.add_column(no_wrap=True, overflow="ellipsis")
        for _ in range(4):
            table.add_column(justify="right", no_wrap=True, style="dim")
        table.add_column(no_wrap=True)
        for host, seen in statistics.registries.items():
            down, up = self._speeds.setdefault(host, (Speed(), Speed()))
            table.add_row(
                host,
                f"↓ {rate(down.take(seen.received))}",
                f"↑ {rate(up.take(seen.sent))}",
                f"{seen.busy}/{seen.limit} at once" if seen.limit else "",
                f"{sum(seen.requests.values())} requests",
                Text.assemble(
                    (f"{seen.retries} again  " if seen.retries else "", "yellow"),
                    (f"waits {duration(seen.parked)}" if seen.parked else "", "yellow"),
                ),
            )
        return table

    def _transfers(self, statistics: asyncrane.Statistics, *, below: int) -> RenderableType:
        width = _NARROW_BAR if self._narrow else _BAR
        table = Table.grid(padding=(0, 1), expand=True)
        table.add_column(style="cyan", no_wrap=True, width=_SHORT_DIGEST)
        table.add_column(style="dim", ratio=1, no_wrap=True, overflow="ellipsis")
        table.add_column(width=width)
        table.add_column(justify="right", no_wrap=True, width=_SIZE)
        table.add_column(justify="right", no_wrap=True, width=_SIZE + 3)
        # an order that does not change while they run: rows that change places cannot be read
        busiest = sorted(statistics.transfers, key=lambda transfer: (-transfer.size, transfer.digest))
        for transfer in busiest[: min(_BUSIEST, max(0, self._console.height - _ABOVE - below))]:
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
