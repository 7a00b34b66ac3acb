"""Results to stdout, for people or as JSON; everything else to stderr."""

from __future__ import annotations

import contextlib
import json
import os
import sys
from contextvars import ContextVar
from typing import Any

import msgspec

import asyncrane

_AS_JSON: ContextVar[bool] = ContextVar("notes as JSON", default=False)


class OutputClosed(Exception):
    """Nobody reads stdout any more (``asyncrane ls REPO | head -1``)."""


class Output:
    """Where results go. ``json`` says whether :meth:`result` prints."""

    def __init__(self, *, json: bool = False) -> None:
        self.json = json

    def line(self, text: str) -> None:
        """A result that is a line; as it is, but on a terminal, to which it could do something."""
        text = harmless(text) if sys.stdout.isatty() else text
        self.raw(f"{text}\n".encode(errors="surrogateescape"))

    def raw(self, content: bytes) -> None:
        """A result that is bytes; nothing is added.

        :raises OutputClosed: when nobody reads any more
        :raises AsyncraneError: when it cannot be written
        """
        try:
            sys.stdout.buffer.write(content)
            sys.stdout.buffer.flush()
        except BrokenPipeError as exc:
            raise OutputClosed from exc
        except OSError as exc:
            let_stdout_go()
            raise asyncrane.AsyncraneError(f"cannot write to stdout: {exc.strerror or exc}") from exc

    def result(self, value: Any) -> None:
        """A result that is a value: printed where JSON was asked for, nothing otherwise."""
        if self.json:
            self.raw(msgspec.json.format(msgspec.json.encode(value), indent=2) + b"\n")


def notes_as_json(on: bool) -> None:
    """Let whatever goes to stderr from now on be a JSON object, or no longer: who reads a stream of them trips over any
    other line.
    """
    _AS_JSON.set(on)


def note(text: str) -> None:
    """One line on stderr."""
    _tell(" ".join(text.split("\n")).rstrip())


def trace(text: str) -> None:
    """Several lines on stderr, all but the first indented: what ``-v`` shows of a request."""
    _tell(text.rstrip().replace("\n", "\n    "))


def event(name: str, **values: Any) -> None:
    """A JSON object on stderr."""
    _say(json.dumps({"event": name, **values}))


def _tell(text: str) -> None:
    if _AS_JSON.get():
        event("message", message=text)
    else:
        _say(text)


def _say(text: str) -> None:
    text = harmless(text)  # names and errors come from registries and archives
    with contextlib.suppress(OSError):  # there is nobody left to tell
        sys.stderr.write(f"{text}\n")
        sys.stderr.flush()


def harmless(text: str) -> str:
    """``text`` without what would do something to a terminal; lines stay lines."""
    return text if text.isprintable() else "".join(c if c.isprintable() or c in "\n\t" else "?" for c in text)


def read_stdin() -> str:
    """All of stdin.

    :raises InvalidInput: when it is not text
    """
    try:
        return sys.stdin.buffer.read().decode()
    except UnicodeDecodeError:
        raise asyncrane.InvalidInput("stdin is not UTF-8 text") from None


def let_stdout_go() -> None:
    """Write nothing more: the interpreter flushes stdout once more at the end, which must not fail aloud."""
    with contextlib.suppress(OSError):
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())


def restore_streams() -> None:
    """Open what of stdin, stdout and stderr the caller has closed: else the first socket would take its place."""
    for number in range(3):
        try:
            os.fstat(number)
        except OSError:
            os.open(os.devnull, os.O_RDWR)  # gets the lowest number that is free: this one
    sys.stdin = sys.stdin or os.fdopen(0)
    sys.stdout = sys.stdout or os.fdopen(1, "w")
    sys.stderr = sys.stderr or os.fdopen(2, "w")
