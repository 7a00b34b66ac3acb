"""A session owns the engine: stores of any kind meet in it, and errors leave it as they are."""

from __future__ import annotations

import gc
import json

import anyio
import pytest

from asyncrane.abc import Place
from asyncrane.engine.job import Job, Target
from asyncrane.engine.messages import Command, Event, Finish, JobAdded, ManifestWritten, WriteManifest
from asyncrane.errors import ConnectFailed, NotFound
from asyncrane.images.mutate import Changes
from asyncrane.images.overlay import Overlay
from asyncrane.oci.descriptor import Descriptor
from asyncrane.operations.convert import Conversion, convert_all
from asyncrane.operations.copy import copy
from asyncrane.operations.jobfile import parse_jobs
from asyncrane.operations.jobs import run_jobs
from asyncrane.operations.surgery import mutate
from asyncrane.session import Session
from asyncrane.stores.memory import MemoryStore
from asyncrane.testing import FaultyRegistry
from asyncrane.testing.images import random_image, random_index
from tests.promises.images import put, tags


class GatedStore(MemoryStore):
    """Answers nothing until ``gate`` is open; ``asked`` says that somebody waits."""

    gate: anyio.Event
    asked: anyio.Event

    async def resolve(self, identifier: str) -> Descriptor:
        self.asked.set()
        await self.gate.wait()
        return await super().resolve(identifier)


def job(session: Session, source: Place, target: Place, tag: str = "1") -> Job:
    return Job(session.next_id(), source, (Target(target, tag),), tag="1")


async def test_any_source_is_copied_to_any_sink() -> None:
    source, sink = MemoryStore("a"), MemoryStore("b")
    sample = random_index("memory")
    await sample.store(source, "1")
    async with Session() as session:
        outcome = await session.submit(job(session, session.use(source), session.use(sink)))
        statistics = session.statistics()
    assert outcome.failure is None
    assert (await sink.resolve("1")).digest == sample.digest
    assert statistics.bytes_written == statistics.bytes_read == sample.size
    assert statistics.images_done == 1


async def test_observers_see_every_event_and_every_command() -> None:
    source, sink = MemoryStore("a"), MemoryStore("b")
    await random_index("seen").store(source, "1")
    seen: list[Event | Command] = []
    async with Session() as session:
        session.observe(seen.append)
        await session.submit(job(session, session.use(source), session.use(sink)))
    assert isinstance(seen[0], JobAdded)
    assert sum(isinstance(event, ManifestWritten) for event in seen) == 3
    assert sum(isinstance(command, WriteManifest) for command in seen) == 3
    assert isinstance(seen[-1], Finish)


async def test_an_error_inside_leaves_the_session_as_itself() -> None:
    """Not wrapped in an ExceptionGroup, although a task group runs the engine."""
    with pytest.raises(NotFound):
        async with Session():
            raise NotFound("mine")
    with pytest.raises(ConnectFailed):
        async with Session(retries=0) as session:
            await copy(session, "localhost:1/a:1", "localhost:1/b:1")


async def test_cancelling_one_of_two_leaves_the_other() -> None:
    source, sink = GatedStore("a"), MemoryStore("b")
    source.gate, source.asked = anyio.Event(), anyio.Event()
    await random_index("shared").store(source, "1")
    async with Session() as session:
        here, there = session.use(source), session.use(sink)
        async with anyio.create_task_group() as tasks:
            with anyio.CancelScope() as scope:
                tasks.start_soon(_cancel_when_asked, scope, source)
                await session.submit(job(session, here, there, "cancelled"))
            assert scope.cancelled_caught
        source.gate.set()
        outcome = await session.submit(job(session, here, there, "kept"))
    assert outcome.failure is None
    assert [tag async for tag in sink.tags()] == ["kept"]


async def _cancel_when_asked(scope: anyio.CancelScope, source: GatedStore) -> None:
    await source.asked.wait()
    scope.cancel()


async def test_leaving_a_session_ends_what_it_was_doing() -> None:
    source, sink = GatedStore("a"), MemoryStore("b")
    source.gate, source.asked = anyio.Event(), anyio.Event()
    await random_index("left").store(source, "1")
    async with Session() as session:
        session.add(job(session, session.use(source), session.use(sink)), lambda outcome: None)
        await source.asked.wait()
    with pytest.raises(NotFound):
        await sink.resolve("1")


def test_a_session_is_used_open() -> None:
    with pytest.raises(RuntimeError, match="async with"):
        Session().statistics()


async def test_a_store_that_is_out_of_use_is_not_looked_for_in_a_registry() -> None:
    async with Session() as session:
        overlay = Overlay("edit-1", session.source)
        with session.using(overlay) as place:
            assert session.source(place) is overlay
        with pytest.raises(NotFound, match="not in use any more"):
            session.source(place)


async def test_an_edit_leaves_nothing_in_the_session() -> None:
    async with FaultyRegistry() as registry, Session() as session:
        app = f"{registry.address}/app"
        put(registry, "app", random_image("edited"), "1")
        await mutate(session, f"{app}:1", Changes(labels={"a": "b"}), to=f"{app}:2")
        job = {"mutate": f"{app}:1", "to": f"{app}:3", "labels": {"a": "c"}}
        outcomes = await run_jobs(session, parse_jobs(json.dumps(job), "jobs"))
        converted = await convert_all(session, [(f"{app}:1", f"{app}:4")], Conversion("keep", family="docker"))
        gc.collect()
        left = [found for found in gc.get_objects() if isinstance(found, Overlay)]
    assert left == []
    assert [outcome.failure for outcome in (*outcomes, *(one.outcome for one in converted))] == [None, None]
    assert {f"app:{number}" for number in (1, 2, 3, 4)} == set(tags(registry))
