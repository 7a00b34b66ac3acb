"""The journal's file: whatever happens to it, or to the process that writes it, what is read of it is right."""

from __future__ import annotations

import contextlib
import os
import random
import shutil
import signal
import sqlite3
import subprocess
import sys
from pathlib import Path

import pytest

from asyncrane.engine.journal import Journal
from asyncrane.engine.messages import (
    JobAdded,
    ManifestRead,
)
from asyncrane.errors import JournalBusy, JournalError, JournalMissing
from tests.engine.journals import BLOB, HERE, job, record
from tests.engine.world import image

# processes


LIFE = """
import asyncio, os, signal, sys
from asyncrane.engine.job import Job, Target
from asyncrane.engine.journal import Journal
from asyncrane.engine.messages import JobAdded
from tests.engine.world import place

async def main():
    journal = Journal.open(sys.argv[1])
    print(journal.begin("apply", spec="", options=""), flush=True)
    for number in range(int(sys.argv[2])):
        journal.record(JobAdded(Job(number, place("s", "a"), (Target(place("d", "a"), "v"),), tag=f"v{number}")))
    await journal.committed()
    print("committed", flush=True)
    if sys.argv[3] == "die":
        os.kill(os.getpid(), signal.SIGKILL)
    sys.stdin.read()
    journal.close()

asyncio.run(main())
"""


def life(path: Path, jobs: int, how: str) -> subprocess.Popen[str]:
    """A process that writes the journal; it has committed when this returns."""
    command = [sys.executable, "-c", LIFE, str(path), str(jobs), how]
    process = subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)
    assert process.stdout is not None
    assert [process.stdout.readline() for _ in range(2)] == ["1\n", "committed\n"]
    return process


def test_i2_what_is_committed_survives_kill_9(path: Path) -> None:
    """I2: all of it, also to who only reads; the run shows as interrupted."""
    with life(path, 5000, "die") as process:
        assert process.wait(10) == -signal.SIGKILL
    with Journal.read(path) as reading:
        assert reading.run().status == "interrupted"
        assert reading.run().pid == process.pid
        assert sum(1 for _ in reading.jobs(1)) == 5000
    with Journal.open(path) as journal:
        assert journal.run().status == "interrupted"
        assert [r.job.tag for r in journal.jobs(1)] == [f"v{number}" for number in range(5000)]
        journal.reopen(1)
        journal.finish("done", summary="")
    with Journal.read(path) as reading:
        assert reading.run().status == "done"


def test_a_second_process_is_refused_and_may_read(path: Path) -> None:
    """Named is who has it; when that one is gone, whatever way, it is to be had."""
    with life(path, 10, "stay") as process:
        with pytest.raises(JournalBusy, match=f"process {process.pid}") as busy:
            Journal.open(path)
        assert busy.value.pid == process.pid
        with Journal.read(path) as reading:
            assert reading.run().status == "running"
            assert sum(1 for _ in reading.jobs(1)) == 10
        process.kill()
        process.wait(10)
    with Journal.open(path):
        pass


def test_one_process_does_not_open_it_twice(journal: Journal, path: Path) -> None:
    """Not by another name either."""
    other = path.parent / "link.db"
    other.symlink_to(path)
    for name in (path, other):
        with pytest.raises(JournalBusy) as busy:
            Journal.open(name)
        assert busy.value.pid == os.getpid()
    record(journal, JobAdded(job(1, "v1")))


FULL = """
import asyncio, resource, sys
from asyncrane.engine.job import Job, Target
from asyncrane.engine.journal import Journal
from asyncrane.engine.messages import JobAdded
from asyncrane.errors import JournalError
from tests.engine.world import place

async def main():
    journal = Journal.open(sys.argv[1])
    resource.setrlimit(resource.RLIMIT_FSIZE, (300_000, 300_000))
    journal.begin("apply", spec="", options="")
    written = 0
    try:
        for number in range(100_000):
            journal.record(JobAdded(Job(number, place("s", "a"), (Target(place("d", "a"), "v"),), tag=f"v{number}")))
            if number % 100 == 0:
                await journal.committed()
                written = number
    except JournalError as error:
        print(written, journal.failure is not None, journal.backlog, error)
    try:
        await journal.committed()
    except JournalError:
        print("still")
    journal.finish("failed", summary="")
    journal.close()

asyncio.run(main())
"""


def test_a_full_disk_is_an_error_that_stays(path: Path) -> None:
    """What was committed before is there; nothing is committed after, even if there were room again."""
    ended = subprocess.run(
        [sys.executable, "-c", FULL, str(path)], capture_output=True, text=True, timeout=60, check=True
    )
    told, still = ended.stdout.splitlines()
    written, failed, backlog, why = told.split(maxsplit=3)
    assert (failed, backlog, still) == ("True", "0", "still")
    assert str(path) in why
    assert int(written) > 0
    with Journal.open(path) as journal:
        assert journal.run().status == "interrupted"
        assert sum(1 for _ in journal.jobs(1)) > int(written)


