"""The journal: what is recorded is there, in order, for whoever asks later."""

from __future__ import annotations

import os
import sqlite3
import time
import zlib
from pathlib import Path

import msgspec
import pytest

from asyncrane.abc import Place, Site
from asyncrane.engine.job import Job, Target
from asyncrane.engine.journal import Journal, Sample
from asyncrane.engine.messages import (
    BlobCopied,
    BlobMounted,
    Command,
    CommandFailed,
    CopyBlob,
    Event,
    Finish,
    JobAdded,
    Landing,
    ManifestRead,
    MountBlob,
    Probe,
    Probed,
    ReadManifest,
    Resolve,
    Throttled,
    WriteManifest,
)
from asyncrane.engine.outcome import Outcome, Statistics, TargetOutcome
from asyncrane.errors import Failure, JournalError
from asyncrane.oci.descriptor import Descriptor
from asyncrane.oci.digest import Digest
from asyncrane.oci.manifest import Manifest
from tests.engine.journals import BLOB, HERE, SOURCE, THERE, again, job, record, stories
from tests.engine.world import World, image, index, place

# runs


async def test_a_run_is_read_back_as_it_was(journal: Journal, path: Path) -> None:
    """Its number, what it was about, its jobs and what became of them."""
    before = time.time()
    run = journal.begin("apply", spec="mirror.yml", options='{"x": 1}')
    outcome = Outcome(str(job(2, "v2")), targets=(TargetOutcome(f"{HERE}:v2", "copied"),))
    for message in (JobAdded(job(1, "v1")), JobAdded(job(2, "v2")), JobAdded(job(1, "v1")), Finish(2, outcome)):
        journal.record(message)
    await journal.committed()
    running = journal.run(run)
    assert (running.status, running.ended, running.pid) == ("running", None, os.getpid())
    journal.finish("stopped", summary='{"left": 1}')
    with again(journal, path) as reopened:
        read = reopened.run()
        assert (read.id, read.kind, read.spec, read.options) == (run, "apply", "mirror.yml", '{"x": 1}')
        assert (read.status, read.summary) == ("stopped", '{"left": 1}')
        assert read.ended is not None
        assert before <= read.started <= read.ended <= time.time()
        records = list(reopened.jobs(run))
    assert [(r.job, r.outcome) for r in records] == [(job(1, "v1"), None), (job(2, "v2"), outcome)]


def test_runs_are_counted_on_and_kept_apart(journal: Journal, path: Path) -> None:
    first = record(journal, JobAdded(job(1, "v1")))
    with again(journal, path) as reopened:
        second = record(reopened, JobAdded(job(1, "v2")), kind="retry")
        assert [run.id for run in reopened.runs()] == [first, second]
        assert [run.kind for run in reopened.runs()] == ["apply", "retry"]
        assert [r.job.tag for r in reopened.jobs(first)] == ["v1"]
        assert [r.job.tag for r in reopened.jobs(second)] == ["v2"]
        assert stories(reopened, first) == [JobAdded(job(1, "v1"))]


def test_a_run_is_gone_on_with(journal: Journal, path: Path) -> None:
    """The last word about a job counts; events follow those of the first life."""
    cancelled = Outcome("x", targets=(TargetOutcome("y", "cancelled"),))
    copied = Outcome("x", targets=(TargetOutcome("y", "copied"),))
    run = record(journal, JobAdded(job(1, "v1")), Finish(1, cancelled))
    with again(journal, path) as reopened:
        reopened.reopen(run)
        assert reopened.run(run).status == "running"
        assert reopened.run(run).ended is None
        reopened.record(JobAdded(job(1, "v1")))
        reopened.record(Finish(1, copied))
        reopened.finish("done", summary="")
        assert [r.outcome for r in reopened.jobs(run)] == [copied]
        assert [type(m) for m in stories(reopened, run)] == [JobAdded, Finish, JobAdded, Finish]
        assert len(list(reopened.runs())) == 1


@pytest.mark.parametrize("ask", ["run", "jobs", "events", "samples", "reopen"])
def test_a_run_that_never_was_is_an_error(journal: Journal, ask: str) -> None:
    record(journal)
    with pytest.raises(JournalError, match="no run 7"):
        getattr(journal, ask)(7)


