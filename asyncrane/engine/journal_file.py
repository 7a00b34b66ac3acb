"""The file a journal is kept in: SQLite with a write-ahead log, one process writing, any number reading.

Commits survive the death of the process at any moment, kill -9 included. When the machine itself dies, the last of them
may be lost (``synchronous=NORMAL`` leaves flushing to checkpoints), never the file: what a run did then is found by
asking the registries again.
"""

from __future__ import annotations

import contextlib
import os
import sqlite3
import stat
import time
from collections.abc import Iterator
from pathlib import Path
from urllib.parse import quote

from asyncrane.errors import JournalBusy, JournalError, JournalMissing

FORMAT = 1
"""Of the tables below. A file with another one is refused, not guessed at."""

_APPLICATION = 0x61637261
"""What makes a SQLite file one of ours (``PRAGMA application_id``): "acra"."""

_TABLES = """
CREATE TABLE runs (id INTEGER PRIMARY KEY, kind TEXT NOT NULL, spec TEXT NOT NULL, options TEXT NOT NULL,
    status TEXT NOT NULL, summary TEXT NOT NULL, pid INTEGER NOT NULL, started REAL NOT NULL, ended REAL);
CREATE TABLE jobs (place INTEGER PRIMARY KEY, run INTEGER NOT NULL, id INTEGER NOT NULL, added BLOB NOT NULL,
    finished BLOB, UNIQUE (run, id));
CREATE TABLE pages (id INTEGER PRIMARY KEY, run INTEGER NOT NULL, body BLOB NOT NULL);
CREATE INDEX pages_by_run ON pages (run);
CREATE TABLE keys (run INTEGER, key INTEGER, page INTEGER, PRIMARY KEY (run, key, page)) WITHOUT ROWID;
CREATE TABLE samples (id INTEGER PRIMARY KEY, run INTEGER NOT NULL, at REAL NOT NULL, body BLOB NOT NULL);
CREATE INDEX samples_by_run ON samples (run);
CREATE TABLE manifests (id INTEGER PRIMARY KEY, digest BLOB NOT NULL UNIQUE, media_type TEXT NOT NULL,
    body BLOB NOT NULL);
CREATE TABLE named (key INTEGER, manifest INTEGER, PRIMARY KEY (key, manifest)) WITHOUT ROWID;
CREATE TABLE names (id INTEGER PRIMARY KEY, name TEXT NOT NULL UNIQUE);
CREATE TABLE holders (site INTEGER, digest BLOB, repository INTEGER, sure INTEGER NOT NULL,
    PRIMARY KEY (site, digest, repository)) WITHOUT ROWID;
CREATE TABLE uploads (site TEXT, repository TEXT, digest TEXT, url BLOB NOT NULL, confirmed INTEGER NOT NULL,
    at REAL NOT NULL, PRIMARY KEY (site, repository, digest)) WITHOUT ROWID;
"""

_UPLOAD_LIFE = 14 * 24 * 3600
"""Seconds after which no registry knows an unfinished upload any more (distribution purges them after a week)."""

_LARGEST_LOG = 64 * 1024 * 1024
_WAIT = 10.0
_TURNS = 5


@contextlib.contextmanager
def told(path: Path) -> Iterator[None]:
    """Whatever SQLite or the system has to say against the file, as one error that names it.

    :raises JournalError: when they do
    """
    try:
        yield
    except sqlite3.Error as exc:
        raise JournalError(f"journal {path}: {exc}") from exc
    except OSError as exc:
        raise JournalError(f"journal {path}: {exc.strerror or exc}") from exc


