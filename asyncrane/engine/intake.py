"""Jobs from the moment they are added to the moment their root manifest is on its way to every destination."""

from __future__ import annotations

from collections.abc import Callable

from asyncrane.abc import Place
from asyncrane.engine.job import Job, Overwrite, Target
from asyncrane.engine.messages import CommandFailed, Ended, Finish, Probe, Probed, Resolve, Resolved, TagsListed
from asyncrane.engine.outcome import Outcome, Statistics, Status, TargetOutcome
from asyncrane.engine.queue import Queue
from asyncrane.engine.reading import Reading
from asyncrane.errors import AsyncraneError, Failure
from asyncrane.oci import media
from asyncrane.oci.digest import Digest
from asyncrane.oci.manifest import Manifest
from asyncrane.oci.platform import Platform
from asyncrane.oci.select import check_image, pick, strip

ASK = 5

_IMMUTABLE = frozenset({400, 403, 405, 409, 412})
"""How registries refuse to move an immutable tag: ECR 400, Harbor 412, others 403, 405, 409."""


class Delivery:
    """One destination of one job."""

    __slots__ = ("_state", "attached", "kind", "outcome", "present", "same", "target")

    def __init__(self, state: JobState, target: Target) -> None:
        self._state = state
        self.target = target
        self.present: Digest | None = None
        self.kind = ""
        self.same = False
        self.attached = 0
        self.outcome: TargetOutcome | None = None

    @property
    def job(self) -> Job:
        """The job it belongs to."""
        return self._state.job

    @property
    def place(self) -> Place:
        """Where it goes."""
        return self.target.place

    @property
    def source(self) -> Place:
        """Where it comes from."""
        return self._state.job.source

    def origin(self, blob: Digest) -> Place:
        """Where one of its blobs comes from."""
        return self._state.origins.get(blob, self._state.job.source)

    @property
    def live(self) -> bool:
        """Whether it has not ended yet."""
        return self.outcome is None

    def written(self, *, existed: bool) -> None:
        """The manifest is there, under the tag asked for."""
        self.end("tagged" if existed else "copied")

    def lost(self, failure: Failure) -> None:
        """The manifest will not come."""
        self.end("failed", failure)

    def refused(self, failure: Failure) -> None:
        """The tag was not written: a tag that exists may be one that the registry lets nobody move (G5)."""
        immutable = self.present is not None and failure.status in _IMMUTABLE
        self.end("conflict" if immutable else "failed", failure)

    def refuse_to_move(self, overwrite: Overwrite) -> None:
        """The tag names something else: end, if it is not to be moved."""
        if overwrite == "if-missing":
            self.end("skipped")
        elif overwrite == "never":
            text = f"{self.target} names {self.present!s}, and is never to be moved"
            self.end("conflict", Failure("TagExists", text))

    def end(self, status: Status, failure: Failure | None = None) -> None:
        """It has ended; the last one ends the job."""
        if self.outcome is None:
            before = str(self.present or "")
            self.outcome = TargetOutcome(str(self.target), status, failure, before, self.attached)
            self._state.ended()


class JobState:
    """One job under way."""

    __slots__ = ("_on_end", "deliveries", "digest", "job", "media_type", "notes", "origins", "questions", "root")

    def __init__(self, job: Job, on_end: Callable[[JobState], None]) -> None:
        self.job = job
        self.origins = dict(job.origins)
        self.deliveries = [Delivery(self, target) for target in job.targets]
        self.digest: Digest | None = job.digest
        self.root: Digest | None = job.digest
        self.media_type = ""
        self.notes: list[str] = []
        self.questions = 0
        self._on_end = on_end

    @property
    def open(self) -> list[Delivery]:
        """The destinations that have not ended."""
        return [d for d in self.deliveries if d.live]

    @property
    def unlike(self) -> list[Delivery]:
        """The destinations that have something else, or nothing."""
        return [d for d in self.deliveries if d.live and not d.same]

    def wanting(self) -> bool:
        """Whether any destination still has to get the image."""
        return any(d.live and not d.same for d in self.deliveries)

    def live(self) -> bool:
        """Whether any destination has not ended."""
        return any(d.live for d in self.deliveries)

    def lost(self, failure: Failure) -> None:
        """Nothing can be delivered."""
        for delivery in self.unlike:
            delivery.lost(failure)

    def ended(self) -> None:
        """A destination has ended."""
        if not self.live():
            self._on_end(self)

    def outcome(self) -> Outcome:
        """What became of it."""
        targets = tuple(d.outcome for d in self.deliveries if d.outcome)
        digest = str(self.digest or "")
        root = digest if self.root == self.digest else str(self.root or "")  # one string for both: outcomes are kept
        return Outcome(str(self.job), digest, self.media_type, targets, tuple(self.notes), root)


