"""YAML (and JSON, which is YAML) as a tree that knows where in the file everything is.

The tree is built from the parser's events, so that what cannot be a mirror file is refused while it is read: duplicate
keys, tags, more than one document, depth, and aliases that stand for more than a file may hold ("billion laughs").
Scalars keep their text: ``1.10`` is a version, not the number 1.1. What is a number or a boolean is YAML 1.2's core
schema (yaml.org/spec/1.2.2, 10.3.2): ``on`` is a text.

One thing is allowed that YAML does not: ``[registry-b:5000/{path}]``, braces of a placeholder within a text of a
bracketed list, or at its start, without quotes. In YAML that is an error, so nothing else can be meant.

Messages show no values that the parser stumbled over, and hide the parser's own errors, which quote the file: it may
have passwords in it.
"""

from __future__ import annotations

import difflib
import re
from collections.abc import Collection, Iterator
from pathlib import Path
from typing import Any

import msgspec
from ruamel.yaml import YAML
from ruamel.yaml import events as ev
from ruamel.yaml.error import MarkedYAMLError, YAMLError

from asyncrane.errors import InvalidMirrorSpec

DEEPEST = 32

_TEXT_TAGS = (None, "tag:yaml.org,2002:str")
_TAGGED = "a tag means nothing here (a text that begins with ! needs quotes)"
_LONG_TAG = re.compile(r"![^\s,\[\]{}]{255}")

_OPEN, _CLOSE = "\uf6ae", "\uf6af"
"""What stands for the braces of placeholders while YAML is parsed: two of the characters that have no meaning."""
_PLACEHOLDER = re.compile(
    r"""(?: (?<=[A-Za-z0-9._/@}-]) | (?<=[^"'\s]:) ) \{(\w+)\}  # after a text: app-{tag}, app:{tag}
      | \{(\w+)\} (?=[A-Za-z0-9._/-])                          # before one: {registry}/app""",
    re.VERBOSE | re.ASCII,
)
_BRACES = str.maketrans({_OPEN: "{", _CLOSE: "}"})

_NULL = re.compile(r"|~|null|Null|NULL")
_BOOLEAN = re.compile(r"(true|True|TRUE)|false|False|FALSE")
_INTEGER = re.compile(r"[-+]?[0-9]{1,18}")
_NUMBER = re.compile(r"[-+]?(?:[0-9]+(?:\.[0-9]*)?|\.[0-9]+)(?:[eE][-+]?[0-9]+)?|0o[0-7]+|0x[0-9a-fA-F]+")


class Limits(msgspec.Struct, frozen=True):
    """How much a file may hold: bytes, and values after aliases are followed."""

    size: int = 2 * 1024 * 1024
    values: int = 50_000


ORDINARY = Limits()


class Node:
    """A value of a file. ``line`` and ``column`` count from 1."""

    __slots__ = ("column", "file", "line", "size")
    kind = "a value"

    def __init__(self, file: str, line: int, column: int) -> None:
        self.file = file
        self.line = line
        self.column = column
        self.size = 1

    def error(self, message: str) -> InvalidMirrorSpec:
        """What to raise about this value."""
        return InvalidMirrorSpec(f"{self.file}:{self.line}:{self.column}: {message}")


class Scalar(Node):
    """A text, number, boolean or nothing; ``plain`` ones, without quotes, may be what they look like."""

    __slots__ = ("plain", "text")

    def __init__(self, file: str, line: int, column: int, text: str, *, plain: bool) -> None:
        super().__init__(file, line, column)
        self.text = text
        self.plain = plain

    @property
    def kind(self) -> str:  # type: ignore[override]
        """What it is, for messages."""
        if self.missing:
            return "nothing"
        if self.boolean is not None:
            return f"the boolean {self.text}"
        return f"the number {self.text}" if self.number else f"the text {shown(self.text)}"

    @property
    def missing(self) -> bool:
        """Whether it is ``null``, or nothing at all."""
        return self.plain and _NULL.fullmatch(self.text) is not None

    @property
    def boolean(self) -> bool | None:
        """The boolean, if it is one."""
        found = _BOOLEAN.fullmatch(self.text) if self.plain else None
        return None if found is None else found[1] is not None

    @property
    def integer(self) -> int | None:
        """The whole number, if it is one (decimal)."""
        return int(self.text) if self.plain and _INTEGER.fullmatch(self.text) else None

    @property
    def number(self) -> bool:
        """Whether it is a number."""
        return self.plain and _NUMBER.fullmatch(self.text) is not None


