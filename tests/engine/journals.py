"""A journal for a test, runs in it, and places to speak of."""

from __future__ import annotations

from pathlib import Path

from asyncrane.engine.job import Job, Target
from asyncrane.engine.journal import Journal
from asyncrane.engine.messages import (
    Command,
    Event,
)
from asyncrane.oci.descriptor import Descriptor
from asyncrane.oci.digest import Digest
from tests.engine.world import place

SOURCE, HERE, THERE = place("s:5000", "app"), place("d:5000", "team/app"), place("d:5000", "team/other")
BLOB = Descriptor("application/x", Digest.of(b"blob"), 1234)


def job(number: int, tag: str) -> Job:
    return Job(number, SOURCE, (Target(HERE, tag),), tag=tag)


def record(journal: Journal, *messages: Event | Command, kind: str = "apply") -> int:
    """A run of just these messages."""
    run = journal.begin(kind, spec="mirror.yml", options="{}")
    for message in messages:
        journal.record(message)
    journal.finish("done", summary="{}")
    return run


def again(journal: Journal, path: Path) -> Journal:
    """The journal, closed and opened as the next process would."""
    journal.close()
    return Journal.open(path)


def stories(journal: Journal, run: int, key: str | None = None) -> list[Event | Command | None]:
    return [found.message for found in journal.events(run, key=key)]
