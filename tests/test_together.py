"""The same thing done for many at once: what each gives comes in order, an error as it is."""

from __future__ import annotations

import anyio
import pytest

from asyncrane.errors import NotFound
from asyncrane.together import all_of


async def test_answers_come_in_the_order_of_the_questions() -> None:
    """Whichever is ready first."""
    ready = [anyio.Event() for _ in range(3)]
    ready[-1].set()

    async def after_the_next(number: int) -> str:
        await ready[number].wait()
        ready[number - 1].set()
        return f"answer {number}"

    assert await all_of(range(3), after_the_next) == ["answer 0", "answer 1", "answer 2"]


async def test_the_first_error_stops_the_others_and_comes_out_as_it_is() -> None:
    """Not in a group, and nobody waits for what is of no use any more."""
    stopped = []

    async def fail_or_wait(number: int) -> None:
        if number == 1:
            raise NotFound("number 1")
        try:
            await anyio.sleep_forever()
        finally:
            stopped.append(number)

    with anyio.fail_after(60), pytest.raises(NotFound, match=r"^number 1$"):
        await all_of(range(3), fail_or_wait)
    assert 0 in stopped
    assert 1 not in stopped
