"""A tar read entry by entry to be written again: each header as the bytes it had, and its content in pieces."""

from __future__ import annotations

import copy
import tarfile
from collections.abc import Iterator
from typing import IO, Any, BinaryIO, cast

from asyncrane.archive.compression import Readable
from asyncrane.archive.tarheader import StrictHeader, check_size
from asyncrane.errors import ContentError

BLOCK = 512
_BUFFER = 1024 * 1024
_SPARSE = "GNU.sparse."
_ENCODING, _ERRORS = "utf-8", "surrogateescape"


class Entry:
    """One entry. ``info`` is its header, read; ``head`` the blocks that say so, extended headers before it included.

    A sparse file is given as the ordinary one that it stands for.
    """

    def __init__(self, info: tarfile.TarInfo, head: bytes, content: IO[bytes], name: str) -> None:
        self.info = info
        self.head = head
        self._content = content
        self._name = name

    @property
    def size(self) -> int:
        """Bytes of content."""
        return self.info.size if self.info.isreg() else 0

    @property
    def padding(self) -> bytes:
        """What follows the content."""
        return bytes(-self.size % BLOCK)

    def read(self, size: int) -> bytes:
        """The next ``size`` bytes of content, exactly.

        :raises ContentError: when there are fewer
        """
        try:
            data = self._content.read(size)
        except (tarfile.TarError, ValueError, OverflowError) as exc:
            raise _damaged(self._name, exc) from exc
        if len(data) != size:
            raise ContentError(f"{self._name} is cut off in the middle of {self.info.name!r}")
        return data


def entries(tar: Readable, name: str) -> Iterator[Entry]:
    """The entries of ``tar``, each to be used before the next is asked for. Then all is read to the end. For use in a
    thread.

    :raises ContentError: when it is not a tar, or is cut off; the message begins with ``name``
    """
    window = _Window(tar)
    done = 0
    try:
        with tarfile.open(
            fileobj=cast("BinaryIO", window),
            mode="r|",
            bufsize=_BUFFER,
            tarinfo=StrictHeader,
            encoding=_ENCODING,
            errors=_ERRORS,
        ) as opened:
            reading = cast("Any", opened)
            while (info := opened.next()) is not None:
                check_size(info)
                reading.members.clear()  # a million entries would be remembered
                head = window.take(done, info.offset_data)
                window.floor = done = reading.offset
                if info.issparse():
                    yield Entry(_plain(info), _plain_head(info), cast("IO[bytes]", opened.extractfile(info)), name)
                else:
                    yield Entry(info, head, reading.fileobj, name)
    except (tarfile.TarError, ValueError, OverflowError) as exc:
        raise _damaged(name, exc) from exc
    while tar.read(_BUFFER):  # what follows the end belongs to the file, and its checksum may be there
        pass


def _damaged(name: str, error: Exception) -> ContentError:
    return ContentError(f"{name} is not a tar archive, or is cut off: {error}")


class _Window:
    """Remembers the bytes read from the offset ``floor`` on."""

    def __init__(self, raw: Readable) -> None:
        self.floor = 0
        self._raw = raw
        self._kept = bytearray()
        self._start = 0

    def read(self, size: int, /) -> bytes:
        data = self._raw.read(size)
        self._kept += data
        gone = min(self.floor - self._start, len(self._kept))
        if gone > 0:
            del self._kept[:gone]
            self._start += gone
        return data

    def take(self, start: int, end: int) -> bytes:
        """The bytes between two offsets."""
        return bytes(self._kept[start - self._start : end - self._start])


def _plain(info: tarfile.TarInfo) -> tarfile.TarInfo:
    """The header of a sparse file, as that of an ordinary one."""
    plain = copy.copy(info)
    plain.type, cast("Any", plain).sparse = tarfile.REGTYPE, None
    plain.pax_headers = {key: value for key, value in info.pax_headers.items() if not key.startswith(_SPARSE)}
    return plain


def _plain_head(info: tarfile.TarInfo) -> bytes:
    return _plain(info).tobuf(tarfile.PAX_FORMAT, _ENCODING, _ERRORS)
