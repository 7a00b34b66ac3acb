"""``mirror verify``, ``mirror schema``, ``mirror convert`` and ``diff``: is it what it should be?"""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import msgspec
import typer

import asyncrane
from asyncrane.cli.mirror import SpecArgument
from asyncrane.cli.options import Connection
from asyncrane.cli.output import Output, note
from asyncrane.cli.quantities import plural
from asyncrane.cli.run import reporting, with_session

Deep = Annotated[
    bool, typer.Option("--deep", help="Read every manifest back, ask for every blob and everything attached.")
]


def verify(
    spec: SpecArgument,
    *,
    deep: Deep = False,
    repair: Annotated[bool, typer.Option("--repair", help="Copy what is missing or differs.")] = False,
    connection: Connection,
) -> None:
    """Compare the destinations with the sources; differences are JSON lines on stdout, and exit code 1."""
    with reporting(verbose=connection.verbose):
        loaded = asyncrane.load_mirror(spec)

    async def operation(session: asyncrane.Session) -> None:
        output = Output()
        verdict = await asyncrane.mirror_verify(
            session, loaded, deep=deep, repair=repair, on_difference=lambda found: _print(output, found)
        )
        note(_sum_up(verdict.compared, verdict.found, f", {verdict.repaired} repaired" if repair else ""))
        for failure in verdict.failures:
            note(f"not repaired: {failure.message}")
        if verdict.left:
            raise asyncrane.JobsFailed(f"{plural(verdict.left, 'difference')} left")

    with_session(operation, connection, registries=loaded.registries)


def diff(
    a: Annotated[str, typer.Argument(metavar="A", help="A repository, or with -r a tree: HOST/PREFIX.")],
    b: Annotated[str, typer.Argument(metavar="B", help="Another one.")],
    *,
    recursive: Annotated[bool, typer.Option("--recursive", "-r", help="A and B are trees of repositories.")] = False,
    deep: Deep = False,
    connection: Connection,
) -> None:
    """Compare the tags of two repositories, or trees, by digest; nothing is copied."""

    async def operation(session: asyncrane.Session) -> None:
        output = Output()
        totals = await asyncrane.diff(
            session, a, b, recursive=recursive, deep=deep, on_difference=lambda found: _print(output, found)
        )
        note(_sum_up(totals.compared, totals.differences, ""))
        if totals.differences:
            raise asyncrane.JobsFailed(f"{plural(totals.differences, 'difference')}")

    with_session(operation, connection)


def schema() -> None:
    """Print the JSON Schema of mirror files."""
    Output(json=True).result(asyncrane.mirror_schema())


def convert(
    files: Annotated[list[Path], typer.Argument(metavar="FILE", help="skopeo sync, regsync or image-syncer files.")],
    *,
    destination: Annotated[
        str | None, typer.Option("--to", metavar="HOST/PATH", help="Where to, for files that do not say so.")
    ] = None,
) -> None:
    """Turn another tool's file into a mirror file; what has no equivalent is named on stderr."""
    with reporting():
        converted = asyncrane.mirror_convert(files, destination=destination)
        Output().raw(converted.text.encode())
        for text in converted.notes:
            note(text)


def _print(output: Output, difference: asyncrane.Difference) -> None:
    output.raw(msgspec.json.encode(difference) + b"\n")


def _sum_up(compared: int, found: int, more: str) -> str:
    return f"{plural(compared, 'image')} compared, {plural(found, 'difference')}{more}"
