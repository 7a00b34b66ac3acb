"""Layers as eStargz: tars whose files can be read one by one out of the compressed blob, and verified one by one
(stargz-snapshotter, docs/estargz.md). For everybody else they are gzip layers.

The entries keep their order and their headers. A table of contents comes last, so that the tar inside is another one,
with another diff id.
"""

from __future__ import annotations

import hashlib
import posixpath
import tarfile
from collections.abc import Generator, Iterator
from typing import Any, Protocol

import msgspec

from asyncrane.archive.compression import Readable
from asyncrane.archive.estargz_toc import (
    LANDMARK,
    NO_PREFETCH_LANDMARK,
    PREFETCH_LANDMARK,
    TOC_NAME,
    Toc,
    described,
    footer,
    toc_annotations,
)
from asyncrane.archive.members import Gzip
from asyncrane.archive.tarcopy import BLOCK, Entry, entries
from asyncrane.oci.digest import Digest

CHUNK = 4 * 1024 * 1024
"""Bytes of a file that are compressed, and can be read and verified, by themselves."""

_RESERVED = frozenset({TOC_NAME, PREFETCH_LANDMARK, NO_PREFETCH_LANDMARK})
_PIECE = 1024 * 1024
_END = bytes(2 * BLOCK)


class Estargz(msgspec.Struct, frozen=True):
    """What an eStargz blob is: the digest of its TOC, and the digest and size in bytes of the tar inside."""

    toc_digest: Digest
    diff_id: Digest
    uncompressed_size: int

    @property
    def annotations(self) -> dict[str, str]:
        """What a layer's descriptor has to say of it."""
        return toc_annotations(self.toc_digest, self.uncompressed_size)


def estargz(
    tar: Readable, name: str, *, level: int | None = None, chunk: int = CHUNK
) -> Generator[bytes, None, Estargz]:
    """The plain ``tar`` as an eStargz blob, piece by piece; what it is comes last. For use in a thread.

    A TOC and landmarks of an earlier conversion are left out, so that converting twice gives the same bytes. ``name``
    begins errors, ``level`` is gzip's (``None``: fast), ``chunk`` the bytes of a file that can be read by themselves.

    :raises ContentError: when it is no tar, is cut off, or has an entry that eStargz cannot say
    """
    with Toc() as toc:
        writer = _Writer(toc, level, chunk)
        yield from writer.landmark()
        for entry in entries(tar, name):
            if posixpath.normpath(f"/{entry.info.name}").lstrip("/") in _RESERVED:
                _skip(entry)
            else:
                yield from writer.entry(entry.head, described(entry.info, name), entry)
        return (yield from writer.finish())


def _skip(entry: Entry) -> None:
    left = entry.size
    while left:
        left -= len(entry.read(min(left, _PIECE)))


class _Content(Protocol):
    @property
    def size(self) -> int: ...

    @property
    def padding(self) -> bytes: ...

    def read(self, size: int, /) -> bytes: ...


class _Landmark:
    """Says that nothing is worth reading ahead."""

    size = len(LANDMARK)
    padding = bytes(BLOCK - len(LANDMARK))

    def read(self, size: int, /) -> bytes:
        return LANDMARK


class _Writer:
    """Writes members, and notes in the TOC where they begin. What is written comes out in pieces worth the while."""

    def __init__(self, toc: Toc, level: int | None, chunk: int) -> None:
        self._toc = toc
        self._level = level
        self._chunk = chunk
        self._member = Gzip(level)
        self._open = False
        self._tar = hashlib.sha256()
        self._tar_size = 0
        self._at = 0
        self._pending = bytearray()

    def landmark(self) -> Iterator[bytes]:
        info = tarfile.TarInfo(NO_PREFETCH_LANDMARK)
        info.size, info.mode = len(LANDMARK), 0
        return self.entry(info.tobuf(tarfile.USTAR_FORMAT), described(info, ""), _Landmark())

    def entry(self, head: bytes, fields: dict[str, Any], content: _Content) -> Iterator[bytes]:
        """One entry of the tar; each chunk of its content begins a member."""
        self._add(head)
        if not content.size:
            if fields["type"] == "reg":
                fields["digest"] = str(Digest.of(b""))
            self._toc.add(fields)
            yield from self._ready()
            return
        digest, chunks = yield from self._chunks(content)
        self._toc.add({**fields, "digest": digest, **chunks[0]})
        for chunk in chunks[1:]:
            self._toc.add({"name": fields["name"], "type": "chunk", **chunk})
        self._add(content.padding)

    def _chunks(self, content: _Content) -> Generator[bytes, None, tuple[str, list[dict[str, Any]]]]:
        """Write the content; its digest comes back, and what the TOC says of each chunk."""
        found: list[dict[str, Any]] = []
        several = content.size > self._chunk
        whole, written = hashlib.sha256(), 0
        while written < content.size:
            data = content.read(min(self._chunk, content.size - written))
            self._end_member()
            fields: dict[str, Any] = {"offset": self._at}
            if written:
                fields["chunkOffset"] = written
            written += len(data)
            if written < content.size:
                fields["chunkSize"] = len(data)
            if several:
                whole.update(data)
            found.append({**fields, "chunkDigest": str(Digest.of(data))})
            self._add(data)
            yield from self._ready()
        return f"sha256:{whole.hexdigest()}" if several else found[0]["chunkDigest"], found

    def finish(self) -> Generator[bytes, None, Estargz]:
        """The TOC, the tar's end and the footer."""
        self._end_member()
        offset = self._at
        hashed, pieces = hashlib.sha256(), self._toc.finish(_PIECE)
        info = tarfile.TarInfo(TOC_NAME)
        info.size = self._toc.size
        self._add(info.tobuf(tarfile.GNU_FORMAT))
        for piece in pieces:
            hashed.update(piece)
            self._add(piece)
            yield from self._ready()
        self._add(bytes(-info.size % BLOCK) + _END)
        self._end_member()
        self._out(footer(offset))
        yield bytes(self._pending)
        toc_digest, diff_id = (Digest(f"sha256:{done.hexdigest()}") for done in (hashed, self._tar))
        return Estargz(toc_digest, diff_id, self._tar_size)

    def _add(self, data: bytes) -> None:
        """More of the tar, in the member that is open."""
        if data:
            self._open = True
            self._tar.update(data)
            self._tar_size += len(data)
            self._out(self._member.compress(data))

    def _end_member(self) -> None:
        if self._open:
            self._out(self._member.finish())
            self._member, self._open = Gzip(self._level), False

    def _out(self, data: bytes) -> None:
        self._at += len(data)
        self._pending += data

    def _ready(self) -> Iterator[bytes]:
        if len(self._pending) >= _PIECE:
            yield bytes(self._pending)
            self._pending.clear()
