"""How help reads, and how words are read: plain text in two columns as wide as the terminal, flags as crane takes them.

Nothing is cut off: a name too long for its column has a line of its own.
"""

from __future__ import annotations

import contextlib
import os
import sys
from collections.abc import Iterable, Iterator, Mapping, Sequence
from typing import Any

import typer
from typer.core import TyperCommand, TyperGroup

_COLUMN = 30
_WIDEST = 100
_UNBROKEN = "\N{NO-BREAK SPACE}"
_TRUE = frozenset({"1", "t", "T", "true", "TRUE", "True"})
_FALSE = frozenset({"0", "f", "F", "false", "FALSE", "False"})

FLAGS = frozenset({"--insecure", "--allow-nondistributable-artifacts", "--verbose", "-v"})
"""Flags that crane takes before the command, too."""
VALUED = frozenset({"--platform"})
"""Options that crane takes before the command, too."""

WORDS_ONLY = "_ASYNCRANE_COMPLETE_WORDS"
"""The environment variable by which a shell asks what may come next, and not what it means."""

CONTEXT: dict[str, Any] = {"help_option_names": ["-h", "--help"], "max_content_width": _WIDEST}


class Command(TyperCommand):
    """One command."""

    def parse_args(self, ctx: Any, args: list[str]) -> list[str]:
        """Read flags with a value, as Go programs take them (``--insecure=true``)."""
        options = [param for param in self.get_params(ctx) if param.param_type_name == "option"]
        flags = {
            name: next(iter(option.secondary_opts), "")
            for option in options
            if getattr(option, "is_flag", False)
            for name in option.opts
        }
        try:
            return super().parse_args(ctx, without_values(args, flags))
        except ValueError as exc:
            raise typer.BadParameter(str(exc), ctx=ctx) from None

    def shell_complete(self, ctx: Any, incomplete: str) -> list[Any]:
        """Tell a shell what may come next."""
        return _as_asked(super().shell_complete(ctx, incomplete))

    def format_help(self, ctx: Any, formatter: Any) -> None:
        """Write the help."""
        arguments = [param for param in self.get_params(ctx) if param.param_type_name == "argument"]
        words = (f"{argument.metavar}{'...' if argument.nargs == -1 else ''}" for argument in arguments)
        formatter.write_usage(ctx.command_path, " ".join([*words, "[OPTIONS]"]))
        _write_text(formatter, self.help)
        panels = {"Arguments": [(str(argument.metavar), _described(argument)) for argument in arguments]}
        _write_panels(formatter, panels | _options(self.get_params(ctx)))
        _write_text(formatter, self.epilog)


class Group(TyperGroup):
    """A group of commands. Options that crane takes anywhere may stand before the command too: they are handed to it,
    so that a command for which one has no effect refuses it (promise E4).
    """

    def parse_args(self, ctx: Any, args: list[str]) -> list[str]:
        """Move the options before the command behind it; without a command explain what there is."""
        if not args and not ctx.resilient_parsing:  # a shell that asks what may come next gets no help text
            with contextlib.redirect_stdout(sys.stderr):
                typer.echo(ctx.get_help(), err=True)
            raise typer.Exit(2)
        return super().parse_args(ctx, behind_the_command(args))

    def shell_complete(self, ctx: Any, incomplete: str) -> list[Any]:
        """Tell a shell what may come next."""
        return _as_asked(super().shell_complete(ctx, incomplete))

    def format_help(self, ctx: Any, formatter: Any) -> None:
        """Write the help."""
        formatter.write_usage(ctx.command_path, "COMMAND [OPTIONS]")
        _write_text(formatter, self.help)
        panels: dict[str, list[tuple[str, str]]] = {}
        for name, entry in self.commands.entries.items():  # type: ignore[attr-defined]  # see asyncrane.cli.lazy
            if not entry.hidden:
                panels.setdefault(entry.panel or "Commands", []).append((name, entry.summary))
        _write_panels(formatter, panels)
        _write_panels(formatter, _options(self.get_params(ctx)))
        _write_text(formatter, self.epilog)


