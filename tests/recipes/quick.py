"""``asyncrane`` on PATH without the half second that Python needs to load it: a process that has everything loaded
forks for each call. The fork has the caller's words, environment, directory and open files (pipes of ``<(...)`` too),
and runs the program's own :func:`main`.

As a program (``python -m tests.recipes.quick SOCKET``) it serves; what :func:`installed` writes is the caller.
"""

from __future__ import annotations

import contextlib
import json
import os
import signal
import socket
import subprocess
import sys
from collections.abc import Iterator
from importlib import import_module
from pathlib import Path

import asyncrane
from asyncrane.cli.app import COMMANDS, main
from asyncrane.cli.lazy import Entry

_CALLER = """\
#!{python} -IS
import json, os, socket, sys
def is_open(number):
    try:
        os.fstat(number)
    except OSError:
        return False
    return True
files = [number for number in range(256) if is_open(number)]
call = json.dumps([sys.argv[1:], dict(os.environ), os.getcwd(), files]).encode()
line = socket.socket(socket.AF_UNIX)
line.connect({socket!r})
socket.send_fds(line, [len(call).to_bytes(4, "big")], files)
line.sendall(call)
answer = line.recv(1)
sys.exit(answer[0] if answer else "asyncrane ended without a word")
"""


@contextlib.contextmanager
def installed(directory: Path) -> Iterator[Path]:
    """A directory for PATH that has a quick ``asyncrane`` in it."""
    home, address = directory / "bin", directory / "socket"
    home.mkdir()
    caller = home / "asyncrane"
    caller.write_text(_CALLER.format(python=sys.executable, socket=str(address)))
    caller.chmod(0o755)
    command = [sys.executable, "-m", "tests.recipes.quick", str(address)]
    with subprocess.Popen(command, cwd=Path(__file__).parent.parent.parent, stdout=subprocess.PIPE) as server:
        try:
            assert server.stdout is not None
            assert server.stdout.readline() == b"ready\n"
            yield home
        finally:
            server.terminate()


def _serve(address: str) -> None:
    with contextlib.suppress(ImportError):
        import_module("uvloop")
    for command in COMMANDS:
        for entry in (command,) if isinstance(command, Entry) else command.entries:
            import_module(f"asyncrane.cli.{entry.home.partition(':')[0]}")
    for name in dir(asyncrane):
        getattr(asyncrane, name)
    signal.signal(signal.SIGCHLD, signal.SIG_IGN)  # nobody waits for them
    with socket.socket(socket.AF_UNIX) as listening:
        listening.bind(address)
        listening.listen(16)
        print("ready", flush=True)  # noqa: T201
        while True:
            line, _ = listening.accept()
            with line:
                if os.fork() == 0:
                    listening.close()
                    _carry_out(line)


def _carry_out(line: socket.socket) -> None:
    """Be the caller, until the program ends."""
    code = 1
    try:
        head, got, *_ = socket.recv_fds(line, 4, 253)
        call = b""
        while len(call) < int.from_bytes(head, "big"):
            call += line.recv(1 << 16)
        arguments, environ, directory, numbers = json.loads(call)
        answer = socket.socket(fileno=os.dup2(line.fileno(), 300))
        line.close()
        _take_over(got, numbers)
        signal.signal(signal.SIGCHLD, signal.SIG_DFL)
        os.environ.clear()
        os.environ.update(environ)
        os.chdir(directory)
        code = main(arguments)
        sys.stdout.flush()
        answer.send(bytes([code]))
    finally:
        os._exit(code)


def _take_over(got: list[int], numbers: list[int]) -> None:
    """Give the files their numbers, by way of numbers that none of them has."""
    high = [os.dup2(number, 400 + at) for at, number in enumerate(got)]
    os.closerange(3, 300)
    for file, number in zip(high, numbers, strict=True):
        os.dup2(file, number)
        os.close(file)


if __name__ == "__main__":
    _serve(sys.argv[1])
