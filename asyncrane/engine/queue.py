"""Commands that wait for a place in the budget, the most urgent first."""

from __future__ import annotations

import heapq
from collections.abc import Callable
from itertools import count
from typing import TypeAlias

from asyncrane.abc import Site
from asyncrane.engine.budget import Budget
from asyncrane.engine.messages import Ended, Work

Maker: TypeAlias = Callable[[int], Work | None]
"""Builds the command with the id given, when its turn comes; ``None`` when nobody wants it any more."""

Then: TypeAlias = Callable[[Ended], None]
"""Takes the event that ends the command, success or failure."""

Lane: TypeAlias = tuple[tuple[Site, ...], bool]
Entry: TypeAlias = tuple[int, int, int, int, Maker, Then]

LARGEST_FIRST = 32
"""With this few transfers left, the largest goes first, so that the last one to end is a small one."""


class Queue:
    """Waiting and running commands. What needs the same sites waits in one lane; lanes never block each other."""

    def __init__(self, budget: Budget) -> None:
        self.budget = budget
        self.running: dict[int, Work] = {}
        self._lanes: dict[Lane, list[Entry]] = {}
        self._held: dict[int, tuple[tuple[Site, ...], int, Then]] = {}
        self._order = count()
        self._ids = count(1)

    def push(
        self, make: Maker, then: Then, sites: tuple[Site, ...], *, priority: int, demand: int = 0, weight: int = 0
    ) -> None:
        """Add a command. Smaller ``priority`` goes first, then larger ``demand``, then who came first; ``weight`` is
        the bytes it will have under way.
        """
        lane = self._lanes.setdefault((sites, weight > 0), [])
        heapq.heappush(lane, (priority, -demand, next(self._order), weight, make, then))

    def take(self) -> list[Work]:
        """Every command that may start now."""
        started: list[Work] = []
        blocked: set[Lane] = set()
        while (lane := self._most_urgent(blocked)) is not None:
            entries = self._lanes[lane]
            at = self._choose(entries)
            _, _, _, weight, make, then = entries[at]
            sites = lane[0]
            if not self.budget.acquire(sites, weight):
                blocked.add(lane)
                continue
            self._remove(entries, at)
            if not entries:
                del self._lanes[lane]
            number = next(self._ids)
            command = make(number)
            if command is None:
                self.budget.release(sites, weight)
                continue
            self.running[number] = command
            self._held[number] = (sites, weight, then)
            started.append(command)
        return started

    def ended(self, event: Ended) -> tuple[tuple[Site, ...], Then]:
        """Give back what the command held; returns its sites and who waits for the event."""
        sites, weight, then = self._held.pop(event.command)
        del self.running[event.command]
        self.budget.release(sites, weight)
        return sites, then

    def __len__(self) -> int:
        return sum(len(entries) for entries in self._lanes.values())

    def _most_urgent(self, blocked: set[Lane]) -> Lane | None:
        best: Lane | None = None
        for lane, entries in self._lanes.items():
            if lane not in blocked and (best is None or entries[0] < self._lanes[best][0]):
                best = lane
        return best

    @staticmethod
    def _choose(entries: list[Entry]) -> int:
        if entries[0][3] == 0 or len(entries) > LARGEST_FIRST:
            return 0
        return max(range(len(entries)), key=lambda i: (-entries[i][0], -entries[i][1], entries[i][3], -entries[i][2]))

    @staticmethod
    def _remove(entries: list[Entry], at: int) -> None:
        if at == 0:
            heapq.heappop(entries)
            return
        entries[at] = entries[-1]
        entries.pop()
        heapq.heapify(entries)

    def __repr__(self) -> str:
        return f"Queue({len(self)} waiting, {len(self.running)} running)"
