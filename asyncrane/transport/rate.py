"""Bytes a second: a bucket that says when so many bytes may pass (GCRA, "virtual scheduling" in ATM Forum TM 4.1), and
the pace of a stream that has to please several buckets.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Iterable

import anyio

BURST = 0.05
"""Seconds of unused time that may be made up for. Without it a loop that wakes up late never reaches the rate."""


class Bucket:
    """``rate`` bytes a second, in the order in which they are asked for. It has no clock: times are the caller's.

    What passes in any ``t`` seconds is at most ``rate * (t + BURST)`` bytes, in pieces of whatever size: a piece larger
    than the burst waits for as long as it takes.
    """

    __slots__ = ("_free", "rate")

    def __init__(self, rate: float) -> None:
        if rate <= 0:
            raise ValueError(f"a rate is more than nothing: {rate}")
        self.rate = rate
        self._free: float | None = None

    def reserve(self, size: int, now: float) -> float:
        """The time at which ``size`` more bytes may have passed; they count from now on."""
        free = now if self._free is None else max(self._free, now - BURST)
        self._free = free + size / self.rate
        return self._free

    def give_back(self, size: int) -> None:
        """The last word on ``size`` bytes is that they do not pass: whoever asks from now on comes the sooner."""
        if self._free is not None:
            self._free -= size / self.rate

    def __repr__(self) -> str:
        return f"Bucket({self.rate:g} bytes/s)"


class Pace:
    """What the bytes of one direction to or from one registry have to keep to: every bucket, one sleep."""

    __slots__ = ("_buckets", "_clock")

    def __init__(self, buckets: Iterable[Bucket], *, clock: Callable[[], float] | None = None) -> None:
        self._buckets = tuple(buckets)
        self._clock = clock or asyncio.get_running_loop().time

    async def take(self, size: int) -> None:
        """Return when ``size`` bytes may pass. Cancelled while it waits, they are given back."""
        now = self._clock()
        # of all at once: waiting for one and then asking the next would leave the first one's time unused
        wait = max(bucket.reserve(size, now) for bucket in self._buckets) - now
        if wait <= 0:
            return
        try:
            await anyio.sleep(wait)
        except BaseException:
            for bucket in self._buckets:
                bucket.give_back(size)
            raise

    def __repr__(self) -> str:
        return f"Pace({', '.join(map(repr, self._buckets))})"


def pace(*rates: Bucket | None) -> Pace | None:
    """The pace of the buckets that there are; ``None`` where nothing is limited."""
    buckets = [bucket for bucket in rates if bucket is not None]
    return Pace(buckets) if buckets else None
