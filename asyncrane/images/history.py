"""Histories: one entry for every layer, and entries without one in between (image-spec, config.md, "history").

Whatever comes out of here has exactly as many entries with a layer as the image has layers (K4).
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, TypeAlias

Entry: TypeAlias = dict[str, Any]

_UNKNOWN: Entry = {"created_by": "unknown"}


def is_empty(entry: Entry) -> bool:
    """Whether the entry stands for a step that made no layer."""
    return entry.get("empty_layer") is True


def aligned(history: Sequence[Entry], layers: int) -> list[Entry]:
    """``history`` with exactly ``layers`` entries that have a layer.

    What is missing is missing at the end: tools that keep no history add their layers on top. Of too many the last
    made none.
    """
    entries: list[Entry] = []
    left = layers
    for entry in history:
        if is_empty(entry) or left:
            left -= not is_empty(entry)
            entries.append(entry)
        else:
            entries.append({**entry, "empty_layer": True})
    return [*entries, *[dict(_UNKNOWN) for _ in range(left)]]


def above(history: Sequence[Entry], base: Sequence[Entry], layers: int) -> list[Entry]:
    """What ``history`` (aligned) says of the layers above the first ``layers``, which are those of a base.

    Steps of the base that made no layer, after its last one, are known by being those of its own history ``base``.
    """
    if list(history[: len(base)]) == list(base):
        return list(history[len(base) :])
    at = 0
    while layers:
        layers -= not is_empty(history[at])
        at += 1
    return list(history[at:])
