"""Getting each blob to each place: there already, mounted, or copied; the bytes go to a site once.

A *want* is one blob at one place. All open wants of one digest at one site are an *asset*: the first want that cannot
be mounted is copied, the others are parked until it has landed and are mounted from there. Copies of one digest that
wait at the same time for different sites become one transfer, so the source is read once; a site that falls behind the
others, or fails where they do not, gets one of its own, and one that keeps them waiting all the time only such. Of a
want that has landed nothing is left but a line in :mod:`asyncrane.engine.landed`.
"""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from typing import TypeAlias

from asyncrane.abc import Place, Site
from asyncrane.engine.assets import Asset, Shelf, Waiter, Want
from asyncrane.engine.messages import BlobCopied, BlobMounted, CommandFailed, CopyBlob, Ended, Landing, MountBlob, Work
from asyncrane.engine.outcome import Statistics
from asyncrane.engine.queue import Queue
from asyncrane.errors import Failure
from asyncrane.oci.descriptor import Descriptor
from asyncrane.oci.digest import Digest

MOUNT, SMALL_COPY, COPY = 1, 2, 3
SMALL = 256 * 1024
"""Bytes up to which a blob is one message rather than a stream."""

HELD_UP = 5.0
"""Seconds that other sites wait for one, on all its streams, until they wait for it no more. What they do not have to
wait for it is taken off again.
"""

_MOST_DONORS = 2

Donors: TypeAlias = Callable[[Site, Digest], tuple[str, ...]]
"""The repositories of a site that held a blob when somebody last looked, the likeliest first."""


def no_donors(site: Site, digest: Digest) -> tuple[str, ...]:
    """Nobody has looked."""
    return ()


class _Transfer:
    """A copy that waits for its turn; more sites may join until then. It may be queued several times, the last time in
    the best place: the first of its turns begins it.
    """

    __slots__ = ("_placing", "begun", "blob", "joined", "source", "unsettled", "want")

    def __init__(self, placing: Placing, want: Want) -> None:
        self._placing = placing
        self.blob = want.blob
        self.source = want.source
        self.want = want
        self.joined: tuple[Want, ...] = ()
        self.begun = False
        self.unsettled = False

    @property
    def wants(self) -> tuple[Want, ...]:
        """One at each site."""
        return (self.want, *self.joined)

    def make(self, number: int) -> Work | None:
        """Its turn has come."""
        return self._placing.begin(self, number)

    def ended(self, event: Ended) -> None:
        """It was carried out."""
        self._placing.copied(self, event)

    @property
    def sites(self) -> tuple[Site, ...]:
        """Where it reads and where it writes."""
        source, site = self.source.site, self.want.place.site
        if not self.joined:
            return (source, site) if site != source else (source,)
        return tuple(dict.fromkeys((source, site, *[want.place.site for want in self.joined])))

    @property
    def demand(self) -> int:
        """How many wait for these bytes."""
        waiting = self.want.demand + len(self.want.asset.parked or ())
        for want in self.joined:
            waiting += want.demand + len(want.asset.parked or ())
        return waiting


