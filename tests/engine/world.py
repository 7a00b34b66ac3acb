"""A world for the scheduler without a network or a clock: sites that hold things and commands carried out one by one.

It is as strict as a registry (nothing may be missing when a manifest is written) and writes down what was sent.
"""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Iterable

from asyncrane.abc import Place, Site
from asyncrane.engine.job import Job
from asyncrane.engine.messages import (
    BlobCopied,
    BlobMounted,
    Command,
    CommandFailed,
    ConfigRead,
    CopyBlob,
    Ended,
    Event,
    Finish,
    Landing,
    ListReferrers,
    ManifestRead,
    ManifestWritten,
    MountBlob,
    Probe,
    Probed,
    ReadConfig,
    ReadManifest,
    ReferrersListed,
    Resolve,
    Resolved,
    Work,
    WriteManifest,
    decode,
    encode,
)
from asyncrane.engine.outcome import Outcome
from asyncrane.engine.placing import Donors, no_donors
from asyncrane.engine.scheduler import Scheduler
from asyncrane.errors import Failure
from asyncrane.oci import media
from asyncrane.oci.descriptor import Descriptor
from asyncrane.oci.digest import Digest
from asyncrane.oci.manifest import Manifest
from asyncrane.oci.platform import Platform


def place(site: str, repository: str) -> Place:
    return Place(Site(site, mounts=True), repository)


def blob(name: str) -> dict[str, object]:
    return {"mediaType": media.OCI_LAYER_GZIP, "digest": str(Digest.of(name.encode())), "size": 10 + len(name)}


def image(name: str, layers: Iterable[str]) -> Manifest:
    fields = {
        "schemaVersion": 2,
        "mediaType": media.OCI_MANIFEST,
        "config": {**blob(f"config of {name}"), "mediaType": media.OCI_CONFIG},
        "layers": [blob(layer) for layer in layers],
    }
    return Manifest.read(json.dumps(fields).encode(), content_type=media.OCI_MANIFEST)


def index(children: Iterable[tuple[Manifest, Platform | None]]) -> Manifest:
    entries = []
    for child, platform in children:
        entry: dict[str, object] = {"mediaType": child.media_type, "digest": str(child.digest), "size": child.size}
        if platform:
            entry["platform"] = {"os": platform.os, "architecture": platform.architecture, "variant": platform.variant}
        entries.append(entry)
    fields = {"schemaVersion": 2, "mediaType": media.OCI_INDEX, "manifests": entries}
    return Manifest.read(json.dumps(fields).encode(), content_type=media.OCI_INDEX)


