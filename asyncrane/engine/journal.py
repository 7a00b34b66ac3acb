"""The journal of runs: what was wanted, what was done and what came of it, in order; what is known of manifests and
blobs; uploads that are not finished. A run that dies can be explained, resumed and taken back from it.

Recording costs the event loop next to nothing: a thread writes (:mod:`asyncrane.engine.journal_writer`). Reading
(:mod:`asyncrane.engine.journal_book`) is done where it is asked for, and waits for what has been recorded before,
except where the engine asks while it works.
"""

from __future__ import annotations

import os
import sqlite3
import time
from array import array
from bisect import bisect_left
from collections.abc import Iterable
from operator import itemgetter
from pathlib import Path
from types import TracebackType
from typing import Any, Self

import msgspec

from asyncrane.abc import Place, Site
from asyncrane.engine.journal_book import Book, JobRecord, Record, Run, Sample
from asyncrane.engine.journal_file import Lock, open_readable, open_writable, told
from asyncrane.engine.journal_pages import Deed, Entry, Recorder, seal, unseal
from asyncrane.engine.journal_writer import Writer
from asyncrane.engine.messages import Command, Event
from asyncrane.engine.outcome import Statistics
from asyncrane.errors import JournalError
from asyncrane.oci.digest import Digest
from asyncrane.oci.manifest import Manifest

__all__ = ["JobRecord", "Journal", "Record", "Run", "Sample"]

_MOST_DONORS = 8
"""Of one blob that are named: more than anybody asks."""


