"""Getting each manifest to each place after everything it names: blobs and children first, the tag last and once.

A *shipment* is one manifest at one place. It counts what it still waits for; at zero the manifest is written: under
the tags that were asked for, or under its digest when an index (or nobody by name) needs it.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Protocol

from asyncrane.abc import Place
from asyncrane.engine.messages import CommandFailed, Ended, Work, WriteManifest
from asyncrane.engine.outcome import Statistics
from asyncrane.engine.queue import Queue
from asyncrane.errors import Failure
from asyncrane.oci.digest import Digest
from asyncrane.oci.manifest import Manifest

WRITE = 0


class Delivery(Protocol):
    """A job's wish to have a manifest at a place."""

    @property
    def live(self) -> bool:
        """Whether the job still wants it."""
        ...

    def written(self, *, existed: bool) -> None:
        """It is there, under the tag asked for."""
        ...

    def lost(self, failure: Failure) -> None:
        """It will not come."""
        ...

    def refused(self, failure: Failure) -> None:
        """It was not written under the tag asked for."""
        ...


class Shipment:
    """One manifest at one place; waits for blobs and children through :meth:`arrived` and :meth:`lost`."""

    __slots__ = (
        "_shipping",
        "deliveries",
        "failure",
        "fresh",
        "manifest",
        "missing",
        "parents",
        "place",
        "stored",
        "writing",
    )

    def __init__(self, shipping: Shipping, place: Place, manifest: Manifest) -> None:
        self._shipping = shipping
        self.place = place
        self.manifest = manifest
        self.missing = 1
        self.fresh = True
        self.parents: list[Shipment] = []
        self.deliveries: list[tuple[str | None, Delivery]] = []
        self.failure: Failure | None = None
        self.writing = 0
        self.stored = False

    @property
    def live(self) -> bool:
        """Whether a job still wants it, itself or through an index."""
        if self.wanted:
            return True
        if not self.parents:
            return False
        waiting, seen = list(self.parents), {self}
        while waiting:
            one = waiting.pop()
            if one not in seen:  # indexes may list one another in as many ways as a registry likes
                seen.add(one)
                if one.wanted:
                    return True
                waiting += one.parents
        return False

    @property
    def wanted(self) -> bool:
        """Whether a job still wants it itself."""
        if self.fresh:
            return True
        for _, delivery in self.deliveries:  # noqa: SIM110  (a plain loop: this is asked for every blob)
            if delivery.live:
                return True
        return False

    @property
    def abandoned(self) -> bool:
        """Whether nobody wants it any more, so that some of what it waits for may never be asked for."""
        return not (self.stored or self.failure or self.live)

    def arrived(self) -> None:
        """One thing less to wait for."""
        self.missing -= 1
        if self.missing == 0 and self.failure is None:
            self._shipping.ready(self)

    def lost(self, failure: Failure) -> None:
        """Something it waits for will not come."""
        if self.failure is None:
            self._shipping.fail(self, failure)

    def forget(self, tag: str | None, delivery: Delivery) -> None:
        """``delivery`` has ended; the shipment may have failed, and forgotten it, meanwhile."""
        if (tag, delivery) in self.deliveries:
            self.deliveries.remove((tag, delivery))

    def __repr__(self) -> str:
        return f"Shipment({self.manifest.digest[:19]} to {self.place}, {self.missing} missing)"


