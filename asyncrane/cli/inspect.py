"""``digest``, ``manifest``, ``config``, ``blob``: look at an image."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

import asyncrane
from asyncrane.cli.options import Connection, FullRef, ImageArgument, OnePlatform, platform
from asyncrane.cli.output import Output
from asyncrane.cli.run import reporting, with_session

BlobArgument = Annotated[str, typer.Argument(metavar="BLOB", help="REPOSITORY@DIGEST")]


def digest(
    image: Annotated[
        str | None,
        typer.Argument(metavar="IMAGE", help="REPOSITORY[:TAG]; with --tarball a name in it.", show_default=False),
    ] = None,
    *,
    tarball: Annotated[
        Path | None, typer.Option("--tarball", metavar="FILE", help="Of an image in this docker archive.")
    ] = None,
    full_ref: FullRef = False,
    platform_: OnePlatform = None,
    connection: Connection,
) -> None:
    """Print the digest of an image."""
    with reporting(verbose=connection.verbose):
        name = _named(image, tarball, full_ref=full_ref)

    async def operation(session: asyncrane.Session) -> None:
        found = await asyncrane.resolve(session, name, platform=platform(platform_))
        Output().line(str(asyncrane.parse_location(name).at(found.digest)) if full_ref else found.digest)

    with_session(operation, connection)


def _named(image: str | None, tarball: Path | None, *, full_ref: bool) -> str:
    if tarball is None and image is None:
        raise asyncrane.InvalidInput("digest needs an IMAGE, or --tarball FILE (see 'asyncrane digest --help')")
    if tarball is None:
        return str(image)
    if full_ref:
        raise asyncrane.InvalidInput("--full-ref means nothing with --tarball: what is in a file has no repository")
    return f"docker-archive:{tarball}" + (f":{image}" if image is not None else "")


def manifest(image: ImageArgument, *, platform_: OnePlatform = None, connection: Connection) -> None:
    """Print the manifest of an image, byte for byte."""

    async def operation(session: asyncrane.Session) -> None:
        Output().raw((await asyncrane.manifest(session, image, platform=platform(platform_))).body)

    with_session(operation, connection)


def config(image: ImageArgument, *, platform_: OnePlatform = None, connection: Connection) -> None:
    """Print the config of an image, byte for byte; of a multi-arch image that of linux/amd64."""

    async def operation(session: asyncrane.Session) -> None:
        Output().raw((await asyncrane.inspect(session, image, platform=platform(platform_))).config)

    with_session(operation, connection)


def blob(blob: BlobArgument, *, connection: Connection) -> None:
    """Write a blob to stdout."""

    async def operation(session: asyncrane.Session) -> None:
        import anyio.to_thread

        output = Output()
        async with asyncrane.blob(session, blob) as chunks:
            async for chunk in chunks:
                await anyio.to_thread.run_sync(output.raw, chunk)

    with_session(operation, connection)
