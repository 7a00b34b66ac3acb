"""A file system that is soon full: a tmpfs of few bytes, in a mount namespace that only its own processes see."""

from __future__ import annotations

import os
import shutil
import subprocess
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path

import pytest

from tests.peers import require

_MOUNT = 'mount -t tmpfs -o size="$1" none "$2" && echo mounted && read -r _'


class SmallDisk:
    """``directory`` is where processes started with :meth:`command` find it."""

    def __init__(self, directory: Path, holder: int) -> None:
        self.directory = directory
        self._holder = holder
        self._outside = Path(f"/proc/{holder}/root{directory}")

    def command(self, words: Sequence[str]) -> list[str]:
        """How a program is started that sees it."""
        return ["nsenter", "--target", str(self._holder), "--mount", "--", *words]

    def grow(self) -> None:
        """Let it have room for everything."""
        words = ["mount", "-o", "remount,size=256m", str(self.directory)]
        subprocess.run(self.command(words), check=True, timeout=20)

    def files(self) -> dict[str, bytes]:
        """What is on it."""
        found = sorted(path for path in self._outside.rglob("*") if path.is_file())
        return {str(path.relative_to(self._outside)): path.read_bytes() for path in found}

    def take(self, name: str, target: Path) -> Path:
        """A copy of a file or directory on it, outside."""
        found = self._outside / name
        shutil.copytree(found, target) if found.is_dir() else shutil.copyfile(found, target)
        return target


@contextmanager
def small_disk(directory: Path, size: int) -> Iterator[SmallDisk]:
    """A disk of ``size`` bytes; where nobody may mount one the test is skipped."""
    for program in ("unshare", "nsenter"):
        require(program, package="util-linux")
    if os.geteuid() != 0:
        pytest.skip("only root may mount a small disk")
    directory.mkdir(parents=True)
    words = ["unshare", "--mount", "--propagation", "private", "sh", "-c", _MOUNT, "sh", str(size), str(directory)]
    with subprocess.Popen(words, stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.STDOUT) as holder:
        assert holder.stdin is not None
        assert holder.stdout is not None
        said = holder.stdout.readline().decode().strip()
        if said != "mounted":
            pytest.skip(f"no small disk can be mounted here: {said}")
        try:
            yield SmallDisk(directory, holder.pid)
        finally:
            holder.stdin.close()
            holder.wait(20)
