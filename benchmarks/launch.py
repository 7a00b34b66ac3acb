"""Starts commands, waits for them and says what each cost. Run as a file, by an interpreter with nothing in it.

It is a program of its own because a child's peak memory begins with what its parent had when it was started (the
kernel carries the high-water mark over ``exec``): under the harness every client would seem to be as large as the
harness. It reads ``{"commands": [[...]], "parallel": bool, "log": path}`` from stdin and answers on stdout.
"""

from __future__ import annotations

import json
import os
import sys
import time

_UNIT = 1024 if sys.platform != "darwin" else 1  # of ru_maxrss, in bytes


def start(command: list[str], log: str) -> int:
    """Start one command, its output at the end of ``log``; the answer is its process id."""
    append = os.O_WRONLY | os.O_CREAT | os.O_APPEND
    return os.posix_spawnp(
        command[0],
        command,
        os.environ,
        file_actions=[
            (os.POSIX_SPAWN_OPEN, 0, os.devnull, os.O_RDONLY, 0),
            (os.POSIX_SPAWN_OPEN, 1, log, append, 0o644),
            (os.POSIX_SPAWN_DUP2, 1, 2),
        ],
    )


def finish(pid: int) -> dict[str, float]:
    """Wait for a process (any, for -1) and what it waited for."""
    _, status, usage = os.wait4(pid, 0)
    return {
        "status": os.waitstatus_to_exitcode(status),
        "user": usage.ru_utime,
        "system": usage.ru_stime,
        "rss": usage.ru_maxrss * _UNIT,
    }


def main() -> None:
    """One order in, one answer out."""
    order = json.load(sys.stdin)
    commands, log = order["commands"], order["log"]
    ended: list[dict[str, float]] = []
    began = time.perf_counter()
    if order["parallel"]:
        for command in commands:
            start(command, log)
        ended.extend(finish(-1) for _ in commands)
    else:
        for command in commands:
            ended.append(finish(start(command, log)))
            if ended[-1]["status"]:
                break
    json.dump({"wall": time.perf_counter() - began, "processes": ended}, sys.stdout)


if __name__ == "__main__":
    main()
