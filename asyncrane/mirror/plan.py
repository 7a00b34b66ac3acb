"""A plan: every image with its digest and what will become of it at each destination, and what that costs.

It is made without a write, is what a person reads before a change window, and is what ``apply`` can carry out as it
stands: the digests are pinned (G6).
"""

from __future__ import annotations

import time
from collections import Counter
from collections.abc import Mapping, Sequence
from datetime import UTC, datetime
from pathlib import Path
from typing import Literal, TypeAlias

import msgspec

from asyncrane._version import __version__
from asyncrane.engine.job import Job, Overwrite, Target
from asyncrane.engine.outcome import Outcome, Statistics, Status, TargetOutcome
from asyncrane.engine.planning import SiteCosts
from asyncrane.errors import AsyncraneError, Failure, InvalidMirrorSpec
from asyncrane.mirror.lists import Lists
from asyncrane.mirror.prune import Deletion, deletions
from asyncrane.mirror.running import Running
from asyncrane.mirror.spec import MirrorSpec
from asyncrane.mirror.wishes import Unreadable, Wish, gather, place_of
from asyncrane.oci.digest import Digest
from asyncrane.oci.platform import Platform
from asyncrane.oci.reference import Reference, Repository
from asyncrane.session import Session

FORM = 1

Action: TypeAlias = Literal["new", "changed", "attach", "equal", "skip", "conflict", "unreadable"]


class PlannedTarget(msgspec.Struct, frozen=True, omit_defaults=True):
    """What will happen at one destination: ``new`` and ``changed`` tags are written, ``attach``: only what is attached
    to the image; ``why`` explains a conflict or what cannot be read, and ``failure`` has it with all that is known.
    """

    destination: str
    action: Action
    before: str = ""
    why: str = ""
    failure: Failure | None = None

    def outcome(self) -> TargetOutcome:
        """How it ends where it cannot be done."""
        status: Status = "conflict" if self.action == "conflict" else "failed"
        return TargetOutcome(self.destination, status, self.failure or Failure("AsyncraneError", self.why))


class PlannedImage(msgspec.Struct, frozen=True, omit_defaults=True):
    """One image: ``source`` is a reference, ``digest`` what it names now."""

    source: str
    digest: str
    targets: tuple[PlannedTarget, ...]
    platforms: tuple[str, ...] = ()
    overwrite: Overwrite = "if-different"
    referrers: bool = False
    nondistributable: bool = False

    def job(self, number: int) -> Job | None:
        """The job that does it; ``None`` when there is nothing to do."""
        return self._job(number, tuple(t for t in self.targets if t.action in ("new", "changed", "attach")))

    def failed(self, number: int) -> tuple[Job, Outcome] | None:
        """What cannot be done: the job that should, and how it ends; ``None`` when there is nothing."""
        lost = tuple(target for target in self.targets if target.action in ("conflict", "unreadable"))
        job = self._job(number, lost)
        return (job, Outcome(str(job), targets=tuple(target.outcome() for target in lost))) if job is not None else None

    def _job(self, number: int, targets: tuple[PlannedTarget, ...]) -> Job | None:
        if not targets:
            return None
        source = Reference.parse(self.source)
        return Job(
            id=number,
            source=place_of(source.repository),
            targets=tuple(_target(target.destination) for target in targets),
            tag=source.tag,
            digest=Digest.parse(self.digest) if self.digest else source.digest,
            platforms=tuple(Platform.parse(text) for text in self.platforms),
            overwrite=self.overwrite,
            nondistributable=self.nondistributable,
            referrers=self.referrers,
        )


class MirrorPlan(msgspec.Struct, omit_defaults=True):
    """Everything that ``apply`` would do. ``spec`` is the path of the mirror file, ``registries`` the costs by host,
    ``found`` blobs that destinations have, by repository; ``seconds`` is about how long it will take, at ``rate`` bytes
    a second (0: unknown).
    """

    form: int
    made: str
    program: str
    spec: str
    images: tuple[PlannedImage, ...]
    registries: dict[str, SiteCosts]
    unreadable: tuple[Unreadable, ...] = ()
    notes: tuple[str, ...] = ()
    deletions: tuple[Deletion, ...] = ()
    found: dict[str, tuple[str, ...]] = {}
    referrers: int = 0
    bytes_read: int = 0
    bytes_written: int = 0
    bytes_mounted: int = 0
    bytes_existing: int = 0
    seconds: float = 0.0
    rate: float = 0.0

    def counts(self) -> dict[str, dict[str, int]]:
        """Images by destination registry and action."""
        found: dict[str, Counter[str]] = {}
        for image in self.images:
            for target in image.targets:
                registry = Reference.parse(target.destination).repository.registry
                found.setdefault(registry, Counter())[target.action] += 1
        return {registry: dict(counter) for registry, counter in sorted(found.items())}

    @property
    def empty(self) -> bool:
        """Whether nothing would be done."""
        return not self.deletions and all(image.job(0) is None for image in self.images)

    @property
    def troubled(self) -> bool:
        """Whether something cannot be done: conflicts, images or repositories that cannot be read."""
        return bool(self.unreadable) or any(
            t.action in ("conflict", "unreadable") for image in self.images for t in image.targets
        )

    def encode(self) -> bytes:
        """As JSON, to be written to a file."""
        return msgspec.json.format(msgspec.json.encode(self), indent=1) + b"\n"

    @classmethod
    def decode(cls, data: bytes, *, name: str) -> MirrorPlan:
        """Read a plan file.

        :raises InvalidMirrorSpec: when it is none, or one of another version
        """
        try:
            plan = msgspec.json.decode(data, type=cls)
            for image in plan.images:
                image.job(0)
                image.failed(0)
        except (msgspec.DecodeError, UnicodeDecodeError, RecursionError, AsyncraneError) as exc:
            raise InvalidMirrorSpec(f"{name}: not a plan: {str(exc)[:200]}") from exc
        if plan.form != FORM:
            raise InvalidMirrorSpec(f"{name}: a plan of form {plan.form}; this program reads form {FORM}: plan again")
        return plan


