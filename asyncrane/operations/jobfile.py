"""Job files: one job a line, as a JSON object or a YAML flow mapping, parsed into typed values.

What each kind of job takes is in ``docs/jobs.md``.
"""

from __future__ import annotations

import json
import warnings
from collections.abc import Iterable, Iterator
from difflib import get_close_matches
from pathlib import Path
from typing import Any, TypeVar

import msgspec

from asyncrane.archive.formats import LayerFormat
from asyncrane.engine.job import Overwrite
from asyncrane.errors import AsyncraneError, InvalidInput
from asyncrane.images.family import Family
from asyncrane.images.history import HistoryEntry
from asyncrane.images.mutate import Changes
from asyncrane.oci.platform import Platform
from asyncrane.stores.locate import Location, parse_location, refuse_registry

Raw = TypeVar("Raw", bound=msgspec.Struct)

_OPENS = ("[", "{", "- ", "? ")
_MOST_OPEN = 200


class BulkJob(msgspec.Struct, frozen=True, kw_only=True):
    """One line of a job file. Without ``to`` the result takes the place of what ``source`` names."""

    line: int
    source: Location
    to: tuple[Location, ...] = ()
    platforms: tuple[Platform, ...] = ()
    overwrite: Overwrite = "if-different"
    nondistributable: bool = False

    @property
    def targets(self) -> tuple[Location, ...]:
        """Where the result goes; by digest only where nothing says a tag."""
        return self.to or (Location(self.source.kind, self.source.path, self.source.tag),)

    def reads(self) -> tuple[Location, ...]:
        """The images it is made from."""
        return (self.source,)


class CopyJob(BulkJob, frozen=True, kw_only=True):
    """Copy an image; ``referrers``: with what is attached to it."""

    referrers: bool = False


class RebaseJob(BulkJob, frozen=True, kw_only=True):
    """Put an image on ``new_base`` (``None``: the name its annotations have) instead of ``old_base`` (``None``: the
    digest they have; with ``detect``, where they have none, the tag of the new base's repository that fits best).
    ``history`` notes that in the image's history.
    """

    new_base: Location | None = None
    old_base: Location | None = None
    detect: bool = False
    history: HistoryEntry | None = None

    def reads(self) -> tuple[Location, ...]:
        """The images it is made from."""
        return tuple(found for found in (self.source, self.new_base, self.old_base) if found is not None)


class AppendJob(BulkJob, frozen=True, kw_only=True):
    """Put ``layers``, tar files and directories, on top of an image; with ``scratch`` on top of nothing, as an image of
    that family. They are packed as ``layer_format`` says, by default as they are, and plain ones as gzip. ``created``
    (RFC 3339) is when they and the image were made, ``None`` leaves the image's time alone.
    ``history`` is what is said of each layer.
    """

    layers: tuple[Path, ...]
    layer_format: LayerFormat | None = None
    set_base_image_annotations: bool = False
    scratch: Family | None = None
    created: str | None = None
    history: HistoryEntry = HistoryEntry()

    def reads(self) -> tuple[Location, ...]:
        """The images it is made from."""
        return () if self.scratch is not None else (self.source,)


class MutateJob(BulkJob, frozen=True, kw_only=True):
    """Change what an image's config and annotations say, after ``layers`` were put on top; where there are some, the
    history that ``changes`` has is said of them.
    """

    changes: Changes
    layers: tuple[Path, ...] = ()
    layer_format: LayerFormat | None = None


def is_job_file(text: str) -> bool:
    """Whether ``text`` is a job file: its first line that is not a comment begins with ``{``."""
    return next((content.startswith("{") for _, content in _lines(text)), False)


def parse_jobs(text: str, name: str) -> tuple[BulkJob, ...]:
    """The jobs in ``text``, which is the content of the file ``name``.

    :raises InvalidInput: when a line is no job, or depends on another one; the message begins with ``FILE:LINE:``
    """
    jobs = []
    for number, content in _lines(text):
        try:
            jobs.append(_job(number, _mapping(content)))
        except AsyncraneError as exc:
            raise InvalidInput(f"{name}:{number}: {exc}") from None
    if not jobs:
        raise InvalidInput(f"{name}: no job in it")
    _check_independent(jobs, name)
    return tuple(jobs)


