"""Two repositories, or two trees of repositories, compared with each other; nothing is copied."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from functools import partial

import anyio
import msgspec

from asyncrane.errors import AsyncraneError, NotFound
from asyncrane.mirror import catalog
from asyncrane.mirror.comparison import Ledger, Route, compare, width
from asyncrane.mirror.crew import Crew
from asyncrane.mirror.difference import Difference, Totals
from asyncrane.mirror.reading_back import Image
from asyncrane.mirror.spec import SourcePattern
from asyncrane.oci.reference import Repository, parse_registry
from asyncrane.registry.referrers import is_fallback_tag
from asyncrane.session import Session

__all__ = ["Difference", "Totals", "compare", "diff"]

_REPOSITORIES = 8
"""Pairs of repositories that are compared at the same time."""


async def diff(
    session: Session,
    a: str,
    b: str,
    *,
    recursive: bool = False,
    deep: bool = False,
    on_difference: Callable[[Difference], None],
) -> Totals:
    """Compare repository ``b`` with repository ``a``: their tags, and what these name. With ``recursive`` they are
    trees, ``HOST`` or ``HOST/PREFIX``, whose repositories are compared by the rest of their names. ``deep`` reads every
    manifest of ``b`` back and asks it for every blob and everything attached in ``a`` (G4).

    :raises InvalidReference: when they are not repositories, or trees
    :raises NotFound: when there is neither repository
    :raises AsyncraneError: when what there is to compare cannot be listed
    """
    if recursive:
        return await _Trees(session, _Tree.parse(a), _Tree.parse(b), deep=deep, tell=on_difference).compare()
    one, other = Repository.parse(a), Repository.parse(b)
    limiter = anyio.CapacityLimiter(width(session, (one.registry, other.registry)))
    return await _repositories(session, one, other, deep=deep, limiter=limiter, tell=on_difference)


async def _repositories(
    session: Session,
    a: Repository,
    b: Repository,
    *,
    deep: bool,
    limiter: anyio.CapacityLimiter,
    tell: Callable[[Difference], None],
) -> Totals:
    listing = await _tags(session, a)
    there = await _tags(session, b, writing=True)
    if listing is None and there is None:
        raise NotFound(f"there is neither {a} nor {b}", status=404)
    if listing is None or there is None:
        tell(_alone(a if listing is not None else None, b if there is not None else None))
        return Totals(0, 1)
    wanted, had = _images(listing), _images(there)
    missing, extra = sorted(wanted - had), sorted(had - wanted)
    for tag in missing:
        tell(Difference("missing", f"{a}:{tag}", f"{b}:{tag}"))
    for tag in extra:
        tell(Difference("extra", destination=f"{b}:{tag}"))
    images = (Image(tag, tag) for tag in sorted(wanted & had))
    compared = await compare(
        session,
        Route(a, b),
        images,
        deep=deep,
        listing=listing,
        ledger=Ledger(limiter, missing),
        sink=lambda difference, _: tell(difference),
    )
    lone = len(missing) + len(extra)
    return compared + Totals(lone, lone)


async def _tags(session: Session, repository: Repository, *, writing: bool = False) -> tuple[str, ...] | None:
    try:
        return await catalog.tags(session, repository, writing=writing)
    except NotFound:
        return None


def _images(tags: Iterable[str]) -> set[str]:
    """Without the tags that stand in for the referrers API: each registry has those that it needs."""
    return {tag for tag in tags if not is_fallback_tag(tag)}


def _alone(a: Repository | None, b: Repository | None) -> Difference:
    """A repository that the other side has not got."""
    if a is not None:
        return Difference("missing-repository", source=str(a))
    return Difference("extra-repository", destination=str(b))


class _Tree(msgspec.Struct, frozen=True):
    """All repositories of a registry whose names begin with ``prefix``, which is empty or ends with a slash."""

    registry: str
    prefix: str

    @classmethod
    def parse(cls, text: str) -> _Tree:
        host, _, prefix = text.rstrip("/").partition("/")
        registry = parse_registry(host)
        if prefix:
            Repository.parse(f"{registry}/{prefix}")
        return cls(registry, f"{prefix}/" if prefix else "")

    def repository(self, name: str) -> Repository:
        return Repository(self.registry, self.prefix + name)

    async def names(self, session: Session, problems: list[catalog.Problem]) -> set[str]:
        """What its repositories are called below the prefix."""
        found = await catalog.repositories(session, SourcePattern(registry=self.registry, pattern=f"{self.prefix}**"))
        problems += found.problems
        return {name.removeprefix(self.prefix) for name in found.names if name.startswith(self.prefix)}


class _Trees:
    """Two trees, compared repository by repository."""

    def __init__(
        self,
        session: Session,
        a: _Tree,
        b: _Tree,
        *,
        deep: bool,
        tell: Callable[[Difference], None],
    ) -> None:
        self._session = session
        self._a = a
        self._b = b
        self._deep = deep
        self._limiter = anyio.CapacityLimiter(width(session, (a.registry, b.registry)))
        self._tell = tell
        self._totals = Totals()

    async def compare(self) -> Totals:
        """All repositories; one that cannot be read is told of and does not end it."""
        of_a: list[catalog.Problem] = []
        of_b: list[catalog.Problem] = []
        wanted = await self._a.names(self._session, of_a)
        had = await self._b.names(self._session, of_b)
        for problem in of_a:
            self._told(Difference("unreadable", source=problem.repository, detail=problem.failure.message))
        for problem in of_b:
            self._told(Difference("unreadable", destination=problem.repository, detail=problem.failure.message))
        for name in sorted(wanted - had):
            if not _unknown(self._b.repository(name), of_b):
                self._told(_alone(self._a.repository(name), None))
        for name in sorted(had - wanted):
            if not _unknown(self._a.repository(name), of_a):
                self._told(_alone(None, self._b.repository(name)))
        pairs = (partial(self._pair, name) for name in sorted(wanted & had))
        await Crew(pairs, size=_REPOSITORIES, limiter=anyio.CapacityLimiter(_REPOSITORIES)).run()
        return self._totals

    async def _pair(self, name: str) -> None:
        a, b = self._a.repository(name), self._b.repository(name)
        try:
            totals = await _repositories(self._session, a, b, deep=self._deep, limiter=self._limiter, tell=self._tell)
        except AsyncraneError as exc:
            self._told(Difference("unreadable", str(a), str(b), detail=str(exc)))
        else:
            self._totals += totals

    def _told(self, difference: Difference) -> None:
        self._totals += Totals(0, 1)
        self._tell(difference)


def _unknown(repository: Repository, problems: Iterable[catalog.Problem]) -> bool:
    """Whether nobody knows if there is such a repository."""
    name = str(repository)
    for problem in problems:
        below = problem.repository.removesuffix("/**")
        if name == below or (below != problem.repository and name.startswith(f"{below}/")):
            return True
    return False
