"""What registries, archives and files may hold: documents and tars that were good once, and what was done to them."""

from __future__ import annotations

import json
import os
from collections.abc import Callable, Iterable
from typing import Any

from hypothesis import HealthCheck, settings
from hypothesis import strategies as st

from asyncrane.errors import AsyncraneError

_TIMES = int(os.environ.get("ASYNCRANE_FUZZ", "1"))
_CHECKS = [HealthCheck.function_scoped_fixture, HealthCheck.too_slow, HealthCheck.data_too_large]

ODD_NUMBERS = [-1, 0, 1 << 31, 1 << 63, 1 << 64, -(1 << 63), 10**400, 1e308, 0.5, True]
ODD_TEXTS = [
    "",
    "\0",
    "\ud800",
    "../../etc/passwd",
    "/",
    "http://[",
    "https://10.0.0.1/x",
    "\x1b[2J",
    "sha256:",
    "sha256:" + "0" * 64,
    "sha512:" + "f" * 128,
    "9" * 5000,
    "²",
    "a" * 3000,
]

texts = st.sampled_from(ODD_TEXTS) | st.text(max_size=20)
values: st.SearchStrategy[Any] = st.recursive(
    st.none() | st.sampled_from(ODD_NUMBERS) | texts,
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(texts, inner, max_size=3),
    max_leaves=6,
)

DEEP = [b"[" * 100_000, b'{"a":' * 50_000, b'{"config":' + b"[" * 50_000, b"[" * 900 + b"]" * 900]
"""Depth: more than any parser follows, and as much as some do."""


def examples(count: int) -> settings:
    """So many examples, times ``ASYNCRANE_FUZZ``."""
    return settings(max_examples=count * _TIMES, suppress_health_check=_CHECKS)


def refused(work: Callable[[], object]) -> str:
    """What ``work`` complains with; empty when it does not. Anything but an error of ours is raised."""
    try:
        work()
    except AsyncraneError as exc:
        return said(exc)
    return ""


def said(error: AsyncraneError) -> str:
    """The message of an error of ours, which is no longer than some long names that it is about."""
    text = str(error)
    assert len(text) < 50_000, text[:300]
    return text


def damaged(originals: Iterable[bytes]) -> st.SearchStrategy[bytes]:
    """One of ``originals`` with some bytes changed, left out, put in, said twice, or cut off."""

    @st.composite
    def build(draw: st.DrawFn) -> bytes:
        content = bytearray(draw(st.sampled_from(list(originals))))
        for _ in range(draw(st.integers(1, 4))):
            at = draw(st.integers(0, 1 << 20)) % max(len(content), 1)
            size = draw(st.sampled_from([1, 2, 8, 12, 100, 512, 513]))
            match draw(st.integers(0, 4)):
                case 0:
                    content[at : at + size] = draw(st.binary(min_size=1, max_size=16))
                case 1:
                    del content[at : at + size]
                case 2:
                    content[at:at] = content[at : at + size]
                case 3:
                    del content[at:]
                case _:
                    content[at : at + 1] = bytes([draw(st.integers(0, 255))])
        return bytes(content)

    return build()


def changed(originals: Iterable[Any], *, deep: bool = True) -> st.SearchStrategy[bytes]:
    """One of ``originals`` as JSON, with some of its values another, gone or new; now and then something quite else."""

    @st.composite
    def build(draw: st.DrawFn) -> bytes:
        document = json.loads(json.dumps(draw(st.sampled_from(list(originals)))))
        for _ in range(draw(st.integers(1, 3))):
            document = _changed(draw, document)
        return json.dumps(document).encode()

    others = damaged([json.dumps(one).encode() for one in originals])
    return build() | others | st.sampled_from(DEEP) if deep else build() | others


def _changed(draw: st.DrawFn, value: Any) -> Any:
    """``value`` with something in it, or all of it, replaced."""
    inside = (isinstance(value, dict | list) and bool(value)) and draw(st.integers(0, 5)) > 0
    if not inside:
        return draw(values)
    key = draw(st.sampled_from(sorted(value) if isinstance(value, dict) else range(len(value))))
    copy = value.copy()
    match draw(st.integers(0, 4)):
        case 0:
            del copy[key]
        case 1 if isinstance(copy, dict):
            copy[draw(texts)] = copy[key]
        case 2 if isinstance(copy, list):
            copy += copy
        case _:
            copy[key] = _changed(draw, copy[key])
    return copy
