"""What the counts of a run say: how far it is, how fast it goes, how long it will take."""

from __future__ import annotations

import time
from collections import deque
from collections.abc import Callable
from typing import TypeAlias

import asyncrane
from asyncrane.cli.quantities import plural, size

Clock: TypeAlias = Callable[[], float]
"""Tells the time in seconds."""

_RATE_WINDOW = 10.0
_LARGEST = 8


class Speed:
    """How fast a count has been growing lately."""

    def __init__(self, clock: Clock = time.monotonic, *, count: int = 0) -> None:
        self._clock = clock
        self._samples: deque[tuple[float, int]] = deque([(clock(), count)])

    def take(self, count: int) -> float:
        """Note what it is now; the answer is its growth in a second."""
        now = self._clock()
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
    """Rate and time left, from the last seconds of bytes, of images and of each transfer."""

    def __init__(self, clock: Clock = time.monotonic) -> None:
        self._clock = clock
        self.started = clock()
        self._bytes = Speed(clock)
        self._images = Speed(clock)
        self._transfers: dict[str, Speed] = {}

    def take(self, statistics: asyncrane.Statistics) -> None:
        """Note how far everything is by now."""
        self._bytes.take(statistics.bytes_read)
        self._images.take(statistics.images_done)
        self._transfers = {
            transfer.digest: self._transfers.get(transfer.digest) or Speed(self._clock, count=transfer.done)
            for transfer in statistics.transfers
        }
        for transfer in statistics.transfers:
            self._transfers[transfer.digest].take(transfer.done)

    @property
    def elapsed(self) -> float:
        """Seconds since the beginning."""
        return self._clock() - self.started

    @property
    def rate(self) -> float:
        """Bytes in a second, lately."""
        return self._bytes.rate

    def left(self, statistics: asyncrane.Statistics) -> float | None:
        """Seconds until all is done that is known to be needed; ``None`` when that cannot be said.

        Of a large fleet few images are looked into at a time, so the bytes known say too little; of one image only they
        say anything; and a large blob at the end goes no faster than it does: whatever takes longest is nearest the
        truth.
        """
        missing = (
            (statistics.bytes_total - statistics.bytes_read, self._bytes.rate),
            (statistics.images_total - statistics.images_done, self._images.rate),
            *(
                (transfer.size - transfer.done, self._transfers[transfer.digest].rate)
                for transfer in statistics.transfers
                if transfer.digest in self._transfers
            ),
        )
        return max((count / speed for count, speed in missing if count > 0 and speed > 0), default=None)


def part(statistics: asyncrane.Statistics) -> float | None:
    """How much is done, from 0 to 1: of the bytes, or of the images where no byte has to be read."""
    done, total = statistics.bytes_read, statistics.bytes_total
    if not total:
        done, total = statistics.images_done, statistics.images_total
    return min(1.0, done / total) if total else None


def percent(statistics: asyncrane.Statistics) -> str:
    """How much is done."""
    done = part(statistics)
    return f"{done:4.0%}" if done is not None else "  …"


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


def waits(statistics: asyncrane.Statistics) -> dict[str, float]:
    """The registries that are not asked for a while, because they said so, and for how many seconds."""
    return {host: seen.parked for host, seen in statistics.registries.items() if seen.parked} or statistics.parked


def largest(statistics: asyncrane.Statistics, most: int = _LARGEST) -> list[asyncrane.TransferView]:
    """The largest blobs on their way, in an order that does not change while they are: rows that change places cannot
    be read.
    """
    return sorted(statistics.transfers, key=lambda transfer: (-transfer.size, transfer.digest))[:most]
