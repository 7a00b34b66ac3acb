"""``python -m benchmarks``: choose, measure, report; whatever ends it, nothing stays running and nothing on disk."""

from __future__ import annotations

import argparse
import signal
import sys
import tempfile
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING

import anyio
from rich.console import Console

from .client import UnexpectedAnswer
from .fill import Incomplete
from .harness import Bench
from .registries import COMMAND, Certificates, NoRegistry, given, installed, version
from .report import from_json, markdown, show, to_json
from .results import Machine, Measured, Results
from .runners import RUNNERS, Runner
from .scenarios import SCENARIOS, Scenario, chosen

if TYPE_CHECKING:
    from collections.abc import Sequence

WIDTH = 150  # columns of a report that goes to a file
FAILED, STOPPED = 1, 130  # exit codes: a run failed or there is nothing to run; stopped in the middle


def _arguments(words: Sequence[str] | None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="python -m benchmarks", description=__doc__)
    names = [scenario.name for scenario in SCENARIOS]
    runners = [runner.name for runner in RUNNERS]
    parser.add_argument("--scenario", action="append", choices=names, default=[], help="only this one; repeatable")
    parser.add_argument(
        "--runner", action="append", choices=runners, default=[], help="only this one, in every scenario; repeatable"
    )
    parser.add_argument("--rounds", type=int, help="for every scenario (default: 5, over a slow line 3)")
    parser.add_argument("--quick", action="store_true", help="small sizes, one round: does the harness work?")
    parser.add_argument("--timeout", type=float, default=900.0, metavar="SECONDS", help="limit of one run")
    parser.add_argument("--workdir", type=Path, help="where the registries' data goes, at most 4 GB at a time")
    parser.add_argument("--json", type=Path, metavar="FILE", help="write everything there")
    parser.add_argument("--markdown", type=Path, metavar="FILE", help="write the README's tables there (- for stdout)")
    parser.add_argument("--report", type=Path, metavar="JSON", help="measure nothing, report an earlier result")
    return parser.parse_args(words)


def _plan(options: argparse.Namespace) -> list[tuple[Scenario, Sequence[Runner], int]]:
    """Each scenario with those who run in it and how often."""
    present = [runner for runner in RUNNERS if runner.path() is not None]
    named = [runner for runner in present if runner.name in options.runner]
    plan: list[tuple[Scenario, Sequence[Runner], int]] = []
    for scenario in chosen(options.scenario):
        usual = [runner for runner in present if runner.scenarios is None or scenario.name in runner.scenarios]
        rounds = options.rounds or (1 if options.quick else scenario.rounds)
        plan.append((scenario, named if options.runner else usual, rounds))
    return [entry for entry in plan if entry[1]]


async def _bench(options: argparse.Namespace, console: Console, measured: list[Measured]) -> int:
    """Measure into ``measured``; the answer is the exit code so far."""
    with tempfile.TemporaryDirectory(prefix="asyncrane-bench-", dir=options.workdir) as directory:
        workdir = Path(directory)
        bench = Bench(
            workdir=workdir,
            certificates=Certificates.made_in(workdir),
            say=lambda line: console.print(line, highlight=False, markup=False, soft_wrap=True),
            given=given(),
            quick=options.quick,
            timeout=options.timeout,
        )
        async with anyio.create_task_group() as group:
            group.start_soon(_stop_on_signal, group.cancel_scope)
            try:
                await bench.run(_plan(options), collect=measured.append)
            except (NoRegistry, UnexpectedAnswer, Incomplete) as error:
                console.print(str(error), style="red", markup=False)
                return FAILED
            finally:
                group.cancel_scope.cancel()
            return 0
    return STOPPED


async def _stop_on_signal(scope: anyio.CancelScope) -> None:
    with anyio.open_signal_receiver(signal.SIGINT, signal.SIGTERM) as signals:
        async for _ in signals:
            scope.cancel()
            return


def _versions() -> dict[str, str]:
    programs = {runner.program: runner for runner in RUNNERS}
    versions = {name: runner.version() for name, runner in programs.items()}
    if given() is None:
        versions[COMMAND] = version()
    return versions


def _write(options: argparse.Namespace, results: Results) -> None:
    if options.json is not None:
        options.json.parent.mkdir(parents=True, exist_ok=True)
        options.json.write_bytes(to_json(results))
    if options.markdown is not None and str(options.markdown) != "-":
        options.markdown.parent.mkdir(parents=True, exist_ok=True)
        options.markdown.write_text(markdown(results))


def main(words: Sequence[str] | None = None) -> int:
    """Measure or read, report, and say how it went."""
    options = _arguments(words)
    progress = Console(stderr=True)
    measured: list[Measured] = []
    code = 0
    if options.report is not None:
        results = from_json(options.report.read_bytes())
    else:
        try:
            if given() is None:
                installed()
            began, machine = datetime.now(UTC), Machine.this()
            versions = _versions()
            code = anyio.run(_bench, options, progress, measured)
        except NoRegistry as error:
            progress.print(str(error), style="red", markup=False)
            return FAILED
        results = Results(
            began=began.strftime("%Y-%m-%d %H:%M UTC"),
            quick=options.quick,
            machine=machine,
            versions=versions,
            scenarios=tuple(measured),
        )
    _write(options, results)
    if options.markdown is not None and str(options.markdown) == "-":
        print(markdown(results), end="")
    else:
        console = Console()
        show(results, console if console.is_terminal else Console(width=WIDTH))
    if not results.scenarios or any(one.errors() for one in results.scenarios):
        return code or FAILED
    return code


if __name__ == "__main__":
    sys.exit(main())
