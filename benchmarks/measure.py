"""What a runner costs, seen from outside: seconds, CPU seconds of its processes, and their peak memory."""

from __future__ import annotations

import json
import subprocess
import sys
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

import anyio
import msgspec

from .processes import started

if TYPE_CHECKING:
    from collections.abc import Mapping

    from anyio.abc import Process

    from .runners import Work

LAUNCHER = Path(__file__).with_name("launch.py")
MIB = 1 << 20


class Failed(Exception):
    """A runner did not do its work; the message is the end of what it printed."""


class _Process(msgspec.Struct, frozen=True):
    status: int
    user: float
    system: float
    rss: float


class _Answer(msgspec.Struct, frozen=True):
    wall: float
    processes: list[_Process]


@dataclass(frozen=True)
class Cost:
    """Seconds on the clock, CPU seconds of all processes, and peak memory in MiB: the largest process, and the sum."""

    wall: float
    user: float
    system: float
    rss: float
    rss_sum: float


async def measure(work: Work, *, log: Path, env: Mapping[str, str], timeout: float) -> Cost:
    """Do the work of one run; its output is appended to ``log``. The sum of memory is of processes side by side.

    :raises Failed: a command ended with an error, or ``timeout`` seconds passed.
    """
    order = json.dumps({"commands": work.commands, "parallel": work.parallel, "log": str(log)}).encode()
    command = [sys.executable, "-I", "-S", str(LAUNCHER)]
    try:
        with anyio.fail_after(timeout):
            async with started(
                command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, env=env
            ) as launcher:
                answer = await _talk(launcher, order)
    except TimeoutError:
        raise Failed(f"not done after {timeout:.0f} s") from None
    worst = max((process.status for process in answer.processes), key=abs)
    if worst:
        raise Failed(f"exit code {worst}: {_tail(log)}")
    sizes = [process.rss / MIB for process in answer.processes]
    return Cost(
        wall=answer.wall,
        user=sum(process.user for process in answer.processes),
        system=sum(process.system for process in answer.processes),
        rss=max(sizes),
        rss_sum=sum(sizes) if work.parallel else max(sizes),
    )


async def _talk(launcher: Process, order: bytes) -> _Answer:
    if launcher.stdin is None or launcher.stdout is None:
        raise AssertionError("the launcher was started with pipes")
    await launcher.stdin.send(order)
    await launcher.stdin.aclose()
    said = b"".join([piece async for piece in launcher.stdout])
    await launcher.wait()
    return msgspec.json.decode(said, type=_Answer)


def _tail(log: Path) -> str:
    lines = log.read_text(errors="replace").splitlines() if log.exists() else []
    return lines[-1][-300:] if lines else "it printed nothing"
