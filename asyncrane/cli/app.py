"""The table of commands, and where the program starts."""

from __future__ import annotations

import contextlib
import sys
from collections.abc import Sequence
from typing import Annotated, Any

import typer
from typer.core import TyperGroup

import asyncrane
from asyncrane.cli import auth, copy, demo, edit, inspect, listing, registry
from asyncrane.cli.options import flat
from asyncrane.cli.output import Output, note

_FLAGS = frozenset({"--insecure", "--allow-nondistributable-artifacts", "--verbose", "-v"})
_VALUED = frozenset({"--platform"})
_JOINED = tuple(f"{name}=" for name in _VALUED)
_USAGE = 2
_ANYWHERE = "Before or after the command, where they mean something"


class Group(TyperGroup):
    """A group of commands. Options that crane takes anywhere may stand before the command too: they are handed to it,
    so that a command for which one has no effect refuses it (promise E4).
    """

    def parse_args(self, ctx: Any, args: list[str]) -> list[str]:
        """Move the options before the command behind it; without a command explain what there is."""
        if not args:
            with contextlib.redirect_stdout(sys.stderr):
                typer.echo(ctx.get_help(), err=True)
            raise typer.Exit(_USAGE)
        return super().parse_args(ctx, behind_the_command(args))


def behind_the_command(args: list[str]) -> list[str]:
    """``args`` with leading global options moved behind the first word that is none."""
    at = 0
    while at < len(args):
        if args[at] in _FLAGS or args[at].startswith(_JOINED):
            at += 1
        elif args[at] in _VALUED and at + 1 < len(args):
            at += 2
        else:
            break
    if at == len(args) or args[at].startswith("-"):
        return args
    return [args[at], *args[:at], *args[at + 1 :]]


def _group(name: str, text: str) -> typer.Typer:
    return typer.Typer(name=name, help=text, cls=Group, add_completion=False, context_settings=_CONTEXT)


_CONTEXT = {"help_option_names": ["-h", "--help"]}
app = typer.Typer(
    name="asyncrane",
    cls=Group,
    add_completion=False,
    pretty_exceptions_enable=False,
    context_settings=_CONTEXT,
    epilog="Exit codes: 0 done, 1 failed, 2 wrong words, 3 not found, 4 not allowed, 5 wrong content, 6 rate limited.",
)
_auth = _group("auth", "Log in, log out, look credentials up.")
_registry = _group("registry", "A registry to use and throw away.")


@app.callback()
def _about(
    insecure: Annotated[
        bool,
        typer.Option("--insecure", metavar="", help="Plain HTTP, certificates unchecked.", rich_help_panel=_ANYWHERE),
    ] = False,
    platform: Annotated[
        str,
        typer.Option(
            "--platform",
            metavar="OS/ARCH",
            help=r"os/arch\[/variant]\[:osversion], or all.",
            show_default=False,
            rich_help_panel=_ANYWHERE,
        ),
    ] = "all",
    allow_nondistributable_artifacts: Annotated[
        bool,
        typer.Option(
            "--allow-nondistributable-artifacts", metavar="", help="Copy foreign layers too.", rich_help_panel=_ANYWHERE
        ),
    ] = False,
    verbose: Annotated[
        bool,
        typer.Option("--verbose", "-v", metavar="", help="Log every request and answer.", rich_help_panel=_ANYWHERE),
    ] = False,
) -> None:
    """Move container images between OCI registries: fast, deduplicated, verified."""


def version() -> None:
    """Print the version."""
    Output().line(asyncrane.__version__)


_IMAGES, _NAMES, _OTHER = "Images", "Names", "Registries and credentials"
app.command("cp", rich_help_panel=_IMAGES)(flat(copy.copy))
app.command("copy", hidden=True)(flat(copy.copy))
app.command("digest", rich_help_panel=_IMAGES)(flat(inspect.digest))
app.command("manifest", rich_help_panel=_IMAGES)(flat(inspect.manifest))
app.command("config", rich_help_panel=_IMAGES)(flat(inspect.config))
app.command("blob", rich_help_panel=_IMAGES)(flat(inspect.blob))
app.command("ls", rich_help_panel=_NAMES)(flat(listing.ls))
app.command("catalog", rich_help_panel=_NAMES)(flat(listing.catalog))
app.command("tag", rich_help_panel=_NAMES)(flat(edit.tag))
app.command("delete", rich_help_panel=_NAMES)(flat(edit.delete))
_auth.command("login")(flat(auth.login))
_auth.command("logout")(flat(auth.logout))
_auth.command("get")(flat(auth.get))
_auth.command("token")(flat(auth.token))
_registry.command("serve")(flat(registry.serve))
app.add_typer(_auth, rich_help_panel=_OTHER)
app.add_typer(_registry, rich_help_panel=_OTHER)
app.command("demo", rich_help_panel=_OTHER)(flat(demo.demo))
app.command("version", rich_help_panel=_OTHER)(flat(version))


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the command line, the process's own by default; returns the exit code."""
    try:
        code = app(args=arguments, prog_name="asyncrane", standalone_mode=False)
    except typer.TyperException as error:
        ctx = getattr(error, "ctx", None)
        path = ctx.command_path if ctx is not None else "asyncrane"
        note(f"asyncrane: error: {error.format_message()} (see '{path} --help')")
        code = error.exit_code
    except typer.Abort:
        code = 130
    except KeyboardInterrupt:
        note("asyncrane: interrupted")
        code = 130
    return code if isinstance(code, int) else 0
