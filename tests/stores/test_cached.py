"""What many want is read once, and no more is kept than was said."""

from __future__ import annotations

import anyio
import pytest

from asyncrane.abc import Source
from asyncrane.errors import NotFound
from asyncrane.oci.digest import Digest
from asyncrane.oci.manifest import Manifest
from asyncrane.stores.cached import ReadCache
from asyncrane.stores.memory import MemoryStore
from asyncrane.testing.checks import check_source
from asyncrane.testing.images import random_image, random_index


class Slow(MemoryStore):
    """Counts what it is asked for, and answers when it is let."""

    def __init__(self) -> None:
        super().__init__()
        self.asked: list[str] = []
        self.open_gate = anyio.Event()

    async def manifest(self, identifier: str) -> Manifest:
        self.asked.append(str(identifier))
        await self.open_gate.wait()
        return await super().manifest(identifier)


async def test_it_passes_the_conformance_suite() -> None:
    store, sample = MemoryStore(), random_index()
    await sample.store(store, "v1")
    cached = ReadCache().of(store)
    assert isinstance(cached, Source)
    for _ in range(2):
        await check_source(cached, tag="v1", manifest=sample.manifest)


async def test_those_who_ask_at_once_share_one_request() -> None:
    store, sample = Slow(), random_image()
    await sample.store(store, "v1")
    cached = ReadCache().of(store)
    found: list[Manifest] = []

    async def ask() -> None:
        found.append(await cached.manifest("v1"))

    async with anyio.create_task_group() as tasks:
        for _ in range(20):
            tasks.start_soon(ask)
        await anyio.wait_all_tasks_blocked()
        store.open_gate.set()
    assert found == [sample.manifest] * 20
    await cached.manifest(sample.digest)
    assert store.asked == ["v1"]


async def test_one_who_gives_up_does_not_take_it_from_the_others() -> None:
    store, sample = Slow(), random_image()
    await sample.store(store, "v1")
    cached = ReadCache().of(store)
    found: list[Manifest] = []

    async def ask(scope: anyio.CancelScope) -> None:
        with scope:
            found.append(await cached.manifest("v1"))

    first = anyio.CancelScope()
    async with anyio.create_task_group() as tasks:
        for scope in (first, anyio.CancelScope()):
            tasks.start_soon(ask, scope)
            await anyio.wait_all_tasks_blocked()
        first.cancel()
        await anyio.wait_all_tasks_blocked()
        store.open_gate.set()
    assert found == [sample.manifest]


async def test_what_is_not_there_is_asked_for_once() -> None:
    store = Slow()
    store.open_gate.set()
    cached = ReadCache().of(store)
    for _ in range(3):
        with pytest.raises(NotFound):
            await cached.manifest("none")
    assert store.asked == ["none"]


async def test_what_was_not_asked_for_longest_goes_first_and_a_tag_stays_what_it_was() -> None:
    store, samples = Slow(), [random_image(n) for n in range(3)]
    store.open_gate.set()
    for number, sample in enumerate(samples):
        await sample.store(store, f"v{number}")
    cache = ReadCache(kept=samples[0].manifest.size * 2)
    cached = cache.of(store)
    for tag in ("v0", "v1", "v0", "v2", "v0"):
        await cached.manifest(tag)
    assert store.asked == ["v0", "v1", "v2"]
    await store.publish(samples[2].manifest, "v1")
    assert await cached.manifest("v1") == samples[1].manifest
    assert store.asked[3:] == [str(samples[1].digest)]
    assert repr(cache).startswith("ReadCache(2 values")


async def test_no_more_requests_are_under_way_than_was_said() -> None:
    store = Slow()
    cached = ReadCache(at_once=lambda site: 3).of(store)

    async def ask(number: int) -> None:
        with pytest.raises(NotFound):
            await cached.manifest(Digest.of(b"%d" % number))

    async with anyio.create_task_group() as tasks:
        for number in range(10):
            tasks.start_soon(ask, number)
        await anyio.wait_all_tasks_blocked()
        assert len(store.asked) == 3
        store.open_gate.set()
    assert len(store.asked) == 10