def _lines(text: str) -> Iterator[tuple[int, str]]:
    for number, line in enumerate(text.splitlines(), 1):
        content = line.strip()
        if content and not content.startswith("#"):
            yield number, content


def _mapping(content: str) -> dict[str, Any]:
    """The object in one line."""
    try:
        fields = json.loads(content, object_pairs_hook=_unique)
    except (ValueError, RecursionError):
        fields = _yaml(content)
    if not isinstance(fields, dict):
        raise InvalidInput("not a job (expected one {...} on the line)")
    return fields


def _unique(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    fields = dict(pairs)
    if len(fields) < len(pairs):
        names = [key for key, _ in pairs]
        raise InvalidInput(f"{next(key for key in names if names.count(key) > 1)!r} is there twice")
    return fields


def _yaml(content: str) -> Any:
    """JSON is YAML, but for very little; it is tried first because it is read a hundred times faster."""
    if sum(map(content.count, _OPENS)) > _MOST_OPEN:  # the parser would take minutes to find that it cannot go so deep
        raise InvalidInput("neither JSON nor a YAML mapping: too many lists and mappings in one line")
    from ruamel import yaml  # noqa: PLC0415  (most job files are JSON)

    try:
        with warnings.catch_warnings(action="error"):
            return yaml.YAML(typ="safe", pure=True).load(content)
    except (  # the last two: tags it does not expect
        yaml.error.YAMLError,
        Warning,
        ValueError,
        LookupError,
        TypeError,
        RecursionError,
    ) as exc:
        mark = getattr(exc, "problem_mark", None)
        where = f"column {mark.column + 1}: " if mark is not None else ""
        problem = getattr(exc, "problem", None) or str(exc)
        raise InvalidInput(f"{where}neither JSON nor a YAML mapping: {' '.join(str(problem).split())[:200]}") from None


# what the lines say, before it is looked at more closely


class _Common(msgspec.Struct, frozen=True, kw_only=True):
    to: tuple[str, ...] | str = ()
    platforms: tuple[str, ...] = ()
    overwrite: Overwrite = "if-different"
    nondistributable: bool = False


class _Copy(_Common, frozen=True, kw_only=True):
    copy: str
    referrers: bool = False


class _Rebase(_Common, frozen=True, kw_only=True):
    rebase: str
    new_base: str | None = None
    old_base: str | None = None
    detect: bool = False
    history: HistoryEntry | None = None


class _Append(_Common, frozen=True, kw_only=True):
    append: str
    layers: tuple[str, ...]
    layer_format: LayerFormat | None = None
    set_base_image_annotations: bool = False
    history: HistoryEntry = HistoryEntry()


class _Mutate(_Common, frozen=True, kw_only=True):
    mutate: str
    layers: tuple[str, ...] = ()
    layer_format: LayerFormat | None = None
    set_platform: str | None = None


_KINDS: dict[str, type[_Common]] = {"copy": _Copy, "rebase": _Rebase, "append": _Append, "mutate": _Mutate}
_CHANGES = tuple(name for name in Changes.__struct_fields__ if name != "platform")
"""What ``mutate`` takes besides, as it is."""

KEYS: dict[str, tuple[str, ...]] = {
    verb: (*kind.__struct_fields__, *(_CHANGES if kind is _Mutate else ())) for verb, kind in _KINDS.items()
}
"""What each kind of job takes."""


def _job(line: int, fields: dict[str, Any]) -> BulkJob:
    verbs = [key for key in fields if key in _KINDS]
    if len(verbs) > 1:
        raise InvalidInput(f"two jobs on one line: {' and '.join(verbs)}")
    if not verbs:
        found = ", ".join(repr(key) for key in fields) or "nothing"
        hint = next((_nearest(key, _KINDS) for key in fields if _nearest(key, _KINDS)), "")
        raise InvalidInput(f"expected one of {', '.join(_KINDS)}; found {found}{hint}")
    verb = verbs[0]
    known = KEYS[verb]
    for key in fields:
        if key not in known:
            hint = _nearest(key, known) or f" (known are: {', '.join(sorted(known))})"
            raise InvalidInput(f"{verb}: unknown key {key!r}{hint}")
    return _typed(line, verb, fields)


def _converted(verb: str, fields: dict[str, Any], kind: type[Raw]) -> Raw:
    try:
        return msgspec.convert(fields, kind)
    except msgspec.ValidationError as exc:
        said, at, path = str(exc).replace("`", "").partition(" - at ")
        where = path.removeprefix("$").lstrip(".")
        raise InvalidInput(f"{verb}: {where}{': ' if at else ''}{said[:1].lower()}{said[1:]}") from None
    except UnicodeEncodeError:
        raise InvalidInput(f"{verb}: half a character, which cannot be written") from None


def _nearest(key: Any, known: Iterable[str]) -> str:
    close = get_close_matches(str(key), known, n=1)
    return f" (did you mean {close[0]!r}?)" if close else ""


def _typed(line: int, verb: str, fields: dict[str, Any]) -> BulkJob:
    raw = _converted(verb, fields, _KINDS[verb])
    common: dict[str, Any] = {
        "line": line,
        "source": _location(getattr(raw, verb)),
        "to": tuple(_location(text) for text in ([raw.to] if isinstance(raw.to, str) else raw.to)),
        "platforms": tuple(Platform.parse(text) for text in raw.platforms),
        "overwrite": raw.overwrite,
        "nondistributable": raw.nondistributable,
    }
    match raw:
        case _Copy():
            if not common["to"]:
                raise InvalidInput("copy: needs 'to'")
            return CopyJob(**common, referrers=raw.referrers)
        case _Rebase():
            if raw.old_base is not None and raw.detect:
                raise InvalidInput("rebase: 'old_base' and 'detect' exclude each other")
            if raw.history is not None:
                raw.history.check()
            return RebaseJob(
                **common,
                new_base=_base(raw.new_base),
                old_base=_base(raw.old_base),
                detect=raw.detect,
                history=raw.history,
            )
        case _Append():
            raw.history.check()
            return AppendJob(
                **common,
                layers=_paths(raw.layers),
                layer_format=raw.layer_format,
                set_base_image_annotations=raw.set_base_image_annotations,
                history=raw.history,
            )
        case _Mutate():
            changes, layers = _changes(raw, _converted(verb, fields, Changes)), _paths(raw.layers) if raw.layers else ()
            if raw.layer_format is not None and not layers:
                raise InvalidInput("mutate: 'layer_format' means nothing without 'layers'")
            return MutateJob(**common, changes=changes, layers=layers, layer_format=raw.layer_format)
    raise AssertionError(verb)


def _changes(raw: _Mutate, changes: Changes) -> Changes:
    if raw.set_platform is not None:
        changes = msgspec.structs.replace(changes, platform=Platform.parse(raw.set_platform))
    changes.check()
    if changes == Changes() and not raw.layers:
        raise InvalidInput("mutate: nothing to change")
    return changes


def _paths(layers: tuple[str, ...]) -> tuple[Path, ...]:
    if not layers or not all(layers):
        raise InvalidInput("layers: expected the names of files")
    return tuple(Path(layer) for layer in layers)


def _location(text: str) -> Location:
    refuse_registry(text)
    return parse_location(text)


def _base(text: str | None) -> Location | None:
    return None if text is None else _location(text)


def _check_independent(jobs: list[BulkJob], name: str) -> None:
    """Lines do not wait for each other: none may write what another one writes or reads."""
    written: dict[Location, int] = {}
    for job in jobs:
        for target in job.targets:
            if target.tag is None:
                continue
            tag = Location(target.kind, target.path, target.tag)
            if written.setdefault(tag, job.line) != job.line:
                raise InvalidInput(f"{name}:{job.line}: {tag} is written by line {written[tag]}, too")
    for job in jobs:
        for read in job.reads():
            if read.digest is None and written.get(read, job.line) != job.line:
                raise InvalidInput(
                    f"{name}:{job.line}: {read} is read here and written by line {written[read]}; "
                    "lines of one file do not wait for each other"
                )
