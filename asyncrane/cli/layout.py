"""``layout gc``: look after OCI layouts on disk."""

from __future__ import annotations

from typing import Annotated

import typer

import asyncrane
from asyncrane.cli.output import Output, note
from asyncrane.cli.run import start


def gc(
    directory: Annotated[str, typer.Argument(metavar="DIR", help="The OCI layout.")],
    *,
    dry_run: Annotated[bool, typer.Option("--dry-run", help="Only print what would be removed.")] = False,
) -> None:
    """Remove what no image of an OCI layout uses, and print its digests.

    Let no other tool write into the layout meanwhile.
    """

    async def operation() -> None:
        output = Output()
        removed = await asyncrane.layout_gc(directory.removeprefix("oci:"), dry_run=dry_run)
        for garbage in removed:
            output.line(str(garbage))
        size = sum(garbage.size for garbage in removed)
        note(f"{len(removed)} blob{'s' * (len(removed) != 1)}, {size} bytes{' would be' * dry_run} removed")

    start(operation)
