"""Finding something out about a registry once: who asks first goes ahead alone, the others wait for what it learns."""

from __future__ import annotations

from collections.abc import AsyncIterator, Hashable, MutableMapping
from contextlib import asynccontextmanager
from typing import TypeVar

import anyio

Key = TypeVar("Key", bound=Hashable)


@asynccontextmanager
async def first(trials: MutableMapping[Key, anyio.Event], key: Key) -> AsyncIterator[None]:
    """Whoever comes first goes ahead alone; the others go when it is through."""
    trial = trials.get(key)
    if trial is None:
        trial = trials[key] = anyio.Event()
        try:
            yield
        finally:
            trial.set()
    else:
        if not trial.is_set():
            await trial.wait()
        yield
