"""Copying: one image to one or several places, all tags of a repository, or many pairs in one run."""

from __future__ import annotations

from collections.abc import AsyncIterator, Callable, Sequence
from contextlib import AbstractAsyncContextManager, nullcontext

import anyio
import msgspec

from asyncrane.abc import Place, Site
from asyncrane.engine.job import Job, Target
from asyncrane.engine.outcome import Outcome, TargetOutcome
from asyncrane.errors import AsyncraneError, Failure, InvalidReference, TagExists
from asyncrane.oci.digest import Digest
from asyncrane.oci.platform import Platform
from asyncrane.oci.reference import Reference, Repository, is_bare_registry
from asyncrane.session import Session

LISTINGS = 8
"""Repositories whose tags are listed at the same time."""


class Pair(msgspec.Struct, frozen=True):
    """What to copy and where to: image references, or repositories where all tags are meant."""

    source: str
    destinations: tuple[str, ...]


class _Wishes(msgspec.Struct, frozen=True):
    platforms: tuple[Platform, ...] = ()
    clobber: bool = True
    nondistributable: bool = False


async def copy(
    session: Session,
    source: str,
    *destinations: str,
    platforms: Sequence[Platform] = (),
    clobber: bool = True,
    nondistributable: bool = False,
) -> Outcome:
    """Copy the image ``source`` to every destination, reading it once.

    An index is copied whole and unchanged unless ``platforms`` says which parts: one gives that image, several an
    index of these. ``nondistributable`` copies layers that are normally left where their ``urls`` point.

    :raises InvalidReference: when a name is not an image reference
    :raises TagExists: when not ``clobber`` and a destination tag names something else
    :raises AsyncraneError: the first destination's failure; the others have been tried
    """
    wishes = _Wishes(tuple(platforms), clobber, nondistributable)
    outcome = await session.submit(_job(session, source, destinations, wishes))
    if outcome.failure is not None:
        raise outcome.failure.error()
    for target in outcome.targets:
        if target.status == "skipped":
            raise TagExists(f"refusing to clobber existing tag {target.destination}")
    return outcome


async def copy_all(
    session: Session,
    pairs: Sequence[Pair],
    *,
    all_tags: bool = False,
    platforms: Sequence[Platform] = (),
    clobber: bool = True,
    nondistributable: bool = False,
    on_outcome: Callable[[Outcome], None] | None = None,
) -> list[Outcome]:
    """Copy every pair in one run: what they share is moved once. With ``all_tags`` pairs are repositories.

    What fails is in the outcomes; the others go on.

    :raises InvalidReference: when a name cannot be used, before anything is copied
    """
    collected = _Collected(on_outcome, hold=all_tags and session.jobs is not None)
    wishes = _Wishes(tuple(platforms), clobber, nondistributable)
    if not all_tags:
        jobs = [_job(session, pair.source, pair.destinations, wishes) for pair in pairs]
        for job in jobs:
            collected.add(session, job)
    else:
        trees = [(_repository(p.source), tuple(_repository(d) for d in p.destinations)) for p in pairs]
        listings = _Listings(session.jobs)
        async with anyio.create_task_group() as tasks:
            for source, destinations in trees:
                tree = _Tree(session, source, destinations, wishes)
                tasks.start_soon(tree.submit, collected, listings)
    collected.release(session)
    await collected.wait()
    return collected.outcomes


class _Collected:
    """Outcomes as they come, until there is one for every job."""

    def __init__(self, on_outcome: Callable[[Outcome], None] | None, *, hold: bool) -> None:
        self.outcomes: list[Outcome] = []
        self._on_outcome = on_outcome
        self._hold = hold
        self._held: list[Job] = []
        self._open = 0
        self._none_open = anyio.Event()

    def add(self, session: Session, job: Job) -> None:
        if self._hold:
            self._held.append(job)
            return
        self._open += 1
        session.add(job, self._done)

    def release(self, session: Session) -> None:
        """Start what was held."""
        self._hold = False
        held, self._held = self._held, []
        for job in held:
            self.add(session, job)

    def _done(self, outcome: Outcome) -> None:
        self._open -= 1
        self.put(outcome)
        if not self._open:
            self._none_open.set()

    def put(self, outcome: Outcome) -> None:
        self.outcomes.append(outcome)
        if self._on_outcome is not None:
            self._on_outcome(outcome)

    async def wait(self) -> None:
        while self._open:
            self._none_open = anyio.Event()
            await self._none_open.wait()


