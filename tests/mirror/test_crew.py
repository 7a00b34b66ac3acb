"""Many questions are asked a few at a time, and little of them waits."""

from __future__ import annotations

from collections.abc import Iterator
from functools import partial

import anyio
import pytest

from asyncrane.mirror.crew import Crew, Errand


async def nothing() -> None:
    await anyio.lowlevel.checkpoint()


async def test_what_there_is_to_do_is_only_looked_at_when_somebody_is_free() -> None:
    """So that a million images are not a million waiting tasks."""
    drawn = done = most = 0

    async def errand() -> None:
        nonlocal done
        await anyio.lowlevel.checkpoint()
        done += 1

    def supply() -> Iterator[Errand]:
        nonlocal drawn, most
        for _ in range(2000):
            drawn += 1
            most = max(most, drawn - done)
            yield errand

    await Crew(supply(), size=5, limiter=anyio.CapacityLimiter(5)).run()
    assert done == 2000
    assert most <= 5


async def test_what_an_answer_leads_to_is_done_before_anything_else_is_begun() -> None:
    order: list[str] = []

    async def image(name: str) -> None:
        order.append(name)
        for blob in ("x", "y"):
            crew.add(partial(leaf, name + blob))
        await anyio.lowlevel.checkpoint()

    async def leaf(name: str) -> None:
        order.append(name)

    crew = Crew((partial(image, name) for name in "abc"), size=1, limiter=anyio.CapacityLimiter(1))
    await crew.run()
    assert order == ["a", "ay", "ax", "b", "by", "bx", "c", "cy", "cx"]


async def test_those_who_are_free_wait_for_what_the_last_busy_one_finds() -> None:
    found = anyio.Event()
    together = 0

    async def leaf() -> None:
        nonlocal together
        together += 1
        if together == 3:
            found.set()
        await found.wait()

    async def root() -> None:
        for _ in range(3):
            crew.add(leaf)
            await anyio.lowlevel.checkpoint()

    crew = Crew([root], size=3, limiter=anyio.CapacityLimiter(3))
    with anyio.fail_after(10):
        await crew.run()
    assert together == 3


async def test_crews_share_a_limit() -> None:
    busy = most = 0

    async def errand() -> None:
        nonlocal busy, most
        busy += 1
        most = max(most, busy)
        await anyio.lowlevel.checkpoint()
        busy -= 1

    limiter = anyio.CapacityLimiter(4)
    async with anyio.create_task_group() as tasks:
        for _ in range(3):
            tasks.start_soon(Crew([errand] * 50, size=4, limiter=limiter).run)
    assert most == 4


async def test_an_error_ends_all() -> None:
    async def broken() -> None:
        raise ValueError("broken")

    with pytest.raises(ExceptionGroup) as caught:
        await Crew([nothing, broken, *[nothing] * 100], size=2, limiter=anyio.CapacityLimiter(2)).run()
    assert caught.group_contains(ValueError)