# who only reads


def beside(path: Path) -> set[str]:
    """The files of the journal, but for the one that says who writes it."""
    return {file.name for file in path.parent.iterdir()} - {"journal.db.lock"}


@pytest.mark.parametrize("end", ["stay", "die"], ids=["closed", "killed"])
def test_who_reads_leaves_no_files_behind(path: Path, end: str) -> None:
    """Nor does the writer's log stay when that has been killed; what it held is in the journal then."""
    with life(path, 100, end) as process:
        process.communicate(timeout=10)
    with Journal.read(path) as one, Journal.read(path) as two:
        assert sum(1 for _ in one.jobs(1)) == sum(1 for _ in two.jobs(1)) == 100
    assert beside(path) == {"journal.db"}
    with Journal.read(path) as again:
        assert sum(1 for _ in again.jobs(1)) == 100


def test_who_reads_does_not_disturb_who_writes(path: Path) -> None:
    """Not by coming, not by going, not by being there when it goes; and it is not taken for another writer."""
    with life(path, 10, "stay") as process:
        with Journal.read(path) as reading:
            assert reading.run().status == "running"
        assert beside(path) == {"journal.db", "journal.db-wal", "journal.db-shm"}
        with pytest.raises(JournalBusy, match=f"process {process.pid}"):
            Journal.open(path)
        with Journal.read(path) as staying:
            process.communicate(timeout=10)
            assert process.returncode == 0
            assert sum(1 for _ in staying.jobs(1)) == 10
            with Journal.open(path) as journal:
                record(journal, JobAdded(job(1, "v1")))
            assert staying.run().id == 2
    assert beside(path) == {"journal.db"}


READ = """
import os, sys
from asyncrane.engine.journal import Journal
if os.access(sys.argv[1], os.W_OK):
    sys.exit("ignores modes")
with Journal.read(sys.argv[1]) as reading:
    print(sum(1 for _ in reading.jobs(1)), reading.run().status)
"""


@pytest.mark.parametrize(("end", "status"), [("stay", "running"), ("close", "interrupted")])
@pytest.mark.parametrize("folder", [0o555, 0o755], ids=["folder read-only", "file read-only"])
def test_a_journal_that_cannot_be_written_is_read_and_nothing_is_put_beside_it(
    path: Path, end: str, status: str, folder: int
) -> None:
    """Whether somebody else is writing it or not. Root does without its rights here, which no mode holds up."""
    setpriv = [] if os.geteuid() else [shutil.which("setpriv") or pytest.skip("no setpriv"), "--bounding-set=-all"]
    with life(path, 10, "stay") as process:
        if end == "close":
            process.communicate(timeout=10)
        before = beside(path)
        path.chmod(0o444)
        path.parent.chmod(folder)
        try:
            ended = subprocess.run(
                [*setpriv, sys.executable, "-c", READ, str(path)], capture_output=True, text=True, check=False
            )
        finally:
            path.parent.chmod(0o755)
            path.chmod(0o600)
        assert (ended.stdout, ended.stderr) == (f"10 {status}\n", "")
        assert beside(path) == before


def test_a_rollback_journal_that_lies_beside_it_is_left_alone(journal: Journal, path: Path) -> None:
    """Ours have none; one that somebody has planted may name files for SQLite to delete."""
    run = record(journal, JobAdded(job(1, "v1")))
    journal.close()
    planted = path.parent / "journal.db-journal"
    planted.write_bytes(b"planted" * 100)
    with Journal.read(path) as reading:
        assert sum(1 for _ in reading.jobs(run)) == 1
    assert planted.read_bytes() == b"planted" * 100
    assert beside(path) == {"journal.db", "journal.db-journal"}


# what cannot be used


def test_a_journal_that_is_read_cannot_be_written(journal: Journal, path: Path) -> None:
    record(journal)
    with Journal.read(path) as reading:
        with pytest.raises(JournalError, match="reading only"):
            reading.record(JobAdded(job(1, "v1")))
        with pytest.raises(JournalError, match="reading only"):
            reading.begin("apply", spec="", options="")


def not_sqlite(path: Path) -> None:
    path.write_bytes(b"mirrors:\n  - from: a\n" * 300)


def of_others(path: Path) -> None:
    with sqlite3.connect(path) as raw:
        raw.execute("CREATE TABLE bookmarks (url TEXT)")
    raw.close()


