"""``auth``: log in, log out, and look credentials up."""

from __future__ import annotations

import json
from typing import Annotated

import typer

import asyncrane
from asyncrane.cli.options import Connection, RepositoryArgument
from asyncrane.cli.output import Output, note, read_stdin
from asyncrane.cli.run import reporting, start, with_session

ServerArgument = Annotated[str, typer.Argument(metavar="SERVER", help="HOST[:PORT] of the registry.")]


def login(
    server: ServerArgument,
    *,
    username: Annotated[str, typer.Option("--username", "-u", metavar="NAME", help="User name.")] = "",
    password: Annotated[str, typer.Option("--password", "-p", metavar="PASSWORD", help="Password.")] = "",
    password_stdin: Annotated[bool, typer.Option("--password-stdin", help="Read the password from stdin.")] = False,
) -> None:
    """Keep a user name and password for a registry, which is not asked whether they are right."""
    with reporting():
        if password and password_stdin:
            raise asyncrane.InvalidInput("--password and --password-stdin exclude each other")
        secret = read_stdin().rstrip("\r\n") if password_stdin else password

    async def main() -> None:
        kept = await asyncrane.login(server, username, secret)
        if password:
            note("warning: others on this machine can see a --password; --password-stdin keeps it to yourself")
        if not kept.helper:
            note(f"warning: the password is stored unencrypted in {kept.file}; a credential helper would not do that")
        note(f"logged in via {kept.file}")

    start(main)


def logout(server: ServerArgument) -> None:
    """Forget the credentials for a registry."""

    async def main() -> None:
        known = await asyncrane.logout(server)
        note(f"logged out of {server}" if known else f"not logged in to {server}")

    start(main)


def get(
    server: Annotated[
        str | None,
        typer.Argument(metavar="REGISTRY", help="HOST[:PORT]; else the first line of stdin.", show_default=False),
    ] = None,
) -> None:
    """Print the credentials for a registry as JSON: a credential helper."""
    with reporting():
        name = server if server is not None else read_stdin().partition("\n")[0].strip()

    async def main() -> None:
        found = await asyncrane.find_credential(name)
        output = Output()
        if found.anonymous:
            output.line("credentials not found in native keychain")  # the words that helpers' callers look for
            raise typer.Exit(1)
        username = "<token>" if found.identity_token else found.username
        secret = found.identity_token or found.password or found.registry_token
        output.line(json.dumps({"Username": username, "Secret": secret}, separators=(",", ":")))

    start(main)


def token(
    repository: RepositoryArgument,
    *,
    header: Annotated[bool, typer.Option("--header", "-H", help="Print it as an Authorization header.")] = False,
    push: Annotated[bool, typer.Option("--push", help="To push as well.")] = False,
    mount: Annotated[
        list[str] | None,
        typer.Option("--mount", "-m", metavar="REPO,...", help="To mount blobs from these repositories as well."),
    ] = None,
    connection: Connection,
) -> None:
    """Print a bearer token for a repository."""

    async def operation(session: asyncrane.Session) -> None:
        mounts = [name for text in mount or () for name in text.split(",") if name]
        found = await asyncrane.token(session, repository, push=push, mounts=mounts)
        if header:
            Output().raw(f"Authorization: Bearer {found}".encode())
        else:
            Output().line(json.dumps({"token": found}, separators=(",", ":")))

    with_session(operation, connection)
