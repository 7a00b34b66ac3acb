"""Commands that wait for a place in the budget, the most urgent first.

What needs the same sites waits in one lane; lanes never block each other. A lane whose first command does not fit is
put aside at the gate that refused it, and looked at again when something passes out of that gate: what an event costs
depends on the sites it concerns, never on how much waits.
"""

from __future__ import annotations

import heapq
from collections.abc import Callable
from itertools import count
from typing import TypeAlias

from asyncrane.abc import Site
from asyncrane.engine.budget import Budget, Gate
from asyncrane.engine.messages import Ended, Work

Maker: TypeAlias = Callable[[int], Work | None]
"""Builds the command with the id given, when its turn comes; ``None`` when nobody wants it any more."""

Then: TypeAlias = Callable[[Ended], None]
"""Takes the event that ends the command, success or failure."""

Entry: TypeAlias = tuple[int, int, int, int, Maker, Then]

LARGEST_FIRST = 32
"""With this few transfers left, the largest goes first, so that the last one to end is a small one."""


class Lane:
    """What waits for the same sites. ``stream``: copies of blobs; ``large``: such as have a weight."""

    __slots__ = ("aside", "entries", "gates", "large", "sites", "stream", "turn")

    def __init__(self, sites: tuple[Site, ...], gates: tuple[Gate, ...], *, stream: bool, large: bool) -> None:
        self.sites = sites
        self.gates = gates
        self.stream = stream
        self.large = large
        self.entries: list[Entry] = []
        self.aside: Gate | None = None
        self.turn = 0

    def refused(self, weight: int) -> Gate | None:
        """The gate that does not let ``weight`` bytes more pass, if there is one."""
        stream = self.stream
        for gate in self.gates:
            if not gate.fits(weight, stream=stream):
                return gate
        return None

    def take(self, weight: int) -> None:
        """Pass all gates."""
        for gate in self.gates:
            gate.take(weight, stream=self.stream)

    def give(self, weight: int) -> None:
        """Pass out of all gates again."""
        for gate in self.gates:
            gate.give(weight, stream=self.stream)

    def choose(self) -> int:
        """Which entry is next: the first, but of a few large ones the largest with its priority and demand."""
        entries = self.entries
        if not self.large or len(entries) > LARGEST_FIRST:
            return 0
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
    priority, demand, order, weight, _, _ = entry
    return priority, demand, -weight, order


def _nothing() -> None:
    pass


class Queue:
    """Waiting and running commands."""

    def __init__(self, budget: Budget) -> None:
        self.budget = budget
        self.running: dict[int, Work] = {}
        self._lanes: dict[tuple[tuple[Site, ...], bool, bool], Lane] = {}
        self._open: dict[Lane, None] = {}
        self._aside: dict[Gate, dict[Lane, None]] = {}
        self._passed: dict[Gate, None] = {}
        self._held: dict[int, tuple[Lane, int, Then]] = {}
        self._order = count()
        self._ids = count(1)
        self._turn = 0
        self._settle: Callable[[], None] = _nothing

    def before_taking(self, settle: Callable[[], None]) -> None:
        """Let ``settle`` push what it held back, each time before commands are chosen."""
        self._settle = settle

    def push(
        self,
        make: Maker,
        then: Then,
        sites: tuple[Site, ...],
        *,
        priority: int,
        demand: int = 0,
        weight: int = 0,
        stream: bool = False,
    ) -> None:
        """Add a command. Smaller ``priority`` goes first, then larger ``demand``, then who came first; ``weight`` is
        the bytes it will have under way. ``stream``: it copies a blob.
        """
        key = (sites, stream, weight > 0)
        lane = self._lanes.get(key)
        if lane is None:
            gates = self.budget.gates(sites, stream=stream)
            lane = self._lanes[key] = Lane(sites, gates, stream=stream, large=weight > 0)
        heapq.heappush(lane.entries, (priority, -demand, next(self._order), weight, make, then))
        if lane.aside is None:
            self._open[lane] = None
        elif lane.large:
            self._readmit(lane)  # what is next now may be lighter than what was refused

    def take(self) -> list[Work]:
        """Every command that may start now."""
        started: list[Work] = []
        self._turn += 1
        while (lane := self._next()) is not None:
            at = lane.choose()
            _, _, _, weight, make, then = lane.entries[at]
            gate = lane.refused(weight)
            if gate is not None:
                self._put_aside(lane, gate)
                continue
            lane.remove(at)
            if not lane.entries:
                self._leave(lane)
            elif lane.aside is not None:
                self._readmit(lane)
            number = next(self._ids)
            command = make(number)
            if command is not None:
                lane.take(weight)
                self.running[number] = command
                self._held[number] = (lane, weight, then)
                started.append(command)
        self._passed.clear()
        return started

    def ended(self, event: Ended) -> tuple[tuple[Site, ...], Then]:
        """Give back what the command held; returns its sites and who waits for the event."""
        lane, weight, then = self._held.pop(event.command)
        del self.running[event.command]
        lane.give(weight)
        for gate in lane.gates:
            self._passed[gate] = None
        return lane.sites, then

    def __len__(self) -> int:
        return sum([len(lane.entries) for lane in self._lanes.values()])

    def _next(self) -> Lane | None:
        """Of the lanes that may be free to go the one with the most urgent command."""
        self._settle()
        best: Lane | None = None
        for lane in self._open:
            if best is None or lane.entries[0] < best.entries[0]:
                best = lane
        for gate in self._passed:
            if gate.full or gate not in self._aside:
                continue
            for lane in self._aside[gate]:
                if lane.turn != self._turn and (best is None or lane.entries[0] < best.entries[0]):
                    best = lane
        return best

    def _put_aside(self, lane: Lane, gate: Gate) -> None:
        self._leave(lane)
        lane.aside = gate
        lane.turn = self._turn
        self._aside.setdefault(gate, {})[lane] = None

    def _readmit(self, lane: Lane) -> None:
        self._leave(lane)
        self._open[lane] = None

    def _leave(self, lane: Lane) -> None:
        if lane.aside is None:
            self._open.pop(lane, None)
        else:
            del self._aside[lane.aside][lane]
            lane.aside = None

    def __repr__(self) -> str:
        return f"Queue({len(self)} waiting, {len(self.running)} running)"
