"""What had to be asked for again. Whoever retries tells; whoever wants to know what something took listens.

What is told is an error's message: one line, without secrets.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from contextvars import ContextVar

from asyncrane.errors import AsyncraneError

_MOST = 20
"""Times that are told of one thing."""

_heard: ContextVar[list[str] | None] = ContextVar("heard", default=None)


@contextmanager
def heard() -> Iterator[list[str]]:
    """What is told within, also by tasks that begin there."""
    told: list[str] = []
    token = _heard.set(told)
    try:
        yield told
    finally:
        _heard.reset(token)


def tell(error: AsyncraneError) -> None:
    """That something is tried again, or goes on where it stopped, because of ``error``."""
    told = _heard.get()
    if told is not None and len(told) < _MOST:
        told.append(str(error))
