"""Getting each blob to each place: there already, mounted, or copied; the bytes go to a site once.

A *want* is one blob at one place. All wants of one digest at one site are an *asset*: the first want that cannot be
mounted is copied, the others are parked until it has landed and are mounted from there. Copies of one digest that wait
at the same time for different sites become one transfer, so the source is read once.
"""

from __future__ import annotations

from typing import Protocol

from asyncrane.abc import Place, Site
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

    __slots__ = ("asset", "blob", "eager", "failure", "landed", "place", "source", "tried", "waiters")

    def __init__(self, asset: Asset, place: Place, blob: Descriptor, source: Place, *, eager: bool) -> None:
        self.asset = asset
        self.place = place
        self.blob = blob
        self.source = source
        self.eager = eager
        self.landed = False
        self.failure: Failure | None = None
        self.tried: tuple[str, ...] = ()
        self.waiters: list[Waiter] = []

    @property
    def live(self) -> bool:
        """Whether anybody still waits for it."""
        return any(waiter.live for waiter in self.waiters)

    def __repr__(self) -> str:
        return f"Want({self.blob.digest[:19]} at {self.place})"


class Asset:
    """One digest at one site."""

    __slots__ = ("copying", "holder", "parked", "wants")

    def __init__(self) -> None:
        self.holder: str | None = None
        self.copying = 0
        self.parked: list[Want] = []
        self.wants: dict[str, Want] = {}


class _Transfer:
    """A copy that waits for its turn; more sites may join until then."""

    __slots__ = ("blob", "source", "turn", "wants")

    def __init__(self, want: Want) -> None:
        self.blob = want.blob
        self.source = want.source
        self.wants = [want]
        self.turn = 0

    @property
    def sites(self) -> tuple[Site, ...]:
        return tuple(dict.fromkeys((self.source.site, *(want.place.site for want in self.wants))))


