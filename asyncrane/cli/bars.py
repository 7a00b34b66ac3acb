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
_NARROW, _WIDE = 70, 100
"""Columns of a terminal below which less is said, and from which more is."""
_HOST = 20
"""Letters of a registry's name that should be left to read, before numbers are said in fewer words."""
_WORDS = 3
"""How many words the numbers of a registry may be said in: all of 3, down to none."""


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

    @property
    def _wide(self) -> bool:
        return self._console.width >= _WIDE

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
        """A line for each registry: what it gives, what it gets, how many requests at once, and whether it waits. Names
        take what the numbers leave, and numbers keep their places while they change.
        """
        busiest = sorted(statistics.registries, key=lambda host: -sum(statistics.registries[host].requests.values()))
        shown = set(busiest[:room])
        rates: dict[str, tuple[str, str]] = {}
        for host, seen in statistics.registries.items():
            down, up = self._speeds.setdefault(host, (Speed(), Speed()))
            rates[host] = f"↓ {rate(down.take(seen.received))}", f"↑ {rate(up.take(seen.sent))}"
        hosts = [host for host in statistics.registries if host in shown]
        longest = max(map(len, hosts), default=0)
        for words in range(_WORDS, -1, -1):
            rows = [_cells(statistics.registries[host], rates[host], words) for host in hosts]
            widths = [max(map(len, column)) for column in zip(*rows, strict=True)]
            gap = 2 if words == _WORDS else 1
            left = self._console.width - sum(widths) - gap * len(widths)
            if left >= min(longest, _HOST):
                break
        table = Table.grid(padding=(0, gap))
        table.add_column(no_wrap=True, overflow="ellipsis", width=max(1, min(longest, left)))
        for width in widths:
            table.add_column(no_wrap=True, overflow="ellipsis", width=width)
        for host, cells in zip(hosts, rows, strict=True):
            table.add_row(host, *cells)
        return table

    def _transfers(self, statistics: asyncrane.Statistics, *, room: int) -> RenderableType:
        width = _BAR if self._wide else _NARROW_BAR
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


def _cells(seen: asyncrane.RegistryView, rates: tuple[str, str], words: int) -> list[Text]:
    """What is said of a registry behind its name: each number as wide as it can become, so that none moves."""
    down, up = (Text(f"{text:>{_RATE}}", "dim") for text in rates)
    waits = f"waits {duration(seen.parked)}" if seen.parked else ""
    if not words:
        return [down, Text(f"{waits:>{_RATE}}", "yellow") if waits else up]
    used = (f"{seen.busy}/{seen.limit}" + (" at once" if words > 1 else "")) if seen.limit else ""
    cells = [down, up, Text(f"{used:>{len('99/99 at once') if words > 1 else len('99/99')}}", "dim")]
    if words == _WORDS:
        cells.append(Text(f"{sum(seen.requests.values()):>7} requests", "dim"))
    repeated = f"{seen.retries} repeated" if seen.retries else ""
    return [*cells, Text("  ".join(filter(None, (repeated, waits))), "yellow")]


def _where(transfer: asyncrane.TransferView) -> str:
    """``team/app``, and where to if it is called otherwise there; the registries are known to who gave the command."""
    source, *places = (name.partition("/")[2] or name for name in (transfer.source, *transfer.destinations))
    if len(places) == 1:
        return source if places[0] == source else f"{source} → {places[0]}"
    return f"{source} → {len(places)} places"
