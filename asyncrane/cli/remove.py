"""``delete``, ``untag`` and ``gc``: take away, and see what may be taken away."""

from __future__ import annotations

from typing import Annotated

import typer

import asyncrane
from asyncrane.cli.options import Connection, ImageArgument, RepositoryArgument
from asyncrane.cli.output import Output, note
from asyncrane.cli.run import with_session


def delete(image: ImageArgument, *, connection: Connection) -> None:
    """Delete a tag or, by digest, a manifest with all its tags."""

    async def operation(session: asyncrane.Session) -> None:
        gone = await asyncrane.delete(session, image)
        if gone.reference.digest is None:
            return
        repository = gone.reference.repository
        if gone.tags is None:
            note(f"{repository} does not tell which tags were deleted with {gone.reference.digest!s}")
        for tag in gone.tags or ():
            note(f"deleted with it: {repository}:{tag}")

    with_session(operation, connection)


def untag(image: ImageArgument, *, connection: Connection) -> None:
    """Delete a tag, and never what it names."""

    async def operation(session: asyncrane.Session) -> None:
        await asyncrane.untag(session, image)

    with_session(operation, connection)


def gc(
    repository: RepositoryArgument,
    *,
    recursive: Annotated[bool, typer.Option("--recursive", "-r", help="Repositories below it, too.")] = False,
    connection: Connection,
) -> None:
    """Print the manifests of a repository that no tag leads to; nothing is deleted.

    What a tagged index lists is in use, and so is what is attached to an image in use. Only Google's registries tell
    which manifests have no tag.
    """

    async def operation(session: asyncrane.Session) -> None:
        output = Output()
        async for reference in asyncrane.garbage(session, repository, recursive=recursive):
            output.line(str(reference))

    with_session(operation, connection)
