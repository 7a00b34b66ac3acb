"""Why things happened in a run: the journal's events about one blob, manifest or tag, in words, and for whom it was."""

from __future__ import annotations

from collections.abc import Iterator

import msgspec

from asyncrane.engine.journal import JobRecord, Journal, Record
from asyncrane.engine.messages import (
    BlobCopied,
    BlobMounted,
    Command,
    CommandFailed,
    CopyBlob,
    Ended,
    Event,
    ListReferrers,
    ManifestRead,
    ManifestWritten,
    MountBlob,
    Probe,
    Probed,
    ReadManifest,
    ReferrersListed,
    Resolve,
    Resolved,
    WriteManifest,
)
from asyncrane.engine.outcome import Statistics, TargetOutcome
from asyncrane.errors import InvalidDigest, JournalMissing
from asyncrane.oci.digest import Digest

_ENOUGH = 8 * 1024 * 1024
"""Bytes that a run moves at the least before its rate says something."""


class _Summary(msgspec.Struct, frozen=True):
    """The part of a run's report that is looked at here."""

    seconds: float
    statistics: Statistics


class Step(msgspec.Struct, frozen=True):
    """One thing that happened; ``at`` is seconds since the epoch."""

    at: float
    text: str


class Explanation(msgspec.Struct, frozen=True):
    """What happened to ``subject``, and the images (``source -> destination: outcome``) that it was for."""

    subject: str
    steps: tuple[Step, ...]
    images: tuple[str, ...]


def explain(journal: Journal, run: int, subject: str) -> Explanation:
    """Tell the story of a digest, or of a tag (``registry/repository:tag``, or a part of that) in a run.

    :raises JournalMissing: when there is no such run, or nothing in it about ``subject``
    """
    try:
        digest: Digest | None = Digest.parse(subject)
    except InvalidDigest:
        digest = None
    images = _needing(journal, run, digest) if digest else _named(journal, run, subject)
    keys = [subject] if digest else _keys(images, subject)
    steps = [step for key in keys for record in journal.events(run, key=key) for step in _steps(record)]
    if not steps and not images:
        raise JournalMissing(f"run {run}: nothing about {subject}")
    steps.sort(key=lambda step: step.at)
    told = tuple(line for image in images for line in _outcomes(image))
    return Explanation(subject, tuple(dict.fromkeys(steps)), told)


def measured_rate(journal: Journal) -> int | None:
    """Bytes a second that the last run reached which moved enough to tell; ``None``: there is none."""
    for run in sorted(journal.runs(), key=lambda run: -run.id):
        try:
            told = msgspec.json.decode(run.summary, type=_Summary) if run.summary else None
        except msgspec.DecodeError:
            continue
        if told is not None and told.seconds > 0 and told.statistics.bytes_read >= _ENOUGH:
            return int(told.statistics.bytes_read / told.seconds)
    return None


def _needing(journal: Journal, run: int, digest: Digest) -> list[JobRecord]:
    """The images that consist of ``digest``, or are it: up from the manifests that name it to those that name these."""
    family, fresh = {digest}, {digest}
    while fresh:
        fresh = {manifest.digest for one in fresh for manifest in journal.naming(one)} - family
        family |= fresh
    return [r for r in journal.jobs(run) if r.outcome is not None and r.outcome.digest in family]


def _named(journal: Journal, run: int, text: str) -> list[JobRecord]:
    return [
        record
        for record in journal.jobs(run)
        if any(_matches(name, text) for name in (str(record.job), *map(str, record.job.targets)))
    ]


def _matches(name: str, text: str) -> bool:
    return name == text or name.endswith((f":{text}", f"/{text}"))


def _keys(images: list[JobRecord], subject: str) -> list[str]:
    """What the events about these images go by: their names, and the digests they turned out to have."""
    names = [name for image in images for name in (str(image.job), *map(str, image.job.targets))]
    digests = [d for image in images if image.outcome for d in (image.outcome.root, image.outcome.digest) if d]
    return list(dict.fromkeys([subject, *names, *digests]))


def _outcomes(image: JobRecord) -> Iterator[str]:
    if image.outcome is None:
        yield f"{image.job}: not finished"
        return
    for target in image.outcome.targets:
        yield f"{image.job} -> {target.destination}: {_outcome(target)}"


def _outcome(target: TargetOutcome) -> str:
    words = {
        "copied": "copied",
        "tagged": "was there under another name, tagged",
        "equal": "the same already",
        "skipped": "left: the tag exists",
        "conflict": "conflict",
        "failed": "failed",
        "cancelled": "not finished",
    }
    before = f" (before: {target.before})" if target.before and target.status in ("copied", "tagged") else ""
    why = f": {target.failure.message}" if target.failure else ""
    return words[target.status] + before + why


def _steps(record: Record) -> Iterator[Step]:
    if record.message is not None:
        if isinstance(record.message, Ended):
            for why in record.message.again:
                yield Step(record.at, f"tried again: {why}")
        for text in _tell(record.message):
            yield Step(record.at, text)


def _tell(message: Event | Command) -> Iterator[str]:
    match message:
        case CopyBlob():
            yield f"reading {message.blob.size} bytes from {message.source} for {', '.join(map(str, message.sinks))}"
        case BlobCopied():
            for landing in message.landings:
                if landing.failure is not None:
                    yield f"{landing.place}: failed: {landing.failure.message}"
                else:
                    yield f"{landing.place}: " + ("sent" if landing.sent else "was there already, nothing sent")
        case MountBlob():
            yield f"asking {message.place} to mount it from {message.donor}"
        case BlobMounted():
            yield "mounted: no bytes sent" if message.mounted else "mount refused"
        case CommandFailed():
            yield f"failed: {message.failure.message}"
        case _:
            yield from _tell_of_manifests(message)


def _tell_of_manifests(message: Event | Command) -> Iterator[str]:
    match message:
        case ReadManifest():
            yield f"reading {message.identifier} from {message.place}"
        case ManifestRead():
            yield f"read: {message.manifest.media_type}, {message.manifest.digest!s}"
        case WriteManifest():
            yield f"writing {message.manifest.digest!s} to {message.place}" + (f":{message.tag}" if message.tag else "")
        case ManifestWritten():
            yield "written"
        case Resolve():
            yield f"asking {message.place} what {message.identifier} names"
        case Probe():
            yield f"asking {message.place} what it has as {message.identifier}"
        case Resolved():
            yield f"it names {message.descriptor.digest!s}"
        case Probed():
            yield f"it has {message.descriptor.digest!s}" if message.descriptor else "it has nothing there"
        case ListReferrers():
            yield f"asking {message.place} what is attached"
        case ReferrersListed():
            yield f"{len(message.referrers)} attached"
        case _:
            return
