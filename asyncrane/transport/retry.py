"""When to try again, and how long to wait: pure policy, no clock of its own.

429 and ``Retry-After`` concern a whole registry (it is parked), other failures one request.
"""

from __future__ import annotations

from collections.abc import Mapping
from email.utils import parsedate_to_datetime

import msgspec

from asyncrane.errors import AsyncraneError, RegistryError, TimedOut

RETRYABLE = frozenset({408, 429, 499, 500, 502, 503, 504, 522})
"""Statuses that may be different next time."""

_OVERLOADED = frozenset({408, 503, 504})
_LONGEST = 30.0
_YEAR = 366 * 86400.0


class Policy(msgspec.Struct, frozen=True):
    """``retries`` further attempts, within ``max_time`` seconds; the first wait is about ``base`` seconds."""

    retries: int = 5
    max_time: float = 900.0
    base: float = 0.5

    def delay(self, failures: int, chance: float) -> float:
        """Seconds to wait after so many ``failures`` (1 is the first): doubling up to 30, less up to a half by
        ``chance`` (0 to 1), so that many tasks do not come back together.
        """
        longest = min(self.base * 2.0 ** min(failures - 1, 30), max(_LONGEST, self.base))
        return longest * (1.0 - 0.5 * chance)


def may_change(status: int) -> bool:
    """Whether an answer with this status, which was not expected, may be another one next time."""
    return status in RETRYABLE or 200 <= status < 300


def retry_after(headers: Mapping[str, str], now: float) -> float | None:
    """Seconds the server asks to wait (RFC 9110, 10.2.3), a year at the most, ``None`` if unsaid; ``now`` counts from
    1970.
    """
    value = headers.get("Retry-After")
    if value is None:
        return None
    value = value.strip()
    try:
        seconds = float(value)
    except ValueError:
        return _until(value, now)
    return min(seconds, _YEAR) if 0.0 <= seconds < float("inf") else None


def _until(date: str, now: float) -> float | None:
    try:
        return min(max(0.0, parsedate_to_datetime(date).timestamp() - now), _YEAR)
    except (ValueError, TypeError, OverflowError):
        return None


def exhausted(headers: Mapping[str, str]) -> float | None:
    """Seconds until a used-up quota refills, ``None`` when there is quota left or nothing is said about it.

    ``ratelimit-remaining: 0;w=21600`` is Docker Hub's form: the window is all it tells.
    """
    remaining = headers.get("RateLimit-Remaining")
    if remaining is None or remaining.partition(";")[0].strip() != "0":
        return None
    for text in (headers.get("RateLimit-Reset", ""), _window(remaining), _window(headers.get("RateLimit-Limit", ""))):
        try:
            seconds = float(text)
        except ValueError:
            continue
        if 0.0 < seconds < float("inf"):
            return min(seconds, _YEAR)
    return None


def _window(value: str) -> str:
    for part in value.split(";")[1:]:
        name, _, number = part.partition("=")
        if name.strip() == "w":
            return number.strip()
    return ""


def is_congestion(error: AsyncraneError) -> bool:
    """Whether it may well be that fewer requests would have been answered."""
    return isinstance(error, TimedOut) or (isinstance(error, RegistryError) and error.status in _OVERLOADED)
