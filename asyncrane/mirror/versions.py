"""Versions in tags, and ranges of them: ``>=1.20 <2``, ``^1.2``, ``1.x || 2.x`` (semver.org; ranges as in npm).

A tag is a version when it is ``[v]MAJOR[.MINOR[.PATCH]][-SUFFIX]``; what is left out counts as 0. A suffix is what
semver.org calls a pre-release: ``1.25.3-alpine`` comes before ``1.25.3``, like ``1.25.3-rc.1``: nothing in a tag tells
a variant from a candidate. A range leaves suffixes out unless it names one itself (``>=1.20-0``). Who wants a variant
takes its suffix off with ``regex``: ``(?P<version>.*)-alpine`` makes version 1.25.3 of ``1.25.3-alpine``.

``_BUILD`` after three numbers is build metadata, as helm writes ``1.2.3+BUILD`` in tags, and does not count. Not
versions: four parts, leading zeros (``2024.05.1``), and a lone number of six digits or more: that is a date or a hash.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from functools import lru_cache
from typing import Any, TypeAlias

import msgspec
import semver

from asyncrane.errors import InvalidInput

Key: TypeAlias = tuple[int, int, int, tuple[object, ...]]
"""What versions are ordered by. The last part is ``(0, ...)`` before a release, ``(1,)`` for the release itself."""

_RELEASE: tuple[object, ...] = (1,)
_BEFORE_ALL: tuple[object, ...] = (0,)
"""Before every pre-release of the same numbers."""

_FIRST: Key = (0, 0, 0, _BEFORE_ALL)

_DATE_OR_HASH = re.compile(r"[0-9]{6,}")
_HELM = re.compile(r"([0-9]+\.[0-9]+\.[0-9]+(?:-[0-9A-Za-z.-]+)?)_([0-9A-Za-z.]+)")

_DIGITS = r"0|[1-9][0-9]{0,17}"
_WILD = r"[xX*]"
_PARTIAL = (
    rf"[vV]?({_DIGITS}|{_WILD})(?:\.({_DIGITS}|{_WILD})(?:\.({_DIGITS}|{_WILD}))?)?"
    r"(?:-([0-9A-Za-z-]+(?:\.[0-9A-Za-z-]+)*))?(?:\+[0-9A-Za-z.-]+)?"
)
_COMPARATOR = re.compile(rf"(>=|<=|!=|>|<|=|\^|~)?\s*{_PARTIAL}(?:[\s,]+|$)")
_HYPHEN = re.compile(rf"{_PARTIAL}\s+-\s+{_PARTIAL}")


def parse_version(tag: str) -> Key | None:
    """The version that a tag is, as something to compare; ``None`` when it is none."""
    text = tag[1:] if tag[:1] in ("v", "V") else tag
    if _DATE_OR_HASH.fullmatch(text):
        return None
    if helm := _HELM.fullmatch(text):
        text = f"{helm[1]}+{helm[2]}"
    try:
        found = semver.Version.parse(text, optional_minor_and_patch=True)
    except ValueError:
        return None
    return found.major, found.minor, found.patch, _order(found.prerelease)


class Range:
    """A set of versions. Equal texts are one object: see :meth:`parse`."""

    __slots__ = ("_choices", "text")

    def __init__(self, text: str, choices: tuple[_All, ...]) -> None:
        self.text = text
        self._choices = choices

    @staticmethod
    def parse(text: str) -> Range:
        """Read alternatives separated by ``||``; each is comparators that must all hold, separated by spaces or commas.

        Comparators are ``=`` (or nothing), ``!=``, ``>``, ``>=``, ``<``, ``<=``, ``^`` (no change of the first number
        that is not 0), ``~`` (no change of the minor number); ``x``, ``X``, ``*`` or a part left out stand for any
        number; ``1.2 - 1.4`` includes both ends, 1.4.9 too. ``<2`` has no ``2.0.0-rc.1``.

        :raises InvalidInput: when it is not a range
        """
        return _range(text)

    def __contains__(self, version: Key) -> bool:
        return any(version in choice for choice in self._choices)

    def __repr__(self) -> str:
        return f"Range({self.text!r})"


class _Span(msgspec.Struct, frozen=True):
    """Versions from ``low`` to before ``high`` (``None``: no end), or all others."""

    low: Key
    high: Key | None = None
    others: bool = False

    def __contains__(self, version: Key) -> bool:
        return (self.low <= version and (self.high is None or version < self.high)) is not self.others


class _All(msgspec.Struct, frozen=True):
    """Comparators that must all hold; ``suffixes``: one of them names a pre-release, so that they count."""

    spans: tuple[_Span, ...]
    suffixes: bool

    def __contains__(self, version: Key) -> bool:
        return (self.suffixes or version[3] == _RELEASE) and all(version in span for span in self.spans)


class _Partial:
    """A version in a range: ``1.2``, ``1.x``, ``1.2.3-rc.1``. It stands for all from ``low`` to before ``end``."""

    def __init__(self, major: str, minor: str | None, patch: str | None, suffix: str | None) -> None:
        parts = [None if part is None or part in "xX*" else int(part) for part in (major, minor, patch)]
        self.given = [part for part in parts if part is not None]
        if parts[: len(self.given)] != self.given:
            raise InvalidInput("a number follows a wildcard")
        if suffix is not None and any(part is not None and part in "xX*" for part in (major, minor, patch)):
            raise InvalidInput("a suffix follows a wildcard")
        self.suffix = suffix
        self._numbers = (*self.given, 0, 0, 0)[:3]
        self.low = _key(self._numbers, _order(suffix))

    @property
    def lowest(self) -> Key:
        """``low`` with its pre-releases, unless it is one."""
        return self.low if self.suffix is not None else _key(self._numbers, _BEFORE_ALL)

    @property
    def end(self) -> Key:
        """What comes after it."""
        if len(self.given) == 3 or self.suffix is not None:
            return _key(self._numbers, (*self.low[3], ()))  # no version is between the two
        return self.after(len(self.given) - 1)

    def after(self, position: int) -> Key:
        """What comes after all versions with the same numbers up to ``position``."""
        up = (*self._numbers[:position], self._numbers[position] + 1, 0, 0)[:3]
        return _key(up, _BEFORE_ALL)

    def span(self, operator: str) -> _Span:
        """The versions that are in this relation to it."""
        if not self.given:
            if operator not in ("=", ">="):
                raise InvalidInput(f"{operator} with * says nothing")
            return _Span(_FIRST)
        match operator:
            case ">" | ">=":
                return _Span(self.low if operator == ">=" else self.end)
            case "<" | "<=":
                return _Span(_FIRST, self.lowest if operator == "<" else self.end)
            case "=" | "!=":
                return _Span(self.low, self.end, others=operator == "!=")
            case "~":
                return _Span(self.low, self.after(min(len(self.given) - 1, 1)))
            case _:
                first = next((at for at, number in enumerate(self.given) if number), len(self.given) - 1)
                return _Span(self.low, self.after(first))


@lru_cache(maxsize=256)
def _range(text: str) -> Range:
    try:
        return Range(text, tuple(_alternative(part.strip(" \t,")) for part in text.split("||")))
    except InvalidInput as exc:
        raise InvalidInput(f"not a version range: {text[:100]!r}: {exc}") from None


def _alternative(text: str) -> _All:
    if not text:
        raise InvalidInput("a range is missing (* is any version)")
    if hyphen := _HYPHEN.fullmatch(text):
        parts = hyphen.groups()
        compared = [(">=", _Partial(*parts[:4])), ("<=", _Partial(*parts[4:]))]
    else:
        compared = [(operator or "=", _Partial(*parts)) for operator, *parts in _comparators(text)]
    spans = tuple(partial.span(operator) for operator, partial in compared)
    return _All(spans, suffixes=any(partial.suffix is not None for _, partial in compared))


def _comparators(text: str) -> Iterator[tuple[Any, ...]]:
    at = 0
    while at < len(text):
        found = _COMPARATOR.match(text, at)
        if found is None:
            raise InvalidInput(f"what is {text[at : at + 30]!r}? (expected e.g. '>=1.20 <2', '^1.2', '1.x || 2.x')")
        yield found.groups()
        at = found.end()


def _key(numbers: tuple[int, ...], suffix: tuple[object, ...]) -> Key:
    return numbers[0], numbers[1], numbers[2], suffix


def _order(suffix: str | None) -> tuple[object, ...]:
    """How pre-releases are ordered: part by part, numbers before words (semver.org, 11)."""
    if suffix is None:
        return _RELEASE
    return (0, *((0, int(part), "") if part.isdecimal() else (1, 0, part) for part in suffix.split(".")))
