"""Many questions, a few at a time: whoever is free takes the newest, so that what an answer leads to is asked before
anything else is begun, and however much there is to ask, little of it waits.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Iterable
from typing import TypeAlias

import anyio

Errand: TypeAlias = Callable[[], Awaitable[None]]
"""One thing to do; it may add others."""


class Crew:
    """Does all of ``errands``, which are only looked at when somebody is free, and what these add.

    :param size: how many are done at a time
    :param limiter: shared with other crews, for what they do together
    """

    def __init__(self, errands: Iterable[Errand], *, size: int, limiter: anyio.CapacityLimiter) -> None:
        self._supply = iter(errands)
        self._size = size
        self._limiter = limiter
        self._added: list[Errand] = []
        self._busy = 0
        self._news = anyio.Event()

    def add(self, errand: Errand) -> None:
        """Do this too, and before anything that was to be done anyhow."""
        self._added.append(errand)
        self._wake()

    async def run(self) -> None:
        """Until nothing is left; the first error ends it."""
        async with anyio.create_task_group() as tasks:
            for _ in range(self._size):
                tasks.start_soon(self._work)

    async def _work(self) -> None:
        while True:
            errand = self._added.pop() if self._added else next(self._supply, None)
            if errand is not None:
                await self._do(errand)
            elif self._busy:  # what is being done may lead to more
                await self._news.wait()
            else:
                return

    async def _do(self, errand: Errand) -> None:
        self._busy += 1
        try:
            async with self._limiter:
                await errand()
        finally:
            self._busy -= 1
            if not self._busy:
                self._wake()

    def _wake(self) -> None:
        self._news.set()
        self._news = anyio.Event()

    def __repr__(self) -> str:
        return f"Crew({self._busy} of {self._size} busy, {len(self._added)} waiting)"
