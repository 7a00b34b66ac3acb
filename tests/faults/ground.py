"""Two real registries, a ``mirror apply`` between them over lines that can break, and what must be true afterwards.

Registries are ``docker-registry`` processes that can be killed and started again, on the same port and directory.
"""

from __future__ import annotations

import os
import random
import re
import signal
import subprocess
from collections.abc import AsyncIterator, Callable, Iterator
from contextlib import ExitStack, asynccontextmanager, contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any, TypeVar

import anyio
import anyio.to_thread
import pytest
from anyio.abc import Process

from asyncrane import Journal
from asyncrane.testing.images import Sample, random_image, random_index
from tests.cli.conftest import Program
from tests.copies.registries import RealRegistry, docker_registry
from tests.faults.line import Line, laid
from tests.faults.shelf import Shelf
from tests.promises.images import image, noise
from tests.promises.mirrors import Mirror

Test = TypeVar("Test", bound=Callable[..., Any])

ALL = os.environ.get("ASYNCRANE_FAULTS") == "all"
MOMENTS = 20 if ALL else 1
"""At how many moments each fault strikes."""

STRIKES = (
    "kill -9",
    "SIGTERM",
    "SIGINT",
    "disk full",
    "source killed, started again",
    "destination killed, started again",
    "network cut, healed",
    "network silent, healed",
)
"""What strikes at moments; rows of the table of faults."""

STEPS = {"source": 91, "destination": 119}
"""Steps that an undisturbed run over the fleet makes on the lines to both."""

_AGAIN = re.compile(rb"again in \d+\.\d+ s: ")
_ROUNDS = 4
_LONGEST = 300.0  # seconds a process may take, with all its patience, on a busy machine


def fleet() -> dict[str, Sample]:
    """Small images that share layers, an index, and two blobs large enough for uploads that another process goes on
    with.
    """
    layers = [noise(f"layer {number}", 40_000 + 90_000 * (number % 3)) for number in range(6)]
    made = {
        f"team/app{number % 3}:v{number // 3}": image(number, [layers[(number + step) % 6] for step in (0, 1, 3)])
        for number in range(6)
    }
    made["team/app0:multi"] = random_index("multi", layers=(20_000, 70_000))
    made["team/large:v1"] = random_image("large", layers=(9 << 20, 50_000, 3 << 20))
    return made


class Restartable:
    """A ``docker-registry`` with an address that stays when it is killed and started again."""

    def __init__(self, directory: Path) -> None:
        self.directory = directory
        self.shelf = Shelf(directory / "data")
        self.address = "127.0.0.1:0"
        self._stack = ExitStack()
        self._running: RealRegistry

    def start(self) -> None:
        """Start it, where it was before."""
        self._running = self._stack.enter_context(docker_registry(self.directory, address=self.address))
        self.address = self._running.address

    def kill(self) -> None:
        """``kill -9``."""
        os.kill(self._running.pid, signal.SIGKILL)

    def stop(self) -> None:
        """End it, or see that it has ended."""
        self._stack.close()

    async def restart(self) -> None:
        """Start it again; the lines go on meanwhile."""
        await anyio.to_thread.run_sync(self.stop)
        await anyio.to_thread.run_sync(self.start)


@dataclass
class Ground:
    """Where runs take place: a source that has ``images``, and a destination where each run has a prefix of its own."""

    source: Restartable
    destination: Restartable
    images: dict[str, Sample]

    @property
    def wanted(self) -> dict[str, str]:
        """All tags there should be in the end."""
        return {name: str(sample.digest) for name, sample in self.images.items()}


@contextmanager
def two_registries(directory: Path) -> Iterator[Ground]:
    """A source with a fleet, an empty destination."""
    made = Ground(Restartable(directory / "source"), Restartable(directory / "destination"), fleet())
    for name, sample in made.images.items():
        repository, _, tag = name.partition(":")
        made.source.shelf.put(repository, sample, tag)
    try:
        made.source.start()
        made.destination.start()
        yield made
    finally:
        made.destination.stop()
        made.source.stop()


