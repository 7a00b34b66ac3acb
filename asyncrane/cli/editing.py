"""``edit config|manifest|fs``: what an image is made of, in an editor, or replaced by what comes on stdin."""

from __future__ import annotations

import os
import shlex
import subprocess
import sys
import tempfile
from collections.abc import Awaitable, Callable
from pathlib import Path
from typing import Annotated

import typer

import asyncrane
from asyncrane.cli.index import TagOption
from asyncrane.cli.options import Connection, ImageArgument, OnePlatform, platform
from asyncrane.cli.output import Output, note
from asyncrane.cli.run import reporting, with_session

_Edit = bytes | Callable[[bytes], Awaitable[bytes]]


def config(
    image: ImageArgument, *, tag: TagOption = None, platform_: OnePlatform = None, connection: Connection
) -> None:
    """Edit an image's config in $EDITOR, or replace it by stdin.

    Its diff_ids must stay those of the layers. Of a multi-arch image that of linux/amd64, or of --platform, is edited;
    the others stay.
    """

    async def operation(session: asyncrane.Session) -> None:
        made = await asyncrane.edit_config(session, image, edit, tag=tag, platform=platform(platform_))
        _show(made, tag or image)

    edit = _edit(".json", connection)
    with_session(operation, connection)


def manifest(
    image: ImageArgument,
    *,
    tag: TagOption = None,
    media_type: Annotated[
        str | None, typer.Option("--media-type", "-m", metavar="TYPE", help="What it is. [default: what it says]")
    ] = None,
    connection: Connection,
) -> None:
    """Edit a manifest in $EDITOR, or replace it by stdin, byte for byte.

    What it names must be there.
    """

    async def operation(session: asyncrane.Session) -> None:
        _show(await asyncrane.edit_manifest(session, image, edit, tag=tag, media_type=media_type), tag or image)

    edit = _edit(".json", connection)
    with_session(operation, connection)


def fs(
    image: ImageArgument,
    *,
    filename: Annotated[str, typer.Option("--filename", "-f", metavar="PATH", help="The file.", show_default=False)],
    tag: TagOption = None,
    platform_: OnePlatform = None,
    connection: Connection,
) -> None:
    """Edit a file of an image in $EDITOR, or replace it by stdin, as a new layer.

    Stdin goes into every image of a multi-arch one, unless --platform says which.
    """

    async def operation(session: asyncrane.Session) -> None:
        made = await asyncrane.edit_file(session, image, filename, edit, tag=tag, platform=platform(platform_))
        _show(made, tag or image)

    edit = _edit(Path(filename).suffix, connection)
    with_session(operation, connection)


def _show(made: asyncrane.Published, asked: str) -> None:
    """The image as it was asked for, or by its new digest (as crane prints it)."""
    for text in made.notes:
        note(text)
    Output().line(asked if made.location.tag is not None else str(made.reference))


def _edit(suffix: str, connection: Connection) -> _Edit:
    """What stdin brings or, where somebody sits there, an editor."""
    with reporting(verbose=connection.verbose):
        if not sys.stdin.isatty():
            return sys.stdin.buffer.read()
        command = shlex.split(os.environ.get("EDITOR", "")) or ["vi"]

    async def edited(content: bytes) -> bytes:
        import anyio.to_thread

        return await anyio.to_thread.run_sync(_in_editor, command, content, suffix)

    return edited


def _in_editor(command: list[str], content: bytes, suffix: str) -> bytes:
    """Let somebody edit ``content``; in a thread.

    :raises AsyncraneError: when the editor is not there, or ends as if something had gone wrong
    """
    with tempfile.TemporaryDirectory(prefix="asyncrane-edit-") as directory:
        path = Path(directory) / f"edit{suffix}"
        path.write_bytes(content)
        terminal = None if sys.stdout.isatty() else sys.stderr
        try:
            ended = subprocess.run([*command, str(path)], stdout=terminal, check=False)  # noqa: S603  (the user's own)
        except OSError as exc:
            raise asyncrane.AsyncraneError(f"cannot run the editor {command[0]}: {exc.strerror or exc}") from exc
        if ended.returncode:
            raise asyncrane.AsyncraneError(f"{command[0]} ended with {ended.returncode}: nothing was changed")
        return path.read_bytes()