def test_without_a_run_the_last_one_is_an_error(journal: Journal) -> None:
    with pytest.raises(JournalError, match="no run yet"):
        journal.run()


def test_samples_come_back_in_order(journal: Journal) -> None:
    run = journal.begin("apply", spec="", options="")
    for done in range(5):
        journal.sample(Statistics(images_done=done, requests={"r": {"GET blob": done}}))
    journal.finish("done", summary="")
    samples = list(journal.samples(run))
    assert [s.statistics.images_done for s in samples] == list(range(5))
    assert samples[4].statistics.requests == {"r": {"GET blob": 4}}
    assert [s.at for s in samples] == sorted(s.at for s in samples)
    assert all(isinstance(s, Sample) for s in samples)


# messages


def a_fleet() -> World:
    """A world after two jobs: an index and an image that share layers, to two places of one site."""
    world = World()
    children = [image(name, ["base", name]) for name in ("amd64", "arm64")]
    world.fill(SOURCE, "multi", index([(child, None) for child in children]), *children)
    world.fill(SOURCE, "one", image("one", ["base", "top"]))
    return world


def test_every_message_of_a_run_comes_back_in_order(journal: Journal) -> None:
    """Manifests with their bytes, digests as digests."""
    world = a_fleet()
    told: list[Event | Command] = []
    run = journal.begin("apply", spec="", options="")

    def feed(event: Event) -> None:
        told.append(event)
        for command in world.scheduler.feed(event):
            told.append(command)
            if not isinstance(command, Finish):
                world.running.append(command)

    for number, tag in enumerate(("multi", "one"), 1):
        feed(JobAdded(Job(number, SOURCE, (Target(HERE, tag), Target(THERE, tag)), tag=tag)))
    while world.running:
        feed(world.carry_out(world.running.pop(0)))
    feed(Throttled(HERE.site, 2.5))
    for message in told:
        journal.record(message)
    journal.finish("done", summary="")
    assert stories(journal, run) == told
    assert {type(m) for m in told} >= {JobAdded, Finish, CopyBlob, BlobCopied, MountBlob, WriteManifest, ManifestRead}
    assert [type(r.outcome) for r in journal.jobs(run)] == [Outcome, Outcome]


def test_what_is_asked_about_is_found_and_nothing_else(journal: Journal) -> None:
    """By digest and by name; what ended a command is found as the command is."""
    manifest, other = image("a", ["x"]), Descriptor("application/x", Digest.of(b"other"), 1)
    resolve, probe = Resolve(1, SOURCE, "v1"), Probe(2, HERE, "v1")
    read, write = ReadManifest(3, SOURCE, str(manifest.digest)), WriteManifest(4, HERE, manifest, "v1")
    copy, lost = CopyBlob(5, BLOB, SOURCE, (HERE,)), CopyBlob(6, other, SOURCE, (HERE,))
    failed = CommandFailed(6, Failure("ServerFault", "no"))
    landed = BlobCopied(5, (Landing(HERE, sent=True),))
    run = record(
        journal, resolve, probe, Probed(2, None), lost, copy, ManifestRead(1, manifest), read, landed, failed, write
    )
    assert stories(journal, run, str(BLOB.digest)) == [copy, landed]
    assert stories(journal, run, str(other.digest)) == [lost, failed]
    assert stories(journal, run, f"{HERE}:v1") == [probe, Probed(2, None), write]
    assert stories(journal, run, f"{SOURCE}:v1") == [resolve, ManifestRead(1, manifest)]
    assert stories(journal, run, str(manifest.digest)) == [ManifestRead(1, manifest), read, write]
    assert stories(journal, run, f"{SOURCE}@{manifest.digest!s}") == [read]
    assert stories(journal, run, "v1") == []


def test_a_name_with_tag_and_digest_is_found_by_its_tag(journal: Journal) -> None:
    """As a job with both is called, and its target."""
    digest = Digest.of(b"x")
    added = JobAdded(Job(1, SOURCE, (Target(HERE, "v1", digest),), tag="v1", digest=digest))
    probe = Probe(1, HERE, "v1")
    run = record(journal, added, probe)
    assert stories(journal, run, str(added.job.targets[0])) == [added, probe]
    assert stories(journal, run, str(digest)) == [added]


