"""Getting each blob to each place: there already, mounted, or copied; the bytes go to a site once.

A *want* is one blob at one place. All open wants of one digest at one site are an *asset*: the first want that cannot
be mounted is copied, the others are parked until it has landed and are mounted from there. Copies of one digest that
wait at the same time for different sites become one transfer, so the source is read once. Of a want that has landed
nothing is left but a line in :mod:`asyncrane.engine.landed`.
"""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from typing import Protocol, TypeAlias

from asyncrane.abc import Place, Site
from asyncrane.engine.landed import Landed
from asyncrane.engine.messages import BlobCopied, BlobMounted, CommandFailed, CopyBlob, Ended, Landing, MountBlob, Work
from asyncrane.engine.outcome import Statistics
from asyncrane.engine.queue import Queue
from asyncrane.errors import Failure
from asyncrane.oci.descriptor import Descriptor
from asyncrane.oci.digest import Digest

MOUNT, SMALL_COPY, COPY = 1, 2, 3
SMALL = 256 * 1024
"""Bytes up to which a blob is one message rather than a stream."""

_MOST_DONORS = 2

Donors: TypeAlias = Callable[[Site, Digest], tuple[str, ...]]
"""The repositories of a site that held a blob when somebody last looked, the likeliest first."""


def no_donors(site: Site, digest: Digest) -> tuple[str, ...]:
    """Nobody has looked."""
    return ()


class Waiter(Protocol):
    """Who waits for a blob."""

    @property
    def live(self) -> bool:
        """Whether anybody still waits for this waiter."""
        ...

    def arrived(self) -> None:
        """The blob is there."""
        ...

    def lost(self, failure: Failure) -> None:
        """The blob will not come."""
        ...


class Want:
    """One blob at one place."""

    __slots__ = ("asset", "blob", "eager", "failure", "first", "place", "source", "tried", "waiters")

    def __init__(
        self, asset: Asset, place: Place, blob: Descriptor, source: Place, waiter: Waiter, *, eager: bool
    ) -> None:
        self.asset = asset
        self.place = place
        self.blob = blob
        self.source = source
        self.eager = eager
        self.first = False
        self.failure: Failure | None = None
        self.tried: tuple[str, ...] = ()
        self.waiters = [waiter]

    @property
    def live(self) -> bool:
        """Whether anybody still waits for it."""
        for waiter in self.waiters:  # noqa: SIM110  (a generator costs three times as much, a million times)
            if waiter.live:
                return True
        return False

    def __repr__(self) -> str:
        return f"Want({self.blob.digest[:19]} at {self.place})"


class Asset:
    """One digest at one site, as long as something is to be done about it. ``arriving`` counts the copies (and mounts
    from where an earlier run knows it to be) whose outcome the others wait for.
    """

    __slots__ = ("arriving", "parked", "shelf", "wants")

    def __init__(self, shelf: _Shelf) -> None:
        self.shelf = shelf
        self.arriving = 0
        self.parked: list[Want] = []
        self.wants: dict[str, Want] = {}


class _Shelf:
    """One site: what it has, and what is being done about what it has not."""

    __slots__ = ("assets", "landed")

    def __init__(self) -> None:
        self.landed = Landed()
        self.assets: dict[Digest, Asset] = {}


class _Transfer:
    """A copy that waits for its turn; more sites may join until then."""

    __slots__ = ("blob", "source", "turn", "unsettled", "wants")

    def __init__(self, want: Want) -> None:
        self.blob = want.blob
        self.source = want.source
        self.wants = [want]
        self.turn = 0
        self.unsettled = False

    @property
    def sites(self) -> tuple[Site, ...]:
        source = self.source.site
        if len(self.wants) == 1:
            site = self.wants[0].place.site
            return (source, site) if site != source else (source,)
        return tuple(dict.fromkeys((source, *[want.place.site for want in self.wants])))

    @property
    def demand(self) -> int:
        """How many wait for these bytes."""
        return sum([len(want.waiters) + len(want.asset.parked) for want in self.wants])


