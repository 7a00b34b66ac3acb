"""Lists of tags that spare the engine questions: which tags a destination has, what a source has attached by tag."""

from __future__ import annotations

from collections import Counter
from collections.abc import Collection, Iterable, Mapping

import anyio

from asyncrane.abc import Place
from asyncrane.engine.job import Job
from asyncrane.errors import AsyncraneError
from asyncrane.mirror import catalog
from asyncrane.oci.reference import Repository
from asyncrane.session import Session

LISTINGS = 16
"""Repositories that are listed at the same time."""


class Lists:
    """What the engine of ``session`` is told before it begins, each place once."""

    def __init__(self, session: Session) -> None:
        self._session = session
        self._limiter = anyio.CapacityLimiter(min(LISTINGS, session.jobs or LISTINGS))
        self._asked: set[Place] = set()
        self._answered: set[tuple[str, bool]] = set()

    async def tell(self, jobs: Iterable[Job], listings: Mapping[Repository, Collection[str]]) -> None:
        """All that ``jobs`` need and that is not known yet; ``listings`` are lists of sources that somebody has."""
        jobs = list(jobs)
        async with anyio.create_task_group() as tasks:
            for source in dict.fromkeys(job.source for job in jobs if job.referrers):
                tags = listings.get(Repository(source.site.name, source.repository))
                if tags is not None:
                    self._session.source_listed(source, tuple(tags))
                else:
                    tasks.start_soon(self._source, source)
            wanted = Counter(target.place for job in jobs for target in job.targets if target.tag)
            for destination, tags_wanted in wanted.items():
                if tags_wanted > 1:  # a single one is asked for by itself: one request, too, and no second later
                    tasks.start_soon(self.destination, destination)

    async def destination(self, place: Place) -> None:
        """Without a list each tag is asked for."""
        if place in self._asked:
            return
        self._asked.add(place)
        remote = self._session.remote(Repository(place.site.name, place.repository), writing=True)
        async with self._limiter:
            try:
                page = await remote.tags_page(writing=True)
            except AsyncraneError:
                return
        self.answered(place.site.name, writing=True)
        tags, complete = page if page is not None else (None, True)
        self._session.listed(place, tags, complete=complete)

    async def _source(self, place: Place) -> None:
        """Without a list cosign's tags are asked for one by one."""
        repository = Repository(place.site.name, place.repository)
        async with self._limiter:
            try:
                tags = await catalog.tags(self._session, repository)
            except AsyncraneError:
                return
        self.answered(place.site.name)
        self._session.source_listed(place, tags)

    def answered(self, registry: str, *, writing: bool = False) -> None:
        """``registry`` has listed something for us."""
        self._answered.add((registry, writing))

    def knows(self, source: str, destinations: Iterable[str]) -> bool:
        """Whether all these registries have listed something for us."""
        sides = ((source, False), *((name, True) for name in destinations))
        return all(side in self._answered for side in sides)

    def __repr__(self) -> str:
        return f"Lists({len(self._asked)} destinations)"