class Intake:
    """All jobs, by id."""

    def __init__(
        self,
        queue: Queue,
        reading: Reading,
        deliver: Callable[[Delivery, Manifest], None],
        follow: Callable[[Delivery, Digest, str, Callable[[], None]], None],
        finish: Callable[[Finish], None],
        statistics: Statistics,
    ) -> None:
        self._queue = queue
        self._reading = reading
        self._deliver = deliver
        self._follow = follow
        self._finish = finish
        self._count = statistics
        self._jobs: dict[int, JobState] = {}
        self._listed: dict[Place, frozenset[str]] = {}

    @property
    def idle(self) -> bool:
        """Whether every job has ended."""
        return not self._jobs

    def listed(self, event: TagsListed) -> None:
        """A destination's tags are known: what is not among them needs no asking."""
        if event.complete:
            self._listed[event.place] = frozenset(event.tags or ())

    def add(self, job: Job) -> None:
        """A new job: ask what has to be known before anything is read."""
        state = self._jobs[job.id] = JobState(job, self._end)
        self._count.images_total += 1
        state.questions = 1
        asked = [self._probe(state, delivery) for delivery in state.deliveries]
        if job.digest and job.tag:
            self._resolve(state, job.tag)
        elif not job.digest and not job.platforms and any(asked):
            self._resolve(state, job.identifier)
        self._answered(state)

    def cancel(self, number: int) -> None:
        """Nobody wants the job any more."""
        if state := self._jobs.get(number):
            for delivery in state.open:
                delivery.end("cancelled")

    def _probe(self, state: JobState, delivery: Delivery) -> bool:
        target = delivery.target
        identifier = target.identifier or (str(state.job.digest or "") if not state.job.platforms else "")
        known = self._listed.get(target.place)
        if not identifier or (target.tag and known is not None and target.tag not in known):
            return False

        def ended(event: Ended) -> None:
            if isinstance(event, Probed):
                if event.descriptor is not None:
                    delivery.present, delivery.kind = event.descriptor.digest, event.descriptor.media_type
            elif isinstance(event, CommandFailed):
                delivery.lost(event.failure)
            self._answered(state)

        state.questions += 1
        self._queue.push(
            lambda number: Probe(number, target.place, identifier), ended, (target.place.site,), priority=ASK
        )
        return True

    def _resolve(self, state: JobState, identifier: str) -> None:
        place = state.job.source

        def ended(event: Ended) -> None:
            if isinstance(event, Resolved):
                self._resolved(state, event)
            elif isinstance(event, CommandFailed) and not state.job.digest:
                state.lost(event.failure)
            elif isinstance(event, CommandFailed):
                state.notes.append(f"tag {state.job.tag} could not be compared: {event.failure.message}")
            self._answered(state)

        state.questions += 1
        self._queue.push(lambda number: Resolve(number, place, identifier), ended, (place.site,), priority=ASK)

    @staticmethod
    def _resolved(state: JobState, event: Resolved) -> None:
        found = event.descriptor
        if state.job.digest and state.job.digest != found.digest:
            state.notes.append(f"tag {state.job.tag} is {found.digest!s} now; {state.job.digest!s} was asked for")
        elif not state.job.digest:
            state.root = state.digest = found.digest
            state.media_type = found.media_type

    def _answered(self, state: JobState) -> None:
        state.questions -= 1
        if state.questions or not state.live():
            return
        if state.digest and not state.job.platforms:
            self._compare(state, state.digest)
        else:
            for delivery in state.open:
                if delivery.present and delivery.target.tag and state.job.overwrite == "if-missing":
                    delivery.end("skipped")
        if not state.wanting():
            return
        if state.digest:
            self._reading.by_digest(
                state.job.source, state.digest, lambda m: self._root(state, m), state.lost, state.wanting
            )
        else:
            self._reading.by_tag(
                state.job.source, state.job.identifier, lambda m: self._root(state, m), state.lost, state.wanting
            )

    def _root(self, state: JobState, root: Manifest) -> None:
        state.root = state.root or root.digest
        platforms = state.job.platforms
        try:
            if not platforms:
                self._chosen(state, root)
            elif root.is_index and len(platforms) == 1:
                child = pick(root, platforms[0])
                self._reading.by_digest(
                    state.job.source, child.digest, lambda m: self._picked(state, m), state.lost, state.live
                )
            elif root.is_index:
                self._chosen(state, strip(root, platforms))
            else:
                self._check(state, root)
        except AsyncraneError as exc:
            state.lost(Failure.of(exc))

    def _picked(self, state: JobState, child: Manifest) -> None:
        """An index inside an index is asked again (crane does the same); an image is what was asked for."""
        if child.is_index:
            self._root(state, child)
        else:
            self._chosen(state, child)

    def _check(self, state: JobState, image: Manifest) -> None:
        """A single image has to be for a wanted platform, which only its config knows."""
        config = image.config()

        def then(actual: Platform | None) -> None:
            try:
                check_image(actual, state.job.platforms)
            except AsyncraneError as exc:
                state.lost(Failure.of(exc))
            else:
                self._chosen(state, image)

        if config is not None and config.media_type in media.CONFIGS:
            self._reading.platform(state.job.source, config, then, state.lost, state.live)
        else:
            then(Platform.read(image.fields() if image.media_type in media.SCHEMA1 else None))

    def _chosen(self, state: JobState, root: Manifest) -> None:
        state.digest, state.media_type = root.digest, root.media_type
        self._compare(state, root.digest)
        for delivery in state.unlike:
            self._deliver(delivery, root)

    def _compare(self, state: JobState, digest: Digest) -> None:
        for delivery in state.unlike:
            target = delivery.target
            if target.digest and target.digest != digest:
                text = f"{target}: the image is {digest!s}, another digest than the destination names"
                delivery.lost(Failure("ContentError", text))
            elif delivery.present == digest and state.job.overwrite != "always":
                self._equal(state, delivery, digest)
            elif delivery.present and target.tag:
                delivery.refuse_to_move(state.job.overwrite)

    def _equal(self, state: JobState, delivery: Delivery, digest: Digest) -> None:
        """Nothing to do but for what may have been attached since."""
        delivery.same = True
        if state.job.referrers:
            self._follow(delivery, digest, state.media_type or delivery.kind, lambda: delivery.end("equal"))
        else:
            delivery.end("equal")

    def _end(self, state: JobState) -> None:
        if self._jobs.pop(state.job.id, None) is None:
            return
        outcome = state.outcome()
        self._count.images_done += 1
        self._count.images_failed += outcome.failure is not None
        self._finish(Finish(state.job.id, outcome))
