"""The files of an OCI layout directory, and who may change them when (image-spec, image-layout.md).

    DIR/oci-layout              says that this is one; never replaced, so it is what changes of index.json lock
    DIR/index.json              what images there are; replaced by one rename, and on the disk before that
    DIR/blobs/ALGORITHM/HEX     content. Who writes shares a lock on DIR/blobs; who removes blobs has it alone
    DIR/.asyncrane-...          what is being written

The locks are flock's: they end with the process that holds them. Other tools know nothing of them. Everything here is
for use in a thread.
"""

from __future__ import annotations

import contextlib
import errno
import os
import shutil
import warnings
from collections.abc import Iterator, Sequence
from pathlib import Path

import msgspec

from asyncrane.errors import ContentError, InvalidInput, NotFound
from asyncrane.oci.descriptor import Descriptor
from asyncrane.oci.digest import Digest
from asyncrane.stores.files import PARTIAL, Extent, complaining, flock, sweep, unfinished, write_whole
from asyncrane.stores.imageindex import LARGEST_INDEX, ImageIndex

MARKER = b'{"imageLayoutVersion":"1.0.0"}'
"""The content of ``oci-layout``."""

_LARGEST_MARKER = 64 * 1024

_ATTEMPTS = 100
"""How often a layout is made that somebody else removes while it is being made."""


def blob_path(root: Path, digest: Digest) -> Path:
    """Where a blob is."""
    return root / "blobs" / digest.algorithm / digest.hex


def check_marker(body: bytes, where: str) -> None:
    """Whether the content of ``oci-layout`` is that of a layout we can read.

    :raises ContentError: when it is not
    """
    try:
        fields = msgspec.json.decode(body)
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError):
        fields = None
    version = fields.get("imageLayoutVersion") if isinstance(fields, dict) else None
    if not isinstance(version, str):
        raise ContentError(f"{where} is not an OCI layout: its oci-layout names no version")
    if version.partition(".")[0] != "1":
        raise ContentError(f"{where} is an OCI layout of version {version[:20]}; this reads 1.x")


def check_layout(root: Path) -> None:
    """Whether ``root`` is a layout that can be read.

    :raises NotFound: when there is no such directory
    :raises ContentError: when it is something else
    """
    with complaining(root):
        if not root.exists():
            raise NotFound(f"{root}: no such directory", status=404)
        if not root.is_dir():
            raise ContentError(f"{root} is not a directory (for a tar file: oci-archive:{root})")
    extent = Extent.file(root / "oci-layout")
    if extent is None:
        raise ContentError(f"{root} is not an OCI layout: it has no oci-layout file")
    with contextlib.closing(extent):
        marker = extent.read(min(extent.size, _LARGEST_MARKER))
    check_marker(marker, str(root))


def check_no_links(root: Path) -> None:
    """Whether the blobs of ``root`` are in it: what is written and removed there must not be somewhere else.

    :raises ContentError: when a symbolic link leads there
    """
    blobs = root / "blobs"
    with complaining(root):
        for directory in (blobs, *(blobs.iterdir() if blobs.is_dir() else ())):
            _refuse_link(directory)


def _refuse_link(directory: Path) -> None:
    if directory.is_symlink():
        raise ContentError(f"{directory} is a symbolic link, which is not followed")


def check_destination(root: Path) -> None:
    """Whether images can be written into ``root``: a layout, an empty directory, or nothing yet.

    :raises ContentError: when it is something else
    """
    with complaining(root):
        empty = not root.exists() or (root.is_dir() and not any(root.iterdir()))
    if not empty:
        check_layout(root)


def read_index(root: Path) -> ImageIndex:
    """What ``index.json`` says; nothing where there is none yet.

    :raises ContentError: when it cannot be used
    """
    extent = Extent.file(root / "index.json")
    if extent is None:
        return ImageIndex.empty(str(root))
    with contextlib.closing(extent):
        if extent.size > LARGEST_INDEX:
            raise ContentError(f"{root}: index.json has {extent.size} bytes, more than {LARGEST_INDEX}")
        return ImageIndex.read(extent.read(extent.size), str(root))


def index_version(root: Path) -> tuple[int, ...]:
    """Another value whenever another ``index.json`` has been put in place."""
    with complaining(root):
        try:
            status = (root / "index.json").stat()
        except FileNotFoundError:
            return ()
    return status.st_ino, status.st_mtime_ns, status.st_size