def _as_asked(found: list[Any]) -> list[Any]:
    """What may come next, with or without what it means."""
    if os.environ.get(WORDS_ONLY):
        for item in found:
            item.help = None
    return found


def behind_the_command(args: list[str]) -> list[str]:
    """``args`` with leading global options moved behind the first word that is none."""
    at = 0
    while at < len(args):
        name, joined, _ = args[at].partition("=")
        if name in FLAGS or (joined and name in VALUED):
            at += 1
        elif name in VALUED and at + 1 < len(args):
            at += 2
        else:
            break
    if at == len(args) or args[at].startswith("-"):
        return args
    return [args[at], *args[:at], *args[at + 1 :]]


def without_values(args: Sequence[str], flags: Mapping[str, str]) -> list[str]:
    """``args`` with ``--flag=true`` as ``--flag``, and ``--flag=false`` as what says so (``--no-flag``), or left out
    where ``flags`` has nothing for it.

    :raises ValueError: when a flag's value is neither
    """
    end = args.index("--") if "--" in args else len(args)
    kept: list[str] = []
    for word in args[:end]:
        name, joined, value = word.partition("=")
        if not joined or name not in flags:
            kept.append(word)
        elif value in _TRUE:
            kept.append(name)
        elif value not in _FALSE:
            raise ValueError(f"{value!r} is neither true nor false: {word}")
        elif flags[name]:
            kept.append(flags[name])
    return [*kept, *args[end:]]


def _options(params: Iterable[Any]) -> dict[str, list[tuple[str, str]]]:
    panels: dict[str, list[tuple[str, str]]] = {"Options": []}
    for param in params:
        if param.param_type_name != "argument" and not getattr(param, "hidden", False):
            panel = getattr(param, "rich_help_panel", None) or "Options"
            panels.setdefault(panel, []).append((_names(param), _described(param)))
    return panels


def _names(option: Any) -> str:
    """``-j, --jobs N``, with room for a short name where there is none."""
    short = next((name for name in option.opts if not name.startswith("--")), "")
    long = next((name for name in option.opts if name.startswith("--")), "")
    value = "" if option.is_flag else f" {option.metavar}"
    return f"{f'{short}, ' if short else '    '}{long}{value}"


def _described(param: Any) -> str:
    default = param.default
    plain = isinstance(default, str | int | float) and not isinstance(default, bool)
    return f"{param.help or ''} [default:{_UNBROKEN}{default}]" if plain and param.show_default else param.help or ""


def _write_text(formatter: Any, text: str | None) -> None:
    if text:
        formatter.write_paragraph()
        formatter.write_text(text)


def _write_panels(formatter: Any, panels: dict[str, list[tuple[str, str]]]) -> None:
    names = [name for rows in panels.values() for name, _ in rows]
    width = max((len(name) for name in names if len(name) <= _COLUMN), default=0)
    for title, rows in panels.items():
        if rows:
            with formatter.section(_styled(title, bold=True)):
                formatter.write_dl(list(_lines(rows, width)), col_max=width)
    formatter.buffer[:] = [written.replace(_UNBROKEN, " ") for written in formatter.buffer]


def _lines(rows: Iterable[tuple[str, str]], width: int) -> Iterator[tuple[str, str]]:
    """The rows as wide as all others; what is wider has its text on the next line."""
    for name, text in rows:
        shown = _styled(name, fg="cyan")
        if len(name) > width:
            yield shown, ""
            yield " " * width, text
        else:
            yield shown + " " * (width - len(name)), text


def _styled(text: str, **style: Any) -> str:
    """Coloured; what is not written to a terminal is stripped of it by ``typer.echo``."""
    return text if os.environ.get("NO_COLOR") or os.environ.get("TERM") == "dumb" else typer.style(text, **style)
