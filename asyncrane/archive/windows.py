"""Layers for Windows images: what is in them is under ``Files``, beside ``Hives`` for the registry, and every entry
says who owns it (as crane does it; hcsshim, ``pkg/ociwclayer``).
"""

from __future__ import annotations

import copy
import posixpath
import tarfile
from collections.abc import Iterator

from asyncrane.archive.compression import PIECE, Readable
from asyncrane.archive.packing import gathered
from asyncrane.archive.tarcopy import Entry, entries
from asyncrane.errors import ContentError

_BLOCK = 512
_OWNED_BY_USERS = "AQAAgBQAAAAkAAAAAAAAAAAAAAABAgAAAAAABSAAAAAhAgAAAQIAAAAAAAUgAAAAIQIAAA=="
"""The security descriptor ``O:BUG:BU``: owner and group are BUILTIN\\Users. Without one nothing in it can be run."""

_ROOTS = ("Files", "Hives")


def for_windows(tar: Readable, name: str) -> Iterator[bytes]:
    """``tar`` as a Windows image has it, with the same bytes every time. For use in a thread.

    :raises ContentError: when it is no tar, or laid out for Windows already; the message begins with ``name``
    """
    return gathered(_rebuilt(tar, name))


def _rebuilt(tar: Readable, name: str) -> Iterator[bytes]:
    for root in _ROOTS:
        directory = tarfile.TarInfo(root)
        directory.type, directory.mode = tarfile.DIRTYPE, 0o555
        yield _header(directory)
    for entry in entries(tar, name):
        if entry.info.name.partition("/")[0] in _ROOTS and "/" in entry.info.name:
            raise ContentError(f"{name} is laid out for Windows already: it has {entry.info.name!r}")
        info = copy.copy(entry.info)
        info.name = _below(info.name)
        if info.name == _ROOTS[0]:
            continue
        if info.islnk():
            info.linkname = _below(info.linkname)
        info.pax_headers = {
            **{key: value for key, value in info.pax_headers.items() if key not in ("path", "linkpath")},
            "MSWINDOWS.rawsd": _OWNED_BY_USERS,
        }
        yield _header(info)
        yield from _content(entry)
    yield bytes(2 * _BLOCK)


def _content(entry: Entry) -> Iterator[bytes]:
    left = entry.size
    while left:
        piece = entry.read(min(left, PIECE))
        left -= len(piece)
        yield piece
    yield entry.padding


def _below(name: str) -> str:
    """``name`` under ``Files``, without detours."""
    inside = posixpath.normpath(f"/{name}").lstrip("/")
    return posixpath.join(_ROOTS[0], inside) if inside else _ROOTS[0]


def _header(info: tarfile.TarInfo) -> bytes:
    return info.tobuf(tarfile.PAX_FORMAT, "utf-8", "surrogateescape")
