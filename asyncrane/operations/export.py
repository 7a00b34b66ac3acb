"""Exporting: the files of an image as a tar, to whoever reads them or into a file."""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path

import anyio.to_thread

from asyncrane.errors import AsyncraneError
from asyncrane.images.export import exported
from asyncrane.oci.platform import DEFAULT_PLATFORM, Platform
from asyncrane.oci.select import pick
from asyncrane.operations.places import located
from asyncrane.session import Session
from asyncrane.stores.files import replaced
from asyncrane.stores.locate import Location

_STDIN = Location("docker-archive", "-")


@asynccontextmanager
async def export(
    session: Session, image: str, *, platform: Platform | None = None
) -> AsyncIterator[AsyncIterator[bytes]]:
    """The files of ``image`` as one tar, as a container would see them; of an index those of the image for ``platform``
    (default linux/amd64). An image that has only one blob, which is no layer, is that blob. ``-`` is an archive of
    docker's on stdin.

    Every layer is read once, into a temporary file, and checked; only then the first byte comes out.

    :raises InvalidPlatform: when it has none for that platform
    :raises NotFound: when it names nothing
    :raises ContentError: when a layer is not what the image says, or cannot be unpacked
    :raises UnsupportedManifest: when there is nothing in it to export
    """
    async with located(session, _STDIN if image == "-" else image) as found:
        source = session.source(found.place)
        manifest = await source.manifest(found.identifier)
        while manifest.is_index:
            manifest = await source.manifest(str(pick(manifest, platform or DEFAULT_PLATFORM).digest))
        async with exported(source, manifest) as content:
            yield content


async def export_to(session: Session, image: str, path: Path, *, platform: Platform | None = None) -> None:
    """The same, into the file ``path``, which is there, or another than before, only when all is in it. What is no
    ordinary file, such as a pipe, is written to as it comes.

    :raises InvalidInput: when it cannot be written; nothing was asked of anybody then
    :raises AsyncraneError: as :func:`export`, and when there is no room for it
    """
    with replaced(path) as file:
        async with export(session, image, platform=platform) as content:
            async for piece in content:
                try:
                    await anyio.to_thread.run_sync(file.write, piece)
                except OSError as exc:
                    raise AsyncraneError(f"cannot write {path}: {exc.strerror or exc}") from exc
