"""``index append|filter|remove|list``: put indexes together, take them apart, look at them."""

from __future__ import annotations

from typing import Annotated

import typer

import asyncrane
from asyncrane.cli.options import Connection, ImageArgument
from asyncrane.cli.output import Output, note
from asyncrane.cli.run import reporting, with_session

TagOption = Annotated[
    str | None,
    typer.Option("--tag", "-t", metavar="IMAGE", help="Where it goes. [default: where it was; a digest's beside it]"),
]
NondistributableOption = Annotated[
    bool, typer.Option("--allow-nondistributable-artifacts", help="Copy non-distributable (foreign) layers too.")
]


def append(
    base: Annotated[
        str | None, typer.Argument(metavar="BASE", help="The index to add to, or an OCI layout.", show_default=False)
    ] = None,
    more: Annotated[
        list[str] | None, typer.Argument(metavar="MANIFEST", help="As with --manifest.", show_default=False)
    ] = None,
    *,
    manifest: Annotated[
        list[str] | None,
        typer.Option("--manifest", "-m", metavar="IMAGE,...", help="What to add, images or indexes."),
    ] = None,
    tag: TagOption = None,
    flatten: Annotated[
        bool, typer.Option("--flatten/--no-flatten", help="Of an index add what it lists, not the index itself.")
    ] = True,
    docker_empty_base: Annotated[
        bool, typer.Option("--docker-empty-base", help="Without BASE: make it, and all in it, of Docker's types.")
    ] = False,
    allow_nondistributable_artifacts: NondistributableOption = False,
    connection: Connection,
) -> None:
    """Make an index of images, or add images to one.

    What is listed stays as it is and is copied along; its platform is what its config says. Without BASE a new index is
    made at --tag.
    """
    wanted = [name for text in [*(manifest or []), *(more or [])] for name in text.split(",") if name]

    async def operation(session: asyncrane.Session) -> None:
        made = await asyncrane.index_append(
            session,
            base,
            wanted,
            tag=tag,
            flatten=flatten,
            docker_empty_base=docker_empty_base,
            nondistributable=allow_nondistributable_artifacts,
        )
        if made is not None:
            show(made)

    with_session(operation, connection)


def filter_(
    image: ImageArgument,
    *,
    platform: Annotated[
        list[str] | None,
        typer.Option("--platform", metavar="OS/ARCH,...", help="Keep these: OS[/ARCH[/VARIANT]][:OSVERSION]."),
    ] = None,
    tag: TagOption = None,
    allow_nondistributable_artifacts: NondistributableOption = False,
    connection: Connection,
) -> None:
    """Keep only some platforms of an index, with their attestations."""
    with reporting(verbose=connection.verbose):
        names = [name for text in platform or () for name in text.split(",") if name.strip()]
        if not names or names == ["all"]:
            raise asyncrane.InvalidInput("index filter needs --platform: which ones to keep?")
        wanted = [asyncrane.parse_wish(name) for name in names]

    async def operation(session: asyncrane.Session) -> None:
        nondistributable = allow_nondistributable_artifacts
        show(await asyncrane.index_filter(session, image, wanted, tag=tag, nondistributable=nondistributable))

    with_session(operation, connection)


def remove(
    image: ImageArgument,
    digests: Annotated[list[str], typer.Argument(metavar="DIGEST", help="Entries to take out.")],
    *,
    tag: TagOption = None,
    allow_nondistributable_artifacts: NondistributableOption = False,
    connection: Connection,
) -> None:
    """Take entries out of an index, with their attestations."""
    with reporting(verbose=connection.verbose):
        wanted = [asyncrane.Digest.parse(digest) for digest in digests]

    async def operation(session: asyncrane.Session) -> None:
        nondistributable = allow_nondistributable_artifacts
        show(await asyncrane.index_remove(session, image, wanted, tag=tag, nondistributable=nondistributable))

    with_session(operation, connection)


def list_(
    image: Annotated[str, typer.Argument(metavar="IMAGE", help="REPOSITORY[:TAG][@DIGEST], or a layout's directory.")],
    *,
    connection: Connection,
) -> None:
    """List what an index has in it."""

    async def operation(session: asyncrane.Session) -> None:
        output = Output()
        entries = await asyncrane.index_list(session, image)
        output.line(f"{'Digest':<70} {'MediaType':<20} Platform")
        for entry in entries:
            platform = "-" if entry.platform is None else str(entry.platform)
            output.line(f"{entry.digest!s:<70} {entry.media_type:<20} {platform}")

    with_session(operation, connection)


def show(made: asyncrane.Published) -> None:
    """What came of it: notes on stderr, the image by digest on stdout."""
    for text in made.notes:
        note(text)
    Output().line(str(made.reference))
