"""How much may happen at once at each site: both ends of a transfer get a place, or neither.

A site has *slots* (requests and transfers under way) and a *window* (bytes of blobs under way, so that a few huge
blobs and many small ones are equally far from exhausting a line). The number of slots adapts: as long as the quicker
answers come nearly as fast as the fastest ever did, more is better; when even they take much longer, requests are
queueing there and more would only make the queue longer (TCP Vegas' observation); when the site says "too many", half
is enough. Answers are compared with others to the same kind of command only, and slow ones say nothing: they may have
had to connect first.
"""

from __future__ import annotations

from collections.abc import Iterable

from asyncrane.abc import Site

FLOOR = 32
"""Slots to begin with. Fewer cost everybody more: half of them raised the CPU time of client and registries by 15 %."""

CEILING = 192
WINDOW = 160 * 1024 * 1024
"""Bytes under way at a site: five large streams fill a line, and each costs a few MiB of memory over TLS."""

HEAVIEST = 32 * 1024 * 1024
"""Bytes one transfer counts for at most: a blob of any size is one stream."""


_RISING, _FULL = 1.6, 3.0
"""Times the fastest answer: up to the first a site has room, from the second on a queue."""

_AGEING = 1.002
"""What the fastest answer grows by with each look, so that a line that became slower is noticed in the end."""


class Limit:
    """The slots and the window of one site."""

    __slots__ = ("_fastest", "_ratios", "adaptive", "busy", "slots", "weight", "window")

    def __init__(self, *, jobs: int | None = None) -> None:
        self.adaptive = jobs is None
        self.slots = float(jobs or FLOOR)
        self.window = WINDOW if jobs is None else max(jobs, 1) * HEAVIEST
        self.busy = 0
        self.weight = 0
        self._fastest: dict[str, float] = {}
        self._ratios: list[float] = []

    def fits(self, weight: int) -> bool:
        """Whether one more command of ``weight`` bytes may start; an idle site always takes one."""
        return self.busy < int(self.slots) and (self.weight + weight <= self.window or self.weight == 0)

    def observe(self, kind: str, elapsed: float) -> None:
        """Learn from one command of ``kind`` that took ``elapsed`` seconds."""
        if not self.adaptive or elapsed <= 0:
            return
        fastest = self._fastest.get(kind, elapsed)
        if elapsed <= fastest:
            self._fastest[kind] = fastest = elapsed
        self._ratios.append(elapsed / fastest)
        if len(self._ratios) >= self.slots / 2:
            self._adapt()

    def congested(self) -> None:
        """The site said that it is too much: halve."""
        if self.adaptive:
            self.slots = max(self.slots / 2, FLOOR / 4)
            self._ratios.clear()

    def _adapt(self) -> None:
        quick = sorted(self._ratios)[len(self._ratios) // 4]
        self._ratios.clear()
        for kind in self._fastest:
            self._fastest[kind] *= _AGEING
        wanted = self.busy >= self.slots * 0.7
        if quick < _RISING and wanted:
            self.slots = min(self.slots * 1.5, CEILING)
        elif quick > _FULL:
            self.slots = max(self.slots * 0.9, min(self.slots, FLOOR))
        elif wanted:
            self.slots = min(self.slots + 1, max(self.slots, FLOOR))


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
