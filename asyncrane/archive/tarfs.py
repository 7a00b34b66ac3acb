"""Tar streams as layers have them: one entry after another, in bounded memory, and every entry as it was written, so
that whatever its header says (times, owners, extended attributes, holes) comes out again unless it is renamed.

(POSIX.1-2017, pax, "pax Interchange Format" and "ustar Interchange Format"; GNU tar's manual, "Basic Tar Format".)
"""

from __future__ import annotations

import re
import zlib
from collections.abc import Iterator, Sequence
from typing import TypeAlias

from asyncrane.archive.compression import Readable
from asyncrane.errors import ContentError

BLOCK = 512
"""Bytes in a block, of which an archive is made."""
END = bytes(2 * BLOCK)
"""What an archive ends with."""

FILE, LINK, SYMLINK, DIRECTORY = b"0", b"1", b"2", b"5"
"""What an entry can be, by its type flag; ``LINK`` is a hard link. Devices and pipes are b"3", b"4" and b"6"."""
LABEL = b"V"
"""An entry that names the archive and stands for no file."""

Records: TypeAlias = Sequence[tuple[bytes, bytes]]
"""The extended header records of an entry, in order; sparse files of old repeat keys."""

_LARGEST = 1024 * 1024
"""Bytes of extended header or long name that are read."""
_CHUNK = 1024 * 1024

_LONG = frozenset((b"x", b"g", b"L", b"K"))
_FILES = frozenset((FILE, b"\0", b"7"))
_BARE = frozenset((LINK, SYMLINK, b"3", b"4", DIRECTORY, b"6"))
"""Kinds without content, whatever size they say."""
_SPARSE = b"S"
_POSIX, _GNU = b"ustar\x0000", b"ustar  \0"
_ODD = re.compile(rb"(?:^|/)\.{0,2}(?:/|$)")
_RECORD = re.compile(rb"([1-9][0-9]{0,7}) ")


class Entry:
    """One entry: ``kind`` (:data:`FILE`, ...), the cleaned ``path`` (empty for the root), for links the target
    ``link`` as it is written, and the ``size`` in bytes of the content that follows.
    """

    __slots__ = ("_blocks", "_header", "_name", "_records", "kind", "link", "path", "size")

    def __init__(
        self, kind: bytes, name: bytes, link: bytes, size: int, header: bytes, records: Records, blocks: bytes
    ) -> None:
        self.kind = kind
        self.path = cleaned(name)
        self.link = link
        self.size = size
        self._name = name
        self._header = header
        self._records = records
        self._blocks = blocks

    def at(self, path: bytes) -> bytes:
        """The blocks to write before the content, for the name ``path``: those that were read unless that is new."""
        name = (path or b".") + b"/" if self.kind == DIRECTORY else path
        if name == self._name and self._blocks:
            return self._blocks
        return _written(self._header, self._records, name, self.link)

    def linked(self, path: bytes, target: bytes) -> bytes:
        """The blocks of a hard link ``path`` to this file, which is at ``target``."""
        header = bytearray(self._header[:BLOCK])
        header[124:136] = b"00000000000\0"
        header[156:157] = LINK
        header[157:257] = bytes(100)
        if header[257:265] == _GNU:
            header[345:] = bytes(BLOCK - 345)
        records = [r for r in self._records if r[0] not in _OF_CONTENT and not r[0].startswith(b"GNU.sparse.")]
        return _written(bytes(header), records, path, target)


_OF_CONTENT = (b"path", b"linkpath", b"size")


