"""``validate``: see whether images are what they say they are."""

from __future__ import annotations

from typing import Annotated

import typer

import asyncrane
from asyncrane.cli.options import Connection, OnePlatform, platform
from asyncrane.cli.output import Output
from asyncrane.cli.run import reporting, with_session


def validate(
    *,
    remote: Annotated[
        list[str] | None, typer.Option("--remote", metavar="IMAGE", help="An image; may be said again.")
    ] = None,
    tarball: Annotated[
        list[str] | None,
        typer.Option("--tarball", metavar="FILE", help="All images in an archive (-: stdin); may be said again."),
    ] = None,
    layout: Annotated[
        list[str] | None,
        typer.Option("--layout", metavar="DIR", help="All images in an OCI layout; may be said again."),
    ] = None,
    fast: Annotated[bool, typer.Option("--fast", help="Only see whether layers are there; read none.")] = False,
    platform_: OnePlatform = None,
    connection: Connection,
) -> None:
    """See whether images are well-formed: digests, sizes, media types, diff ids, tars, configs, platforms.

    Every blob is read once, many at a time. PASS or FAIL for each image on stdout; the exit code is 5 if one failed.
    """
    with reporting(verbose=connection.verbose):
        if not (remote or tarball or layout):
            raise asyncrane.InvalidInput("validate what? (--remote IMAGE, --tarball FILE, --layout DIR)")
    output = Output()

    def show(verdict: asyncrane.Verdict) -> None:
        wrong = "; ".join(line for line in verdict.problem.splitlines() if line)
        output.line(f"PASS: {verdict.name}" if verdict.passed else f"FAIL: {verdict.name}: {wrong}")

    async def operation(session: asyncrane.Session) -> None:
        verdicts = await asyncrane.validate(
            session,
            remotes=remote or (),
            tarballs=tarball or (),
            layouts=layout or (),
            platform=platform(platform_),
            fast=fast,
            on_verdict=show,
        )
        if failed := [verdict.name for verdict in verdicts if not verdict.passed]:
            count = f"{len(failed)} of {len(verdicts)} are" if len(verdicts) > 1 else f"{failed[0]} is"
            raise asyncrane.ContentError(f"{count} not well-formed")

    with_session(operation, connection)
