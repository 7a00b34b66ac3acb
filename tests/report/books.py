"""Runs to draw pages of, as a journal would hold them: a quiet one, a bad one, a large one, one of two sittings."""

from __future__ import annotations

import hashlib
import random
from collections import Counter
from collections.abc import Iterator

import msgspec

from asyncrane.abc import Place, Site
from asyncrane.engine.job import Job, Target
from asyncrane.engine.messages import (
    BlobCopied,
    BlobMounted,
    Command,
    CommandFailed,
    CopyBlob,
    Ended,
    Event,
    Finish,
    JobAdded,
    Landing,
    ManifestRead,
    ManifestWritten,
    MountBlob,
    Probe,
    Probed,
    ReadManifest,
    Resolve,
    Resolved,
    Throttled,
    Work,
    WriteManifest,
)
from asyncrane.engine.outcome import Outcome, RegistryView, Statistics, TargetOutcome
from asyncrane.errors import Failure
from asyncrane.oci.descriptor import Descriptor
from asyncrane.oci.digest import Digest
from asyncrane.oci.manifest import Manifest

START = 1_790_000_000.0
SOURCE, BACKUP, CLOUD = (
    Site(n, mounts=True) for n in ("registry-a.example.com:5000", "backup.local", "123.dkr.ecr.example")
)
_LAYER = "application/vnd.oci.image.layer.v1.tar+gzip"
_MANIFEST = "application/vnd.oci.image.manifest.v1+json"


class Run(msgspec.Struct, frozen=True):
    id: int
    kind: str
    spec: str
    status: str
    started: float
    ended: float | None
    summary: str = ""


class Record(msgspec.Struct, frozen=True):
    at: float
    message: Event | Command | None


class JobRecord(msgspec.Struct, frozen=True):
    job: Job
    outcome: Outcome | None


class Sample(msgspec.Struct, frozen=True):
    at: float
    statistics: Statistics


class Book:
    """One run in memory: what a journal answers about it."""

    def __init__(self, run: Run) -> None:
        self.only = run
        self.records: list[Record] = []
        self.looks: list[Sample] = []
        self.wanted: dict[int, JobRecord] = {}

    def run(self, run: int | None = None) -> Run:
        return self.only

    def jobs(self, run: int) -> Iterator[JobRecord]:
        return iter(self.wanted.values())

    def events(self, run: int) -> Iterator[Record]:
        return iter(self.records)

    def samples(self, run: int) -> Iterator[Sample]:
        return iter(self.looks)

    def record(self, at: float, message: Event | Command) -> None:
        self.records.append(Record(at, message))
        if isinstance(message, JobAdded):
            self.wanted[message.job.id] = JobRecord(message.job, None)
        if isinstance(message, Finish):
            self.wanted[message.job] = msgspec.structs.replace(self.wanted[message.job], outcome=message.outcome)


def digest(text: str) -> Digest:
    return Digest.parse(f"sha256:{hashlib.sha256(text.encode()).hexdigest()}")


def manifest(text: str) -> Manifest:
    config = {"mediaType": "application/vnd.oci.image.config.v1+json", "digest": str(digest(text)), "size": 2}
    fields = {"schemaVersion": 2, "mediaType": _MANIFEST, "config": config, "layers": []}
    return Manifest.read(msgspec.json.encode(fields))


