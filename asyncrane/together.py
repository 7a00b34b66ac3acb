"""The same thing done for many at once, of whom any may fail."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Iterable
from typing import TypeVar

import anyio

from asyncrane.errors import AsyncraneError

T = TypeVar("T")
R = TypeVar("R")


async def all_of(many: Iterable[T], do: Callable[[T], Awaitable[R]]) -> list[R]:
    """What ``do`` gives for each, in their order.

    :raises AsyncraneError: the first that one raises, as it is and not in a group; it stops the others
    """
    given: dict[int, R] = {}
    errors: list[AsyncraneError] = []

    async def one(at: int, value: T) -> None:
        try:
            given[at] = await do(value)
        except AsyncraneError as exc:
            errors.append(exc)
            tasks.cancel_scope.cancel()

    async with anyio.create_task_group() as tasks:
        for at, value in enumerate(many):
            tasks.start_soon(one, at, value)
    if errors:
        raise errors[0]
    return [given[at] for at in range(len(given))]
