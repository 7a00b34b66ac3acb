"""Commands that wait for a place in the budget, the most urgent first.

What needs the same sites waits in one lane; lanes never block each other. A lane whose first command does not fit is
put aside at the gate that refused it, and looked at again when something passes out of that gate: what an event costs
depends on the sites it concerns, never on how much waits.
"""

from __future__ import annotations

import heapq
from collections.abc import Callable
from itertools import count
from typing import Protocol, TypeAlias

from asyncrane.abc import Site
from asyncrane.engine.budget import HEAVIEST, Budget, Gate, Limit
from asyncrane.engine.messages import Ended, Work

Maker: TypeAlias = Callable[[int], Work | None]
"""Builds the command with the id given, when its turn comes; ``None`` when nobody wants it any more."""

Then: TypeAlias = Callable[[Ended], None]
"""Takes the event that ends the command, success or failure."""


class Errand(Protocol):
    """What waits in the queue: builds its command, and hears how that ended."""

    def make(self, number: int) -> Work | None:
        """The command with the id given; ``None`` when nobody wants it any more."""
        ...

    def ended(self, event: Ended) -> None:
        """The event that ends the command, success or failure."""
        ...


class _Call:
    """An errand of two functions."""

    __slots__ = ("ended", "make")

    def __init__(self, make: Maker, then: Then) -> None:
        self.make = make
        self.ended = then


Entry: TypeAlias = tuple[int, int, int, int, Errand]

LARGEST_FIRST = 32
"""With this few transfers left, the largest goes first, so that the last one to end is a small one."""


class Lane:
    """What waits for the same sites. ``stream``: copies of blobs; ``large``: such as have a weight. While it is put
    aside, ``weight`` is what the gate did not let pass.
    """

    __slots__ = ("aside", "entries", "gates", "large", "limits", "sites", "stream", "weight")

    def __init__(self, sites: tuple[Site, ...], gates: tuple[Gate, ...], *, stream: bool, large: bool) -> None:
        self.sites = sites
        self.gates = gates
        self.limits = tuple([gate for gate in gates if isinstance(gate, Limit)])
        self.stream = stream
        self.large = large
        self.entries: list[Entry] = []
        self.aside: Gate | None = None
        self.weight = 0

    def refused(self, weight: int) -> Gate | None:
        """The gate that does not let ``weight`` bytes more pass, if there is one."""
        weight, stream = (weight if weight < HEAVIEST else HEAVIEST), self.stream
        for gate in self.gates:
            if not gate.fits(weight, stream=stream):
                return gate
        return None

    def take(self, weight: int) -> None:
        """Pass all gates."""
        weight, stream = (weight if weight < HEAVIEST else HEAVIEST), self.stream
        for gate in self.gates:
            gate.take(weight, stream=stream)

    def give(self, weight: int) -> None:
        """Pass out of all gates again."""
        weight, stream = (weight if weight < HEAVIEST else HEAVIEST), self.stream
        for gate in self.gates:
            gate.give(weight, stream=stream)

    def choose(self) -> int:
        """Which of a few large entries is next: the largest with the first one's priority and demand."""
        entries = self.entries
        return min(range(len(entries)), key=lambda at: _largest_first(entries[at]))

    def remove(self, at: int) -> None:
        """Take one entry out."""
        entries = self.entries
        if at == 0:
            heapq.heappop(entries)
            return
        entries[at] = entries[-1]
        entries.pop()
        heapq.heapify(entries)


def _largest_first(entry: Entry) -> tuple[int, int, int, int]:
    priority, demand, order, weight, _ = entry
    return priority, demand, -weight, order


def _nothing() -> None:
    pass


_Held: TypeAlias = tuple[Work, Lane, int, Errand]
"""A command that runs, its lane and weight, and who is told when it ends."""