class Fleet:
    """Images copied from one registry to two, in a simulated hour: enough like a real run to see what a page makes of
    it. ``broken``: every so many images fail; ``moved``: every so many have a tag that named something else.
    """

    def __init__(self, images: int, *, seconds: float = 90.0, broken: int = 0, moved: int = 7, seed: int = 1) -> None:
        self.random = random.Random(seed)
        self.images = images
        self.broken = broken
        self.moved = moved
        self.seconds = seconds
        status = "failed" if broken else "done"
        self.book = Book(Run(1, "apply", "/etc/mirrors/team.yml", status, START, START + seconds))
        self.count = Statistics(images_total=images)
        self.requests: dict[str, Counter[str]] = {site.name: Counter() for site in (SOURCE, BACKUP, CLOUD)}
        self.received: Counter[str] = Counter()
        self.put: Counter[str] = Counter()
        self.number = 0
        self.sent: set[tuple[str, int]] = set()

    def play(self) -> Book:
        jobs = [self._job(at) for at in range(self.images)]
        for job in jobs:
            self.book.record(START, JobAdded(job))
        looked = START
        self._look(START)
        for at, job in enumerate(jobs):
            now = START + self.seconds * (at + 1) / max(1, len(jobs))
            self._image(at, job, now)
            while looked + 1 <= now:
                looked += 1
                self._look(looked)
        self._look(START + self.seconds)
        return self.book

    def _job(self, at: int) -> Job:
        name = f"team/service-{at % 40}"
        targets = tuple(Target(Place(site, f"copy/{name}"), f"v1.{at}") for site in (BACKUP, CLOUD))
        return Job(at + 1, Place(SOURCE, name), targets, tag=f"v1.{at}")

    def _do(self, now: float, command: Work, ended: Ended) -> None:
        self.book.record(now, command)
        self.book.record(now + ended.elapsed, ended)
        self.number += 1

    def _image(self, at: int, job: Job, now: float) -> None:
        made = manifest(f"image {at}")
        self._do(now, Resolve(self.number, job.source, job.identifier), Resolved(self.number, _named(made), 0.03))
        self._ask(SOURCE, "HEAD manifests")
        old = digest(f"old {at}")
        for target in job.targets:
            had = Descriptor(_MANIFEST, old, 500) if at % self.moved == 0 else None
            self._do(now, Probe(self.number, target.place, target.identifier), Probed(self.number, had, 0.02))
            self._ask(target.place.site, "HEAD manifests")
        self._do(now, ReadManifest(self.number, job.source, job.identifier), ManifestRead(self.number, made, 0.05))
        self._ask(SOURCE, "GET manifests")
        for layer in (at % 10, 100 + at % 97, 10_000 + at):
            self._layer(job, layer, now)
        lost = bool(self.broken) and at % self.broken == 0
        self.book.record(
            now, Finish(job.id, self._outcome(job, made, str(old) if at % self.moved == 0 else "", now, lost=lost))
        )
        self._grow(images_done=1, images_failed=int(lost))

    def _outcome(self, job: Job, made: Manifest, before: str, now: float, *, lost: bool) -> Outcome:
        targets = []
        for target in job.targets:
            write = WriteManifest(self.number, target.place, made, target.tag)
            if lost and target.place.site is CLOUD:
                failure = Failure(
                    "Denied",
                    f"PUT https://{target.place.site}/v2/{target.place.repository}/manifests/{target.tag}: 403 denied",
                    403,
                    ("DENIED",),
                )
                self._do(now, write, CommandFailed(self.number, failure, 0.1))
                targets.append(TargetOutcome(str(target), "failed", failure, before))
            else:
                self._do(now, write, ManifestWritten(self.number, 0.08))
                self._grow(manifests_written=1)
                targets.append(TargetOutcome(str(target), "copied", before=before))
            self._ask(target.place.site, "PUT manifests")
        return Outcome(str(job), str(made.digest), _MANIFEST, tuple(targets))

    def _layer(self, job: Job, layer: int, now: float) -> None:
        size = random.Random(layer).randrange(100_000, 60_000_000)
        blob = Descriptor(_LAYER, digest(f"layer {layer}"), size)
        fresh = [target.place for target in job.targets if (target.place.site.name, layer) not in self.sent]
        for target in job.targets:
            if target.place in fresh:
                continue
            mount = MountBlob(self.number, target.place, blob, "copy/base")
            self._do(now, mount, BlobMounted(self.number, mounted=True, elapsed=0.02))
            self._ask(target.place.site, "POST uploads")
            self._grow(bytes_mounted=size, blobs_mounted=1)
        if not fresh:
            return
        elapsed = size / self.random.uniform(2e6, 6e7)
        landings = tuple(Landing(place, sent=True) for place in fresh)
        self._do(now, CopyBlob(self.number, blob, job.source, tuple(fresh)), BlobCopied(self.number, landings, elapsed))
        self._ask(SOURCE, "GET blobs", received=size)
        self._grow(bytes_read=size, blobs_copied=1)
        for place in fresh:
            self.sent.add((place.site.name, layer))
            self._ask(place.site, "POST uploads")
            self._ask(place.site, "PUT uploads", sent=size)
            self._grow(bytes_written=size)

    def _grow(self, **more: int) -> None:
        for name, number in more.items():
            setattr(self.count, name, getattr(self.count, name) + number)

    def _ask(self, site: Site, kind: str, *, received: int = 0, sent: int = 0) -> None:
        self.requests[site.name][kind] += 1
        self.received[site.name] += received + 300
        self.put[site.name] += sent

    def _look(self, at: float) -> None:
        done = (at - START) / self.seconds
        views = {}
        for host, requests in self.requests.items():
            most = 8 + int(56 * min(1.0, done * 2))
            if host == CLOUD.name and done > 0.55:
                most //= 2
            views[host] = RegistryView(
                requests=dict(requests),
                sent=self.put[host],
                received=self.received[host],
                retries=2 if host == CLOUD.name else 0,
                busy=int(most * self.random.uniform(0.6, 1.0)),
                limit=most,
            )
        if self.broken and int(at) % 20 == 0:
            self.book.record(at, Throttled(CLOUD, 4.0))
        self.book.looks.append(Sample(at, msgspec.structs.replace(self.count, registries=views)))


