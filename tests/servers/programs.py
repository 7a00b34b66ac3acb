"""Registries that are Go programs: distribution 3, where ``.ci/run`` or somebody else installed it, and crane's own."""

from __future__ import annotations

import os
import re
import shutil
import subprocess
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from queue import Queue
from threading import Thread
from typing import IO

import pytest

from tests.peers import require

_SERVING = re.compile(rb"serving on port (\d+)")


def distribution() -> Path:
    """The program of distribution 3; without it the test is skipped."""
    cache = Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "asyncrane"
    installed = sorted(cache.glob("distribution-v3.*/registry"))
    found = shutil.which("registry")  # a name that others may have as well
    if found and "distribution/v3" in _version(found):
        installed.append(Path(found))
    if not installed:
        pytest.skip("distribution 3 is not installed (go install github.com/distribution/distribution/v3/cmd/registry)")
    return installed[-1]


def _version(program: str) -> str:
    said = subprocess.run([program, "--version"], capture_output=True, text=True, timeout=20, check=False)
    return said.stdout


@contextmanager
def crane_registry(directory: Path) -> Iterator[str]:
    """``crane registry serve`` over ``directory``; its address."""
    crane = require("crane")
    directory.mkdir(parents=True, exist_ok=True)
    command = [str(crane), "registry", "serve", "--address", "127.0.0.1:0", "--disk", str(directory)]
    with subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.PIPE) as run:
        assert run.stderr is not None
        told: Queue[bytes] = Queue()
        reader = Thread(target=_follow, args=(run.stderr, told))
        reader.start()
        try:
            said = told.get(timeout=20)
            serving = _SERVING.search(said)
            assert serving, f"crane ended before it listened: {said.decode(errors='replace')}"
            yield f"127.0.0.1:{int(serving[1])}"
        finally:
            run.terminate()
            run.wait(10)
            reader.join(10)


def _follow(stream: IO[bytes], told: Queue[bytes]) -> None:
    """Read what it says to the end, so that it never blocks; the line with its port is passed on."""
    said = b""
    for line in stream:
        said = line
        if _SERVING.search(line):
            told.put(line)
    told.put(said)