def test_what_belongs_to_no_run_leaves_what_it_says_of_manifests_and_blobs(journal: Journal, path: Path) -> None:
    manifest = image("a", ["x"])
    journal.record(ManifestRead(1, manifest))
    journal.record(CopyBlob(2, BLOB, SOURCE, (HERE,)))
    run = record(journal)
    with again(journal, path) as reopened:
        assert stories(reopened, run) == []
        assert reopened.manifest(manifest.digest) == manifest
        assert reopened.donors(HERE.site, BLOB.digest) == ("team/app",)


def test_a_message_of_a_later_version_is_none(journal: Journal, path: Path) -> None:
    """The others are still told."""
    run = record(journal, JobAdded(job(1, "v1")))
    journal.close()
    lines = [(1.0, (5,), msgspec.Raw(b'{"type":"Teleported","id":1}'))]
    with sqlite3.connect(path) as raw:
        raw.execute("INSERT INTO pages (run, body) VALUES (?, ?)", (run, zlib.compress(msgspec.json.encode(lines))))
    raw.close()
    with Journal.read(path) as reading:
        assert stories(reading, run) == [JobAdded(job(1, "v1")), None]


# manifests


def test_a_manifest_is_kept_once_and_checked(journal: Journal, path: Path) -> None:
    manifest = image("a", ["x", "y"])
    record(journal, *[ManifestRead(n, manifest) for n in range(1000)])
    assert journal.manifest(manifest.digest) == manifest
    assert journal.manifest(Digest.of(b"unknown")) is None
    journal.close()
    assert path.read_bytes().count(manifest.body) == 1


def test_manifests_are_found_by_what_they_name(journal: Journal) -> None:
    """Children, configs, layers and subjects."""
    one, two = image("a", ["base", "x"]), image("b", ["base", "y"])
    both = index([(one, None), (two, None)])
    body = b'{"schemaVersion":2,"config":%s,"layers":[],"subject":%s}' % (
        one.body[one.body.index(b'"config": ') + 10 : one.body.index(b', "layers"')],
        b'{"mediaType":"%s","digest":"%s","size":1}' % (one.media_type.encode(), one.digest.encode()),
    )
    signature = Manifest.read(body)
    record(journal, *[ManifestRead(n, m) for n, m in enumerate((one, two, both, signature))])
    base, config = one.layers()[0].digest, one.config()
    assert config is not None
    assert list(journal.naming(base)) == [one, two]
    assert list(journal.naming(one.layers()[1].digest)) == [one]
    assert list(journal.naming(one.digest)) == [both, signature]
    assert list(journal.naming(config.digest)) == [one, signature]
    assert list(journal.naming(Digest.of(b"unknown"))) == []


# who has a blob


def test_a3_what_landed_is_known_to_the_next_run(journal: Journal, path: Path) -> None:
    """A3: sent, there before, or mounted; by site."""
    other = Descriptor("application/x", Digest.of(b"other"), 1)
    record(
        journal,
        CopyBlob(1, BLOB, SOURCE, (HERE, place("e:5000", "x"))),
        BlobCopied(1, (Landing(HERE, sent=True), Landing(place("e:5000", "x"), failure=Failure("Denied", "no")))),
        MountBlob(2, THERE, BLOB, "team/app"),
        BlobMounted(2, mounted=True),
        CopyBlob(3, other, SOURCE, (THERE,)),
        BlobCopied(3, (Landing(THERE),)),
    )
    with again(journal, path) as reopened:
        assert set(reopened.donors(HERE.site, BLOB.digest)) == {"team/app", "team/other"}
        assert reopened.donors(HERE.site, other.digest) == ("team/other",)
        assert reopened.donors(Site("e:5000", mounts=True), BLOB.digest) == ()
        assert reopened.donors(SOURCE.site, BLOB.digest) == ()


