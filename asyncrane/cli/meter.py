"""What the counts of a run say: how far it is, how fast it goes, how long it will take."""

from __future__ import annotations

import time
from collections import deque

import asyncrane
from asyncrane.cli.quantities import plural, size

_RATE_WINDOW = 10.0


class Speed:
    """How fast a count has been growing lately."""

    def __init__(self) -> None:
        self._samples: deque[tuple[float, int]] = deque([(time.monotonic(), 0)])

    def take(self, count: int) -> float:
        """Note what it is now; the answer is its growth in a second."""
        now = time.monotonic()
        self._samples.append((now, count))
        while len(self._samples) > 2 and now - self._samples[0][0] > _RATE_WINDOW:
            self._samples.popleft()
        return self.rate

    @property
    def rate(self) -> float:
        """Its growth in a second, lately."""
        (then, before), (now, after) = self._samples[0], self._samples[-1]
        return (after - before) / (now - then) if now - then > 0.05 else 0.0


class Meter:
    """Rate and time left from the last seconds of bytes read."""

    def __init__(self) -> None:
        self.started = time.monotonic()
        self._speed = Speed()

    def take(self, count: int) -> None:
        """Note that ``count`` bytes have been read by now."""
        self._speed.take(count)

    @property
    def elapsed(self) -> float:
        """Seconds since the beginning."""
        return time.monotonic() - self.started

    @property
    def rate(self) -> float:
        """Bytes in a second, lately."""
        return self._speed.rate

    def left(self, statistics: asyncrane.Statistics) -> float | None:
        """Seconds until all is read that is known to be needed; ``None`` when that cannot be said."""
        missing = statistics.bytes_total - statistics.bytes_read
        return missing / self.rate if self.rate > 0 and missing > 0 else None


def percent(statistics: asyncrane.Statistics) -> str:
    """How much of what is known to be needed has been read."""
    return f"{statistics.bytes_read / statistics.bytes_total:4.0%}" if statistics.bytes_total else "  …"


def images(statistics: asyncrane.Statistics) -> str:
    """Images done and known."""
    failed = f" ({statistics.images_failed} failed)" if statistics.images_failed else ""
    return f"{statistics.images_done}/{plural(statistics.images_total, 'image')}{failed}"


def blobs(statistics: asyncrane.Statistics) -> str:
    """Blobs done and known."""
    return f"{statistics.blobs_done}/{plural(statistics.blobs_total, 'blob')}"


def amount(statistics: asyncrane.Statistics) -> str:
    """Bytes read and to read."""
    return f"{size(statistics.bytes_read)} of {size(statistics.bytes_total)}"
