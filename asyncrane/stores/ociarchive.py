"""An OCI image layout in a tar file: what buildkit (``type=oci``), podman and ``skopeo copy ... oci-archive:`` write,
and docker 25 and later beside its own format (image-spec, image-layout.md).

A plain archive is read where it is. One that is written is collected beside its file as a layout and becomes the
archive when it is whole, replacing what was there; the same images give the same bytes, whatever order they came in.
"""

from __future__ import annotations

import contextlib
import os
import re
import shutil
import tarfile
from collections.abc import AsyncIterator, Iterator
from contextlib import AbstractAsyncContextManager, asynccontextmanager
from os import PathLike
from pathlib import Path
from typing import BinaryIO, Literal, overload

import anyio
import anyio.to_thread
import msgspec
from anyio.from_thread import check_cancelled

from asyncrane.abc import Place, Reader, Site
from asyncrane.errors import AsyncraneError, ContentError, Failure, InvalidInput
from asyncrane.oci.descriptor import Descriptor
from asyncrane.oci.digest import Digest
from asyncrane.oci.manifest import Manifest
from asyncrane.stores.contents import Contents
from asyncrane.stores.files import PIECE, Extent, complaining, destination, sweep, unfinished
from asyncrane.stores.garbage import reachable
from asyncrane.stores.imageindex import LARGEST_INDEX, ImageIndex
from asyncrane.stores.layout import Layout
from asyncrane.stores.layoutfiles import MARKER, blob_path, check_marker
from asyncrane.stores.tarball_opening import STREAM, OpenArchive, opened


class OciArchive(Contents):
    """An archive to read from. Made by :func:`open_oci_archive`."""

    def __init__(self, place: Place, archive: OpenArchive, index: ImageIndex) -> None:
        super().__init__(place, archive.name)
        self._archive = archive
        self._index = index

    async def index(self) -> ImageIndex:
        """What images there are."""
        return self._index

    def extent(self, digest: Digest) -> Extent | None:
        """Open a blob, ``None`` if it is not here; for use in a thread."""
        member = self._archive.index.find(f"blobs/{digest.algorithm}/{digest.hex}")
        return self._archive.extent(member) if member is not None else None

    def __repr__(self) -> str:
        return f"OciArchive({str(self._place)!r}, {len(self._index.entries)} images)"


@overload
def open_oci_archive(
    path: str | PathLike[str], *, writing: Literal[False] = False
) -> AbstractAsyncContextManager[OciArchive]: ...
@overload
def open_oci_archive(path: str | PathLike[str], *, writing: Literal[True]) -> AbstractAsyncContextManager[Layout]: ...
def open_oci_archive(
    path: str | PathLike[str], *, writing: bool = False
) -> AbstractAsyncContextManager[OciArchive | Layout]:
    """The archive in the file ``path``, to read from, or to write anew: then it is in place when the context ends
    without an error, and nothing is left of it otherwise, or when no image came. ``-`` is stdin.

    :raises NotFound: when there is no such file to read
    :raises InvalidInput: when it is a directory, or there is none to make it in
    :raises ContentError: when it is no OCI archive
    :raises AsyncraneError: when it cannot be read or written
    """
    file = Path(path)
    return _writing(file) if writing else _reading(file, STREAM if str(file) == STREAM else str(file.absolute()))


@asynccontextmanager
async def _reading(path: Path, name: str) -> AsyncIterator[OciArchive]:
    async with opened(name) as archive:
        if "oci-layout" not in archive.index or "index.json" not in archive.index:
            docker = f"; it may be a docker archive: docker-archive:{path}" if "manifest.json" in archive.index else ""
            raise ContentError(f"{archive.name} is not an OCI archive: it has no oci-layout and index.json{docker}")
        check_marker(await archive.whole("oci-layout", limit=PIECE), archive.name)
        body = await archive.whole("index.json", limit=LARGEST_INDEX)
        yield OciArchive(Place(Site.opened(f"oci-archive:{name}")), archive, ImageIndex.read(body, archive.name))


