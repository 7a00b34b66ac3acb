"""What is written in a journal: messages as rows, and what they say about manifests and blobs.

A transaction's messages are one row, a *page*: compressed JSON, so that a million of them stay small, and checked when
it is read. What a message is about (digests, names) are its *keys*, numbers in a table beside it; the message that ends
a command has the command's keys. A manifest is kept once, by its digest; messages have it without its bytes.
"""

from __future__ import annotations

import hashlib
import sqlite3
import zlib
from collections.abc import Callable, Iterable, Iterator, Sequence
from typing import TypeAlias

import msgspec

from asyncrane.abc import Place
from asyncrane.engine.messages import (
    BlobCopied,
    BlobMounted,
    Command,
    CommandFailed,
    CopyBlob,
    Event,
    Finish,
    JobAdded,
    ListReferrers,
    ManifestRead,
    MountBlob,
    Probed,
    ReadConfig,
    Resolved,
    Work,
    WriteManifest,
    decode,
    encode,
)
from asyncrane.errors import AsyncraneError, JournalError
from asyncrane.oci.digest import Digest
from asyncrane.oci.manifest import Manifest

Deed: TypeAlias = Callable[["Recorder"], object]
"""Something to write that is no message."""

Entry: TypeAlias = tuple[float, Event | Command | Deed]
"""What to write, and when it happened (seconds since the epoch)."""

_Line: TypeAlias = tuple[float, tuple[int, ...], msgspec.Raw]
_lines = msgspec.json.Decoder(list[_Line])

_UNSURE, _SURE, _LOST, _GONE = 0, 1, 2, 3
"""What is known of a blob in a repository: on its way; there; its way ended before it was there; not there."""


def key_of(text: str) -> int:
    """The number of a digest or name; a name with a tag and a digest counts as the tag."""
    if text.startswith(("sha256:", "sha512:")):
        try:
            return int(text[7:23], 16) >> 1
        except ValueError:
            pass
    head, _, digest = text.partition("@")
    if digest and ":" in head.rpartition("/")[2]:
        text = head
    return int.from_bytes(hashlib.blake2b(text.encode(), digest_size=8).digest()) >> 1


def seal(data: bytes) -> bytes:
    """``data`` with a checksum: SQLite has none, and a changed bit must not become another tag."""
    return zlib.crc32(data).to_bytes(4) + data


def unseal(sealed: bytes) -> bytes:
    """What was sealed.

    :raises JournalError: when it is damaged
    """
    if not isinstance(sealed, bytes) or zlib.crc32(sealed[4:]).to_bytes(4) != sealed[:4]:
        raise JournalError("the journal is damaged: a record is not what was written")
    return sealed[4:]


