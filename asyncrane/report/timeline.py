"""Samples of counts as series over the time that a run was worked on.

A run that was killed and resumed was worked on in several *sittings*, and each begins to count bytes and requests at
nothing again. Here counts only grow: what a sitting counted is added to what the earlier ones did, and the hours in
between are left out of the time axis.
"""

from __future__ import annotations

from collections.abc import Iterable
from itertools import zip_longest
from typing import Protocol

import msgspec

from asyncrane.engine.outcome import RegistryView, Statistics

POINTS = 360
"""Points of a series: more cannot be told apart on a screen."""

EVERYWHERE = "all registries"
"""The name of what was counted where no registry was told from another."""

_PAUSE = 30.0
"""Seconds without a sample, which is written every second, after which nobody was at work."""

_CLOSEST = 0.5
"""Seconds between two points at least: what was counted in less says little about a rate."""

_COUNTS = (
    "blobs_copied",
    "blobs_mounted",
    "blobs_existing",
    "manifests_written",
    "referrers_written",
    "bytes_read",
    "bytes_written",
    "bytes_mounted",
    "bytes_existing",
)


class Sample(Protocol):
    """Counts at a time, in seconds since the epoch."""

    @property
    def at(self) -> float:
        """When."""
        ...

    @property
    def statistics(self) -> Statistics:
        """The counts."""
        ...


class Registry(msgspec.Struct):
    """One registry over time: body bytes received and sent, requests by ``"METHOD kind"``, attempts after the first,
    all of them in all sittings; and at every look the bytes a second since the last one, the limit and what was busy.
    """

    received: int = 0
    sent: int = 0
    retries: int = 0
    requests: dict[str, int] = {}
    parked: float = 0.0
    receiving: list[float] = []
    sending: list[float] = []
    limits: list[int] = []
    busy: list[int] = []

    @property
    def peak(self) -> int:
        """The highest limit."""
        return max(self.limits, default=0)


class Timeline(msgspec.Struct):
    """``elapsed``: seconds of work at each look, ``clock``: the time then; ``counts`` and ``registries`` grew until the
    last look. ``breaks`` are the looks that a sitting other than the first began with.
    """

    elapsed: list[float] = []
    clock: list[float] = []
    breaks: list[int] = []
    counts: Statistics = msgspec.field(default_factory=Statistics)
    registries: dict[str, Registry] = {}

    @property
    def seconds(self) -> float:
        """How long the run was worked on."""
        return self.elapsed[-1] if self.elapsed else 0.0


class _Look(msgspec.Struct):
    """One sample, with counts that only grow; ``first``: of a sitting."""

    first: bool
    elapsed: float
    clock: float
    registries: dict[str, tuple[int, int, int, int]]


def timeline(samples: Iterable[Sample], *, points: int = POINTS) -> Timeline:
    """The series, of at most ``points`` points (and a few more where sittings begin); nothing is lost to the sums."""
    found = Timeline()
    looks: list[_Look] = []
    last: Statistics | None = None
    elapsed = clock = 0.0
    for sample in samples:
        now, again, first = sample.statistics, False, False
        if last is not None:
            again = _fell(last, now)
            first = again or sample.at - clock > _PAUSE
            if not first:
                elapsed += max(0.0, sample.at - clock)
        clock = sample.at
        views = _views(now)
        _add(found, now, Statistics() if last is None or again else last, views)
        seen = {}
        for host, registry in found.registries.items():
            view = views.get(host, RegistryView())
            seen[host] = (registry.received, registry.sent, view.limit, view.busy)
        looks.append(_Look(first, elapsed, clock, seen))
        last = now
    _fill(found, _thinned(looks, points))
    return found


def _views(statistics: Statistics) -> dict[str, RegistryView]:
    """What is known of each registry; of all together where nothing is known of one."""
    if statistics.registries:
        return statistics.registries
    names = {*statistics.requests, *statistics.limits}
    views = {
        name: RegistryView(requests=statistics.requests.get(name, {}), limit=statistics.limits.get(name, 0))
        for name in sorted(names)
    }
    if statistics.bytes_read or statistics.bytes_written:
        views[EVERYWHERE] = RegistryView(received=statistics.bytes_read, sent=statistics.bytes_written)
    return views


def _fell(last: Statistics, now: Statistics) -> bool:
    """Whether counting began at nothing again."""
    return _total(now) < _total(last) or now.bytes_read < last.bytes_read or now.bytes_written < last.bytes_written


def _total(statistics: Statistics) -> int:
    return sum(sum(view.requests.values()) for view in _views(statistics).values())


def _add(found: Timeline, now: Statistics, last: Statistics, views: dict[str, RegistryView]) -> None:
    """Add what has been counted since the last look."""
    for name in _COUNTS:
        grown = getattr(found.counts, name) + max(0, getattr(now, name) - getattr(last, name))
        setattr(found.counts, name, grown)
    for name in ("images_total", "images_done", "images_failed", "bytes_total"):
        setattr(found.counts, name, getattr(now, name))
    before = _views(last)
    for host, view in views.items():
        registry = found.registries.setdefault(host, Registry())
        old = before.get(host, RegistryView())
        registry.received += max(0, view.received - old.received)
        registry.sent += max(0, view.sent - old.sent)
        registry.retries += max(0, view.retries - old.retries)
        registry.parked = max(registry.parked, view.parked)
        for kind, number in view.requests.items():
            registry.requests[kind] = registry.requests.get(kind, 0) + max(0, number - old.requests.get(kind, 0))


def _thinned(looks: list[_Look], points: int) -> list[_Look]:
    """Looks that are far enough from each other, and the first and the last of each sitting."""
    if not looks:
        return looks
    width = max(_CLOSEST, looks[-1].elapsed / points)
    kept = [looks[0]]
    for look, after in zip_longest(looks[1:], looks[2:]):
        if after is not None and not after.first and not look.first:
            if look.elapsed - kept[-1].elapsed >= width:
                kept.append(look)
            continue
        # what moved in the milliseconds before the last look is no rate: it belongs to the seconds before
        if not look.first and len(kept) > 1 and not kept[-1].first and look.elapsed - kept[-1].elapsed < width:
            kept.pop()
        kept.append(look)
    return kept


def _fill(found: Timeline, looks: list[_Look]) -> None:
    """Turn counts at each look into what came in every second since the last one."""
    last: _Look | None = None
    for look in looks:
        if look.first:
            found.breaks.append(len(found.elapsed))
        found.elapsed.append(round(look.elapsed, 3))
        found.clock.append(look.clock)
        seconds = look.elapsed - last.elapsed if last is not None else 0.0
        for host, registry in found.registries.items():
            received, sent, limit, busy = look.registries.get(host, (0, 0, 0, 0))
            before = last.registries.get(host, (0, 0, 0, 0)) if last is not None else (0, 0, 0, 0)
            registry.receiving.append(max(0, received - before[0]) / seconds if seconds > 0 else 0.0)
            registry.sending.append(max(0, sent - before[1]) / seconds if seconds > 0 else 0.0)
            registry.limits.append(limit)
            registry.busy.append(busy)
        last = look
