"""The demonstration: two registries, a fleet of synthetic images in the first, all of it copied to the second.

The registries are processes of their own, as real ones are, so that what is shown is the copying.
"""

from __future__ import annotations

import subprocess
import sys
import tempfile
import time
from collections.abc import AsyncIterator, Callable, Sequence
from contextlib import AbstractAsyncContextManager, asynccontextmanager
from pathlib import Path

import anyio
import msgspec
from anyio.abc import Process
from anyio.streams.text import TextReceiveStream

from asyncrane.abc import Place, Site
from asyncrane.engine.job import Job, Target
from asyncrane.engine.outcome import Outcome, Statistics
from asyncrane.errors import AsyncraneError, NotFound, TimedOut
from asyncrane.oci.reference import Repository
from asyncrane.operations.copy import Pair, copy_all
from asyncrane.session import Session
from asyncrane.stores.random import RandomSource, fleet

MB = 1_000_000
READY = "serving on http://"
"""What ``asyncrane registry serve`` says on stderr, before its address."""

_START_LIMIT = 20.0

Watch = Callable[[str, Callable[[], Statistics]], AbstractAsyncContextManager[None]]
"""Shows progress while a stage with a title is under way."""


class Comparison(msgspec.Struct, frozen=True):
    """One tag on both sides; ``copy`` is empty where it is missing."""

    image: str
    original: str
    copy: str

    @property
    def equal(self) -> bool:
        """Whether both sides have the same."""
        return self.original == self.copy


class DemoReport(msgspec.Struct, frozen=True):
    """What the copy took and what came of it. ``seconds`` is the copy alone."""

    seconds: float
    statistics: Statistics
    outcomes: tuple[Outcome, ...]
    comparisons: tuple[Comparison, ...]

    @property
    def equal(self) -> bool:
        """Whether everything arrived as it was."""
        return bool(self.comparisons) and all(comparison.equal for comparison in self.comparisons)


async def demo(*, size: int = 200 * MB, watch: Watch) -> DemoReport:
    """Run it: about ``size`` bytes of blobs, many times that in images. Nothing is left behind.

    :raises AsyncraneError: when a registry does not start, or cannot be filled
    """
    sources = _fleet(size)
    with tempfile.TemporaryDirectory(prefix="asyncrane-demo-") as directory:
        async with _registry(Path(directory) / "a") as first, _registry(Path(directory) / "b") as second:
            async with Session() as session, watch(f"Filling {first}", session.statistics):
                await _fill(session, sources, first)
            pairs = [Pair(f"{first}/{_name(s)}", (f"{second}/{_name(s)}",)) for s in sources]
            async with Session() as session:
                started = time.monotonic()
                async with watch(f"Copying {first} to {second}", session.statistics):
                    outcomes = await copy_all(session, pairs, all_tags=True)
                seconds = time.monotonic() - started
                statistics = session.statistics()
            async with Session() as session:
                comparisons = await _compare(session, sources, first, second)
    return DemoReport(seconds, statistics, tuple(outcomes), comparisons)


def _fleet(size: int) -> list[RandomSource]:
    """Six repositories of three two-platform images; a third of ``size`` is in base layers that they all share."""
    repositories, tags = 6, 3
    images = repositories * tags * 2
    shared = [round(size * part / 6) for part in (0.6, 0.3, 0.1)]
    own = [round(size * 2 / 3 / images * part) for part in (0.8, 0.2)]
    return fleet(repositories=repositories, tags=tags, shared=shared, own=own, seed="demo", name="synthetic")


async def _fill(session: Session, sources: Sequence[RandomSource], registry: str) -> None:
    async with anyio.create_task_group() as tasks:
        for source in sources:
            place = session.use(source)
            target = Place(Site(registry, mounts=True), _name(source))
            async for tag in source.tags():
                job = Job(session.next_id(), place, (Target(target, tag),), tag=tag)
                tasks.start_soon(_must, session, job)


async def _must(session: Session, job: Job) -> None:
    failure = (await session.submit(job)).failure
    if failure is not None:
        raise failure.error()


async def _compare(
    session: Session, sources: Sequence[RandomSource], first: str, second: str
) -> tuple[Comparison, ...]:
    found: dict[str, Comparison] = {}
    images = [(_name(source), tag) for source in sources async for tag in source.tags()]

    async def compare(path: str, tag: str) -> None:
        digests = [await _digest(session, Repository(registry, path), tag) for registry in (first, second)]
        found[f"{path}:{tag}"] = Comparison(f"{path}:{tag}", *digests)

    async with anyio.create_task_group() as tasks:
        for path, tag in images:
            tasks.start_soon(compare, path, tag)
    return tuple(found[f"{path}:{tag}"] for path, tag in images)


async def _digest(session: Session, repository: Repository, tag: str) -> str:
    try:
        return (await session.remote(repository).manifest(tag)).digest
    except NotFound:
        return ""


@asynccontextmanager
async def _registry(directory: Path) -> AsyncIterator[str]:
    """A registry in a process of its own, gone when the block is left."""
    command = [sys.executable, "-m", "asyncrane", "registry", "serve", "--disk", str(directory)]
    command += ["--address", "127.0.0.1:0"]
    async with await anyio.open_process(
        command, stdin=subprocess.DEVNULL, stdout=subprocess.DEVNULL, start_new_session=True
    ) as process:
        try:
            yield await _address(process)
        finally:
            with anyio.CancelScope(shield=True), anyio.move_on_after(5, shield=True):
                process.terminate()
                await process.wait()


async def _address(process: Process) -> str:
    said = ""
    if process.stderr is None:
        raise AsyncraneError("the registry's log cannot be read")
    with anyio.move_on_after(_START_LIMIT):
        async for text in TextReceiveStream(process.stderr):
            said += text
            _, found, rest = said.partition(READY)
            if found and "\n" in rest:
                return rest.split()[0]
        raise AsyncraneError(f"the registry did not start: {said.strip()[-200:]}")
    raise TimedOut(f"the registry did not start within {_START_LIMIT:.0f} s")


def _name(source: RandomSource) -> str:
    return f"demo/{source.place.repository}"
