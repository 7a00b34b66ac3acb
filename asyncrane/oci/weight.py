"""How much a JSON text becomes when it is decoded: a few bytes of it make an object of sixty."""

from __future__ import annotations

_SMALL = 1024 * 1024
_MARKS = (b",", b"[", b"{")


def is_heavy(body: bytes, most: int) -> bool:
    """Whether ``body`` may hold more than ``most`` values, those in strings included; less than 1 MiB does no harm."""
    return len(body) > _SMALL and sum(map(body.count, _MARKS)) > most
