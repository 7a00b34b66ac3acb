"""``ls`` and ``catalog``: list what there is."""

from __future__ import annotations

import contextlib
from typing import Annotated

import typer

import asyncrane
from asyncrane.cli.options import Connection, FullRef, RegistryArgument, RepositoryArgument
from asyncrane.cli.output import Output, note
from asyncrane.cli.run import reporting, with_session

OmitDigestTags = Annotated[
    bool,
    typer.Option("--omit-digest-tags", "-O", help="Leave out tags that stand for a digest (sha256-...)."),
]


def ls(
    repository: RepositoryArgument,
    *,
    full_ref: FullRef = False,
    omit_digest_tags: OmitDigestTags = False,
    recursive: Annotated[
        bool, typer.Option("--recursive", "-r", help="Everything below it too, by full reference; of a registry all.")
    ] = False,
    json: Annotated[
        bool, typer.Option("--json", help="One object a line for each repository, with manifests if there is a list.")
    ] = False,
    connection: Connection,
) -> None:
    """List the tags of a repository, or of everything below it."""
    with reporting(verbose=connection.verbose):
        if full_ref and json:
            raise asyncrane.InvalidInput("--full-ref means nothing with --json")
    output, digest_tags = Output(), not omit_digest_tags

    async def operation(session: asyncrane.Session) -> None:
        if not (recursive or json):
            await _tags(session, repository, output, digest_tags=digest_tags, full_ref=full_ref)
            return
        import msgspec

        async for found in asyncrane.contents(session, repository, recursive=recursive):
            if json:
                output.raw(msgspec.json.encode(found.fields(digest_tags=digest_tags)) + b"\n")
                continue
            for reference in found.references(digest_tags=digest_tags):
                output.line(reference)

    with_session(operation, connection)


async def _tags(
    session: asyncrane.Session, repository: str, output: Output, *, digest_tags: bool, full_ref: bool
) -> None:
    empty = True
    async for reference in asyncrane.tags(session, repository, digest_tags=digest_tags):
        empty = False
        output.line(str(reference) if full_ref else str(reference.tag))
    if empty:
        await _say_what_is_below(session, repository)


async def _say_what_is_below(session: asyncrane.Session, repository: str) -> None:
    """One of Google's repositories may have no tags, and a lot below it."""
    with contextlib.suppress(asyncrane.AsyncraneError):  # a layout has nothing below it
        async for found in asyncrane.contents(session, repository):
            if found.listing.children:
                note(f"{repository} has no tags; below it (ls -r): {', '.join(found.listing.children)}")


def catalog(registry: RegistryArgument, *, full_ref: FullRef = False, connection: Connection) -> None:
    """List the repositories of a registry."""

    async def operation(session: asyncrane.Session) -> None:
        output = Output()
        async for repository in asyncrane.catalog(session, registry):
            output.line(str(repository) if full_ref else repository.path)

    with_session(operation, connection)
