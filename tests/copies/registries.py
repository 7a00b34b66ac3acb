"""Debian's ``docker-registry`` (CNCF distribution 2.8) as a process of the test's own, on a free loopback port."""

from __future__ import annotations

import re
import subprocess
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from queue import Queue
from threading import Thread
from typing import IO

import trustme

from tests.peers import require

USER, PASSWORD = "mover", "correct-horse"

_LISTENING = re.compile(r"listening on (\S+?:\d+)")


@dataclass(frozen=True)
class RealRegistry:
    """A registry that listens. ``log`` is everything it has written, its access log included."""

    address: str
    ca: Path | None
    log: Path
    pid: int = 0

    def requests(self, method: str, part: str = "") -> list[str]:
        """The request lines of the access log with ``method`` and ``part`` of a path."""
        lines = re.findall(r'"((?:GET|HEAD|POST|PUT|PATCH|DELETE) \S+) HTTP/', self.log.read_text())
        return [line for line in lines if line.startswith(f"{method} ") and part in line]


@contextmanager
def docker_registry(
    directory: Path,
    *,
    tls: bool = False,
    password: bool = False,
    address: str = "127.0.0.1:0",
    program: Path | None = None,
) -> Iterator[RealRegistry]:
    """Start one over ``directory``, with deletes enabled, and end it; ``program`` may be another version of it."""
    program = program or require("docker-registry", package="docker-registry")
    directory.mkdir(parents=True, exist_ok=True)
    lines = [
        "version: 0.1",
        "log: {level: info}",
        "compatibility: {schema1: {enabled: true}}",
        f"storage: {{filesystem: {{rootdirectory: {directory / 'data'}}}, delete: {{enabled: true}}}}",
    ]
    if password:
        htpasswd = require("htpasswd", package="apache2-utils")
        made = subprocess.run([htpasswd, "-nbB", USER, PASSWORD], capture_output=True, text=True, check=True)
        (directory / "htpasswd").write_text(made.stdout.strip() + "\n")
        lines.append(f"auth: {{htpasswd: {{realm: tests, path: {directory / 'htpasswd'}}}}}")
    lines.append(f"http:\n  addr: {address}\n  secret: tests")
    ca: Path | None = None
    if tls:
        ca = _certificates(directory)
        lines.append(f"  tls: {{certificate: {directory / 'cert.pem'}, key: {directory / 'key.pem'}}}")
    config = directory / "config.yml"
    config.write_text("\n".join(lines) + "\n")
    log = directory / "log"
    with log.open("wb") as out, subprocess.Popen([program, "serve", config], stdout=out, stderr=subprocess.PIPE) as run:
        assert run.stderr is not None
        listening: Queue[str] = Queue()
        reader = Thread(target=_follow, args=(run.stderr, listening))
        reader.start()
        try:
            yield RealRegistry(_address(listening), ca, log, run.pid)
        finally:
            run.terminate()
            run.wait(10)
            reader.join(10)


def _follow(stream: IO[bytes], listening: Queue[str]) -> None:
    """Read what the registry says to the end, so that it never blocks; the line with its address is passed on."""
    said = []
    for line in stream:
        said.append(line.decode(errors="replace"))
        if "listening on" in said[-1]:
            listening.put(said[-1])
    listening.put("".join(said[-20:]))


def _address(listening: Queue[str]) -> str:
    said = listening.get(timeout=20)
    found = _LISTENING.search(said)
    assert found, f"docker-registry ended before it listened: {said}"
    return found.group(1)


def _certificates(directory: Path) -> Path:
    authority = trustme.CA()
    issued = authority.issue_cert("127.0.0.1", "localhost")
    authority.cert_pem.write_to_path(str(directory / "ca.pem"))
    (directory / "cert.pem").write_bytes(b"".join(pem.bytes() for pem in issued.cert_chain_pems))
    issued.private_key_pem.write_to_path(str(directory / "key.pem"))
    return directory / "ca.pem"
