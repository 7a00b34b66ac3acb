"""Regular expressions and version ranges of Go programs, in the words of a mirror file.

Go's ``regexp`` (RE2) and Python's ``re`` agree on what people write about tags; what only Go knows is refused.
"""

from __future__ import annotations

import re
from collections.abc import Sequence

from asyncrane.errors import InvalidInput
from asyncrane.mirror.regexes import has_branches
from asyncrane.mirror.versions import Range

_GO_ONLY = re.compile(r"\[\[:|\\[pPQCzE]|\(\?[a-zA-Z]*[U-]")
_SAFE_GLOB = re.compile(r"(?:[A-Za-z0-9_-]|\\[.-]|\.\*)+")
_SAME = {"=>": ">=", "=<": "<=", "~>": "~"}
_OPERATOR = re.compile("|".join(_SAME))
_COMPARATOR = re.compile(
    r"(>=|<=|>|<|=|\^|~)?v?([0-9]{1,18})(?:\.([0-9]{1,18}))?(?:\.([0-9]{1,18}))?(-[0-9A-Za-z.-]+)?(?:\+\S*)?"
)
_WITH_SUFFIXES = ">=0-0"
"""Every version, and it names a suffix: so pre-releases count."""

_ALL = frozenset({"", ".*", "^.*$", "^", "$", ".+", "^.+$"})


_TOKEN = re.compile(r"\\.|\[\^?\]?(?:\\.|[^\]\\])*\]|\(\?P?<\w+>|\((?!\?)")


class Untranslatable(InvalidInput):
    """Something that cannot be said in a mirror file; the message is what to tell."""


def matches_all(regex: str) -> bool:
    """Whether every tag matches, wherever ``regex`` may match."""
    return regex in _ALL


def searched(regex: str) -> str:
    """A regular expression for the whole of a tag that holds where ``regex`` is found anywhere in it.

    :raises Untranslatable: when Python does not know it
    """
    flags, regex = _flags(_checked(regex))
    if has_branches(regex):
        return f"{flags}.*(?:{regex}).*"
    start = regex.removeprefix("^") if regex.startswith("^") else f".*{regex}"
    ends = re.search(r"(?<!\\)(?:\\\\)*\$$", start) is not None
    return flags + (start[:-1] if ends else f"{start}.*")


def globs(regexes: Sequence[str]) -> list[str] | None:
    """The same as globs, where each matches as a whole and is as simple as ``v1.*`` or ``latest``; else ``None``."""
    if not all(_SAFE_GLOB.fullmatch(regex) for regex in regexes):
        return None
    return [re.sub(r"\\(.)|\.(?=\*)", r"\1", regex) for regex in regexes]


def either(allow: Sequence[str], deny: Sequence[str]) -> str:
    """One regular expression for what one of ``allow`` matches as a whole (all, when there are none), and none of
    ``deny``.

    :raises Untranslatable: when Python does not know one of them
    """
    allow, deny = ([_checked(regex) for regex in regexes] for regexes in (allow, deny))
    for regex in (*allow, *deny):
        if _flags(regex)[0]:
            raise Untranslatable(f"{regex!r} has flags of its own")
    wanted = _alternatives(allow) if allow else ".*"
    return f"(?!{_alternatives(deny)}$){wanted}" if deny else wanted


def version_range(*texts: str) -> str:
    """A range that holds where one of these does (Masterminds' ``semver``, which skopeo uses).

    :raises Untranslatable: when one is no range
    """
    parts = [_OPERATOR.sub(lambda found: _SAME[found.group()], text).strip() for text in texts]
    text = " || ".join(parts)
    try:
        Range.parse(text)
    except InvalidInput as exc:
        raise Untranslatable(str(exc)) from exc
    return text


def regclient_range(*texts: str) -> str:
    """The same for regclient, whose own rules are simpler (its ``internal/semver``): what a range leaves out is 0, and
    pre-releases are versions like others, so that ``<2`` has ``2.0.0-rc.1``.

    :raises Untranslatable: when one is no range
    """
    alternatives = []
    for text in texts:
        parts = [part for comparator in text.split() for part in _spelt_out(comparator)]
        if not any("-" in part for part in parts):
            parts.append(_WITH_SUFFIXES)
        alternatives.append(" ".join(parts))
    return version_range(*alternatives)


def _spelt_out(comparator: str) -> list[str]:
    found = _COMPARATOR.fullmatch(comparator)
    if found is None:
        raise Untranslatable(f"what is {comparator!r} in a semverRange?")
    operator, suffix = found[1] or "=", found[5] or ""
    major, minor, patch = (int(number or 0) for number in found.group(2, 3, 4))
    version = f"{major}.{minor}.{patch}{suffix}"
    match operator:
        case "<":
            return [f"<{version}"] if suffix else _before(version)
        case "~":
            return [f">={version}", *_before(f"{major}.{minor + 1}.0")]
        case "^":
            above = f"{major + 1}.0.0" if major else f"0.{minor + 1}.0" if minor else f"0.0.{patch + 1}"
            return [f">={version}", *_before(above)]
        case _:
            return [f"{operator}{version}"]


def _before(version: str) -> list[str]:
    """What is less than a release, its own pre-releases too."""
    return [f"<={version}", f"!={version}"]


def _alternatives(regexes: Sequence[str]) -> str:
    plain = [regex if has_branches(regex) else re.sub(r"(?<!\\)\$$", "", regex.removeprefix("^")) for regex in regexes]
    return plain[0] if len(plain) == 1 and not has_branches(plain[0]) else f"(?:{'|'.join(plain)})"


def _checked(regex: str) -> str:
    """Without groups, which would say where in a tag its version is."""
    if _GO_ONLY.search(regex):
        raise Untranslatable(f"{regex!r} is only known to Go")
    plain = _TOKEN.sub(lambda found: "(?:" if found.group()[0] == "(" else found.group(), regex)
    try:
        re.compile(plain)
    except (re.error, RecursionError, OverflowError) as exc:
        raise Untranslatable(f"{regex!r} is no regular expression") from exc
    return plain


def _flags(regex: str) -> tuple[str, str]:
    found = re.match(r"\(\?[ims]+\)", regex)
    return (found.group(), regex[found.end() :]) if found else ("", regex)
