"""``ls`` and ``catalog``: list what there is."""

from __future__ import annotations

from typing import Annotated

import typer

import asyncrane
from asyncrane.cli.options import Connection, FullRef, RegistryArgument, RepositoryArgument
from asyncrane.cli.output import Output
from asyncrane.cli.run import with_session

OmitDigestTags = Annotated[
    bool,
    typer.Option("--omit-digest-tags", "-O", help="Leave out tags that stand for a digest (sha256-...)."),
]


def ls(
    repository: RepositoryArgument,
    *,
    full_ref: FullRef = False,
    omit_digest_tags: OmitDigestTags = False,
    connection: Connection,
) -> None:
    """List the tags of a repository."""

    async def operation(session: asyncrane.Session) -> None:
        output = Output()
        async for reference in asyncrane.tags(session, repository, digest_tags=not omit_digest_tags):
            output.line(str(reference) if full_ref else str(reference.tag))

    with_session(operation, connection)


def catalog(registry: RegistryArgument, *, full_ref: FullRef = False, connection: Connection) -> None:
    """List the repositories of a registry."""

    async def operation(session: asyncrane.Session) -> None:
        output = Output()
        async for repository in asyncrane.catalog(session, registry):
            output.line(str(repository) if full_ref else repository.path)

    with_session(operation, connection)
