"""``tag``: change what names what, without moving anything."""

from __future__ import annotations

from typing import Annotated

import typer

import asyncrane
from asyncrane.cli.options import Connection, ImageArgument
from asyncrane.cli.output import note
from asyncrane.cli.run import with_session

TagsArgument = Annotated[list[str], typer.Argument(metavar="TAG", help="Tags to give it, in the same repository.")]


def tag(image: ImageArgument, tags: TagsArgument, *, connection: Connection) -> None:
    """Give an image another tag, or several."""

    async def operation(session: asyncrane.Session) -> None:
        found = await asyncrane.tag(session, image, *tags)
        repository = asyncrane.Reference.parse(image).repository
        for name in dict.fromkeys(tags):
            note(f"{repository}:{name}: digest: {found.digest!s} size: {found.size}")

    with_session(operation, connection)
