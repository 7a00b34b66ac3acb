"""Many jobs at once: as many open as keep the engine busy, however many there are; what failed, and when to stop."""

from __future__ import annotations

import time
from collections import Counter, deque
from collections.abc import Callable, Sequence
from functools import partial
from typing import Protocol

import anyio
import anyio.lowlevel

from asyncrane.engine.job import Job
from asyncrane.engine.messages import Finish
from asyncrane.engine.outcome import Outcome, TargetOutcome
from asyncrane.errors import Failure

WINDOW = 1024
"""Jobs that are open at a time between the same registries: memory stays what it is for a million of them."""

UNTIL_WINDOW = 64
"""The same where a time is set: what is open by then is finished, so it should not be much."""

TRIAL = 16
"""Jobs that are open at a time between registries that have let none through yet."""

KNOWN = 128
"""The same where these registries have at least listed something."""

_AT_ONCE = frozenset({"CredentialError", "JournalError"})
_REFUSALS = 3
"""Images that a registry refuses with 401, and none that it lets through, before that is taken for an answer."""


class Engine(Protocol):
    """A session, or an engine without one."""

    def add(self, job: Job, done: Callable[[Outcome], None], /) -> None:
        """Start ``job`` and return; ``done`` is called with what became of it."""
        ...


class Running:
    """``jobs``, carried out. ``on_outcome`` hears of each; ``knows`` says whether a source and destinations have
    answered something before; ``until`` is the time (as of :func:`time.time`) after which none is begun, ``at_once``
    how many requests there may be. What no other image could do either stops the images that are left: a dead journal
    all of them, dead credentials those of the same registries (I1); ``finish`` hears of each that was not tried.
    """

    def __init__(
        self,
        engine: Engine,
        jobs: Sequence[Job],
        *,
        on_outcome: Callable[[Job, Outcome], None] | None = None,
        until: float | None = None,
        at_once: int | None = None,
        keep: bool = True,
        knows: Callable[[str, Sequence[str]], bool] | None = None,
        finish: Callable[[Finish], None] | None = None,
    ) -> None:
        self._engine = engine
        self._coming = deque(jobs)
        self._held: dict[tuple[str, ...], deque[Job]] = {}
        self._on_outcome = on_outcome
        self._until = until
        self._window = WINDOW if until is None else min(UNTIL_WINDOW, at_once or UNTIL_WINDOW)
        self._keep = keep
        self._knows = knows
        self._finish = finish
        self._open = 0
        self._trying: Counter[tuple[str, ...]] = Counter()
        self._moved = anyio.Event()
        self._refused: Counter[tuple[str, ...]] = Counter()
        self._accepted: set[tuple[str, ...]] = set()
        self._hopeless: dict[tuple[str, ...], Failure] = {}
        self.outcomes: dict[int, Outcome] = {}
        self.statuses: Counter[str] = Counter()
        self.images = 0
        self.failed = 0
        self.left = 0
        self.fatal: Failure | None = None

    async def run(self) -> None:
        """Until every job has ended, or was not begun for one of the reasons above."""
        begun = 0
        while (job := self._next()) is not None or self._open:
            if job is None:
                await self._wait()
                continue
            self._begin(job)
            begun += 1
            if begun % 64 == 0:
                await anyio.lowlevel.checkpoint()
        self.left = len(self._coming) + sum(len(jobs) for jobs in self._held.values())

    def _next(self) -> Job | None:
        """The next that may begin now: the first of all but those whose registries have enough to do."""
        if self._is_over():
            return None
        for registries, jobs in self._held.items():
            if not self._is_busy(registries):
                job = jobs.popleft()
                if not jobs:
                    del self._held[registries]
                return job
        while self._coming:
            job = self._coming.popleft()
            if not self._is_busy(registries := _registries(job)):
                return job
            self._held.setdefault(registries, deque()).append(job)
        return None

    def _is_over(self) -> bool:
        return self.fatal is not None or (self._until is not None and time.time() >= self._until)

    def _begin(self, job: Job) -> None:
        registries = _registries(job)
        if (failure := self._hopeless.get(registries)) is not None:
            self._not_tried(job, failure)
            return
        self._open += 1
        self._trying[registries] += 1
        self._engine.add(job, partial(self._done, job))

    def _is_busy(self, registries: tuple[str, ...]) -> bool:
        """Whether enough is open between these registries, or is asked before it is known that they let us in."""
        trying = self._trying[registries]
        if registries in self._accepted or trying < TRIAL:
            return trying >= self._window
        known = self._knows is not None and self._knows(registries[0], registries[1:])
        return not known or trying >= min(KNOWN, self._window)

    async def _wait(self) -> None:
        self._moved = anyio.Event()
        await self._moved.wait()

    def _done(self, job: Job, outcome: Outcome) -> None:
        self._open -= 1
        self._trying[_registries(job)] -= 1
        self._moved.set()
        self._learn(job, outcome.failure)
        self._count(job, outcome)

    def _count(self, job: Job, outcome: Outcome) -> None:
        if self._keep:
            self.outcomes[job.id] = outcome
        self.images += 1
        self.failed += outcome.failure is not None
        self.statuses.update(target.status for target in outcome.targets)
        if self._on_outcome is not None:
            self._on_outcome(job, outcome)

    def _learn(self, job: Job, failure: Failure | None) -> None:
        registries = _registries(job)
        if failure is None:
            self._accepted.add(registries)
        elif failure.kind == "JournalError":
            self.fatal = failure
        elif failure.kind in _AT_ONCE:
            self._hopeless.setdefault(registries, failure)
        elif failure.kind == "Unauthorized" and registries not in self._accepted:
            self._refused[registries] += 1
            if self._refused[registries] >= _REFUSALS:
                self._hopeless.setdefault(registries, failure)

    def _not_tried(self, job: Job, failure: Failure) -> None:
        told = Failure(failure.kind, f"not tried: {failure.message}", failure.status, failure.codes)
        targets = tuple(TargetOutcome(str(target), "failed", told) for target in job.targets)
        outcome = Outcome(str(job), targets=targets)
        if self._finish is not None:
            self._finish(Finish(job.id, outcome))
        self._count(job, outcome)


def _registries(job: Job) -> tuple[str, ...]:
    return (job.source.site.name, *sorted({target.place.site.name for target in job.targets}))
