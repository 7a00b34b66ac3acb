"""Single flight: many ask, one works, all get what it found."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from typing import Generic, TypeVar

T = TypeVar("T")


class Flight(Generic[T]):
    """One piece of work that is shared while it runs; nothing is remembered afterwards.

    A failure goes to everyone who waited for it, and to nobody later. When the worker is cancelled, one of those who
    wait takes over.
    """

    __slots__ = ("_landing",)

    def __init__(self) -> None:
        self._landing: asyncio.Future[tuple[T] | None] | None = None

    async def run(self, work: Callable[[], Awaitable[T]]) -> T:
        """The result of ``work``, or of the same work somebody else began."""
        while (landing := self._landing) is not None:
            # shielded: cancelling one who waits must not cancel what all wait for
            found = await asyncio.shield(landing)
            if found is not None:
                return found[0]
        landing = self._landing = asyncio.get_running_loop().create_future()
        try:
            result = await work()
        except Exception as exc:
            landing.set_exception(exc)
            landing.exception()  # nobody may be waiting: that is not an error
            raise
        except BaseException:
            landing.set_result(None)
            raise
        else:
            landing.set_result((result,))
            return result
        finally:
            self._landing = None
