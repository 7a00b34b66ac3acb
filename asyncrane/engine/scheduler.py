"""The scheduler: told what happened (events), it answers what to do next (commands). It does no I/O and never waits.

One job goes like this::

    JobAdded
      ├─ Probe      what does each destination tag name now?   (not when the destination was listed and lacks the tag)
      └─ Resolve    what does the source tag name?             (not when the answer cannot spare reading the manifest)
    all answered    equal everywhere: Finish
      └─ ReadManifest  the root; with platforms its choice is made here (and checked against the config of an image)
    ManifestRead    a shipment of the root to each destination (shipping.py):
      ├─ its blobs: there, mounted or copied                    (placing.py)
      └─ its children: ReadManifest, then a shipment each, as deep as it goes
    all there       WriteManifest under the tag; Finish when every destination has ended

Rules that hold at every moment, whatever order the events come in:

- the bytes of a blob are sent to a site at most once, however many jobs and repositories want them, unless the site
  refuses to mount; every other repository mounts;
- a manifest is written after everything it names, the tag last and once;
- what is shared belongs to nobody: cancelling a job takes away only what nobody else needs, and a job that arrives
  after something failed for good fails with it, at once; when all jobs have ended, failures are forgotten;
- every command holds its slots from being answered until the event that ends it.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any

from asyncrane.abc import Place
from asyncrane.engine.attaching import Attaching
from asyncrane.engine.budget import Budget, SiteLimits
from asyncrane.engine.intake import Delivery, Intake
from asyncrane.engine.messages import (
    Command,
    CommandFailed,
    CopyBlob,
    Ended,
    Event,
    Finish,
    JobAdded,
    JobCancelled,
    Probe,
    Probed,
    SourceListed,
    TagsListed,
    Throttled,
)
from asyncrane.engine.outcome import Statistics
from asyncrane.engine.placing import SMALL, Donors, Placing, no_donors
from asyncrane.engine.queue import Queue
from asyncrane.engine.reading import READ, Reading
from asyncrane.engine.shipping import Shipment, Shipping
from asyncrane.errors import Failure
from asyncrane.oci import media
from asyncrane.oci.descriptor import Descriptor
from asyncrane.oci.manifest import Manifest
from asyncrane.oci.nesting import DEEPEST

_CONGESTION = frozenset({"RateLimited", "ServerFault", "TimedOut"})


class Scheduler:
    """The state of all jobs.

    :param jobs: how many commands run at once per site; adapts when ``None``
    :param limits: the same for single sites, by name, requests and streams apart
    :param memory: bytes that may be on their way over all sites
    :param donors: which repositories of a site had a blob when an earlier run looked
    """

    def __init__(
        self,
        *,
        jobs: int | None = None,
        limits: Mapping[str, SiteLimits] | None = None,
        memory: int | None = None,
        donors: Donors = no_donors,
    ) -> None:
        self.budget = Budget(jobs=jobs, limits=limits, memory=memory)
        self.queue = Queue(self.budget)
        self._count = Statistics()
        self._placing = Placing(self.queue, self._count, donors)
        self._shipping = Shipping(self.queue, self._count)
        self._reading = Reading(self.queue)
        self._finished: list[Finish] = []
        self._absent: set[Place] = set()
        self._attaching = Attaching(self.queue, self._reading, self._shipping, self._ship_attached, self._count)
        self._intake = Intake(
            self.queue,
            self._reading,
            self._deliver,
            self._attaching.follow_digest,
            self._finished.append,
            self._count,
        )
        self._told: dict[type, Callable[[Any], None]] = {
            JobAdded: self._added,
            JobCancelled: self._cancelled,
            TagsListed: self._listed,
            SourceListed: self._attaching.listed,
            Throttled: self._throttled,
        }

    def feed(self, event: Event) -> Sequence[Command]:
        """Take in one event; the answer is everything that may start now because of it."""
        self._told.get(type(event), self._ended)(event)
        started = self.queue.take()
        if not self._finished:
            return started
        finished, self._finished[:] = list(self._finished), []
        return [*finished, *started]

    def _added(self, event: JobAdded) -> None:
        if self._intake.idle:
            self._forget_failures()
        self._intake.add(event.job)

    def _cancelled(self, event: JobCancelled) -> None:
        self._intake.cancel(event.job)

    def _listed(self, event: TagsListed) -> None:
        self._intake.listed(event)
        if event.tags is None:
            self._absent.add(event.place)

    def _throttled(self, event: Throttled) -> None:
        self.budget.limit(event.site).congested()

    def _forget_failures(self) -> None:
        """A new run begins: what failed in one that is over may be well by now."""
        self._reading.forget_failures()
        self._placing.forget_failures()
        self._shipping.forget_failures()
        self._attaching.forget()

    def statistics(self) -> Statistics:
        """The counts so far: a live object, for reading only."""
        return self._count

    @property
    def idle(self) -> bool:
        """Whether nothing runs and nothing waits."""
        return not self.queue.running and not len(self.queue)

    def _ended(self, event: Ended) -> None:
        command, limits, errand = self.queue.ended(event.command)
        if isinstance(event, CommandFailed):
            if event.failure.kind in _CONGESTION:
                for limit in limits:
                    limit.congested()
        elif not isinstance(command, CopyBlob) or 0 <= command.blob.size <= SMALL:
            # a stream takes as long as it has bytes; everything else tells how busy its sites are
            for limit in limits:
                limit.observe(type(command).__name__, event.elapsed)
        errand.ended(event)

    def _deliver(self, delivery: Delivery, root: Manifest) -> None:
        # written again in any case: whatever may be broken below is looked at, too
        changed = delivery.present is not None and delivery.job.overwrite != "always"
        shipment = self._ship(delivery, root, changed=changed)
        if delivery.job.referrers:
            # what is attached comes first: whoever sees the tag sees its signatures
            self._attaching.follow(
                delivery, root, lambda: self._shipping.deliver(shipment, delivery.target.tag, delivery)
            )
        else:
            self._shipping.deliver(shipment, delivery.target.tag, delivery)

    def _ship_attached(self, delivery: Delivery, manifest: Manifest) -> Shipment:
        return self._ship(delivery, manifest, changed=False)

    def _ship(self, delivery: Delivery, manifest: Manifest, *, changed: bool, depth: int = 0) -> Shipment:
        place = delivery.target.place
        return self._shipping.shipment(place, manifest, lambda s: self._fill(s, delivery, changed=changed, depth=depth))

    def _fill(self, shipment: Shipment, delivery: Delivery, *, changed: bool, depth: int) -> None:
        """Everything the manifest names has to be there first; within one repository it is."""
        job, place = delivery.job, shipment.place
        if job.source == place:
            return
        eager = place in self._absent
        for blob in shipment.manifest.blobs():
            if media.is_nondistributable(blob.media_type) and not job.nondistributable:
                continue
            origin = delivery.origin(blob.digest)
            if origin == place:
                continue
            shipment.missing += 1
            if not self._placing.need(place, blob, origin, shipment, eager=eager):
                shipment.missing -= 1
            if shipment.failure:
                return
        children = {child.digest: child for child in shipment.manifest.children()}
        if children and depth >= DEEPEST:
            message = f"{shipment.manifest.digest!s}: indexes in indexes, {depth} deep"
            shipment.lost(Failure("UnsupportedManifest", message))
            return
        for child in children.values():
            if self._shipping.has(place, child.digest):
                continue
            shipment.missing += 1
            if changed:
                self._ask_for_child(shipment, delivery, child, depth)
            else:
                self._read_child(shipment, delivery, child, depth, changed=False)

    def _ask_for_child(self, shipment: Shipment, delivery: Delivery, child: Descriptor, depth: int) -> None:
        """The tag named something else before, which may share children with this: one HEAD saves their blobs."""

        def ended(event: Ended) -> None:
            if isinstance(event, Probed) and event.descriptor is not None:
                shipment.arrived()
            else:
                self._read_child(shipment, delivery, child, depth, changed=True)

        self.queue.push(
            lambda number: Probe(number, shipment.place, str(child.digest)) if shipment.live else None,
            ended,
            (shipment.place.site,),
            priority=READ,
        )

    def _read_child(
        self, shipment: Shipment, delivery: Delivery, child: Descriptor, depth: int, *, changed: bool
    ) -> None:
        def then(manifest: Manifest) -> None:
            self._shipping.attach(self._ship(delivery, manifest, changed=changed, depth=depth + 1), shipment)
            shipment.arrived()

        self._reading.by_digest(delivery.job.source, child.digest, then, shipment.lost, lambda: shipment.live)
