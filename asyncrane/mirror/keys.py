"""The keys of a mirror file, and how values of the right type are read from it; every error has its place."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from pathlib import Path
from typing import TypeVar

import msgspec

from asyncrane.errors import InvalidInput
from asyncrane.mirror.tree import Fields, Items, Node, Scalar, shown

T = TypeVar("T")

FILE = ("version", "registries", "defaults", "mirrors")
REGISTRY = ("credentials", "tls", "limits", "mirrors", "on_missing_repository")
CREDENTIALS = ("username", "password_env", "password_file", "password", "helper")
TLS = ("ca", "cert", "key", "insecure", "plain_http")
LIMITS = ("requests", "streams", "rate")
ON_MISSING = ("command",)
DEFAULTS = ("tags", "platforms", "overwrite", "referrers", "nondistributable", "prune")
SUBJECTS = ("from", "image", "images_file")
"""What an entry is about: it has exactly one of these."""
ENTRY = (*SUBJECTS, "to", *DEFAULTS)
SOURCE = ("registry", "regex", "file")
TAGS = ("include", "exclude", "regex", "semver", "latest", "sort", "since", "digest_tags")
PRUNE = ("enabled", "max", "keep")

OVERWRITE = ("if-different", "if-missing", "never", "always")
SORT = ("semver", "created", "name")


class Context(msgspec.Struct):
    """What surrounds the file: relative paths start at ``folder``; ``warnings`` grow while it is read."""

    folder: Path
    environ: Mapping[str, str]
    warnings: list[str] = []

    def path(self, node: Node) -> Path:
        """A path, seen from the file."""
        return self.folder / text(node)

    def file(self, node: Node) -> Path:
        """The path of a file that is there."""
        path = self.path(node)
        if not path.is_file():
            raise node.error(f"there is no file {path}")
        return path

    def warn(self, node: Node, message: str) -> None:
        """Remember something for people."""
        self.warnings.append(f"{node.file}:{node.line}:{node.column}: {message}")


def fields(node: Node, known: tuple[str, ...], what: str, *, secret: bool = False) -> Fields:
    """A mapping with no other keys than ``known``; with ``secret`` a message never shows what is there instead."""
    if not isinstance(node, Fields):
        raise node.error(f"{what}: expected a mapping ({', '.join(known)}){'' if secret else f', not {node.kind}'}")
    node.only(known)
    return node


def items(node: Node, what: str) -> list[Node]:
    """A list with something in it."""
    if not isinstance(node, Items):
        raise node.error(f"{what}: expected a list, not {node.kind}")
    if not node.items:
        raise node.error(f"{what}: the list is empty")
    return node.items


def several(node: Node) -> list[Node]:
    """A list, or one value alone."""
    if isinstance(node, Items):
        return node.items
    return [node]


def text(node: Node, *, secret: bool = False) -> str:
    """A text with something in it; ``secret``: it is never shown."""
    if isinstance(node, Scalar) and not (node.missing or node.boolean is not None or node.number):
        if not node.text:
            raise node.error("expected a text, not an empty one")
        return node.text
    raise node.error("expected a text (in quotes)" if secret else f"expected a text (in quotes?), not {node.kind}")


def label(node: Node, *, empty: bool = False) -> str:
    """A text that may look like a number: ``1.10`` is one as it is written. ``empty``: or have nothing in it."""
    if isinstance(node, Scalar) and node.number:
        return node.text
    if empty and isinstance(node, Scalar) and not node.plain and not node.text:
        return ""
    return text(node)


def boolean(node: Node) -> bool:
    """``true`` or ``false``."""
    found = node.boolean if isinstance(node, Scalar) else None
    if found is None:
        raise node.error(f"expected true or false, not {node.kind}")
    return found


def count(node: Node, *, least: int) -> int:
    """A whole number."""
    found = node.integer if isinstance(node, Scalar) else None
    if found is None or found < least:
        raise node.error(f"expected a whole number, {least} or more, not {node.kind}")
    return found


def choice(node: Node, options: tuple[str, ...]) -> str:
    """One of ``options``."""
    found = node.text if isinstance(node, Scalar) else None
    if found not in options:
        raise node.error(f"expected {', '.join(options[:-1])} or {options[-1]}, not {node.kind}")
    return found


def read(node: Node, value: str, parser: Callable[[str], T]) -> T:
    """What ``parser`` makes of a value; that it cannot is an error with the place."""
    try:
        return parser(value)
    except InvalidInput as exc:
        raise node.error(str(exc)) from exc


def only_one(entry: Fields, names: tuple[str, ...], what: str) -> str:
    """The one of ``names`` that is there."""
    given = [name for name in names if name in entry.values]
    if not given:
        raise entry.error(f"{what} needs one of {', '.join(names)}")
    if len(given) > 1:
        raise entry.keys[given[1]].error(f"{what} has {given[0]} already: one of {', '.join(names)}")
    return given[0]


def needed(entry: Fields, name: str, what: str) -> Node:
    """The value of a key that must be there."""
    if name not in entry.values:
        raise entry.error(f"{what} needs {shown(name)}")
    return entry.values[name]
