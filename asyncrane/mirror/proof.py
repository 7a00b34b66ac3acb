"""Proof that a mirror is what its file says: every image compared, what differs copied again where asked, and what was
copied compared again.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from functools import partial

import anyio
import msgspec

from asyncrane.engine.job import Target
from asyncrane.errors import Failure
from asyncrane.mirror.comparison import Ledger, Route, compare, width
from asyncrane.mirror.crew import Crew
from asyncrane.mirror.difference import Difference, Totals
from asyncrane.mirror.prune import deletions
from asyncrane.mirror.reading_back import Image
from asyncrane.mirror.repair import Fault, mend
from asyncrane.mirror.spec import MirrorSpec
from asyncrane.mirror.wishes import Gathered, Wish, gather
from asyncrane.oci.reference import Repository
from asyncrane.session import Session

_DESTINATIONS = 8
"""Repositories that are compared at the same time."""

_ROUNDS = 3
"""Repairs, one after the other: what is missing hides what is missing below it."""


class Verdict(msgspec.Struct, frozen=True):
    """How many images were compared, how many differences there were, and how many of these are proven to be gone;
    ``failures`` is what repairs failed with.
    """

    compared: int
    found: int
    repaired: int = 0
    failures: tuple[Failure, ...] = ()

    @property
    def left(self) -> int:
        """Differences that are still there, as far as is known."""
        return self.found - self.repaired


_Group = dict[Route, dict[Image, tuple[Wish, Target]]]
"""What is to be in one destination repository, by the way it gets there."""


async def mirror_verify(
    session: Session,
    spec: MirrorSpec,
    *,
    deep: bool = False,
    repair: bool = False,
    on_difference: Callable[[Difference], None],
) -> Verdict:
    """Compare everything that ``spec`` means now (G4). ``deep`` reads every manifest back and asks for every blob and
    attachment; ``repair`` copies what is missing or differs, and that only, and compares these images again. Tags that
    nobody wants are differences where their rule prunes; they are not for a repair to delete.

    :raises InvalidMirrorSpec: when two rules give one destination tag different images
    """
    proof = _Proof(session, await gather(session, spec), deep=deep, tell=on_difference)
    await proof.look()
    if repair:
        await proof.repair()
    return proof.verdict()


class _Proof:
    """One verification."""

    def __init__(self, session: Session, gathered: Gathered, *, deep: bool, tell: Callable[[Difference], None]) -> None:
        self._session = session
        self._gathered = gathered
        self._deep = deep
        self._tell = tell
        self._compared = 0
        self._open: set[tuple[str, ...]] = set()
        self._faults: list[Fault] = []
        self._gone = 0
        self._failures: tuple[Failure, ...] = ()

    async def look(self) -> None:
        """Compare all there is."""
        sources = list(self._gathered.unreadable)
        for problem in sources:
            self._found(Difference("unreadable", source=problem.repository, detail=problem.failure.message))
        self._faults, totals = await self._compare(_grouped(self._gathered.wishes))
        self._compared = totals.compared
        for deletion in await deletions(self._session, self._gathered):
            detail = deletion.refused or "the next run deletes it"
            self._found(Difference("extra", destination=str(deletion), detail=detail))
        for problem in self._gathered.unreadable[len(sources) :]:  # found out when looking for what to prune
            self._found(Difference("unreadable", destination=problem.repository, detail=problem.failure.message))

    async def repair(self) -> None:
        """Mend, and look again at the images concerned, until nothing new turns up."""
        faults = self._faults
        for _ in range(_ROUNDS):
            faults = [fault for fault in faults if fault.mend() is not None]
            if not faults:
                return
            self._failures += await mend(self._session, faults, self._gathered.listings)
            tried = {fault.difference.about for fault in faults}
            left, _totals = await self._compare(_concerned(faults))
            still = {fault.difference.about for fault in left}
            self._open -= tried - still
            self._gone += len(tried - still)
            faults = [fault for fault in left if fault.difference.about not in tried]

    def verdict(self) -> Verdict:
        return Verdict(self._compared, len(self._open) + self._gone, self._gone, self._failures)

    def _found(self, difference: Difference) -> None:
        if difference.about not in self._open:
            self._open.add(difference.about)
            self._tell(difference)

    async def _compare(self, groups: Mapping[Repository, _Group]) -> tuple[list[Fault], Totals]:
        faults: list[Fault] = []
        totals: list[Totals] = []
        routes = [route for group in groups.values() for route in group]
        hosts = {repository.registry for route in routes for repository in (route.source, route.destination)}
        limiter = anyio.CapacityLimiter(width(self._session, hosts))

        async def one(group: _Group) -> None:
            ledger = Ledger(limiter)
            for route, images in group.items():
                totals.append(await self._along(route, images, ledger, faults))

        errands = (partial(one, group) for group in groups.values())
        await Crew(errands, size=_DESTINATIONS, limiter=anyio.CapacityLimiter(_DESTINATIONS)).run()
        return faults, sum(totals, Totals())

    async def _along(
        self, route: Route, images: Mapping[Image, tuple[Wish, Target]], ledger: Ledger, faults: list[Fault]
    ) -> Totals:
        def sink(difference: Difference, image: Image) -> None:
            faults.append(Fault(difference, *images[image]))
            self._found(difference)

        return await compare(
            self._session,
            route,
            images,
            deep=self._deep,
            listing=self._gathered.listings.get(route.source),
            ledger=ledger,
            sink=sink,
        )


def _grouped(wishes: Iterable[Wish]) -> dict[Repository, _Group]:
    found: dict[Repository, _Group] = {}
    for wish in wishes:
        for target in wish.targets:
            _put(found, wish, target)
    return found


def _concerned(faults: Iterable[Fault]) -> dict[Repository, _Group]:
    """The images that something was wrong with."""
    found: dict[Repository, _Group] = {}
    for fault in faults:
        _put(found, fault.wish, fault.target)
    return found


def _put(groups: dict[Repository, _Group], wish: Wish, target: Target) -> None:
    destination = Repository(target.place.site.name, target.place.repository)
    route = Route(wish.source, destination, wish.platforms, wish.referrers, wish.nondistributable)
    image = Image(str(wish.digest or wish.tag or "latest"), target.tag or str(target.digest or ""))
    groups.setdefault(destination, {}).setdefault(route, {})[image] = (wish, target)
