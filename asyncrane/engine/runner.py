"""The only loop that waits: carries out the scheduler's commands and tells it what came of them."""

from __future__ import annotations

import time
from collections.abc import Callable
from typing import Protocol, TypeAlias

import anyio
import msgspec
from anyio.abc import TaskGroup

from asyncrane.abc import Attached, Place, Sink, Source
from asyncrane.engine.job import Job
from asyncrane.engine.messages import (
    Asking,
    BlobCopied,
    BlobMounted,
    Command,
    CommandFailed,
    ConfigRead,
    CopyBlob,
    Ended,
    Event,
    Finish,
    JobAdded,
    JobCancelled,
    Landing,
    ListReferrers,
    ManifestRead,
    ManifestWritten,
    MountBlob,
    Probe,
    Probed,
    ReadConfig,
    ReadManifest,
    ReferrersListed,
    Resolve,
    Resolved,
    Work,
    WriteManifest,
    Writing,
)
from asyncrane.engine.outcome import Outcome, RegistryView, Statistics, TransferView
from asyncrane.engine.scheduler import Scheduler
from asyncrane.engine.transfer import read_whole, transfer
from asyncrane.errors import ContentError, Failure
from asyncrane.oci.descriptor import Descriptor
from asyncrane.oci.platform import Platform
from asyncrane.transport import tries

LARGEST_CONFIG = 8 * 1024 * 1024
"""Bytes of an image config that are read."""


class Stores(Protocol):
    """Opens places by name."""

    def source(self, place: Place) -> Source:
        """To read from."""
        ...

    def sink(self, place: Place) -> Sink:
        """To write to."""
        ...


class Executor(Protocol):
    """Carries out commands, here or elsewhere."""

    async def execute(self, command: Work) -> Ended:
        """Do it; an error is an event too."""
        ...


class _Meter:
    """How far one transfer is."""

    __slots__ = ("command", "done")

    def __init__(self, command: CopyBlob) -> None:
        self.command = command
        self.done = 0

    def view(self) -> TransferView:
        blob = self.command.blob
        sinks = tuple(str(place) for place in self.command.sinks)
        return TransferView(str(blob.digest), blob.size, self.done, str(self.command.source), sinks)


class LocalExecutor:
    """Carries out commands in this process."""

    def __init__(self, stores: Stores) -> None:
        self._stores = stores
        self._meters: dict[int, _Meter] = {}
        self.bytes_read = 0

    async def execute(self, command: Work) -> Ended:
        """Do it; an error is an event too."""
        started = time.perf_counter()
        event: Ended
        with tries.heard() as again:
            try:
                event = await (self._write(command) if isinstance(command, Writing) else self._read(command))
            except Exception as exc:  # one command's surprise is that command's failure, never the whole run's
                event = CommandFailed(command.id, Failure.of(exc))
        return msgspec.structs.replace(event, elapsed=time.perf_counter() - started, again=tuple(again))

    async def _write(self, command: Writing) -> Ended:
        match command:
            case CopyBlob():
                return BlobCopied(command.id, await self._copy(command))
            case MountBlob():
                return BlobMounted(
                    command.id, await self._stores.sink(command.place).mount(command.blob, command.donor)
                )
            case WriteManifest():
                await self._stores.sink(command.place).publish(command.manifest, command.tag)
                return ManifestWritten(command.id)

    async def _read(self, command: Asking) -> Ended:
        if isinstance(command, Probe):
            return Probed(command.id, await self._stores.sink(command.place).probe(command.identifier))
        source = self._stores.source(command.place)
        match command:
            case ReadManifest():
                return ManifestRead(command.id, await source.manifest(command.identifier))
            case Resolve():
                return Resolved(command.id, await source.resolve(command.identifier))
            case ReadConfig():
                return ConfigRead(command.id, await _platform(source, command.blob))
            case ListReferrers() if isinstance(source, Attached):
                attached, supported = await source.attached(command.subject, fallback=command.fallback)
                return ReferrersListed(command.id, attached, supported)
            case ListReferrers():  # a store that keeps no such things
                return ReferrersListed(command.id, (), supported=False)

    async def _copy(self, command: CopyBlob) -> tuple[Landing, ...]:
        meter = self._meters[command.id] = _Meter(command)

        def count(size: int) -> None:
            meter.done += size
            self.bytes_read += size

        try:
            source = self._stores.source(command.source)
            sinks = [self._stores.sink(place) for place in command.sinks]
            return await transfer(command.blob, source, sinks, eager=command.eager, count=count)
        finally:
            del self._meters[command.id]

    def transfers(self) -> tuple[TransferView, ...]:
        """What is on its way now."""
        return tuple(meter.view() for meter in self._meters.values())


