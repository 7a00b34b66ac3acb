"""What is attached to manifests goes where they go: referrers (distribution-spec, "Listing Referrers"), with or without
the API, and cosign's ``.sig``, ``.att`` and ``.sbom`` tags; also what is attached to children and to attachments.

Each subject is asked about once per source, and taken care of once per destination. Nothing attached is taken for
"nothing" unless the source said so clearly (F3).
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable
from typing import TypeAlias

from asyncrane.abc import Place, Site
from asyncrane.engine.intake import Delivery
from asyncrane.engine.messages import (
    CommandFailed,
    Ended,
    ListReferrers,
    Probe,
    Probed,
    ReferrersListed,
    Resolve,
    Resolved,
    SourceListed,
)
from asyncrane.engine.outcome import Statistics
from asyncrane.engine.queue import Queue
from asyncrane.engine.reading import READ, Live, Lost, Reading
from asyncrane.engine.shipping import Shipment, Shipping
from asyncrane.errors import Failure
from asyncrane.oci import media
from asyncrane.oci.digest import Digest
from asyncrane.oci.manifest import Manifest

COSIGN_SUFFIXES = ("sig", "att", "sbom")
"""What cosign appends to ``sha256-<hex>.`` to make the tag of a signature, an attestation, an SBOM."""

_ABSENT = frozenset({"NotFound", "Denied"})
"""How a tag is not there in a repository whose images can be read: Artifactory says 403 (ggcr#1691)."""

_DIGEST_TAG = re.compile(r"(sha(?:256|512)-[0-9a-f]{64})(\..+)?")

Ship: TypeAlias = Callable[[Delivery, Manifest], Shipment]
Found: TypeAlias = Callable[[tuple[Digest, ...]], None]

_Key: TypeAlias = tuple[Place, Place, Digest]
"""A source, a destination and a subject."""


def by_subject(tags: Iterable[str]) -> dict[str, tuple[str, ...]]:
    """Of ``tags`` those that stand for something attached, by the digest (``sha256-<hex>``) it is attached to."""
    found: dict[str, tuple[str, ...]] = {}
    for tag in tags:
        if (match := _DIGEST_TAG.fullmatch(tag)) is not None:
            found[match[1]] = (*found.get(match[1], ()), tag)
    return found


class _Join:
    """Waits for several things: calls ``then`` when all have come, or ``lost`` once."""

    __slots__ = ("_lost", "_open", "_then", "failed", "live")

    def __init__(self, then: Callable[[], None], lost: Lost, live: Live) -> None:
        self._then = then
        self._lost = lost
        self._open = 1
        self.live = live
        self.failed = False

    def expect(self) -> None:
        self._open += 1

    def arrived(self) -> None:
        self._open -= 1
        if not self._open and not self.failed:
            self._then()

    def lost(self, failure: Failure) -> None:
        if not self.failed:
            self.failed = True
            self._lost(failure)


class _Carrier:
    """The wish to have one attachment at a place."""

    __slots__ = ("_delivery", "_join", "_written")

    def __init__(self, join: _Join, delivery: Delivery, written: Callable[[], None]) -> None:
        self._join = join
        self._delivery = delivery
        self._written = written

    @property
    def live(self) -> bool:
        return self._join.live() and not self._join.failed

    def written(self, *, existed: bool) -> None:
        self._delivery.attached += 1
        self._written()
        self._join.arrived()

    def lost(self, failure: Failure) -> None:
        self._join.lost(failure)

    refused = lost


class _Errand:
    """Everything attached to one subject, on its way to one place: who waits for it."""

    __slots__ = ("joins",)

    def __init__(self, join: _Join) -> None:
        self.joins = [join]

    def live(self) -> bool:
        """Whether anybody still waits. One that nobody waits for may never end: what it asks is not asked any more."""
        return any(join.live() for join in self.joins)


class Attaching:
    """All attachments of all jobs. ``ship`` makes the shipment of a manifest to where a delivery goes."""

    def __init__(self, queue: Queue, reading: Reading, shipping: Shipping, ship: Ship, statistics: Statistics) -> None:
        self._queue = queue
        self._reading = reading
        self._shipping = shipping
        self._ship = ship
        self._count = statistics
        self._tags: dict[Place, dict[str, tuple[str, ...]]] = {}
        self._api: dict[Site, bool] = {}
        self._lists: dict[tuple[Place, Digest], tuple[Digest, ...]] = {}
        self._asking: dict[tuple[Place, Digest], list[tuple[Found, Lost, Live]]] = {}
        self._errands: dict[_Key, _Errand] = {}
        self._done: dict[tuple[Place, Place], set[Digest]] = {}

    def listed(self, event: SourceListed) -> None:
        """All tags of a source are known: those that stand for digests tell what is attached."""
        self._tags[event.place] = by_subject(event.tags)

    def forget(self) -> None:
        """A new run begins: what was attached to what, and what was taken along, may have changed since."""
        self._lists.clear()
        self._done.clear()

    def follow(self, delivery: Delivery, root: Manifest, then: Callable[[], None]) -> None:
        """Call ``then`` when everything attached to ``root`` and to what it lists is where ``delivery`` goes."""
        join = _Join(then, delivery.lost, lambda: delivery.live)
        self._tree(delivery, root, join, {root.digest})
        join.arrived()

    def follow_digest(self, delivery: Delivery, digest: Digest, media_type: str, then: Callable[[], None]) -> None:
        """The same for a manifest that is there already; an index is read only where anything may be attached."""
        if media_type not in media.INDEXES:
            join = _Join(then, delivery.lost, lambda: delivery.live)
            self._subject(delivery, digest, join, wait=True)
            join.arrived()
            return

        def root_done() -> None:
            source = delivery.source
            if self._api.get(source.site) is False and not self._tags.get(source, True):
                then()
                return
            self._reading.by_digest(
                source, digest, lambda m: self.follow(delivery, m, then), delivery.lost, lambda: delivery.live
            )

        join = _Join(root_done, delivery.lost, lambda: delivery.live)
        self._subject(delivery, digest, join, wait=True)
        join.arrived()

    def _tree(
        self, delivery: Delivery, manifest: Manifest, join: _Join, seen: set[Digest], *, wait: bool = True
    ) -> None:
        self._subject(delivery, manifest.digest, join, wait=wait)
        for child in manifest.children():
            if child.digest in seen:
                continue
            seen.add(child.digest)
            if child.media_type in media.INDEXES:
                join.expect()
                self._branch(delivery, child.digest, join, seen, wait=wait)
            else:
                self._subject(delivery, child.digest, join, wait=wait)

    def _branch(self, delivery: Delivery, digest: Digest, join: _Join, seen: set[Digest], *, wait: bool) -> None:
        def then(manifest: Manifest) -> None:
            self._tree(delivery, manifest, join, seen, wait=wait)
            join.arrived()

        self._reading.by_digest(delivery.source, digest, then, join.lost, join.live)

    def _subject(self, delivery: Delivery, digest: Digest, join: _Join, *, wait: bool) -> None:
        """Everything attached to one manifest. An errand that is under way is waited for, unless it may be waiting for
        this one: what a registry says is attached could go round in circles.
        """
        key = (delivery.source, delivery.place, digest)
        if digest in self._done.get(key[:2], ()):
            return
        under_way = self._errands.get(key)
        if under_way is not None and under_way.live():
            if wait:
                join.expect()
                under_way.joins.append(join)
            return
        join.expect()
        errand = self._errands[key] = _Errand(join)
        inner = _Join(lambda: self._ended(key, errand), lambda failure: self._failed(key, errand, failure), errand.live)

        def then(found: tuple[Digest, ...]) -> None:
            for attached in found:
                inner.expect()
                self._carry(delivery, digest, attached, inner)
            self._cosign(delivery, digest, inner)
            inner.arrived()

        self._list(delivery.source, digest, then, inner.lost, inner.live)

    def _ended(self, key: _Key, errand: _Errand) -> None:
        self._done.setdefault(key[:2], set()).add(key[2])
        self._leave(key, errand)
        for join in errand.joins:
            join.arrived()

    def _failed(self, key: _Key, errand: _Errand, failure: Failure) -> None:
        self._leave(key, errand)
        for join in errand.joins:
            join.lost(failure)

    def _leave(self, key: _Key, errand: _Errand) -> None:
        if self._errands.get(key) is errand:  # one that nobody waited for has been begun anew
            del self._errands[key]

    # asking the source

    def _list(self, place: Place, subject: Digest, then: Found, lost: Lost, live: Live) -> None:
        key = (place, subject)
        tags = self._tags.get(place)
        fallback = tags is None or _fallback(subject) in tags.get(_fallback(subject), ())
        if (known := self._lists.get(key)) is not None:
            then(known)
        elif not fallback and self._api.get(place.site) is False:
            then(())
        else:
            waiting = self._asking.setdefault(key, [])
            waiting.append((then, lost, live))
            if len(waiting) == 1:
                self._ask(place, subject, fallback=fallback)

    def _ask(self, place: Place, subject: Digest, *, fallback: bool) -> None:
        key = (place, subject)

        def make(number: int) -> ListReferrers | None:
            if any(live() for _, _, live in self._asking[key]):
                return ListReferrers(number, place, subject, fallback)
            del self._asking[key]
            return None

        def ended(event: Ended) -> None:
            waiting = self._asking.pop(key)
            if isinstance(event, ReferrersListed):
                self._api[place.site] = event.supported
                found = self._lists[key] = tuple(dict.fromkeys(d.digest for d in event.referrers))
                for then, _, _ in waiting:
                    then(found)
            elif isinstance(event, CommandFailed):
                for _, lost, _ in waiting:
                    lost(event.failure)

        self._queue.push(make, ended, (place.site,), priority=READ)

    # carrying

    def _carry(self, delivery: Delivery, subject: Digest, attached: Digest, join: _Join) -> None:
        """One referrer, and what is attached to it in turn."""
        self._subject(delivery, attached, join, wait=False)
        if _all_anew(delivery):
            self._read(delivery, subject, attached, join)
            return

        def ended(event: Ended) -> None:
            if isinstance(event, Probed) and event.descriptor is not None:
                join.arrived()
            else:
                self._read(delivery, subject, attached, join)

        self._queue.push(
            lambda number: Probe(number, delivery.place, str(attached)) if join.live() else None,
            ended,
            (delivery.place.site,),
            priority=READ,
        )

    def _read(self, delivery: Delivery, subject: Digest, attached: Digest, join: _Join) -> None:
        def then(manifest: Manifest) -> None:
            named = manifest.subject
            if named is None or named.digest != subject:  # the list was wrong: it is attached to something else (F5)
                join.arrived()
                return
            if manifest.is_index:
                self._tree(delivery, manifest, join, {manifest.digest}, wait=False)
            self._send(delivery, manifest, None, join)

        def lost(failure: Failure) -> None:
            if failure.kind == "NotFound":  # a list that clients keep may name what is gone: a clear answer (F3)
                join.arrived()
            else:
                join.lost(failure)

        self._reading.by_digest(delivery.source, attached, then, lost, join.live)

    def _cosign(self, delivery: Delivery, subject: Digest, join: _Join) -> None:
        """Attachments by tag: those that the source's list has, or, without a list, those that cosign would make."""
        listed = self._tags.get(delivery.source)
        name = _fallback(subject)
        if listed is None:
            candidates: Iterable[str] = (f"{name}.{suffix}" for suffix in COSIGN_SUFFIXES)
        else:
            candidates = (tag for tag in listed.get(name, ()) if tag != name)
        for tag in candidates:
            join.expect()
            self._resolve(delivery, tag, join)

    def _resolve(self, delivery: Delivery, tag: str, join: _Join) -> None:
        def ended(event: Ended) -> None:
            if isinstance(event, Resolved):
                self._compare(delivery, tag, event.descriptor.digest, join)
            elif isinstance(event, CommandFailed) and event.failure.kind in _ABSENT:
                join.arrived()
            elif isinstance(event, CommandFailed):
                join.lost(event.failure)

        self._queue.push(
            lambda number: Resolve(number, delivery.source, tag) if join.live() else None,
            ended,
            (delivery.source.site,),
            priority=READ,
        )

    def _compare(self, delivery: Delivery, tag: str, digest: Digest, join: _Join) -> None:
        """An attachment by tag, and what is attached to it in turn."""
        self._subject(delivery, digest, join, wait=False)

        def ended(event: Ended) -> None:
            there = event.descriptor if isinstance(event, Probed) else None
            if there is not None and there.digest == digest and delivery.job.overwrite != "always":
                join.arrived()
            else:
                self._reading.by_digest(
                    delivery.source, digest, lambda m: self._send(delivery, m, tag, join), join.lost, join.live
                )

        self._queue.push(
            lambda number: Probe(number, delivery.place, tag) if join.live() else None,
            ended,
            (delivery.place.site,),
            priority=READ,
        )

    def _send(self, delivery: Delivery, manifest: Manifest, tag: str | None, join: _Join) -> None:
        carrier = _Carrier(join, delivery, self._written)
        self._shipping.deliver(self._ship(delivery, manifest), tag, carrier)

    def _written(self) -> None:
        self._count.referrers_written += 1


def _all_anew(delivery: Delivery) -> bool:
    """Whether nothing of the image is there, or it is written again in any case, with all that belongs to it."""
    return delivery.present is None or delivery.job.overwrite == "always"


def _fallback(subject: Digest) -> str:
    """The tag that stands in for the referrers API (distribution-spec, "Referrers Tag Schema")."""
    return f"{subject.algorithm[:32]}-{subject.hex[:64]}"