class Queue:
    """Waiting and running commands."""

    def __init__(self, budget: Budget) -> None:
        self.budget = budget
        self.looked = 0
        """How often the first command of a lane was looked at: the work that all events together have cost."""
        self._running: dict[int, _Held] = {}
        self._lanes: dict[tuple[tuple[Site, ...], bool, bool], Lane] = {}
        self._open: dict[Lane, None] = {}
        self._aside: dict[Gate, dict[Lane, None]] = {}
        self._passed: dict[Gate, None] = {}
        self._order = count()
        self._ids = count(1)
        self._settle: Callable[[], None] = _nothing

    @property
    def running(self) -> int:
        """How many commands run."""
        return len(self._running)

    def before_taking(self, settle: Callable[[], None]) -> None:
        """Let ``settle`` push what it held back, each time before a command is chosen."""
        self._settle = settle

    def push(self, make: Maker, then: Then, sites: tuple[Site, ...], *, priority: int) -> None:
        """Add a command that copies nothing. Smaller ``priority`` goes first, then who came first."""
        self.add(_Call(make, then), sites, priority=priority)

    def add(
        self,
        errand: Errand,
        sites: tuple[Site, ...],
        *,
        priority: int,
        demand: int = 0,
        weight: int = 0,
        stream: bool = False,
    ) -> None:
        """Add an errand. Smaller ``priority`` goes first, then larger ``demand``, then who came first; ``weight`` is
        the bytes it will have under way. ``stream``: it copies a blob.
        """
        key = (sites, stream, weight > 0)
        lane = self._lanes.get(key)
        if lane is None:
            gates = self.budget.gates(sites, stream=stream)
            lane = self._lanes[key] = Lane(sites, gates, stream=stream, large=weight > 0)
        heapq.heappush(lane.entries, (priority, -demand, next(self._order), weight, errand))
        if lane.aside is None:
            self._open[lane] = None
        elif lane.large:  # what is next now may be lighter than what was refused
            del self._aside[lane.aside][lane]
            self._reopen(lane)

    def take(self) -> list[Work]:
        """Every command that may start now."""
        started: list[Work] = []
        settle, opened = self._settle, self._open
        settle()
        self._look_aside()
        while opened:
            lane = next(iter(opened)) if len(opened) == 1 else self._most_urgent()
            self.looked += 1
            at = lane.choose() if lane.large and len(lane.entries) <= LARGEST_FIRST else 0
            _, _, _, weight, errand = lane.entries[at]
            gate = lane.refused(weight)
            if gate is not None:
                self._put_aside(lane, gate, weight)
                continue
            lane.remove(at)
            if not lane.entries:
                del opened[lane]
            number = next(self._ids)
            command = errand.make(number)
            if command is not None:
                lane.take(weight)
                self._running[number] = command, lane, weight, errand
                started.append(command)
            settle()
        return started

    def ended(self, number: int) -> tuple[Work, tuple[Limit, ...], Errand]:
        """Give back what command ``number`` held; returns it, the limits of its sites, and who is to be told."""
        command, lane, weight, errand = self._running.pop(number)
        lane.give(weight)
        for gate in lane.gates:
            self._passed[gate] = None
        return command, lane.limits, errand

    def __len__(self) -> int:
        return sum([len(lane.entries) for lane in self._lanes.values()])

    def _most_urgent(self) -> Lane:
        """The open lane with the most urgent command."""
        lanes = iter(self._open)
        best = next(lanes)
        for lane in lanes:
            if lane.entries[0] < best.entries[0]:
                best = lane
        return best

    def _put_aside(self, lane: Lane, gate: Gate, weight: int) -> None:
        del self._open[lane]
        lane.aside, lane.weight = gate, (weight if weight < HEAVIEST else HEAVIEST)
        self._aside.setdefault(gate, {})[lane] = None

    def _look_aside(self) -> None:
        """Something passed out of these gates: open what now fits through."""
        for gate in self._passed:
            aside = self._aside.get(gate)
            if not aside or gate.full:
                continue
            for lane in [lane for lane in aside if gate.fits(lane.weight, stream=lane.stream)]:
                del aside[lane]
                self._reopen(lane)
        self._passed.clear()

    def _reopen(self, lane: Lane) -> None:
        lane.aside = None
        self._open[lane] = None

    def __repr__(self) -> str:
        return f"Queue({len(self)} waiting, {len(self._running)} running)"