class Items(Node):
    """A list."""

    __slots__ = ("items",)
    kind = "a list"

    def __init__(self, file: str, line: int, column: int) -> None:
        super().__init__(file, line, column)
        self.items: list[Node] = []


class Fields(Node):
    """A mapping, in the order of the file; ``keys`` has the places of the keys."""

    __slots__ = ("keys", "values")
    kind = "a mapping"

    def __init__(self, file: str, line: int, column: int) -> None:
        super().__init__(file, line, column)
        self.keys: dict[str, Scalar] = {}
        self.values: dict[str, Node] = {}

    def only(self, known: Collection[str]) -> None:
        """:raises InvalidMirrorSpec: when there is a key that is not ``known``; says which it might have been."""
        for name, key in self.keys.items():
            if name not in known:
                near = difflib.get_close_matches(name[:100], known, n=1, cutoff=0.5)
                hint = f"did you mean {near[0]!r}?" if near else f"known are {', '.join(known)}"
                raise key.error(f"unknown key {shown(name)}: {hint}")


def read_text(path: Path, limits: Limits = ORDINARY) -> str:
    """A file of UTF-8 text.

    :raises InvalidMirrorSpec: when it cannot be read, is too large or is not UTF-8
    """
    try:
        with path.open("rb") as file:
            data = file.read(limits.size + 1)
    except (OSError, ValueError) as exc:
        reason = exc.strerror if isinstance(exc, OSError) else None
        raise InvalidMirrorSpec(f"{path}: cannot be read: {reason or exc}") from exc
    if len(data) > limits.size:
        raise InvalidMirrorSpec(f"{path}: larger than {limits.size} bytes")
    try:
        return data.decode("utf-8-sig")
    except UnicodeDecodeError as exc:
        line = data.count(b"\n", 0, exc.start) + 1
        column = exc.start - data.rfind(b"\n", 0, exc.start)
        raise InvalidMirrorSpec(f"{path}:{line}:{column}: not UTF-8 text") from None


def parse(text: str, name: str, limits: Limits = ORDINARY) -> Node:
    """The one document in ``text``; ``name`` is the file's, for messages.

    :raises InvalidMirrorSpec: when it is not YAML, or no document or several
    """
    documents = parse_all(_with_placeholders(text), name, limits)
    first = next(documents, None)
    if first is None:
        raise InvalidMirrorSpec(f"{name}:1:1: nothing in it")
    second = next(documents, None)
    if second is not None:
        raise second.error("a second document: expected one")
    return first


def _with_placeholders(text: str) -> str:
    """``text`` with the braces of placeholders as characters that mean nothing to YAML; columns stay."""
    if _OPEN in text or _CLOSE in text:
        return text
    return _PLACEHOLDER.sub(lambda found: f"{_OPEN}{found[1] or found[2]}{_CLOSE}", text)


def parse_all(text: str, name: str, limits: Limits = ORDINARY) -> Iterator[Node]:
    """The documents in ``text``, one after the other.

    :raises InvalidMirrorSpec: when it is not YAML
    """
    if found := _LONG_TAG.search(text):  # the parser takes quadratic time for these
        line = text.count("\n", 0, found.start()) + 1
        raise InvalidMirrorSpec(
            f"{name}:{line}:{found.start() - text.rfind(chr(10), 0, found.start())}: a tag too long"
        )
    builder = _Builder(name, limits)
    try:
        for event in YAML(typ="safe", pure=True).parse(text):
            document = builder.take(event)
            if document is not None:
                yield document
    except MarkedYAMLError as exc:
        mark = exc.problem_mark or exc.context_mark
        place = f"{mark.line + 1}:{mark.column + 1}" if mark is not None else "1:1"
        what = " ".join(part for part in (exc.problem, exc.context) if part)
        what = _TAGGED if "tag handle" in what else what  # which the parser would quote
        raise InvalidMirrorSpec(f"{name}:{place}: not YAML: {_line(what)}") from None
    except (YAMLError, ValueError, ArithmeticError, LookupError) as exc:  # characters and escapes that are none
        raise InvalidMirrorSpec(f"{name}:1:1: not YAML: {_line(str(exc))}") from None


