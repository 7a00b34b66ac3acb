"""Globs over the names of repositories, segment by segment: ``team/*/app``, ``team/**``, ``**/base-[0-9]*``.

``*`` is any text within a segment, ``?`` one character, ``[a-z]`` and ``[!a-z]`` one of these or none of them. ``**``
is a segment of its own and stands for any number of segments; at the end for at least one: ``team/**`` is everything
below ``team``, not ``team``. What ``*`` and ``**`` stand for are groups, numbered from 1.
"""

from __future__ import annotations

import re
from functools import lru_cache

from asyncrane.errors import InvalidInput

_TOKEN = re.compile(r"\*\*|\*|\?|\[!?(?:[a-z0-9]-[a-z0-9]|[a-z0-9._-])+\]|[a-z0-9._-]+")
_MEMBER = re.compile(r"([a-z0-9])-([a-z0-9])|([a-z0-9._-])")
_WILD = re.compile(r"[*?\[]")


@lru_cache(maxsize=1024)
def compile_glob(pattern: str) -> re.Pattern[str]:
    """The regular expression of a glob, to be matched against whole names.

    :raises InvalidInput: when a repository's name cannot have what is in it
    """
    segments = pattern.split("/")
    if not all(segments):
        raise InvalidInput(f"not a pattern of repositories: {pattern[:120]!r} (an empty part)")
    text = ""
    for at, segment in enumerate(segments):
        last = at == len(segments) - 1
        if segment == "**":
            text += "(.+)" if last else "(?:(.+)/)?"
        else:
            text += "".join(map(_piece, _tokens(segment, pattern))) + ("" if last else "/")
    return re.compile(text, re.DOTALL)


def is_glob(pattern: str) -> bool:
    """Whether there is a wildcard in it."""
    return _WILD.search(pattern) is not None


def literal_prefix(pattern: str) -> str:
    """The segments before the first with a wildcard: all repositories that match are there or below."""
    segments = pattern.split("/")
    first = next((at for at, segment in enumerate(segments) if is_glob(segment)), len(segments))
    return "/".join(segments[:first])


def _tokens(segment: str, pattern: str) -> list[str]:
    tokens = _TOKEN.findall(segment)
    if "".join(tokens) != segment or "**" in tokens:
        raise InvalidInput(
            f"not a pattern of repositories: {pattern[:120]!r} (a-z, 0-9, '.', '_', '-' and '/' with *, ?, [a-z]; "
            "** is a part of its own)"
        )
    return tokens


def _piece(part: str) -> str:
    if part == "*":
        return "([^/]*)"
    if part == "?":
        return "[^/]"
    if part[0] == "[":
        return _set(part)
    return re.escape(part)


def _set(part: str) -> str:
    negated = part[1] == "!"
    members = ""
    for first, last, single in _MEMBER.findall(part, 2 if negated else 1):
        if first > last:
            raise InvalidInput(f"not a pattern of repositories: {first}-{last} in {part} is backwards")
        members += re.escape(single) if single else f"{first}-{last}"
    return f"[^/{members}]" if negated else f"[{members}]"
