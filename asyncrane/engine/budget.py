"""How much may happen at once at each site: both ends of a transfer get a place, or neither.

A site has *slots* (requests and transfers under way) and a *window* (bytes of blobs under way, so that a few huge
blobs and many small ones are equally far from exhausting a line). The number of slots adapts: as long as the quicker
answers come nearly as fast as the fastest ever did, more is better; when even they take much longer, requests are
queueing there and more would only make the queue longer (TCP Vegas' observation); when the site says "too many", half
is enough. Answers are compared with others to the same kind of command only, and slow ones say nothing: they may have
had to connect first.

Whoever knows better fixes the numbers: of everything at once (``jobs``), or of short requests and of streams, which are
the copies of blobs, site by site (:class:`SiteLimits`).
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import TypeAlias

import msgspec

from asyncrane.abc import Site

FLOOR = 32
"""Slots to begin with. Fewer cost everybody more: half of them raised the CPU time of client and registries by 15 %."""

CEILING = 192
WINDOW = 160 * 1024 * 1024
"""Bytes under way at a site: five large streams fill a line, and each costs a few MiB of memory over TLS."""

HEAVIEST = 32 * 1024 * 1024
"""Bytes one transfer counts for at most: a blob of any size is one stream."""

HELD = 8 * 1024 * 1024
"""Bytes of memory one large stream holds: a few chunks, and the buffers of its connections."""

HELD_SMALL = 512 * 1024
"""The same for a blob that is held whole."""

_RISING, _FULL = 1.6, 3.0
"""Times the fastest answer: up to the first a site has room, from the second on a queue."""

_AGEING = 1.002
"""What the fastest answer grows by with each look, so that a line that became slower is noticed in the end."""

_ANY_NUMBER = 1 << 30


class SiteLimits(msgspec.Struct, frozen=True):
    """Fixed numbers for one site (``None``: adapts): short ``requests`` at once, and ``streams``, which are copies of
    blobs of any size. ``requests`` alone is a ceiling for both together.
    """

    requests: int | None = None
    streams: int | None = None


class Limit:
    """The slots and the window of one site. ``jobs`` fixes the slots, ``fixed`` says more."""

    __slots__ = (
        "_fastest",
        "_ratios",
        "adaptive",
        "busy",
        "most_requests",
        "most_streams",
        "slots",
        "streams",
        "weight",
        "window",
    )

    def __init__(self, *, jobs: int | None = None, fixed: SiteLimits | None = None) -> None:
        requests, streams = (fixed.requests, fixed.streams) if fixed is not None else (None, None)
        slots = jobs if requests is None else requests + (streams or 0)
        self.adaptive = slots is None
        self.slots = float(slots or FLOOR)
        self.most_requests = requests or _ANY_NUMBER
        self.most_streams = streams or _ANY_NUMBER
        self.window = WINDOW if (streams or jobs) is None else max(streams or jobs or 1, 1) * HEAVIEST
        self.busy = 0
        self.streams = 0
        self.weight = 0
        self._fastest: dict[str, float] = {}
        self._ratios: list[float] = []

    @property
    def full(self) -> bool:
        """Whether nothing at all may start."""
        return self.busy + 1 > self.slots

    def fits(self, weight: int = 0, *, stream: bool = False) -> bool:
        """Whether one more command of ``weight`` bytes, :data:`HEAVIEST` at most, may start; an idle site always takes
        one.
        """
        if self.busy + 1 > self.slots:
            return False
        if not stream:
            return self.busy - self.streams < self.most_requests
        return self.streams < self.most_streams and (
            not weight or not self.weight or self.weight + weight <= self.window
        )

    def take(self, weight: int, *, stream: bool) -> None:
        """Count one more command."""
        self.busy += 1
        if stream:
            self.streams += 1
            self.weight += weight

    def give(self, weight: int, *, stream: bool) -> None:
        """Count one less."""
        self.busy -= 1
        if stream:
            self.streams -= 1
            self.weight -= weight

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


class Ceiling:
    """Bytes of memory for the streams of all sites together. One stream always runs."""

    __slots__ = ("held", "most")

    full = False

    def __init__(self, most: int) -> None:
        self.most = most
        self.held = 0

    def fits(self, weight: int = 0, *, stream: bool = False) -> bool:
        """Whether one more may start."""
        return not stream or not self.held or self.held + _held(weight) <= self.most

    def take(self, weight: int, *, stream: bool) -> None:
        """Count one more."""
        if stream:
            self.held += _held(weight)

    def give(self, weight: int, *, stream: bool) -> None:
        """Count one less."""
        if stream:
            self.held -= _held(weight)


def _held(weight: int) -> int:
    return HELD if weight > HELD else weight + HELD_SMALL


Gate: TypeAlias = Limit | Ceiling
"""What a command has to get past."""


class Budget:
    """The limits of all sites. ``jobs`` fixes the slots of every site, ``limits`` those of the sites it names (by
    registry); what neither fixes adapts. ``memory`` is a ceiling for the bytes that all streams hold together.
    """

    def __init__(
        self, *, jobs: int | None = None, limits: Mapping[str, SiteLimits] | None = None, memory: int | None = None
    ) -> None:
        self._jobs = jobs
        self._fixed = dict(limits or {})
        self._limits: dict[Site, Limit] = {}
        self._memory = Ceiling(memory) if memory is not None else None

    def limit(self, site: Site) -> Limit:
        """The limit of ``site``."""
        found = self._limits.get(site)
        if found is None:
            found = self._limits[site] = Limit(jobs=self._jobs, fixed=self._fixed.get(site.name))
        return found

    def gates(self, sites: tuple[Site, ...], *, stream: bool) -> tuple[Gate, ...]:
        """All that a command at ``sites`` has to get past; it starts when everything lets it."""
        limits = tuple([self.limit(site) for site in sites])
        return (*limits, self._memory) if stream and self._memory is not None else limits

    def sites(self) -> dict[Site, Limit]:
        """Every site seen so far and its limit."""
        return dict(self._limits)

    def __repr__(self) -> str:
        shown = ", ".join(f"{site}: {limit.busy}/{int(limit.slots)}" for site, limit in self._limits.items())
        return f"Budget({shown})"
