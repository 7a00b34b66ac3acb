"""``mirror apply`` as a process that may be ended before it is done, with a file and a journal of its own."""

from __future__ import annotations

import subprocess
import time
from pathlib import Path
from typing import NamedTuple

import anyio

from asyncrane import Journal
from asyncrane.errors import JournalError
from tests.cli.conftest import Program


class Life(NamedTuple):
    """How one process ended, and how long it took in seconds."""

    code: int
    err: str
    seconds: float


class Mirror:
    """A mirror file and its journal; each has a prefix of its own at the destination."""

    def __init__(self, program: Program, home: Path, source: str, destination: str, name: str) -> None:
        self._program = program
        self._home = home
        self.name = name
        self.spec = home / f"{name}.yml"
        self.journal = home / f"{name}.db"
        self.spec.write_text(
            f"version: 1\nmirrors:\n  - from: {source}/team/**\n    to: [{destination}/{name}/{{path}}]\n"
        )

    def command(self) -> list[str]:
        """What a person does next: begin, or go on."""
        words = ["resume"] if self.run is not None else ["apply", str(self.spec)]
        return self.words(*words)

    def words(self, *words: str) -> list[str]:
        """A mirror command with this journal, and failures in a file beside it."""
        options = ("--journal", str(self.journal), "--failures", str(self._home / "failures.jsonl"))
        return self._program.command("mirror", *words, *options, "--progress", "none", "--output", "json")

    @property
    def run(self) -> int | None:
        """The run that the journal has, if any."""
        try:
            with Journal.read(self.journal) as journal:
                return journal.run().id
        except JournalError:
            return None

    def outcomes(self) -> list[str]:
        """What the journal has of each job: done, or open."""
        if self.run is None:
            return []
        with Journal.read(self.journal) as journal:
            return ["open" if record.outcome is None else "done" for record in journal.jobs(1)]

    async def live(self, seconds: float) -> Life:
        """Go on for so long at most."""
        started = time.monotonic()
        with anyio.fail_after(120):
            async with await anyio.open_process(
                self.command(), env=self._program.environ, stdin=subprocess.DEVNULL, stdout=subprocess.DEVNULL
            ) as process:
                with anyio.move_on_after(seconds):
                    await process.wait()
                if process.returncode is None:
                    process.kill()
                assert process.stderr is not None
                err = b"".join([chunk async for chunk in process.stderr])
                return Life(await process.wait(), err.decode(), time.monotonic() - started)
