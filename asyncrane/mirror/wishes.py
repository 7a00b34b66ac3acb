"""From the rules of a mirror file to the images they mean: repositories and tags listed, selected and renamed."""

from __future__ import annotations

import contextlib
from collections.abc import Iterable, Iterator, Mapping

import anyio
import msgspec

from asyncrane.abc import Place, Site
from asyncrane.engine.job import Job, Overwrite, Target
from asyncrane.errors import AsyncraneError, Failure, InvalidMirrorSpec
from asyncrane.mirror import ages, catalog
from asyncrane.mirror.select import choose, needs_created
from asyncrane.mirror.spec import MirrorSpec, Rule
from asyncrane.oci.digest import Digest
from asyncrane.oci.platform import Platform
from asyncrane.oci.reference import Reference, Repository
from asyncrane.session import Session

LISTINGS = 16
"""Repositories that are listed at the same time."""


class Unreadable(msgspec.Struct, frozen=True):
    """A repository that could not be listed; nothing is concluded from that (H5)."""

    repository: str
    failure: Failure


class Wish(msgspec.Struct, frozen=True):
    """One image that a rule wants at some places; ``line`` is the rule's in its file."""

    source: Repository
    targets: tuple[Target, ...]
    tag: str | None = None
    digest: Digest | None = None
    platforms: tuple[Platform, ...] = ()
    overwrite: Overwrite = "if-different"
    referrers: bool = True
    nondistributable: bool = False
    line: int = 0

    @property
    def identity(self) -> tuple[str, str, tuple[Platform, ...]]:
        """What it is that is wanted: two wishes of one identity can never differ."""
        return str(self.source), str(self.digest or self.tag), self.platforms

    def job(self, number: int) -> Job:
        """The job that fulfils it."""
        return Job(
            id=number,
            source=place_of(self.source),
            targets=self.targets,
            tag=self.tag,
            digest=self.digest,
            platforms=self.platforms,
            overwrite=self.overwrite,
            nondistributable=self.nondistributable,
            referrers=self.referrers,
        )

    def __str__(self) -> str:
        return str(Reference(self.source, self.tag, self.digest))


class Selection(msgspec.Struct, frozen=True):
    """What one rule selected in one repository: for pruning."""

    rule: Rule
    source: Repository
    groups: Mapping[str, str]
    tags: frozenset[str]


class Gathered(msgspec.Struct):
    """Everything that a file means at this moment; ``listings`` holds all tags of the sources that were listed."""

    rules: tuple[Rule, ...] = ()
    wishes: list[Wish] = []
    selections: list[Selection] = []
    unreadable: list[Unreadable] = []
    listings: dict[Repository, tuple[str, ...]] = {}


async def gather(session: Session, spec: MirrorSpec) -> Gathered:
    """List what the rules name and select from it; only reads.

    :raises InvalidMirrorSpec: when two rules give one destination tag different images (H2)
    """
    found, error = Gathered(), None
    async with anyio.create_task_group() as tasks:
        for registry in {template.registry for rule in spec.rules for template in rule.to} - {"{registry}"}:
            tasks.start_soon(_greet, session, registry)
        try:
            found = await _gather(session, spec)
        except AsyncraneError as exc:
            error = exc  # raised below: in here it would become a group
        tasks.cancel_scope.cancel()
    if error is not None:
        raise error
    return found


async def _greet(session: Session, registry: str) -> None:
    """Find out how a destination is spoken to while sources are being listed."""
    with contextlib.suppress(AsyncraneError):  # who needs it will hear of it
        await session.origin(registry, writing=True).base()


async def _gather(session: Session, spec: MirrorSpec) -> Gathered:
    found = Gathered(rules=tuple(spec.rules))
    limiter = anyio.CapacityLimiter(min(LISTINGS, session.jobs or LISTINGS))
    rules: list[tuple[Rule, Repository, Mapping[str, str]]] = []
    for rule in spec.rules:
        if rule.image is not None:
            found.wishes.append(_single(rule, rule.image))
            continue
        rules += await _repositories(session, rule, found)
    lists: list[list[Wish]] = [[] for _ in rules]
    async with anyio.create_task_group() as tasks:
        for at, (rule, repository, groups) in enumerate(rules):
            tasks.start_soon(_of_repository, session, rule, repository, groups, found, lists[at], limiter)
    found.wishes += [wish for wishes in lists for wish in wishes]
    found.wishes = await _without_collisions(session, found.wishes)
    return found


async def prepare(session: Session, jobs: Iterable[Job], listings: Mapping[Repository, tuple[str, ...]]) -> None:
    """Tell the engine what saves it questions: tags of sources whose attachments go along, tags of destinations."""
    limiter = anyio.CapacityLimiter(min(LISTINGS, session.jobs or LISTINGS))
    jobs = list(jobs)
    async with anyio.create_task_group() as tasks:
        for source in dict.fromkeys(job.source for job in jobs if job.referrers):
            tags = listings.get(Repository(source.site.name, source.repository))
            if tags is not None:
                session.source_listed(source, tags)
            else:
                tasks.start_soon(_look_at_source, session, source, limiter)
        for destination in dict.fromkeys(target.place for job in jobs for target in job.targets if target.tag):
            tasks.start_soon(_look_at_destination, session, destination, limiter)


