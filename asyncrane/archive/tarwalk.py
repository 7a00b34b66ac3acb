"""A tar's entries while it passes: what their headers say, and whether it is whole.

Only headers are looked at, a few microseconds for each; content is stepped over, so that this keeps up with any stream.
(POSIX.1-2001 "pax", GNU's long names and sparse files; limits and kinds without content as in Go's ``archive/tar``,
which crane and those who unpack layers read them with.)
"""

from __future__ import annotations

import zlib
from abc import ABC, abstractmethod
from typing import NamedTuple

from asyncrane.errors import ContentError

_BLOCK = 512
_LONGEST = 1024 * 1024
"""Bytes of an extended header that are read: a name longer than that is none."""

_LONGEST_NUMBER = 20
"""Digits of a size that is one: 64 bits."""

_WITHOUT_CONTENT = frozenset(b"123456")
"""Links, devices, directories, pipes: whatever their size says, nothing follows."""

_LONG_NAME, _LONG_LINK, _PAX, _PAX_GLOBAL, _SPARSE = b"LKxgS"
_ZEROS = bytes(_BLOCK)


class _Ahead(NamedTuple):
    """What is said of the entry to come."""

    name: bytes = b""
    link: bytes = b""
    size: int | None = None


_NOTHING = _Ahead()


