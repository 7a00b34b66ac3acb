"""A session: one pool of connections, one keychain, one engine, for as many copies as one likes."""

from __future__ import annotations

from collections.abc import Callable
from contextlib import AsyncExitStack
from itertools import count
from pathlib import Path
from types import TracebackType
from typing import Any, Self

import anyio
import msgspec
from anyio.abc import TaskGroup

from asyncrane.abc import Place, Sink, Site, Source
from asyncrane.auth.credentials import Credential
from asyncrane.auth.keychain import DefaultKeychain, FixedKeychain, Keychain
from asyncrane.engine.job import Job
from asyncrane.engine.journaled import JournaledExecutor, Log
from asyncrane.engine.messages import Command, Event, SourceListed, TagsListed, Throttled
from asyncrane.engine.outcome import Outcome, Statistics
from asyncrane.engine.planning import PlanningExecutor, SiteCosts
from asyncrane.engine.runner import Executor, LocalExecutor, Runner
from asyncrane.engine.scheduler import Scheduler
from asyncrane.oci.reference import Repository
from asyncrane.stores.remote import Remote
from asyncrane.transport.origin import Origin
from asyncrane.transport.pool import Pool


class Session:
    """Everything that outlives one call: ``async with Session() as session``.

    :param insecure: allow plain HTTP and unverified certificates
    :param source_credential: for everything read from, instead of what the keychain says
    :param destination_credential: for everything written to
    :param keychain: who we are elsewhere; docker's and podman's files by default
    :param jobs: commands at once per registry; adapts when ``None``
    :param ca: a file of certificates to trust besides the system's
    :param cert: a client certificate, with ``key``
    :param certs_dir: a directory of ``HOST/*.crt``, ``*.cert``, ``*.key`` (docker's and podman's ``certs.d``)
    :param retries: attempts after the first, of each request
    :param retry_max_time: seconds that one request may take with all its attempts and waits
    :param stall_timeout: seconds without a byte after which a connection counts as broken
    :param trace: called with a line for every request and answer, secrets left out
    :param journal: what the engine does is written there, and what it holds is not asked again
    :param planning: ask only; nothing is written anywhere, and :attr:`costs` says what it would take
    """

    def __init__(  # noqa: PLR0913  (each is one fact about how to talk, and each has a default)
        self,
        *,
        insecure: bool = False,
        source_credential: Credential | None = None,
        destination_credential: Credential | None = None,
        keychain: Keychain | None = None,
        jobs: int | None = None,
        ca: Path | None = None,
        cert: Path | None = None,
        key: Path | None = None,
        certs_dir: Path | None = None,
        retries: int = 5,
        retry_max_time: float = 900.0,
        stall_timeout: float = 60.0,
        trace: Callable[[str], None] | None = None,
        journal: Log | None = None,
        planning: bool = False,
    ) -> None:
        self._pool = Pool(
            insecure=insecure,
            ca=ca,
            cert=cert,
            key=key,
            certs_dir=certs_dir,
            retries=retries,
            retry_max_time=retry_max_time,
            stall_timeout=stall_timeout,
            trace=trace,
        )
        default = keychain if keychain is not None else DefaultKeychain()
        self._reading = _as(source_credential, default)
        self._writing = _as(destination_credential, default)
        self._jobs = jobs
        self._ids = count(1)
        self._remotes: dict[tuple[Repository, bool], Remote] = {}
        self._origins: dict[tuple[str, bool], Origin] = {}
        self._stores: dict[Place, Any] = {}
        self._stack = AsyncExitStack()
        self._runner: Runner | None = None
        self._local = LocalExecutor(self)
        self._planning = PlanningExecutor(self, self._local) if planning else None
        self._journal = journal

    async def __aenter__(self) -> Self:
        async with AsyncExitStack() as stack:
            await stack.enter_async_context(self._pool)
            tasks = await stack.enter_async_context(anyio.create_task_group())
            stack.callback(tasks.cancel_scope.cancel)
            self._runner = self._start(tasks)
            self._stack = stack.pop_all()
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        # the caller's error is not the task group's: told of it, the group would wrap it in an ExceptionGroup
        await self._stack.aclose()

    def _start(self, tasks: TaskGroup) -> Runner:
        executor: Executor = self._planning or self._local
        if self._journal is not None:
            executor = JournaledExecutor(executor, self._journal)
        runner = Runner(executor, tasks, Scheduler(jobs=self._jobs))
        if self._planning is not None:
            runner.observe(self._planning.observe)
        if self._journal is not None:
            runner.observe(self._journal.record)
        return runner

    @property
    def costs(self) -> dict[str, SiteCosts]:
        """What all this would cost, by registry; nothing where it is really done."""
        return self._planning.costs.sites() if self._planning is not None else {}

    @property
    def jobs(self) -> int | None:
        """Commands at once per registry, ``None`` when that adapts."""
        return self._jobs

    @property
    def runner(self) -> Runner:
        """The engine."""
        if self._runner is None:
            raise RuntimeError("the session is not open: use 'async with Session() as session'")
        return self._runner

    def origin(self, registry: str, *, writing: bool = False) -> Origin:
        """The client of one registry."""
        found = self._origins.get((registry, writing))
        if found is None:
            found = self._pool.origin(registry, self._writing if writing else self._reading)
            site = Site(registry, mounts=True)
            found.on_throttle = lambda seconds: self.runner.feed(Throttled(site, seconds))
            self._origins[registry, writing] = found
        return found

    def remote(self, repository: Repository, *, writing: bool = False) -> Remote:
        """One repository of a registry: a Source, a Sink and a Lister."""
        found = self._remotes.get((repository, writing))
        if found is None:
            origin = self.origin(repository.registry, writing=writing)
            found = self._remotes[repository, writing] = Remote(origin, repository)
        return found

    def use(self, store: Source | Sink) -> Place:
        """Let jobs name ``store`` by its place, which is returned."""
        self._stores[store.place] = store
        return store.place

    def source(self, place: Place) -> Source:
        """What a place is read with."""
        store: Source | None = self._stores.get(place)
        return store or self.remote(Repository(place.site.name, place.repository))

    def sink(self, place: Place) -> Sink:
        """What a place is written with."""
        store: Sink | None = self._stores.get(place)
        return store or self.remote(Repository(place.site.name, place.repository), writing=True)

    def next_id(self) -> int:
        """A number for a new job."""
        return next(self._ids)

    def add(self, job: Job, done: Callable[[Outcome], None]) -> None:
        """Start ``job`` and return; ``done`` is called with what became of it."""
        self.runner.add(job, done)

    async def submit(self, job: Job) -> Outcome:
        """Do ``job``. Whatever fails is in the outcome; cancelling the caller cancels the job, and of what it shares
        with other jobs only its own wish.
        """
        ended = anyio.Event()
        outcomes: list[Outcome] = []

        def done(outcome: Outcome) -> None:
            outcomes.append(outcome)
            ended.set()

        self.add(job, done)
        try:
            await ended.wait()
        finally:
            self.runner.cancel(job.id)
        return outcomes[0]

    def listed(self, place: Place, tags: tuple[str, ...] | None, *, complete: bool) -> None:
        """Tell the engine what tags a destination has (``None``: there is no such repository), to spare it asking."""
        self.runner.feed(TagsListed(place, tags, complete))

    def source_listed(self, place: Place, tags: tuple[str, ...]) -> None:
        """Tell the engine all tags of a source, to spare it asking what is attached by tag."""
        self.runner.feed(SourceListed(place, tags))

    def observe(self, observer: Callable[[Event | Command], None]) -> None:
        """Let ``observer`` see every event and command of the engine."""
        self.runner.observe(observer)

    def statistics(self) -> Statistics:
        """What has been done so far, and what is being done."""
        requests: dict[str, dict[str, int]] = {}
        parked: dict[str, float] = {}
        # one keychain, one origin: what is read from and written to is not to be counted twice
        for origin in {id(origin): origin for origin in self._origins.values()}.values():
            registry = origin.registry
            counts = requests.setdefault(registry, {})
            statistics = origin.statistics()
            for kind, number in statistics.requests.items():
                counts[kind] = counts.get(kind, 0) + number
            if origin.parked:
                parked[registry] = max(origin.parked, parked.get(registry, 0.0))
        return msgspec.structs.replace(
            self.runner.statistics(),
            bytes_read=self._local.bytes_read,
            transfers=self._local.transfers(),
            requests=requests,
            parked=parked,
        )

    def __repr__(self) -> str:
        return f"Session({', '.join(sorted({name for name, _ in self._origins})) or 'no registry yet'})"


def _as(credential: Credential | None, default: Keychain) -> Keychain:
    """The one credential for everything, if there is one; headers that the configuration adds stay."""
    return FixedKeychain(credential, headers=default.headers()) if credential else default
