"""From the rules of a mirror file to the images they mean: repositories and tags listed, selected and renamed."""

from __future__ import annotations

import contextlib
from collections.abc import Iterable, Iterator, Mapping
from datetime import datetime

import anyio
import msgspec
from anyio.abc import TaskGroup

from asyncrane.abc import Place, Site
from asyncrane.engine.job import Job, Overwrite, Target
from asyncrane.errors import AsyncraneError, Failure, InvalidMirrorSpec
from asyncrane.mirror import ages, catalog
from asyncrane.mirror.lists import LISTINGS, Lists
from asyncrane.mirror.rename import Template
from asyncrane.mirror.select import choose, needs_created
from asyncrane.mirror.spec import MirrorSpec, Rule, TagRule
from asyncrane.oci.digest import Digest
from asyncrane.oci.platform import Platform
from asyncrane.oci.reference import Reference, Repository
from asyncrane.session import Session


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
    """Everything that a file means at this moment; ``listings`` holds all tags of the sources that were listed,
    ``notes`` what may not be as it was meant.
    """

    rules: tuple[Rule, ...] = ()
    wishes: list[Wish] = []
    selections: list[Selection] = []
    unreadable: list[Unreadable] = []
    notes: list[str] = []
    listings: dict[Repository, tuple[str, ...]] = {}


async def gather(session: Session, spec: MirrorSpec, lists: Lists | None = None) -> Gathered:
    """List what the rules name and select from it; only reads. With ``lists`` those of the destinations are made at the
    same time.

    :raises InvalidMirrorSpec: when two rules give one destination tag different images (H2)
    """
    found, error = Gathered(rules=tuple(spec.rules)), None
    async with anyio.create_task_group() as tasks:
        for registry in {template.registry for rule in spec.rules for template in rule.to} - {"{registry}"}:
            tasks.start_soon(_greet, session, registry)
        try:
            await _Gathering(session, found, lists).run()
            found.notes += _idle(spec.file, found)
            found.wishes = await _without_collisions(session, found.wishes, spec.file)
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


def _idle(file: str, found: Gathered) -> list[str]:
    """The rules that mean nothing at all, most likely for a slip of the pen."""
    busy = {wish.line for wish in found.wishes}
    idle = [rule for rule in found.rules if rule.line not in busy and rule.source is not None]
    return [f"{file}:{rule.line}: {rule.source} has no tag that is selected" for rule in idle if not found.unreadable]


class _Gathering:
    """Fills ``found``."""

    def __init__(self, session: Session, found: Gathered, lists: Lists | None) -> None:
        self._session = session
        self._found = found
        self._lists = lists
        self._limiter = anyio.CapacityLimiter(min(LISTINGS, session.jobs or LISTINGS))

    async def run(self) -> None:
        """What all rules mean, in their order."""
        singles: list[Wish] = []
        lists: list[list[Wish]] = []
        async with anyio.create_task_group() as tasks:
            for rule in self._found.rules:
                if rule.image is not None:
                    singles.append(_single(rule, rule.image))
                    continue
                for repository, groups in await self._repositories(rule):
                    lists.append([])
                    tasks.start_soon(self._of_repository, tasks, rule, repository, groups, lists[-1])
        self._found.wishes = singles + [wish for wishes in lists for wish in wishes]

    async def _repositories(self, rule: Rule) -> list[tuple[Repository, Mapping[str, str]]]:
        source = rule.source
        if source is None:
            return []
        try:
            listing = await catalog.repositories(self._session, source)
        except AsyncraneError as exc:
            self._unreadable(source, exc)
            return []
        self._found.unreadable += [Unreadable(problem.repository, problem.failure) for problem in listing.problems]
        found = {Repository(source.registry, name): source.match(name) or {} for name in listing.names}
        copies = _copies(rule, found)
        return [(repository, groups) for repository, groups in found.items() if repository not in copies]

    async def _of_repository(
        self, tasks: TaskGroup, rule: Rule, repository: Repository, groups: Mapping[str, str], wishes: list[Wish]
    ) -> None:
        if rule.tags == TagRule():
            self._look_ahead(tasks, _fixed(rule, repository, groups))
        async with self._limiter:
            try:
                tags, created = await self._tags(rule, repository)
            except AsyncraneError as exc:
                self._unreadable(repository, exc)
                return
        chosen = choose(tags, rule.tags, created=created)
        try:
            wanted = [(tag, tuple(_targets(rule, repository, tag, None, groups))) for tag in chosen]
        except InvalidMirrorSpec as exc:  # a name that is too long, of this repository only
            self._unreadable(repository, exc)
            return
        self._look_ahead(tasks, (target for _, targets in wanted for target in targets))
        self._found.selections.append(Selection(rule, repository, groups, frozenset(chosen)))
        wishes += [_wish(rule, repository, targets, tag, None) for tag, targets in wanted]

    async def _tags(self, rule: Rule, repository: Repository) -> tuple[tuple[str, ...], Mapping[str, datetime] | None]:
        """All tags of a repository, and when what they name was made if the rule needs that."""
        tags = self._found.listings.get(repository)
        if tags is None:
            tags = self._found.listings[repository] = await catalog.tags(self._session, repository)
            if self._lists is not None:
                self._lists.answered(repository.registry)
        if not needs_created(rule.tags):
            return tags, None
        return tags, await ages.created(self._session, repository, tags, rule.tags)

    def _look_ahead(self, tasks: TaskGroup, targets: Iterable[Target]) -> None:
        if self._lists is not None:
            for place in dict.fromkeys(target.place for target in targets if target.tag):
                tasks.start_soon(self._lists.destination, place)

    def _unreadable(self, what: object, error: AsyncraneError) -> None:
        self._found.unreadable.append(Unreadable(str(what), Failure.of(error)))


