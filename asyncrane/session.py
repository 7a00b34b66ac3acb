"""A session: one pool of connections, one keychain, one engine, for as many copies as one likes."""

from __future__ import annotations

from collections import Counter
from collections.abc import AsyncIterator, Callable, Iterator, Mapping, Sequence
from contextlib import AsyncExitStack, asynccontextmanager, contextmanager
from itertools import count
from pathlib import Path
from types import TracebackType
from typing import Any, Protocol, Self

import anyio
import msgspec
from anyio.abc import TaskGroup

from asyncrane.abc import Place, Sink, Site, Source, UploadLedger
from asyncrane.auth.credentials import Credential
from asyncrane.auth.keychain import DefaultKeychain, FixedKeychain, HostKeychain, Keychain
from asyncrane.engine.budget import SiteLimits
from asyncrane.engine.job import Job
from asyncrane.engine.journaled import JournaledExecutor, Log
from asyncrane.engine.messages import Command, Event, SourceListed, TagsListed, Throttled
from asyncrane.engine.outcome import Outcome, RegistryView, Statistics
from asyncrane.engine.placing import Donors, no_donors
from asyncrane.engine.planning import PlanningExecutor, SiteCosts
from asyncrane.engine.runner import Executor, LocalExecutor, Runner
from asyncrane.engine.scheduler import Scheduler
from asyncrane.errors import NotFound
from asyncrane.oci.digest import Digest
from asyncrane.oci.reference import Repository, parse_registry
from asyncrane.registry.creation import Creations
from asyncrane.stores.mirrored import Mirror, Mirrored
from asyncrane.stores.remote import Remote
from asyncrane.transport.options import RegistryOptions
from asyncrane.transport.origin import Origin
from asyncrane.transport.pool import Pool
from asyncrane.transport.statistics import OriginStatistics


