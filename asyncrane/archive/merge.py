"""Layers merged into one tar, in two passes: the first lists what each layer has, the second writes what is left of it.

Nothing is unpacked. Content passes through in pieces; what stays in memory is names, some two hundred bytes for each
file. Every directory is written before what is in it, every file before its other names. The same layers always give
the same bytes.
"""

from __future__ import annotations

import io
import zlib
from collections.abc import Callable, Generator, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor

from asyncrane.archive.compression import Readable
from asyncrane.archive.tarfs import END, Entry, TarReader, plain_directory
from asyncrane.archive.whiteout import Directory, Tree, file_number

_CHUNK = 1024 * 1024


def merged(tree: Tree, layers: Sequence[Callable[[], Readable]]) -> Iterator[bytes]:
    """The tar of ``tree`` in chunks of about 1 MiB. ``layers`` open those that it was made from once more. For use in a
    thread, and only once for a ``tree``.

    :raises ContentError: when a layer cannot be read
    """
    pieces: list[bytes] = []
    size = 0
    for piece in _pieces(tree, layers):
        pieces.append(piece)
        size += len(piece)
        if size >= _CHUNK:
            yield b"".join(pieces)
            pieces, size = [], 0
    yield b"".join([*pieces, END])


def ahead(chunks: Iterator[bytes]) -> Generator[bytes, None, None]:
    """``chunks``, the next one made in a thread while this one is used. To be closed."""
    with ThreadPoolExecutor(1, "merge") as thread:
        coming = thread.submit(next, chunks, b"")
        while chunk := coming.result():
            coming = thread.submit(next, chunks, b"")
            yield chunk


def _pieces(tree: Tree, layers: Sequence[Callable[[], Readable]]) -> Iterator[bytes]:
    survivors = tree.survivors()
    moved = survivors.moved
    heads, above = _Heads(tree), b"/"
    for layer, (kept, opened) in enumerate(zip(survivors.kept, layers, strict=True)):
        last = kept.rfind(1)
        if last < 0:
            continue
        tar = TarReader(opened(), "a layer")
        for number in range(last + 1):
            entry = tar.next()
            if entry is None or not kept[number]:
                continue
            paths = moved.get(file_number(layer, number), ()) if moved else ()
            first = entry.path if not paths or entry.path in paths else paths[0]
            parent = first.rpartition(b"/")[0]
            if parent != above:
                yield from heads.above(parent)
                above = parent
            yield entry.at(first)
            yield from tar.content()
            for path in paths:
                if path != first:
                    yield from heads.above(path.rpartition(b"/")[0])
                    yield entry.linked(path, first)
    yield from heads.rest()


class _Heads:
    """The entries of directories, each written once."""

    def __init__(self, tree: Tree) -> None:
        self._tree = tree

    def above(self, parent: bytes) -> Iterator[bytes]:
        """Those of the directory ``parent`` and all that it is in, as far as they are not written yet."""
        here, at = self._tree.root, 0
        yield from _written(here, b"")
        for part in parent.split(b"/") if parent else ():
            child = here.children[part]
            if not isinstance(child, Directory):  # then the tree has changed meanwhile
                raise TypeError(f"{parent!r} is no directory")
            at += len(part) + 1
            here = child
            yield from _written(here, parent[: at - 1])

    def rest(self) -> Iterator[bytes]:
        """All others, and those that no layer has an entry of and that are empty by now."""
        for prefix, directory in self._tree.directories():
            yield from _written(directory, prefix[:-1])
            if prefix and not directory.children and not directory.written:
                yield plain_directory(prefix[:-1])


def _written(directory: Directory, path: bytes) -> Iterator[bytes]:
    if directory.head and not directory.written:
        directory.written = True
        yield _read(directory.head).at(path)


def _read(head: bytes) -> Entry:
    entry = TarReader(io.BytesIO(zlib.decompress(head)), "a directory").next()
    if entry is None:
        raise ValueError("no entry")
    return entry
