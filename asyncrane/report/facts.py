"""What the page about a run says, as values: a projection of the run's journal, bounded however long the run was."""

from __future__ import annotations

import heapq
from collections import Counter
from collections.abc import Iterable, Iterator
from itertools import count
from typing import Protocol

import msgspec

from asyncrane.engine.job import Job
from asyncrane.engine.messages import (
    BlobCopied,
    Command,
    CommandFailed,
    CopyBlob,
    Ended,
    Event,
    Finish,
    JobAdded,
    JobCancelled,
    ListReferrers,
    MountBlob,
    Probe,
    ReadConfig,
    ReadManifest,
    Resolve,
    SourceListed,
    TagsListed,
    Throttled,
    Work,
    WriteManifest,
)
from asyncrane.engine.outcome import Outcome, Statistics
from asyncrane.errors import Failure
from asyncrane.report.timeline import Sample, Timeline, timeline

ROWS = 100
"""Rows of a table: what there is more of is counted."""

SLOWEST = 20

READING, WRITING = "reading blobs", "writing blobs"

KINDS: dict[type[Work], str] = {
    Resolve: "resolving tags",
    Probe: "asking destinations",
    ReadManifest: "reading manifests",
    ReadConfig: "reading configs",
    ListReferrers: "listing referrers",
    MountBlob: "mounting blobs",
    CopyBlob: READING,
    WriteManifest: "writing manifests",
}
"""What commands do, in the words of the page."""


class Run(Protocol):
    """A run as the journal keeps it; ``summary`` is JSON, times are seconds since the epoch."""

    @property
    def id(self) -> int:
        """Its number."""
        ...

    @property
    def kind(self) -> str:
        """Which command began it."""
        ...

    @property
    def spec(self) -> str:
        """The file it was about."""
        ...

    @property
    def status(self) -> str:
        """How it stands."""
        ...

    @property
    def started(self) -> float:
        """When it began."""
        ...

    @property
    def ended(self) -> float | None:
        """When it ended, if it has."""
        ...

    @property
    def summary(self) -> str:
        """What it reported at its end."""
        ...


class Recorded(Protocol):
    """A message and when it was recorded; none where nothing is known of its kind."""

    @property
    def message(self) -> Event | Command | None:
        """The message."""
        ...


class Ordered(Protocol):
    """A job, and what became of it if it has ended."""

    @property
    def job(self) -> Job:
        """The job."""
        ...

    @property
    def outcome(self) -> Outcome | None:
        """What became of it."""
        ...


class Book(Protocol):
    """The part of a journal that is read here."""

    def run(self, run: int | None = None, /) -> Run:
        """One run."""
        ...

    def jobs(self, run: int, /) -> Iterable[Ordered]:
        """Its jobs."""
        ...

    def events(self, run: int, /) -> Iterable[Recorded]:
        """Its messages, in order."""
        ...

    def samples(self, run: int, /) -> Iterable[Sample]:
        """Its counts over time, in order."""
        ...


class Moved(msgspec.Struct, frozen=True):
    """A blob's way: its size in bytes, how long it took in seconds, how many of its destinations did not get it."""

    digest: str
    size: int
    seconds: float
    source: str
    destinations: tuple[str, ...]
    failed: int = 0


class TagMove(msgspec.Struct, frozen=True):
    """A tag that names something else now; ``before`` is empty where it named nothing."""

    name: str
    before: str
    after: str


class Trouble(msgspec.Struct, frozen=True):
    """Something that went wrong; ``where`` is a destination, ``source`` what should have come there."""

    where: str
    source: str
    what: str
    failure: Failure


class Facts(msgspec.Struct):
    """Everything the page says. ``images`` counts destinations by what became of them, also for each registry they are
    in; ``spent`` is seconds of commands by registry and kind; ``waits`` seconds that registries asked everybody for.
    """

    id: int
    kind: str
    spec: str
    status: str
    started: float
    ended: float | None
    time: Timeline
    images: Counter[str] = msgspec.field(default_factory=Counter)
    by_registry: dict[str, Counter[str]] = {}
    tags: list[TagMove] = []
    tags_moved: int = 0
    tags_made: int = 0
    troubles: list[Trouble] = []
    troubles_by_kind: Counter[tuple[str, int, str]] = msgspec.field(default_factory=Counter)
    notes: list[str] = []
    notes_more: int = 0
    spent: dict[str, dict[str, float]] = {}
    commands: Counter[str] = msgspec.field(default_factory=Counter)
    failed_commands: int = 0
    waits: Counter[str] = msgspec.field(default_factory=Counter)
    slowest: list[Moved] = []

    @property
    def counts(self) -> Statistics:
        """What was moved, in all sittings."""
        return self.time.counts

    @property
    def asked(self) -> int:
        """Bytes of blobs that the destinations had to have: what a tool that knows of no other image would send."""
        return self.counts.bytes_written + self.counts.bytes_mounted + self.counts.bytes_existing

    @property
    def seconds(self) -> float:
        """How long the run was worked on."""
        return self.time.seconds or (max(0.0, self.ended - self.started) if self.ended else 0.0)

    @property
    def requests(self) -> int:
        """To all registries."""
        return sum(sum(registry.requests.values()) for registry in self.time.registries.values())


def gather(journal: Book, run: int) -> Facts:
    """Read a run.

    :raises JournalError: when there is no such run, or it cannot be read
    """
    record = journal.run(run)
    facts = Facts(
        id=record.id,
        kind=record.kind,
        spec=record.spec,
        status=record.status,
        started=record.started,
        ended=record.ended,
        time=timeline(journal.samples(run)),
    )
    _images(facts, journal.jobs(run))
    _work(facts, journal.events(run))
    _summary(facts, record.summary)
    return facts


