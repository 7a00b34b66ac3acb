"""Progress on stderr: counts are polled, never pushed, so that showing them can neither slow nor break the copying.

On a terminal an overall bar and the busiest transfers; else a line every few seconds; or JSON lines.
"""

from __future__ import annotations

import os
import sys
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from typing import Protocol

import anyio
import msgspec

import asyncrane
from asyncrane.cli.meter import Meter, amount, blobs, images, largest, waits
from asyncrane.cli.options import ProgressMode
from asyncrane.cli.output import event, note
from asyncrane.cli.quantities import duration, plural, rate, size


class Display(Protocol):
    """One way to show counts. ``period`` is the seconds between two looks; at most four looks a second."""

    period: float

    def show(self, statistics: asyncrane.Statistics) -> None:
        """Show how things stand."""
        ...

    def say(self, text: str) -> None:
        """A line that stays."""
        ...

    def outcome(self, outcome: asyncrane.Outcome) -> None:
        """An image has ended."""
        ...

    def end(self, statistics: asyncrane.Statistics) -> None:
        """Leave the terminal as it was."""
        ...


class Silent:
    """Nothing but what has to be said."""

    period = 3600.0

    def show(self, statistics: asyncrane.Statistics) -> None:
        """Show nothing."""

    def say(self, text: str) -> None:
        """Say it."""
        note(text)

    def outcome(self, outcome: asyncrane.Outcome) -> None:
        """The counts show it."""

    def end(self, statistics: asyncrane.Statistics) -> None:
        """Nothing was changed."""


class Log(Silent):
    """A line every few seconds, and after some minutes less often: logs are read from the top."""

    period = 5.0
    _slow, _patience = 30.0, 120.0

    def __init__(self) -> None:
        self._meter = Meter()

    def show(self, statistics: asyncrane.Statistics) -> None:
        """Write the line."""
        self._meter.take(statistics)
        if self._meter.elapsed > self._patience:
            self.period = self._slow
        left = self._meter.left(statistics)
        note(
            f"{duration(self._meter.elapsed)}: {images(statistics)}, {blobs(statistics)}, {amount(statistics)}, "
            + rate(self._meter.rate)
            + (f", {duration(left)} left" if left is not None else "")
            + "".join(f", {host} waits {duration(wait)}" for host, wait in waits(statistics).items())
        )


class JsonLines(Silent):
    """JSON objects, one on each line: ``progress`` every second, ``image`` as each image ends, ``message`` for what
    else there is to say, and ``end`` at the end.
    """

    period = 1.0

    def __init__(self) -> None:
        self._meter = Meter()

    def show(self, statistics: asyncrane.Statistics) -> None:
        """Write the object."""
        self._write("progress", statistics)

    def say(self, text: str) -> None:
        """Write it as an object too: every line is one."""
        event("message", message=text)

    def outcome(self, outcome: asyncrane.Outcome) -> None:
        """Write it as an object."""
        event("image", **msgspec.to_builtins(outcome))

    def end(self, statistics: asyncrane.Statistics) -> None:
        """Write the last counts."""
        self._write("end", statistics)

    def _write(self, name: str, statistics: asyncrane.Statistics) -> None:
        self._meter.take(statistics)
        left = self._meter.left(statistics)
        counts = {
            count: getattr(statistics, count)
            for count in statistics.__struct_fields__
            if count.startswith(("images_", "blobs_", "bytes_"))
        }
        event(
            name,
            elapsed=round(self._meter.elapsed, 3),
            left=round(left, 1) if left is not None else None,
            rate=round(self._meter.rate),
            **counts,
            registries=msgspec.to_builtins(statistics.registries),
            transfers=msgspec.to_builtins(largest(statistics)),
        )


@asynccontextmanager
async def progress(
    mode: ProgressMode, statistics: Callable[[], asyncrane.Statistics], *, title: str = ""
) -> AsyncIterator[Display]:
    """Show ``statistics`` while the block runs."""
    display = _display(mode, title)
    try:
        async with anyio.create_task_group() as tasks:
            tasks.start_soon(_poll, display, statistics)
            yield display
            tasks.cancel_scope.cancel()
    finally:
        display.end(statistics())


def summary(statistics: asyncrane.Statistics, seconds: float) -> str:
    """What it took, in one line."""
    requests = sum(sum(kinds.values()) for kinds in statistics.requests.values())
    speed = f" at {rate(statistics.bytes_read / seconds)}" if seconds > 0 and statistics.bytes_read else ""
    parts = [
        f"read {size(statistics.bytes_read)}{speed}" if statistics.bytes_read else "",
        f"wrote {size(statistics.bytes_written)}" if statistics.bytes_written else "",
        f"mounted {size(statistics.bytes_mounted)}" if statistics.bytes_mounted else "",
        f"{size(statistics.bytes_existing)} there already" if statistics.bytes_existing else "",
    ]
    moved = ", ".join(part for part in parts if part) or "nothing to move"
    failed = f" ({statistics.images_failed} failed)" if statistics.images_failed else ""
    return (
        f"{plural(statistics.images_done, 'image')}{failed} in {duration(seconds)}: "
        f"{moved}; {plural(requests, 'request')}"
    )


def is_terminal() -> bool:
    """Whether stderr is one that can draw."""
    return sys.stderr.isatty() and os.environ.get("TERM", "") not in ("", "dumb")


async def _poll(display: Display, statistics: Callable[[], asyncrane.Statistics]) -> None:
    while True:
        await anyio.sleep(display.period)
        display.show(statistics())


def _display(mode: ProgressMode, title: str) -> Display:
    if mode is ProgressMode.auto:
        mode = ProgressMode.bar if is_terminal() else ProgressMode.log
    if mode is ProgressMode.bar:
        from asyncrane.cli.bars import Bars

        return Bars(title)
    kinds = {ProgressMode.log: Log, ProgressMode.json: JsonLines}
    return kinds.get(mode, Silent)()