class Lock:
    """Being the only process that writes a journal; ends with the process, however that ends.

    :raises JournalBusy: when another one is
    """

    def __init__(self, path: Path) -> None:
        self._handle = os.open(_lock_file(path), os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
        try:
            self._take(path)
            os.pwrite(self._handle, f"{os.getpid():<20}\n".encode(), 0)
        except BaseException:
            os.close(self._handle)
            raise

    def _take(self, path: Path) -> None:
        for turn in range(_TURNS):
            if turn:  # who reads looks for a moment whether anybody writes
                time.sleep(0.01)
            if _flock(self._handle, exclusive=True):
                return
        pid = _pid(self._handle)
        who = f"process {pid}" if pid else "another process"
        raise JournalBusy(f"journal {path} is being written by {who}", pid=pid)

    def release(self) -> None:
        """Let another process have it. The file stays: removed, it could be locked twice."""
        os.close(self._handle)


def is_written(path: Path) -> bool:
    """Whether a process is writing the journal now."""
    try:
        handle = os.open(_lock_file(path), os.O_RDONLY | os.O_CLOEXEC)
    except OSError:
        return False
    try:
        return not _flock(handle, exclusive=False)
    finally:
        os.close(handle)


def _lock_file(path: Path) -> str:
    return f"{path}.lock"


def _flock(handle: int, *, exclusive: bool) -> bool:
    try:
        import fcntl  # noqa: PLC0415 - not on Windows, where the journal is not guarded
    except ImportError:
        return True
    try:
        fcntl.flock(handle, (fcntl.LOCK_EX if exclusive else fcntl.LOCK_SH) | fcntl.LOCK_NB)
    except BlockingIOError:
        return False
    return True


def _pid(handle: int) -> int:
    text = os.pread(handle, 20, 0).strip()
    return int(text) if text.isdigit() else 0


def open_writable(path: Path) -> sqlite3.Connection:
    """The journal at ``path``, made if there is none, readable by its owner only: upload URLs may carry secrets. Runs
    that say they are under way are not: whoever did them is dead, or we would not have the lock.

    :raises JournalError: when there is something else at ``path``, or it cannot be written
    """
    with told(path):
        os.close(os.open(path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600))
    with told(path), contextlib.ExitStack() as undo:
        connection = sqlite3.connect(path, timeout=_WAIT, isolation_level=None, check_same_thread=False)
        undo.callback(connection.close)
        if _is_empty(connection):
            connection.executescript(
                f"BEGIN; {_TABLES} PRAGMA application_id = {_APPLICATION}; PRAGMA user_version = {FORMAT}; COMMIT"
            )
        _check(connection, path)
        _keep_others_out(path)
        mode = connection.execute("PRAGMA journal_mode = WAL").fetchone()[0]
        if mode != "wal":
            raise JournalError(f"journal {path}: the file system does not do what SQLite's write-ahead log needs")
        connection.execute("PRAGMA synchronous = NORMAL")
        connection.execute(f"PRAGMA journal_size_limit = {_LARGEST_LOG}")
        connection.execute("UPDATE runs SET status = 'interrupted' WHERE status = 'running'")
        connection.execute("DELETE FROM uploads WHERE at < ?", (time.time() - _UPLOAD_LIFE,))
        undo.pop_all()
    return connection


def _keep_others_out(path: Path) -> None:
    """A journal that others may read, from an umask or a copy, is its owner's alone from now on."""
    for file in (path, _log(path), _index(path)):
        with contextlib.suppress(FileNotFoundError, PermissionError):  # it is for the owner to say
            mode = file.lstat().st_mode
            if stat.S_ISREG(mode) and mode & (stat.S_IRWXG | stat.S_IRWXO):
                file.chmod(0o600)


def open_readable(path: Path) -> sqlite3.Connection:
    """The journal at ``path``, which another process may be writing. Nothing can be written through it.

    :raises JournalMissing: when there is none
    :raises JournalError: when it cannot be read
    """
    with told(path), contextlib.ExitStack() as undo:
        if not path.exists():
            raise JournalMissing(f"there is no journal {path}")
        connection = _for_questions(path)
        undo.callback(connection.close)
        _check(connection, path)
        undo.pop_all()
    return connection


def _for_questions(path: Path) -> sqlite3.Connection:
    """Who may write the file opens it so, to ask only: SQLite keeps the log and its index in files beside it as long as
    anybody has it open, and the last one to close takes them away, but not one who opened it for reading.
    """
    if _is_ours(path):
        connection = _connect(path, "mode=rw")
    elif _index(path).exists() or _size(_log(path)):
        connection = _connect(path, "mode=ro")
    else:  # nobody writes it; an index of our making would stay, and its owner could not use it
        return _connect(path, "mode=ro&immutable=1")
    try:
        connection.execute("PRAGMA query_only = ON")
        connection.execute("PRAGMA user_version").fetchone()
    except sqlite3.Error as exc:
        connection.close()
        busy = exc.sqlite_errorcode == sqlite3.SQLITE_BUSY
        if busy or _size(_log(path)) or not isinstance(exc, sqlite3.OperationalError):
            raise
        return _connect(path, "mode=ro&immutable=1")  # there was no room for the index, as on a full disk
    return connection


def _is_ours(path: Path) -> bool:
    """Whether we may write the journal and files beside it, and nobody has put a rollback journal there: ours has none,
    and one that is planted can name files for SQLite to delete.
    """
    return os.access(path, os.W_OK) and os.access(path.parent, os.W_OK) and not Path(f"{path}-journal").exists()


def _log(path: Path) -> Path:
    return Path(f"{path}-wal")


def _index(path: Path) -> Path:
    return Path(f"{path}-shm")


def _connect(path: Path, how: str) -> sqlite3.Connection:
    return sqlite3.connect(
        f"file:{quote(str(path))}?{how}", uri=True, timeout=_WAIT, isolation_level=None, check_same_thread=False
    )


def _size(path: Path) -> int:
    try:
        return path.stat().st_size
    except OSError:
        return 0


def _is_empty(connection: sqlite3.Connection) -> bool:
    tables: int = connection.execute("SELECT count(*) FROM sqlite_master").fetchone()[0]
    return not tables and _pragma(connection, "application_id") == 0


def _check(connection: sqlite3.Connection, path: Path) -> None:
    if _pragma(connection, "application_id") != _APPLICATION:
        raise JournalError(f"{path} is not a journal of asyncrane")
    version = _pragma(connection, "user_version")
    if version != FORMAT:
        raise JournalError(
            f"journal {path} was written by another version of asyncrane (format {version}, this one has {FORMAT}): "
            "name another file"
        )


def _pragma(connection: sqlite3.Connection, name: str) -> int:
    value: int = connection.execute(f"PRAGMA {name}").fetchone()[0]
    return value
