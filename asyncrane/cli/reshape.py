"""``export``, ``flatten``: all layers of an image as one, for people and for registries."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

import asyncrane
from asyncrane.cli.index import TagOption
from asyncrane.cli.options import Connection, LayerFormatOption, OnePlatform, platform, platforms
from asyncrane.cli.output import Output, note
from asyncrane.cli.run import with_session

ExportedArgument = Annotated[
    str,
    typer.Argument(
        metavar="IMAGE", help="REPOSITORY[:TAG][@DIGEST], oci:DIR[:REF], docker-archive:FILE, ..., or - (docker save)."
    ),
]
FlattenedArgument = Annotated[
    str, typer.Argument(metavar="IMAGE", help="REPOSITORY[:TAG][@DIGEST], oci:DIR[:REF], ...; the tag is latest.")
]
TarballArgument = Annotated[str, typer.Argument(metavar="TARBALL", help="The file to write, or - for stdout.")]


def export(
    image: ExportedArgument,
    tarball: TarballArgument = "-",
    *,
    platform_: OnePlatform = None,
    connection: Connection,
) -> None:
    """Write the files of an image as one tar.

    All layers are merged as a container sees them. Nothing is written before everything has been read and checked; a
    file is there only when all is in it. An image of one blob that is no layer gives that blob.
    """

    async def operation(session: asyncrane.Session) -> None:
        import anyio.to_thread

        chosen = platform(platform_)
        if tarball != "-":
            await asyncrane.export_to(session, image, Path(tarball), platform=chosen)
            return
        output = Output()
        async with asyncrane.export(session, image, platform=chosen) as content:
            async for piece in content:
                await anyio.to_thread.run_sync(output.raw, piece)

    with_session(operation, connection)


def flatten(
    image: FlattenedArgument,
    *,
    tag: TagOption = None,
    layer_format: LayerFormatOption = None,
    platform_: Annotated[
        list[str] | None,
        typer.Option("--platform", metavar="OS/ARCH,...", help="Of a multi-arch image only these."),
    ] = None,
    keep_attestations: Annotated[
        bool, typer.Option("--keep-attestations", help="Keep them, though they are about the layers as they were.")
    ] = False,
    connection: Connection,
) -> None:
    """Make one layer of all layers of an image, or of every image of an index.

    Config, annotations and media types stay; what was deleted on the way is not in it.
    """

    async def operation(session: asyncrane.Session) -> None:
        made = await asyncrane.flatten(
            session,
            image,
            tag=tag,
            layer_format=layer_format.value if layer_format is not None else None,
            platforms=platforms(platform_),
            keep_attestations=keep_attestations,
        )
        for text in made.notes:
            note(text)
        Output().line(str(made.reference))

    with_session(operation, connection)
