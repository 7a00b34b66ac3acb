"""Sizes, rates, durations and shares as people write them: ``50MiB/s``, ``90d``, ``10%``."""

from __future__ import annotations

import re
from datetime import UTC, datetime, timedelta
from fractions import Fraction

from asyncrane.errors import InvalidInput

_NUMBER = r"[0-9]{1,18}(?:\.[0-9]{1,9})?"
_SIZE = re.compile(rf"({_NUMBER})\s*([A-Za-z]{{0,3}})(?:/s)?")
_POWERS = {"k": 1, "m": 2, "g": 3, "t": 4, "p": 5}
_UNIT = re.compile(r"(?:B?|([kKMGTP])(i?B|i)?)")
_LARGEST = 2**63 - 1

_PART = re.compile(r"([0-9]{1,9}(?:\.[0-9]{1,9})?)\s*([smhdwy])")
_DURATION = re.compile(rf"{_PART.pattern}(?:\s*{_PART.pattern})*")
_SECONDS = {"s": 1, "m": 60, "h": 3600, "d": 86400, "w": 7 * 86400, "y": 365 * 86400}

_SHARE = re.compile(r"([0-9]{1,3}(?:\.[0-9]{1,9})?)\s*%")


def parse_size(text: str) -> int:
    """Bytes, or bytes a second: ``1048576``, ``256MiB``, ``10M``, ``1.5 GB``, ``50MiB/s``.

    ``kB``, ``MB``, ``GB`` ... are powers of 1000; ``KiB``, ``MiB`` ... and the bare letters ``K``, ``M`` ... powers of
    1024, as with ``dd``, curl's ``--limit-rate`` and docker. ``Mb`` is refused: it could be bits.

    :raises InvalidInput: when it is no size, or none of at least one byte
    """
    found = _SIZE.fullmatch(text.strip())
    unit = _UNIT.fullmatch(found[2]) if found else None
    if found is None or unit is None:
        raise InvalidInput(f"not a size: {_short(text)} (expected bytes, or 256MiB, 10M, 50MB/s)")
    base = 1000 if unit[2] == "B" else 1024
    size = int(Fraction(found[1]) * base ** _POWERS.get((unit[1] or "").lower(), 0))
    if not 0 < size <= _LARGEST:
        raise InvalidInput(f"not a size: {_short(text)} (from one byte to {_LARGEST})")
    return size


def parse_duration(text: str) -> timedelta:
    """A length of time: ``90d``, ``12h``, ``1w 2d``, ``1h30m``; ``m`` is minutes, ``y`` 365 days.

    :raises InvalidInput: when it is none, or longer than a calendar
    """
    if not _DURATION.fullmatch(text.strip()):
        raise InvalidInput(f"not a length of time: {_short(text)} (expected 90d, 12h, 2w, 1y, 1h30m)")
    seconds = sum(Fraction(number) * _SECONDS[unit] for number, unit in _PART.findall(text))
    try:
        return timedelta(seconds=float(seconds))
    except OverflowError:
        raise InvalidInput(f"not a length of time: {_short(text)} (too long)") from None


def parse_since(text: str) -> timedelta | datetime:
    """How long ago, as :func:`parse_duration`, or a date with or without time (ISO 8601; UTC unless it says otherwise).

    :raises InvalidInput: when it is neither
    """
    if _DURATION.fullmatch(text.strip()):
        return parse_duration(text)
    try:
        when = datetime.fromisoformat(text.strip())
    except ValueError:
        raise InvalidInput(f"not a time: {_short(text)} (expected 90d, 12h, 2030-01-31 or 2030-01-31T06:00Z)") from None
    return when if when.tzinfo else when.replace(tzinfo=UTC)


def parse_share(text: str) -> float:
    """A share: ``10%`` is 0.1.

    :raises InvalidInput: when it is none, or more than the whole
    """
    found = _SHARE.fullmatch(text.strip())
    share = Fraction(found[1]) / 100 if found else Fraction(2)
    if share > 1:
        raise InvalidInput(f"not a share: {_short(text)} (expected 0% to 100%)")
    return float(share)


def _short(text: str) -> str:
    return repr(text if len(text) <= 60 else text[:57] + "...")
