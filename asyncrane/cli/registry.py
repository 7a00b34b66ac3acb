"""``registry serve``: a registry to use and throw away."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Annotated

import typer

import asyncrane
from asyncrane.cli.options import Verbose
from asyncrane.cli.output import note
from asyncrane.cli.run import start


def serve(
    *,
    address: Annotated[
        str | None,
        typer.Option(
            "--address",
            metavar="[HOST]:PORT",
            help="Listen here. [default: 0.0.0.0:$PORT, or without PORT a free port of 127.0.0.1]",
            show_default=False,
        ),
    ] = None,
    disk: Annotated[
        Path | None, typer.Option("--disk", metavar="DIR", help="Keep everything in this directory, not in memory.")
    ] = None,
    htpasswd: Annotated[
        Path | None, typer.Option("--htpasswd", metavar="FILE", help="Only for the users of this file.")
    ] = None,
    verbose: Verbose = False,
) -> None:
    """Serve a registry until Ctrl-C or SIGTERM."""

    async def main() -> None:
        import anyio

        async with asyncrane.serve(
            address=_address(address), disk=disk, htpasswd=htpasswd, log=note if verbose else None
        ) as bound:
            note(f"serving on http://{bound} ({f'in {disk}' if disk is not None else 'in memory'})")
            await anyio.sleep_forever()

    start(main, verbose=verbose, endless=True)


def _address(given: str | None) -> str:
    """Where to listen: as given (``:PORT`` is every interface, as in crane), as ``PORT`` says, or anywhere."""
    port = os.environ.get("PORT", "")
    wanted = given if given is not None else f":{port}" if port else ""
    return f"0.0.0.0{wanted}" if wanted.startswith(":") else wanted  # noqa: S104 - that is what was asked for
