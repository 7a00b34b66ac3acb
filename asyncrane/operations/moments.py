"""When things were made: as said, or so that they can be made again
(https://reproducible-builds.org/specs/source-date-epoch).
"""

from __future__ import annotations

import os
import time
from collections.abc import Mapping
from datetime import UTC, datetime

from asyncrane.errors import InvalidInput

VARIABLE = "SOURCE_DATE_EPOCH"
"""The environment variable that is the time, in seconds since 1970."""


def source_date_epoch(environ: Mapping[str, str] = os.environ) -> int | None:
    """The time that is to be taken for now, ``None`` when none is said.

    :raises InvalidInput: when something else is said
    """
    said = environ.get(VARIABLE)
    if not said:
        return None
    try:
        seconds = int(said)
        text(seconds)
    except (ValueError, OverflowError, OSError):
        raise InvalidInput(f"{VARIABLE} is {said[:40]!r} (expected seconds since 1970)") from None
    return seconds


def moment(words: str, environ: Mapping[str, str] = os.environ) -> str | None:
    """``now``, ``epoch``, ``keep`` (which is ``None``) or a time, as RFC 3339 text. ``now`` and ``epoch`` are
    ``SOURCE_DATE_EPOCH``'s where that is set.

    :raises InvalidInput: when it is none of these
    """
    if words == "keep":
        return None
    if words in ("now", "epoch"):
        said = source_date_epoch(environ)
        return text(said if said is not None else int(time.time()) if words == "now" else 0)
    try:
        if words.isascii() and words.isdigit():
            return text(int(words))
        found = datetime.fromisoformat(words)
    except (ValueError, OverflowError, OSError):
        raise InvalidInput(f"not a time: {words[:60]!r} (expected now, epoch, keep, RFC 3339 or seconds)") from None
    if found.tzinfo is None:
        raise InvalidInput(f"not a time: {words[:60]!r} (without a time zone: append Z)")
    return found.astimezone(UTC).isoformat().replace("+00:00", "Z")


def text(seconds: int) -> str:
    """RFC 3339 text."""
    return datetime.fromtimestamp(seconds, UTC).strftime("%Y-%m-%dT%H:%M:%SZ")