class TarHeaders(ABC):
    """Goes through a tar that is fed piece by piece, and calls :meth:`entry` for each entry."""

    def __init__(self) -> None:
        self.blocks = 0
        """Headers that were read, and blocks of zeros at the end."""
        self._held = bytearray()
        self._need = _BLOCK
        self._skip = 0
        self._padding = 0
        self._ahead = _NOTHING
        self._extension = 0
        self._extension_size = 0
        self._zeros = 0
        self._more_sparse = False

    @abstractmethod
    def entry(self, kind: int, name: bytes, link: bytes) -> None:
        """One more entry; ``kind`` is its type flag."""

    def refusal(self, why: str) -> ContentError:
        """The error for what is no tar."""
        return ContentError(f"it is not a tar, or a damaged one: {why}")

    def feed(self, piece: bytes) -> None:
        """The next bytes.

        :raises ContentError: when they are not those of a tar
        """
        at, end = 0, len(piece)
        while at < end and self._zeros < 2:
            if self._skip:
                passed = min(self._skip, end - at)
                self._skip -= passed
            elif not self._held and end - at >= self._need:
                passed = self._need
                self._take(piece[at : at + passed])
            else:
                passed = min(self._need - len(self._held), end - at)
                self._held += piece[at : at + passed]
                if len(self._held) == self._need:
                    block = bytes(self._held)
                    self._held.clear()
                    self._take(block)
            at += passed

    def unfinished(self, *, padded: bool) -> bool:
        """Whether what has passed ends in the middle of an entry. The zeros at the end of a tar may be missing; those
        after the last entry too, unless it has to be ``padded``.
        """
        skipping = self._skip if padded else self._skip > self._padding
        return bool(self._held or skipping or self._extension or self._ahead != _NOTHING or self._more_sparse)

    def _take(self, block: bytes) -> None:
        if self._extension:
            self._extend(block)
        elif self._more_sparse:
            self._more_sparse = bool(block[504])
        elif block == _ZEROS:
            self.blocks += 1
            self._zeros += 1
        elif self._zeros:
            raise self.refusal("it goes on after its end")
        else:
            self._header(block)
            self.blocks += 1

    def _header(self, block: bytes) -> None:
        self._check_sum(block)
        kind, size = block[156], self._number(block[124:136])
        if kind in (_LONG_NAME, _LONG_LINK, _PAX):
            if size > _LONGEST:
                raise self.refusal(f"it has a header of {size} bytes")
            if size:
                self._extension, self._extension_size, self._need = kind, size, _padded(size)
            return
        if kind == _PAX_GLOBAL:
            self._step(size)
            return
        ahead, self._ahead = self._ahead, _NOTHING
        self.entry(kind, ahead.name or _name(block), ahead.link or _text(block[157:257]))
        self._more_sparse = kind == _SPARSE and bool(block[482])
        self._step(0 if kind in _WITHOUT_CONTENT else size if ahead.size is None else ahead.size)

    def _extend(self, block: bytes) -> None:
        """Read what stands before an entry and is about it."""
        content = block[: self._extension_size]
        if self._extension == _LONG_NAME:
            self._ahead = self._ahead._replace(name=content.rstrip(b"\0"))
        elif self._extension == _LONG_LINK:
            self._ahead = self._ahead._replace(link=content.rstrip(b"\0"))
        else:
            said = dict(self._records(content))
            self._ahead = _Ahead(
                said.get(b"GNU.sparse.name") or said.get(b"path") or self._ahead.name,
                said.get(b"linkpath") or self._ahead.link,
                self._decimal(said[b"size"]) if b"size" in said else self._ahead.size,
            )
        self._extension, self._need = 0, _BLOCK

    def _step(self, size: int) -> None:
        self._skip = _padded(size)
        self._padding = self._skip - size

    def _check_sum(self, block: bytes) -> None:
        """The sum of a header's bytes, its own field as spaces. Adler-32 has a sum modulo 65521 in its lower half, and
        is forty times as fast as adding up here.
        """
        said = self._number(block[148:156])
        added = (zlib.adler32(block) & 0xFFFF) - 1 - sum(block[148:156]) + 8 * 32
        if (said - added) % 65521 == 0:
            return
        signed = sum(byte - 256 if byte > 127 else byte for byte in block[:148] + block[156:]) + 8 * 32
        if said != signed:  # as old tars have it
            raise self.refusal("a header does not add up")

    def _number(self, field: bytes) -> int:
        """Octal digits, or, where those are too few, binary with the first bit set."""
        if field[0] & 0x80:
            if field[0] & 0x40:
                raise self.refusal("a header has a negative number")
            return int.from_bytes(field, "big") & ((1 << (8 * len(field) - 1)) - 1)
        digits = _text(field).strip()
        if digits and not all(48 <= digit < 56 for digit in digits):
            raise self.refusal("a header has no number where one should be")
        return int(digits, 8) if digits else 0

    def _decimal(self, value: bytes) -> int:
        if not value.isdigit() or len(value) > _LONGEST_NUMBER:
            raise self.refusal("an entry has a size that is no number")
        return int(value)

    def _records(self, content: bytes) -> list[tuple[bytes, bytes]]:
        """``LENGTH KEY=VALUE\\n`` again and again (POSIX.1-2001, pax, "Extended Header")."""
        found: list[tuple[bytes, bytes]] = []
        at = 0
        while at < len(content):
            digits, space, _ = content[at : at + 20].partition(b" ")
            length = int(digits) if space and digits.isdigit() else 0
            key, equals, value = content[at + len(digits) + 1 : at + length].partition(b"=")
            if not equals or not value.endswith(b"\n"):
                raise self.refusal("a header cannot be read")
            found.append((key, value[:-1]))
            at += length
        return found


class TarWalk(TarHeaders):
    """Counts entries. ``duplicate`` is the first name that is there twice, empty while there is none (crane's rule:
    names as they are written, directories too).
    """

    def __init__(self) -> None:
        super().__init__()
        self.entries = 0
        self.duplicate = ""
        self._names: set[bytes] = set()

    def entry(self, kind: int, name: bytes, link: bytes) -> None:
        """One more entry."""
        self.entries += 1
        if name in self._names and not self.duplicate:
            self.duplicate = name.decode(errors="backslashreplace")
        self._names.add(name)

    def finish(self) -> None:
        """There are no more bytes.

        :raises ContentError: when it ends in the middle of an entry
        """
        if self.unfinished(padded=False):
            raise ContentError("the tar is cut off")


def _name(block: bytes) -> bytes:
    name = _text(block[:100])
    prefix = _text(block[345:500]) if block[257:263] == b"ustar\0" else b""
    return prefix + b"/" + name if prefix else name


def _text(field: bytes) -> bytes:
    return field.partition(b"\0")[0]


def _padded(size: int) -> int:
    return -(-size // _BLOCK) * _BLOCK
