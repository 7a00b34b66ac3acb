"""When one registry may be asked again: everything waits while it is parked (B1, B2)."""

from __future__ import annotations

import asyncio
import math
import random
from collections.abc import Callable

import anyio

from asyncrane.errors import RateLimited
from asyncrane.transport.statistics import Counters

_SAME_TROUBLE = 1.0
"""Seconds."""


class Gate:
    """Shut while a registry asked to be left alone. Times are the event loop's, in seconds."""

    __slots__ = ("_counters", "_held", "_slowed", "on_throttle", "quota_until", "until")

    def __init__(self, counters: Counters) -> None:
        self.until = 0.0
        self.quota_until = 0.0
        self.on_throttle: Callable[[float], None] | None = None
        self._counters = counters
        self._slowed = -math.inf
        self._held = 0

    def park(self, seconds: float) -> None:
        """Leave the registry alone for so long; a longer wait in force stays."""
        now = asyncio.get_running_loop().time()
        longer = now + seconds - max(self.until, now)
        if longer <= 0.0:
            return
        self._counters.throttled += longer
        self.until = now + seconds
        # many requests in flight are told the same within moments: that is one wait
        if self.on_throttle is not None and longer > 0.1 * seconds:
            self._slowed = now
            self.on_throttle(seconds)

    def slow_down(self) -> None:
        """The registry has too much to do, and did not say until when: others are to ask it for less. Many requests in
        flight meet the same trouble, which is told once.
        """
        now = asyncio.get_running_loop().time()
        if self.on_throttle is not None and now - self._slowed >= _SAME_TROUBLE:
            self._slowed = now
            self.on_throttle(0.0)

    def is_shut(self, *, counted: bool) -> bool:
        """Whether a request has to :meth:`wait`."""
        until = max(self.until, self.quota_until) if counted else self.until
        return until > 0.0 and until > asyncio.get_running_loop().time()

    def hold_quota(self, seconds: float) -> None:
        """The quota is used up: hold back what counts against it (manifests that are fetched), nothing else."""
        self.quota_until = max(self.quota_until, asyncio.get_running_loop().time() + seconds)

    def pause(self, now: float) -> float:
        """Seconds until it opens: for everybody, or for what counts against a quota, where any such waits."""
        return max(0.0, self.until - now, self.quota_until - now if self._held else 0.0)

    async def wait(self, *, counted: bool, deadline: float, what: Callable[[], str]) -> None:
        """Wait until a request may go out; ``counted`` when it would count against a quota, ``what`` names it.

        :raises RateLimited: when that is after ``deadline``
        """
        loop = asyncio.get_running_loop()
        while True:
            now = loop.time()
            until = max(self.until, self.quota_until) if counted else self.until
            if until <= now:
                return
            if until > deadline:
                raise RateLimited(f"{what()}: rate limited for {until - now:.0f} s more", retry_after=until - now)
            # never early, and not all at once
            spread = random.random() * min(1.0, 0.1 * (until - now))  # noqa: S311  jitter, not a secret
            if counted and self.quota_until > self.until:
                await self._wait_for_quota(until - now, spread)
            else:
                await anyio.sleep(until - now + spread)

    async def _wait_for_quota(self, seconds: float, spread: float) -> None:
        """However many wait, it is told once."""
        if not self._held and self.on_throttle is not None:
            self.on_throttle(seconds)
        self._held += 1
        try:
            await anyio.sleep(seconds + spread)
        finally:
            self._held -= 1
