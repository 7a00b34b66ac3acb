"""One file system out of layers: which entry of which layer each path is in the end.

(image-spec, layer.md, "Applying Changesets" and "Whiteouts". A layer's whiteouts hide what lower layers have, nothing
of its own, wherever they stand in it. Otherwise its entries are unpacked in order, so that the last one of a path wins,
and as tar unpacks them: through symbolic links on the way, which never lead out.)
"""

from __future__ import annotations

import zlib
from collections.abc import Iterator, Sequence
from typing import TypeAlias

import msgspec

from asyncrane.archive.tarfs import DIRECTORY, LABEL, LINK, SYMLINK, Entry, TarReader, cleaned
from asyncrane.errors import ContentError

_HIDES = b".wh."
_OPAQUE = b".wh..wh..opq"
_PRIVATE = b".wh..wh."
"""What AUFS keeps for itself, in the root; other entries may be hard links to it."""

_MOST_LINKS = 255
"""Symbolic links that are followed for one path."""


class Item(msgspec.Struct, frozen=True, gc=False):
    """An entry: its ``number`` in the layer, and for a link its target. ``head`` is a directory's, packed."""

    number: int
    path: bytes
    kind: bytes
    link: bytes = b""
    head: bytes = b""


class Listing(msgspec.Struct, frozen=True):
    """What a layer has: directories whose lower content it hides, paths that it hides, and its ``items`` in order.
    ``count`` is the number of all its entries.
    """

    opaque: Sequence[bytes]
    hidden: Sequence[bytes]
    items: Sequence[Item]
    count: int


def listed(tar: TarReader, name: str) -> Listing:
    """What the layer ``tar`` has; read to its end. For use in a thread.

    :raises ContentError: when it is no layer; the message begins with ``name``
    """
    opaque: list[bytes] = []
    hidden: list[bytes] = []
    items: list[Item] = []
    count = 0
    while (entry := tar.next()) is not None:
        parent, _, base = entry.path.rpartition(b"/")
        if base.startswith(_HIDES) and not base.startswith(_PRIVATE):
            hides = base[len(_HIDES) :]
            if hides in (b"", b".", b".."):
                raise ContentError(f"{name} has a whiteout of nothing: {_shown(entry.path)}")
            hidden.append(parent + b"/" + hides if parent else hides)
        elif base == _OPAQUE:
            opaque.append(parent)
        elif entry.kind != LABEL and not (parent and base.startswith(_PRIVATE)):
            items.append(_item(entry, count, name))
        count += 1
    tar.drain()
    return Listing(opaque, hidden, items, count)


def _item(entry: Entry, number: int, name: str) -> Item:
    if not entry.path and entry.kind != DIRECTORY:
        raise ContentError(f"{name} has a root that is no directory")
    if entry.kind == DIRECTORY:
        return Item(number, entry.path, entry.kind, head=zlib.compress(entry.at(entry.path), 1))
    if entry.kind == LINK:
        try:
            return Item(number, entry.path, entry.kind, cleaned(entry.link))
        except ValueError as exc:
            raise ContentError(f"{name} has a hard link that cannot be used: {_shown(entry.path)} to {exc}") from exc
    return Item(number, entry.path, entry.kind, entry.link if entry.kind == SYMLINK else b"")


class Directory:
    """A directory. ``head`` is its entry, packed, empty when no layer has one; ``written`` is for who writes it."""

    __slots__ = ("children", "head", "written")

    def __init__(self) -> None:
        self.children: dict[bytes, Node] = {}
        self.head = b""
        self.written = False


Node: TypeAlias = Directory | int
"""A directory, or the number that :func:`file_number` gives an entry that is none."""

_BITS = 40


def file_number(layer: int, entry: int) -> int:
    """Which entry of which layer, as one number: a file of many names has the same under all."""
    return layer << _BITS | entry


