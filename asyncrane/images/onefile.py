"""One file of an image: found in its file system, and put back as a layer."""

from __future__ import annotations

import io
import tarfile
from collections.abc import AsyncIterator
from typing import BinaryIO, cast

import msgspec

from asyncrane.archive.compression import Readable
from asyncrane.archive.packing import Layer, Packer
from asyncrane.archive.streaming import in_memory
from asyncrane.archive.tarfs import cleaned
from asyncrane.archive.through_thread import through_thread
from asyncrane.errors import ContentError, InvalidInput

LARGEST = 256 * 1024 * 1024
"""Bytes of a file that is edited."""


class File(msgspec.Struct, frozen=True):
    """A file: ``name`` is its path below the root. ``there`` says whether it is one of the image's, or a new one."""

    name: str
    content: bytes = b""
    mode: int = 0o555
    uid: int = 0
    gid: int = 0
    owner: str = ""
    group: str = ""
    modified: float = 0
    pax: dict[str, str] = {}
    there: bool = False


def path_in_image(text: str) -> str:
    """``text`` as the path of a file below the root.

    :raises InvalidInput: when it is none
    """
    try:
        name = cleaned(text.encode(errors="surrogateescape")).decode(errors="surrogateescape")
    except ValueError as exc:
        raise InvalidInput(f"not a file of an image: {text!r}: {exc}") from None
    if not name or text.endswith("/") or "\0" in text:
        raise InvalidInput(f"not a file of an image: {text!r}")
    return name


async def find_file(chunks: AsyncIterator[bytes], name: str) -> File:
    """The file ``name`` in a tar that is a whole file system; a new one where there is none.

    :raises InvalidInput: when something else than an ordinary file has that name, or it is too large to be edited
    """
    return await through_thread(chunks, lambda tar: _find(tar, name))


def _find(tar: Readable, name: str) -> File:
    try:
        with tarfile.open(fileobj=cast("BinaryIO", tar), mode="r|") as opened:
            for entry in opened:
                if cleaned(entry.name.encode(errors="surrogateescape")) == name.encode(errors="surrogateescape"):
                    return _read(opened, entry, name)
    except tarfile.TarError as exc:
        raise ContentError(f"the image's files cannot be read: {exc}") from exc
    return File(name)


def _read(tar: tarfile.TarFile, entry: tarfile.TarInfo, name: str) -> File:
    if entry.issym() or entry.islnk():
        raise InvalidInput(f"/{name} is a link to {entry.linkname}: edit that")
    content = tar.extractfile(entry)
    if content is None:
        raise InvalidInput(f"/{name} is not an ordinary file")
    if entry.size > LARGEST:
        raise InvalidInput(f"/{name} has {entry.size} bytes, too many to be edited")
    kept = {key: value for key, value in entry.pax_headers.items() if key.startswith(("SCHILY.xattr.", "LIBARCHIVE."))}
    return File(
        name,
        content.read(),
        entry.mode & 0o7777,
        entry.uid,
        entry.gid,
        entry.uname,
        entry.gname,
        entry.mtime,
        kept,
        there=True,
    )


def file_layer(file: File) -> Layer:
    """A layer with nothing but ``file``; the same file always gives the same layer (K5)."""
    raw = io.BytesIO()
    with tarfile.open(fileobj=raw, mode="w", format=tarfile.PAX_FORMAT) as tar:
        entry = tarfile.TarInfo(file.name)
        entry.size, entry.mode, entry.mtime = len(file.content), file.mode, file.modified
        entry.uid, entry.gid, entry.uname, entry.gname = file.uid, file.gid, file.owner, file.group
        entry.pax_headers = dict(file.pax)
        tar.addfile(entry, io.BytesIO(file.content))
    raw.seek(0)
    packer = Packer(raw, file.name, tar=True)
    blob = b"".join(packer.pieces())
    return packer.layer(in_memory(blob))