async def _platform(source: Source, config: Descriptor) -> Platform | None:
    body = await read_whole(source, config, limit=LARGEST_CONFIG)
    try:
        return Platform.read(msgspec.json.decode(body))
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError) as exc:
        raise ContentError(f"config {config.digest!s} is not JSON: {str(exc)[:120]}") from exc


def _places(command: Work) -> tuple[Place, ...]:
    """Where a command is carried out."""
    return (command.source, *command.sinks) if isinstance(command, CopyBlob) else (command.place,)


Done: TypeAlias = Callable[[Outcome], None]


class Runner:
    """Runs one scheduler with one executor, its commands as tasks of ``tasks``, whose owner outlives all jobs."""

    def __init__(self, executor: Executor, tasks: TaskGroup, scheduler: Scheduler) -> None:
        self._scheduler = scheduler
        self._executor = executor
        self._tasks = tasks
        self._waiting: dict[int, Done] = {}
        self._local: dict[int, tuple[Work, anyio.CancelScope]] = {}
        self._fewer = anyio.Event()
        self._observers: list[Callable[[Event | Command], None]] = []

    def observe(self, observer: Callable[[Event | Command], None]) -> None:
        """Let ``observer`` see every event, before the scheduler does, and every command it answers."""
        self._observers.append(observer)

    def add(self, job: Job, done: Done) -> None:
        """Start ``job``; ``done`` is called with what became of it."""
        self._waiting[job.id] = done
        self.feed(JobAdded(job))

    def cancel(self, number: int) -> None:
        """Nobody waits for job ``number`` any more."""
        if self._waiting.pop(number, None) is not None:
            self.feed(JobCancelled(number))

    def feed(self, event: Event) -> None:
        """Tell the scheduler, and start what it answers."""
        for observer in self._observers:
            observer(event)
        for command in self._scheduler.feed(event):
            for observer in self._observers:
                observer(command)
            if isinstance(command, Finish):
                done = self._waiting.pop(command.job, None)
                if done is not None:
                    done(command.outcome)
            else:
                self._tasks.start_soon(self._run, command)

    async def let_go(self, place: Place) -> None:
        """End what is being done at ``place``, a file or directory that is about to be closed: it may be for nobody any
        more. For whoever still waits for it, it has failed.
        """
        while touching := [scope for command, scope in self._local.values() if place in _places(command)]:
            for scope in touching:
                scope.cancel()
            self._fewer = anyio.Event()
            await self._fewer.wait()

    async def _run(self, command: Work) -> None:
        if not any(place.site.opening for place in _places(command)):
            self.feed(await self._executor.execute(command))
            return
        event: Ended = CommandFailed(command.id, Failure("Interrupted", "a file was closed that was in use"))
        with anyio.CancelScope() as scope:
            self._local[command.id] = command, scope
            try:
                event = await self._executor.execute(command)
            finally:
                del self._local[command.id]
                self._fewer.set()
        self.feed(event)

    def statistics(self) -> Statistics:
        """The counts so far, as a value of its own."""
        count = self._scheduler.statistics()
        sites = self._scheduler.budget.sites()
        limits = {str(site): int(limit.slots) for site, limit in sites.items()}
        views = {site.name: RegistryView(busy=limit.busy, limit=int(limit.slots)) for site, limit in sites.items()}
        return msgspec.structs.replace(count, limits=limits, registries=views)

    def __repr__(self) -> str:
        return f"Runner({len(self._waiting)} jobs, {self._scheduler.queue!r})"
