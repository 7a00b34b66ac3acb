"""Processes of other programs: started in a group of their own, and never left behind."""

from __future__ import annotations

import os
import signal
import subprocess
from contextlib import asynccontextmanager
from pathlib import Path
from typing import TYPE_CHECKING

import anyio

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Mapping, Sequence
    from typing import IO

    from anyio.abc import Process

GRACE = 5.0  # seconds between asking and insisting


@asynccontextmanager
async def started(
    command: Sequence[str],
    *,
    stdin: IO[bytes] | int = subprocess.DEVNULL,
    stdout: IO[bytes] | int = subprocess.DEVNULL,
    stderr: IO[bytes] | int | None = subprocess.DEVNULL,
    env: Mapping[str, str] | None = None,
) -> AsyncIterator[Process]:
    """A running process; whatever ends the block ends it, and everything it started."""
    process = await anyio.open_process(
        command, stdin=stdin, stdout=stdout, stderr=stderr, env=env, start_new_session=True
    )
    try:
        yield process
    finally:
        with anyio.CancelScope(shield=True):
            await _stop(process)


async def _stop(process: Process) -> None:
    if process.returncode is None:
        os.killpg(process.pid, signal.SIGTERM)
        with anyio.move_on_after(GRACE):
            await process.wait()
        if process.returncode is None:
            os.killpg(process.pid, signal.SIGKILL)
    await process.aclose()


def cpu_seconds(pid: int) -> float:
    """User and system time a running process has used so far (Linux; 0.0 where that cannot be read)."""
    try:
        # the name in the second field may hold anything, so count from its closing bracket
        fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
    except OSError:
        return 0.0
    return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")