class Shipping:
    """All shipments of all jobs."""

    def __init__(self, queue: Queue, statistics: Statistics) -> None:
        self._queue = queue
        self._count = statistics
        self._shipments: dict[tuple[Place, Digest], Shipment] = {}
        self._failed: list[Shipment] = []
        self._stored: dict[Place, set[bytes]] = {}

    def has(self, place: Place, digest: Digest) -> bool:
        """Whether the manifest was stored at ``place`` before, with everything it names."""
        return place in self._stored and digest.raw in self._stored[place]

    def shipment(self, place: Place, manifest: Manifest, fill: Callable[[Shipment], None]) -> Shipment:
        """The shipment of ``manifest`` to ``place``; a new one is filled with what it has to wait for by ``fill``, and
        waits besides for the first who wants it, so that it is written in the way that one wants.
        """
        found = self._shipments.get((place, manifest.digest))
        if found is None or found.abandoned:
            found = self._shipments[place, manifest.digest] = Shipment(self, place, manifest)
            found.stored = self.has(place, manifest.digest)
            if not found.stored:
                fill(found)
        return found

    def deliver(self, shipment: Shipment, tag: str | None, delivery: Delivery) -> None:
        """``delivery`` wants it under ``tag`` (or by digest)."""
        if shipment.failure:
            delivery.lost(shipment.failure)
            return
        if tag is None and shipment.stored:
            delivery.written(existed=True)
            self._retire(shipment)
            return
        shipment.deliveries.append((tag, delivery))
        if shipment.fresh:
            self._first(shipment)
        elif shipment.missing == 0:
            self._write(shipment, tag, delivery if tag else None)

    def attach(self, shipment: Shipment, parent: Shipment) -> None:
        """``parent`` waits until it is stored."""
        if shipment.stored:
            self._retire(shipment)
            return
        parent.missing += 1
        shipment.parents.append(parent)
        if shipment.failure:
            parent.lost(shipment.failure)
        elif shipment.fresh:
            self._first(shipment)
        elif shipment.missing == 0 and not shipment.writing:
            self._write(shipment, None, None)

    @staticmethod
    def _first(shipment: Shipment) -> None:
        shipment.fresh = False
        shipment.arrived()

    def ready(self, shipment: Shipment) -> None:
        """Everything is there: write it under every tag that was asked for, else by digest."""
        tagged = [(tag, delivery) for tag, delivery in shipment.deliveries if tag]
        for tag, delivery in tagged:
            self._write(shipment, tag, delivery)
        if not tagged:
            self._write(shipment, None, None)

    def fail(self, shipment: Shipment, failure: Failure) -> None:
        """It will not be stored: tell everybody who waits, now and later."""
        shipment.failure = failure
        self._failed.append(shipment)
        deliveries, shipment.deliveries = shipment.deliveries, []
        parents, shipment.parents = shipment.parents, []
        for _, delivery in deliveries:
            delivery.lost(failure)
        for parent in parents:
            parent.lost(failure)

    def forget_failures(self) -> None:
        """Let what could not be written be asked for again."""
        failed, self._failed = self._failed, []
        for shipment in failed:
            key = shipment.place, shipment.manifest.digest
            if self._shipments.get(key) is shipment:
                del self._shipments[key]

    def _wrote(self, shipment: Shipment, tag: str | None, delivery: Delivery | None, event: Ended) -> None:
        shipment.writing -= 1
        if isinstance(event, CommandFailed):
            self._unwritten(shipment, tag, delivery, event.failure)
            return
        existed, shipment.stored = shipment.stored, True
        self._count.manifests_written += 1
        if delivery is not None:
            shipment.forget(tag, delivery)
            delivery.written(existed=existed)
        self._settle(shipment)

    def _unwritten(self, shipment: Shipment, tag: str | None, delivery: Delivery | None, failure: Failure) -> None:
        """Refused under a tag it is that delivery's loss, refused by digest everybody's."""
        if delivery is None:
            self.fail(shipment, failure)
            return
        shipment.forget(tag, delivery)
        delivery.refused(failure)
        self._write_for_the_rest(shipment)
        self._retire(shipment)

    def _write_for_the_rest(self, shipment: Shipment) -> None:
        """No tag brought it there, but somebody needs it by digest."""
        untagged = any(tag is None for tag, _ in shipment.deliveries)
        if not shipment.writing and not shipment.stored and (shipment.parents or untagged):
            self._write(shipment, None, None)

    def _settle(self, shipment: Shipment) -> None:
        """Stored: parents and those who asked by digest have what they wanted."""
        parents, shipment.parents = shipment.parents, []
        for parent in parents:
            parent.arrived()
        for tag, delivery in [d for d in shipment.deliveries if d[0] is None]:
            shipment.forget(tag, delivery)
            delivery.written(existed=False)
        self._retire(shipment)

    def _retire(self, shipment: Shipment) -> None:
        """Stored and wanted by nobody now: that it is there is all that has to be remembered."""
        key = (shipment.place, shipment.manifest.digest)
        idle = not (shipment.writing or shipment.deliveries or shipment.parents)
        if shipment.stored and idle and self._shipments.get(key) is shipment:
            self._stored.setdefault(shipment.place, set()).add(shipment.manifest.digest.raw)
            del self._shipments[key]

    def _write(self, shipment: Shipment, tag: str | None, delivery: Delivery | None) -> None:
        shipment.writing += 1
        self._queue.push(
            lambda number: self._make(number, shipment, tag, delivery),
            lambda event: self._wrote(shipment, tag, delivery, event),
            (shipment.place.site,),
            priority=WRITE,
        )

    def _make(self, number: int, shipment: Shipment, tag: str | None, delivery: Delivery | None) -> Work | None:
        wanted = delivery.live if delivery is not None else shipment.live
        if shipment.failure or not wanted:
            shipment.writing -= 1
            if delivery is not None and shipment.failure is None:
                shipment.forget(tag, delivery)
                self._write_for_the_rest(shipment)
                self._retire(shipment)
            return None
        return WriteManifest(number, shipment.place, shipment.manifest, tag)
