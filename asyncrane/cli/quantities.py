"""Sizes, rates, times and counts for people."""

from __future__ import annotations

_UNITS = ("B", "kB", "MB", "GB", "TB", "PB")


def size(count: float) -> str:
    """Bytes with a decimal unit, as registries and disks are sold: ``12.3 MB``."""
    value = float(count)
    for unit in _UNITS[:-1]:
        if abs(value) < 999.95:
            return f"{value:.0f} {unit}" if unit == "B" else f"{value:.1f} {unit}"
        value /= 1000
    return f"{value:.1f} {_UNITS[-1]}"


def rate(count: float) -> str:
    """Bytes in a second."""
    return f"{size(count)}/s"


def duration(seconds: float) -> str:
    """Seconds as ``0.8 s``, ``42 s``, ``3:07`` or ``1:02:03``."""
    if seconds < 9.95:
        return f"{seconds:.1f} s"
    whole = round(seconds)
    if whole < 60:
        return f"{whole} s"
    minutes, rest = divmod(whole, 60)
    hours, minutes = divmod(minutes, 60)
    return f"{hours}:{minutes:02d}:{rest:02d}" if hours else f"{minutes}:{rest:02d}"


def plural(count: int, noun: str) -> str:
    """``1 image``, ``2 images``."""
    return f"{count} {noun}" if count == 1 else f"{count} {noun}s"
