"""``python -m benchmarks.surgery``: what is done to images, against crane: append, pull, validate, export, and so on.

One ``docker-registry`` process on loopback has the images (:mod:`benchmarks.workshop`). In each round every task is
done by both programs, one after the other, and who begins changes; what each run should have left is looked for. A
ratio is the median over the rounds of the two times of one round.
"""

from __future__ import annotations

import argparse
import statistics
import sys
import tempfile
from collections.abc import Callable
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING, TypeAlias

import anyio
import msgspec
from rich.console import Console
from rich.table import Table

from .accesslog import read, successes
from .client import connected
from .measure import Failed, measure
from .proxy import lines
from .registries import NoRegistry, Registry, installed, serving, version
from .results import Machine
from .runners import REFERENCE, RUNNERS, Runner, Work, environment
from .targets import Verdict
from .workshop import MIB, Sizes, build, write_tar

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Sequence

CRANE = "crane"
RSS_LIMIT = 150.0  # MiB
START_LIMIT = 0.2  # seconds until asyncrane has said its version
WIDTH = 130  # columns of a report that goes to a file
FAILED = 1  # exit code: a run failed or there is nothing to run


@dataclass(frozen=True)
class Turn:
    """One run of one program: where things are, and where what it makes goes."""

    program: str
    registry: str
    name: str  # no other turn's
    scratch: Path
    tar: Path
    sizes: Sizes

    @property
    def tag(self) -> str:
        """The image to make, in a repository of its own."""
        return f"{self.registry}/made-{self.name}:1"

    @property
    def made(self) -> Path:
        """The file to make."""
        return self.scratch / f"made-{self.name}"


Plan: TypeAlias = Callable[[Turn], Work]


@dataclass(frozen=True)
class Task:
    """Something to do, by each program; ``faster`` is how many times as fast as crane it has to be, ``memory`` whether
    there is a limit on it, ``manifests`` how many are to be written, ``file`` whether a file is; ``rtt`` is the round
    trip to the registry in seconds, 0 for the bare loopback.
    """

    name: str
    asyncrane: Plan
    crane: Plan | None = None
    faster: float | None = None
    memory: bool = False
    manifests: int = 0
    file: bool = False
    rtt: float = 0.0


def _same(*words: str) -> Plan:
    """A command that is the same for both: ``{r}`` is the registry, ``{tag}``, ``{made}`` and ``{tar}`` the turn's."""

    def plan(turn: Turn) -> Work:
        names = {"r": turn.registry, "tag": turn.tag, "made": str(turn.made), "tar": str(turn.tar)}
        return Work(((turn.program, *(word.format(**names) for word in words)),))

    return plan


def _rebases(turn: Turn) -> Iterator[tuple[str, str]]:
    for number in range(turn.sizes.rebases):
        repository = f"{turn.registry}/app-{number:03}"
        yield f"{repository}:1", f"{repository}:{turn.name}"


def _rebase_at_once(turn: Turn) -> Work:
    images = turn.scratch / f"images-{turn.name}"
    images.write_text("".join(f"{image} {tag}\n" for image, tag in _rebases(turn)))
    bases = ("--old_base", f"{turn.registry}/base:1", "--new_base", f"{turn.registry}/base:2")
    return Work(((turn.program, "rebase", "--from-file", str(images), *bases),))


def _rebase_each(turn: Turn) -> Work:
    bases = ("--old_base", f"{turn.registry}/base:1", "--new_base", f"{turn.registry}/base:2")
    return Work(tuple((turn.program, "rebase", image, *bases, "-t", tag) for image, tag in _rebases(turn)))


def tasks(sizes: Sizes) -> tuple[Task, ...]:
    """Everything that is measured."""

    def both(name: str, *words: str, faster: float, memory: bool = False, manifests: int = 0, rtt: float = 0.0) -> Task:
        plan = _same(*words)
        return Task(name, plan, plan, faster, memory, manifests, file="{made}" in words, rtt=rtt)

    append = ("append", "-b", "{r}/base:1", "-f", "{tar}", "-t", "{tag}")
    pull, validate = ("pull", "{r}/image:1", "{made}"), ("validate", "--remote", "{r}/image:1")
    return (
        both("append", *append, faster=1.3, manifests=1),
        both("pull", *pull, faster=2.0),
        both("pull-50ms", *pull, faster=2.0, rtt=0.05),
        both("validate", *validate, faster=2.0),
        both("validate-50ms", *validate, faster=2.0, rtt=0.05),
        both("export", "export", "{r}/image:1", "{made}", faster=1.0, memory=True),
        both("flatten", "flatten", "{r}/image:1", "-t", "{tag}", faster=1.0, memory=True, manifests=1),
        Task("rebase", _rebase_at_once, _rebase_each, faster=5.0, manifests=sizes.rebases),
        Task("version", _same("version")),
        Task("help", _same("--help")),
    )


