"""A tar's entries while it passes: their names, read from the headers, and whether it is whole.

Only headers are looked at, a few microseconds for each; content is stepped over. (POSIX.1-2001 "pax", GNU's long names
and sparse files; as in Go's ``archive/tar``, which crane reads layers with.)
"""

from __future__ import annotations

import zlib
from typing import NamedTuple

from asyncrane.errors import ContentError

_BLOCK = 512
_LONGEST = 1024 * 1024
"""Bytes of an extended header that are read: a name longer than that is none."""

_WITHOUT_CONTENT = frozenset(b"123456")
"""Links, devices, directories, pipes: whatever their size says, nothing follows."""

_LONG_NAME, _LONG_LINK, _PAX, _PAX_GLOBAL, _SPARSE = b"LKxgS"
_ZEROS = bytes(_BLOCK)


class TarWalk:
    """Goes through a tar that is fed piece by piece. ``duplicate`` is the first name that is there twice, empty while
    there is none (crane's rule: names as they are written, directories too).
    """

    def __init__(self) -> None:
        self.entries = 0
        self.duplicate = ""
        self._names: set[bytes] = set()
        self._rest = b""
        self._skip = 0
        self._padding = 0
        self._need = _BLOCK
        self._about = _NOTHING
        self._extension = 0
        self._extension_size = 0
        self._zeros = 0
        self._more_sparse = False
        self._ended = False

    def feed(self, piece: bytes) -> None:
        """The next bytes.

        :raises ContentError: when they are not those of a tar
        """
        if self._ended:
            return
        if self._rest:
            piece, self._rest = self._rest + piece, b""
        at, end = 0, len(piece)
        while at < end and not self._ended:
            if self._skip:
                step = min(self._skip, end - at)
                self._skip -= step
                at += step
            elif end - at < self._need:
                self._rest = piece[at:]
                return
            else:
                block = piece[at : at + self._need]
                at += self._need
                self._take(block)

    def finish(self) -> None:
        """There are no more bytes. The zeros at the end, and those after the last entry, may be missing.

        :raises ContentError: when it ends in the middle of an entry
        """
        if self._rest or self._skip > self._padding or self._extension or self._about.said or self._more_sparse:
            raise ContentError("the tar is cut off")

    def _take(self, block: bytes) -> None:
        if self._extension:
            self._extend(block)
        elif self._more_sparse:
            self._more_sparse = bool(block[504])
        elif block == _ZEROS:
            self._zeros += 1
            self._ended = self._zeros == 2
        elif self._zeros:
            raise ContentError("the tar goes on after its end")
        else:
            self._header(block)

    def _header(self, block: bytes) -> None:
        _check_sum(block)
        kind, size = block[156], _number(block[124:136])
        if kind in (_LONG_NAME, _PAX):
            if size > _LONGEST:
                raise ContentError(f"the tar has a header of {size} bytes")
            if size:
                self._extension, self._extension_size, self._need = kind, size, _padded(size)
            return
        if kind in (_LONG_LINK, _PAX_GLOBAL):
            self._step(size)
            return
        about, self._about = self._about, _NOTHING
        self._note(about.name or _name(block))
        self._more_sparse = kind == _SPARSE and bool(block[482])
        self._step(0 if kind in _WITHOUT_CONTENT else size if about.size is None else about.size)

    def _extend(self, block: bytes) -> None:
        """Read what stands before an entry and is about it."""
        content = block[: self._extension_size]
        if self._extension == _LONG_NAME:
            self._about = _Ahead(content.rstrip(b"\0"), self._about.size)
        else:
            records = dict(_records(content))
            name = records.get(b"GNU.sparse.name") or records.get(b"path") or self._about.name
            size = _decimal(records[b"size"]) if b"size" in records else self._about.size
            self._about = _Ahead(name, size)
        self._extension, self._need = 0, _BLOCK

    def _note(self, name: bytes) -> None:
        self.entries += 1
        if name in self._names and not self.duplicate:
            self.duplicate = name.decode(errors="backslashreplace")
        self._names.add(name)

    def _step(self, size: int) -> None:
        self._skip = _padded(size)
        self._padding = self._skip - size


class _Ahead(NamedTuple):
    """What is said of the entry to come."""

    name: bytes = b""
    size: int | None = None

    @property
    def said(self) -> bool:
        return bool(self.name) or self.size is not None


_NOTHING = _Ahead()


def _check_sum(block: bytes) -> None:
    """The sum of a header's bytes, its own field as spaces. Adler-32 has a sum modulo 65521 in its lower half, and is
    forty times as fast as adding up here.
    """
    said = _number(block[148:156])
    added = (zlib.adler32(block) & 0xFFFF) - 1 - sum(block[148:156]) + 8 * 32
    if (said - added) % 65521 == 0:
        return
    signed = sum(byte - 256 if byte > 127 else byte for byte in block[:148] + block[156:]) + 8 * 32
    if said != signed:  # as old tars have it
        raise ContentError("it is not a tar, or a damaged one")


def _name(block: bytes) -> bytes:
    name = block[:100].partition(b"\0")[0]
    if block[257:263] == b"ustar\0":
        prefix = block[345:500].partition(b"\0")[0]
        return prefix + b"/" + name if prefix else name
    return name


def _number(field: bytes) -> int:
    """Octal digits, or, where those are too few, binary with the first bit set."""
    if field[0] & 0x80:
        number = int.from_bytes(field, "big", signed=False) & ((1 << (8 * len(field) - 1)) - 1)
        if field[0] & 0x40:
            raise ContentError("it is not a tar, or a damaged one")  # a negative number
        return number
    digits = field.partition(b"\0")[0].strip()
    try:
        return int(digits, 8) if digits else 0
    except ValueError:
        raise ContentError("it is not a tar, or a damaged one") from None


def _decimal(value: bytes) -> int:
    if not value.isdigit():
        raise ContentError("the tar has an entry whose size is no number")
    return int(value)


def _records(content: bytes) -> list[tuple[bytes, bytes]]:
    """``LENGTH KEY=VALUE\\n`` again and again (POSIX.1-2001, pax, "Extended Header")."""
    found: list[tuple[bytes, bytes]] = []
    at = 0
    while at < len(content):
        digits, space, _ = content[at : at + 20].partition(b" ")
        length = int(digits) if space and digits.isdigit() else 0
        record = content[at + len(digits) + 1 : at + length]
        key, equals, value = record.partition(b"=")
        if not equals or not value.endswith(b"\n"):
            raise ContentError("the tar has a header that cannot be read")
        found.append((key, value[:-1]))
        at += length
    return found


def _padded(size: int) -> int:
    return -(-size // _BLOCK) * _BLOCK
