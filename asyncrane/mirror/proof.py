"""Proof that a mirror is what its file says: every image compared, and what differs copied again where asked."""

from __future__ import annotations

from collections.abc import Callable

import msgspec

from asyncrane.errors import Failure
from asyncrane.mirror.running import Running
from asyncrane.mirror.spec import MirrorSpec
from asyncrane.mirror.verify import Difference, compare
from asyncrane.mirror.wishes import Wish, gather, prepare
from asyncrane.oci.platform import Platform
from asyncrane.oci.reference import Repository
from asyncrane.session import Session


class Verdict(msgspec.Struct, frozen=True):
    """How many images were compared, how many differences there were, were repaired, and are left."""

    compared: int
    found: int
    repaired: int = 0

    @property
    def left(self) -> int:
        """Differences that are still there, as far as is known."""
        return self.found - self.repaired


class _Group(msgspec.Struct):
    """Images of one repository and the repository where they should be."""

    source: Repository
    destination: Repository
    platforms: tuple[Platform, ...]
    referrers: bool
    tags: dict[str, str] = {}
    wishes: dict[str, Wish] = {}


async def verify(
    session: Session,
    spec: MirrorSpec,
    *,
    deep: bool = False,
    repair: bool = False,
    on_difference: Callable[[Difference], None],
) -> Verdict:
    """Compare everything that ``spec`` means now (G4). ``deep`` reads every manifest back and asks for every blob and
    attachment; ``repair`` copies what is missing or differs, and that only.

    :raises InvalidMirrorSpec: when two rules give one destination tag different images
    """
    gathered = await gather(session, spec)
    for problem in gathered.unreadable:
        on_difference(_unreadable(problem.repository, problem.failure))
    compared, found = 0, len(gathered.unreadable)
    broken: dict[str, Wish] = {}
    for group in _groups(gathered.wishes):
        before = len(broken)

        def note(difference: Difference, group: _Group = group) -> None:
            on_difference(difference)
            for wish in _concerned(group, difference):
                broken[str(wish)] = wish

        totals = await compare(
            session,
            group.source,
            group.destination,
            group.tags,
            deep=deep,
            platforms=group.platforms,
            referrers=group.referrers,
            sink=note,
        )
        compared += totals.compared
        found += max(totals.differences, len(broken) - before)
    repaired = found if repair and broken and await _repair(session, list(broken.values())) else 0
    return Verdict(compared, found, repaired)


async def _repair(session: Session, wishes: list[Wish]) -> bool:
    """Copy them again, tags that are right included: what is broken may be below."""
    jobs = [msgspec.structs.replace(wish, overwrite="always").job(session.next_id()) for wish in wishes]
    await prepare(session, jobs, {})
    running = Running(session, jobs)
    await running.run()
    return not running.failed


def _groups(wishes: list[Wish]) -> list[_Group]:
    found: dict[tuple[Repository, Repository, tuple[Platform, ...]], _Group] = {}
    for wish in wishes:
        for target in wish.targets:
            destination = Repository(target.place.site.name, target.place.repository)
            key = (wish.source, destination, wish.platforms)
            group = found.setdefault(key, _Group(*key, wish.referrers))
            name = wish.tag if wish.digest is None and wish.tag else str(wish.digest)
            group.tags[name] = target.tag or str(target.digest or wish.digest)
            group.wishes[name] = wish
    return list(found.values())


def _concerned(group: _Group, difference: Difference) -> list[Wish]:
    """The images a difference is about; of one that no name leads to, all of the repository."""
    for name, wish in group.wishes.items():
        if difference.source.endswith((f":{name}", f"@{name}")):
            return [wish]
    return list(group.wishes.values())


def _unreadable(repository: str, failure: Failure) -> Difference:
    return Difference(kind="unreadable", source=repository, destination="", detail=failure.message)
