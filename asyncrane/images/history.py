"""Histories: one entry for every layer, and entries without one in between (image-spec, config.md, "history").

Whatever comes out of here has exactly as many entries with a layer as the image has layers (K4).
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from typing import Any, TypeAlias

import msgspec

from asyncrane.errors import InvalidInput

Entry: TypeAlias = dict[str, Any]

EPOCH = "1970-01-01T00:00:00Z"
"""When what is reproducible was made."""

_UNKNOWN: Entry = {"created_by": "unknown"}
_MOMENT = re.compile(r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d(?:\.\d{1,9})?(?:Z|[+-]\d\d:\d\d)")


class HistoryEntry(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """What an image's history is to say of an edit. ``None`` leaves the words to the edit, empty text says nothing.

    ``created`` is RFC 3339 text.
    """

    created: str | None = None
    created_by: str | None = None
    author: str | None = None
    comment: str | None = None

    def check(self) -> None:
        """See whether all this can be said.

        :raises InvalidInput: when the time is none
        """
        if self.created:
            check_moment(self.created)

    def otherwise(self, default: HistoryEntry) -> HistoryEntry:
        """The same, with the words of ``default`` where this has none."""
        mine = {name: said for name, said in msgspec.structs.asdict(self).items() if said is not None}
        return msgspec.structs.replace(default, **mine)

    def fields(self, *, empty_layer: bool = False) -> Entry:
        """The entry's JSON object; ``empty_layer`` for a step that made no layer."""
        said = {name: words for name, words in msgspec.structs.asdict(self).items() if words}
        return {**said, "empty_layer": True} if empty_layer else said


def check_moment(text: str) -> None:
    """See whether a config can say ``text`` of when something was made.

    :raises InvalidInput: when it is not RFC 3339
    """
    if not _MOMENT.fullmatch(text):
        raise InvalidInput(f"not a time: {text!r} (expected RFC 3339, as 2024-02-29T12:00:00Z)")


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