def of_another_version(path: Path) -> None:
    Journal.open(path).close()
    with sqlite3.connect(path) as raw:
        raw.execute("PRAGMA user_version = 99")
    raw.close()


def cut_short(path: Path) -> None:
    with Journal.open(path) as journal:
        record(journal, *[JobAdded(job(number, f"v{number}")) for number in range(2000)])
    path.write_bytes(path.read_bytes()[:5000])


@pytest.mark.parametrize(
    ("make", "why"),
    [
        (not_sqlite, "not a database"),
        (of_others, "not a journal of asyncrane"),
        (of_another_version, "another version of asyncrane .format 99"),
        (Path.mkdir, "is a directory"),
        (cut_short, "malformed"),
    ],
)
def test_what_is_no_journal_is_said_to_be_none_and_left_alone(path: Path, make: object, why: str) -> None:
    assert callable(make)
    make(path)
    path.chmod(0o755)
    before = path.read_bytes() if path.is_file() else b""
    for way in (Journal.open, Journal.read):
        with pytest.raises(JournalError, match=why) as told, way(path) as journal:
            list(journal.jobs(1))
        assert str(path) in str(told.value)
    assert (path.read_bytes() if path.is_file() else b"") == before
    assert path.stat().st_mode & 0o777 == 0o755


def test_a_journal_that_is_not_there_is_not_made_by_reading(path: Path) -> None:
    with pytest.raises(JournalMissing, match="no journal"):
        Journal.read(path)
    assert not path.exists()
    with pytest.raises(JournalError, match="No such file"):
        Journal.open(path / "below" / "journal.db")


def test_a_changed_byte_is_an_error_and_never_another_tag(journal: Journal, path: Path) -> None:
    """Of a job, an upload's URL, an event, a manifest: each has a checksum."""
    manifest = image("a", ["x"])
    run = record(journal, JobAdded(job(1, "unmistakable")), ManifestRead(1, manifest))
    journal.note(HERE, BLOB.digest, "https://d/upload/1", 0)
    journal.close()
    healthy = path.read_bytes()
    with sqlite3.connect(path) as raw:
        (page,) = raw.execute("SELECT body FROM pages").fetchone()
    raw.close()

    def damaged(was: bytes, by: bytes) -> Journal:
        assert was in healthy
        assert len(was) == len(by)
        path.write_bytes(healthy.replace(was, by))
        return Journal.open(path)

    with damaged(b"unmistakable", b"unmistakably") as one, pytest.raises(JournalError, match="damaged"):
        list(one.jobs(run))
    with pytest.raises(JournalError, match="damaged"):
        damaged(b"https://d/upload/1", b"https://e/upload/1")
    with damaged(page, page[:30] + bytes([page[30] ^ 1]) + page[31:]) as two, pytest.raises(JournalError):
        list(two.events(run))
    with damaged(manifest.body, manifest.body[:-1] + b" ") as three:
        assert three.manifest(manifest.digest) is None
        assert three.failure is not None
        with pytest.raises(JournalError, match="damaged"):
            list(three.events(run))


async def test_a_damaged_manifest_stops_what_follows(journal: Journal, path: Path) -> None:
    """A journal that is wrong about one thing may be wrong about the next: no tag is written with it."""
    manifest = image("a", ["x"])
    record(journal, ManifestRead(1, manifest))
    journal.close()
    with sqlite3.connect(path) as raw:
        raw.execute("UPDATE manifests SET body = ?", (manifest.body + b" ",))
    raw.close()
    with Journal.open(path) as reopened:
        reopened.begin("apply", spec="", options="")
        await reopened.committed()
        assert reopened.manifest(manifest.digest) is None
        with pytest.raises(JournalError, match="damaged"):
            await reopened.committed()


@pytest.mark.parametrize("seed", range(20))
def test_whatever_is_overwritten_it_is_a_journal_error_or_none(journal: Journal, path: Path, seed: int) -> None:
    """Garbage anywhere in the file: what is read is right, or is a journal's error."""
    jobs = [job(number, f"v{number}") for number in range(200)]
    run = record(journal, *map(JobAdded, jobs), *[ManifestRead(n, image(str(n), ["x"])) for n in range(50)])
    journal.close()
    dice = random.Random(seed)
    content = bytearray(path.read_bytes())
    for _ in range(8):
        at = dice.randrange(100, len(content) - 64)
        content[at : at + 64] = dice.randbytes(64)
    path.write_bytes(content)
    with contextlib.suppress(JournalError), Journal.open(path) as reopened:
        assert [r.job for r in reopened.jobs(run)] == jobs
        assert sum(1 for _ in reopened.events(run)) == 250
        assert reopened.run(run).kind == "apply"
