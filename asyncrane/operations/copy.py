"""Copying: one image to one or several places, all tags of a repository, or many pairs in one run."""

from __future__ import annotations

from collections import deque
from collections.abc import AsyncIterator, Callable, Sequence
from contextlib import AbstractAsyncContextManager, nullcontext
from typing import cast

import anyio
import msgspec

from asyncrane.abc import Lister, Place, Sink
from asyncrane.engine.job import Job, Target
from asyncrane.engine.outcome import Outcome, TargetOutcome
from asyncrane.errors import AsyncraneError, Failure, InvalidReference, TagExists
from asyncrane.oci import media
from asyncrane.oci.digest import Digest
from asyncrane.oci.platform import DEFAULT_PLATFORM, Platform
from asyncrane.oci.reference import Reference, check_tag
from asyncrane.operations.places import SINGLE, TOOK_ONE, Places, place_of
from asyncrane.session import Session
from asyncrane.stores.locate import Location, parse_location, parse_repository, refuse_registry
from asyncrane.stores.remote import Remote

LISTINGS = 8
"""Repositories whose tags are listed at the same time."""

OPEN = 1024
"""Jobs that are open at a time: enough to keep every registry busy."""


class Pair(msgspec.Struct, frozen=True):
    """What to copy and where to: images (:func:`~asyncrane.stores.locate.parse_location`), or repositories, layouts
    and archives where all tags are meant.
    """

    source: str
    destinations: tuple[str, ...]


class _Wishes(msgspec.Struct, frozen=True):
    platforms: tuple[Platform, ...] = ()
    clobber: bool = True
    nondistributable: bool = False
    referrers: bool = False


async def copy(
    session: Session,
    source: str,
    *destinations: str,
    platforms: Sequence[Platform] = (),
    clobber: bool = True,
    nondistributable: bool = False,
    referrers: bool = False,
) -> Outcome:
    """Copy the image ``source`` to every destination, reading it once.

    An index is copied whole and unchanged unless ``platforms`` says which parts: one gives that image, several an
    index of these. ``nondistributable`` copies layers that are normally left where their ``urls`` point, ``referrers``
    what is attached (signatures, SBOMs).

    :raises InvalidReference: when a name is not an image's, or a file may mean several images
    :raises TagExists: when not ``clobber`` and a destination tag names something else
    :raises AsyncraneError: the first destination's failure; the others have been tried
    """
    wishes = _Wishes(tuple(platforms), clobber, nondistributable, referrers)
    wanted = _Wanted.parse(source, destinations)
    async with Places(session) as places:
        job, notes = await wanted.job(session, places, wishes)
        outcome = _noted(await session.submit(job), notes)
        places.tell(job, outcome)
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
    referrers: bool = False,
    on_outcome: Callable[[Outcome], None] | None = None,
) -> list[Outcome]:
    """Copy every pair in one run: what they share is moved once. With ``all_tags`` pairs are repositories.

    What fails is in the outcomes; the others go on.

    :raises InvalidReference: when a name cannot be used, before anything is copied
    """
    wishes = _Wishes(tuple(platforms), clobber, nondistributable, referrers)
    async with Places(session) as places:
        collected = _Collected(places, on_outcome, hold=all_tags and session.jobs is not None)
        if not all_tags:
            wanted = [_Wanted.parse(pair.source, pair.destinations) for pair in pairs]
            for job, notes in [await one.job(session, places, wishes) for one in wanted]:
                collected.add(session, job, notes)
        else:
            trees = [(_repository(p.source), tuple(_repository(d) for d in p.destinations)) for p in pairs]
            await _submit_trees(session, places, trees, collected, wishes)
        await collected.finish(session)
    return collected.outcomes


class _Wanted(msgspec.Struct, frozen=True):
    """One copy, in words that have been checked."""

    source: Location
    destinations: tuple[Location, ...]

    @classmethod
    def parse(cls, source: str, destinations: Sequence[str]) -> _Wanted:
        if not destinations:
            raise InvalidReference("a copy needs at least one destination")
        for text in destinations:
            refuse_registry(text)
        return cls(parse_location(source), tuple(parse_location(text) for text in destinations))

    async def job(self, session: Session, places: Places, wishes: _Wishes) -> tuple[Job, tuple[str, ...]]:
        """The job, and what there is to say about it."""
        source = await places.source(self.source)
        targets = tuple([await places.target(destination) for destination in self.destinations])
        job = _make(session, source.place, targets, wishes, tag=source.tag, digest=source.digest)
        if job.platforms or not all(destination.kind in SINGLE for destination in self.destinations):
            return job, ()
        try:
            found = await session.source(source.place).resolve(source.identifier)
        except AsyncraneError:  # it will fail in its turn, and others not with it
            return job, ()
        if found.media_type not in media.INDEXES:
            return job, ()
        return msgspec.structs.replace(job, platforms=(DEFAULT_PLATFORM,)), (TOOK_ONE,)


