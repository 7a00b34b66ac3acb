"""What copying would do, found out by asking only: the scheduler runs as it would, and writes are answered from what
the destinations have. What a command would cost is counted, so a plan says bytes and requests before the first write.
"""

from __future__ import annotations

from collections import Counter, defaultdict

import msgspec

from asyncrane.abc import DOUBTED, Place
from asyncrane.engine.messages import (
    Asking,
    BlobCopied,
    BlobMounted,
    Command,
    CommandFailed,
    CopyBlob,
    Ended,
    Event,
    Landing,
    ManifestWritten,
    MountBlob,
    TagsListed,
    Work,
    WriteManifest,
)
from asyncrane.engine.placing import Donors, no_donors
from asyncrane.engine.runner import Executor, Stores
from asyncrane.errors import AsyncraneError, Failure
from asyncrane.oci.descriptor import Descriptor
from asyncrane.oci.digest import Digest


class SiteCosts(msgspec.Struct, omit_defaults=False):
    """What a run would mean to one registry: bytes of blobs, each counted once per repository that needs it, and the
    requests for blobs and for what is written, by ``"METHOD kind"``. Questions cost the same, planned or done.
    """

    blobs: int = 0
    bytes_read: int = 0
    bytes_written: int = 0
    bytes_mounted: int = 0
    bytes_existing: int = 0
    requests: dict[str, int] = {}


class Costs:
    """Counts per site what commands would cost."""

    def __init__(self) -> None:
        self._sites: dict[str, SiteCosts] = defaultdict(SiteCosts)
        self._requests: dict[str, Counter[str]] = defaultdict(Counter)

    def mounted(self, command: MountBlob) -> None:
        """One request, no bytes."""
        site = command.place.site.name
        self._requests[site]["POST uploads"] += 1
        self._sites[site].bytes_mounted += max(command.blob.size, 0)

    def copied(self, command: CopyBlob, landings: tuple[Landing, ...]) -> None:
        """One GET for all sinks that have not got it; POST and PUT at those (and a HEAD of a large one), a POST at the
        others.
        """
        size = max(command.blob.size, 0)
        if any(landing.sent for landing in landings):
            self._sites[command.source.site.name].bytes_read += size
            self._requests[command.source.site.name]["GET blobs"] += 1
        for landing in landings:
            site = self._sites[landing.place.site.name]
            requests = self._requests[landing.place.site.name]
            requests["POST uploads"] += 1
            if landing.sent:
                site.blobs += 1
                site.bytes_written += size
                requests["PUT uploads"] += 1
                if size >= DOUBTED:
                    requests["HEAD blobs"] += 1
            else:
                site.bytes_existing += size

    def written(self, command: WriteManifest) -> None:
        """One request."""
        self._requests[command.place.site.name]["PUT manifests"] += 1

    def sites(self) -> dict[str, SiteCosts]:
        """The counts by registry."""
        names = sorted({*self._sites, *self._requests})
        return {
            name: msgspec.structs.replace(self._sites[name], requests=dict(sorted(self._requests[name].items())))
            for name in names
        }


class PlanningExecutor:
    """Lets ``inner`` ask and writes nothing. :meth:`observe` is to see the engine's events: where a repository does
    not exist, nothing has to be asked.
    """

    def __init__(self, stores: Stores, inner: Executor, donors: Donors = no_donors) -> None:
        self._stores = stores
        self._inner = inner
        self._donors = donors
        self._absent: set[Place] = set()
        self.costs = Costs()
        self.found: dict[Place, list[Digest]] = {}
        """Blobs that destinations have already."""

    def observe(self, event: Event | Command) -> None:
        """Learn which repositories do not exist."""
        if isinstance(event, TagsListed) and event.tags is None:
            self._absent.add(event.place)

    async def execute(self, command: Work) -> Ended:
        """Ask, or say what writing would come to."""
        if isinstance(command, Asking):
            return await self._inner.execute(command)
        if isinstance(command, WriteManifest):
            self.costs.written(command)
            return ManifestWritten(command.id)
        try:
            if isinstance(command, MountBlob):
                return await self._mount(command)
            landings = tuple([await self._look(command.blob, place) for place in command.sinks])
        except AsyncraneError as exc:
            return CommandFailed(command.id, Failure.of(exc))
        self.costs.copied(command, landings)
        return BlobCopied(command.id, landings)

    async def _mount(self, command: MountBlob) -> BlobMounted:
        """What this run brings to a registry can be mounted there; what an earlier one did may have been deleted."""
        blob, site = command.blob, command.place.site
        if command.donor in self._donors(site, blob.digest) and not await self._has(Place(site, command.donor), blob):
            return BlobMounted(command.id, mounted=False)
        self.costs.mounted(command)
        return BlobMounted(command.id, mounted=True)

    async def _look(self, blob: Descriptor, place: Place) -> Landing:
        there = place not in self._absent and await self._has(place, blob)
        return Landing(place, sent=not there)

    async def _has(self, place: Place, blob: Descriptor) -> bool:
        there = await self._stores.sink(place).has(blob.digest)
        if there:
            self.found.setdefault(place, []).append(blob.digest)
        return there

    def __repr__(self) -> str:
        return f"PlanningExecutor({self._inner!r})"
