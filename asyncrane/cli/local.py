"""``pull`` and ``push``: between registries and files."""

from __future__ import annotations

import os
from enum import StrEnum
from pathlib import Path
from typing import Annotated

import typer

import asyncrane
from asyncrane.cli.options import Connection, ImageArgument, OnePlatform, platform
from asyncrane.cli.output import Output
from asyncrane.cli.run import reporting, with_session

_LEAST = 2


class PullFormat(StrEnum):
    """How images are saved."""

    tarball = "tarball"
    legacy = "legacy"
    oci = "oci"


def pull(
    names: Annotated[
        list[str],
        typer.Argument(
            metavar="IMAGE... PATH", help="The images, and the file or directory to save them in (-: stdout)."
        ),
    ],
    *,
    format_: Annotated[
        PullFormat,
        typer.Option(
            "--format",
            metavar="FORMAT",
            help="tarball: a file for docker load; legacy: the same for old readers; oci: a layout directory.",
        ),
    ] = PullFormat.tarball,
    annotate_ref: Annotated[
        bool, typer.Option("--annotate-ref", help="With --format oci: call each image by its full name.")
    ] = False,
    cache_path: Annotated[
        Path | None,
        typer.Option("--cache_path", "-c", metavar="DIR", help="Keep blobs in DIR, and take from there what it has."),
    ] = None,
    since: Annotated[
        list[str] | None,
        typer.Option(
            "--since",
            metavar="PATH",
            help="With --format oci: leave out what this earlier layout or OCI archive has; may be said again.",
        ),
    ] = None,
    platform_: OnePlatform = None,
    connection: Connection,
) -> None:
    """Save images in a file or directory.

    A file holds single images: of a multi-arch one that of linux/amd64 unless --platform says otherwise. It is there
    when all images are.
    """
    with reporting(verbose=connection.verbose):
        if len(names) < _LEAST:
            raise asyncrane.InvalidInput("pull needs at least one IMAGE and a PATH (see 'asyncrane pull --help')")
        if annotate_ref and format_ is not PullFormat.oci:
            raise asyncrane.InvalidInput("--annotate-ref means nothing without --format oci")
        if since and format_ is not PullFormat.oci:
            raise asyncrane.InvalidInput("--since means nothing without --format oci")

    async def operation(session: asyncrane.Session) -> None:
        await asyncrane.pull(
            session,
            names[:-1],
            names[-1],
            form=format_.value,
            platform=platform(platform_),
            annotate_ref=annotate_ref,
            cache=cache_path,
            since=since or (),
        )

    with_session(operation, connection)


def push(
    path: Annotated[
        str,
        typer.Argument(metavar="PATH", help="An image archive, an OCI layout directory, or an archive on stdin (-)."),
    ],
    image: ImageArgument,
    *,
    index: Annotated[
        bool, typer.Option("--index", help="Push all images of a layout as one multi-arch image.")
    ] = False,
    name: Annotated[
        str | None, typer.Option("--name", metavar="NAME", help="Of several images push the one called NAME.")
    ] = None,
    image_refs: Annotated[
        Path | None, typer.Option("--image-refs", metavar="FILE", help="Write REPO@DIGEST to FILE, too.")
    ] = None,
    allow_nondistributable_artifacts: Annotated[
        bool, typer.Option("--allow-nondistributable-artifacts", help="Push foreign layers too.")
    ] = False,
    connection: Connection,
) -> None:
    """Push an image from a file or directory, and print its digest.

    Archives of docker, podman, skopeo, buildkit and crane are read, plain or compressed with gzip, zstd, xz or bzip2.
    """

    with reporting(verbose=connection.verbose):
        if index and name is not None:
            raise asyncrane.InvalidInput("--index and --name exclude each other")
        if image_refs is not None and not image_refs.parent.is_dir():
            raise asyncrane.InvalidInput(f"cannot write {image_refs}: {image_refs.parent} is no directory")
        asyncrane.Reference.parse(image)

    async def operation(session: asyncrane.Session) -> None:
        found = await asyncrane.push(
            session, path, image, name=name, index=index, nondistributable=allow_nondistributable_artifacts
        )
        pushed = str(asyncrane.Reference.parse(image).repository.at(found.digest))
        if image_refs is not None:
            _write(image_refs, pushed)
        Output().line(pushed)

    with_session(operation, connection)


def _write(path: Path, text: str) -> None:
    """Write a file that others cannot read, as crane does.

    :raises AsyncraneError: when it cannot be written
    """
    try:
        with os.fdopen(os.open(path, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o600), "w", encoding="utf-8") as file:
            file.write(text)
    except OSError as exc:
        raise asyncrane.AsyncraneError(f"cannot write {path}: {exc.strerror or exc}") from exc
