"""Reading a journal: its runs, their jobs, messages and counts; the manifests it knows."""

from __future__ import annotations

import sqlite3
from collections.abc import Iterator
from functools import lru_cache
from pathlib import Path
from typing import Any

import msgspec

from asyncrane.engine.job import Job
from asyncrane.engine.journal_file import is_written, told
from asyncrane.engine.journal_pages import key_of, read_page, unseal
from asyncrane.engine.messages import Command, Event, Finish, JobAdded, ManifestRead, WriteManifest, decode
from asyncrane.engine.outcome import Outcome, Statistics
from asyncrane.errors import ContentError, JournalError, JournalMissing
from asyncrane.oci.digest import Digest
from asyncrane.oci.manifest import Manifest

_MANIFESTS = 1024
"""That are kept in memory for whoever asks next."""

_ROWS = 64
"""That are read at a time."""


class Run(msgspec.Struct, frozen=True):
    """One run. ``status`` is ``running``, what it was finished with, or ``interrupted`` when its process died; times
    are seconds since the epoch, ``options`` and ``summary`` what whoever did it chose to say, ``pid`` the process that
    did it last.
    """

    id: int
    kind: str
    spec: str
    status: str
    started: float
    ended: float | None = None
    options: str = ""
    summary: str = ""
    pid: int = 0


class JobRecord(msgspec.Struct, frozen=True):
    """A job of a run; without ``outcome`` it has not ended."""

    job: Job
    outcome: Outcome | None = None


class Record(msgspec.Struct, frozen=True):
    """A message (``None``: of a kind that this version does not know) and when it was recorded, in seconds since the
    epoch.
    """

    at: float
    message: Event | Command | None


class Sample(msgspec.Struct, frozen=True):
    """The counts at one moment, in seconds since the epoch."""

    at: float
    statistics: Statistics


class Book:
    """What there is to read in the journal at ``path``, through ``connection``.

    :raises JournalError: from every method, when the file is damaged
    """

    def __init__(self, path: Path, connection: sqlite3.Connection) -> None:
        self._path = path
        self._connection = connection
        self._body = lru_cache(_MANIFESTS)(self._find_manifest)

    def run(self, run: int | None = None, /) -> Run:
        """One run, the last one if none is named.

        :raises JournalMissing: when there is no such run
        """
        if found := self._runs(run):
            return found[-1]
        raise JournalMissing(f"journal {self._path}: " + ("no run yet" if run is None else f"there is no run {run}"))

    def runs(self) -> Iterator[Run]:
        """All of them, the first one first."""
        return iter(self._runs(None))

    def _runs(self, number: int | None) -> list[Run]:
        statement = (
            "SELECT id, kind, spec, status, started, ended, options, summary, pid FROM runs"
            " WHERE ?1 IS NULL OR id = ?1 ORDER BY id"
        )
        found = [Run(*row) for row in self._rows(statement, number)]
        if any(run.status == "running" for run in found) and not self._is_written():
            found = [
                msgspec.structs.replace(run, status="interrupted") if run.status == "running" else run for run in found
            ]
        return found

    def _is_written(self) -> bool:
        """Whether somebody is writing."""
        return is_written(self._path)

    def jobs(self, run: int, /) -> Iterator[JobRecord]:
        """The jobs of a run, as they were added, and what became of them.

        :raises JournalError: when there is no such run
        """
        self.run(run)
        rows = self._rows("SELECT added, finished FROM jobs WHERE run = ? ORDER BY place", run)
        return (JobRecord(_job(added), _outcome(finished)) for added, finished in rows)

    def events(self, run: int, /, *, key: str | None = None) -> Iterator[Record]:
        """The messages of a run in order; with ``key`` those about one digest, or one name
        (``registry/repository:tag``).

        :raises JournalError: when there is no such run
        """
        self.run(run)
        wanted = None if key is None else key_of(key)
        if wanted is None:
            rows = self._rows("SELECT body FROM pages WHERE run = ? ORDER BY id", run)
        else:
            rows = self._rows(
                "SELECT body FROM keys JOIN pages ON id = page WHERE keys.run = ? AND key = ? ORDER BY page",
                run,
                wanted,
            )
        return self._records(rows, wanted)

    def _records(self, pages: Iterator[tuple[Any, ...]], wanted: int | None) -> Iterator[Record]:
        for (body,) in pages:
            for at, message in read_page(body, wanted):
                yield Record(at, self._whole(message))

    def _whole(self, message: Event | Command | None) -> Event | Command | None:
        if isinstance(message, ManifestRead | WriteManifest):
            manifest = self._body(message.manifest.digest.raw)
            if manifest is None:
                raise JournalError(f"journal {self._path} is damaged: {message.manifest.digest!s} is missing")
            return msgspec.structs.replace(message, manifest=manifest)
        return message

    def samples(self, run: int, /) -> Iterator[Sample]:
        """The counts of a run over time.

        :raises JournalError: when there is no such run
        """
        self.run(run)
        rows = self._rows("SELECT at, body FROM samples WHERE run = ? ORDER BY id", run)
        return (Sample(at, _statistics(body)) for at, body in rows)

    def naming(self, digest: Digest) -> Iterator[Manifest]:
        """The manifests known here that name ``digest``: as a child, config, layer or subject."""
        rows = self._rows(
            "SELECT digest FROM named JOIN manifests ON id = manifest WHERE key = ? ORDER BY id", key_of(digest)
        )
        return (manifest for (raw,) in rows if (manifest := self._body(raw)) is not None)

    def _find_manifest(self, raw: bytes) -> Manifest | None:
        with told(self._path):
            row = self._one("SELECT media_type, body FROM manifests WHERE digest = ?", raw)
        if row is None:
            return None
        digest = Digest(f"{'sha256' if len(raw) == 32 else 'sha512'}:{raw.hex()}")
        try:
            return Manifest.read(row[1], content_type=row[0], digest=digest)
        except (ContentError, TypeError) as exc:
            raise JournalError(f"journal {self._path} is damaged: {exc}") from exc

    def _settle(self) -> None:
        """Let everything recorded so far be there to be read."""

    def _rows(self, statement: str, *values: object) -> Iterator[tuple[Any, ...]]:
        self._settle()
        with told(self._path):
            cursor = self._connection.execute(statement, values)
            rows = cursor.fetchmany(_ROWS)
        while rows:
            yield from rows
            with told(self._path):
                rows = cursor.fetchmany(_ROWS)

    def _one(self, statement: str, *values: object) -> Any:
        return self._connection.execute(statement, values).fetchone()


def _job(added: bytes) -> Job:
    message = _message(added)
    if not isinstance(message, JobAdded):
        raise JournalError("the journal is damaged: a job is none")
    return message.job


def _outcome(finished: bytes | None) -> Outcome | None:
    if finished is None:
        return None
    message = _message(finished)
    if not isinstance(message, Finish):
        raise JournalError("the journal is damaged: an outcome is none")
    return message.outcome


def _message(sealed: bytes) -> Event | Command:
    try:
        return decode(unseal(sealed))
    except msgspec.DecodeError as exc:
        raise JournalError(f"the journal has what this version cannot read: {exc}") from exc


def _statistics(body: bytes) -> Statistics:
    try:
        return msgspec.json.decode(body, type=Statistics)
    except msgspec.DecodeError as exc:
        raise JournalError(f"the journal has what this version cannot read: {exc}") from exc