class Placing:
    """All wants of all jobs."""

    def __init__(self, queue: Queue, statistics: Statistics) -> None:
        self._queue = queue
        self._count = statistics
        self._assets: dict[tuple[Site, Digest], Asset] = {}
        self._waiting: dict[tuple[Digest, Site], _Transfer] = {}
        self._failed: list[Want] = []

    def need(self, place: Place, blob: Descriptor, source: Place, waiter: Waiter, *, eager: bool) -> bool:
        """``waiter`` needs ``blob`` at ``place``; ``False`` when it is there, else it will be told."""
        asset = self._assets.setdefault((place.site, blob.digest), Asset())
        want = asset.wants.get(place.repository)
        if want is None:
            want = asset.wants[place.repository] = Want(asset, place, blob, source, eager=eager)
            self._count.blobs_total += 1
            want.waiters.append(waiter)
            self._start(want)
            return True
        if want.landed:
            return False
        want.waiters.append(waiter)
        if want.failure:
            waiter.lost(want.failure)
        else:
            self._raise_demand(want)
        return True

    def _start(self, want: Want) -> None:
        asset, site = want.asset, want.place.site
        donor = self._donor(want)
        if donor is not None:
            want.tried = (*want.tried, donor)
            self._queue.push(
                lambda number: self._mount(number, want, donor),
                lambda event: self._mounted(want, event),
                (site,),
                priority=MOUNT,
            )
        elif site.mounts and asset.copying and asset.holder is None:
            asset.parked.append(want)
            self._raise_demand(want)
        else:
            asset.copying += 1
            self._enqueue(want)

    def _donor(self, want: Want) -> str | None:
        if not want.place.site.mounts or len(want.tried) >= _MOST_DONORS:
            return None
        own = want.source.repository if want.source.site == want.place.site else None
        for donor in (want.asset.holder, own):
            if donor is not None and donor != want.place.repository and donor not in want.tried:
                return donor
        return None

    def _mount(self, number: int, want: Want, donor: str) -> Work | None:
        if not want.live:
            self._abandon(want)
            return None
        return MountBlob(number, want.place, want.blob, donor)

    def _mounted(self, want: Want, event: Ended) -> None:
        """A mount was answered; one that broke is one that was refused."""
        if isinstance(event, BlobMounted) and event.mounted:
            self._count.blobs_mounted += 1
            self._count.bytes_mounted += max(want.blob.size, 0)
            self._land(want)
        else:
            self._start(want)

    def _enqueue(self, want: Want) -> None:
        key = (want.blob.digest, want.source.site)
        transfer = self._waiting.get(key)
        if transfer is None or any(w.place.site == want.place.site for w in transfer.wants):
            transfer = self._waiting[key] = _Transfer(want)
            self._count.bytes_total += max(want.blob.size, 0)
        else:
            transfer.wants.append(want)
        self._push(transfer)

    def _push(self, transfer: _Transfer) -> None:
        transfer.turn += 1
        turn = transfer.turn
        size = transfer.blob.size
        small = 0 <= size <= SMALL
        self._queue.push(
            lambda number: self._copy(number, transfer, turn),
            lambda event: self._copied(transfer, event),
            transfer.sites,
            priority=SMALL_COPY if small else COPY,
            demand=sum(_demand(want) for want in transfer.wants),
            weight=0 if small else size if size > 0 else SMALL,
        )

    def _copy(self, number: int, transfer: _Transfer, turn: int) -> Work | None:
        if turn != transfer.turn:
            return None
        key = (transfer.blob.digest, transfer.source.site)
        if self._waiting.get(key) is transfer:
            del self._waiting[key]
        wants = [want for want in transfer.wants if want.live]
        for want in transfer.wants:
            if not want.live:
                want.asset.copying -= 1
                self._abandon(want)
        if not wants:
            self._count.bytes_total -= max(transfer.blob.size, 0)
            return None
        transfer.wants = wants
        eager = any(want.eager for want in wants)
        places = tuple(want.place for want in wants)
        return CopyBlob(number, transfer.blob, transfer.source, places, eager)

    def _copied(self, transfer: _Transfer, event: Ended) -> None:
        landings = {landing.place: landing for landing in event.landings} if isinstance(event, BlobCopied) else {}
        failure = event.failure if isinstance(event, CommandFailed) else _UNTOLD
        for want in transfer.wants:
            self._landed(want, landings.get(want.place) or Landing(want.place, failure=failure))

    def _raise_demand(self, want: Want) -> None:
        """More wait for this digest than when it was queued: bring it forward each time their number doubles."""
        transfer = self._waiting.get((want.blob.digest, want.source.site))
        if transfer is None:
            return
        demand = sum(_demand(w) for w in transfer.wants)
        if demand & (demand - 1) == 0:
            self._push(transfer)

    def _landed(self, want: Want, landing: Landing) -> None:
        asset = want.asset
        asset.copying -= 1
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
        want.landed = True
        self._count.blobs_done += 1
        asset = want.asset
        if asset.holder is None:
            asset.holder = want.place.repository
        waiters, want.waiters = want.waiters, []
        for waiter in waiters:
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
            for waiter in lost.waiters:
                waiter.lost(failure)
            lost.waiters = []
        self._unpark(asset)

    def forget_failures(self) -> None:
        """Let what could not be placed be asked for again."""
        failed, self._failed = self._failed, []
        for want in failed:
            del want.asset.wants[want.place.repository]
            self._count.blobs_total -= 1

    def _abandon(self, want: Want) -> None:
        """Nobody wants it any more; should somebody ask again, it starts anew."""
        del want.asset.wants[want.place.repository]
        self._count.blobs_total -= 1
        self._unpark(want.asset)

    def _unpark(self, asset: Asset) -> None:
        if asset.parked and (asset.holder is not None or not asset.copying):
            parked, asset.parked = asset.parked, []
            for want in parked:
                self._start(want)


def _demand(want: Want) -> int:
    return len(want.waiters) + len(want.asset.parked)


_WRONG_BYTES = frozenset({"DigestMismatch", "SizeMismatch"})
_UNTOLD = Failure("AsyncraneError", "the transfer ended without saying what became of this destination")
