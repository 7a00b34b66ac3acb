"""Many copies, rebases, appends and mutations in one run: what they share is read once and moved once.

An edit reads manifests and configs, makes new ones, and is then a copy like any other, from an overlay. A bounded
number of edits is under way at a time, so that memory does not grow with their number.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Iterable, Sequence
from contextlib import AsyncExitStack
from itertools import islice
from typing import TypeVar

import anyio
import msgspec

from asyncrane.abc import Place
from asyncrane.archive.formats import layer_format_from_environment
from asyncrane.engine.job import Job, Target
from asyncrane.engine.outcome import Outcome, TargetOutcome
from asyncrane.errors import AsyncraneError, Failure
from asyncrane.images.overlay import Overlay, origins
from asyncrane.images.view import View
from asyncrane.oci.digest import Digest
from asyncrane.operations.edits import Editor
from asyncrane.operations.jobfile import BulkJob, CopyJob, is_job_file, parse_jobs
from asyncrane.operations.moments import source_date_epoch
from asyncrane.operations.places import Found, Places, place_of
from asyncrane.operations.streams import Streams
from asyncrane.session import Session
from asyncrane.stores.locate import Location

__all__ = ["BulkJob", "is_job_file", "parse_jobs", "run_jobs"]

Opened = TypeVar("Opened", Found, Target)

WINDOW = 64
"""Edits under way at once."""


async def run_jobs(
    session: Session,
    jobs: Sequence[BulkJob],
    *,
    streams: bool = False,
    on_outcome: Callable[[Outcome], None] | None = None,
) -> list[Outcome]:
    """Do all ``jobs`` in one run. What fails is in its outcome, the others go on; outcomes are in the jobs' order, and
    ``on_outcome`` gets each as it comes.

    Where a registry is not to get more than a number of requests at once, reading takes turns with copying; else they
    overlap. With ``streams`` layers may be stdin or pipes, and what can be read once is uploaded as it arrives.
    Layers are eStargz by default where ``GGCR_EXPERIMENT_ESTARGZ=1`` is set.

    :raises InvalidInput: when ``SOURCE_DATE_EPOCH`` is set to something else than seconds
    """
    created = source_date_epoch() or 0
    async with AsyncExitStack() as stack:
        places = await stack.enter_async_context(Places(session))
        located = await _Located.open(places, jobs)
        reading = Streams(session, stack, newest=created) if streams else None
        editor = Editor(
            session,
            where=located.source,
            created=created,
            layer_format=layer_format_from_environment(os.environ),
            streams=reading,
        )
        run = _Run(session, located, editor, on_outcome)
        registries = {name for job in jobs for name in _registries((*job.reads(), *job.targets))}
        with session.using(run.overlay):
            if any(session.at_once(registry) for registry in registries):
                await run.by_turns(jobs)
            else:
                await run.flowing(jobs)
    return [run.outcomes[number] for number in range(len(jobs))]


def _registries(locations: Iterable[Location]) -> set[str]:
    return {location.repository.registry for location in locations if location.kind == "registry"}


class _Located:
    """Everything that jobs read and write, opened; what could not be is the failure of those that need it."""

    def __init__(self, places: Places) -> None:
        self.places = places
        self._sources: dict[Location, Found | Failure] = {}
        self._targets: dict[Location, Target | Failure] = {}

    @classmethod
    async def open(cls, places: Places, jobs: Sequence[BulkJob]) -> _Located:
        """Open what is in files; registries need no opening."""
        located = cls(places)
        for job in jobs:
            for location in job.reads():
                if location.kind != "registry" and location not in located._sources:
                    try:
                        located._sources[location] = await places.source(location)
                    except AsyncraneError as exc:
                        located._sources[location] = Failure.of(exc)
            for location in job.targets:
                if location.kind != "registry" and location not in located._targets:
                    try:
                        located._targets[location] = await places.target(location)
                    except AsyncraneError as exc:
                        located._targets[location] = Failure.of(exc)
        return located

    def source(self, location: Location) -> Found:
        """Where an image is.

        :raises AsyncraneError: when it could not be opened
        """
        if location.kind == "registry":
            return Found(place_of(location.repository), location.tag, location.digest)
        return _or_raise(self._sources[location])

    def target(self, location: Location) -> Target:
        """Where an image goes.

        :raises AsyncraneError: when it could not be opened
        """
        if location.kind == "registry":
            return Target(place_of(location.repository), location.tag, location.digest)
        return _or_raise(self._targets[location])


def _or_raise(opened: Opened | Failure) -> Opened:
    if isinstance(opened, Failure):
        raise opened.error()
    return opened


class _Ready(msgspec.Struct, frozen=True):
    """A job of the engine's. ``held`` is what the overlay holds for it, ``root`` what the source named."""

    job: Job
    root: Digest | None = None
    held: View | None = None
    notes: tuple[str, ...] = ()


