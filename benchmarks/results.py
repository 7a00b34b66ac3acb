"""What came out: every run as it was, and the figures that are read from them."""

from __future__ import annotations

import os
import platform
import statistics
from pathlib import Path
from typing import TYPE_CHECKING

import msgspec

from .claims import Claim
from .runners import REFERENCE

if TYPE_CHECKING:
    from collections.abc import Callable

GIB = 1 << 30


class Run(msgspec.Struct, frozen=True, kw_only=True):
    """One runner's turn in one round; when ``error`` is set, nothing else counts.

    ``rss`` and ``rss_sum`` are MiB: the largest process, and the sum of those side by side.
    """

    runner: str
    round: int
    error: str = ""
    wall: float = 0.0
    user: float = 0.0
    system: float = 0.0
    rss: float = 0.0
    rss_sum: float = 0.0
    registries_cpu: float = 0.0
    proxy_cpu: float = 0.0
    load: float = 0.0
    source_requests: dict[str, int] = {}
    destination_requests: dict[str, int] = {}
    bytes_read: int = 0
    claims: tuple[Claim, ...] = ()

    @property
    def cpu(self) -> float:
        """CPU seconds of the client."""
        return self.user + self.system


class Figures(msgspec.Struct, frozen=True, kw_only=True):
    """One runner in one scenario: medians, except for memory, where the worst run counts.

    ``ratio`` is how many times longer it took than asyncrane: the median over the rounds of the two times of one
    round, because what the machine does besides changes slowly. ``None`` where asyncrane has no time.
    """

    runner: str
    runs: int
    wall: float
    fastest: float
    slowest: float
    cpu: float
    cpu_per_gib: float
    rss: float
    rss_sum: float
    ratio: float | None = None
    requests: int = 0


class Measured(msgspec.Struct, frozen=True, kw_only=True):
    """One scenario: what was copied, and every run."""

    scenario: str
    dataset: str
    tls: bool
    rtt: float
    filled: bool
    repositories: int
    tags: int
    blobs: int
    bytes: int
    runs: tuple[Run, ...]

    def done(self, runner: str) -> dict[int, Run]:
        """A runner's good runs by round."""
        return {run.round: run for run in self.runs if run.runner == runner and not run.error}

    def errors(self) -> tuple[Run, ...]:
        """The runs that failed."""
        return tuple(run for run in self.runs if run.error)

    def ratio(self, runner: str, versus: str, of: Callable[[Run], float]) -> float | None:
        """The median over the common rounds of ``runner``'s figure by ``versus``'s."""
        mine, theirs = self.done(runner), self.done(versus)
        pairs = [(of(mine[number]), of(theirs[number])) for number in mine.keys() & theirs.keys()]
        ratios = [one / other for one, other in pairs if other > 0]
        return statistics.median(ratios) if ratios else None

    def figures(self) -> tuple[Figures, ...]:
        """Every runner that has a good run, in the order of its first."""
        return tuple(self._figures(runner, list(self.done(runner).values())) for runner in self._runners())

    def _runners(self) -> tuple[str, ...]:
        seen = dict.fromkeys(run.runner for run in sorted(self.runs, key=lambda run: run.round) if not run.error)
        return tuple(sorted(seen, key=lambda name: (name != REFERENCE, name)))

    def _figures(self, runner: str, runs: list[Run]) -> Figures:
        cpu = statistics.median(run.cpu for run in runs)
        last = runs[-1]
        return Figures(
            runner=runner,
            runs=len(runs),
            wall=statistics.median(run.wall for run in runs),
            fastest=min(run.wall for run in runs),
            slowest=max(run.wall for run in runs),
            cpu=cpu,
            cpu_per_gib=cpu / (self.bytes / GIB) if self.bytes else 0.0,
            rss=max(run.rss for run in runs),
            rss_sum=max(run.rss_sum for run in runs),
            ratio=self.ratio(runner, REFERENCE, lambda run: run.wall),
            requests=sum(last.source_requests.values()) + sum(last.destination_requests.values()),
        )


class Machine(msgspec.Struct, frozen=True):
    """Where it was measured; ``load`` is the one-minute load average when it began: other people's work."""

    system: str
    python: str
    processor: str
    processors: int
    memory_gib: float
    load: float

    @classmethod
    def this(cls) -> Machine:
        """The machine we are on."""
        memory = os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES") / GIB
        return cls(
            f"{platform.system()} {platform.release()}",
            platform.python_version(),
            _processor(),
            os.cpu_count() or 0,
            round(memory, 1),
            os.getloadavg()[0],
        )


def _processor() -> str:
    try:
        lines = Path("/proc/cpuinfo").read_text().splitlines()
    except OSError:
        return platform.processor()
    names = (line.partition(":")[2].strip() for line in lines if line.startswith("model name"))
    return next(names, platform.processor())


class Results(msgspec.Struct, frozen=True, kw_only=True):
    """A whole benchmark; ``quick`` ones say that the harness works, not how fast anybody is."""

    began: str
    quick: bool
    machine: Machine
    versions: dict[str, str]
    scenarios: tuple[Measured, ...]