async def mirror_plan(session: Session, spec: MirrorSpec, *, name: Path, rate: float | None = None) -> MirrorPlan:
    """Find out what ``spec`` means now. ``session`` must be one that plans only; ``rate`` is bytes a second to expect.

    :raises InvalidMirrorSpec: when two rules give one destination tag different images
    """
    started = time.monotonic()
    lists = Lists(session)
    gathered = await gather(session, spec, lists)
    jobs = [wish.job(session.next_id()) for wish in gathered.wishes]
    await lists.tell(jobs, gathered.listings)
    running = Running(session, jobs, knows=lists.knows)
    await running.run()
    images = [_image(wish, running.outcomes[job.id]) for wish, job in zip(gathered.wishes, jobs, strict=True)]
    doomed = await deletions(session, gathered)
    elapsed = time.monotonic() - started
    statistics = session.statistics()
    asked = sum(sum(kinds.values()) for kinds in statistics.requests.values())
    costs = _with_questions(session.costs, statistics, doomed)
    to_send = sum(sum(cost.requests.values()) for cost in costs.values())
    read = sum(cost.bytes_read for cost in costs.values())
    expected = rate or 0.0
    asking = to_send / (asked / elapsed) if asked and elapsed else 0.0
    return MirrorPlan(
        form=FORM,
        made=datetime.now(UTC).isoformat(timespec="seconds"),
        program=f"asyncrane {__version__}",
        spec=str(name),
        images=tuple(images),
        registries=costs,
        unreadable=tuple(gathered.unreadable),
        notes=tuple(gathered.notes),
        deletions=tuple(doomed),
        found={str(place): tuple(map(str, digests)) for place, digests in session.found.items()},
        referrers=statistics.referrers_written,
        bytes_read=read,
        bytes_written=statistics.bytes_written,
        bytes_mounted=statistics.bytes_mounted,
        bytes_existing=statistics.bytes_existing,
        seconds=round(max(asking, read / expected if expected else 0.0, _least(spec, costs)), 1),
        rate=expected,
    )


def _least(spec: MirrorSpec, costs: Mapping[str, SiteCosts]) -> float:
    """Seconds that the rates take which the file allows."""
    rates = {host: options.rate for host, options in spec.registries.items() if options.rate}
    busy = [(costs[host], rate) for host, rate in rates.items() if host in costs]
    return max((max(cost.bytes_read, cost.bytes_written) / rate for cost, rate in busy), default=0.0)


def _with_questions(
    costs: Mapping[str, SiteCosts], statistics: Statistics, doomed: Sequence[Deletion]
) -> dict[str, SiteCosts]:
    """Applying asks what planning has asked, but for blobs: sending them answers that. Each tag is looked at once more
    before it is deleted.
    """
    whole: dict[str, SiteCosts] = {}
    deleted = Counter(deletion.repository.registry for deletion in doomed if not deletion.refused)
    for registry in sorted({*costs, *statistics.requests}):
        cost = costs.get(registry) or SiteCosts()
        requests = Counter(cost.requests)
        requests.update({kind: n for kind, n in statistics.requests.get(registry, {}).items() if kind != "HEAD blobs"})
        if count := deleted[registry]:
            requests.update({"HEAD manifests": count, "DELETE manifests": count})
        whole[registry] = msgspec.structs.replace(cost, requests=dict(sorted(requests.items())))
    return whole


def _image(wish: Wish, outcome: Outcome) -> PlannedImage:
    targets = []
    for target in outcome.targets:
        action: Action
        match target.status:
            case "copied" | "tagged":
                action = "changed" if target.before else "new"
            case "equal":
                action = "attach" if target.referrers else "equal"
            case "skipped":
                action = "skip"
            case "conflict":
                action = "conflict"
            case _:
                action = "unreadable"
        why = target.failure.message if target.failure else ""
        targets.append(PlannedTarget(target.destination, action, target.before, why, target.failure))
    return PlannedImage(
        source=str(wish),
        digest=outcome.root,
        targets=tuple(targets),
        platforms=tuple(map(str, wish.platforms)),
        overwrite=wish.overwrite,
        referrers=wish.referrers,
        nondistributable=wish.nondistributable,
    )


def _target(text: str) -> Target:
    """The target that prints as ``text``; without tag and digest it is the image's own digest in that repository."""
    if "@" not in text and ":" not in text.rpartition("/")[2]:
        return Target(place_of(Repository.parse(text)))
    reference = Reference.parse(text)
    return Target(place_of(reference.repository), reference.tag, reference.digest)


def to_do(plan: MirrorPlan, session: Session) -> list[Job]:
    """The jobs of a plan; the session hears what the plan found, so that the bytes are those that it counted."""
    for repository, digests in plan.found.items():
        place = place_of(Repository.parse(repository))
        for digest in digests:
            session.seen(place, Digest.parse(digest))
    found = (image.job(session.next_id()) for image in plan.images)
    return [job for job in found if job is not None]
