"""A registry in a directory, whole at every moment: :class:`DiskStorage`.

    DIR/blobs/sha256/ab/abcd...                           content, shared by all repositories
    DIR/repositories/NAME/_blobs/sha256/abcd...           an empty file: the repository has the blob
    DIR/repositories/NAME/_manifests/sha256/abcd...       the media type, a line feed, the manifest's bytes
    DIR/repositories/NAME/_tags/TAG                       a digest; capitals are written !a, lest a file system
                                                          takes two tags for one
    DIR/uploads/...                                       what is being written; swept at start

No part of a repository's name can start with ``_``, so none can collide with these. Whatever others may see is written
beside and renamed into place, content before the name of it: a process killed at any point leaves nothing half done.
"""

from __future__ import annotations

import contextlib
import os
import re
import uuid
import weakref
from collections.abc import Iterator
from pathlib import Path
from types import TracebackType
from typing import IO

from asyncrane.errors import AsyncraneError, ContentError, InvalidDigest, InvalidInput
from asyncrane.oci.digest import Digest
from asyncrane.oci.manifest import Manifest
from asyncrane.server.index import Index
from asyncrane.server.reply import Chunk
from asyncrane.server.storage import PIECE, Incoming


class DiskStorage:
    """Everything in a directory, of which one process at a time may be the master; content is streamed both ways.

    :raises AsyncraneError: when another process serves this directory, or it cannot be written
    """

    def __init__(self, path: str | os.PathLike[str]) -> None:
        self.path = Path(path)
        self.index = Index()
        self._blobs = self.path / "blobs"
        self._repositories = self.path / "repositories"
        self._uploads = self.path / "uploads"
        try:
            for directory in (self._blobs, self._repositories, self._uploads):
                directory.mkdir(parents=True, exist_ok=True)
            self._unlock = weakref.finalize(self, os.close, _lock(self.path / ".lock"))
            self._sweep_uploads()
            self._load()
        except OSError as exc:
            raise InvalidInput(f"cannot keep a registry in {self.path}: {exc.strerror or exc}") from exc

    def __repr__(self) -> str:
        return f"DiskStorage({str(self.path)!r}, {self.index!r})"

    def __enter__(self) -> DiskStorage:
        return self

    def __exit__(self, kind: type[BaseException] | None, exc: BaseException | None, at: TracebackType | None) -> None:
        self.close()

    def close(self) -> None:
        """Let another process have the directory."""
        self._unlock()

    def incoming(self) -> Incoming:
        """Start an upload."""
        return _DiskIncoming(self._uploads / uuid.uuid4().hex)

    def keep(self, incoming: Incoming, repository: str, digest: Digest) -> None:
        """Make the upload a blob: one rename."""
        if not isinstance(incoming, _DiskIncoming):
            raise TypeError(f"{incoming!r} is another storage's")
        size = incoming.size
        if self.index.stored_size(digest) is None:
            incoming.move(self._blob(digest))
        else:
            incoming.discard()
        self._link(repository, digest, size)

    def pieces(self, digest: Digest, start: int, stop: int) -> Iterator[Chunk]:
        """Bytes of a blob."""
        return _read(self._blob(digest), start, stop)

    def link(self, repository: str, digest: Digest) -> None:
        """Put a stored blob into another repository."""
        size = self.index.stored_size(digest)
        if size is None:
            raise KeyError(digest)
        self._link(repository, digest, size)

    def unlink(self, repository: str, digest: Digest) -> None:
        """Take a blob out of a repository that has it."""
        self._of(repository, "_blobs", digest).unlink(missing_ok=True)
        if self.index.unlink(repository, digest):
            self._blob(digest).unlink(missing_ok=True)

    def manifest(self, repository: str, digest: Digest) -> Manifest:
        """A manifest the index knows."""
        return _read_manifest(self._of(repository, "_manifests", digest), digest)

    def put_manifest(self, repository: str, manifest: Manifest) -> None:
        """Store a manifest under its digest."""
        head = manifest.media_type.encode() + b"\n"
        self._write(self._of(repository, "_manifests", manifest.digest), head + manifest.body)
        self._index_manifest(repository, manifest)

    def delete_manifest(self, repository: str, digest: Digest) -> None:
        """Remove a manifest the index knows: its tags first, so that none ever names nothing."""
        for tag in self.index.remove_manifest(repository, digest):
            self._tag(repository, tag).unlink(missing_ok=True)
        self._of(repository, "_manifests", digest).unlink(missing_ok=True)

    def put_tag(self, repository: str, tag: str, digest: Digest) -> None:
        """Let a tag name a stored manifest."""
        self._write(self._tag(repository, tag), digest.encode())
        self.index.set_tag(repository, tag, digest)

    def delete_tag(self, repository: str, tag: str) -> None:
        """Remove a tag the index knows."""
        self._tag(repository, tag).unlink(missing_ok=True)
        self.index.remove_tag(repository, tag)

    # where things are

    def _blob(self, digest: Digest) -> Path:
        return self._blobs / digest.algorithm / digest.hex[:2] / digest.hex

    def _of(self, repository: str, kind: str, digest: Digest) -> Path:
        return self._repositories / repository / kind / digest.algorithm / digest.hex

    def _tag(self, repository: str, tag: str) -> Path:
        return self._repositories / repository / "_tags" / re.sub("[A-Z]", lambda m: f"!{m[0].lower()}", tag)

    # writing

    def _link(self, repository: str, digest: Digest, size: int) -> None:
        if self.index.blob_size(repository, digest) is None:
            link = self._of(repository, "_blobs", digest)
            try:
                _create(link)
            except FileNotFoundError:
                link.parent.mkdir(parents=True, exist_ok=True)
                _create(link)
            self.index.link(repository, digest, size)

    def _write(self, path: Path, data: bytes) -> None:
        beside = self._uploads / uuid.uuid4().hex
        beside.write_bytes(data)
        _move(beside, path)

    def _index_manifest(self, repository: str, manifest: Manifest) -> None:
        subject = manifest.subject
        self.index.add_manifest(repository, manifest.digest, manifest.size, subject.digest if subject else None)

    # starting

    def _sweep_uploads(self) -> None:
        for leftover in self._uploads.iterdir():
            leftover.unlink(missing_ok=True)

    def _load(self) -> None:
        sizes = {digest: path.stat().st_size for digest, path in _digests(self._blobs, "*/*")}
        linked: set[Digest] = set()
        for home in self._homes():
            name = home.relative_to(self._repositories).as_posix()
            for digest, _ in _digests(home / "_blobs", "*"):
                if digest in sizes:
                    self.index.link(name, digest, sizes[digest])
                    linked.add(digest)
            for digest, path in _digests(home / "_manifests", "*"):
                with contextlib.suppress(ContentError):
                    self._index_manifest(name, _read_manifest(path, digest))
            self._load_tags(name, home / "_tags")
        for digest in sizes.keys() - linked:
            # Renamed into place by a process that was killed before the first repository could be given it.
            self._blob(digest).unlink(missing_ok=True)

    def _homes(self) -> Iterator[Path]:
        for directory, names, _ in os.walk(self._repositories):
            if any(name.startswith("_") for name in names):
                yield Path(directory)
            names[:] = sorted(name for name in names if not name.startswith("_"))

    def _load_tags(self, name: str, directory: Path) -> None:
        for path in directory.iterdir() if directory.is_dir() else ():
            with contextlib.suppress(InvalidDigest):
                digest = Digest.parse(path.read_text())
                if self.index.manifest_size(name, digest) is not None:
                    self.index.set_tag(name, re.sub("!([a-z])", lambda m: m[1].upper(), path.name), digest)


