"""The compressions layers come in: told apart by their first bytes, and undone.

(RFC 1952 for gzip, RFC 8878 for zstd.)
"""

from __future__ import annotations

import sys
from collections.abc import Iterator
from typing import Any, Literal, Protocol, TypeAlias, cast

from isal import igzip_lib

from asyncrane.errors import ContentError

if sys.version_info >= (3, 14):
    from compression import zstd
else:
    from backports import zstd

Compression: TypeAlias = Literal["plain", "gzip", "zstd"]

MAGIC = 4
"""Bytes that :func:`sniff` has to see."""

_GZIP = b"\x1f\x8b"
_ZSTD = b"\x28\xb5\x2f\xfd"
_SKIPPABLE = b"\x2a\x4d\x18"
"""The last three bytes of the number of a frame that holds no content (RFC 8878, section 3.1.2)."""

_DAMAGED = (cast("type[Exception]", igzip_lib.IsalError), zstd.ZstdError)

PIECE = 1024 * 1024
"""Bytes that are compressed, or come out of what is expanded, at once."""


def sniff(head: bytes) -> Compression:
    """How a file that begins with ``head`` is compressed."""
    if head.startswith(_GZIP):
        return "gzip"
    if head.startswith(_ZSTD) or (head[1:4] == _SKIPPABLE and head[0] >> 4 == 5):
        return "zstd"
    return "plain"


class Readable(Protocol):
    """A file, as far as it is read from."""

    def read(self, size: int, /) -> bytes:
        """Up to ``size`` bytes, none at the end."""
        ...


class Expander:
    """Undoes a compression as the compressed bytes come; several members or frames are one file. Errors begin with
    ``name``. What comes out comes in pieces of :data:`PIECE` bytes at most, however much a few bytes stand for.
    """

    def __init__(self, compression: Compression, name: str) -> None:
        self._name = name
        self._compression = compression
        self._inner: Any = None
        self._began = False

    def feed(self, data: bytes) -> Iterator[bytes]:
        """What ``data`` stands for; to be read to its end.

        :raises ContentError: when it is damaged
        """
        if self._compression == "plain":
            if data:
                yield data
            return
        while data:
            if self._inner is None:
                data = self._begin(data)
                continue
            inner = self._inner
            piece = self._decompress(data)
            while True:
                if piece:
                    yield piece
                if inner.eof:
                    data, self._inner = inner.unused_data, None
                    break
                if inner.needs_input:
                    return
                piece = self._decompress(b"")

    def finish(self) -> None:
        """No more bytes come.

        :raises ContentError: when they should
        """
        if self._inner is not None:
            raise ContentError(f"{self._name} ends in the middle of its {self._compression} data")

    def _begin(self, data: bytes) -> bytes:
        """Begin a member or frame. Between members of gzip there may be zeros (``gzip.GzipFile`` and GNU gzip)."""
        if self._compression == "zstd":
            self._inner = zstd.ZstdDecompressor()
            return data
        if self._began and not (data := data.lstrip(b"\0")):
            return data
        if not data.startswith(_GZIP[: len(data)]):
            raise ContentError(f"{self._name} has damaged gzip data: something else follows it")
        self._began = True
        self._inner = igzip_lib.IgzipDecompressor(flag=igzip_lib.DECOMP_GZIP)
        return data

    def _decompress(self, data: bytes) -> bytes:
        try:
            piece: bytes = self._inner.decompress(data, PIECE)
        except _DAMAGED as exc:
            raise ContentError(f"{self._name} has damaged {self._compression} data: {exc}") from exc
        return piece


class Expanded:
    """What is inside the compressed file ``raw``, to be read once from start to end; several members or frames are one
    file. For use in a thread. Errors begin with ``name``.
    """

    def __init__(self, raw: Readable, compression: Compression, name: str) -> None:
        self._raw = raw
        self._expander = Expander(compression, name)
        self._pieces: Iterator[bytes] = iter(())
        self._piece = memoryview(b"")
        self._ended = False

    def read(self, size: int, /) -> bytes:
        """Up to ``size`` bytes, none at the end.

        :raises ContentError: when the file is cut off or damaged
        """
        while not self._piece and not self._ended:
            self._piece = memoryview(self._next())
        data, self._piece = bytes(self._piece[:size]), self._piece[size:]
        return data

    def _next(self) -> bytes:
        if piece := next(self._pieces, b""):
            return piece
        data = self._raw.read(PIECE)
        if data:
            self._pieces = self._expander.feed(data)
        else:
            self._ended = True
            self._expander.finish()
        return b""
