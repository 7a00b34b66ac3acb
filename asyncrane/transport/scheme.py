"""Is it https or http? Both are asked where crane would: https first, http a little later or as soon as that fails."""

from __future__ import annotations

import math
from collections.abc import Awaitable, Callable, Sequence
from typing import TypeVar

import anyio

from asyncrane.errors import AsyncraneError, RegistryError, TransportError

T = TypeVar("T")


async def first_good(schemes: Sequence[str], ask: Callable[[str], Awaitable[T]], *, head_start: float) -> T:
    """The first answer, by asking with each scheme in order, ``head_start`` seconds apart or when the one before fails.

    :raises AsyncraneError: when none answers: what a registry answered rather than that there was no connection,
        the first scheme's error rather than a later one's
    """
    if len(schemes) == 1:
        return await ask(schemes[0])
    found: list[T] = []
    errors: dict[str, AsyncraneError] = {}
    failed = {scheme: anyio.Event() for scheme in schemes}

    async def attempt(scheme: str) -> None:
        try:
            found.append(await ask(scheme))
        except AsyncraneError as exc:
            errors[scheme] = exc
            failed[scheme].set()
        else:
            group.cancel_scope.cancel()

    async with anyio.create_task_group() as group:
        for number, scheme in enumerate(schemes):
            group.start_soon(attempt, scheme)
            with anyio.move_on_after(head_start if number + 1 < len(schemes) else math.inf):
                await failed[scheme].wait()
    if found:
        return found[0]
    # 400 is what TLS ports say to plain requests, so that the reason is what went wrong with TLS
    said = (error for error in (errors[scheme] for scheme in schemes) if not isinstance(error, TransportError))
    answers = [error for error in said if not (isinstance(error, RegistryError) and error.status == 400)]
    raise answers[0] if answers else errors[schemes[0]]