def change_index(root: Path, changes: Sequence[tuple[Descriptor, str | None]]) -> ImageIndex:
    """Add images by name, or list them without one, to what is there now, whoever else does the same (A7)."""
    with _alone(root / "oci-layout"):
        found = read_index(root)
        index = found
        for manifest, name in changes:
            index = index.adding(manifest, name)
        if index is not found or not (root / "index.json").exists():
            write_whole(root / "index.json", index.body(), durable=True)
        return index


@contextlib.contextmanager
def _alone(path: Path) -> Iterator[None]:
    with complaining(path):
        try:
            fd = os.open(path, os.O_RDWR | os.O_CLOEXEC)
        except PermissionError:
            fd = os.open(path, os.O_RDONLY | os.O_CLOEXEC)
    try:
        flock(fd, exclusive=True, wait=True)
        yield
    finally:
        os.close(fd)


class Lease:
    """The right to write into the layout ``root``, which is made if there is none. As long as it is held nobody removes
    blobs.
    """

    def __init__(self, root: Path) -> None:
        self._root = root
        self._made: list[Path] = []
        self._fd = -1
        check_no_links(root)
        with complaining(root):
            for attempt in range(_ATTEMPTS):
                try:
                    self._make(root / "blobs" / "sha256")
                    self._fd = _shared(root / "blobs")
                    break
                except FileNotFoundError:  # somebody else has given up, and removed what both of us had made
                    if attempt == _ATTEMPTS - 1:
                        raise
            try:
                _create(root / "oci-layout", MARKER)
            except BaseException:
                self.release()
                raise
            sweep(root)

    def blob_directory(self, algorithm: str) -> None:
        """Make the directory for blobs of ``algorithm``."""
        with complaining(self._root):
            self._make(self._root / "blobs" / algorithm)

    def _make(self, directory: Path) -> None:
        _refuse_link(directory)
        if directory.is_dir():
            return
        self._make(directory.parent)
        try:
            directory.mkdir()
        except FileExistsError:
            if not directory.is_dir():
                raise
        else:
            self._made.append(directory)

    def release(self) -> None:
        """Write no more. A layout that got no image, and that nobody else is writing, is removed again."""
        fd, self._fd = self._fd, -1
        if fd < 0:
            return
        try:
            if not (self._root / "index.json").exists() and flock(fd, exclusive=True, wait=False):
                self._remove()
        finally:
            os.close(fd)

    def _remove(self) -> None:
        with contextlib.suppress(OSError):
            for left in (*self._root.glob(f"{PARTIAL}*"), self._root / "oci-layout"):
                left.unlink(missing_ok=True)
            shutil.rmtree(self._root / "blobs")  # last: its lock is what others wait for
            for directory in reversed(self._made):
                if directory.exists():
                    directory.rmdir()

    def __del__(self) -> None:
        if self._fd >= 0:
            warnings.warn(f"unclosed layout {self._root}", ResourceWarning, source=self, stacklevel=2)
            os.close(self._fd)

    def __repr__(self) -> str:
        return f"Lease({str(self._root)!r}, {'held' if self._fd >= 0 else 'released'})"


@contextlib.contextmanager
def nobody_writes(root: Path) -> Iterator[None]:
    """Keep those who write through this module away.

    :raises InvalidInput: when somebody does
    """
    with complaining(root):
        try:
            fd = os.open(root / "blobs", os.O_RDONLY | os.O_CLOEXEC)
        except FileNotFoundError:
            yield
            return
    try:
        if not flock(fd, exclusive=True, wait=False):
            raise InvalidInput(f"{root} is being written by another process")
        yield
    finally:
        os.close(fd)


def _shared(directory: Path) -> int:
    """A descriptor of ``directory`` that shares the lock on it.

    :raises FileNotFoundError: when it has been removed meanwhile
    """
    fd = os.open(directory, os.O_RDONLY | os.O_CLOEXEC)
    try:
        flock(fd, exclusive=False, wait=True)
        here, there = os.fstat(fd), directory.stat()
        if (here.st_dev, here.st_ino) != (there.st_dev, there.st_ino):
            raise FileNotFoundError(errno.ENOENT, os.strerror(errno.ENOENT), str(directory))
    except BaseException:
        os.close(fd)
        raise
    return fd


def _create(path: Path, content: bytes) -> None:
    """Make ``path`` with all of its content, unless somebody else has."""
    if path.exists():
        return
    fd, beside = unfinished(path.parent)
    try:
        with os.fdopen(fd, "wb") as file:
            file.write(content)
            file.flush()
            os.link(beside, path)
    except FileExistsError:
        pass
    except OSError:  # a file system without hard links
        with contextlib.suppress(FileExistsError), path.open("xb") as file:
            file.write(content)
    finally:
        beside.unlink(missing_ok=True)