def _copies(rule: Rule, sources: Mapping[Repository, Mapping[str, str]]) -> set[Repository]:
    """Which of its sources the rule has made of others, in a registry that it both reads and writes: copied again, they
    would be more with every run.
    """
    goes: dict[Repository, set[Repository]] = {}
    for template in rule.to:
        if "{tag}" in template.path or "{digest}" in template.path:
            continue
        for source, groups in sources.items():
            if template.registry in ("{registry}", source.registry):
                with contextlib.suppress(InvalidMirrorSpec):  # its images say so
                    goes.setdefault(source, set()).add(_expanded(template, source, groups))
    themselves = {source for source, where in goes.items() if source in where}
    waiting = list(goes.keys() - set().union(*goes.values()))
    made: set[Repository] = set()
    while waiting:
        fresh = (goes.get(waiting.pop(), set()) & sources.keys()) - made - themselves
        made |= fresh
        waiting += fresh
    return made


def _expanded(template: Template, source: Repository, groups: Mapping[str, str]) -> Repository:
    return template.expand(registry=source.registry, path=source.path, tag="any", digest=None, groups=groups)[0]


def _fixed(rule: Rule, source: Repository, groups: Mapping[str, str]) -> Iterator[Target]:
    """What a rule writes to whatever the tags are: all of them are wanted, so that these are nearly sure to be."""
    for template in rule.to:
        if not {"tag", "digest"} & set(template.names):
            with contextlib.suppress(InvalidMirrorSpec):  # its images say so
                yield _target(template, source, "any", None, groups)


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
        yield _target(template, source, tag, digest, groups)


def _target(
    template: Template, source: Repository, tag: str | None, digest: Digest | None, groups: Mapping[str, str]
) -> Target:
    repository, name = template.expand(
        registry=source.registry, path=source.path, tag=tag, digest=digest, groups=groups
    )
    return Target(place_of(repository), name)


async def _without_collisions(session: Session, wishes: list[Wish], file: str) -> list[Wish]:
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
                await _same(session, target, before, wish, file)
        if targets:
            kept.append(msgspec.structs.replace(wish, targets=tuple(targets)))
    return kept


async def _same(session: Session, target: Target, one: Wish, other: Wish, file: str) -> None:
    digests = [wish.digest or (await _resolve(session, wish)) for wish in (one, other)]
    if digests[0] != digests[1] or one.platforms != other.platforms:
        raise InvalidMirrorSpec(
            f"{file}:{other.line}: {target} is to be two images: {one} ({digests[0]!s}, rule of line {one.line}) "
            f"and {other} ({digests[1]!s}, rule of line {other.line})"
        )


async def _resolve(session: Session, wish: Wish) -> Digest:
    found = await session.source(place_of(wish.source)).resolve(wish.tag or "latest")
    return found.digest


def place_of(repository: Repository) -> Place:
    """A repository of a registry as a place."""
    return Place(Site(repository.registry, mounts=True), repository.path)
