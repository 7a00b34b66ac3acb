"""What the scheduler is told (events) and what it answers (commands): small frozen values that serialise.

Every command has an ``id``; the event that ends it carries that id as ``command`` and the time it took in seconds.
``encode`` and ``decode`` turn both kinds into JSON and back, for journals and other processes.
"""

from __future__ import annotations

from typing import Any, TypeAlias

import msgspec

from asyncrane.abc import Place, Site
from asyncrane.engine.job import Job
from asyncrane.engine.outcome import Outcome
from asyncrane.errors import Failure
from asyncrane.oci.descriptor import Descriptor
from asyncrane.oci.digest import Digest
from asyncrane.oci.manifest import Manifest
from asyncrane.oci.platform import Platform


class _Message(msgspec.Struct, frozen=True, tag=True, omit_defaults=True):
    pass


class Resolve(_Message, frozen=True, tag=True):
    """Ask a source what a tag names."""

    id: int
    place: Place
    identifier: str


class Probe(_Message, frozen=True, tag=True):
    """Ask a destination what a tag or manifest digest names there."""

    id: int
    place: Place
    identifier: str


class ReadManifest(_Message, frozen=True, tag=True):
    """Read a manifest by tag or digest."""

    id: int
    place: Place
    identifier: str


class ReadConfig(_Message, frozen=True, tag=True):
    """Read the platform out of an image's config."""

    id: int
    place: Place
    blob: Descriptor


class ListReferrers(_Message, frozen=True, tag=True):
    """Ask a source what is attached to a manifest; ``fallback``: also under the tag that stands in for the API."""

    id: int
    place: Place
    subject: Digest
    fallback: bool = True


class MountBlob(_Message, frozen=True, tag=True):
    """Take a blob from another repository of the same site."""

    id: int
    place: Place
    blob: Descriptor
    donor: str


class CopyBlob(_Message, frozen=True, tag=True):
    """Read a blob once and write it to every place of ``sinks``; ``eager``: read before the sinks ask for it."""

    id: int
    blob: Descriptor
    source: Place
    sinks: tuple[Place, ...]
    eager: bool = False


class WriteManifest(_Message, frozen=True, tag=True):
    """Store a manifest under a tag, or under its digest."""

    id: int
    place: Place
    manifest: Manifest
    tag: str | None = None


class Finish(_Message, frozen=True, tag=True):
    """A job has ended; nothing answers this."""

    job: int
    outcome: Outcome


Asking: TypeAlias = Resolve | Probe | ReadManifest | ReadConfig | ListReferrers
"""A command that changes nothing anywhere."""

Writing: TypeAlias = MountBlob | CopyBlob | WriteManifest
"""A command that changes a destination."""

Work: TypeAlias = Asking | Writing
"""A command that something has to carry out."""

Command: TypeAlias = Work | Finish


class JobAdded(_Message, frozen=True, tag=True):
    """Somebody wants a job done."""

    job: Job


class JobCancelled(_Message, frozen=True, tag=True):
    """Nobody wants a job any more; what others need of it goes on."""

    job: int


class TagsListed(_Message, frozen=True, tag=True):
    """What tags a destination has: ``tags`` is ``None`` when there is no such repository."""

    place: Place
    tags: tuple[str, ...] | None
    complete: bool = True


class SourceListed(_Message, frozen=True, tag=True):
    """What tags a source has, all of them: what is attached by tag needs no asking."""

    place: Place
    tags: tuple[str, ...]


class _Ended(_Message, frozen=True, kw_only=True):
    """``again`` is why something had to be asked for once more, or went on where it had stopped, each time."""

    again: tuple[str, ...] = ()


class Resolved(_Ended, frozen=True, tag=True):
    """What a tag names at its source."""

    command: int
    descriptor: Descriptor
    elapsed: float = 0.0


class Probed(_Ended, frozen=True, tag=True):
    """What a destination has under a name: ``None`` for nothing."""

    command: int
    descriptor: Descriptor | None
    elapsed: float = 0.0


class ManifestRead(_Ended, frozen=True, tag=True):
    """A manifest, checked."""

    command: int
    manifest: Manifest
    elapsed: float = 0.0


class ConfigRead(_Ended, frozen=True, tag=True):
    """The platform in an image's config."""

    command: int
    platform: Platform | None
    elapsed: float = 0.0


class ReferrersListed(_Ended, frozen=True, tag=True):
    """What is attached to a manifest; ``supported``: the registry has the referrers API."""

    command: int
    referrers: tuple[Descriptor, ...]
    supported: bool = True
    elapsed: float = 0.0


class BlobMounted(_Ended, frozen=True, tag=True):
    """Whether the site gave the blob."""

    command: int
    mounted: bool
    elapsed: float = 0.0


class Landing(msgspec.Struct, frozen=True, omit_defaults=True):
    """What became of a blob at one sink: ``sent`` is false when it was there already. ``alone``: it failed together
    with others, and is to be tried once more by itself. ``late`` is for how many seconds others waited for it.
    """

    place: Place
    sent: bool = False
    failure: Failure | None = None
    alone: bool = False
    late: float = 0.0


class BlobCopied(_Ended, frozen=True, tag=True):
    """A transfer has ended, at each sink in its own way."""

    command: int
    landings: tuple[Landing, ...]
    elapsed: float = 0.0


class ManifestWritten(_Ended, frozen=True, tag=True):
    """A manifest is stored."""

    command: int
    elapsed: float = 0.0


class CommandFailed(_Ended, frozen=True, tag=True):
    """A command ended with an error, retries included."""

    command: int
    failure: Failure
    elapsed: float = 0.0


class Throttled(_Message, frozen=True, tag=True):
    """A site asked everybody to wait."""

    site: Site
    seconds: float


Ended: TypeAlias = (
    Resolved
    | Probed
    | ManifestRead
    | ConfigRead
    | ReferrersListed
    | BlobMounted
    | BlobCopied
    | ManifestWritten
    | CommandFailed
)
"""An event that ends a command."""

Event: TypeAlias = JobAdded | JobCancelled | TagsListed | SourceListed | Throttled | Ended


def encode(message: Event | Command) -> bytes:
    """``message`` as JSON."""
    return _encoder.encode(message)


def decode(data: bytes) -> Event | Command:
    """The message ``data`` stands for.

    :raises msgspec.DecodeError: when it stands for none
    """
    return _decoder.decode(data)


def _to_text(value: Any) -> str:
    if isinstance(value, Digest):
        return str.__str__(value)
    raise TypeError(f"{type(value).__name__} is not part of any message")


def _from_text(kind: type, value: Any) -> Any:
    if kind is Digest:
        return Digest(value)
    raise TypeError(f"{kind.__name__} is not part of any message")


_encoder = msgspec.json.Encoder(enc_hook=_to_text)
_decoder: msgspec.json.Decoder[Event | Command] = msgspec.json.Decoder(Event | Command, dec_hook=_from_text)
