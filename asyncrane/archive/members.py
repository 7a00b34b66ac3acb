"""Tars being compressed: gzip members and zstd frames, made to be reproduced, with no name and no time (K5; RFC 1952,
RFC 8878).
"""

from __future__ import annotations

import struct
import sys
import zlib
from typing import Any, Protocol

from isal import isal_zlib

from asyncrane.archive.compression import PIECE

if sys.version_info >= (3, 14):
    from compression import zstd
else:
    from backports import zstd

GZIP_LEVELS = range(10)
"""zlib's levels: 0 stores, 1 is fastest, 9 smallest."""

ZSTD_LEVELS = range(1, 23)

_FASTEST = 1
_FLAGS = {None: 4, 0: 4, 1: 4, 9: 2}
"""Byte XFL by level: 4 says fastest, 2 smallest."""

_UNKNOWN_SYSTEM = 255

_ZSTD_LEVEL = 3
_ZSTD_WORKERS = 2
"""Threads of one compression. One gives the same bytes as many, none gives others (zstd.h, ``ZSTD_c_nbWorkers``)."""


class Member(Protocol):
    """A member or frame in the making."""

    def compress(self, data: bytes, /) -> bytes:
        """Take in ``data``; what is finished comes out."""
        ...

    def finish(self) -> bytes:
        """The rest."""
        ...


class Gzip:
    """Makes one gzip member, the same for the same content in whatever pieces it comes.

    At one of :data:`GZIP_LEVELS` it is as zlib makes it, the same on every processor. Without a ``level`` it is what
    ISA-L makes at its level 1, as small as zlib's fastest at eight times the speed: layers are compressed once, for one
    upload. Those bytes are the same for one version of it on one kind of processor; what is inside is always the same.
    """

    def __init__(self, level: int | None = None) -> None:
        self._deflate: Any = (
            isal_zlib.compressobj(_FASTEST, isal_zlib.DEFLATED, -isal_zlib.MAX_WBITS)
            if level is None
            else zlib.compressobj(level, zlib.DEFLATED, -zlib.MAX_WBITS)
        )
        self._checksum = 0
        self._size = 0
        self._held = b""
        self._head = b"\x1f\x8b\x08" + bytes(5) + bytes((_FLAGS.get(level, 0), _UNKNOWN_SYSTEM))

    def compress(self, data: bytes, /) -> bytes:
        """Take in ``data``; what is finished comes out."""
        self._checksum = isal_zlib.crc32(data, self._checksum)
        self._size += len(data)
        out = [self._head]
        self._head = b""
        at = 0
        if self._held:
            at = PIECE - len(self._held)
            self._held += data[:at]
            if len(self._held) < PIECE:
                return out[0]
            out.append(self._deflate.compress(self._held))
        # where it is told to stop is where it looks for repetitions anew: always after as many bytes
        while len(data) - at >= PIECE:
            whole = len(data) == PIECE and not at
            out.append(self._deflate.compress(data if whole else data[at : at + PIECE]))
            at += PIECE
        self._held = data[at:]
        return b"".join(out)

    def finish(self) -> bytes:
        """The rest."""
        rest, self._held = self._held, b""
        head, self._head = self._head, b""
        tail = struct.pack("<II", self._checksum, self._size & 0xFFFFFFFF)
        return b"".join((head, self._deflate.compress(rest), self._deflate.flush(), tail))


class Zstd:
    """Makes one zstd frame, with a checksum of its content. It depends on how the content is cut."""

    def __init__(self, level: int | None = None) -> None:
        parameter = zstd.CompressionParameter
        options: dict[int, int] = {
            parameter.compression_level: level or _ZSTD_LEVEL,
            parameter.checksum_flag: 1,
            parameter.nb_workers: _ZSTD_WORKERS,
        }
        self._compressor = zstd.ZstdCompressor(options=options)

    def compress(self, data: bytes, /) -> bytes:
        """Take in ``data``; what is finished comes out."""
        return self._compressor.compress(data)

    def finish(self) -> bytes:
        """The rest."""
        return self._compressor.flush()


class Plain:
    """Leaves everything as it is."""

    def compress(self, data: bytes, /) -> bytes:
        """``data``."""
        return data

    def finish(self) -> bytes:
        """Nothing."""
        return b""
