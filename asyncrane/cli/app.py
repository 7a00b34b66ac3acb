"""The table of commands, and where the program starts."""

from __future__ import annotations

import gc
from collections.abc import Sequence
from typing import Annotated, Any

import typer

import asyncrane
from asyncrane.cli.completion import answer_shells
from asyncrane.cli.help import CONTEXT, Group
from asyncrane.cli.lazy import Branch, Commands, Entry
from asyncrane.cli.output import Output, note, restore_streams
from asyncrane.cli.run import reporting

_ANYWHERE = "Options of many commands, before or after the command"


def version() -> None:
    """Print the version."""
    Output().line(asyncrane.__version__)


def _version(wanted: bool) -> None:
    if wanted:
        version()
        raise typer.Exit


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


_IMAGES, _EDITS, _NAMES, _OTHER = "Images", "Edits", "Names", "Registries and credentials"
_RUNS, _PAST, _FILES = "Runs", "What happened", "Mirror files"

_MIRROR = (
    Entry("plan", "mirror:plan", _RUNS),
    Entry("apply", "mirror:apply", _RUNS),
    Entry("resume", "mirror:resume", _RUNS),
    Entry("retry-failed", "mirror:retry_failed", _RUNS),
    Entry("verify", "check:verify", _RUNS),
    Entry("runs", "history:runs", _PAST),
    Entry("explain", "history:explain", _PAST),
    Entry("rollback", "history:rollback", _PAST),
    Entry("report", "history:report", _PAST),
    Entry("schema", "check:schema", _FILES),
    Entry("convert", "check:convert", _FILES),
)
_AUTH = (
    Entry("login", "auth:login"),
    Entry("logout", "auth:logout"),
    Entry("get", "auth:get"),
    Entry("token", "auth:token"),
)
_INDEX = (
    Entry("append", "index:append"),
    Entry("filter", "index:filter_"),
    Entry("remove", "index:remove"),
    Entry("list", "index:list_"),
)
_EDIT = (
    Entry("config", "editing:config"),
    Entry("manifest", "editing:manifest"),
    Entry("fs", "editing:fs"),
)
COMMANDS: tuple[Entry | Branch, ...] = (
    Entry("cp", "copy:copy", _IMAGES),
    Entry("copy", "copy:copy", hidden=True),
    Entry("pull", "local:pull", _IMAGES),
    Entry("push", "local:push", _IMAGES),
    Entry("digest", "inspect:digest", _IMAGES),
    Entry("manifest", "inspect:manifest", _IMAGES),
    Entry("config", "inspect:config", _IMAGES),
    Entry("blob", "inspect:blob", _IMAGES),
    Entry("export", "reshape:export", _IMAGES),
    Entry("validate", "validate:validate", _IMAGES),
    Entry("diff", "check:diff", _IMAGES),
    Branch("mirror", "Fleets of images, from one file: planned, resumable, verified.", _MIRROR, _IMAGES),
    Entry("append", "surgery:append", _EDITS),
    Entry("mutate", "surgery:mutate", _EDITS),
    Entry("rebase", "rebase:rebase", _EDITS),
    Entry("flatten", "reshape:flatten", _EDITS),
    Entry("convert", "convert:convert", _EDITS),
    Branch("index", "Images for several platforms.", _INDEX, _EDITS),
    Entry("ls", "listing:ls", _NAMES),
    Entry("catalog", "listing:catalog", _NAMES),
    Entry("tag", "edit:tag", _NAMES),
    Entry("untag", "remove:untag", _NAMES),
    Entry("delete", "remove:delete", _NAMES),
    Entry("gc", "remove:gc", _NAMES),
    Entry("demo", "demo:demo", _OTHER),
    Entry("version", "app:version", _OTHER),
    Branch("auth", "Log in, log out, look credentials up.", _AUTH, _OTHER),
    Branch("registry", "A registry to use and throw away.", (Entry("serve", "registry:serve"),), _OTHER),
    Entry("completion", "completion:completion", _OTHER),
    Branch("edit", "Change parts of an image in an editor.", _EDIT, _EDITS, hidden=True),
    Branch("layout", "OCI image layouts.", (Entry("gc", "layout:gc"),), _OTHER, hidden=True),
)
"""Every command there is."""


class _Root(Group):
    """The program itself."""

    def __init__(self, **attributes: Any) -> None:
        super().__init__(**attributes)
        self.commands = Commands(COMMANDS)


app = typer.Typer(
    name="asyncrane",
    cls=_Root,
    add_completion=False,
    pretty_exceptions_enable=False,
    context_settings=CONTEXT,
    epilog="Exit codes: 0 done, 1 failed, 2 wrong words, 3 not found, 4 not allowed, 5 wrong content, 6 rate limited.",
)
app.callback()(_about)


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the command line, the process's own by default; returns the exit code."""
    restore_streams()
    answer_shells()
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
