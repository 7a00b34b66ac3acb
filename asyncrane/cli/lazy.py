"""Commands that are made when they are asked for: making all of them took most of the time that ``--help`` needed."""

from __future__ import annotations

import inspect
from collections.abc import Callable, Iterator, MutableMapping, Sequence
from importlib import import_module
from typing import Any, NamedTuple

import typer

from asyncrane.cli.help import CONTEXT, Command, Group


class Entry(NamedTuple):
    """One command: its name, ``module:function`` below :mod:`asyncrane.cli`, and where help shows it."""

    name: str
    home: str
    panel: str | None = None
    hidden: bool = False

    @property
    def function(self) -> Callable[..., None]:
        """What it does."""
        module, _, name = self.home.partition(":")
        found: Callable[..., None] = getattr(import_module(f"asyncrane.cli.{module}"), name)
        return found

    @property
    def summary(self) -> str:
        """The first sentence about it."""
        first = (inspect.getdoc(self.function) or "").partition("\n\n")[0]
        return " ".join(first.split()).partition(". ")[0].rstrip(".") + "."

    def make(self) -> Any:
        """The command, ready to parse words."""
        from asyncrane.cli.options import flat

        alone = typer.Typer(add_completion=False, context_settings=CONTEXT)
        alone.command(self.name, cls=Command, hidden=self.hidden, context_settings=CONTEXT)(flat(self.function))
        return typer.main.get_command(alone)


class Branch(NamedTuple):
    """A group of commands."""

    name: str
    summary: str
    entries: tuple[Entry, ...]
    panel: str | None = None
    hidden: bool = False

    def make(self) -> Any:
        """The group, ready to parse words."""
        group = Group(name=self.name, help=self.summary, context_settings=CONTEXT)
        group.hidden = self.hidden
        group.commands = Commands(self.entries)
        return group


class Commands(MutableMapping[str, Any]):
    """Commands by name; ``entries`` is what is known of them without making them."""

    def __init__(self, entries: Sequence[Entry | Branch]) -> None:
        self.entries = {entry.name: entry for entry in entries}
        self._made: dict[str, Any] = {}

    def __getitem__(self, name: str) -> Any:
        if name not in self._made:
            self._made[name] = self.entries[name].make()
        return self._made[name]

    def __setitem__(self, name: str, command: Any) -> None:
        self._made[name] = command

    def __delitem__(self, name: str) -> None:
        del self._made[name]

    def __iter__(self) -> Iterator[str]:
        return iter(self.entries)

    def __len__(self) -> int:
        return len(self.entries)
