"""Archives that are compressed as a whole, as ``docker load`` takes them: gzip, zstd, xz, bzip2
(RFC 1952, RFC 8878, the .xz file format; docker/cli#4667).
"""

from __future__ import annotations

import bz2
import lzma
from typing import BinaryIO, Literal, TypeAlias, cast

from asyncrane.archive.compression import Expanded, Readable, sniff
from asyncrane.errors import ContentError

Outer: TypeAlias = Literal["plain", "gzip", "zstd", "xz", "bzip2"]

HEAD = 6
"""Bytes that :func:`sniff_archive` has to see."""

PLAUSIBLE = 500
"""Times its size that a compressed archive may expand to, once there are more than :data:`UNQUESTIONED` bytes."""

UNQUESTIONED = 1024 * 1024 * 1024

_XZ = b"\xfd7zXZ\0"
_BZIP2 = b"BZh"
_PIECE = 1024 * 1024
_XZ_MEMORY = 512 * 1024 * 1024
"""Bytes an xz file may have us allocate: ``xz -9`` takes 65 MiB, its format allows 4 GiB."""


def sniff_archive(head: bytes) -> Outer:
    """How an archive that begins with ``head`` is compressed."""
    if head.startswith(_XZ):
        return "xz"
    return "bzip2" if head.startswith(_BZIP2) and head[3:4].isdigit() else sniff(head)


class Unpacked:
    """What is inside the compressed archive ``raw``, read once from start to end. For use in a thread. Errors begin
    with ``name``.
    """

    def __init__(self, raw: Readable, outer: Outer, name: str) -> None:
        self._raw = _Counted(raw)
        self._name = name
        self._outer = outer
        self._given = 0
        self._inner: Readable = self._raw
        if outer == "xz":
            self._inner = _Xz(self._raw)
        elif outer == "bzip2":
            self._inner = bz2.BZ2File(cast("BinaryIO", self._raw), "rb")
        elif outer != "plain":
            self._inner = Expanded(self._raw, outer, name)

    def read(self, size: int, /) -> bytes:
        """Up to ``size`` bytes, none at the end.

        :raises ContentError: when the file is cut off or damaged, or expands beyond all that is plausible
        """
        try:
            data = self._inner.read(size)
        except EOFError as exc:
            raise ContentError(f"{self._name} ends in the middle of its {self._outer} data") from exc
        except (lzma.LZMAError, ValueError) as exc:
            raise ContentError(f"{self._name} has damaged {self._outer} data: {exc}") from exc
        except OSError as exc:
            if exc.errno is not None:
                raise
            raise ContentError(f"{self._name} has damaged {self._outer} data: {exc}") from exc
        self._given += len(data)
        if self._outer != "plain" and self._given > max(UNQUESTIONED, PLAUSIBLE * self._raw.count):
            raise ContentError(f"{self._name} expands to more than {PLAUSIBLE} times its size")
        return data


class _Counted:
    """Counts what is read of ``raw``."""

    def __init__(self, raw: Readable) -> None:
        self._raw = raw
        self.count = 0

    def read(self, size: int = _PIECE, /) -> bytes:
        data = self._raw.read(size)
        self.count += len(data)
        return data


class _Xz:
    """The streams of an .xz file as one; the module's own file object has no limit for the memory it takes."""

    def __init__(self, raw: Readable) -> None:
        self._raw = raw
        self._ahead = b""
        self._stream: lzma.LZMADecompressor | None = None

    def read(self, size: int, /) -> bytes:
        while self._stream is not None or self._begin():
            data = self._next(size)
            if data:
                return data
        return b""

    def _begin(self) -> bool:
        """Go on to the next stream, over what pads the last one; ``False`` when there is none."""
        while not (ahead := self._ahead.lstrip(b"\0")):
            self._ahead = self._raw.read(_PIECE)
            if not self._ahead:
                return False
        self._ahead = ahead
        self._stream = lzma.LZMADecompressor(lzma.FORMAT_XZ, memlimit=_XZ_MEMORY)
        return True

    def _next(self, size: int) -> bytes:
        stream = cast("lzma.LZMADecompressor", self._stream)
        if stream.needs_input and not self._ahead:
            self._ahead = self._raw.read(_PIECE)
            if not self._ahead:
                raise EOFError
        ahead, self._ahead = self._ahead, b""
        data = stream.decompress(ahead, size)
        if stream.eof:
            self._stream, self._ahead = None, stream.unused_data
        return data
