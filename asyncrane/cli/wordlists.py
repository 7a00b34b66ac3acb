"""Options that take lists and pairs in one word, as crane's do: ``a,b``, with quotes for what has a comma in it
(Go's ``encoding/csv``, by way of pflag's ``StringSlice`` and ``StringToString``).
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence

import asyncrane


def listed(words: Sequence[str] | None) -> tuple[str, ...]:
    """All values of an option that may be repeated: ``a,b`` is two, ``"a,b"`` in quotes is one, and an empty word none.

    :raises InvalidInput: when quotes are not closed, or something stands behind them
    """
    return tuple(value for word in words or () if word for value in _fields(word))


def given(words: Sequence[str] | None) -> tuple[str, ...] | None:
    """As :func:`listed`; ``None`` where the option was not used at all."""
    return None if words is None else listed(words)


def pairs(words: Sequence[str] | None, what: str) -> dict[str, str]:
    """``NAME=VALUE`` of an option that may be repeated, the later one first. With several ``=`` in it a word may be
    several pairs; a part of it without one belongs to the value before it.

    :raises InvalidInput: when a name is missing; ``what`` says of what
    """
    found: dict[str, str] = {}
    for word in words or ():
        found.update(_pair(text, what) for text in _parts(word))
    return found


def variables(words: Sequence[str] | None) -> dict[str, str]:
    """``NAME=VALUE`` of an option that may be repeated, each word one: a value is whatever follows the first ``=``.

    :raises InvalidInput: when a name is missing
    """
    return dict(_pair(word, "environment variable") for word in words or ())


def _parts(word: str) -> Iterable[str]:
    if word.count("=") < 2:
        yield word.strip('"')
        return
    pending = ""
    for field in _fields(word):
        if "=" not in field and pending:
            pending = f"{pending},{field}"
            continue
        if pending:
            yield pending
        pending = field
    yield pending


def _pair(text: str, what: str) -> tuple[str, str]:
    name, equals, value = text.partition("=")
    if not name or not equals:
        raise asyncrane.InvalidInput(
            f"not {'an' if what[0] in 'aeiou' else 'a'} {what}: {text!r} (expected NAME=VALUE)"
        )
    return name, value


def _fields(word: str) -> list[str]:
    """The fields of one line of CSV; line breaks are like other characters, as a word has no lines."""
    fields: list[str] = []
    at = 0
    while True:
        if word.startswith('"', at):
            field, at = _quoted(word, at + 1)
        else:
            end = word.find(",", at)
            end = len(word) if end < 0 else end
            field, at = word[at:end], end
        fields.append(field)
        if at == len(word):
            return fields
        at += 1


def _quoted(word: str, at: int) -> tuple[str, int]:
    """The field whose quotes were opened before ``at``, and where it ends."""
    field: list[str] = []
    while (end := word.find('"', at)) >= 0:
        field.append(word[at:end])
        if not word.startswith('"', end + 1):
            if end + 1 < len(word) and word[end + 1] != ",":
                raise asyncrane.InvalidInput(f"{word!r} has something behind quotes (expected a comma)")
            return "".join(field), end + 1
        field.append('"')
        at = end + 2
    raise asyncrane.InvalidInput(f"{word!r} has quotes that are not closed")
