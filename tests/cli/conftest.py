"""The program as users run it: a process with a home of its own, and registries on loopback."""

from __future__ import annotations

import gc
import io
import os
import signal
import subprocess
import sys
from collections.abc import AsyncIterator, Awaitable, Callable
from dataclasses import dataclass
from pathlib import Path

import anyio
import anyio.to_thread
import pytest

from asyncrane.cli.app import main
from asyncrane.testing.images import Sample
from asyncrane.testing.registry import FaultyRegistry

LIMIT = 60


@dataclass(frozen=True)
class Ended:
    """How a run ended."""

    code: int
    out: bytes
    err: str

    @property
    def text(self) -> str:
        """What it printed."""
        return self.out.decode()

    @property
    def error(self) -> str:
        """The one line it complained with."""
        lines = self.err.splitlines()
        assert len(lines) == 1, self.err
        assert lines[0].startswith("asyncrane: error: "), self.err
        return lines[0]


class Program:
    """Runs ``asyncrane`` with an empty home."""

    def __init__(self, home: Path) -> None:
        self.home = home
        self.environ = {
            "PATH": os.environ["PATH"],
            "HOME": str(home),
            "DOCKER_CONFIG": str(home / ".docker"),
            "COLUMNS": "100",
            "NO_COLOR": "1",
        }

    def command(self, *arguments: str) -> list[str]:
        """How it is started."""
        return [sys.executable, "-m", "asyncrane", *arguments]

    async def __call__(self, *arguments: str, stdin: str = "", **environ: str) -> Ended:
        """Run it to its end, in a thread of this process: a process of its own takes ten times as long."""
        with anyio.fail_after(LIMIT):
            return await anyio.to_thread.run_sync(
                here, arguments, {**self.environ, **environ}, stdin, abandon_on_cancel=True
            )

    async def process(self, *arguments: str, stdin: str = "", **environ: str) -> Ended:
        """Run it to its end as users do."""
        return await run(self.command(*arguments), {**self.environ, **environ}, stdin)


def here(arguments: tuple[str, ...], environ: dict[str, str], stdin: str) -> Ended:
    """Run the command line in this thread, with an environment and standard streams of its own."""
    out, err = io.BytesIO(), io.StringIO()
    streams = {
        "stdin": io.TextIOWrapper(io.BytesIO(stdin.encode())),
        "stdout": io.TextIOWrapper(out, write_through=True),
        "stderr": err,
    }
    thresholds = gc.get_threshold()
    with pytest.MonkeyPatch.context() as patch:
        for name in list(os.environ):
            patch.delenv(name)
        for name, value in environ.items():
            patch.setenv(name, value)
        for name, stream in streams.items():
            patch.setattr(sys, name, stream)
        try:
            code = main(arguments)
        finally:
            gc.unfreeze()
            gc.set_threshold(*thresholds)
    return Ended(code, out.getvalue(), err.getvalue())


async def run(command: list[str], environ: dict[str, str], stdin: str = "") -> Ended:
    """Run a command to its end."""
    with anyio.fail_after(LIMIT):
        ended = await anyio.run_process(command, input=stdin.encode(), env=environ, check=False)
    return Ended(ended.returncode, ended.stdout, ended.stderr.decode())


async def stopped_by(
    command: list[str], environ: dict[str, str], number: signal.Signals, when: Callable[[], Awaitable[None]]
) -> Ended:
    """Run a command, send it a signal when ``when`` returns, and see how it ends."""
    with anyio.fail_after(LIMIT):
        async with await anyio.open_process(command, env=environ, stdin=subprocess.DEVNULL) as process:
            assert process.stdout is not None
            assert process.stderr is not None
            await when()
            process.send_signal(number)
            err = b"".join([chunk async for chunk in process.stderr])
            out = b"".join([chunk async for chunk in process.stdout])
            return Ended(await process.wait(), out, err.decode())


def fill(registry: FaultyRegistry, repository: str, sample: Sample, *tags: str) -> str:
    """Store ``sample`` without a request; returns the image's name with the first tag."""
    for content in sample.blobs.values():
        registry.put_blob(repository, content)
    for manifest in sample.manifests:
        registry.put_manifest(repository, manifest)
    registry.put_manifest(repository, sample.manifest, *tags)
    return f"{registry.address}/{repository}:{tags[0]}"


@pytest.fixture
def program(tmp_path: Path) -> Program:
    return Program(tmp_path / "home")


@pytest.fixture
async def other() -> AsyncIterator[FaultyRegistry]:
    async with FaultyRegistry() as started:
        yield started
