"""The table of contents of an eStargz blob, and the footer that says where it is (stargz-snapshotter, docs/estargz.md).

Written entry by entry, as a layer may have more of them than are to be held in memory.
"""

from __future__ import annotations

import base64
import json
import struct
import tarfile
import tempfile
from collections.abc import Iterator
from datetime import UTC, datetime
from types import TracebackType
from typing import Any, Self

import msgspec

from asyncrane.archive.spool import not_written
from asyncrane.errors import ContentError
from asyncrane.oci.digest import Digest

TOC_NAME = "stargz.index.json"
PREFETCH_LANDMARK = ".prefetch.landmark"
NO_PREFETCH_LANDMARK = ".no.prefetch.landmark"
LANDMARK = b"\x0f"
"""What a landmark file holds."""

TOC_DIGEST = "containerd.io/snapshot/stargz/toc.digest"
"""The annotation of a layer's descriptor with the digest of its TOC, by which what is read of it can be verified."""

UNCOMPRESSED_SIZE = "io.containers.estargz.uncompressed-size"
"""The annotation with the size of the tar inside, which containers/storage wants to know."""

FOOTER_SIZE = 51
LEGACY_FOOTER_SIZE = 47
"""stargz, from before eStargz: the extra field is the offset, without a subfield's header."""

_IN_MEMORY = 16 * 1024 * 1024
_XATTR = "SCHILY.xattr."
_GZIP_EXTRA = b"\x1f\x8b\x08\x04\x00\x00\x00\x00\x00\xff"
_EMPTY_BLOCK = b"\x01\x00\x00\xff\xff" + bytes(8)  # nothing, stored; its checksum and its size
_MAGIC = b"STARGZ"

_TYPES = {
    tarfile.REGTYPE: "reg",
    tarfile.AREGTYPE: "reg",
    tarfile.CONTTYPE: "reg",
    tarfile.LNKTYPE: "hardlink",
    tarfile.SYMTYPE: "symlink",
    tarfile.DIRTYPE: "dir",
    tarfile.CHRTYPE: "char",
    tarfile.BLKTYPE: "block",
    tarfile.FIFOTYPE: "fifo",
}


class TocEntry(msgspec.Struct, frozen=True, rename="camel", omit_defaults=True):
    """One entry of a TOC: a file, or a further ``chunk`` of the regular file before it. Sizes and offsets in bytes;
    a ``chunk_size`` of 0 means up to the file's end.
    """

    name: str
    type: str
    size: int = 0
    modtime: str = ""
    link_name: str = ""
    mode: int = 0
    uid: int = 0
    gid: int = 0
    user_name: str = ""
    group_name: str = ""
    offset: int = 0
    inner_offset: int = 0
    dev_major: int = 0
    dev_minor: int = 0
    xattrs: dict[str, str] = {}
    digest: str = ""
    chunk_offset: int = 0
    chunk_size: int = 0
    chunk_digest: str = ""


def described(info: tarfile.TarInfo, layer: str) -> dict[str, Any]:
    """The JSON object of a tar entry, without what is known only once its content is written.

    :raises ContentError: for an entry of a kind that eStargz has none for; ``layer`` says where it is
    """
    kind = _TYPES.get(info.type)
    if kind is None:
        raise ContentError(
            f"{layer} cannot be eStargz: {info.name!r} is an entry of type {info.type.decode('latin-1')!r}"
        )
    fields: dict[str, Any] = {"name": info.name + "/" if kind == "dir" else info.name, "type": kind}
    if kind == "reg" and info.size:
        fields["size"] = info.size
    if modified := _time(info.mtime):
        fields["modtime"] = modified
    if kind in ("hardlink", "symlink"):
        fields["linkName"] = info.linkname
    fields |= {"mode": info.mode, "uid": info.uid, "gid": info.gid}
    if info.uname:
        fields["userName"] = info.uname
    if info.gname:
        fields["groupName"] = info.gname
    if kind in ("char", "block"):
        fields |= {"devMajor": info.devmajor, "devMinor": info.devminor}
    xattrs = {
        key.removeprefix(_XATTR): base64.b64encode(value.encode("utf-8", "surrogateescape")).decode()
        for key, value in info.pax_headers.items()
        if key.startswith(_XATTR)
    }
    if xattrs:
        fields["xattrs"] = xattrs
    return fields


