"""Which tags of a repository a rule means (H1)."""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping, Sequence
from datetime import UTC, datetime, timedelta
from fnmatch import translate
from functools import lru_cache
from typing import Any

from asyncrane.mirror.spec import TagRule, compile_regex
from asyncrane.mirror.versions import Range, parse_version

_DIGEST_TAG = re.compile(r"sha(?:256-[0-9a-f]{64}|512-[0-9a-f]{64,128})(?:\..*)?", re.DOTALL)
"""The distribution-spec's referrers tag schema (64 digits of any digest, but not everybody cuts), and cosign's tags."""

_NUMBERS = re.compile("([0-9]+)")


def needs_created(rule: TagRule) -> bool:
    """Whether :func:`choose` must be told when images were made."""
    return rule.since is not None or (rule.latest is not None and rule.sort == "created")


def choose(
    tags: Sequence[str],
    rule: TagRule,
    *,
    created: Mapping[str, datetime] | None = None,
    now: datetime | None = None,
) -> list[str]:
    """The tags that ``rule`` means, in the order they were given.

    Where versions are asked for (``semver``, or ``latest`` with ``sort: semver``) tags that are none are left out, as
    are images that ``created`` does not know where their age matters. ``now`` is what ``since`` counts back from.

    :raises ValueError: when ``created`` is needed and missing
    """
    if needs_created(rule) and created is None:
        raise ValueError("this rule needs to know when the images were made")
    made = created or {}
    looked_at = {tag: text for tag in tags if (text := _by_name(rule, tag)) is not None}
    if rule.semver is not None:
        within = Range.parse(rule.semver)
        looked_at = {
            tag: text
            for tag, text in looked_at.items()
            if (version := parse_version(text)) is not None and version in within
        }
    if rule.since is not None:
        since = (now or datetime.now(UTC)) - rule.since if isinstance(rule.since, timedelta) else rule.since
        looked_at = {tag: text for tag, text in looked_at.items() if tag in made and made[tag] >= since}
    if rule.latest is not None:
        looked_at = dict.fromkeys(_last(rule, looked_at, made), "")
    return [tag for tag in tags if tag in looked_at]


def _by_name(rule: TagRule, tag: str) -> str | None:
    """The part of the tag that may be a version, if name patterns let it through."""
    if not rule.digest_tags and _DIGEST_TAG.fullmatch(tag):
        return None
    if rule.include and not _any(rule.include)(tag):
        return None
    if rule.exclude and _any(rule.exclude)(tag):
        return None
    if rule.regex is None:
        return tag
    pattern = compile_regex(rule.regex)
    found = pattern.fullmatch(tag)
    if found is None:
        return None
    if "version" in pattern.groupindex:
        return found["version"] or ""
    return (found[1] or "") if pattern.groups else tag


def _last(rule: TagRule, looked_at: Mapping[str, str], created: Mapping[str, datetime]) -> list[str]:
    """The ``latest`` ones; of equals the one whose name comes last, so that a list's order does not matter."""
    ranks: dict[str, tuple[Any, ...]] = {}
    for tag, text in looked_at.items():
        if rule.sort == "semver":
            if (version := parse_version(text)) is not None:
                ranks[tag] = (version, _natural(tag))
        elif rule.sort == "created":
            if tag in created:
                ranks[tag] = (created[tag], _natural(tag))
        else:
            ranks[tag] = (_natural(text), _natural(tag))
    return sorted(ranks, key=ranks.__getitem__, reverse=True)[: rule.latest]


def _natural(text: str) -> tuple[tuple[str, int, str], ...]:
    """An order in which ``build-9`` comes before ``build-10``."""
    parts = _NUMBERS.split(text)
    numbers = [number.lstrip("0") for number in (*parts[1::2], "")]
    return tuple((word, len(number), number) for word, number in zip(parts[::2], numbers, strict=True))


@lru_cache(maxsize=1024)
def _any(globs: tuple[str, ...]) -> Callable[[str], Any]:
    return re.compile("|".join(f"(?:{translate(glob)})" for glob in globs)).match
