"""The table of commands, and where the program starts."""

from __future__ import annotations

import gc
from collections.abc import Callable, Sequence
from typing import Annotated

import typer

import asyncrane
from asyncrane.cli import auth, copy, demo, edit, inspect, listing, registry
from asyncrane.cli.help import CONTEXT, Command, Group
from asyncrane.cli.options import flat
from asyncrane.cli.output import Output, note, restore_streams
from asyncrane.cli.run import reporting

_ANYWHERE = "Options of many commands, before or after the command"


def _group(name: str, text: str) -> typer.Typer:
    return typer.Typer(name=name, help=text, cls=Group, add_completion=False, context_settings=CONTEXT)


app = typer.Typer(
    name="asyncrane",
    cls=Group,
    add_completion=False,
    pretty_exceptions_enable=False,
    context_settings=CONTEXT,
    epilog="Exit codes: 0 done, 1 failed, 2 wrong words, 3 not found, 4 not allowed, 5 wrong content, 6 rate limited.",
)
_auth = _group("auth", "Log in, log out, look credentials up.")
_registry = _group("registry", "A registry to use and throw away.")


def version() -> None:
    """Print the version."""
    Output().line(asyncrane.__version__)


def _version(wanted: bool) -> None:
    if wanted:
        version()
        raise typer.Exit


@app.callback()
def _about(
    insecure: Annotated[
        bool,
        typer.Option("--insecure", help="Plain HTTP, certificates unchecked.", rich_help_panel=_ANYWHERE),
    ] = False,
    platform: Annotated[
        str,
        typer.Option(
            "--platform",
            metavar="OS/ARCH",
            help="One of OS/ARCH[/VARIANT][:OSVERSION], or all.",
            show_default=False,
            rich_help_panel=_ANYWHERE,
        ),
    ] = "all",
    allow_nondistributable_artifacts: Annotated[
        bool,
        typer.Option("--allow-nondistributable-artifacts", help="Copy foreign layers too.", rich_help_panel=_ANYWHERE),
    ] = False,
    verbose: Annotated[
        bool,
        typer.Option("--verbose", "-v", help="Log every request and answer.", rich_help_panel=_ANYWHERE),
    ] = False,
    show_version: Annotated[
        bool, typer.Option("--version", callback=_version, is_eager=True, help="Print the version.")
    ] = False,
) -> None:
    """Move container images between OCI registries: fast, deduplicated, verified."""


_IMAGES, _NAMES, _OTHER = "Images", "Names", "Registries and credentials"
_COMMANDS: tuple[tuple[typer.Typer, str, str | None, Callable[..., None]], ...] = (
    (app, "cp", _IMAGES, copy.copy),
    (app, "digest", _IMAGES, inspect.digest),
    (app, "manifest", _IMAGES, inspect.manifest),
    (app, "config", _IMAGES, inspect.config),
    (app, "blob", _IMAGES, inspect.blob),
    (app, "ls", _NAMES, listing.ls),
    (app, "catalog", _NAMES, listing.catalog),
    (app, "tag", _NAMES, edit.tag),
    (app, "delete", _NAMES, edit.delete),
    (app, "demo", _OTHER, demo.demo),
    (app, "version", _OTHER, version),
    (_auth, "login", None, auth.login),
    (_auth, "logout", None, auth.logout),
    (_auth, "get", None, auth.get),
    (_auth, "token", None, auth.token),
    (_registry, "serve", None, registry.serve),
)
for _parent, _name, _panel, _function in _COMMANDS:
    _parent.command(_name, cls=Command, rich_help_panel=_panel, context_settings=CONTEXT)(flat(_function))
app.command("copy", cls=Command, hidden=True, context_settings=CONTEXT)(flat(copy.copy))
app.add_typer(_auth, rich_help_panel=_OTHER)
app.add_typer(_registry, rich_help_panel=_OTHER)


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the command line, the process's own by default; returns the exit code."""
    restore_streams()
    gc.disable()  # what is imported from here on stays
    try:
        with reporting():
            code = _run(arguments)
    except typer.Exit as ended:
        code = ended.exit_code
    finally:
        gc.enable()
    return code if isinstance(code, int) else 0


def _run(arguments: Sequence[str] | None) -> object:
    try:
        return app(args=arguments, prog_name="asyncrane", standalone_mode=False)
    except typer.TyperException as error:
        ctx = getattr(error, "ctx", None)
        path = ctx.command_path if ctx is not None else "asyncrane"
        said = error.format_message().replace("Value error, ", "").rstrip(".")
        note(f"asyncrane: error: {said} (see '{path} --help')")
        return error.exit_code
    except typer.Abort:
        return 130