class RunJournal(Log, UploadLedger, Protocol):
    """What a session needs of a journal."""


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
    :param retry_base: seconds of the first wait between attempts, about; each further one doubles it
    :param stall_timeout: seconds without a byte after which a connection counts as broken
    :param trace: called with a line for every request and answer, secrets left out
    :param registries: how single registries are talked to, by ``host[:port]``; credentials above come first
    :param rate: the most bytes of blobs a second from all registries together, and to all of them
    :param memory: bytes that blobs on their way may hold in memory, over all registries
    :param journal: what the engine does is written there, and what it holds is not asked again
    :param donors: which repositories of a registry had a blob when somebody looked; what the journal holds by default
    :param planning: ask only; nothing is written anywhere, and :attr:`costs` says what it would take
    :raises InvalidInput: when certificates or the names of registries cannot be used
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
        retry_base: float = 0.5,
        stall_timeout: float = 60.0,
        trace: Callable[[str], None] | None = None,
        registries: Mapping[str, RegistryOptions] | None = None,
        rate: int | None = None,
        memory: int | None = None,
        journal: RunJournal | None = None,
        donors: Donors | None = None,
        planning: bool = False,
    ) -> None:
        self._registries = {parse_registry(host): options for host, options in (registries or {}).items()}
        self._pool = Pool(
            insecure=insecure,
            ca=ca,
            cert=cert,
            key=key,
            certs_dir=certs_dir,
            retries=retries,
            retry_max_time=retry_max_time,
            retry_base=retry_base,
            stall_timeout=stall_timeout,
            trace=trace,
            registries=self._registries,
            rate=rate,
        )
        default = _with_registries(keychain if keychain is not None else DefaultKeychain(), self._registries)
        self._keychain = default
        self._reading = _as(source_credential, default)
        self._writing = _as(destination_credential, default)
        self._memory = memory
        self._jobs = jobs
        self._ids = count(1)
        self._remotes: dict[tuple[Repository, bool], Remote] = {}
        self._origins: dict[tuple[str, bool], Origin] = {}
        self._mirrors: dict[str, tuple[Mirror, Origin]] = {}
        self._sources: dict[Repository, Source] = {}
        self._stores: dict[Place, Any] = {}
        self._stack = AsyncExitStack()
        self._runner: Runner | None = None
        self._local = LocalExecutor(self)
        self._journal = journal
        self._recorded = donors or (journal.donors if journal is not None else no_donors)
        self._seen: dict[tuple[str, bytes], str] = {}
        self._planning = PlanningExecutor(self, self._local, self._donors) if planning else None

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

    @asynccontextmanager
    async def fresh_engine(self) -> AsyncIterator[Runner]:
        """An engine besides :attr:`runner` that takes nothing for granted: what that one knows to be somewhere may have
        been deleted since. What it has not done when the context ends is not done.
        """
        async with anyio.create_task_group() as tasks:
            yield self._start(tasks)
            tasks.cancel_scope.cancel()

    def _start(self, tasks: TaskGroup) -> Runner:
        executor: Executor = self._planning or self._local
        if self._journal is not None:
            executor = JournaledExecutor(executor, self._journal)
        limits = {
            host: SiteLimits(options.requests, options.streams)
            for host, options in self._registries.items()
            if options.requests or options.streams
        }
        scheduler = Scheduler(jobs=self._jobs, limits=limits, memory=self._memory, donors=self._donors)
        runner = Runner(executor, tasks, scheduler)
        if self._planning is not None:
            runner.observe(self._planning.observe)
        if self._journal is not None:
            runner.observe(self._journal.record)
        return runner

    def _donors(self, site: Site, digest: Digest) -> tuple[str, ...]:
        seen = self._seen.get((site.name, digest.raw)) if self._seen else None
        recorded = self._recorded(site, digest)
        return recorded if seen is None else (seen, *recorded)

    def seen(self, place: Place, digest: Digest) -> None:
        """Somebody saw the blob in ``place``: other repositories there may mount it instead of having it sent."""
        self._seen[place.site.name, digest.raw] = place.repository

    @property
    def found(self) -> Mapping[Place, Sequence[Digest]]:
        """Blobs that were found at destinations while planning."""
        return self._planning.found if self._planning is not None else {}

    @property
    def costs(self) -> dict[str, SiteCosts]:
        """What all this would cost, by registry; nothing where it is really done."""
        return self._planning.costs.sites() if self._planning is not None else {}

    @property
    def jobs(self) -> int | None:
        """Commands at once per registry, ``None`` when that adapts."""
        return self._jobs

    def at_once(self, registry: str) -> int | None:
        """Requests that ``registry`` may be sent at once, ``None`` when that adapts."""
        options = self._registries.get(registry)
        return (options.requests if options is not None else None) or self._jobs

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
            options = self._registries.get(registry)
            self._keep_numbers(found)
            if writing and options is not None and options.on_missing != "fail":
                found.on_missing = Creations(registry, options.on_missing)
            self._origins[registry, writing] = found
        return found

    def _keep_numbers(self, origin: Origin) -> None:
        """Numbers that somebody fixed are kept exactly (A5, I7): no blob is read in parallel parts."""
        options = self._registries.get(origin.registry)
        if self.at_once(origin.registry) or self._memory or (options is not None and options.streams):
            origin.capabilities.parts = 1

    def remote(self, repository: Repository, *, writing: bool = False) -> Remote:
        """One repository of a registry: a Source, a Sink and a Lister."""
        found = self._remotes.get((repository, writing))
        if found is None:
            origin = self.origin(repository.registry, writing=writing)
            ledger = self._journal if writing else None
            found = self._remotes[repository, writing] = Remote(origin, repository, ledger=ledger)
        return found

    def use(self, store: Source | Sink) -> Place:
        """Let jobs name ``store`` by its place, which is returned."""
        self._stores[store.place] = store
        return store.place

    @contextmanager
    def using(self, store: Source | Sink) -> Iterator[Place]:
        """As :meth:`use`, while the context lasts, in which every job with ``store`` has to end."""
        place = self.use(store)
        try:
            yield place
        finally:
            del self._stores[place]

    def source(self, place: Place) -> Source:
        """What a place is read with.

        :raises NotFound: when it is a store that is not in use any more
        """
        store: Source | None = self._stores.get(place)
        if store is None and not place.site.mounts:
            raise NotFound(f"{place}: not in use any more")
        return store or self._source(Repository(place.site.name, place.repository))

    def _source(self, repository: Repository) -> Source:
        """The repository, through the mirrors of its registry."""
        options = self._registries.get(repository.registry)
        if options is None or not options.mirrors:
            return self.remote(repository)
        found = self._sources.get(repository)
        if found is None:
            mirrors = [self._mirrored(repository, name) for name in options.mirrors]
            found = self._sources[repository] = Mirrored(self.remote(repository), mirrors)
        return found

    def _mirrored(self, repository: Repository, name: str) -> tuple[Mirror, Source]:
        """The repository at the mirror called ``host[:port][/path]``. Nobody is shown what is meant for another host:
        a mirror sees its own credentials, not the source's.
        """
        host, _, prefix = name.partition("/")
        known = self._mirrors.get(host)
        if known is None:
            origin = self._pool.origin(parse_registry(host), self._keychain, spare=True)
            self._keep_numbers(origin)
            known = self._mirrors[host] = Mirror(host), origin
        path = f"{prefix.strip('/')}/{repository.path}" if prefix.strip("/") else repository.path
        return known[0], Remote(known[1], Repository(known[1].registry, path))

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
        engine = self.runner.statistics()
        registries: dict[str, RegistryView] = {}
        # one keychain, one origin: what is read from and written to is not to be counted twice
        origins = [*self._origins.values(), *(origin for _, origin in self._mirrors.values())]
        for origin in {id(origin): origin for origin in origins}.values():
            name = origin.registry
            view = registries.get(name) or engine.registries.get(name) or RegistryView()
            registries[name] = _counted(view, origin.statistics(), origin.parked)
        return msgspec.structs.replace(
            engine,
            bytes_read=self._local.bytes_read,
            transfers=self._local.transfers(),
            registries=registries,
            requests={name: view.requests for name, view in registries.items()},
            parked={name: view.parked for name, view in registries.items() if view.parked},
        )

    def __repr__(self) -> str:
        return f"Session({', '.join(sorted({name for name, _ in self._origins})) or 'no registry yet'})"


def _counted(view: RegistryView, counts: OriginStatistics, parked: float) -> RegistryView:
    """``view`` with what went over the wire of one more origin."""
    return msgspec.structs.replace(
        view,
        requests=dict(Counter(view.requests) + Counter(counts.requests)),
        sent=view.sent + counts.sent,
        received=view.received + counts.received,
        retries=view.retries + counts.retries,
        parked=max(view.parked, parked),
    )


def _with_registries(keychain: Keychain, registries: Mapping[str, RegistryOptions]) -> Keychain:
    """What is said of single registries, and ``keychain`` for the others."""
    credentials = {host: options.credential for host, options in registries.items() if options.credential}
    helpers = {host: options.helper for host, options in registries.items() if options.helper}
    return HostKeychain(keychain, credentials=credentials, helpers=helpers) if credentials or helpers else keychain


def _as(credential: Credential | None, default: Keychain) -> Keychain:
    """The one credential for everything, if there is one; headers that the configuration adds stay."""
    return FixedKeychain(credential, headers=default.headers()) if credential else default