def _images(facts: Facts, jobs: Iterable[Ordered]) -> None:
    for record in jobs:
        job, outcome = record.job, record.outcome
        if outcome is None:
            for target in job.targets:
                _count(facts, target.place.site.name, "not finished")
            continue
        for note in outcome.notes:
            _note(facts, f"{outcome.source}: {note}")
        targets = {str(target): target for target in job.targets}
        for ended in outcome.targets:
            wanted = targets.get(ended.destination)
            _count(facts, wanted.place.site.name if wanted else ended.destination.partition("/")[0], ended.status)
            if ended.failure is not None:
                _trouble(facts, Trouble(ended.destination, outcome.source, ended.status, ended.failure))
            tagged = wanted is not None and wanted.tag is not None
            if tagged and ended.status in ("copied", "tagged") and ended.before != outcome.digest:
                _moved(facts, TagMove(ended.destination, ended.before, outcome.digest))


def _count(facts: Facts, registry: str, status: str) -> None:
    facts.images[status] += 1
    facts.by_registry.setdefault(registry, Counter())[status] += 1


def _note(facts: Facts, text: str) -> None:
    if len(facts.notes) < ROWS:
        facts.notes.append(text)
    else:
        facts.notes_more += 1


def _trouble(facts: Facts, trouble: Trouble) -> None:
    registry = trouble.where.partition("/")[0]
    facts.troubles_by_kind[trouble.failure.kind, trouble.failure.status, registry] += 1
    if len(facts.troubles) < ROWS:
        facts.troubles.append(trouble)


def _moved(facts: Facts, move: TagMove) -> None:
    """Tags that named something else come before those that are new: they are what somebody may miss."""
    if move.before:
        if facts.tags_moved < ROWS:
            facts.tags.insert(facts.tags_moved, move)
            del facts.tags[ROWS:]
        facts.tags_moved += 1
        return
    facts.tags_made += 1
    if len(facts.tags) < ROWS:
        facts.tags.append(move)


def _work(facts: Facts, events: Iterable[Recorded]) -> None:
    """Where time went, and which blobs took longest."""
    running: dict[int, Work] = {}
    slowest: list[tuple[float, int, CopyBlob, BlobCopied | CommandFailed]] = []
    order = count()
    for record in events:
        match record.message:
            case Throttled() as throttled:
                facts.waits[throttled.site.name] += round(throttled.seconds)
            case None | Finish() | JobAdded() | JobCancelled() | TagsListed() | SourceListed():
                continue
            case Resolve() | Probe() | ReadManifest() | ReadConfig() | ListReferrers() as command:
                running[command.id] = command
            case MountBlob() | CopyBlob() | WriteManifest() as command:
                running[command.id] = command  # numbers begin again in each sitting: what was under way is forgotten
            case ended:
                asked = running.pop(ended.command, None)
                if asked is None:
                    continue
                _spend(facts, asked, ended)
                if isinstance(asked, CopyBlob) and isinstance(ended, BlobCopied | CommandFailed):
                    entry = (ended.elapsed, next(order), asked, ended)
                    (heapq.heappush if len(slowest) < SLOWEST else heapq.heappushpop)(slowest, entry)
    facts.slowest = [_blob(copied, ended) for _, _, copied, ended in sorted(slowest, reverse=True)]


def _spend(facts: Facts, command: Work, ended: Ended) -> None:
    """A copy takes the time of its source and of each of its destinations."""
    facts.commands[KINDS[type(command)]] += 1
    facts.failed_commands += isinstance(ended, CommandFailed)
    for registry, kind in _parties(command):
        spent = facts.spent.setdefault(registry, {})
        spent[kind] = spent.get(kind, 0.0) + ended.elapsed


def _parties(command: Work) -> Iterator[tuple[str, str]]:
    if isinstance(command, CopyBlob):
        yield command.source.site.name, READING
        for name in dict.fromkeys(sink.site.name for sink in command.sinks):
            yield name, WRITING
    else:
        yield command.place.site.name, KINDS[type(command)]


def _blob(command: CopyBlob, ended: BlobCopied | CommandFailed) -> Moved:
    sinks = tuple(map(str, command.sinks))
    failed = len(sinks)
    if isinstance(ended, BlobCopied):
        failed = sum(landing.failure is not None and not landing.alone for landing in ended.landings)
    return Moved(str(command.blob.digest), command.blob.size, ended.elapsed, str(command.source), sinks, failed)


def _summary(facts: Facts, summary: str) -> None:
    """What no job says: repositories that could not be read, tags that could not be deleted, the run's own notes."""
    try:
        told = msgspec.json.decode(summary or "{}", type=_Summary)
    except msgspec.DecodeError:
        return  # an older run's, or one that did not end: all else is known from its jobs
    for unreadable in told.unreadable:
        _trouble(facts, Trouble(unreadable.repository, "", "not read", unreadable.failure))
    for deleted in told.deleted:
        if deleted.failure is not None:
            _trouble(facts, Trouble(deleted.destination, "", "not deleted", deleted.failure))
        else:
            _count(facts, deleted.destination.partition("/")[0], "deleted")
    if not facts.time.elapsed and told.statistics is not None:
        facts.time.counts = told.statistics


class _Unreadable(msgspec.Struct):
    repository: str
    failure: Failure


class _Deleted(msgspec.Struct):
    destination: str
    failure: Failure | None = None


class _Summary(msgspec.Struct):
    """The part of a run's report that is read here."""

    unreadable: list[_Unreadable] = []
    deleted: list[_Deleted] = []
    statistics: Statistics | None = None
