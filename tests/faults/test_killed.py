"""``mirror apply`` between two real registries, sent a signal at any moment: nothing is lost, nothing is left behind.
Images pulled into files and killed: what was left is taken away.

``ASYNCRANE_FAULTS=all`` has 20 moments for each signal, otherwise 1.
"""

from __future__ import annotations

import signal
from collections.abc import Iterator
from functools import partial
from pathlib import Path

import anyio
import pytest

from tests.cli.conftest import LIMIT, Program
from tests.faults.ground import ALL, STEPS, Ground, cells, course, moments, two_registries
from tests.faults.line import laid

KINDS: dict[str, tuple[str, ...]] = {"tarball": ("pull", "{image}", "{out}/a.tar")}
"""What leaves files behind when it is killed: they are large, and have names that nobody knows."""

if ALL:
    KINDS |= {
        "layout": ("pull", "--format", "oci", "{image}", "{out}/layout"),
        "oci-archive": ("cp", "{image}", "oci-archive:{out}/a.tar:v1"),
        "cache": ("pull", "--cache_path", "{out}/cache", "{image}", "{out}/a.tar"),
    }

PULLED = 45  # steps in which the image is pulled
AT_ONCE = 4  # files that one pull of it writes at once

CODES = {"kill -9": -signal.SIGKILL, "SIGTERM": 143, "SIGINT": 130}


@pytest.fixture(scope="module")
def ground(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Ground]:
    with two_registries(tmp_path_factory.mktemp("ground")) as made:
        yield made


@pytest.mark.parametrize("name", [pytest.param(name, marks=cells(name, "mirror apply")) for name in CODES])
async def test_a_signal_at_any_moment_and_the_run_resumed(ground: Ground, tmp_path: Path, name: str) -> None:
    """Moments are counted on the line to the destination: from the first request there to the last manifest."""
    number = signal.SIGKILL if name == "kill -9" else signal.Signals[name]
    for at in moments(name, STEPS["destination"]):
        async with course(ground, tmp_path, f"{number.name.lower()}-{at}") as run:
            async with run.begun() as witnessed:
                with run.lines["destination"].at(at, partial(witnessed.process.send_signal, number)) as struck:
                    code = await witnessed.ended()
            assert struck.is_set(), run.name
            assert code == CODES[name], f"{run.name}: {witnessed.words[-2000:]}"
            await run.finish(code)


@pytest.mark.parametrize("kind", [pytest.param(k, marks=cells("kill -9", w[0], k)) for k, w in KINDS.items()])
async def test_what_a_killed_pull_left_the_next_one_takes_away(ground: Ground, tmp_path: Path, kind: str) -> None:
    """Killed as often as there are moments, into the same directory each time; then it is done, and nothing is left."""
    program, out = Program(tmp_path / "home"), tmp_path / "out"
    out.mkdir()
    left = 0
    async with laid(ground.source.address) as line:
        places = {"image": f"{line.address}/team/large:v1", "out": out}
        words = [word.format(**places) for word in KINDS[kind]]
        for at in moments(kind, PULLED):
            async with await anyio.open_process(program.command(*words), env=program.environ) as process:
                with line.at(at, process.kill) as struck, anyio.fail_after(LIMIT):
                    assert await process.wait() == -signal.SIGKILL, at
            assert struck.is_set()
            left += len(unfinished(out))
            assert len(unfinished(out)) <= AT_ONCE, at
        done = await program(*words)
    assert done.code == 0, done.err
    assert left > 0
    assert unfinished(out) == []


def unfinished(directory: Path) -> list[str]:
    """Files with names of those that are being written."""
    return [str(path) for path in directory.rglob("*") if path.name.startswith(".asyncrane-")]