class _Collected:
    """Outcomes as they come, until there is one for every job. Of very many jobs :data:`OPEN` are begun at a time: what
    the engine knows of a job takes more memory than the job.
    """

    def __init__(self, places: Places, on_outcome: Callable[[Outcome], None] | None, *, hold: bool) -> None:
        self.outcomes: list[Outcome] = []
        self._places = places
        self._on_outcome = on_outcome
        self._hold = hold
        self._held: deque[tuple[Job, tuple[str, ...]]] = deque()
        self._open = 0
        self._moved = anyio.Event()

    def add(self, session: Session, job: Job, notes: tuple[str, ...] = ()) -> None:
        if self._hold or self._open >= OPEN:
            self._held.append((job, notes))
            return
        self._open += 1
        session.add(job, lambda outcome: self._done(job, _noted(outcome, notes)))

    def _done(self, job: Job, outcome: Outcome) -> None:
        self._open -= 1
        self._places.tell(job, outcome)
        self.put(outcome)
        self._moved.set()

    def put(self, outcome: Outcome) -> None:
        self.outcomes.append(outcome)
        if self._on_outcome is not None:
            self._on_outcome(outcome)

    async def finish(self, session: Session) -> None:
        """Start what was held, and wait for all."""
        self._hold = False
        while self._open or self._held:
            self._moved = anyio.Event()
            while self._held and self._open < OPEN:
                self.add(session, *self._held.popleft())
            if self._open:
                await self._moved.wait()


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


async def _submit_trees(
    session: Session,
    places: Places,
    trees: Sequence[tuple[Location, tuple[Location, ...]]],
    collected: _Collected,
    wishes: _Wishes,
) -> None:
    """Make a job of every tag of every tree. What is in files is opened first, by this task, which closes it."""
    opened = []
    for source, destinations in trees:
        lister = await places.store(source)
        targets = [await places.store(destination, writing=True) for destination in destinations]
        opened.append(_Tree(session, source, lister, destinations, targets, wishes))
    listings = _Listings(session.jobs)
    async with anyio.create_task_group() as tasks:
        for tree in opened:
            tasks.start_soon(tree.submit, collected, listings)


class _Tree:
    """One repository with all its tags, or all that is in a layout or archive."""

    def __init__(
        self,
        session: Session,
        source: Location,
        lister: Lister,
        destinations: Sequence[Location],
        stores: Sequence[Sink],
        wishes: _Wishes,
    ) -> None:
        self._session = session
        self._source = source
        self._place = place_of(source.repository) if source.kind == "registry" else cast("Sink", lister).place
        self._lister = lister
        self._destinations = tuple(zip(destinations, stores, strict=True))
        self._wishes = wishes
        self._names: dict[str, str] = {}

    async def submit(self, collected: _Collected, listings: _Listings) -> None:
        """Make a job of every tag as the listing comes in, once it is known what the destinations have."""
        try:
            async with listings.repositories:
                tags = self._lister.tags()
                first: list[str] = []
                async with anyio.create_task_group() as tasks:
                    for destination, store in self._destinations:
                        if destination.kind == "registry":
                            tasks.start_soon(self._look, store, listings)
                    async with listings.of(self._place.site.name):
                        failure = await self._first(tags, first)
                if failure is not None:
                    raise failure
                for tag in first:
                    self._add(tag, collected)
                async with listings.of(self._place.site.name):
                    async for tag in tags:
                        self._add(tag, collected)
        except AsyncraneError as exc:
            collected.put(self._lost(str(self._source), exc))

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

    async def _look(self, store: Sink, listings: _Listings) -> None:
        """One page of the destination's tags spares asking for each; without it each is asked for, and it is those
        questions that fail where nobody answers: no other destination and no other repository has to suffer.
        """
        if not isinstance(store, Remote):
            return
        try:
            async with listings.of(store.place.site.name):
                page = await store.tags_page(writing=True)  # one token for this and for the writes that follow
        except AsyncraneError:
            return
        tags, complete = page if page is not None else (None, True)
        self._session.listed(store.place, tuple(tags) if tags is not None else None, complete=complete)

    def _add(self, tag: str, collected: _Collected) -> None:
        try:
            targets = tuple(Target(store.place, self._tag(tag, there)) for there, store in self._destinations)
        except AsyncraneError as exc:
            collected.put(self._lost(str(self._source.named(tag)), exc))
        else:
            collected.add(self._session, _make(self._session, self._place, targets, self._wishes, tag=tag))

    def _tag(self, name: str, destination: Location) -> str:
        """What the image is called there: in a registry a whole reference, as files may have it, is no tag.

        :raises InvalidReference: when it has none, or one that another image has
        """
        if destination.kind != "registry" or self._source.kind == "registry":
            return name
        tag = check_tag(Reference.parse(name).tag or "") if ":" in name or "/" in name else check_tag(name)
        if self._names.setdefault(tag, name) != name:
            raise InvalidReference(f"{name} and {self._names[tag]} would both be {destination.named(tag)}")
        return tag

    def _lost(self, source: str, error: AsyncraneError) -> Outcome:
        failure = Failure.of(error)
        return Outcome(source, targets=tuple(TargetOutcome(str(d), "failed", failure) for d, _ in self._destinations))


def _noted(outcome: Outcome, notes: tuple[str, ...]) -> Outcome:
    return msgspec.structs.replace(outcome, notes=(*notes, *outcome.notes)) if notes else outcome


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
        referrers=wishes.referrers,
    )


def _repository(text: str) -> Location:
    refuse_registry(text)
    return parse_repository(text)
