"""Results to stdout, for people or as JSON; everything else to stderr."""

from __future__ import annotations

import sys
from typing import Any

import msgspec


class OutputClosed(Exception):
    """Nobody reads stdout any more (``asyncrane ls REPO | head -1``)."""


class Output:
    """Where results go. ``json`` says whether :meth:`result` prints."""

    def __init__(self, *, json: bool = False) -> None:
        self.json = json

    def line(self, text: str) -> None:
        """A result that is a line."""
        self.raw(f"{text}\n".encode(errors="surrogateescape"))

    def raw(self, content: bytes) -> None:
        """A result that is bytes; nothing is added.

        :raises OutputClosed: when nobody reads any more
        """
        try:
            sys.stdout.buffer.write(content)
            sys.stdout.buffer.flush()
        except BrokenPipeError as exc:
            raise OutputClosed from exc

    def result(self, value: Any) -> None:
        """A result that is a value: printed where JSON was asked for, nothing otherwise."""
        if self.json:
            self.raw(msgspec.json.format(msgspec.json.encode(value), indent=2) + b"\n")


def note(text: str) -> None:
    """One line on stderr."""
    sys.stderr.write(" ".join(text.split("\n")).rstrip() + "\n")
    sys.stderr.flush()
