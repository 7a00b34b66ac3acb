"""Reading eStargz: one file out of a blob without the rest, everything checked against the table of contents
(stargz-snapshotter, docs/estargz.md, "Content Verification in eStargz").
"""

from __future__ import annotations

import hashlib
import posixpath
import tarfile
from collections.abc import Callable, Iterator, Sequence
from typing import BinaryIO, cast

from asyncrane.archive.compression import Expanded
from asyncrane.archive.estargz_toc import FOOTER_SIZE, TOC_NAME, TocEntry, parse_toc, toc_offset
from asyncrane.errors import ContentError, DigestMismatch, NotFound
from asyncrane.oci.digest import Digest

ReadAt = Callable[[int, int], bytes]
"""Reads up to a number of bytes (the second) from an offset (the first) on; none at the end."""

LARGEST_TOC = 256 * 1024 * 1024
"""Bytes of a TOC that are read."""

_MOST_LINKS = 40
_PIECE = 1024 * 1024


class EstargzReader:
    """An eStargz blob of ``size`` bytes that ``read_at`` reads from. For use in a thread. Errors begin with ``name``.

    :raises ContentError: when it is none, or not the one whose TOC has the digest ``toc_digest``
    """

    def __init__(self, read_at: ReadAt, size: int, name: str, *, toc_digest: Digest | None = None) -> None:
        self._read_at = read_at
        self._name = name
        tail = read_at(max(size - FOOTER_SIZE, 0), FOOTER_SIZE)
        self._end, footer_size = toc_offset(tail, name)
        if self._end > size - footer_size:
            raise ContentError(f"{name} is not eStargz: its table of contents would begin behind its end")
        body = self._toc(size - footer_size)
        self.toc_digest = Digest.of(body)
        if toc_digest is not None and toc_digest != self.toc_digest:
            raise DigestMismatch(
                f"{name}: its table of contents has the digest {self.toc_digest!s}, not {toc_digest!s}"
            )
        self.entries = parse_toc(body, name)
        self._files = self._indexed()

    def names(self) -> list[str]:
        """What is in the layer, as the tar says it, each name once, in the order of its first entry."""
        return list(self._files)

    def entry(self, name: str) -> TocEntry:
        """What the TOC says of ``name``.

        :raises NotFound: when there is nothing of that name
        """
        return self._found(name)[0]

    def read(self, name: str) -> bytes:
        """The content of a regular file or of what a hard link leads to, checked.

        :raises NotFound: when there is none of that name
        :raises ContentError: when it is another than the TOC says
        """
        chunks = self._found(name)
        for _ in range(_MOST_LINKS):
            if chunks[0].type != "hardlink":
                break
            chunks = self._found(chunks[0].link_name)
        if chunks[0].type != "reg":
            raise NotFound(f"{self._name}: {name!r} is no file")
        return b"".join(piece for chunk in self._sized(chunks) for piece in self._chunk(*chunk))

    def verify(self) -> int:
        """Read everything, and check each chunk and each file. Returns the number of chunks.

        :raises ContentError: when one is another than the TOC says, or has no digest
        """
        count = 0
        for chunks in self._runs():
            whole = hashlib.sha256()
            for chunk in self._sized(chunks):
                count += 1
                for piece in self._chunk(*chunk):
                    whole.update(piece)
            said = chunks[0].digest
            if said and said != f"sha256:{whole.hexdigest()}":
                raise DigestMismatch(f"{self._name}: {chunks[0].name!r} is not what its table of contents says")
        return count

    def _toc(self, end: int) -> bytes:
        expanded = Expanded(_Range(self._read_at, self._end, end), "gzip", self._name)
        try:
            with tarfile.open(fileobj=cast("BinaryIO", expanded), mode="r|") as tar:
                entry = tar.next()
                if entry is None or entry.name != TOC_NAME or entry.size > LARGEST_TOC:
                    raise ContentError(f"{self._name} has no table of contents where its footer says")
                file = tar.extractfile(entry)
                body = file.read() if file is not None else b""
        except (tarfile.TarError, ValueError, OverflowError) as exc:
            raise ContentError(f"{self._name} has a damaged table of contents: {exc}") from exc
        if len(body) != entry.size:
            raise ContentError(f"{self._name} has a table of contents that is cut off")
        return body

    def _runs(self) -> Iterator[list[TocEntry]]:
        """Every regular file that has content, with its chunks."""
        run: list[TocEntry] = []
        for entry in self.entries:
            if entry.type == "chunk" and run:
                run.append(entry)
            elif run:
                yield run
                run = []
            if entry.type == "reg" and entry.size:
                run = [entry]
        if run:
            yield run

    def _indexed(self) -> dict[str, list[TocEntry]]:
        """Of several with one name the last counts, as when they are unpacked."""
        found: dict[str, list[TocEntry]] = {}
        last: list[TocEntry] = []
        for entry in self.entries:
            if entry.type == "chunk":
                last.append(entry)
            else:
                last = found[_clean(entry.name)] = [entry]
        return found

    def _found(self, name: str) -> list[TocEntry]:
        found = self._files.get(_clean(name))
        if found is None:
            raise NotFound(f"{self._name} has no {name!r}")
        return found

    def _sized(self, chunks: Sequence[TocEntry]) -> Iterator[tuple[TocEntry, int]]:
        """Each chunk with the number of its bytes, when they are the file one after the other."""
        size, at = chunks[0].size, 0
        for chunk in chunks if size else ():
            length = chunk.chunk_size or size - chunk.chunk_offset
            if chunk.chunk_offset != at or length <= 0 or at + length > size:
                raise ContentError(f"{self._name}: the chunks of {chunks[0].name!r} do not make a file")
            at += length
            yield chunk, length
        if at != size:
            raise ContentError(f"{self._name}: the chunks of {chunks[0].name!r} do not make a file")

    def _chunk(self, chunk: TocEntry, size: int) -> Iterator[bytes]:
        """The bytes of one chunk; the check comes before the last are given."""
        what = f"{self._name}: {size} bytes at {chunk.offset}"
        member = Expanded(_Range(self._read_at, chunk.offset, self._end), "gzip", what)
        hashed, left, skip = hashlib.sha256(), size, chunk.inner_offset
        while skip and (data := member.read(min(skip, _PIECE))):
            skip -= len(data)
        while left:
            data = member.read(min(left, _PIECE))
            if not data:
                raise ContentError(f"{what} are not there")
            hashed.update(data)
            left -= len(data)
            if not left and f"sha256:{hashed.hexdigest()}" != (chunk.chunk_digest or chunk.digest):
                raise DigestMismatch(f"{what} are not what the table of contents says")
            yield data


def _clean(name: str) -> str:
    return posixpath.normpath(f"/{name}").lstrip("/")


class _Range:
    """A part of the blob, as a file."""

    def __init__(self, read_at: ReadAt, start: int, end: int) -> None:
        self._read_at = read_at
        self._at = start
        self._end = end

    def read(self, size: int = _PIECE, /) -> bytes:
        data = self._read_at(self._at, min(size, self._end - self._at)) if self._at < self._end else b""
        self._at += len(data)
        return data
