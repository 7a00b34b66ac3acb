"""``digest``, ``manifest``, ``config``, ``blob``: look at an image."""

from __future__ import annotations

from typing import Annotated

import typer

import asyncrane
from asyncrane.cli.options import Connection, FullRef, ImageArgument, OnePlatform, platform
from asyncrane.cli.output import Output
from asyncrane.cli.run import with_session

BlobArgument = Annotated[str, typer.Argument(metavar="BLOB", help="REPOSITORY@DIGEST")]


def digest(
    image: ImageArgument, *, full_ref: FullRef = False, platform_: OnePlatform = None, connection: Connection
) -> None:
    """Print the digest of an image."""

    async def operation(session: asyncrane.Session) -> None:
        found = await asyncrane.resolve(session, image, platform=platform(platform_))
        repository = asyncrane.Reference.parse(image).repository
        Output().line(str(repository.at(found.digest)) if full_ref else found.digest)

    with_session(operation, connection)


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
