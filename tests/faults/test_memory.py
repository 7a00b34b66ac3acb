"""Memory of runs that are larger than any test machine: very large layers, very many jobs.

Only with ``ASYNCRANE_FAULTS=all``: it takes minutes. ``tests/promises/test_footprint.py`` has four layers of 128 MiB.
"""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path

import anyio
import msgspec
import pytest
from anyio.streams.buffered import BufferedByteReceiveStream

from benchmarks.measure import measure
from benchmarks.runners import Work
from tests.cli.conftest import Program
from tests.faults.endless import Tally
from tests.faults.ground import ALL
from tests.faults.submitting import Submitted

MIB = 1 << 20
STREAMS = 16
LAYER = 2048 * MIB
JOBS = int(os.environ.get("ASYNCRANE_JOBS", "100000"))
HOURS = 3600.0
HERE = Path(__file__).parents[2]

pytestmark = pytest.mark.skipif(not ALL, reason="takes minutes: ASYNCRANE_FAULTS=all")


class Endless:
    """A running server of :mod:`tests.faults.endless`. ``tally`` is there when it has ended."""

    def __init__(self, address: str) -> None:
        self.address = address
        self.tally = Tally()


@asynccontextmanager
async def endless(size: int) -> AsyncIterator[Endless]:
    command = [sys.executable, "-m", "tests.faults.endless", str(size)]
    async with await anyio.open_process(command, cwd=HERE, stderr=None) as process:
        assert process.stdin is not None
        assert process.stdout is not None
        said = BufferedByteReceiveStream(process.stdout)
        server = Endless((await said.receive_until(b"\n", 100)).decode())
        yield server
        await process.stdin.aclose()
        server.tally = msgspec.json.decode(await said.receive_until(b"\n", 10_000), type=Tally)


async def test_16_streams_of_2_gib_take_150_mib(tmp_path: Path) -> None:
    """D8: ``cp`` reads sixteen layers of 2 GiB at the same time, checks every byte, and sends them on."""
    program = Program(tmp_path / "home")
    async with endless(LAYER) as source, endless(LAYER) as sink:
        pairs = tmp_path / "pairs"
        pairs.write_text(
            "".join(f"{source.address}/from/vast:{n} {sink.address}/to/vast:{n}\n" for n in range(STREAMS))
        )
        command = program.command("cp", "--from-file", str(pairs), "-j", str(STREAMS), "--progress", "none")
        cost = await measure(
            Work((tuple(command),)),
            log=tmp_path / "log",
            env={**program.environ, "PYTHONPATH": str(HERE)},
            timeout=HOURS,
        )
    sys.stderr.write(f"{cost}\n")
    assert (source.tally.reading, sink.tally.writing) == (STREAMS, STREAMS)
    assert sink.tally.received >= STREAMS * LAYER
    assert sink.tally.tags == STREAMS
    assert cost.rss <= 150


async def test_100_000_jobs_at_once_take_500_mib(tmp_path: Path) -> None:
    """D8: a hundred thousand copies submitted in one call, each of an image of its own."""
    async with endless(MIB) as source, endless(MIB) as sink:
        command = [sys.executable, "-m", "tests.faults.submitting", source.address, sink.address, str(JOBS)]
        with anyio.fail_after(HOURS):
            ended = await anyio.run_process(command, cwd=HERE, stdin=subprocess.DEVNULL, stderr=None)
    done = msgspec.json.decode(ended.stdout, type=Submitted)
    sys.stderr.write(f"{done}\n")
    assert done.copied == JOBS
    assert sink.tally.tags == JOBS
    assert done.peak <= 500 * MIB
