"""What a command costs is seen from outside, and is not mixed up with what the harness costs."""

from __future__ import annotations

import fcntl
import os
import sys
import time
from typing import TYPE_CHECKING

import pytest

from benchmarks.measure import Failed, measure
from benchmarks.runners import Work

if TYPE_CHECKING:
    from pathlib import Path

MIB = 1 << 20
CALM = (sys.executable, "-I", "-S", "-c", "pass")
HUNGRY = (sys.executable, "-I", "-S", "-c", f"bytearray({64 * MIB})")
BUSY = (sys.executable, "-I", "-S", "-c", "import time\nwhile time.process_time() < 0.15: pass")
PARENT = (sys.executable, "-I", "-S", "-c", f"import subprocess\nsubprocess.run({list(BUSY)!r}, check=True)")


async def test_cpu_of_the_whole_process_tree_is_counted(tmp_path: Path) -> None:
    """A client may start others; what they use is its own."""
    cost = await measure(Work((PARENT,)), log=tmp_path / "log", env=os.environ, timeout=30)
    assert cost.user + cost.system >= 0.15
    assert cost.wall > 0


async def test_peak_memory_is_the_clients_and_not_the_harness_s(tmp_path: Path) -> None:
    """A child inherits its parent's high-water mark, so the parent must be small."""
    ballast = bytearray(200 * MIB)
    calm = await measure(Work((CALM,)), log=tmp_path / "log", env=os.environ, timeout=30)
    hungry = await measure(Work((CALM, HUNGRY)), log=tmp_path / "log", env=os.environ, timeout=30)
    side_by_side = await measure(Work((CALM, CALM), parallel=True), log=tmp_path / "log", env=os.environ, timeout=30)
    assert len(ballast) == 200 * MIB
    assert calm.rss < 32
    assert 64 <= hungry.rss == hungry.rss_sum < 100
    assert side_by_side.rss < side_by_side.rss_sum < 64


async def test_a_command_that_fails_is_a_failure_with_its_last_words(tmp_path: Path) -> None:
    """The rest is not started."""
    script = "import sys; print('first'); sys.exit('no such image')"
    work = Work(((sys.executable, "-c", script), (sys.executable, "-c", "print('never')")))
    with pytest.raises(Failed, match=r"exit code 1: no such image"):
        await measure(work, log=tmp_path / "log", env=os.environ, timeout=30)
    assert "never" not in (tmp_path / "log").read_text()


async def test_a_command_that_does_not_end_is_ended(tmp_path: Path) -> None:
    """A run has a limit, and leaves nothing running."""
    marker = tmp_path / "lock"
    script = f"import fcntl, time; held = open({str(marker)!r}, 'w'); fcntl.flock(held, fcntl.LOCK_EX); time.sleep(60)"
    began = time.perf_counter()
    with pytest.raises(Failed, match="not done after"):
        await measure(Work(((sys.executable, "-c", script),)), log=tmp_path / "log", env=os.environ, timeout=1)
    with marker.open() as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)  # returns when the command is gone
    assert time.perf_counter() - began < 30
