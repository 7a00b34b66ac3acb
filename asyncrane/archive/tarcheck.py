"""Whether what passes is a tar that can be a layer: whole, and nothing in it leads out of the image's root.

Only headers are looked at; content is stepped over, so that this keeps up with any stream and remembers nothing.
(POSIX.1-2001, "pax"; the GNU tar manual, "Basic Tar Format"; limits and header-only kinds as in Go's ``archive/tar``,
which is what layers are unpacked with.)
"""

from __future__ import annotations

from pathlib import PurePosixPath

from asyncrane.errors import ContentError

_BLOCK = 512
_ZEROS = bytes(_BLOCK)
_LARGEST_EXTENSION = 1024 * 1024

_HARD_LINK = b"1"
_HEADER_ONLY = b"123456"
_LONG_NAME, _LONG_LINK, _PAX, _PAX_GLOBAL, _SPARSE = b"L", b"K", b"x", b"g", b"S"
_EXTENSIONS = _LONG_NAME + _LONG_LINK + _PAX


class TarCheck:
    """Looks at a tar that passes in pieces; errors begin with ``name``."""

    def __init__(self, name: str) -> None:
        self._name = name
        self._held = bytearray()
        self._wanted = _BLOCK
        self._skip = 0
        self._zeros = 0
        self._seen = False
        self._extension = b""
        self._sparse = False
        self._said: dict[str, bytes] = {}

    def feed(self, piece: bytes) -> None:
        """The next bytes.

        :raises ContentError: when they are not a tar's, or an entry would be unpacked outside
        """
        at, end = 0, len(piece)
        while at < end and self._zeros < 2:
            if self._skip:
                passed = min(self._skip, end - at)
                self._skip -= passed
            elif not self._held and end - at >= self._wanted:
                passed = self._wanted
                self._take(piece[at : at + passed])
            else:
                passed = min(self._wanted - len(self._held), end - at)
                self._held += piece[at : at + passed]
                if len(self._held) == self._wanted:
                    block = bytes(self._held)
                    self._held.clear()
                    self._take(block)
            at += passed

    def finish(self) -> None:
        """No more bytes come. The two blocks of zeros at the end may be missing.

        :raises ContentError: when there was nothing, or it ends in the middle of an entry
        """
        if not self._seen:
            raise self._no_tar("it is empty" if not self._held else "it is too short for one")
        if self._held or self._skip or self._extension or self._said or self._sparse:
            raise self._no_tar("it ends in the middle of an entry")

    def _take(self, block: bytes) -> None:
        if self._extension:
            self._extend(block)
        elif self._sparse:
            self._sparse = bool(block[504])
        elif block == _ZEROS:
            self._seen = True
            self._zeros += 1
        elif self._zeros:
            raise self._no_tar("it goes on after its end")
        else:
            self._header(block)
            self._seen = True

    def _header(self, block: bytes) -> None:
        self._check_sum(block)
        kind, size = block[156:157], self._number(block[124:136])
        if kind in _EXTENSIONS:
            if size > _LARGEST_EXTENSION:
                raise self._no_tar(f"a header has {size} bytes")
            self._extension, self._expected = kind, size
            self._wanted = _padded(size) or _BLOCK
            if not size:
                self._extension, self._wanted = b"", _BLOCK
            return
        if kind == _PAX_GLOBAL:
            self._skip = _padded(size)
            return
        said, self._said = self._said, {}
        name = said.get("path") or _path(block)
        link = said.get("linkpath") or _text(block[157:257])
        if _leads_out(name) or (kind == _HARD_LINK and _leads_out(link)):
            shown = name.decode(errors="backslashreplace")
            raise ContentError(f"{self._name} has an entry that leads out of it: {shown!r}")
        if "size" in said:
            size = self._decimal(said["size"])
        self._sparse = kind == _SPARSE and bool(block[482])
        self._skip = 0 if kind in _HEADER_ONLY else _padded(size)

    def _extend(self, block: bytes) -> None:
        """Read what stands before an entry and is about it."""
        kind, content = self._extension, block[: self._expected]
        self._extension, self._wanted = b"", _BLOCK
        if kind == _PAX:
            self._said |= self._records(content)
        else:
            self._said["path" if kind == _LONG_NAME else "linkpath"] = content.rstrip(b"\0")

    def _records(self, content: bytes) -> dict[str, bytes]:
        """What matters of ``LENGTH KEY=VALUE\\n``, again and again."""
        found: dict[str, bytes] = {}
        at = 0
        while at < len(content):
            digits, space, _ = content[at : at + 20].partition(b" ")
            length = int(digits) if space and digits.isdigit() else 0
            key, equals, value = content[at + len(digits) + 1 : at + length].partition(b"=")
            if not equals or not value.endswith(b"\n"):
                raise self._no_tar("a header cannot be read")
            if key in (b"path", b"linkpath", b"size", b"GNU.sparse.name"):
                found[key.decode().replace("GNU.sparse.name", "path")] = value[:-1]
            at += length
        return found

    def _check_sum(self, block: bytes) -> None:
        """The sum of the header's bytes, its own field as spaces; old programs took bytes for signed."""
        said, field = self._number(block[148:156]), sum(block[148:156])
        added = sum(block) - field + 8 * 32
        if said != added and said != added - 256 * sum(byte > 127 for byte in block[:148] + block[156:]):
            raise self._no_tar("a header does not add up")

    def _number(self, field: bytes) -> int:
        """Octal digits, or, where those are too few, binary with the first bit set."""
        if field[0] & 0x80:
            if field[0] & 0x40:
                raise self._no_tar("an entry has a negative size")
            return int.from_bytes(field, "big") & ((1 << (8 * len(field) - 1)) - 1)
        digits = _text(field).strip()
        if digits and not all(48 <= digit < 56 for digit in digits):
            raise self._no_tar("a header has no number where one should be")
        return int(digits, 8) if digits else 0

    def _decimal(self, value: bytes) -> int:
        if not value.isdigit() or len(value) > 20:
            raise self._no_tar("an entry has a size that is no number")
        return int(value)

    def _no_tar(self, why: str) -> ContentError:
        return ContentError(f"{self._name} is not a tar archive, or is cut off: {why}")


def _path(block: bytes) -> bytes:
    name = _text(block[:100])
    prefix = _text(block[345:500]) if block[257:263] == b"ustar\0" else b""
    return prefix + b"/" + name if prefix else name


def _text(field: bytes) -> bytes:
    return field.partition(b"\0")[0]


def _leads_out(name: bytes) -> bool:
    if b".." not in name:
        return False
    depth = 0
    for part in PurePosixPath(name.decode(errors="surrogateescape")).parts:
        depth += -1 if part == ".." else part != "/"
        if depth < 0:
            return True
    return False


def _padded(size: int) -> int:
    return -(-size // _BLOCK) * _BLOCK