class _Run:
    """All jobs, by number."""

    def __init__(
        self, session: Session, located: _Located, editor: Editor, on_outcome: Callable[[Outcome], None] | None
    ) -> None:
        self._session = session
        self._located = located
        self._on_outcome = on_outcome
        self._editor = editor
        self.overlay = Overlay(f"run-{session.next_id()}", session.source)
        self.outcomes: dict[int, Outcome] = {}

    async def flowing(self, jobs: Sequence[BulkJob]) -> None:
        """Copies at once, edits as others end."""
        slots = anyio.Semaphore(WINDOW)

        async def edit(number: int, job: BulkJob) -> None:
            try:
                await self._copy(number, job, await self._prepare(number, job))
            finally:
                slots.release()

        async with anyio.create_task_group() as tasks:
            for number, job in enumerate(jobs):
                if isinstance(job, CopyJob):
                    tasks.start_soon(self._copy, number, job, await self._prepare(number, job))
            for number, job in enumerate(jobs):
                if not isinstance(job, CopyJob):
                    await slots.acquire()
                    tasks.start_soon(edit, number, job)

    async def by_turns(self, jobs: Sequence[BulkJob]) -> None:
        """Prepare some, copy these, prepare the next: never more requests at once than are allowed."""
        waiting = iter(enumerate(jobs))
        while some := list(islice(waiting, WINDOW)):
            ready = await self._prepare_all(some)
            async with anyio.create_task_group() as tasks:
                for number, job in some:
                    tasks.start_soon(self._copy, number, job, ready[number])

    async def _prepare_all(self, jobs: Sequence[tuple[int, BulkJob]]) -> dict[int, _Ready | None]:
        ready: dict[int, _Ready | None] = {}

        async def prepare(number: int, job: BulkJob) -> None:
            ready[number] = await self._prepare(number, job)

        async with anyio.create_task_group() as tasks:
            for number, job in jobs:
                tasks.start_soon(prepare, number, job)
        return ready

    async def _prepare(self, number: int, job: BulkJob) -> _Ready | None:
        """The engine's job for ``job``; ``None`` when it has failed already."""
        try:
            return self._copying(job) if isinstance(job, CopyJob) else await self._edited(job)
        except Exception as exc:  # one image's surprise is that job's failure, never the whole run's
            failure = Failure.of(exc)
            lost = tuple(TargetOutcome(str(target), "failed", failure) for target in job.targets)
            self._put(number, Outcome(str(job.source), targets=lost))
            return None

    async def _edited(self, job: BulkJob) -> _Ready:
        targets = self._targets(job)
        edited = await self._editor.edit(job, targets[0].place)
        after = edited.after
        if edited.unchanged:
            return _Ready(self._job(job, targets, after.home, after.manifest.digest), edited.root, notes=edited.notes)
        self.overlay.add(after)
        copying = self._job(job, targets, self.overlay.place, after.manifest.digest)
        return _Ready(msgspec.structs.replace(copying, origins=origins(after)), edited.root, after, edited.notes)

    def _copying(self, job: CopyJob) -> _Ready:
        found = self._located.source(job.source)
        copying = self._job(job, self._targets(job), found.place, found.digest)
        return _Ready(msgspec.structs.replace(copying, tag=found.tag, platforms=job.platforms, referrers=job.referrers))

    def _targets(self, job: BulkJob) -> tuple[Target, ...]:
        return tuple(self._located.target(location) for location in job.targets)

    def _job(self, job: BulkJob, targets: tuple[Target, ...], source: Place, digest: Digest | None) -> Job:
        return Job(
            id=self._session.next_id(),
            source=source,
            targets=targets,
            digest=digest,
            overwrite=job.overwrite,
            nondistributable=job.nondistributable,
        )

    async def _copy(self, number: int, job: BulkJob, ready: _Ready | None) -> None:
        if ready is None:
            return
        try:
            outcome = await self._session.submit(ready.job)
        finally:
            if ready.held is not None:
                self.overlay.remove(ready.held)
        self._located.places.tell(ready.job, outcome)
        if not isinstance(job, CopyJob):
            outcome = msgspec.structs.replace(
                outcome, source=str(job.source), root=str(ready.root or ""), notes=(*ready.notes, *outcome.notes)
            )
        self._put(number, outcome)

    def _put(self, number: int, outcome: Outcome) -> None:
        self.outcomes[number] = outcome
        if self._on_outcome is not None:
            self._on_outcome(outcome)
