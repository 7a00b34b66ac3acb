"""Progress on a terminal: an overall bar and, below it, the busiest transfers."""

from __future__ import annotations

from rich.console import Console, Group, RenderableType
from rich.live import Live
from rich.progress_bar import ProgressBar
from rich.table import Table
from rich.text import Text

import asyncrane
from asyncrane.cli.progress import Meter, amount, blobs, images, percent
from asyncrane.cli.quantities import duration, rate, size

_BUSIEST = 8
_ABOVE = 3
"""Lines of a terminal that are not for transfers."""
_SHORT_DIGEST = 19


class Bars:
    """An overall bar and, below it, the busiest transfers."""

    period = 0.25

    def __init__(self, title: str = "") -> None:
        self._title = title
        self._meter = Meter()
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

    def end(self, statistics: asyncrane.Statistics) -> None:
        """Take the bars away."""
        self._live.update("", refresh=True)
        self._live.stop()

    def _draw(self, statistics: asyncrane.Statistics) -> RenderableType:
        left = self._meter.left(statistics)
        busy = bool(statistics.transfers) and not statistics.bytes_total
        overall = Table.grid(padding=(0, 1), expand=True)
        overall.add_column(ratio=1, min_width=10)
        overall.add_column(justify="right", no_wrap=True)
        overall.add_row(
            ProgressBar(
                total=statistics.bytes_total or None,
                completed=statistics.bytes_read,
                pulse=busy,
                complete_style="green",
            ),
            Text.assemble(
                (percent(statistics), "bold"),
                f"  {amount(statistics)}  ",
                (rate(self._meter.rate), "green"),
                f"  {duration(left)} left" if left is not None else "",
            ),
        )
        counts = Text.assemble(
            (self._title, "bold"),
            "  " if self._title else "",
            (f"{images(statistics)} · {blobs(statistics)} · {duration(self._meter.elapsed)}", "dim"),
            *((f" · {host} waits {duration(wait)}", "yellow") for host, wait in statistics.parked.items()),
        )
        return Group(counts, overall, self._transfers(statistics))

    def _transfers(self, statistics: asyncrane.Statistics) -> RenderableType:
        table = Table.grid(padding=(0, 1), expand=True)
        table.add_column(style="cyan", no_wrap=True)
        table.add_column(style="dim", ratio=1, no_wrap=True, overflow="ellipsis")
        table.add_column(width=20)
        table.add_column(justify="right", no_wrap=True, width=21)
        busiest = sorted(statistics.transfers, key=lambda t: t.size - t.done, reverse=True)
        for transfer in busiest[: min(_BUSIEST, max(0, self._console.height - _ABOVE))]:
            where = (
                transfer.destinations[0] if len(transfer.destinations) == 1 else f"{len(transfer.destinations)} places"
            )
            table.add_row(
                transfer.digest[:_SHORT_DIGEST],
                f"{transfer.source} → {where}",
                ProgressBar(
                    total=transfer.size if transfer.size > 0 else None,
                    completed=transfer.done,
                    width=20,
                    complete_style="cyan",
                ),
                f"{size(transfer.done)} / {size(transfer.size)}" if transfer.size >= 0 else size(transfer.done),
            )
        return table
