"""Other tools' files, read: YAML or JSON of any shape, and a look at it that trusts nothing.

Passwords stand in these files: no message quotes more than names of keys.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import msgspec
from ruamel.yaml import YAML
from ruamel.yaml.constructor import SafeConstructor
from ruamel.yaml.error import MarkedYAMLError, YAMLError

from asyncrane.errors import InvalidInput

_LARGEST = 16 * 1024 * 1024


class _Texts(SafeConstructor):
    """Numbers and dates stay what was written: a tag ``1.10`` without quotes is no number to the programs in Go."""


for _kind in ("int", "float", "timestamp"):
    _Texts.add_constructor(f"tag:yaml.org,2002:{_kind}", SafeConstructor.construct_yaml_str)


def read(path: Path) -> Mapping[str, Any]:
    """What is in the file, an object.

    :raises InvalidInput: when it cannot be read, or is something else
    """
    try:
        with path.open("rb") as file:
            data = file.read(_LARGEST + 1)
    except OSError as exc:
        raise InvalidInput(f"{path}: {exc.strerror or exc}") from exc
    if len(data) > _LARGEST:
        raise InvalidInput(f"{path}: more than {_LARGEST >> 20} MiB")
    found = _decode(path, data)
    if not isinstance(found, dict):
        raise InvalidInput(f"{path}: not an object of keys and values")
    return {str(key): value for key, value in found.items()}


def _decode(path: Path, data: bytes) -> Any:
    if data.lstrip()[:1] == b"{":  # JSON may be indented with tabs, YAML may not
        try:
            return msgspec.json.decode(data)
        except (msgspec.DecodeError, RecursionError, UnicodeDecodeError):
            pass
    yaml = YAML(typ="safe", pure=True)
    yaml.Constructor = _Texts
    try:
        return yaml.load(data.decode())
    except MarkedYAMLError as exc:
        mark = exc.problem_mark
        where = f" (line {mark.line + 1}, column {mark.column + 1})" if mark is not None else ""
        raise InvalidInput(f"{path}: not YAML, or one key twice{where}") from None
    except (YAMLError, UnicodeDecodeError, ValueError, RecursionError):
        raise InvalidInput(f"{path}: not YAML") from None


def section(value: object) -> Mapping[str, Any]:
    """An object, or an empty one for whatever else it is."""
    return {str(key): inner for key, inner in value.items()} if isinstance(value, Mapping) else {}


def sections(value: object) -> list[Mapping[str, Any]]:
    """A list of objects."""
    return [section(inner) for inner in value] if isinstance(value, list | tuple) else []


def strings(value: object) -> list[str]:
    """A text or a list of texts as a list; what is nested is left out."""
    values = value if isinstance(value, list | tuple) else [value]
    return [text for text in map(string, values) if text]


def string(value: object) -> str:
    """A text, or a number of a JSON file as one; empty for what is neither."""
    if isinstance(value, bool) or value is None or not isinstance(value, str | int | float):
        return ""
    return str(value)


def boolean(value: object) -> bool | None:
    """A truth value in one of the ways YAML has had of writing it; ``None`` for what is none."""
    if isinstance(value, bool):
        return value
    return {"true": True, "yes": True, "on": True, "false": False, "no": False, "off": False}.get(string(value).lower())


def others(value: Mapping[str, Any], known: frozenset[str]) -> Iterator[str]:
    """Keys that mean something, and that are not among ``known``."""
    for key, inner in value.items():
        if key not in known and inner not in (None, "", False, 0, "0", [], {}):
            yield key