@asynccontextmanager
async def _writing(path: Path) -> AsyncIterator[Layout]:
    target = await anyio.to_thread.run_sync(_check_target, path)
    lock, staging = await anyio.to_thread.run_sync(_stage, target)
    layout = _Staged(staging, target)
    try:
        async with layout:
            yield layout
        index = (await layout.index()).sorted()
        if index.entries:
            await anyio.to_thread.run_sync(_pack, layout, index, target)
    finally:
        with anyio.CancelScope(shield=True):
            await anyio.to_thread.run_sync(lambda: shutil.rmtree(staging, ignore_errors=True))
        os.close(lock)


class _Staged(Layout):
    """The layout that becomes ``target``: what is wrong with it is said of that, which is what was asked for."""

    def __init__(self, path: Path, target: Path) -> None:
        super().__init__(path, place=Place(Site.opened(f"oci-archive:{target}")))
        self._target = target

    async def put(self, blob: Descriptor, read: Reader) -> bool:
        with self._said_of_target():
            return await super().put(blob, read)

    async def publish(self, manifest: Manifest, tag: str | None = None) -> None:
        with self._said_of_target():
            await super().publish(manifest, tag)

    async def finish(self) -> None:
        with self._said_of_target():
            await super().finish()

    @contextlib.contextmanager
    def _said_of_target(self) -> Iterator[None]:
        try:
            yield
        except AsyncraneError as exc:
            failure = Failure.of(exc)
            said = re.sub(rf"{re.escape(str(self.path))}[^\s:]*", lambda _: str(self._target), failure.message)
            if said == failure.message:
                raise
            raise msgspec.structs.replace(failure, message=said).error() from exc


def _check_target(path: Path) -> Path:
    with complaining(path):
        target = destination(path)
        if target.is_dir():
            raise InvalidInput(f"{path} is a directory (for an OCI layout: oci:{path})")
        if not target.parent.is_dir():
            raise InvalidInput(f"cannot write {path}: {target.parent} is no directory")
    return target


def _stage(target: Path) -> tuple[int, Path]:
    """A directory beside ``target``, locked as long as the descriptor is open."""
    sweep(target.parent)
    with complaining(target):
        return unfinished(target.parent, folder=True)


def _pack(layout: Layout, index: ImageIndex, target: Path) -> None:
    """Make ``target`` out of ``layout``, which is used up: a blob is removed when it has been written."""
    digests = sorted(reachable(layout, index))
    directories = ["blobs", *sorted({f"blobs/{digest.algorithm}" for digest in digests})]
    with complaining(target):
        descriptor, beside = unfinished(target.parent)
        try:
            with os.fdopen(descriptor, "wb") as file:
                for name, content in (("oci-layout", MARKER), ("index.json", index.body())):
                    file.write(_header(name, len(content)))
                    file.write(content)
                    _pad(file, len(content))
                for name in directories:
                    file.write(_header(name, 0, directory=True))
                for digest in digests:
                    _append(file, layout, digest)
                file.write(bytes(2 * tarfile.BLOCKSIZE))
                file.flush()
                beside.replace(target)
        except BaseException:
            beside.unlink(missing_ok=True)
            raise


def _append(file: BinaryIO, layout: Layout, digest: Digest) -> None:
    extent = layout.extent(digest)
    if extent is None:
        raise ContentError(f"{layout.path} has lost {digest!s}")
    with contextlib.closing(extent):
        file.write(_header(f"blobs/{digest.algorithm}/{digest.hex}", extent.size))
        position = 0
        while position < extent.size:
            check_cancelled()
            piece = extent.read(PIECE, position)
            file.write(piece)
            position += len(piece)
        _pad(file, extent.size)
    blob_path(layout.path, digest).unlink()


def _header(name: str, size: int, *, directory: bool = False) -> bytes:
    """A tar header that says nothing of who wrote it when."""
    info = tarfile.TarInfo(name)
    info.size = size
    info.mode = 0o755 if directory else 0o644
    info.type = tarfile.DIRTYPE if directory else tarfile.REGTYPE
    return info.tobuf(tarfile.PAX_FORMAT)


def _pad(file: BinaryIO, size: int) -> None:
    file.write(bytes(-size % tarfile.BLOCKSIZE))