def test_d10_a_donor_that_refused_is_not_named_again(journal: Journal, path: Path) -> None:
    """D10: not for this blob."""
    other = Descriptor("application/x", Digest.of(b"other"), 1)
    copies = [CopyBlob(1, BLOB, SOURCE, (HERE,)), CopyBlob(2, other, SOURCE, (HERE,))]
    record(journal, *copies, *[BlobCopied(n, (Landing(HERE, sent=True),)) for n in (1, 2)])
    record(journal, MountBlob(1, THERE, BLOB, "team/app"), BlobMounted(1, mounted=False))
    with again(journal, path) as reopened:
        assert reopened.donors(HERE.site, BLOB.digest) == ()
        assert reopened.donors(HERE.site, other.digest) == ("team/app",)


def test_i2_a_copy_that_nobody_saw_the_end_of_is_named_last(journal: Journal, path: Path) -> None:
    """I2: the process died, the blob may be there; one that failed is not named at all."""
    record(
        journal,
        CopyBlob(1, BLOB, SOURCE, (HERE,)),
        CopyBlob(2, BLOB, SOURCE, (place("d:5000", "zzz"),)),
        BlobCopied(2, (Landing(place("d:5000", "zzz"), sent=True),)),
        CopyBlob(3, BLOB, SOURCE, (THERE,)),
        CommandFailed(3, Failure("TimedOut", "no")),
    )
    with again(journal, path) as reopened:
        assert reopened.donors(HERE.site, BLOB.digest) == ("zzz", "team/app")


def test_sites_that_mount_nothing_are_not_remembered(journal: Journal, path: Path) -> None:
    layout = Place(Site("/srv/layout"))
    record(journal, CopyBlob(1, BLOB, SOURCE, (layout,)), BlobCopied(1, (Landing(layout, sent=True),)))
    with again(journal, path) as reopened:
        assert reopened.donors(layout.site, BLOB.digest) == ()


def test_many_blobs_are_all_found_and_quickly(journal: Journal, path: Path) -> None:
    """The engine asks about every new blob: what is not there costs next to nothing."""
    blobs = [Descriptor("application/x", Digest.of(str(n).encode()), n) for n in range(20_000)]
    run = journal.begin("apply", spec="", options="")
    started = time.thread_time()
    for number, blob in enumerate(blobs[::2]):
        journal.record(CopyBlob(number, blob, SOURCE, (HERE,)))
        journal.record(BlobCopied(number, (Landing(HERE, sent=True),)))
    assert (time.thread_time() - started) / 20_000 < 25e-6, "seconds of the loop's time for each message"
    journal.finish("done", summary="")
    assert sum(1 for _ in journal.events(run)) == 20_000
    with again(journal, path) as reopened:
        started = time.thread_time()
        found = [reopened.donors(HERE.site, blob.digest) for blob in blobs]
        assert (time.thread_time() - started) / 20_000 < 100e-6
    assert found == [("team/app",), ()] * 10_000


# unfinished uploads


def test_d1_uploads_in_progress_outlive_the_process(journal: Journal, path: Path) -> None:
    """D1: where they go on; what has ended is forgotten."""
    other = Digest.of(b"other")
    journal.note(HERE, BLOB.digest, "https://d/upload/1?_state=a%2Fb", 0)
    journal.note(HERE, BLOB.digest, "https://d/upload/1?_state=c", 4096)
    journal.note(THERE, BLOB.digest, "https://d/upload/2", 0)
    journal.note(HERE, other, "https://d/upload/3", 0)
    journal.drop(HERE, other)
    assert journal.find(HERE, other) is None
    with again(journal, path) as reopened:
        assert reopened.find(HERE, BLOB.digest) == "https://d/upload/1?_state=c"
        assert reopened.find(THERE, BLOB.digest) == "https://d/upload/2"
        assert reopened.find(HERE, other) is None
        reopened.drop(HERE, BLOB.digest)
        with again(reopened, path) as third:
            assert third.find(HERE, BLOB.digest) is None
            assert third.find(THERE, BLOB.digest) == "https://d/upload/2"


def test_only_the_owner_may_read_it(journal: Journal, path: Path) -> None:
    """Upload URLs may carry secrets."""
    record(journal, JobAdded(job(1, "v1")))
    modes = {found.name: found.stat().st_mode & 0o777 for found in path.parent.iterdir()}
    assert set(modes) >= {"journal.db", "journal.db-wal"}
    assert set(modes.values()) == {0o600}
