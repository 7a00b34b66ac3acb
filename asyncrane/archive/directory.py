"""A directory as a tar that is the same every time: names sorted, owned by root, no times but those that
``SOURCE_DATE_EPOCH`` leaves (https://reproducible-builds.org/docs/archives), extended headers only where a name or a
size needs one (K5).
"""

from __future__ import annotations

import os
import stat
import tarfile
from collections.abc import Iterator
from pathlib import Path

from asyncrane.archive.compression import PIECE
from asyncrane.archive.packing import gathered
from asyncrane.errors import InvalidInput, NotFound

_BLOCK = 512
_TYPES = {
    stat.S_IFREG: tarfile.REGTYPE,
    stat.S_IFDIR: tarfile.DIRTYPE,
    stat.S_IFLNK: tarfile.SYMTYPE,
    stat.S_IFIFO: tarfile.FIFOTYPE,
    stat.S_IFCHR: tarfile.CHRTYPE,
    stat.S_IFBLK: tarfile.BLKTYPE,
}


def directory_tar(path: Path, *, newest: int = 0) -> Iterator[bytes]:
    """Everything in the directory ``path``, named from there; symbolic links are not followed. Files that were changed
    after ``newest`` (seconds since 1970) say that. For use in a thread.

    :raises InvalidInput: when something cannot be read, or is no kind of file that a tar can hold
    """
    return gathered(_Walk(path, newest).run())


def unreadable(path: Path | str, error: OSError) -> InvalidInput | NotFound:
    """The error for a file that cannot be read, or is not there."""
    said = f"cannot read {error.filename or path}: {error.strerror or error}"
    return NotFound(said, status=404) if isinstance(error, FileNotFoundError) else InvalidInput(said)


class _Walk:
    """One way through a directory. Files that are there under several names are there once."""

    def __init__(self, root: Path, newest: int) -> None:
        self._root = root
        self._newest = newest
        self._seen: dict[tuple[int, int], str] = {}

    def run(self) -> Iterator[bytes]:
        try:
            yield from self._below(str(self._root), "")
        except OSError as exc:
            raise unreadable(self._root, exc) from exc
        yield bytes(2 * _BLOCK)

    def _below(self, directory: str, name: str) -> Iterator[bytes]:
        with os.scandir(directory) as found:
            inside = sorted(found, key=lambda entry: os.fsencode(entry.name))
        for entry in inside:
            status = entry.stat(follow_symlinks=False)
            info = self._info(f"{name}{entry.name}", entry.path, status)
            yield info.tobuf(tarfile.PAX_FORMAT, "utf-8", "surrogateescape")
            if info.isdir():
                yield from self._below(entry.path, f"{name}{entry.name}/")
            elif info.isreg():
                yield from _content(entry.path, info.size)

    def _info(self, name: str, path: str, status: os.stat_result) -> tarfile.TarInfo:
        kind = _TYPES.get(stat.S_IFMT(status.st_mode))
        if kind is None:
            raise InvalidInput(f"{path} is a socket, which no tar can hold")
        info = tarfile.TarInfo(name)
        info.type, info.mode = kind, stat.S_IMODE(status.st_mode)
        info.mtime = min(int(status.st_mtime), self._newest)
        if status.st_nlink > 1 and kind != tarfile.DIRTYPE:
            first = self._seen.setdefault((status.st_dev, status.st_ino), name)
            if first != name:
                info.type, info.linkname = tarfile.LNKTYPE, first
                return info
        if kind == tarfile.REGTYPE:
            info.size = status.st_size
        elif kind == tarfile.SYMTYPE:
            info.linkname = os.readlink(path)  # noqa: PTH115  (a name that no Path has to hold)
        elif kind in (tarfile.CHRTYPE, tarfile.BLKTYPE):
            info.devmajor, info.devminor = os.major(status.st_rdev), os.minor(status.st_rdev)
        return info


def _content(path: str, size: int) -> Iterator[bytes]:
    """A file's bytes, as many as its header says."""
    left = size
    with open(path, "rb", buffering=0) as file:  # noqa: PTH123  (as above)
        while left:
            piece = file.read(min(left, PIECE))
            if not piece:
                raise InvalidInput(f"{path} became shorter while it was read")
            left -= len(piece)
            yield piece
    yield bytes(-size % _BLOCK)