class TarReader:
    """Goes through the tar that ``raw`` holds, once. For use in a thread. Errors begin with ``name``."""

    def __init__(self, raw: Readable, name: str) -> None:
        self._raw = raw
        self._name = name
        self._buffer = b""
        self._at = 0
        self._left = 0
        self._padding = 0
        self._globals: dict[bytes, bytes] = {}

    def next(self) -> Entry | None:
        """The next entry, past what has not been read of the last one's content; ``None`` at the end.

        :raises ContentError: when there is something else, or the file ends too soon
        """
        self._skip()
        blocks: list[bytes] = []
        own: list[tuple[bytes, bytes]] = []
        name = link = b""
        while (header := self._header()) is not None:
            kind = header[156:157]
            if kind in _LONG:
                content = self._extension(header, blocks)
                if kind == b"x":
                    own = self._records(content)
                elif kind == b"g":
                    self._globals |= dict(self._records(content))
                    blocks.clear()  # it is said of every entry from now on, and by each of them
                elif kind == b"L":
                    name = content.partition(b"\0")[0]
                else:
                    link = content.partition(b"\0")[0]
                continue
            blocks.append(header)
            try:
                return self._entry(header, blocks, own, name, link)
            except ValueError as exc:
                raise ContentError(f"{self._name} has an entry that cannot be used: {exc}") from exc
        if blocks:
            raise self._cut_off()
        return None

    def content(self) -> Iterator[bytes]:
        """The content of the entry that :meth:`next` gave, filled up to whole blocks.

        :raises ContentError: when the file ends too soon
        """
        while self._left:
            if self._at == len(self._buffer):
                self._fill()
            piece = self._buffer[self._at : self._at + self._left]
            self._at += len(piece)
            self._left -= len(piece)
            yield piece

    def drain(self) -> None:
        """Read what is behind the end, too."""
        self._buffer, self._at = b"", 0
        while self._raw.read(_CHUNK):
            pass

    def _entry(self, header: bytes, blocks: list[bytes], own: Records, name: bytes, link: bytes) -> Entry:
        kind, size = header[156:157], number(header[124:136])
        records = own
        if self._globals:
            mine = {key for key, _ in own}
            records = [*((k, v) for k, v in self._globals.items() if k not in mine and k != b"comment"), *own]
        if records:
            said = {key: value for key, value in records if value}
            name = said.get(b"GNU.sparse.name") or said.get(b"path") or name
            link = said.get(b"linkpath") or link
            size = _decimal(said[b"size"]) if b"size" in said else size
            if b"\0" in name or b"\0" in link:
                raise ValueError(f"{_shown(name)} has a name that cannot be")
        name = name or _name(header)
        link = (link or _text(header[157:257])) if kind in (LINK, SYMLINK) else b""
        if kind == b"\0" and name.endswith(b"/"):
            kind = DIRECTORY
        elif kind in _FILES:
            kind = FILE
        elif kind == _SPARSE:
            kind, header = FILE, header + self._map(header, blocks)
        elif kind not in _BARE and kind != LABEL:
            raise ValueError(f"{_shown(name)} is of a kind that layers do not have ({_shown(kind)})")
        if size < 0:
            raise ValueError(f"{_shown(name)} has a size that cannot be")
        size = 0 if kind in _BARE else size
        self._padding = -size % BLOCK
        self._left = size + self._padding
        whole = blocks[0] if len(blocks) == 1 else b"".join(blocks)
        return Entry(kind, name, link, size, header, records, b"" if self._globals else whole)

    def _header(self) -> bytes | None:
        """The next header block; ``None`` where the archive ends."""
        if self._at == len(self._buffer):
            self._buffer, self._at = self._raw.read(_CHUNK), 0
            if not self._buffer:
                return None
        block = self._take(BLOCK)
        if _is_header(block):
            return block
        if block.strip(b"\0"):
            raise ContentError(f"{self._name} is not a tar archive, or is damaged: a header has a wrong checksum")
        return None

    def _extension(self, header: bytes, blocks: list[bytes]) -> bytes:
        """What a header that belongs to the next one says."""
        try:
            size = number(header[124:136])
        except ValueError:
            size = -1
        if not 0 <= size <= _LARGEST:
            raise ContentError(f"{self._name} has a header of {size} bytes, more than the {_LARGEST} that are read")
        content = self._take(-(-size // BLOCK) * BLOCK)
        blocks += header, content
        return content[:size]

    def _records(self, content: bytes) -> list[tuple[bytes, bytes]]:
        """The records ``LENGTH KEY=VALUE\\n`` of an extended header."""
        found: list[tuple[bytes, bytes]] = []
        at = 0
        while at < len(content) and content[at]:
            length = _RECORD.match(content, at)
            end = at + int(length[1]) if length else 0
            key, equals, value = content[length.end() : end - 1].partition(b"=") if length else (b"", b"", b"")
            if not key or not equals or end > len(content) or content[end - 1] != 0x0A:
                raise ContentError(f"{self._name} has an extended header that cannot be read")
            found.append((key, value))
            at = end
        return found

    def _map(self, header: bytes, blocks: list[bytes]) -> bytes:
        """The rest of the map of a sparse file in GNU's old format (its manual, "Storing Sparse Files")."""
        more: list[bytes] = []
        further = header[482]
        while further:
            more.append(self._take(BLOCK))
            further = more[-1][504]
            if len(more) * BLOCK > _LARGEST:
                raise ValueError("a sparse file has too many holes")
        blocks += more
        return b"".join(more)

    def _take(self, size: int) -> bytes:
        end = self._at + size
        while end > len(self._buffer):
            more = self._raw.read(_CHUNK)
            if not more:
                raise self._cut_off()
            self._buffer, end, self._at = self._buffer[self._at :] + more, size, 0
        taken, self._at = self._buffer[self._at : end], end
        return taken

    def _skip(self) -> None:
        while self._left > len(self._buffer) - self._at:
            self._left -= len(self._buffer) - self._at
            self._fill()
        self._at += self._left
        self._left = 0

    def _fill(self) -> None:
        self._buffer, self._at = self._raw.read(_CHUNK), 0
        if not self._buffer and self._left > self._padding:
            raise self._cut_off()
        self._buffer = self._buffer or bytes(self._left)  # what the last block is filled up with may be missing

    def _cut_off(self) -> ContentError:
        return ContentError(f"{self._name} is not a tar archive, or is cut off: it ends in the middle of an entry")


def plain_directory(path: bytes) -> bytes:
    """The blocks of a directory of which nothing is known."""
    return _written(bytes(_headed(DIRECTORY, b"", b"0000755\0", 0, _POSIX)), (), path + b"/", b"")


def cleaned(name: bytes) -> bytes:
    """``name`` as a path below the root, without what does not count: ``./a//b/`` and ``/a/b`` are ``a/b``.

    :raises ValueError: when it leads out
    """
    name = name.removesuffix(b"/")
    if (name[:1] not in b"./" and b"/." not in name and b"//" not in name) or not _ODD.search(name):
        return name
    parts: list[bytes] = []
    for part in name.split(b"/"):
        if part == b"..":
            if not parts:
                raise ValueError(f"{_shown(name)} leads out of the archive")
            parts.pop()
        elif part not in (b"", b"."):
            parts.append(part)
    return b"/".join(parts)


def number(field: bytes) -> int:
    """A number of a header: octal digits, or the bytes themselves where they would not do (GNU tar).

    :raises ValueError: when it is none
    """
    if field[0] & 0x80:
        value = int.from_bytes(field[1:], "big") + ((field[0] & 0x3F) << 8 * len(field[1:]))
        return value - (1 << 8 * len(field) - 2) if field[0] & 0x40 else value
    digits = field.rstrip(b"\0 ")
    if digits.isdigit():  # as nearly always
        return int(digits, 8)
    digits = digits.lstrip(b"\0 ").partition(b"\0")[0].rstrip(b" ")
    if digits and not digits.isdigit():
        raise ValueError(f"{_shown(digits)} is no number")
    return int(digits or b"0", 8)


def _name(header: bytes) -> bytes:
    name = _text(header[:100])
    if header[257:263] == b"ustar\0":
        prefix = _text(header[345 : 476 if header[508:] == b"tar\0" else 500])
        return prefix + b"/" + name if prefix else name
    return name


def _text(field: bytes) -> bytes:
    return field.partition(b"\0")[0]


def _is_header(block: bytes) -> bool:
    """Whether the checksum is right: the sum of all bytes, its own as spaces. Adler-32 has it modulo 65521, and is
    much faster than adding up here.
    """
    try:
        said = number(block[148:156])
    except ValueError:
        return False
    rest = 8 * ord(" ") - sum(block[148:156])
    if (said - (zlib.adler32(block) & 0xFFFF) + 1 - rest) % 65521 == 0:
        return True
    signed = sum(byte - 256 if byte > 127 else byte for byte in block[:148] + block[156:]) + 8 * ord(" ")
    return said == signed  # as programs with signed characters made it


def _decimal(value: bytes) -> int:
    if not value.isdigit():
        raise ValueError(f"its size is {_shown(value)}")
    return int(value)


def _written(header: bytes, records: Records, name: bytes, link: bytes) -> bytes:
    """The blocks of an entry under another ``name``, linked to ``link``."""
    block, said, before = bytearray(header), list(records), b""
    posix = header[257:263] == b"ustar\0"
    keys = {key for key, _ in records}
    name_key = b"path"
    if b"GNU.sparse.name" in keys:  # then the name in the header is one for the parts of the file
        name_key = b"GNU.sparse.name"
    else:
        block[:100] = name[:100].ljust(100, b"\0")
        if posix:
            end = 476 if header[508:BLOCK] == b"tar\0" else 500
            block[345:end] = bytes(end - 345)
    for key, value, kind in ((b"linkpath", link, b"K"), (name_key, name, b"L")):
        if key in keys:
            said = [(k, value if k == key else v) for k, v in said]
        elif len(value) > 100 and posix:
            said.append((key, value))
        elif len(value) > 100:
            before += _extended(kind, b"././@LongLink", value + b"\0")
    if link:
        block[157:257] = link[:100].ljust(100, b"\0")
    if said:
        content = b"".join(_record(key, value) for key, value in said)
        before += _extended(b"x", b"PaxHeaders.0/" + name.rstrip(b"/").rpartition(b"/")[2][:80], content)
    return before + _summed(block)


def _record(key: bytes, value: bytes) -> bytes:
    length = size = len(key) + len(value) + 3
    while length != size + len(str(length)):
        length = size + len(str(length))
    return b"%d %b=%b\n" % (length, key, value)


def _extended(kind: bytes, name: bytes, content: bytes) -> bytes:
    """A header that says more of the next one, and what it says."""
    block = _headed(kind, name, b"0000644\0", len(content), _POSIX if kind == b"x" else _GNU)
    return _summed(block) + content + bytes(-len(content) % BLOCK)


def _headed(kind: bytes, name: bytes, mode: bytes, size: int, magic: bytes) -> bytearray:
    """A header of root's, of 1970, still without its checksum."""
    block = bytearray(BLOCK)
    block[: len(name)] = name
    block[100:108], block[108:116], block[116:124] = mode, b"0000000\0", b"0000000\0"
    block[124:136], block[136:148] = b"%011o\0" % size, b"00000000000\0"
    block[156:157], block[257:265] = kind, magic
    return block


def _summed(block: bytearray) -> bytes:
    """``block`` with its checksum."""
    block[148:156] = b" " * 8
    block[148:156] = b"%06o\0 " % sum(block[:BLOCK])
    return bytes(block)


def _shown(text: bytes) -> str:
    return repr(text.decode(errors="backslashreplace")[:200])