class Journal(Book):
    """A file of runs, opened by :meth:`open` or :meth:`read`. Methods may be called by one thread at a time.

    :raises JournalError: from every method that reads, when the file is damaged
    """

    def __init__(
        self,
        path: Path,
        connection: sqlite3.Connection,
        writer: Writer[Entry] | None = None,
        closing: Iterable[Any] = (),
    ) -> None:
        super().__init__(path, connection)
        self._writer = writer
        self._closing = tuple(closing)
        self._run: int | None = None
        self._next_run = 0
        self._reading: JournalError | None = None
        self._uploads: dict[tuple[str, str, str], str] = {}
        self._known: dict[str, tuple[int, array[int]]] = {}
        self._closed = False

    @classmethod
    def open(cls, path: Path | str) -> Journal:
        """For writing; made if it is not there, readable by its owner only.

        :raises JournalBusy: when another process is writing it
        :raises JournalError: when it cannot be used: damaged, another version's, something else, disk full
        """
        path = Path(os.path.realpath(path))
        if path.is_dir():
            raise JournalError(f"journal {path}: is a directory")
        with told(path):
            lock = Lock(path)
        opened: list[sqlite3.Connection] = []
        try:
            with told(path):
                opened.append(writing := open_writable(path))
                opened.append(reading := open_readable(path))
                writer = Writer(path, writing, Recorder(writing).write)
            journal = cls(path, reading, writer, (reading.close, writing.close, lock.release))
            journal._load()
        except BaseException:
            for connection in opened:
                connection.close()
            lock.release()
            raise
        return journal

    @classmethod
    def read(cls, path: Path | str) -> Journal:
        """For reading only; another process may be writing it.

        :raises JournalError: when there is none, or it cannot be used
        """
        path = Path(os.path.realpath(path))
        if path.is_dir():
            raise JournalError(f"journal {path}: is a directory")
        connection = open_readable(path)
        return cls(path, connection, closing=(connection.close,))

    def _load(self) -> None:
        with told(self._path):
            self._next_run = max((run.id for run in self.runs()), default=0) + 1
            for site, repository, digest, url in self._connection.execute(
                "SELECT site, repository, digest, url FROM uploads"
            ):
                self._uploads[site, repository, digest] = unseal(url).decode()

    def close(self) -> None:
        """Write what is left and let others have the file.

        :raises JournalError: when the last of it cannot be written
        """
        if self._closed:
            return
        self._closed = True
        before = self.failure
        if self._writer is not None:
            self._writer.close()
        with told(self._path):
            for close in self._closing:
                close()
        if before is None and self.failure is not None:
            raise self.failure

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    # what the engine does with it

    @property
    def failure(self) -> JournalError | None:
        """What went wrong, if anything did: nothing is written since, and no tag is to be."""
        written = self._writer.failure if self._writer is not None else None
        return written or self._reading

    @property
    def backlog(self) -> int:
        """Messages that are not in the file yet."""
        return self._writer.backlog if self._writer is not None else 0

    def record(self, message: Event | Command) -> None:
        """Take note of a message, at once; it belongs to the run that is under way."""
        self._put(message)

    async def committed(self) -> None:
        """Until all that was recorded is in the file, so that the death of this process cannot undo it; that of the
        machine may take the last moments.

        :raises JournalError: when it is not and will not be
        """
        if self._reading is not None:
            raise JournalError(str(self._reading)) from self._reading
        await self._open_writer().committed()

    def manifest(self, digest: Digest) -> Manifest | None:
        """A manifest that was read or written before, checked against its digest."""
        try:
            return self._body(digest.raw)
        except JournalError as exc:
            self._reading = self._reading or exc
            return None

    def donors(self, site: Site, digest: Digest) -> tuple[str, ...]:
        """Repositories of ``site`` that had the blob, or may have got it when a run died; the surest first."""
        try:
            with told(self._path):
                return self._donors(site.name, digest.raw)
        except JournalError as exc:
            self._reading = self._reading or exc
            return ()

    def _donors(self, site: str, raw: bytes) -> tuple[str, ...]:
        number, known = self._known.get(site) or self._look_up(site)
        head = int.from_bytes(raw[:8])
        at = bisect_left(known, head)
        if at == len(known) or known[at] != head:  # as nearly all are, of a registry that is new
            return ()
        rows = self._connection.execute(
            "SELECT sure, name FROM holders JOIN names ON id = repository WHERE site = ? AND digest = ?", (number, raw)
        ).fetchall()
        if len(rows) > 1:
            rows.sort(key=itemgetter(0), reverse=True)
        return tuple(name for _, name in rows[:_MOST_DONORS])

    def _look_up(self, site: str) -> tuple[int, array[int]]:
        """The heads of all digests at ``site`` when this run began; of what it does itself the engine knows."""
        row = self._connection.execute("SELECT id FROM names WHERE name = ?", (site,)).fetchone()
        number = row[0] if row is not None else 0
        rows = self._connection.execute(
            "SELECT DISTINCT substr(digest, 1, 8) FROM holders WHERE site = ? ORDER BY digest", (number,)
        )
        found = self._known[site] = number, array("Q", (int.from_bytes(head) for (head,) in rows))
        return found

    # unfinished uploads (asyncrane.abc.UploadLedger)

    def find(self, place: Place, digest: Digest) -> str | None:
        """Where an unfinished upload of the blob goes on."""
        return self._uploads.get((place.site.name, place.repository, digest))

    def note(self, place: Place, digest: Digest, url: str, offset: int) -> None:
        """The upload goes on at ``url``; the registry has confirmed ``offset`` bytes."""
        key = (place.site.name, place.repository, str.__str__(digest))
        self._uploads[key] = url
        row = (*key, seal(url.encode()), offset, time.time())
        self._put(lambda rows: rows.execute("INSERT OR REPLACE INTO uploads VALUES (?, ?, ?, ?, ?, ?)", row))

    def drop(self, place: Place, digest: Digest) -> None:
        """The upload has ended, in one way or the other."""
        key = (place.site.name, place.repository, str.__str__(digest))
        if self._uploads.pop(key, None) is not None:
            self._put(
                lambda rows: rows.execute("DELETE FROM uploads WHERE site = ? AND repository = ? AND digest = ?", key)
            )

    # runs

    def begin(self, kind: str, *, spec: str, options: str) -> int:
        """A new run, to which everything recorded belongs from now on. Its number is returned.

        :raises JournalError: when nothing can be written any more
        """
        self._open_writer().check()
        run, self._next_run = self._next_run, self._next_run + 1
        values = (run, kind, spec, options, "running", "", os.getpid(), time.time())
        self._enter(run, "INSERT INTO runs VALUES (?, ?, ?, ?, ?, ?, ?, ?, NULL)", values)
        return run

    def reopen(self, run: int) -> None:
        """Go on with a run that has ended or died.

        :raises JournalError: when there is no such run, or nothing can be written any more
        """
        self._open_writer().check()
        number = self.run(run).id
        values = (os.getpid(), number)
        self._enter(number, "UPDATE runs SET status = 'running', ended = NULL, pid = ? WHERE id = ?", values)

    def _enter(self, run: int, statement: str, values: tuple[object, ...]) -> None:
        def enter(rows: Recorder) -> None:
            rows.execute(statement, values)
            rows.run = run

        self._put(enter)
        self._run = run
        self._known.clear()

    def finish(self, status: str, *, summary: str) -> None:
        """The run has ended. What goes wrong is in :attr:`failure` afterwards."""
        values = (status, summary, time.time(), self._run)

        def leave(rows: Recorder) -> None:
            rows.execute("UPDATE runs SET status = ?, summary = ?, ended = ? WHERE id = ?", values)
            rows.run = None

        self._put(leave)
        self._run = None
        self._open_writer().settle()

    def sample(self, statistics: Statistics) -> None:
        """Take note of the counts as they are now."""
        if self._run is not None:
            row = (self._run, time.time(), msgspec.json.encode(statistics))
            self._put(lambda rows: rows.execute("INSERT INTO samples (run, at, body) VALUES (?, ?, ?)", row))

    # writing

    def _settle(self) -> None:
        if self._writer is not None:
            self._writer.settle()

    def _is_written(self) -> bool:
        return self._writer is not None or super()._is_written()

    def _put(self, what: Event | Command | Deed) -> None:
        self._open_writer().put((time.time(), what))

    def _open_writer(self) -> Writer[Entry]:
        if self._writer is None or self._closed:
            raise JournalError(f"journal {self._path}: " + ("is closed" if self._closed else "open for reading only"))
        return self._writer

    def __repr__(self) -> str:
        return f"Journal({str(self._path)!r}, {self.backlog} waiting)"