class _Builder:
    """Events in, documents out."""

    def __init__(self, name: str, limits: Limits) -> None:
        self._name = name
        self._limits = limits
        self._open: list[Items | Fields] = []
        self._keys: list[Scalar | None] = []
        self._anchors: dict[str, Node] = {}
        self._total = 0

    def take(self, event: Any) -> Node | None:
        """What the event ends, when that is a document."""
        match event:
            case ev.DocumentStartEvent():
                self._anchors = {}
            case ev.ScalarEvent():
                return self._add(event, self._scalar(event))
            case ev.AliasEvent():
                return self._alias(event)
            case ev.SequenceStartEvent() | ev.MappingStartEvent():
                self._start(event)
            case ev.SequenceEndEvent() | ev.MappingEndEvent():
                self._keys.pop()
                return self._place(self._open.pop())
        return None

    def _scalar(self, event: ev.ScalarEvent) -> Scalar:
        node = Scalar(*self._mark(event), event.value.translate(_BRACES), plain=bool(event.implicit[0]))
        if event.tag is not None and str(event.tag) not in _TEXT_TAGS:
            raise node.error(_TAGGED)
        if any("\ud800" <= character <= "\udfff" for character in event.value):
            raise node.error("half a character (a lone surrogate)")
        return node

    def _alias(self, event: ev.AliasEvent) -> Node | None:
        here = Scalar(*self._mark(event), "", plain=True)
        known = self._anchors.get(event.anchor)
        if known is None:
            raise here.error("an alias of nothing above (a text that begins with * needs quotes)")
        if known in self._open:
            raise here.error("an alias of what it is in")
        self._count(here, known.size)
        return self._place(known)

    def _start(self, event: Any) -> None:
        node = (Fields if isinstance(event, ev.MappingStartEvent) else Items)(*self._mark(event))
        if event.tag is not None and not event.implicit:
            raise node.error(_TAGGED)
        if len(self._open) >= DEEPEST:
            raise node.error(f"more than {DEEPEST} levels deep")
        self._remember(event, node)
        self._count(node, 1)
        self._open.append(node)
        self._keys.append(None)

    def _add(self, event: Any, node: Node) -> Node | None:
        self._remember(event, node)
        self._count(node, 1)
        return self._place(node)

    def _remember(self, event: Any, node: Node) -> None:
        if event.anchor is not None:
            self._anchors[str(event.anchor)] = node

    def _count(self, node: Node, values: int) -> None:
        self._total += values
        if self._total > self._limits.values:
            raise node.error(f"more than {self._limits.values} values, with those that aliases stand for")

    def _place(self, node: Node) -> Node | None:
        """Put a whole value where it belongs: it is a document, an item, a key or a value."""
        if not self._open:
            return node
        parent = self._open[-1]
        parent.size += node.size
        if isinstance(parent, Items):
            parent.items.append(node)
        elif (key := self._keys[-1]) is not None:
            parent.values[key.text] = node
            self._keys[-1] = None
        elif not isinstance(node, Scalar):
            raise node.error(f"{node.kind} as a key: expected a text")
        elif before := parent.keys.get(node.text):
            raise node.error(f"the key {shown(node.text)} is there twice: also in line {before.line}")
        else:
            parent.keys[node.text] = self._keys[-1] = node
        return None

    def _mark(self, event: Any) -> tuple[str, int, int]:
        return self._name, event.start_mark.line + 1, event.start_mark.column + 1


def shown(text: str) -> str:
    """A text of a file in a message."""
    return repr(text if len(text) <= 80 else text[:77] + "...")


def _line(text: str) -> str:
    return " ".join(text.split())[:300]
