"""How much may happen at once at each site: both ends of a transfer get a place, or neither.

A site has *slots* (requests and transfers under way) and a *window* (bytes of blobs under way, so that a few huge
blobs and many small ones are equally far from exhausting a line). The number of slots adapts: as long as answers come
as fast as they did when the site was idle, more is better; when answers take twice as long, they are queueing there and
more would only make the queue longer (TCP Vegas' observation); when the site says "too many", half is enough.
"""

from __future__ import annotations

from collections.abc import Iterable

from asyncrane.abc import Site

FLOOR = 16
CEILING = 192
WINDOW = 256 * 1024 * 1024
HEAVIEST = 32 * 1024 * 1024
"""Bytes one transfer counts for at most: a blob of any size is one stream."""


class Limit:
    """The slots and the window of one site."""

    __slots__ = ("_base", "_seen", "_smooth", "adaptive", "busy", "slots", "weight", "window")

    def __init__(self, *, jobs: int | None = None) -> None:
        self.adaptive = jobs is None
        self.slots = float(jobs or FLOOR)
        self.window = WINDOW if jobs is None else max(jobs, 1) * HEAVIEST
        self.busy = 0
        self.weight = 0
        self._base = 0.0
        self._smooth = 0.0
        self._seen = 0

    def fits(self, weight: int) -> bool:
        """Whether one more command of ``weight`` bytes may start; an idle site always takes one."""
        return self.busy < int(self.slots) and (self.weight + weight <= self.window or self.weight == 0)

    def observe(self, elapsed: float) -> None:
        """Learn from one request that took ``elapsed`` seconds from start to end."""
        if elapsed <= 0:
            return
        self._base = min(self._base * 1.002, elapsed) if self._base else elapsed
        self._smooth += (elapsed - self._smooth) * 0.1 if self._smooth else elapsed
        self._seen += 1
        if self.adaptive and self._seen >= self.slots / 2:
            self._seen = 0
            self._adapt()

    def congested(self) -> None:
        """The site said that it is too much: halve."""
        if self.adaptive:
            self.slots = max(self.slots / 2, FLOOR / 4)
            self._seen = 0

    def _adapt(self) -> None:
        queueing = 1 - self._base / self._smooth
        if queueing < 0.3 and self.busy >= self.slots * 0.75:
            self.slots = min(self.slots * 1.5, CEILING)
        elif queueing < 0.5:
            self.slots = min(self.slots + 1, max(self.slots, FLOOR))
        elif self.slots > FLOOR:
            self.slots = max(self.slots * 0.9, FLOOR)
        else:
            self.slots = min(self.slots + 1, FLOOR)


class Budget:
    """The limits of all sites. ``jobs`` fixes the slots of every site; without it they adapt."""

    def __init__(self, *, jobs: int | None = None) -> None:
        self._jobs = jobs
        self._limits: dict[Site, Limit] = {}

    def limit(self, site: Site) -> Limit:
        """The limit of ``site``."""
        found = self._limits.get(site)
        if found is None:
            found = self._limits[site] = Limit(jobs=self._jobs)
        return found

    def acquire(self, sites: Iterable[Site], weight: int = 0) -> bool:
        """Take a slot and ``weight`` bytes at every site, or nothing at any."""
        weight = min(weight, HEAVIEST)
        limits = [self.limit(site) for site in sites]
        if not all(limit.fits(weight) for limit in limits):
            return False
        for limit in limits:
            limit.busy += 1
            limit.weight += weight
        return True

    def release(self, sites: Iterable[Site], weight: int = 0) -> None:
        """Give back what :meth:`acquire` took."""
        weight = min(weight, HEAVIEST)
        for site in sites:
            limit = self.limit(site)
            limit.busy -= 1
            limit.weight -= weight

    def sites(self) -> dict[Site, Limit]:
        """Every site seen so far and its limit."""
        return dict(self._limits)

    def __repr__(self) -> str:
        shown = ", ".join(f"{site}: {limit.busy}/{int(limit.slots)}" for site, limit in self._limits.items())
        return f"Budget({shown})"