class _Listings:
    """How many repositories are listed at the same time, and how many lists a registry is asked for at once.

    With ``jobs`` a registry gets no more than that many requests. The engine counts its own and knows nothing of lists,
    so these come first, and jobs only when all are there (:class:`_Collected` holds them).
    """

    def __init__(self, jobs: int | None) -> None:
        self.repositories = anyio.CapacityLimiter(LISTINGS)
        self._jobs = jobs
        self._registries: dict[str, anyio.CapacityLimiter] = {}

    def of(self, registry: str) -> AbstractAsyncContextManager[object]:
        """Enter to ask ``registry`` for a list."""
        if self._jobs is None:
            return nullcontext()
        return self._registries.setdefault(registry, anyio.CapacityLimiter(self._jobs))


class _Tree:
    """One repository with all its tags."""

    def __init__(
        self, session: Session, source: Repository, destinations: tuple[Repository, ...], wishes: _Wishes
    ) -> None:
        self._session = session
        self._source = source
        self._destinations = destinations
        self._wishes = wishes

    async def submit(self, collected: _Collected, listings: _Listings) -> None:
        """Make a job of every tag as the listing comes in, once it is known what the destinations have."""
        try:
            async with listings.repositories:
                tags = self._session.remote(self._source).tags()
                first: list[str] = []
                async with anyio.create_task_group() as tasks:
                    for destination in self._destinations:
                        tasks.start_soon(self._look, destination, listings)
                    async with listings.of(self._source.registry):
                        failure = await self._first(tags, first)
                if failure is not None:
                    raise failure
                for tag in first:
                    collected.add(self._session, self._job(tag))
                async with listings.of(self._source.registry):
                    async for tag in tags:
                        collected.add(self._session, self._job(tag))
        except AsyncraneError as exc:
            lost = tuple(TargetOutcome(str(d), "failed", Failure.of(exc)) for d in self._destinations)
            collected.put(Outcome(str(self._source), targets=lost))

    @staticmethod
    async def _first(tags: AsyncIterator[str], first: list[str]) -> AsyncraneError | None:
        """Fetch the first page, while others look at the destinations."""
        try:
            async for tag in tags:
                first.append(tag)
                break
        except AsyncraneError as exc:
            return exc
        return None

    async def _look(self, destination: Repository, listings: _Listings) -> None:
        """One page of the destination's tags spares asking for each; without it each is asked for, and it is those
        questions that fail where nobody answers: no other destination and no other repository has to suffer.
        """
        repository = self._session.remote(destination, writing=True)
        try:
            async with listings.of(destination.registry):
                page = await repository.tags_page(writing=True)  # one token for this and for the writes that follow
        except AsyncraneError:
            return
        tags, complete = page if page is not None else (None, True)
        self._session.listed(_place(destination), tuple(tags) if tags is not None else None, complete=complete)

    def _job(self, tag: str) -> Job:
        targets = tuple(Target(_place(destination), tag) for destination in self._destinations)
        return _make(self._session, _place(self._source), targets, self._wishes, tag=tag)


def _job(session: Session, source: str, destinations: Sequence[str], wishes: _Wishes) -> Job:
    wanted = Reference.parse(source)
    targets = tuple(_target(text) for text in destinations)
    if not targets:
        raise InvalidReference("a copy needs at least one destination")
    return _make(session, _place(wanted.repository), targets, wishes, tag=wanted.tag, digest=wanted.digest)


def _make(
    session: Session,
    source: Place,
    targets: tuple[Target, ...],
    wishes: _Wishes,
    *,
    tag: str | None,
    digest: Digest | None = None,
) -> Job:
    return Job(
        id=session.next_id(),
        source=source,
        targets=targets,
        tag=tag,
        digest=digest,
        platforms=wishes.platforms,
        overwrite="if-different" if wishes.clobber else "if-missing",
        nondistributable=wishes.nondistributable,
    )


def _target(text: str) -> Target:
    _refuse_bare(text)
    reference = Reference.parse(text)
    return Target(_place(reference.repository), reference.tag, reference.digest)


def _repository(text: str) -> Repository:
    _refuse_bare(text)
    return Repository.parse(text)


def _refuse_bare(text: str) -> None:
    if is_bare_registry(text):
        raise InvalidReference(f"{text!r} is a registry without a repository (expected {text.rstrip('/')}/NAME)")


def _place(repository: Repository) -> Place:
    return Place(Site(repository.registry, mounts=True), repository.path)