class Run(msgspec.Struct, frozen=True, kw_only=True):
    """One run: seconds, CPU seconds of the client, MiB of its largest process; after an ``error`` nothing counts."""

    task: str
    runner: str
    round: int
    wall: float = 0.0
    cpu: float = 0.0
    rss: float = 0.0
    requests: int = 0
    error: str = ""


class Surgery(msgspec.Struct, frozen=True, kw_only=True):
    """A whole benchmark."""

    began: str
    quick: bool
    machine: Machine
    versions: dict[str, str]
    runs: tuple[Run, ...]

    def of(self, task: str, runner: str) -> dict[int, Run]:
        """A program's good runs of a task, by round."""
        return {run.round: run for run in self.runs if (run.task, run.runner) == (task, runner) and not run.error}

    def ratio(self, task: str) -> float | None:
        """How many times longer crane takes: the median over the rounds."""
        ours, theirs = self.of(task, REFERENCE), self.of(task, CRANE)
        ratios = [theirs[number].wall / ours[number].wall for number in ours.keys() & theirs.keys()]
        return statistics.median(ratios) if ratios else None

    def errors(self) -> tuple[Run, ...]:
        """The runs that failed."""
        return tuple(run for run in self.runs if run.error)


def judge(surgery: Surgery, wanted: Iterable[Task]) -> Iterator[Verdict]:
    """Every target, and whether it was reached."""
    for task in wanted:
        runs = list(surgery.of(task.name, REFERENCE).values())
        if task.faster is not None:
            said, ratio = f"{task.name}: at least {task.faster:g}x as fast as crane", surgery.ratio(task.name)
            good = ratio is not None and ratio >= task.faster
            yield _verdict(said, "" if ratio is None else f"{ratio:.2f}x", good)
        else:
            wall = statistics.median(run.wall for run in runs) if runs else None
            said = f"{task.name}: at most {START_LIMIT * 1000:g} ms"
            yield _verdict(
                said, "" if wall is None else f"{wall * 1000:.0f} ms", wall is not None and wall <= START_LIMIT
            )
        if task.memory:
            peak = max((run.rss for run in runs), default=None)
            said = f"{task.name}: peak RSS at most {RSS_LIMIT:g} MiB"
            yield _verdict(said, "" if peak is None else f"{peak:.0f} MiB", peak is not None and peak <= RSS_LIMIT)


def _verdict(said: str, seen: str, good: bool) -> Verdict:
    return Verdict(said, seen, "not measured" if not seen else "met" if good else "missed")


@dataclass(frozen=True, kw_only=True)
class Bench:
    """What is the same for all turns."""

    registry: Registry
    home: Path
    tar: Path
    sizes: Sizes
    timeout: float
    say: Callable[[str], None]

    async def turn(self, task: Task, runner: Runner, plan: Plan, number: int) -> Run:
        """Do a task once, and look for what should be there then."""
        program = runner.path()
        if program is None:
            raise AssertionError(f"{runner.program} was there a moment ago")
        name = f"{task.name}-{runner.name}-{number}"
        mark, env = self.registry.logged(), environment(self.home)
        made = self.home / f"made-{name}"
        try:
            async with lines([self.registry.address], task.rtt) as line:
                turn = Turn(program, line.addresses[0], name, self.home, self.tar, self.sizes)
                cost = await measure(plan(turn), log=self.home / "output", env=env, timeout=self.timeout)
            requests = read(self.registry.log, start=mark) if self.registry.log is not None else []
            written = sum(1 for _ in successes(requests, "PUT", "manifest"))
            if written < task.manifests:
                raise Failed(f"it ended well, but wrote {written} of {task.manifests} manifests")
            if task.file and made.stat().st_size < self.sizes.layers * self.sizes.layer * MIB // 4:
                raise Failed(f"it ended well, but {made.stat().st_size} bytes are not all")
        except Failed as error:
            return Run(task=task.name, runner=runner.name, round=number, error=str(error))
        finally:
            made.unlink(missing_ok=True)
        cpu = cost.user + cost.system
        return Run(
            task=task.name,
            runner=runner.name,
            round=number,
            wall=cost.wall,
            cpu=cpu,
            rss=cost.rss,
            requests=len(requests),
        )

    async def run(self, wanted: Sequence[Task], rounds: int) -> list[Run]:
        """Every task by both, in turn."""
        runners = {runner.name: runner for runner in RUNNERS if runner.path() is not None}
        runs: list[Run] = []
        for number in range(rounds):
            for task in wanted:
                pair = [(runners[REFERENCE], task.asyncrane)]
                if task.crane is not None and CRANE in runners:
                    pair.append((runners[CRANE], task.crane))
                for runner, plan in pair if number % 2 == 0 else reversed(pair):
                    run = await self.turn(task, runner, plan, number)
                    runs.append(run)
                    said = run.error or f"{run.wall:.2f} s, {run.cpu:.2f} CPU s, {run.rss:.0f} MiB"
                    self.say(f"{task.name} {number + 1}/{rounds} {runner.name}: {said}")
        return runs