class Tree:
    """The file system of the layers applied so far, from the lowest on."""

    def __init__(self) -> None:
        self.root = Directory()
        self._layer = -1
        self._symlinks: dict[int, bytes] = {}
        self._moved: set[int] = set()
        self._counts: list[int] = []

    def apply(self, layer: Listing, name: str) -> None:
        """Put ``layer`` on top.

        :raises ContentError: when that cannot be done; the message begins with ``name``
        """
        self._layer += 1
        self._counts.append(layer.count)
        try:
            gone = self._hide(layer)
            waiting = [item for item in layer.items if not self._put(item, gone)]
            for item in waiting:  # its target came later
                if not self._put(item, gone):
                    raise _Unusable(f"{_shown(item.path)} is a hard link to {_shown(item.link)}, which is not there")
        except _Unusable as exc:
            raise ContentError(f"{name} cannot be unpacked: {exc}") from exc
        for own in [own for own in self.root.children if own.startswith(_PRIVATE)]:
            del self.root.children[own]

    def survivors(self) -> Survivors:
        """Which entries are in it in the end."""
        kept = [bytearray(count) for count in self._counts]
        moved: dict[int, list[bytes]] = {}
        for prefix, directory in self.directories():
            for base, node in directory.children.items():
                if isinstance(node, Directory):
                    continue
                kept[node >> _BITS][node & (1 << _BITS) - 1] = 1
                if node in self._moved:
                    moved.setdefault(node, []).append(prefix + base)
        return Survivors(kept, moved)

    def directories(self) -> Iterator[tuple[bytes, Directory]]:
        """Every directory, each before those in it, with what paths in it begin with."""
        todo = [(b"", self.root)]
        while todo:
            prefix, directory = todo.pop()
            yield prefix, directory
            below = [(prefix + b + b"/", n) for b, n in directory.children.items() if isinstance(n, Directory)]
            todo += reversed(below)

    def _hide(self, layer: Listing) -> dict[bytes, Node]:
        """Take away what ``layer`` hides; returned by path, for hard links to it."""
        gone: dict[bytes, Node] = {}
        if not layer.opaque and not layer.hidden:
            return gone
        own = {item.path for item in layer.items if item.kind == DIRECTORY}
        for path in layer.hidden:
            parent, _, base = path.rpartition(b"/")
            directory, literal = self._below_whiteouts(parent, own)
            if directory is not None and (found := directory.children.pop(base, None)) is not None and literal:
                gone[path] = found
        for path in layer.opaque:
            directory, literal = self._below_whiteouts(path, own)
            if directory is not None and directory.children:
                before = Directory()
                before.children, directory.children = directory.children, {}
                if literal:
                    gone[path] = before
        return gone

    def _below_whiteouts(self, path: bytes, own: set[bytes]) -> tuple[Directory | None, bool]:
        """The directory that whiteouts in ``path`` are about, and whether it is there itself. Where the layer has
        ``own`` directories in place of symbolic links, these do not lead to it any more.
        """
        directory, literal = self._walk(path, make=False)
        if directory is None or literal:
            return directory, literal
        parts = path.split(b"/")
        prefixes = {b"/".join(parts[:end]) for end in range(1, len(parts) + 1)}
        replaced = any(not isinstance(self._find(prefix), Directory) for prefix in prefixes & own)
        return (None if replaced else directory), literal

    def _put(self, item: Item, gone: dict[bytes, Node]) -> bool:
        """Unpack ``item``; ``False`` when it is a hard link to nothing."""
        number = file_number(self._layer, item.number)
        if item.kind == LINK:
            target = self._target(item, gone)
            if target is None:
                return False
            number = target
            self._moved.add(number)
        if item.kind == DIRECTORY and not item.path:
            self.root.head = item.head
            return True
        parent, _, base = item.path.rpartition(b"/")
        directory, literal = self._make(parent)
        if item.kind == DIRECTORY:
            child = directory.children.get(base)
            if not isinstance(child, Directory):
                child = directory.children[base] = Directory()
            child.head = item.head
            return True
        if item.kind == SYMLINK:
            self._symlinks[number] = item.link
        directory.children[base] = number
        if not literal:
            self._moved.add(number)
        return True

    def _target(self, item: Item, gone: dict[bytes, Node]) -> int | None:
        """What the hard link ``item`` is another name of; also what the same layer hides, whatever their order."""
        found = self._find(item.link)
        if found is None:
            found = _below(gone, item.link)
        if isinstance(found, Directory):
            raise _Unusable(f"{_shown(item.path)} is a hard link to {_shown(item.link)}, which is a directory")
        return found

    def _find(self, path: bytes) -> Node | None:
        """What is at ``path``; of a symbolic link at its end, the link."""
        parent, _, base = path.rpartition(b"/")
        directory = self._walk(parent, make=False)[0]
        if directory is None or not base:
            return directory
        return directory.children.get(base)

    def _make(self, path: bytes) -> tuple[Directory, bool]:
        """The directory ``path``, made where it is not; and whether no symbolic link was on the way."""
        directory, literal = self._walk(path, make=True)
        return directory or self.root, literal

    def _walk(self, path: bytes, *, make: bool) -> tuple[Directory | None, bool]:
        here, literal, links = self.root, True, 0
        trail: list[Directory] = []
        todo = path.split(b"/")[::-1]
        while todo:
            part = todo.pop()
            if part in (b"", b"."):
                continue
            if part == b"..":
                here = trail.pop() if trail else self.root
                continue
            child = here.children.get(part)
            if isinstance(child, int) and child in self._symlinks:
                target = self._symlinks[child]
                literal, links = False, links + 1
                if links > _MOST_LINKS:
                    raise _Unusable(f"{_shown(path)} goes round in symbolic links")
                if target.startswith(b"/"):
                    here = self.root
                    trail.clear()
                todo += target.split(b"/")[::-1]
                continue
            if not isinstance(child, Directory):
                if not make:
                    return None, literal
                child = here.children[part] = Directory()
            trail.append(here)
            here = child
        return here, literal


class Survivors(msgspec.Struct, frozen=True):
    """For each layer a byte for each of its entries, 1 where it is still there. ``moved`` are the paths of those that
    may be elsewhere than their entry says, by :func:`file_number`.
    """

    kept: Sequence[bytearray]
    moved: dict[int, list[bytes]]


class _Unusable(Exception):
    """Something in a layer that cannot be unpacked."""


def _below(gone: dict[bytes, Node], path: bytes) -> Node | None:
    """What was at ``path`` in what is gone."""
    parts = path.split(b"/")
    for end in range(len(parts), -1, -1):
        node = gone.get(b"/".join(parts[:end]))
        for part in parts[end:]:
            node = node.children.get(part) if isinstance(node, Directory) else None
        if node is not None:
            return node
    return None


def _shown(path: bytes) -> str:
    return repr(path.decode(errors="backslashreplace")[:200])