class Placing:
    """All wants of all jobs. ``donors`` says where blobs were when an earlier run ended."""

    def __init__(self, queue: Queue, statistics: Statistics, donors: Donors = no_donors) -> None:
        self._queue = queue
        self._count = statistics
        self._donors = donors
        self._shelves: dict[Site, _Shelf] = {}
        self._waiting: dict[tuple[Digest, Site], _Transfer] = {}
        self._unsettled: list[_Transfer] = []
        self._failed: list[Want] = []
        queue.before_taking(self._settle)

    def need(self, place: Place, blob: Descriptor, source: Place, waiter: Waiter, *, eager: bool) -> bool:
        """``waiter`` needs ``blob`` at ``place``; ``False`` when it is there, else it will be told."""
        shelf = self._shelves.get(place.site)
        if shelf is None:
            shelf = self._shelves[place.site] = _Shelf()
        digest, repository = blob.digest, place.repository
        if shelf.landed.has(digest, repository):
            return False
        asset = shelf.assets.get(digest)
        if asset is None:
            asset = shelf.assets[digest] = Asset(shelf)
        want = asset.wants.get(repository)
        if want is None:
            want = asset.wants[repository] = Want(asset, place, blob, source, waiter, eager=eager)
            self._count.blobs_total += 1
            self._start(want)
        elif want.failure:
            waiter.lost(want.failure)
        else:
            want.waiters.append(waiter)
            self._raise_demand(want)
        return True

    def _start(self, want: Want) -> None:
        asset, mounts = want.asset, want.place.site.mounts
        holder = asset.shelf.landed.holder(want.blob.digest)
        donor = self._donor(want, holder) if mounts else None
        if donor is not None:
            self._push_mount(want, donor)
        elif mounts and asset.arriving and holder is None:
            asset.parked.append(want)
            self._raise_demand(want)
        elif mounts and holder is None and (donor := self._remembered(want)) is not None:
            want.first = True
            asset.arriving += 1
            self._push_mount(want, donor)
        else:
            asset.arriving += 1
            self._enqueue(want)

    def _donor(self, want: Want, holder: str | None) -> str | None:
        """A repository of the same site that has the blob: one that got it in this run, or the source itself."""
        own = want.source.repository if want.source.site == want.place.site else None
        return self._untried(want, (holder, own)) if holder is not None or own is not None else None

    def _remembered(self, want: Want) -> str | None:
        """One that had it once, unless that is the very one which wants it: its upload will find it there."""
        donors = self._donors(want.place.site, want.blob.digest)
        return self._untried(want, donors) if donors and want.place.repository not in donors else None

    @staticmethod
    def _untried(want: Want, donors: tuple[str | None, ...]) -> str | None:
        if len(want.tried) >= _MOST_DONORS:
            return None
        for donor in donors:
            if donor is not None and donor != want.place.repository and donor not in want.tried:
                return donor
        return None

    def _push_mount(self, want: Want, donor: str) -> None:
        want.tried = (*want.tried, donor)
        self._queue.push(
            partial(self._mount, want, donor), partial(self._mounted, want), (want.place.site,), priority=MOUNT
        )

    def _mount(self, want: Want, donor: str, number: int) -> Work | None:
        if not want.live:
            self._answered(want)
            self._abandon(want)
            return None
        return MountBlob(number, want.place, want.blob, donor)

    def _mounted(self, want: Want, event: Ended) -> None:
        """A mount was answered; one that broke is one that was refused."""
        self._answered(want)
        if isinstance(event, BlobMounted) and event.mounted:
            self._count.blobs_mounted += 1
            self._count.bytes_mounted += max(want.blob.size, 0)
            self._land(want)
        else:
            self._start(want)

    @staticmethod
    def _answered(want: Want) -> None:
        """Nobody waits for this mount any more."""
        if want.first:
            want.first = False
            want.asset.arriving -= 1

    def _enqueue(self, want: Want) -> None:
        key = (want.blob.digest, want.source.site)
        transfer = self._waiting.get(key)
        if transfer is None or any(w.place.site == want.place.site for w in transfer.wants):
            transfer = self._waiting[key] = _Transfer(want)
            self._count.bytes_total += max(want.blob.size, 0)
        else:
            transfer.wants.append(want)
        self._unsettle(transfer)

    def _unsettle(self, transfer: _Transfer) -> None:
        if not transfer.unsettled:
            transfer.unsettled = True
            self._unsettled.append(transfer)

    def _settle(self) -> None:
        """Queue what is new or has changed, once all that one event brings is known."""
        if not self._unsettled:
            return
        transfers, self._unsettled = self._unsettled, []
        for transfer in transfers:
            transfer.unsettled = False
            self._push(transfer)

    def _push(self, transfer: _Transfer) -> None:
        transfer.turn += 1
        size = transfer.blob.size
        small = 0 <= size <= SMALL
        self._queue.push(
            partial(self._copy, transfer, transfer.turn),
            partial(self._copied, transfer),
            transfer.sites,
            priority=SMALL_COPY if small else COPY,
            demand=transfer.demand,
            weight=0 if small else size if size > 0 else SMALL,
            stream=True,
        )

    def _copy(self, transfer: _Transfer, turn: int, number: int) -> Work | None:
        if turn != transfer.turn:
            return None
        key = (transfer.blob.digest, transfer.source.site)
        if self._waiting.get(key) is transfer:
            del self._waiting[key]
        wants = [want for want in transfer.wants if want.live]
        if len(wants) < len(transfer.wants):
            for want in transfer.wants:
                if want not in wants:
                    want.asset.arriving -= 1
                    self._abandon(want)
            if not wants:
                self._count.bytes_total -= max(transfer.blob.size, 0)
                return None
            transfer.wants = wants
        eager = True in [want.eager for want in wants]
        return CopyBlob(number, transfer.blob, transfer.source, tuple([want.place for want in wants]), eager)

    def _copied(self, transfer: _Transfer, event: Ended) -> None:
        landings = {landing.place: landing for landing in event.landings} if isinstance(event, BlobCopied) else {}
        failure = event.failure if isinstance(event, CommandFailed) else _UNTOLD
        for want in transfer.wants:
            self._landed(want, landings.get(want.place) or Landing(want.place, failure=failure))

    def _raise_demand(self, want: Want) -> None:
        """More wait for this digest than when it was queued: bring it forward each time their number doubles."""
        transfer = self._waiting.get((want.blob.digest, want.source.site))
        if transfer is None or transfer.unsettled:
            return
        demand = transfer.demand
        if demand & (demand - 1) == 0:
            self._unsettle(transfer)

    def _landed(self, want: Want, landing: Landing) -> None:
        want.asset.arriving -= 1
        if landing.failure is not None:
            self._lose(want, landing.failure)
            return
        size = max(want.blob.size, 0)
        if landing.sent:
            self._count.blobs_copied += 1
            self._count.bytes_written += size
        else:
            self._count.blobs_existing += 1
            self._count.bytes_existing += size
        self._land(want)

    def _land(self, want: Want) -> None:
        self._count.blobs_done += 1
        asset = want.asset
        asset.shelf.landed.add(want.blob.digest, want.place.repository)
        self._close(want)
        for waiter in want.waiters:
            waiter.arrived()
        self._unpark(asset)

    def _lose(self, want: Want, failure: Failure) -> None:
        """A copy failed for good. Wrong bytes are wrong for all that wait for them from the same source; anything else
        may be this repository's own trouble, and the next one tries for itself.
        """
        asset = want.asset
        doomed = [want]
        if failure.kind in _WRONG_BYTES:
            doomed += [p for p in asset.parked if p.source == want.source]
            asset.parked = [p for p in asset.parked if p.source != want.source]
        for lost in doomed:
            lost.failure = failure
            self._failed.append(lost)
            waiters, lost.waiters = lost.waiters, []
            for waiter in waiters:
                waiter.lost(failure)
        self._unpark(asset)

    def forget_failures(self) -> None:
        """Let what could not be placed be asked for again."""
        failed, self._failed = self._failed, []
        for want in failed:
            self._close(want)
            self._count.blobs_total -= 1

    def _abandon(self, want: Want) -> None:
        """Nobody wants it any more; should somebody ask again, it starts anew."""
        self._close(want)
        self._count.blobs_total -= 1
        self._unpark(want.asset)

    @staticmethod
    def _close(want: Want) -> None:
        """The last want that is taken care of takes the asset with it."""
        asset, digest = want.asset, want.blob.digest
        del asset.wants[want.place.repository]
        if not asset.wants and asset.shelf.assets.get(digest) is asset:
            del asset.shelf.assets[digest]

    def _unpark(self, asset: Asset) -> None:
        if asset.parked and (not asset.arriving or asset.shelf.landed.holder(asset.parked[0].blob.digest) is not None):
            parked, asset.parked = asset.parked, []
            for want in parked:
                self._start(want)


_WRONG_BYTES = frozenset({"DigestMismatch", "SizeMismatch"})
_UNTOLD = Failure("AsyncraneError", "the transfer ended without saying what became of this destination")
