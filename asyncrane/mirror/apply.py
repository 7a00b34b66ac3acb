"""Doing what a mirror file or a plan says, with a journal, so that it can be resumed, explained and taken back."""

from __future__ import annotations

import re
import time
from collections import Counter
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import anyio
import msgspec

from asyncrane.engine.job import Job
from asyncrane.engine.journal import Journal
from asyncrane.engine.messages import Finish, JobAdded
from asyncrane.engine.outcome import Outcome, Statistics
from asyncrane.errors import Failure, JournalError
from asyncrane.mirror.lists import Lists
from asyncrane.mirror.plan import MirrorPlan, to_do
from asyncrane.mirror.prune import Deleted, Deletion, carry_out, deletions, spared
from asyncrane.mirror.rollback import pruned
from asyncrane.mirror.running import Running
from asyncrane.mirror.spec import MirrorSpec
from asyncrane.mirror.wishes import Gathered, Unreadable, gather
from asyncrane.session import Session

_ASKED = re.compile(r"\b(?:GET|HEAD|POST|PATCH|PUT|DELETE) (https?://\S+?)[:,;]?(?:\s|$)")

_UNREAD = "repositories could not be read"

_SAMPLE = 1.0
"""Seconds between two looks at the counts, for the report."""


class Lost(msgspec.Struct, frozen=True):
    """One image that did not get to one destination: a line of ``failures.jsonl``."""

    source: str
    destination: str
    status: str
    failure: Failure

    def line(self) -> dict[str, Any]:
        """One flat object: class, URL and HTTP status of what went wrong."""
        asked = _ASKED.search(self.failure.message)
        return {
            "source": self.source,
            "destination": self.destination,
            "outcome": self.status,
            "class": self.failure.kind,
            "url": asked[1] if asked else "",
            "status": self.failure.status,
            "codes": list(self.failure.codes),
            "message": self.failure.message,
        }


class MirrorReport(msgspec.Struct, omit_defaults=False):
    """What a run did. ``status``: ``done``, ``failed`` (some images), ``stopped`` (``left`` images were not begun);
    ``images`` counts destinations by outcome, ``moved`` holds images whose source tag has moved since the plan.
    """

    run: int
    status: str
    seconds: float
    images: dict[str, int]
    left: int
    failures: tuple[Lost, ...]
    unreadable: tuple[Unreadable, ...]
    deleted: tuple[Deleted, ...]
    notes: tuple[str, ...]
    statistics: Statistics

    def encode(self) -> bytes:
        """As JSON."""
        return msgspec.json.encode(msgspec.structs.replace(self, statistics=_lean(self.statistics)))

    def summary(self) -> dict[str, Any]:
        """What a script wants to know: bytes and requests at the top, images by outcome, failures."""
        counts = ("bytes_read", "bytes_written", "bytes_mounted", "bytes_existing", "referrers_written", "requests")
        return {
            "run": self.run,
            "status": self.status,
            "seconds": self.seconds,
            **{name: getattr(self.statistics, name) for name in counts},
            "images": self.images,
            "left": self.left,
            "failures": [lost.line() for lost in self.failures],
            "unreadable": self.unreadable,
            "deleted": self.deleted,
            "notes": self.notes,
        }

    def trouble(self) -> str:
        """What went wrong, in a few words."""
        parts = (
            (len(self.failures), "failed"),
            (len(self.unreadable), "repository could not be read" if len(self.unreadable) == 1 else _UNREAD),
            (sum(1 for deleted in self.deleted if deleted.failure), "not deleted"),
        )
        return ", ".join(f"{count} {words}" for count, words in parts if count)


