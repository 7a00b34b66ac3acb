"""``python -m benchmarks.ranges``: one large blob from a registry that gives each connection so many bytes a second.

Two ``docker-registry`` processes, the source behind a line that is limited per connection (:mod:`benchmarks.proxy`).
The image is copied through one connection, then through as many as asyncrane thinks right, a few times in turn, each
time to an empty destination, and checked there. Where crane is installed, it copies the same once a round.
"""

from __future__ import annotations

import argparse
import subprocess
import tempfile
import time
from pathlib import Path
from statistics import median
from typing import TYPE_CHECKING

import anyio

from asyncrane import Session, copy

from .accesslog import read
from .client import connected
from .fill import Filled, fill, verify
from .proxy import lines
from .registries import Registry, serving
from .runners import RUNNERS, environment
from .scenarios import Dataset, Image, Layer

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable, Sequence
    from typing import TypeAlias

    Copies: TypeAlias = Callable[[str, str], Awaitable[None]]

REPOSITORY = "large"
ONE, SEVERAL, CRANE = "one connection", "asyncrane", "crane"


async def _asyncrane(source: str, destination: str, parts: int | None) -> None:
    async with Session(insecure=True) as session:
        if parts is not None:
            session.origin(source.partition("/")[0]).capabilities.parts = parts
        outcome = await copy(session, source, destination)
        if outcome.failure is not None:
            raise SystemExit(f"the copy failed: {outcome.failure.message}")


async def _crane(program: str, home: Path, source: str, destination: str) -> None:
    command = [program, "cp", "--insecure", source, destination]
    await anyio.run_process(command, env=environment(home), stdout=subprocess.DEVNULL)


async def _timed(source: Registry, near: str, home: Path, filled: Filled, copies: Copies) -> tuple[float, int, float]:
    """Seconds, requests for blobs, and how many times the source sent their bytes."""
    async with serving(home / "storage", home=home) as target:
        mark = source.logged()
        began = time.perf_counter()
        await copies(f"{near}/{REPOSITORY}:v1", f"{target.address}/{REPOSITORY}:v1")
        took = time.perf_counter() - began
        async with connected(target.url) as client:
            await verify(client, filled)
    logged = read(source.log, start=mark) if source.log is not None else []
    asked = [one.size for one in logged if one.method == "GET" and one.kind == "blob"]
    return took, len(asked), sum(asked) / filled.bytes


async def _bench(options: argparse.Namespace, workdir: Path) -> None:
    size, rate = options.size << 20, options.rate * 1e6
    image = Image(REPOSITORY, "v1", (Layer(1, size),))
    storage = workdir / "source"
    async with serving(storage, home=workdir / "building") as registry, connected(registry.url) as client:
        filled = await fill(client, Dataset(REPOSITORY, (image,)))
    crane = next((runner.path() for runner in RUNNERS if runner.name == CRANE), None)
    runners: dict[str, Copies] = {
        ONE: lambda source, destination: _asyncrane(source, destination, 1),
        SEVERAL: lambda source, destination: _asyncrane(source, destination, None),
    }
    if crane is not None:
        runners[CRANE] = lambda source, destination: _crane(crane, workdir, source, destination)
    times: dict[str, list[float]] = {name: [] for name in runners}
    async with serving(storage, home=workdir / "serving") as source, lines([source.address], options.rtt, rate) as line:
        for number in range(options.rounds):
            for name, copies in runners.items():
                home = workdir / f"{number}-{name.replace(' ', '-')}"
                took, requests, share = await _timed(source, line.addresses[0], home, filled, copies)
                times[name].append(took)
                print(f"{name:15} {took:7.2f} s {requests:4} requests, {share:.3f} times the bytes", flush=True)
    print(f"a blob of {options.size} MiB, {options.rate:g} MB/s a connection, {options.rtt * 1000:g} ms round trip")
    for name in runners:
        print(f"{name:15} {median(times[name]):7.2f} s, {median(times[ONE]) / median(times[name]):5.2f} times as fast")


def main(words: Sequence[str] | None = None) -> None:
    """Measure and print both times and their ratio."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.ranges", description=__doc__)
    parser.add_argument("--size", type=int, default=256, help="of the blob, MiB")
    parser.add_argument("--rate", type=float, default=20.0, help="of one connection, MB/s")
    parser.add_argument("--rtt", type=float, default=0.0, help="round trip, seconds")
    parser.add_argument("--rounds", type=int, default=3)
    options = parser.parse_args(words)
    with tempfile.TemporaryDirectory(prefix="asyncrane-bench-") as directory:
        anyio.run(_bench, options, Path(directory))


if __name__ == "__main__":
    main()