class Placing:
    """All wants of all jobs. ``donors`` says where blobs were when an earlier run ended."""

    def __init__(self, queue: Queue, statistics: Statistics, donors: Donors = no_donors) -> None:
        self._queue = queue
        self._count = statistics
        self._donors = donors
        self._shelves: dict[Site, Shelf] = {}
        self._waiting: dict[Site, dict[Digest, _Transfer]] = {}
        self._unsettled: list[_Transfer] = []
        self._failed: list[Want] = []
        self._late: dict[Site, float] = {}
        self._apart: set[Site] = set()
        queue.before_taking(self._settle)

    def need(self, place: Place, blob: Descriptor, source: Place, waiter: Waiter, *, eager: bool) -> bool:
        """``waiter`` needs ``blob`` at ``place``; ``False`` when it is there, else it will be told."""
        shelf = self._shelves.get(place.site)
        if shelf is None:
            shelf = self._shelves[place.site] = Shelf()
        raw, repository = blob.digest.raw, place.repository
        if shelf.landed.has(raw, repository):
            return False
        asset = shelf.assets.get(raw)
        if asset is None:
            asset = shelf.assets[raw] = Asset(shelf, raw)
        want = asset.want(repository)
        if want is None:
            want = Want(asset, place, blob, source, waiter, eager=eager)
            asset.open(want)
            self._count.blobs_total += 1
            self._start(want)
        elif want.failure:
            waiter.lost(want.failure)
        else:
            want.join(waiter)
            self._raise_demand(want)
        return True

    def _start(self, want: Want) -> None:
        asset, mounts = want.asset, want.place.site.mounts
        holder = asset.holder
        donor = self._donor(want, holder) if mounts else None
        if donor is not None:
            self._push_mount(want, donor)
        elif mounts and asset.arriving and holder is None:
            asset.park(want)
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
            self._count.bytes_mounted += _known(want.blob)
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
        waiting = self._waiting.setdefault(want.source.site, {})
        transfer = waiting.get(want.blob.digest)
        if want.alone or want.place.site in self._apart:
            transfer = _Transfer(self, want)
            self._count.bytes_total += _known(want.blob)
        elif transfer is None or want.place.site in [joined.place.site for joined in transfer.wants]:
            transfer = waiting[want.blob.digest] = _Transfer(self, want)
            self._count.bytes_total += _known(want.blob)
        else:
            transfer.joined = (*transfer.joined, want)
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
        size = transfer.blob.size
        small = 0 <= size <= SMALL
        self._queue.add(
            transfer,
            transfer.sites,
            priority=SMALL_COPY if small else COPY,
            demand=transfer.demand,
            weight=0 if small else size if size > 0 else SMALL,
            stream=True,
        )

    def begin(self, transfer: _Transfer, number: int) -> Work | None:
        """The copy to every site that joined, if it has not begun already and somebody still wants it."""
        if transfer.begun:
            return None
        transfer.begun = True
        waiting = self._waiting[transfer.source.site]
        if waiting.get(transfer.blob.digest) is transfer:
            del waiting[transfer.blob.digest]
        if transfer.joined:
            return self._begin_several(transfer, number)
        want = transfer.want
        if not want.live:
            self._count.bytes_total -= _known(transfer.blob)
            self._leave_out(want)
            return None
        return CopyBlob(number, transfer.blob, transfer.source, (want.place,), want.eager)

    def _begin_several(self, transfer: _Transfer, number: int) -> Work | None:
        wants = []
        for want in transfer.wants:
            if want.live:
                wants.append(want)
            else:
                self._leave_out(want)
        if not wants:
            self._count.bytes_total -= _known(transfer.blob)
            return None
        transfer.want, transfer.joined = wants[0], tuple(wants[1:])
        eager = any(want.eager for want in wants)
        return CopyBlob(number, transfer.blob, transfer.source, tuple([want.place for want in wants]), eager)

    def _leave_out(self, want: Want) -> None:
        """Nobody wants it any more."""
        want.asset.arriving -= 1
        self._abandon(want)

    def copied(self, transfer: _Transfer, event: Ended) -> None:
        """A transfer has ended, for each site in its own way."""
        landings = event.landings if isinstance(event, BlobCopied) else ()
        if not transfer.joined and len(landings) == 1 and transfer.want.place == landings[0].place:
            self._landed(transfer.want, landings[0])
            return
        for landing in landings:
            self._weigh(landing, event.elapsed)
        told = {landing.place: landing for landing in landings}
        failure = event.failure if isinstance(event, CommandFailed) else _UNTOLD
        for want in transfer.wants:
            self._landed(want, told.get(want.place) or Landing(want.place, failure=failure))

    def _weigh(self, landing: Landing, elapsed: float) -> None:
        """A site that keeps the others waiting more often than not is served by itself from now on."""
        site = landing.place.site
        streams = self._queue.budget.limit(site).busy + 1
        late = self._late[site] = max(0.0, self._late.get(site, 0.0) + (2 * landing.late - elapsed) / streams)
        if late < HELD_UP or site in self._apart:
            return
        self._apart.add(site)
        for transfer in [transfer for waiting in self._waiting.values() for transfer in waiting.values()]:
            held = next((want for want in transfer.wants if want.place.site == site), None)
            if held is not None and transfer.joined:
                transfer.want, *joined = [want for want in transfer.wants if want is not held]
                transfer.joined = tuple(joined)
                self._unsettle(transfer)
                self._enqueue(held)

    def _raise_demand(self, want: Want) -> None:
        """More wait for this digest than when it was queued: bring it forward each time their number doubles."""
        transfer = self._waiting.get(want.source.site, {}).get(want.blob.digest)
        if transfer is None or transfer.unsettled:
            return
        demand = transfer.demand
        if demand & (demand - 1) == 0:
            self._unsettle(transfer)

    def _landed(self, want: Want, landing: Landing) -> None:
        if landing.alone and not want.alone:
            want.alone = True
            self._enqueue(want)
            return
        want.asset.arriving -= 1
        if landing.failure is not None:
            self._lose(want, landing.failure)
            return
        count, size = self._count, _known(want.blob)
        if landing.sent:
            count.blobs_copied += 1
            count.bytes_written += size
        else:
            count.blobs_existing += 1
            count.bytes_existing += size
        self._land(want)

    def _land(self, want: Want) -> None:
        self._count.blobs_done += 1
        asset, repository = want.asset, want.place.repository
        asset.land(repository)
        asset.close(repository)
        for waiter in want.release():
            waiter.arrived()
        if asset.parked:
            self._unpark(asset)

    def _lose(self, want: Want, failure: Failure) -> None:
        """A copy failed for good. Wrong bytes are wrong for all that wait for them from the same source; anything else
        may be this repository's own trouble, and the next one tries for itself.
        """
        asset = want.asset
        doomed = [want]
        if failure.kind in _WRONG_BYTES:
            parked = asset.unpark()
            doomed += [p for p in parked if p.source == want.source]
            asset.parked = [p for p in parked if p.source != want.source] or None
        for lost in doomed:
            lost.failure = failure
            self._failed.append(lost)
            for waiter in lost.release():
                waiter.lost(failure)
        self._unpark(asset)

    def forget_failures(self) -> None:
        """Let what could not be placed be asked for again, and slow sites show whether they still are."""
        self._late.clear()
        self._apart.clear()
        failed, self._failed = self._failed, []
        for want in failed:
            want.asset.close(want.place.repository)
            self._count.blobs_total -= 1

    def _abandon(self, want: Want) -> None:
        """Nobody wants it any more; should somebody ask again, it starts anew."""
        want.asset.close(want.place.repository)
        self._count.blobs_total -= 1
        self._unpark(want.asset)

    def _unpark(self, asset: Asset) -> None:
        if asset.parked and (not asset.arriving or asset.holder is not None):
            for want in asset.unpark():
                self._start(want)


def _known(blob: Descriptor) -> int:
    """The blob's bytes, as far as its manifest says."""
    return blob.size if blob.size > 0 else 0


_WRONG_BYTES = frozenset({"DigestMismatch", "SizeMismatch"})
_UNTOLD = Failure("AsyncraneError", "the transfer ended without saying what became of this destination")