async def _bench(options: argparse.Namespace, sizes: Sizes, wanted: Sequence[Task], console: Console) -> list[Run]:
    with tempfile.TemporaryDirectory(prefix="asyncrane-bench-", dir=options.workdir) as directory:
        home, tar = Path(directory), Path(directory) / "appended.tar"
        async with serving(home / "storage", home=home / "registry") as registry:
            console.print("building the images")
            await anyio.to_thread.run_sync(write_tar, tar, sizes.appended * MIB)
            async with connected(registry.url) as client:
                await build(client, sizes)
            bench = Bench(
                registry=registry,
                home=home,
                tar=tar,
                sizes=sizes,
                timeout=options.timeout,
                say=lambda line: console.print(line, highlight=False, markup=False, soft_wrap=True),
            )
            return await bench.run(wanted, options.rounds or (1 if options.quick else 5))


def show(surgery: Surgery, wanted: Sequence[Task], console: Console) -> None:
    """Print everything."""
    machine = surgery.machine
    versions = ", ".join(f"{name} {version}" for name, version in surgery.versions.items())
    quick = "A quick run with small sizes: it says nothing about speed. " if surgery.quick else ""
    console.print(
        f"{quick}{surgery.began}, {machine.processors} x {machine.processor}, {machine.memory_gib:g} GiB, "
        f"{machine.system}, Python {machine.python}, load {machine.load:.1f} at the start. {versions}.",
        highlight=False,
    )
    costs = Table("task", "runner", "seconds", "range (runs)", "ratio", "CPU s", "peak MiB", "requests")
    for task in wanted:
        for runner in (REFERENCE, CRANE):
            runs = list(surgery.of(task.name, runner).values())
            if runs:
                walls, ratio = [run.wall for run in runs], surgery.ratio(task.name) if runner == CRANE else None
                costs.add_row(
                    task.name,
                    runner,
                    f"{statistics.median(walls):.2f}",
                    f"{min(walls):.2f}-{max(walls):.2f} ({len(runs)})",
                    "" if ratio is None else f"{ratio:.2f}x",
                    f"{statistics.median(run.cpu for run in runs):.2f}",
                    f"{max(run.rss for run in runs):.0f}",
                    f"{runs[-1].requests}",
                )
    console.print(costs)
    verdicts = Table("target", "measured", "outcome")
    for verdict in judge(surgery, wanted):
        verdicts.add_row(verdict.target, verdict.seen, verdict.outcome)
    console.print(verdicts)
    for run in surgery.errors():
        line = f"{run.task}, round {run.round + 1}: {run.runner} failed: {run.error}"
        console.print(line, style="red", highlight=False, markup=False)


def main(words: Sequence[str] | None = None) -> int:
    """Measure, print both programs' figures and the targets; the exit code says whether every run did its work."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.surgery", description=__doc__)
    names = [task.name for task in tasks(Sizes())]
    parser.add_argument("--task", action="append", choices=names, default=[], help="only this one; repeatable")
    parser.add_argument("--rounds", type=int, help="default: 5")
    parser.add_argument("--quick", action="store_true", help="small sizes, one round: does it work?")
    parser.add_argument("--timeout", type=float, default=900.0, metavar="SECONDS", help="limit of one run")
    parser.add_argument("--workdir", type=Path, help="where everything goes, at most 4 GB")
    parser.add_argument("--json", type=Path, metavar="FILE", help="write every run and verdict there")
    options = parser.parse_args(words)
    sizes = Sizes.quick() if options.quick else Sizes()
    wanted = [task for task in tasks(sizes) if not options.task or task.name in options.task]
    progress, began, machine = Console(stderr=True), datetime.now(UTC), Machine.this()
    try:
        installed()
        versions = {one.name: one.version() for one in RUNNERS if one.name in (REFERENCE, CRANE)}
        runs = anyio.run(_bench, options, sizes, wanted, progress)
    except NoRegistry as error:
        progress.print(str(error), style="red", markup=False)
        return FAILED
    surgery = Surgery(
        began=began.strftime("%Y-%m-%d %H:%M UTC"),
        quick=options.quick,
        machine=machine,
        versions={**versions, "docker-registry": version()},
        runs=tuple(runs),
    )
    if options.json is not None:
        report = {"surgery": surgery, "verdicts": tuple(judge(surgery, wanted))}
        options.json.write_bytes(msgspec.json.format(msgspec.json.encode(report), indent=2) + b"\n")
    console = Console()
    show(surgery, wanted, console if console.is_terminal else Console(width=WIDTH))
    return FAILED if surgery.errors() else 0


if __name__ == "__main__":
    sys.exit(main())
