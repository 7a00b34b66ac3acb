"""Files that ``--from-file`` names, ``-`` being stdin: a line for each image, comments behind ``#``."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import asyncrane
from asyncrane.cli.output import read_stdin

_STDIN = "-"


def read_list(name: str) -> tuple[str, str]:
    """What the file is called in messages, and its text.

    :raises InvalidInput: when it cannot be read, or is not text
    """
    if name == _STDIN:
        return "stdin", read_stdin()
    try:
        return name, Path(name).read_text(encoding="utf-8")
    except OSError as exc:
        raise asyncrane.InvalidInput(f"cannot read {name}: {exc.strerror or exc}") from exc
    except UnicodeDecodeError:
        raise asyncrane.InvalidInput(f"cannot read {name}: it is not UTF-8 text") from None


def lines(text: str) -> Iterator[tuple[int, list[str]]]:
    """The words of every line that has any, by the line's number."""
    for number, line in enumerate(text.splitlines(), 1):
        if words := line.partition("#")[0].split():
            yield number, words
