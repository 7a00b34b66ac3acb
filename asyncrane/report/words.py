"""Numbers in words, for the page: sizes, rates, times, counts."""

from __future__ import annotations

from datetime import UTC, datetime

_UNITS = ("B", "kB", "MB", "GB", "TB", "PB")
_SHORT_DIGEST = 12
_NONE = "\N{EN DASH}"


def size(count: float) -> str:
    """Bytes with a decimal unit, as registries and disks are sold."""
    value = float(count)
    for unit in _UNITS[:-1]:
        if abs(value) < 999.95:
            return f"{value:.0f} {unit}" if unit == "B" else f"{value:.1f} {unit}"
        value /= 1000
    return f"{value:.1f} {_UNITS[-1]}"


def rate(count: float, seconds: float) -> str:
    """Bytes in a second, of ``count`` in ``seconds``."""
    return f"{size(count / seconds)}/s" if seconds > 0 else _NONE


def duration(seconds: float) -> str:
    """Seconds as ``0.8 s``, ``42 s``, ``3 min 07 s`` or ``1 h 02 min``."""
    if seconds < 9.95:
        return f"{seconds:.1f} s"
    minutes, rest = divmod(round(seconds), 60)
    hours, minutes = divmod(minutes, 60)
    if hours:
        return f"{hours} h {minutes:02d} min"
    return f"{minutes} min {rest:02d} s" if minutes else f"{rest} s"


def when(at: float) -> str:
    """Seconds since the epoch as a date and time; in UTC, because a page is read elsewhere than where it is made."""
    return datetime.fromtimestamp(at, UTC).strftime("%Y-%m-%d %H:%M:%S UTC")


def short(digest: str) -> str:
    """The beginning of a digest: enough to tell it from others."""
    return digest.partition(":")[2][:_SHORT_DIGEST] or digest[:_SHORT_DIGEST]


def share(part: float, whole: float) -> str:
    """A part as a percentage that CSS understands as well."""
    return f"{100 * part / whole:.1f}%" if whole else "0%"


def number(count: float) -> str:
    """A count with its thousands apart."""
    return f"{count:,.0f}".replace(",", "\N{NARROW NO-BREAK SPACE}")


def plural(count: int, noun: str) -> str:
    """``1 failure``, ``2 failures``."""
    return f"{number(count)} {noun}" if count == 1 else f"{number(count)} {noun}s"