class Course:
    """One ``mirror apply`` over two lines, and all that follows until nothing is left to do."""

    def __init__(self, ground: Ground, home: Path, lines: dict[str, Line], name: str) -> None:
        self.ground = ground
        self.lines = lines
        self.name = name
        self._program = program = Program(home / "home")
        self._tmp, self._cwd, self._state = home / "tmp", home / "cwd", home / "state"
        for directory in (self._tmp, self._cwd, self._state):
            directory.mkdir(parents=True, exist_ok=True)
        self.environ = {**program.environ, "TMPDIR": str(self._tmp), "PYTHONDONTWRITEBYTECODE": "1"}
        self.mirror = Mirror(program, self._state, lines["source"].address, lines["destination"].address, name)

    @asynccontextmanager
    async def begun(self, *options: str) -> AsyncIterator[Witnessed]:
        """``mirror apply``, a process; what it says is listened to."""
        command = [*self.mirror.command(), *options]
        with anyio.fail_after(_LONGEST):
            async with (
                await anyio.open_process(
                    command, env=self.environ, cwd=self._cwd, stdin=subprocess.DEVNULL, stdout=subprocess.DEVNULL
                ) as process,
                anyio.create_task_group() as tasks,
            ):
                witnessed = Witnessed(process)
                tasks.start_soon(witnessed.listen)
                yield witnessed

    async def finish(self, code: int) -> None:
        """Go on from a process that ended with ``code`` until the run is done, and see that all is well."""
        for _ in range(_ROUNDS):
            if code == 0:
                break
            ended = await self._program(*self._next()[3:], TMPDIR=str(self._tmp))
            code = ended.code
            assert code in (0, 1), ended.err
        assert code == 0, self.status
        await self.prove()
        assert self.status == "done"

    async def prove(self) -> None:
        """The destination holds everything and nothing spoiled; nothing is left behind.

        Uploads that a killed process, or a killed registry, left unfinished are in the registry's own ``_uploads``:
        nobody else can take them away, and it does after a week. They are no part of what it serves.
        """
        assert self.left_behind() == []
        verified = await self._program("mirror", "verify", str(self.mirror.spec), "--deep", TMPDIR=str(self._tmp))
        assert (verified.code, verified.out) == (0, b""), verified.err + verified.text
        shelf = self.ground.destination.shelf
        assert shelf.tags(self.name) == self.ground.wanted
        assert shelf.lacking(self.name, self.ground.images) == []
        assert shelf.spoiled() == []
        assert self.left_behind() == []

    def left_behind(self) -> list[str]:
        """Files here that nobody has use for. (To be asked before the journal is read: that leaves an empty log.)"""
        told = self._state / "failures.jsonl"  # of an earlier, unlucky round: a result, named on the command line
        expected = {self.mirror.spec, self.mirror.journal, Path(f"{self.mirror.journal}.lock"), told}
        places = (self._tmp, self._cwd, self._state, self._program.home)
        found = {path for place in places for path in place.rglob("*") if path.is_file()}
        return sorted(map(str, found - expected))

    @property
    def status(self) -> str:
        """How the last run in the journal ended."""
        number = self.mirror.run
        if number is None:
            return "none"
        with Journal.read(self.mirror.journal) as journal:
            return journal.run(number).status

    def _next(self) -> list[str]:
        """What a person does then: what failed is tried again, and what could not even be listed begun anew."""
        if self.status != "failed":
            return self.mirror.command()
        with Journal.read(self.mirror.journal) as journal:
            last = journal.run()
        if last.kind == "retry":
            return self.mirror.words("apply", str(self.mirror.spec))
        return self.mirror.words("retry-failed", str(last.id))


class Witnessed:
    """A process, and what it has said on stderr."""

    def __init__(self, process: Process) -> None:
        self.process = process
        self.said = b""
        self._news = anyio.Event()
        self._silent = False

    async def listen(self) -> None:
        """Until it says nothing more."""
        assert self.process.stderr is not None
        async for chunk in self.process.stderr:
            self.said += chunk
            self._tell()
        self._silent = True
        self._tell()

    def _tell(self) -> None:
        self._news.set()
        self._news = anyio.Event()

    async def noticed(self, times: int) -> None:
        """Until it has said so often, from now on, that it tries something again; or says nothing more."""
        start = len(self.said)
        while not self._silent and len(_AGAIN.findall(self.said[start:])) < times:
            await self._news.wait()

    async def struck(self, event: anyio.Event) -> None:
        """Until the event, or the process's end."""
        async with anyio.create_task_group() as tasks:

            async def end() -> None:
                await self.noticed(1 << 30)
                tasks.cancel_scope.cancel()

            tasks.start_soon(end)
            await event.wait()
            tasks.cancel_scope.cancel()

    async def ended(self) -> int:
        """Its exit code, when it has one."""
        code = await self.process.wait()
        while not self._silent:
            await self._news.wait()
        return code

    @property
    def words(self) -> str:
        """Everything it said."""
        return self.said.decode(errors="replace")


@asynccontextmanager
async def course(ground: Ground, home: Path, name: str) -> AsyncIterator[Course]:
    """A run with lines of its own."""
    async with laid(ground.source.address) as source, laid(ground.destination.address) as destination:
        lines = {"source": source, "destination": destination}
        yield Course(ground, home / name, lines, name)


def moments(seed: str, most: int) -> list[int]:
    """The same ones every time, each in another part of the run, none at its very end: that may come a step sooner."""
    dice = random.Random(seed)
    width = most * 0.95 / MOMENTS
    return [1 + int(width * number) + dice.randrange(int(width)) for number in range(MOMENTS)]


def cells(fault: str, operation: str, kind: str = "") -> list[pytest.MarkDecorator]:
    """What a test proves that strikes at every moment, for the table of faults."""
    return [pytest.mark.cell(fault, operation, f"{kind} {number}".strip()) for number in range(MOMENTS)]


def marked(fault: str, operation: str, kind: str = "") -> Callable[[Test], Test]:
    """The same for a test that is not parametrized."""

    def mark(test: Test) -> Test:
        for cell in cells(fault, operation, kind):
            test = cell(test)
        return test

    return mark
