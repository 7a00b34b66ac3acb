"""With a journal beside it, what is known is not asked again, and nothing is written before the journal has all."""

from __future__ import annotations

import sqlite3
from pathlib import Path

import pytest

from asyncrane.engine.journal import Journal
from asyncrane.engine.journaled import BACKLOG, JournaledExecutor
from asyncrane.engine.messages import (
    CommandFailed,
    CopyBlob,
    Ended,
    JobCancelled,
    ManifestRead,
    ReadManifest,
    Resolve,
    Work,
    WriteManifest,
)
from asyncrane.oci.manifest import Manifest
from tests.engine.world import World, image, place

SOURCE, HERE = place("s:5000", "app"), place("d:5000", "app")


class Worldly:
    """Carries commands out in a world; before each it looks what another process would find in the journal."""

    def __init__(self, world: World, path: Path) -> None:
        self._world = world
        self._path = path
        self.done: list[Work] = []
        self.found: list[int] = []

    async def execute(self, command: Work) -> Ended:
        with Journal.read(self._path) as reading:
            self.found.append(sum(1 for _ in reading.events(1)))
        self.done.append(command)
        return self._world.carry_out(command)


@pytest.fixture
def journal(journal: Journal) -> Journal:
    """In a run."""
    journal.begin("apply", spec="", options="")
    return journal


@pytest.fixture
def manifest() -> Manifest:
    return image("a", [])


@pytest.fixture
def inner(path: Path, manifest: Manifest, journal: Journal) -> Worldly:
    world = World()
    world.fill(SOURCE, "v1", manifest)
    world.blobs[HERE] = {blob.digest for blob in manifest.blobs()}
    return Worldly(world, path)


async def test_a_manifest_is_read_once_in_all_runs(
    inner: Worldly, journal: Journal, path: Path, manifest: Manifest
) -> None:
    """By its digest; what a tag names is asked every time."""
    read = ReadManifest(1, SOURCE, str(manifest.digest))
    await journal.committed()
    event = await JournaledExecutor(inner, journal).execute(read)
    assert isinstance(event, ManifestRead)
    journal.record(event)
    journal.finish("done", summary="")
    journal.close()
    with Journal.open(path) as later:
        later.begin("apply", spec="", options="")
        executor = JournaledExecutor(inner, later)
        assert await executor.execute(ReadManifest(2, SOURCE, str(manifest.digest))) == ManifestRead(2, manifest)
        assert inner.done == [read]
        for command in (ReadManifest(3, SOURCE, "v1"), Resolve(4, SOURCE, "v1")):
            await executor.execute(command)
        assert len(inner.done) == 3


async def test_i2_what_writes_waits_until_the_journal_has_all_that_led_to_it(
    inner: Worldly, journal: Journal, manifest: Manifest
) -> None:
    """I2: manifests and bytes; another process finds it there at that moment."""
    executor = JournaledExecutor(inner, journal)
    blob = manifest.blobs()[0]
    writes = (CopyBlob(1, blob, SOURCE, (HERE,)), WriteManifest(2, HERE, manifest, "v1"))
    for write in writes:
        for number in range(3000):
            journal.record(JobCancelled(number))
        await executor.execute(write)
    assert inner.found == [3000, 6000]
    assert inner.done == list(writes)


async def test_other_commands_wait_only_for_a_long_backlog(inner: Worldly, journal: Journal) -> None:
    """So that memory does not grow when the disk is slow."""
    await journal.committed()
    for number in range(BACKLOG * 3):
        journal.record(JobCancelled(number))
    assert journal.backlog > BACKLOG
    await JournaledExecutor(inner, journal).execute(Resolve(1, SOURCE, "v1"))
    assert inner.found == [BACKLOG * 3]


async def test_no_manifest_is_written_with_a_journal_that_failed(
    inner: Worldly, journal: Journal, path: Path, manifest: Manifest
) -> None:
    """Whatever made it fail: here its tables are gone."""
    await journal.committed()
    with sqlite3.connect(path) as raw:
        raw.execute("DROP TABLE pages")
    raw.close()
    journal.record(JobCancelled(1))
    event = await JournaledExecutor(inner, journal).execute(WriteManifest(1, HERE, manifest, "v1"))
    assert isinstance(event, CommandFailed)
    assert event.failure.kind == "JournalError"
    assert "pages" in event.failure.message
    assert inner.done == []
    journal.record(JobCancelled(2))
    assert journal.backlog == 0