def _named(made: Manifest) -> Descriptor:
    return Descriptor(made.media_type, made.digest, len(made.body))


def empty() -> Book:
    """A run that had nothing to do."""
    return Book(Run(1, "apply", "mirror.yml", "done", START, START + 0.2))


def killed() -> Book:
    """A run that was killed after half a minute and went on eight hours later, counting from nothing again."""
    first, second = Fleet(40, seconds=30).play(), Fleet(60, seconds=45, seed=2).play()
    run = msgspec.structs.replace(first.only, ended=START + 28_845, status="stopped")
    book = Book(run)
    book.records, book.wanted = [*first.records, *second.records], {**first.wanted}
    later = [Sample(look.at + 28_800, look.statistics) for look in second.looks]
    book.looks = [*first.looks, *later]
    left = Fleet(43).play().wanted
    book.wanted.update({number: JobRecord(left[number].job, None) for number in (41, 42, 43)})
    return book


def hostile() -> Book:
    """A run whose names try to be more than names."""
    evil = '</script><script>document.title="owned"</script><img src="http://evil.example/x" onerror="x()">'
    site = Site(evil, mounts=True)
    book = Book(Run(1, evil, evil, evil, START, START + 2))
    target = Target(Place(site, evil), "v1")
    job = Job(1, Place(site, evil), (target,), tag=evil)
    book.record(START, JobAdded(job))
    blob = Descriptor(_LAYER, digest("x"), 10)
    book.record(START, CopyBlob(1, blob, job.source, (target.place,)))
    book.record(START, BlobCopied(1, (Landing(target.place, sent=True),), 1.0))
    outcome = Outcome(evil, evil, evil, (TargetOutcome(evil, "failed", Failure(evil, evil, 500)),), (evil,))
    book.record(START, Finish(1, outcome))
    for at in range(3):
        view = RegistryView(requests={evil: at}, received=at, sent=at, limit=4, busy=1)
        counts = Statistics(bytes_read=at, bytes_written=at, registries={evil: view})
        book.looks.append(Sample(START + at, counts))
    return book