def _time(seconds: float) -> str:
    """RFC 3339, to the second; nothing for none, and for what no calendar has."""
    whole = int(seconds + 0.5) if seconds >= 0 else -int(-seconds + 0.5)
    if not whole:
        return ""
    try:
        return datetime.fromtimestamp(whole, UTC).isoformat().replace("+00:00", "Z")
    except (ValueError, OverflowError, OSError):
        return ""


class Toc:
    """A TOC being written: ``with Toc() as toc``. A large one goes to a temporary file."""

    def __init__(self) -> None:
        self._file = tempfile.SpooledTemporaryFile(_IN_MEMORY)  # noqa: SIM115  (closed by __exit__)
        self._count = 0
        self.size = 0
        self._write(b'{"version":1,"entries":[')

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._file.close()

    def add(self, fields: dict[str, Any]) -> None:
        """The next entry."""
        text = json.dumps(fields, separators=(",", ":"))  # ASCII: names that are no UTF-8 can be said, too
        self._write(f"{',' if self._count else ''}\n{text}".encode())
        self._count += 1

    def finish(self, piece: int) -> Iterator[bytes]:
        """The whole JSON, whose size is :attr:`size` once this has been called, in pieces."""
        self._write(b"\n]}")
        self._file.seek(0)
        return iter(lambda: self._file.read(piece), b"")

    def _write(self, data: bytes) -> None:
        try:
            self._file.write(data)
        except OSError as exc:
            raise not_written(exc) from exc
        self.size += len(data)


def footer(offset: int) -> bytes:
    """The last :data:`FOOTER_SIZE` bytes of a blob whose TOC's gzip member begins at ``offset``."""
    subfield = b"%016x" % offset + _MAGIC
    field = b"SG" + struct.pack("<H", len(subfield)) + subfield
    return _GZIP_EXTRA + struct.pack("<H", len(field)) + field + _EMPTY_BLOCK


def toc_offset(tail: bytes, name: str) -> tuple[int, int]:
    """Where the TOC begins, and the size of the footer, of the blob that ends with ``tail``.

    :raises ContentError: when that is no footer
    """
    for size, start in ((FOOTER_SIZE, 16), (LEGACY_FOOTER_SIZE, 12)):
        end = tail[-size:]
        if len(end) != size or end[:4] != _GZIP_EXTRA[:4] or end[start + 16 : start + 22] != _MAGIC:
            continue
        if size == FOOTER_SIZE and end[12:16] != b"SG\x16\x00":
            continue
        offset = end[start : start + 16]
        if not all(digit in b"0123456789abcdefABCDEF" for digit in offset):
            break
        return int(offset, 16), size
    raise ContentError(f"{name} is not eStargz: it does not end with its footer")


def parse_toc(body: bytes, name: str) -> tuple[TocEntry, ...]:
    """The entries of the TOC ``body``.

    :raises ContentError: when it is none
    """
    try:
        toc = msgspec.convert(json.loads(body), type=_Toc)  # names that are no UTF-8 are JSON to this module only
    except (ValueError, RecursionError) as exc:
        raise ContentError(f"{name} has a damaged table of contents: {str(exc)[:120]}") from exc
    if toc.version != 1:
        raise ContentError(f"{name} has a table of contents of version {toc.version}")
    return toc.entries


class _Toc(msgspec.Struct, frozen=True):
    version: int
    entries: tuple[TocEntry, ...]


def toc_annotations(digest: Digest, size: int) -> dict[str, str]:
    """What a layer's descriptor says of its TOC and of the tar inside."""
    return {TOC_DIGEST: str.__str__(digest), UNCOMPRESSED_SIZE: str(size)}