class Campaign:
    """One run over a fleet: its journal, its jobs, and how far it is.

    ``on_outcome`` hears of every image; ``until`` is the time after which none is begun, in seconds since the epoch.
    """

    def __init__(
        self,
        session: Session,
        journal: Journal,
        *,
        on_outcome: Callable[[Outcome], None] | None = None,
        until: float | None = None,
    ) -> None:
        self._session = session
        self._journal = journal
        self._lists = Lists(session)
        self.on_outcome = on_outcome
        self._until = until
        self._failures: list[Lost] = []
        self._statuses = Counter[str]()
        self._deleted: tuple[Deleted, ...] = ()
        self._notes: list[str] = []
        self._started = time.time()
        self._jobs: Sequence[Job] = ()
        self._before = 0
        self.run = 0

    async def apply(self, spec: MirrorSpec, *, name: Path) -> MirrorReport:
        """List, select and copy what ``spec`` means now, and prune where it says so.

        :raises InvalidMirrorSpec: when two rules give one destination tag different images
        :raises JournalError: when the journal cannot be written
        """
        gathered = await gather(self._session, spec, self._lists)
        self._notes += gathered.notes
        jobs = [wish.job(self._session.next_id()) for wish in gathered.wishes]
        await self._begin("apply", jobs, name, gathered)
        return await self._carry_out(jobs, gathered)

    async def apply_plan(self, plan: MirrorPlan) -> MirrorReport:
        """Copy what ``plan`` pinned, whatever the tags name by now (G6), and delete what it lists. What it says cannot
        be done has failed.
        """
        jobs = to_do(plan, self._session)
        failed = [found for image in plan.images if (found := image.failed(self._session.next_id())) is not None]
        gathered = Gathered(unreadable=list(plan.unreadable))
        await self._begin("apply", jobs, Path(plan.spec), gathered, failed)
        return await self._carry_out(jobs, gathered, doomed=plan.deletions)

    async def resume(self, run: int) -> MirrorReport:
        """Do what run ``run`` has left: images that have not ended, and those it was stopped in.

        :raises JournalError: when there is no such run
        """
        records = list(self._journal.jobs(run))
        jobs = [record.job for record in records if record.outcome is None or _cancelled(record.outcome)]
        self._before = len(records) - len(jobs)
        known = _remembered(self._journal, run)
        self._failures += [lost for r in records if r.outcome is not None for lost in _lost(r.outcome)]
        self._deleted = pruned(self._journal, run)
        self.run = run
        self._journal.reopen(run)
        return await self._carry_out(jobs, Gathered(unreadable=known.unreadable))

    async def retry(self, run: int) -> MirrorReport:
        """Do again, as a run of its own, the images of run ``run`` that failed. Repositories that it could not read
        stay reported: which images they have is known to nobody yet, so there is nothing to do again.

        :raises JournalError: when there is no such run
        """
        failed = [r.job for r in self._journal.jobs(run) if r.outcome is not None and r.outcome.failure is not None]
        jobs = [msgspec.structs.replace(job, id=self._session.next_id()) for job in failed]
        known = _remembered(self._journal, run)
        gathered = Gathered(unreadable=known.unreadable)
        await self._begin("retry", jobs, Path(known.spec), gathered)
        return await self._carry_out(jobs, gathered)

    def statistics(self) -> Statistics:
        """The counts so far, with the images of the whole run."""
        count = self._session.statistics()
        return msgspec.structs.replace(
            count, images_total=self._before + len(self._jobs), images_done=self._before + count.images_done
        )

    async def _begin(
        self,
        kind: str,
        jobs: Sequence[Job],
        name: Path,
        gathered: Gathered,
        failed: Sequence[tuple[Job, Outcome]] = (),
    ) -> None:
        """Have the journal know of everything before any of it is done; ``failed`` has ended before it began."""
        options = {"spec": str(name), "unreadable": gathered.unreadable}
        self.run = self._journal.begin(kind, spec=str(name), options=msgspec.json.encode(options).decode())
        for job in jobs:
            self._journal.record(JobAdded(job))
        for job, outcome in failed:
            self._journal.record(JobAdded(job))
            self._journal.record(Finish(job.id, outcome))
            self._ended(job, outcome)
            self._statuses.update(target.status for target in outcome.targets)
        self._before = len(failed)
        await self._journal.committed()

    async def _carry_out(
        self, jobs: Sequence[Job], gathered: Gathered, *, doomed: Sequence[Deletion] | None = None
    ) -> MirrorReport:
        self._jobs = jobs
        running = Running(
            self._session,
            jobs,
            on_outcome=self._ended,
            until=self._until,
            at_once=self._session.jobs,
            keep=False,
            knows=self._lists.knows,
            finish=self._journal.record,
        )
        deleted = list(self._deleted)
        status = "stopped"
        try:
            async with anyio.create_task_group() as tasks:
                tasks.start_soon(self._sample)
                await self._lists.tell(jobs, gathered.listings)
                await running.run()
                if not running.left and not running.fatal:
                    await self._prune(gathered, doomed, deleted)
                    trouble = self._failures or gathered.unreadable or any(d.failure for d in deleted)
                    status = "failed" if trouble else "done"
                tasks.cancel_scope.cancel()
        finally:
            report = self._report(status, running, gathered, deleted)
            self._journal.sample(_lean(report.statistics))
            self._journal.finish(status, summary=report.encode().decode())
        if self._journal.failure is not None:
            raise self._journal.failure
        if running.fatal is not None:
            raise running.fatal.error()
        return report

    async def _prune(self, gathered: Gathered, doomed: Sequence[Deletion] | None, deleted: list[Deleted]) -> None:
        """Only where nothing went wrong: what failed to be copied, or listed, deletes nothing (H5)."""
        if doomed is None:
            doomed = await deletions(self._session, gathered)
        harmless = spared(doomed, (lost.destination for lost in self._failures))
        await carry_out(self._session, harmless, deleted)

    async def _sample(self) -> None:
        while True:
            self._journal.sample(_lean(self.statistics()))
            await anyio.sleep(_SAMPLE)

    def _ended(self, job: Job, outcome: Outcome) -> None:
        self._failures += _lost(outcome)
        self._notes += [f"{outcome.source}: {note}" for note in outcome.notes]
        if self.on_outcome is not None:
            self.on_outcome(outcome)

    def _report(self, status: str, running: Running, gathered: Gathered, deleted: Sequence[Deleted]) -> MirrorReport:
        return MirrorReport(
            run=self.run,
            status=status,
            seconds=round(time.time() - self._started, 3),
            images=dict(running.statuses + self._statuses),
            left=running.left,
            failures=tuple(self._failures),
            unreadable=tuple(gathered.unreadable),
            deleted=tuple(deleted),
            notes=tuple(self._notes),
            statistics=self.statistics(),
        )


def _lost(outcome: Outcome) -> list[Lost]:
    return [Lost(outcome.source, t.destination, t.status, t.failure) for t in outcome.targets if t.failure is not None]


def _cancelled(outcome: Outcome) -> bool:
    return any(target.status == "cancelled" for target in outcome.targets)


def _lean(statistics: Statistics) -> Statistics:
    return msgspec.structs.replace(statistics, transfers=())


class _Known(msgspec.Struct, frozen=True):
    """What a run found out before its first image, as the journal has it: that stays reported."""

    spec: str = ""
    unreadable: list[Unreadable] = []


def _remembered(journal: Journal, run: int) -> _Known:
    try:
        return msgspec.json.decode(journal.run(run).options or "{}", type=_Known)
    except msgspec.DecodeError as exc:
        raise JournalError(f"run {run}: its options cannot be read: {exc}") from exc
