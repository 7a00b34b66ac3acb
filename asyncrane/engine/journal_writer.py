"""The thread that writes a journal: takes entries from a queue that costs next to nothing to fill, and writes as many
as there are in one transaction.

After the first entry it waits a moment for others, also when a loop waits for it: what waits is one blob of many, and
the others' entries come in that moment. Who waits without a loop is served at once. The first error is the last word: a
journal that has lost something must not go on as if it had not.
"""

from __future__ import annotations

import asyncio
import contextlib
import sqlite3
import threading
from collections import deque
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Generic, TypeVar

from asyncrane.engine.journal_file import told
from asyncrane.errors import JournalError

LINGER = 0.005
"""Seconds that the first entry waits for others: a transaction costs as much as some dozens of entries."""

_MOST = 2000
"""Entries in one transaction."""

Entry = TypeVar("Entry")


class Writer(Generic[Entry]):
    """Writes entries in the order in which they are :meth:`put`, which one thread at a time may do.

    :param write: called in the writing thread, inside a transaction
    """

    def __init__(self, path: Path, connection: sqlite3.Connection, write: Callable[[Sequence[Entry]], None]) -> None:
        self.failure: JournalError | None = None
        self._path = path
        self._connection = connection
        self._write = write
        self._queue: deque[Entry] = deque()
        self._put = 0
        self._written = 0
        self._lock = threading.Lock()
        self._waiting: list[tuple[int, Callable[[], object]]] = []
        self._wake = threading.Event()
        self._hurry = threading.Event()
        self._closing = False
        self._thread = threading.Thread(target=self._work, name=f"journal {path.name}", daemon=True)
        self._thread.start()

    @property
    def backlog(self) -> int:
        """Entries that are not written yet."""
        return self._put - self._written

    def put(self, entry: Entry) -> None:
        """Have it written soon; after an error nothing is."""
        if self.failure is not None:
            return
        self._put += 1
        self._queue.append(entry)
        if not self._wake.is_set():
            self._wake.set()

    async def committed(self) -> None:
        """Until everything put so far is in the file.

        :raises JournalError: when it is not and will not be
        """
        if self._written < self._put and self.failure is None:
            done = asyncio.Event()
            loop = asyncio.get_running_loop()
            self._wait_for(lambda: loop.call_soon_threadsafe(done.set))
            await done.wait()
        self.check()

    def settle(self) -> None:
        """As :meth:`committed`, for who may wait without a loop. An error is in :attr:`failure`."""
        if self._written < self._put and self.failure is None:
            done = threading.Event()
            self._wait_for(done.set)
            self._hurry.set()
            done.wait()

    def check(self) -> None:
        """Raise what went wrong.

        :raises JournalError: if anything did
        """
        if self.failure is not None:
            raise JournalError(str(self.failure)) from self.failure

    def close(self) -> None:
        """Write what is left, and end the thread."""
        self._closing = True
        self._hurry.set()
        self._wake.set()
        self._thread.join()

    def _wait_for(self, tell: Callable[[], object]) -> None:
        with self._lock:
            self._waiting.append((self._put, tell))
        self._wake.set()

    # in the thread

    def _work(self) -> None:
        while not (self._closing and not self._queue):
            self._wake.wait()
            self._wake.clear()
            self._hurry.wait(LINGER)
            self._hurry.clear()
            while self._queue:
                self._commit([self._queue.popleft() for _ in range(min(len(self._queue), _MOST))])
            self._tell()

    def _commit(self, entries: Sequence[Entry]) -> None:
        try:
            if self.failure is None:
                with told(self._path):
                    self._connection.execute("BEGIN IMMEDIATE")
                    self._write(entries)
                    self._connection.execute("COMMIT")
        except Exception as exc:  # a thread's error is nobody's, unless it is kept
            self._fail(exc)
        self._written += len(entries)

    def _fail(self, error: Exception) -> None:
        if not isinstance(error, JournalError):
            error = JournalError(f"journal {self._path}: unexpected {type(error).__name__}: {error}")
        self.failure = error
        with contextlib.suppress(sqlite3.Error):
            self._connection.execute("ROLLBACK")

    def _tell(self) -> None:
        with self._lock:
            ready = [tell for target, tell in self._waiting if target <= self._written or self.failure is not None]
            self._waiting = [
                (target, tell) for target, tell in self._waiting if target > self._written and self.failure is None
            ]
        for tell in ready:
            with contextlib.suppress(RuntimeError):  # the loop is closed: nobody waits there any more
                tell()