class World:
    """What every place has, and what was done to it."""

    def __init__(self, *, jobs: int | None = None, donors: Donors = no_donors) -> None:
        self.scheduler = Scheduler(jobs=jobs, donors=donors)
        self.manifests: dict[Digest, Manifest] = {}
        self.tags: dict[Place, dict[str, Digest]] = {}
        self.blobs: dict[Place, set[Digest]] = {}
        self.stored: dict[Place, set[Digest]] = {}
        self.sent: Counter[tuple[Site, Digest]] = Counter()
        self.read: Counter[Digest] = Counter()
        self.tagged: Counter[tuple[Place, str]] = Counter()
        self.running: list[Work] = []
        self.outcomes: dict[int, Outcome] = {}
        self.commands: list[Command] = []
        self.refuse_mounts = False
        self.referrers: dict[tuple[Place, Digest], tuple[Descriptor, ...]] = {}
        self.referrers_supported = True
        self.broken: set[Digest] = set()
        self.denied: set[Place] = set()
        self.behind: set[Place] = set()
        self.late: dict[str, float] = {}
        self.elapsed = 0.01
        self.platform: Platform | None = Platform("linux", "amd64")

    def fill(self, where: Place, tag: str, root: Manifest, *below: Manifest) -> None:
        """Put an image, complete, at a place."""
        for manifest in (*below, root):
            self.manifests[manifest.digest] = manifest
            self.stored.setdefault(where, set()).add(manifest.digest)
            self.blobs.setdefault(where, set()).update(b.digest for b in manifest.blobs())
        self.tags.setdefault(where, {})[tag] = root.digest

    def feed(self, event: Event) -> None:
        """Tell the scheduler, by way of bytes as a journal or another process would."""
        copied = decode(encode(event))
        assert not isinstance(copied, Work | Finish)
        for command in self.scheduler.feed(copied):
            self.commands.append(command)
            if isinstance(command, Finish):
                assert command.job not in self.outcomes, "a job ends once"
                self.outcomes[command.job] = command.outcome
            else:
                self.running.append(command)
        self.check_budget()

    def check_budget(self) -> None:
        for limit in self.scheduler.budget.sites().values():
            assert limit.busy >= 0
            assert limit.weight >= 0

    def step(self, at: int = 0, failure: Failure | None = None) -> None:
        """End one running command: as it would end, or with ``failure``."""
        command = self.running.pop(at)
        if failure is not None:
            self.feed(CommandFailed(command.id, failure))
        else:
            self.feed(self.carry_out(command))

    def run(self) -> None:
        """Until nothing runs."""
        while self.running:
            self.step()

    def carry_out(self, command: Work) -> Ended:
        match command:
            case Resolve() | Probe() | ReadManifest():
                return self._look(command)
            case ReadConfig():
                return ConfigRead(command.id, self.platform, 0.001)
            case ListReferrers():
                found = self.referrers.get((command.place, command.subject), ())
                return ReferrersListed(command.id, found, self.referrers_supported, 0.001)
            case MountBlob():
                return BlobMounted(command.id, self._mount(command), 0.001)
            case CopyBlob():
                return BlobCopied(command.id, self._copy(command), self.elapsed)
            case WriteManifest():
                self._write(command)
                return ManifestWritten(command.id, 0.001)

    def _look(self, command: Resolve | Probe | ReadManifest) -> Ended:
        found = self._find(command.place, command.identifier)
        if isinstance(command, Probe):
            return Probed(command.id, found.descriptor if found else None, 0.001)
        if found is None:
            return CommandFailed(command.id, Failure("NotFound", f"no {command.identifier}"))
        if isinstance(command, Resolve):
            return Resolved(command.id, found.descriptor, 0.001)
        self.read[found.digest] += 1
        return ManifestRead(command.id, found, 0.001)

    def _find(self, where: Place, identifier: str) -> Manifest | None:
        digest = self.tags.get(where, {}).get(identifier, Digest(identifier))
        return self.manifests.get(digest) if digest in self.stored.get(where, ()) else None

    def _mount(self, command: MountBlob) -> bool:
        donor = Place(command.place.site, command.donor)
        if self.refuse_mounts or command.blob.digest not in self.blobs.get(donor, ()):
            return False
        self.blobs.setdefault(command.place, set()).add(command.blob.digest)
        return True

    def _copy(self, command: CopyBlob) -> tuple[Landing, ...]:
        digest = command.blob.digest
        if digest in self.broken:
            lost = Failure("DigestMismatch", "garbled")
            return tuple(Landing(sink, failure=lost) for sink in command.sinks)
        assert digest in self.blobs[command.source], "a blob is read where it is"
        landings = []
        for sink in command.sinks:
            if sink in self.denied:
                landings.append(Landing(sink, failure=Failure("Denied", "not here")))
                continue
            if sink in self.behind and len(command.sinks) > 1:
                landings.append(Landing(sink, failure=Failure("Interrupted", "too slow for the others"), alone=True))
                continue
            there = self.blobs.setdefault(sink, set())
            if digest not in there:
                self.sent[sink.site, digest] += 1
            landings.append(Landing(sink, sent=digest not in there, late=self.late.get(sink.site.name, 0.0)))
            there.add(digest)
        return tuple(landings)

    def _write(self, command: WriteManifest) -> None:
        where, manifest = command.place, command.manifest
        for needed in manifest.blobs():
            assert needed.digest in self.blobs.get(where, ()), "blobs come before the manifest"
        for child in manifest.children():
            assert child.digest in self.stored.get(where, ()), "children come before the index"
        self.manifests.setdefault(manifest.digest, manifest)
        self.stored.setdefault(where, set()).add(manifest.digest)
        if command.tag:
            self.tags.setdefault(where, {})[command.tag] = manifest.digest
            self.tagged[where, command.tag] += 1

    def complete(self, where: Place, digest: Digest) -> bool:
        """Whether a manifest is at a place with everything it names."""
        if digest not in self.stored.get(where, ()):
            return False
        manifest = self.manifests[digest]
        here = self.blobs.get(where, set())
        return all(b.digest in here for b in manifest.blobs()) and all(
            self.complete(where, child.digest) for child in manifest.children()
        )


def statuses(world: World, job: Job) -> list[str]:
    return [target.status for target in world.outcomes[job.id].targets]
