"""What is where in a tar file, so that its files can be read in any order and by many at once. Links are followed
inside the archive; nothing is ever unpacked.
"""

from __future__ import annotations

import os
import posixpath
import tarfile
from collections.abc import Callable
from typing import Any, BinaryIO, cast

import msgspec

from asyncrane.archive.compression import Readable
from asyncrane.archive.tarheader import StrictHeader, check_size
from asyncrane.errors import ContentError

_BUFFER = 1024 * 1024
_MOST_LINKS = 40


class Member(msgspec.Struct, frozen=True):
    """A file in the archive: where its ``size`` bytes begin."""

    offset: int
    size: int


class _Link(msgspec.Struct, frozen=True):
    target: str


class TarIndex:
    """The files and links of one archive, which errors call ``name``. Of several with one name the last counts, as when
    they are unpacked.
    """

    def __init__(self, name: str) -> None:
        self.name = name
        self._entries: dict[str, Member | _Link | None] = {}

    def find(self, path: str) -> Member | None:
        """The file called ``path``, or what a link of that name leads to; ``None`` when there is none.

        :raises ContentError: when the name or a link leads out of the archive or in a circle, or is of no regular file
        """
        seen = path
        for _ in range(_MOST_LINKS):
            inside = _inside(seen)
            if inside is None:
                raise ContentError(f"{self.name}: {path!r} leads out of the archive")
            found = self._entries.get(inside)
            if isinstance(found, _Link):
                seen = found.target
            elif found is None and inside in self._entries:
                raise ContentError(f"{self.name}: {path!r} is not a regular file")
            else:
                return found
        raise ContentError(f"{self.name}: the links of {path!r} lead in a circle")

    def member(self, path: str) -> Member:
        """As :meth:`find`.

        :raises ContentError: when there is none, too
        """
        found = self.find(path)
        if found is None:
            raise ContentError(f"{self.name} has no file {path!r}, which it says it has")
        return found

    def add(self, entry: tarfile.TarInfo) -> None:
        """Take in one entry."""
        name = _inside(entry.name)
        if name is None:
            return
        if entry.issym():
            target = posixpath.join(posixpath.dirname(name), entry.linkname)
            self._entries[name] = _Link(target)
        elif entry.islnk():
            self._entries[name] = _Link(entry.linkname)
        elif entry.isreg() and not entry.issparse():
            self._entries[name] = Member(entry.offset_data, entry.size)
        else:
            self._entries[name] = None

    def __contains__(self, path: str) -> bool:
        return _inside(path) in self._entries

    def __repr__(self) -> str:
        return f"TarIndex({self.name!r}, {len(self._entries)} entries)"


def _inside(path: str) -> str | None:
    """``path`` below the root of the archive, without detours; ``None`` when it is not there."""
    clean = posixpath.normpath(path.lstrip("/")) if path else "."
    return None if clean == ".." or clean.startswith("../") else clean


def index_file(file: BinaryIO, name: str, check: Callable[[], None]) -> TarIndex:
    """Index the tar ``file``, reading its headers only. ``check`` is called for each, to stop when it raises.

    :raises ContentError: when it is not a tar, or is cut off
    """
    return _index(file, "r:", name, check)


def index_stream(raw: Readable, keep: Callable[[bytes], object], name: str, check: Callable[[], None]) -> TarIndex:
    """Index the tar that is read from ``raw`` to its end, and let ``keep`` have all of it, so that offsets stay true.

    :raises ContentError: when it is not a tar, or is cut off
    """
    kept = _Kept(raw, keep)
    index = _index(cast("BinaryIO", kept), "r|", name, check)
    while raw.read(_BUFFER):  # what follows the end belongs to the compressed file, and its checksum may be there
        check()
    return index


class _Kept:
    """Keeps a copy of what is read."""

    def __init__(self, raw: Readable, keep: Callable[[bytes], object]) -> None:
        self._raw = raw
        self._keep = keep

    def read(self, size: int = _BUFFER, /) -> bytes:
        data = self._raw.read(size)
        self._keep(data)
        return data


def _index(file: BinaryIO, mode: str, name: str, check: Callable[[], None]) -> TarIndex:
    index = TarIndex(name)
    try:
        with cast("Any", tarfile).open(fileobj=file, mode=mode, bufsize=_BUFFER, tarinfo=StrictHeader) as tar:
            while (entry := tar.next()) is not None:
                check()
                check_size(entry)
                tar.members.clear()  # a million entries would be remembered
                index.add(entry)
    except tarfile.ReadError as exc:
        cut = "unexpected end" in str(exc) or "truncated" in str(exc)
        what = "is cut off" if cut else "is not a tar archive"
        raise ContentError(f"{name} {what}: {exc}") from exc
    except (tarfile.TarError, ValueError, OverflowError) as exc:
        raise ContentError(f"{name} is a damaged tar archive: {exc}") from exc
    return index


def read_at(descriptor: int, member: Member, start: int, size: int) -> bytes:
    """Up to ``size`` bytes of ``member`` from ``start`` on, from the archive open as ``descriptor``; none at its end.

    :raises ContentError: when the archive has become shorter than it was
    """
    wanted = min(size, member.size - start)
    if wanted <= 0:
        return b""
    data = os.pread(descriptor, wanted, member.offset + start)
    if not data:
        raise ContentError("the archive ends before the file it was to have")
    return data