async def _look_at_source(session: Session, source: Place, limiter: anyio.CapacityLimiter) -> None:
    """Without a list cosign's tags are asked for one by one."""
    repository = Repository(source.site.name, source.repository)
    async with limiter:
        try:
            tags = await catalog.tags(session, repository)
        except AsyncraneError:
            return
    session.source_listed(source, tags)


async def _look_at_destination(session: Session, destination: Place, limiter: anyio.CapacityLimiter) -> None:
    """Without a list each tag is asked for."""
    remote = session.remote(Repository(destination.site.name, destination.repository), writing=True)
    async with limiter:
        try:
            page = await remote.tags_page(writing=True)
        except AsyncraneError:
            return
    tags, complete = page if page is not None else (None, True)
    session.listed(destination, tags, complete=complete)


async def _repositories(
    session: Session, rule: Rule, found: Gathered
) -> list[tuple[Rule, Repository, Mapping[str, str]]]:
    source = rule.source
    if source is None:
        return []
    try:
        listing = await catalog.repositories(session, source)
    except AsyncraneError as exc:
        found.unreadable.append(Unreadable(str(source), Failure.of(exc)))
        return []
    found.unreadable += [Unreadable(problem.repository, problem.failure) for problem in listing.problems]
    return [(rule, Repository(source.registry, name), source.match(name) or {}) for name in listing.names]


async def _of_repository(
    session: Session,
    rule: Rule,
    repository: Repository,
    groups: Mapping[str, str],
    found: Gathered,
    wishes: list[Wish],
    limiter: anyio.CapacityLimiter,
) -> None:
    async with limiter:
        try:
            tags = found.listings.get(repository)
            if tags is None:
                tags = found.listings[repository] = await catalog.tags(session, repository)
            created = await ages.created(session, repository, tags, rule.tags) if needs_created(rule.tags) else None
        except AsyncraneError as exc:
            found.unreadable.append(Unreadable(str(repository), Failure.of(exc)))
            return
    chosen = choose(tags, rule.tags, created=created)
    try:
        wanted = [(tag, tuple(_targets(rule, repository, tag, None, groups))) for tag in chosen]
    except InvalidMirrorSpec as exc:  # a name that is too long, of this repository only
        found.unreadable.append(Unreadable(str(repository), Failure.of(exc)))
        return
    found.selections.append(Selection(rule, repository, groups, frozenset(chosen)))
    wishes += [_wish(rule, repository, targets, tag, None) for tag, targets in wanted]


def _single(rule: Rule, image: Reference) -> Wish:
    targets = tuple(_targets(rule, image.repository, image.tag, image.digest, {}))
    return _wish(rule, image.repository, targets, image.tag, image.digest)


def _wish(rule: Rule, source: Repository, targets: tuple[Target, ...], tag: str | None, digest: Digest | None) -> Wish:
    return Wish(
        source,
        targets,
        tag=tag,
        digest=digest,
        platforms=rule.platforms,
        overwrite=rule.overwrite,
        referrers=rule.referrers,
        nondistributable=rule.nondistributable,
        line=rule.line,
    )


def _targets(
    rule: Rule, source: Repository, tag: str | None, digest: Digest | None, groups: Mapping[str, str]
) -> Iterator[Target]:
    for template in rule.to:
        repository, name = template.expand(
            registry=source.registry, path=source.path, tag=tag, digest=digest, groups=groups
        )
        yield Target(place_of(repository), name)


async def _without_collisions(session: Session, wishes: list[Wish]) -> list[Wish]:
    """Every destination tag once; two images for one tag are an error, unless they turn out to be the same."""
    first: dict[tuple[Place, str], Wish] = {}
    kept: list[Wish] = []
    for wish in wishes:
        targets = []
        for target in wish.targets:
            if target.tag is None:
                targets.append(target)
                continue
            before = first.setdefault((target.place, target.tag), wish)
            if before is wish:
                targets.append(target)
            elif before.identity != wish.identity:
                await _same(session, target, before, wish)
        if targets:
            kept.append(msgspec.structs.replace(wish, targets=tuple(targets)))
    return kept


async def _same(session: Session, target: Target, one: Wish, other: Wish) -> None:
    digests = [wish.digest or (await _resolve(session, wish)) for wish in (one, other)]
    if digests[0] != digests[1] or one.platforms != other.platforms:
        raise InvalidMirrorSpec(
            f"{target} is to be two images: {one} ({digests[0]!s}, rule of line {one.line}) "
            f"and {other} ({digests[1]!s}, rule of line {other.line})"
        )


async def _resolve(session: Session, wish: Wish) -> Digest:
    found = await session.source(place_of(wish.source)).resolve(wish.tag or "latest")
    return found.digest


def place_of(repository: Repository) -> Place:
    """A repository of a registry as a place."""
    return Place(Site(repository.registry, mounts=True), repository.path)