class Recorder:
    """Turns entries into rows of ``connection``. Messages outside of a run leave what they say about manifests and
    blobs, nothing else.
    """

    def __init__(self, connection: sqlite3.Connection) -> None:
        self._connection = connection
        self._asked: dict[int, tuple[Work, tuple[int, ...]]] = {}
        self._names: dict[str, int] = dict(connection.execute("SELECT name, id FROM names"))
        self._page: list[_Line] = []
        self._holders: dict[tuple[str, bytes, str], int] = {}
        self.run: int | None = None

    def write(self, entries: Sequence[Entry]) -> None:
        """All of them, in order, in the transaction that is open."""
        for at, entry in entries:
            if callable(entry):
                self._turn_page()
                entry(self)
            else:
                self._take(at, entry)
        self._turn_page()
        self._keep_holders()

    def execute(self, statement: str, values: Iterable[object] = ()) -> sqlite3.Cursor:
        """One statement, for a deed."""
        return self._connection.execute(statement, tuple(values))

    def _take(self, at: float, message: Event | Command) -> None:
        command = getattr(message, "command", None)
        asked, keys = self._asked.pop(command, (None, ())) if command is not None else (None, ())
        if isinstance(message, Work):
            keys = tuple(map(key_of, _about_command(message)))
            self._asked[message.id] = message, keys
            self._begun(message)
        else:
            keys = (*keys, *map(key_of, _about_event(message)))
            if asked is not None:
                self._ended(asked, message)
        if isinstance(message, ManifestRead | WriteManifest):
            self._keep(message.manifest)
            message = msgspec.structs.replace(message, manifest=_without_body(message.manifest))
        if self.run is not None:
            self._job(self.run, message)
            self._page.append((at, keys, msgspec.Raw(encode(message))))

    def _job(self, run: int, message: Event | Command) -> None:
        if isinstance(message, JobAdded):
            self.execute(
                "INSERT OR IGNORE INTO jobs (run, id, added) VALUES (?, ?, ?)",
                (run, message.job.id, seal(encode(message))),
            )
        elif isinstance(message, Finish):
            self.execute(
                "UPDATE jobs SET finished = ? WHERE run = ? AND id = ?", (seal(encode(message)), run, message.job)
            )

    def _turn_page(self) -> None:
        if not self._page or self.run is None:
            return
        lines, self._page = self._page, []
        body = zlib.compress(msgspec.json.encode(lines), 1)
        page = self.execute("INSERT INTO pages (run, body) VALUES (?, ?)", (self.run, body)).lastrowid
        keys = {key for _, keys, _ in lines for key in keys}
        # one statement for all of them: each that SQLite is given lets another thread run, and has to wait for it
        self.execute(
            "INSERT OR IGNORE INTO keys SELECT ?, value, ? FROM json_each(?)",
            (self.run, page, msgspec.json.encode(sorted(keys)).decode()),
        )

    # manifests

    def _keep(self, manifest: Manifest) -> None:
        row = self.execute(
            "INSERT OR IGNORE INTO manifests (digest, media_type, body) VALUES (?, ?, ?)",
            (manifest.digest.raw, manifest.media_type, manifest.body),
        )
        if row.rowcount != 1:
            return
        named = [*manifest.children(), *manifest.blobs()]
        if (subject := manifest.subject) is not None:
            named.append(subject)
        keys = {key_of(one.digest) for one in named}
        self.execute(
            "INSERT OR IGNORE INTO named SELECT value, ? FROM json_each(?)",
            (row.lastrowid, msgspec.json.encode(sorted(keys)).decode()),
        )

    # which repositories have which blobs

    def _begun(self, command: Work) -> None:
        """What is on its way may have arrived when nobody is left to say so: asking for a mount costs nothing more."""
        if isinstance(command, CopyBlob):
            for sink in command.sinks:
                self._holds(sink, command.blob.digest, _UNSURE)

    def _ended(self, command: Work, event: Event | Command) -> None:
        if isinstance(command, CopyBlob):
            if isinstance(event, BlobCopied):
                for landing in event.landings:
                    self._holds(landing.place, command.blob.digest, _LOST if landing.failure else _SURE)
            elif isinstance(event, CommandFailed):
                for sink in command.sinks:
                    self._holds(sink, command.blob.digest, _LOST)
        elif isinstance(command, MountBlob) and isinstance(event, BlobMounted):
            donor = Place(command.place.site, command.donor)
            if event.mounted:
                self._holds(command.place, command.blob.digest, _SURE)
            self._holds(donor, command.blob.digest, _SURE if event.mounted else _GONE)

    def _holds(self, place: Place, digest: Digest, how: int) -> None:
        if place.site.mounts:
            self._holders[place.site.name, digest.raw, place.repository] = how

    def _keep_holders(self) -> None:
        if not self._holders:
            return
        known = [(self._name(site), raw, self._name(repo), how) for (site, raw, repo), how in self._holders.items()]
        self._holders = {}
        self._connection.executemany(
            "INSERT INTO holders VALUES (?, ?, ?, ?) ON CONFLICT DO UPDATE SET sure = max(sure, excluded.sure)",
            [row for row in known if row[3] in (_UNSURE, _SURE)],
        )
        self._connection.executemany(
            "DELETE FROM holders WHERE site = ? AND digest = ? AND repository = ? AND sure <= ?",
            [(*row[:3], _UNSURE if row[3] == _LOST else _SURE) for row in known if row[3] in (_LOST, _GONE)],
        )

    def _name(self, text: str) -> int:
        number = self._names.get(text)
        if number is None:
            number = self._names[text] = len(self._names) + 1  # none is ever deleted
            self.execute("INSERT INTO names VALUES (?, ?)", (number, text))
        return number


def read_page(body: bytes, wanted: int | None) -> Iterator[tuple[float, Event | Command | None]]:
    """The messages of a page, or those with one key; ``None`` for one of a kind that is not known here.

    :raises JournalError: when the page is damaged
    """
    try:
        lines = _lines.decode(zlib.decompress(body))
    except (zlib.error, msgspec.DecodeError, TypeError) as exc:
        raise JournalError(f"the journal is damaged: {exc}") from exc
    for at, keys, raw in lines:
        if wanted is None or wanted in keys:
            try:
                yield at, decode(raw)
            except (msgspec.DecodeError, AsyncraneError):
                yield at, None


def _without_body(manifest: Manifest) -> Manifest:
    return msgspec.structs.replace(manifest, body=b"")


def _named(place: Place, identifier: str) -> tuple[str, ...]:
    if ":" in identifier:
        return (identifier, f"{place}@{identifier}")
    return (f"{place}:{identifier}",)


def _about_command(command: Work) -> tuple[str, ...]:
    match command:
        case CopyBlob() | MountBlob() | ReadConfig():
            return (command.blob.digest,)
        case ListReferrers():
            return (command.subject,)
        case WriteManifest():
            digest = command.manifest.digest
            named = f"{command.place}:{command.tag}" if command.tag else f"{command.place}@{digest!s}"
            return (digest, named)
        case _:
            return _named(command.place, command.identifier)


def _about_event(message: Event | Finish) -> tuple[str, ...]:
    """What it is about besides what its command was."""
    match message:
        case Resolved():
            return (message.descriptor.digest,)
        case Probed() if message.descriptor is not None:
            return (message.descriptor.digest,)
        case ManifestRead():
            return (message.manifest.digest,)
        case JobAdded():
            job = message.job
            return (str(job), *map(str, job.targets), *([job.digest] if job.digest else ()))
        case Finish():
            outcome = message.outcome
            digests = {digest for digest in (outcome.digest, outcome.root) if digest}
            return (outcome.source, *(target.destination for target in outcome.targets), *digests)
        case _:
            return ()