class _DiskIncoming:
    """A file that is opened for each stretch of writing: an idle upload holds no descriptor."""

    def __init__(self, path: Path) -> None:
        self._path = path
        self._file: IO[bytes] | None = None
        self.size = 0

    def write(self, chunk: bytes) -> None:
        if self._file is None:
            self._file = self._path.open("ab", buffering=0)
        view = memoryview(chunk)
        while view:
            written = self._file.write(view)
            self.size += written
            view = view[written:]

    def pause(self) -> None:
        if self._file is not None:
            self._file.close()
            self._file = None

    def pieces(self, start: int, stop: int) -> Iterator[Chunk]:
        return _read(self._path, start, stop) if self.size else iter(())

    def move(self, path: Path) -> None:
        self.pause()
        if not self.size:
            _create(self._path)
        _move(self._path, path)

    def discard(self) -> None:
        self.pause()
        self._path.unlink(missing_ok=True)


def _create(path: Path) -> None:
    os.close(os.open(path, os.O_WRONLY | os.O_CREAT | os.O_CLOEXEC, 0o644))


def _move(path: Path, to: Path) -> None:
    try:
        path.replace(to)
    except FileNotFoundError:
        to.parent.mkdir(parents=True, exist_ok=True)
        path.replace(to)


def _read(path: Path, start: int, stop: int) -> Iterator[Chunk]:
    with path.open("rb", buffering=0) as file:
        file.seek(start)
        while start < stop and (piece := file.read(min(PIECE, stop - start))):
            start += len(piece)
            yield piece


def _read_manifest(path: Path, digest: Digest) -> Manifest:
    media_type, _, body = path.read_bytes().partition(b"\n")
    return Manifest.read(body, content_type=media_type.decode("utf-8", "replace"), digest=digest)


def _digests(directory: Path, below: str) -> Iterator[tuple[Digest, Path]]:
    """The files below ``directory/ALGORITHM`` that are named by a digest's hex digits."""
    for path in directory.glob(f"*/{below}"):
        algorithm = path.relative_to(directory).parts[0]
        with contextlib.suppress(InvalidDigest):
            yield Digest.parse(f"{algorithm}:{path.name}"), path


def _lock(path: Path) -> int:
    """Be the only process here, until the descriptor is closed or the process ends, however it ends."""
    handle = os.open(path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o644)
    try:
        import fcntl  # noqa: PLC0415 - not on Windows, where the directory is not guarded
    except ImportError:
        return handle
    try:
        fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except OSError as exc:
        os.close(handle)
        raise AsyncraneError(f"{path.parent} is in use by another registry") from exc
    return handle
