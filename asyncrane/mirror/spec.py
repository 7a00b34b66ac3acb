"""What a mirror file says, as values. :func:`asyncrane.mirror.document.load_mirror` reads one."""

from __future__ import annotations

import re
import warnings
from collections.abc import Mapping
from datetime import datetime, timedelta
from functools import lru_cache
from types import MappingProxyType
from typing import Literal, TypeAlias

import msgspec

from asyncrane.engine.job import Overwrite
from asyncrane.errors import InvalidInput
from asyncrane.mirror.globs import compile_glob, is_glob, literal_prefix
from asyncrane.mirror.rename import Template
from asyncrane.mirror.versions import Range
from asyncrane.oci.platform import Platform
from asyncrane.oci.reference import Reference
from asyncrane.transport.options import RegistryOptions

Sort: TypeAlias = Literal["semver", "created", "name"]
"""What "latest" means: the highest version, the image made last, the last by name with numbers in it as numbers."""


class SourcePattern(msgspec.Struct, frozen=True, cache_hash=True):
    """Repositories of one registry: those that match ``pattern`` (:mod:`~asyncrane.mirror.globs`), those whose whole
    path matches ``regex``, or ``names``, which need no catalog.

    :raises InvalidInput: when pattern or regular expression cannot be used
    """

    registry: str
    pattern: str = ""
    regex: str | None = None
    names: tuple[str, ...] | None = None

    def __post_init__(self) -> None:
        if sum((bool(self.pattern), self.regex is not None, self.names is not None)) != 1:
            raise InvalidInput("a source is a pattern, a regular expression or a list of names")
        if self.regex is not None:
            compile_regex(self.regex)
        elif self.pattern:
            compile_glob(self.pattern)

    @property
    def exact(self) -> str | None:
        """The one repository that is meant, when there is no wildcard."""
        return self.pattern if self.pattern and not is_glob(self.pattern) else None

    @property
    def prefix(self) -> str:
        """Where all repositories are that can match, or the one that can; empty: anywhere."""
        return literal_prefix(self.pattern)

    @property
    def groups(self) -> frozenset[str]:
        """The keys of what :meth:`match` returns."""
        if self.names is not None:
            return frozenset()
        compiled = _compiled(self)
        return frozenset(map(str, range(1, compiled.groups + 1))) | compiled.groupindex.keys()

    def match(self, path: str) -> dict[str, str] | None:
        """What the groups hold, by number and by name, when ``path`` is one of the repositories, else ``None``.

        The groups of a glob are its ``*`` and ``**``. A group that took no part is empty.
        """
        if self.names is not None:
            return {} if path in _members(self) else None
        found = _compiled(self).fullmatch(path)
        if found is None:
            return None
        numbered = {str(number): text for number, text in enumerate(found.groups(""), start=1)}
        return numbered | found.groupdict("")

    def __str__(self) -> str:
        """``registry/pattern``; only an exact one reads as a repository."""
        if self.regex is not None:
            return f"{self.registry}/(regex {self.regex})"
        if self.names is not None:
            return f"{self.registry}/({len(self.names)} names)"
        return f"{self.registry}/{self.pattern}"


class TagRule(msgspec.Struct, frozen=True):
    """Which tags are meant: all that are given must hold, ``latest`` of the rest.

    ``include`` and ``exclude`` are globs; ``regex`` is a full match, whose group ``version``, or else its first group,
    is what ``semver`` and ``sort`` look at; ``since`` is how long ago, or when, an image may have been made at the
    earliest. ``digest_tags``: whether ``sha256-...``, and cosign's ``.sig``, ``.att``, ``.sbom`` are tags like others.
    """

    include: tuple[str, ...] = ()
    exclude: tuple[str, ...] = ()
    regex: str | None = None
    semver: str | None = None
    latest: int | None = None
    sort: Sort | None = None
    since: timedelta | datetime | None = None
    digest_tags: bool = False

    def __post_init__(self) -> None:
        if self.regex is not None:
            compile_regex(self.regex)
        if self.semver is not None:
            Range.parse(self.semver)
        if self.latest is not None and self.sort is None:
            raise InvalidInput("latest needs sort: semver, created or name")


class Prune(msgspec.Struct, frozen=True):
    """Whether tags are deleted that the rule selects no more at the source: no more than ``most`` of a repository (a
    ``float`` is a share of its tags), none that match the globs ``keep``.
    """

    enabled: bool = False
    most: int | float = 0
    keep: tuple[str, ...] = ()


class Rule(msgspec.Struct, frozen=True):
    """One entry of ``mirrors``: repositories (``source``) or one ``image``, and where they go. ``line`` is the entry's.

    No ``platforms`` are all platforms.
    """

    line: int
    source: SourcePattern | None = None
    image: Reference | None = None
    to: tuple[Template, ...] = ()
    tags: TagRule = TagRule()
    platforms: tuple[Platform, ...] = ()
    overwrite: Overwrite = "if-different"
    referrers: bool = True
    nondistributable: bool = False
    prune: Prune = Prune()


class MirrorSpec(msgspec.Struct, frozen=True):
    """A mirror file: its name is ``file``. ``warnings`` are for people: what was accepted and should be changed."""

    rules: tuple[Rule, ...] = ()
    registries: Mapping[str, RegistryOptions] = MappingProxyType({})
    warnings: tuple[str, ...] = ()
    file: str = ""


@lru_cache(maxsize=1024)
def compile_regex(text: str) -> re.Pattern[str]:
    """A regular expression of Python's ``re``.

    :raises InvalidInput: when it is none
    """
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", FutureWarning)  # what Python may do with "[[" one day
            return re.compile(text)
    except (re.error, RecursionError, OverflowError) as exc:
        raise InvalidInput(f"not a regular expression: {text[:120]!r}: {exc}") from exc


def _compiled(source: SourcePattern) -> re.Pattern[str]:
    return compile_regex(source.regex) if source.regex is not None else compile_glob(source.pattern)


@lru_cache(maxsize=64)
def _members(source: SourcePattern) -> frozenset[str]:
    return frozenset(source.names or ())
