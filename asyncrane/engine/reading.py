"""Reading manifests: each digest once, whoever asks, and as many ask as want to."""

from __future__ import annotations

from collections.abc import Callable
from typing import TypeAlias

from asyncrane.abc import Place
from asyncrane.engine.messages import CommandFailed, ConfigRead, Ended, ManifestRead, ReadConfig, ReadManifest, Work
from asyncrane.engine.queue import Queue
from asyncrane.errors import Failure
from asyncrane.oci.descriptor import Descriptor
from asyncrane.oci.digest import Digest
from asyncrane.oci.manifest import Manifest
from asyncrane.oci.platform import Platform

READ = 4

Live: TypeAlias = Callable[[], bool]
Lost: TypeAlias = Callable[[Failure], None]


class _Reader:
    __slots__ = ("live", "lost", "place", "then")

    def __init__(self, place: Place, then: Callable[[Manifest], None], lost: Lost, live: Live) -> None:
        self.place = place
        self.then = then
        self.lost = lost
        self.live = live


_KEPT = 4 * 1024 * 1024
"""Bytes of manifests that are kept for whoever asks next, some thousands; those that nobody asks for go first."""

_BESIDES = 400
"""Bytes that a manifest takes besides its body: its digest, its object, its line in the table."""


class Reading:
    """The manifests on their way, and the last of those that were read."""

    def __init__(self, queue: Queue) -> None:
        self._queue = queue
        self._known: dict[Digest, Manifest] = {}
        self._kept = 0
        self._failed: dict[tuple[Digest, Place], Failure] = {}
        self._readers: dict[Digest, list[_Reader]] = {}

    def by_digest(self, place: Place, digest: Digest, then: Callable[[Manifest], None], lost: Lost, live: Live) -> None:
        """Call ``then`` with the manifest, at once if it is known, or ``lost`` when it cannot be had from ``place``."""
        if known := self._known.pop(digest, None):
            self._known[digest] = known  # the last to go now
            then(known)
        elif failure := self._failed.get((digest, place)):
            lost(failure)
        else:
            waiting = self._readers.setdefault(digest, [])
            waiting.append(_Reader(place, then, lost, live))
            if len(waiting) == 1:
                self._push(place, digest)

    def by_tag(self, place: Place, tag: str, then: Callable[[Manifest], None], lost: Lost, live: Live) -> None:
        """The same for a tag; what it names is known by digest afterwards."""

        def ended(event: Ended) -> None:
            if isinstance(event, ManifestRead):
                then(self._keep(event.manifest))
            elif isinstance(event, CommandFailed):
                lost(event.failure)

        self._queue.push(
            lambda number: ReadManifest(number, place, tag) if live() else None, ended, (place.site,), priority=READ
        )

    def platform(
        self, place: Place, config: Descriptor, then: Callable[[Platform | None], None], lost: Lost, live: Live
    ) -> None:
        """Call ``then`` with the platform that an image's config names."""

        def ended(event: Ended) -> None:
            if isinstance(event, ConfigRead):
                then(event.platform)
            elif isinstance(event, CommandFailed):
                lost(event.failure)

        self._queue.push(
            lambda number: ReadConfig(number, place, config) if live() else None, ended, (place.site,), priority=READ
        )

    def forget_failures(self) -> None:
        """Let what could not be read be asked for again."""
        self._failed.clear()

    def _keep(self, manifest: Manifest) -> Manifest:
        known = self._known.setdefault(manifest.digest, manifest)
        if known is manifest:
            self._kept += manifest.size + _BESIDES
            while self._kept > _KEPT and len(self._known) > 1:
                self._kept -= self._known.pop(next(iter(self._known))).size + _BESIDES
        return known

    def _push(self, place: Place, digest: Digest) -> None:
        def make(number: int) -> Work | None:
            if any(reader.live() for reader in self._readers[digest]):
                return ReadManifest(number, place, str(digest))
            del self._readers[digest]
            return None

        self._queue.push(make, lambda event: self._ended(place, digest, event), (place.site,), priority=READ)

    def _ended(self, place: Place, digest: Digest, event: Ended) -> None:
        readers = self._readers.pop(digest)
        if isinstance(event, ManifestRead):
            self._keep(event.manifest)
            for reader in readers:
                reader.then(event.manifest)
        elif isinstance(event, CommandFailed):
            self._failed[digest, place] = event.failure
            for reader in readers:
                self.by_digest(reader.place, digest, reader.then, reader.lost, reader.live)
