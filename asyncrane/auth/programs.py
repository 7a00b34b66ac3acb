"""Other people's programs: told something, listened to, and gone with all they started when their time is up."""

from __future__ import annotations

import contextlib
import os
import signal
from collections.abc import Mapping
from io import BytesIO
from subprocess import PIPE

import anyio
from anyio.abc import ByteReceiveStream, Process

from asyncrane.auth.credentials import Secretive


class Ended(Secretive, frozen=True):
    """How a program ended, and what it printed, which may be a secret."""

    status: int
    stdout: bytes
    stderr: bytes


async def run(*command: str, order: bytes = b"", environ: Mapping[str, str], limit: float) -> Ended | None:
    """Run ``command`` with ``order`` on its stdin; ``None`` when it took more than ``limit`` seconds and was killed.

    :raises OSError: when it cannot be started
    """
    # A session of its own: when its time is up, what it started goes with it.
    process = await anyio.open_process(
        command, stdin=PIPE, stdout=PIPE, stderr=PIPE, env=environ, start_new_session=True
    )
    ended: Ended | None = None
    try:
        with anyio.move_on_after(limit):
            ended = await _converse(process, order)
    finally:
        if ended is None:
            _kill(process)
        with anyio.CancelScope(shield=True):
            await process.aclose()
    return ended


async def _converse(process: Process, order: bytes) -> Ended:
    stdout, stderr = BytesIO(), BytesIO()

    async def drain(stream: ByteReceiveStream | None, into: BytesIO) -> None:
        if stream:
            async for chunk in stream:
                into.write(chunk)

    async with anyio.create_task_group() as tasks:
        tasks.start_soon(drain, process.stdout, stdout)
        tasks.start_soon(drain, process.stderr, stderr)
        if process.stdin:
            with contextlib.suppress(anyio.BrokenResourceError, BrokenPipeError, ConnectionResetError):
                await process.stdin.send(order)  # some read nothing
            await process.stdin.aclose()
        status = await process.wait()
    return Ended(status, stdout.getvalue(), stderr.getvalue())


def _kill(process: Process) -> None:
    if hasattr(os, "killpg"):
        with contextlib.suppress(ProcessLookupError, PermissionError):
            os.killpg(process.pid, signal.SIGKILL)
    elif process.returncode is None:
        process.kill()
