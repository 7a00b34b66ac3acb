"""What became of a job, and of all jobs together: values that serialise."""

from __future__ import annotations

from typing import Literal, TypeAlias

import msgspec

from asyncrane.errors import Failure

Status: TypeAlias = Literal["copied", "tagged", "equal", "skipped", "conflict", "failed", "cancelled"]


class TargetOutcome(msgspec.Struct, frozen=True, omit_defaults=True):
    """What became of one destination.

    ``copied``: the manifest was written; ``tagged``: it was there, the tag was written; ``equal``: it was there under
    this tag; ``skipped``: the tag exists and is not to be moved; ``conflict``: the tag exists, names something else and
    the rule or the registry forbids to move it; ``failed``; ``cancelled``. ``before`` is the digest that the tag named
    when it was looked at (empty: none, or not asked), ``referrers`` how many attached manifests were written with it.
    """

    destination: str
    status: Status
    failure: Failure | None = None
    before: str = ""
    referrers: int = 0


class Outcome(msgspec.Struct, frozen=True, omit_defaults=True):
    """What became of one job; ``digest`` is that of the image as written, ``root`` that of what the source named, which
    is another one where platforms were chosen (empty when never known).
    """

    source: str
    digest: str = ""
    media_type: str = ""
    targets: tuple[TargetOutcome, ...] = ()
    notes: tuple[str, ...] = ()
    root: str = ""

    @property
    def failure(self) -> Failure | None:
        """The first destination's failure, if any."""
        return next((t.failure for t in self.targets if t.failure), None)


class TransferView(msgspec.Struct, frozen=True):
    """One blob on its way, for a progress display; sizes in bytes (``size`` is -1 when unknown)."""

    digest: str
    size: int
    done: int
    source: str
    destinations: tuple[str, ...]


class RegistryView(msgspec.Struct, frozen=True):
    """One registry at one moment: requests by ``"METHOD kind"``, body bytes over the wire, attempts after the first,
    commands under way, the limit in use (0: none yet), seconds it is parked for.
    """

    requests: dict[str, int] = {}
    sent: int = 0
    received: int = 0
    retries: int = 0
    busy: int = 0
    limit: int = 0
    parked: float = 0.0


class Statistics(msgspec.Struct, omit_defaults=False):
    """Counts of everything an engine has done so far; bytes are bytes of blobs.

    ``bytes_total`` is what has to be read as far as known; ``bytes_written``, ``bytes_mounted`` and ``bytes_existing``
    count every blob once per repository that needed it, so they add up to what the destinations asked for.
    """

    images_total: int = 0
    images_done: int = 0
    images_failed: int = 0
    blobs_total: int = 0
    blobs_done: int = 0
    blobs_copied: int = 0
    blobs_mounted: int = 0
    blobs_existing: int = 0
    manifests_written: int = 0
    bytes_total: int = 0
    bytes_read: int = 0
    bytes_written: int = 0
    bytes_mounted: int = 0
    bytes_existing: int = 0
    referrers_written: int = 0
    registries: dict[str, RegistryView] = {}
    requests: dict[str, dict[str, int]] = {}
    transfers: tuple[TransferView, ...] = ()
    parked: dict[str, float] = {}
    limits: dict[str, int] = {}
