"""A program that lives long: one session, round after round of mixed jobs, and after each what it holds.

``python -m tests.faults.soaking SOURCE DESTINATION LAYER`` does a round for every line on stdin, which is the name of
the repository that holds the round's images at the source, and answers with one line of JSON: a :class:`Reading`.
``LAYER`` is a tar file to append.
"""

from __future__ import annotations

import asyncio
import sys
from collections.abc import Awaitable
from pathlib import Path

import anyio
import anyio.to_thread
import msgspec
import psutil

import asyncrane
from asyncrane import AsyncraneError, Changes, Pair, Session

APPS = 6
"""Images of a round: ``app0`` and so on, which stand on ``old``; there is a ``new`` base, and ``signed`` has referrers.
"""


class Reading(msgspec.Struct, frozen=True):
    """What the program holds after a round, and how many jobs of the round did not end well."""

    rss: int
    files: int
    sockets: int
    tasks: int
    jobs: int
    failures: tuple[str, ...]


class Round:
    """The jobs of one round, all over again with other images."""

    def __init__(self, session: Session, source: str, destination: str, layer: Path) -> None:
        self._session = session
        self._from = source
        self._to = destination
        self._layer = layer
        self._jobs = 0
        self._failures: list[str] = []

    async def run(self) -> None:
        """Everything; what depends on nothing else at the same time."""
        names = [f"app{number}" for number in range(APPS)]
        await self._copied([*names, "old", "new", "signed"])
        session, to = self._session, self._to
        async with anyio.create_task_group() as tasks:
            tasks.start_soon(self._copied, names)  # nothing to do
            for app in ("app0", "app1"):
                tasks.start_soon(self._job, self._rebased(app))
            tasks.start_soon(self._job, asyncrane.append(session, [self._layer], f"{to}:appended", base=f"{to}:app2"))
            tasks.start_soon(
                self._job, asyncrane.mutate(session, f"{to}:app3", Changes(labels={"a": "b"}), to=f"{to}:mutated")
            )
            tasks.start_soon(self._job, asyncrane.tag(session, f"{to}:app4", "again"))
            tasks.start_soon(self._job, asyncrane.untag(session, f"{to}:app5"))
        await self._job(asyncrane.delete(session, f"{to}:again"))
        await self._job(self._listed())

    async def _listed(self) -> None:
        async for _ in asyncrane.tags(self._session, self._to):
            pass

    async def _rebased(self, app: str) -> None:
        to = self._to
        await asyncrane.rebase(
            self._session, f"{to}:{app}", to=f"{to}:new-{app}", old_base=f"{to}:old", new_base=f"{to}:new"
        )

    async def _copied(self, names: list[str]) -> None:
        pairs = [Pair(f"{self._from}:{name}", (f"{self._to}:{name}",)) for name in names]
        outcomes = await asyncrane.copy_all(self._session, pairs, referrers=True)
        self._jobs += len(outcomes)
        self._failures += [outcome.failure.message for outcome in outcomes if outcome.failure is not None]

    async def _job(self, job: Awaitable[object]) -> None:
        self._jobs += 1
        try:
            await job
        except AsyncraneError as exc:
            self._failures.append(str(exc))

    def reading(self) -> Reading:
        """What there is now that all is done."""
        process = psutil.Process()
        return Reading(
            rss=process.memory_info().rss,
            files=process.num_fds(),
            sockets=len(process.net_connections("inet")),
            tasks=len(asyncio.all_tasks()),
            jobs=self._jobs,
            failures=tuple(self._failures),
        )


async def soak(source: str, destination: str, layer: Path) -> None:
    """Until nobody wants another round."""
    async with Session(retries=8) as session:
        while repository := (await anyio.to_thread.run_sync(sys.stdin.readline)).strip():
            done = Round(session, f"{source}/{repository}", f"{destination}/{repository}", layer)
            await done.run()
            sys.stdout.write(f"{msgspec.json.encode(done.reading()).decode()}\n")
            sys.stdout.flush()


if __name__ == "__main__":
    anyio.run(soak, sys.argv[1], sys.argv[2], Path(sys.argv[3]), backend_options={"use_uvloop": True})
