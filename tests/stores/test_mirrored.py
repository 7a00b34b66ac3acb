"""A repository with mirrors is a Source that is as good as its origin, whatever the mirrors do (L4)."""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import AsyncExitStack

import pytest

from asyncrane.abc import Attached, Source
from asyncrane.auth.keychain import FixedKeychain
from asyncrane.errors import AsyncraneError, ConnectFailed, DigestMismatch, NotFound, RateLimited, ServerFault, TimedOut
from asyncrane.oci.reference import Repository
from asyncrane.stores import mirrored
from asyncrane.stores.mirrored import DOWN, WHOLE, Mirror, Mirrored
from asyncrane.stores.remote import Remote
from asyncrane.testing import FaultyRegistry, Gate, corrupt, cut_response, delay, status
from asyncrane.testing.checks import check_source
from asyncrane.testing.images import random_index
from asyncrane.transport import Pool
from asyncrane.transport.proxy import Proxies
from tests.registry.conftest import MIB, Blob, read


class World:
    """An origin, a mirror of it, and a reader of both."""

    def __init__(self, origin: FaultyRegistry, mirror: FaultyRegistry, source: Mirrored, health: Mirror) -> None:
        self.origin = origin
        self.mirror = mirror
        self.source = source
        self.health = health
        self.now = 0.0

    def have(self, blob: Blob, *, mirrored: bool = True) -> None:
        for registry in (self.origin, self.mirror) if mirrored else (self.origin,):
            registry.put_blob("app", blob.data)


@pytest.fixture
async def world() -> AsyncIterator[World]:
    async with AsyncExitStack() as stack:
        origin, mirror = [await stack.enter_async_context(FaultyRegistry()) for _ in range(2)]
        pool = await stack.enter_async_context(Pool(retry_base=0.001, proxies=Proxies()))
        keychain = FixedKeychain()
        first = Remote(pool.origin(origin.address, keychain), Repository(origin.address, "app"))
        copy = Remote(pool.origin(mirror.address, keychain, spare=True), Repository(mirror.address, "app"))
        health = Mirror(mirror.address, clock=lambda: made.now)
        made = World(origin, mirror, Mirrored(first, [(health, copy)]), health)
        yield made


async def test_it_is_what_it_has_to_be(world: World) -> None:
    assert isinstance(world.source, Source)
    assert isinstance(world.source, Attached)
    assert str(world.source.place) == f"{world.origin.address}/app"


@pytest.mark.parametrize("filled", [True, False], ids=["full", "empty"])
async def test_a_mirror_that_has_everything_or_nothing_conforms(world: World, filled: bool) -> None:
    sample = random_index("mirrored")
    for registry in (world.origin, world.mirror) if filled else (world.origin,):
        for content in sample.blobs.values():
            registry.put_blob("app", content)
        for manifest in sample.manifests:
            registry.put_manifest("app", manifest)
        registry.put_manifest("app", sample.manifest, "1")
    await check_source(world.source, tag="1", manifest=sample.manifest)


async def test_what_the_mirror_has_is_not_asked_of_the_origin_l4(world: World) -> None:
    sample, blob = random_index("there"), Blob(3 * MIB, "there")
    world.have(blob)
    for registry in (world.origin, world.mirror):
        registry.put_manifest("app", sample.manifest, "1")
    assert (await world.source.resolve("1")).digest == sample.digest
    assert (await world.source.manifest("1")).digest == sample.digest
    assert (await world.source.manifest(str(sample.digest))).digest == sample.digest
    assert await read(world.source, blob.descriptor) == blob.data
    assert len(world.origin.log) == 0


async def test_the_rest_of_a_blob_is_the_origins(world: World) -> None:
    """Where reading does not begin at the start, nothing says whether a mirror's bytes belong to it."""
    blob = Blob(3 * MIB, "rest")
    world.have(blob)
    assert await read(world.source, blob.descriptor, MIB) == blob.data[MIB:]
    assert len(world.mirror.log) == 0


@pytest.mark.parametrize("code", [401, 403, 404, 429, 500, 503])
async def test_whatever_a_mirror_answers_the_origin_is_asked_l4(world: World, code: int) -> None:
    sample, blob = random_index("refused"), Blob(3 * MIB, "refused")
    world.have(blob)
    for registry in (world.origin, world.mirror):
        registry.put_manifest("app", sample.manifest, "1")
    refusal = world.mirror.faults.add(status(code, kind=("manifest-get", "manifest-head", "blob-get")))
    assert (await world.source.manifest("1")).digest == sample.digest
    assert await read(world.source, blob.descriptor) == blob.data
    assert refusal.hits
    assert len(world.origin.requests(kind="blob-get")) == 1


async def test_what_is_not_at_the_origin_either_is_the_origins_error(world: World) -> None:
    with pytest.raises(NotFound, match=world.origin.address):
        await world.source.manifest("none")


@pytest.mark.parametrize("size", [WHOLE // 2, 3 * MIB], ids=["small", "large"])
async def test_a_mirror_that_breaks_off_is_made_up_for_l4(world: World, size: int) -> None:
    """L4, D5: what came is kept, the rest comes from the origin."""
    blob = Blob(size, "cut")
    world.have(blob)
    world.mirror.faults.add(cut_response(size // 2, kind="blob-get", nth=1), status(404, kind="blob-get", after=1))
    assert await read(world.source, blob.descriptor) == blob.data
    asked = world.origin.requests(kind="blob-get")
    assert len(asked) == 1
    assert ("Range" in asked[0].headers) == (size > WHOLE)


async def test_a_small_wrong_blob_is_replaced_unnoticed_l4(world: World) -> None:
    blob = Blob(10_000, "wrong")
    world.have(blob)
    world.mirror.faults.add(corrupt(kind="blob-get"))
    assert await read(world.source, blob.descriptor) == blob.data
    assert await read(world.source, blob.descriptor) == blob.data
    assert len(world.mirror.requests(kind="blob-get")) == 1


async def test_a_large_wrong_blob_is_an_error_once_l4(world: World) -> None:
    """L4: the bytes have passed on; whoever tries again gets the origin's."""
    blob = Blob(3 * MIB, "wrong")
    world.have(blob)
    world.mirror.faults.add(corrupt(kind="blob-get"))
    with pytest.raises(DigestMismatch):
        await read(world.source, blob.descriptor)
    assert await read(world.source, blob.descriptor) == blob.data


async def test_a_manifest_that_is_another_is_not_taken_l4(world: World) -> None:
    right, wrong = random_index("right"), random_index("wrong")
    world.origin.put_manifest("app", right.manifest)
    world.mirror.put_manifest("app", wrong.manifest, "1")
    world.mirror.faults.add(corrupt(kind="manifest-get"))
    world.mirror.put_manifest("app", right.manifest)
    assert (await world.source.manifest(str(right.digest))).body == right.manifest.body
    assert len(world.mirror.requests(kind="manifest-get")) == 1


async def test_a_mirror_that_does_not_answer_is_given_up_soon_and_left_out_for_a_while_l4(
    world: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(mirrored, "PATIENCE", 0.2)
    gate, sample = Gate(), random_index("hang")
    world.mirror.faults.add(delay(gate, kind=("manifest-get", "manifest-head")))
    for registry in (world.origin, world.mirror):
        registry.put_manifest("app", sample.manifest, "1")
    assert (await world.source.manifest("1")).digest == sample.digest
    assert not world.health.up
    assert (await world.source.resolve("1")).digest == sample.digest
    assert gate.arrived == 1
    gate.release()
    world.now += DOWN
    assert (await world.source.manifest("1")).digest == sample.digest
    assert gate.arrived == 2


async def test_a_mirror_nobody_runs_costs_one_try_l4(world: World) -> None:
    blob = Blob(3 * MIB, "gone")
    world.have(blob)
    world.origin.put_manifest("app", random_index("gone").manifest, "1")
    await world.mirror.__aexit__(None, None, None)
    for _ in range(3):
        await world.source.manifest("1")
        assert await read(world.source, blob.descriptor) == blob.data
    assert not world.health.up


def test_it_takes_three_strikes_or_one_that_says_enough() -> None:
    now = [0.0]
    mirror = Mirror("m", clock=lambda: now[0])
    fault = ServerFault("500", status=500)

    def up_after(*errors: AsyncraneError) -> bool:
        for error in errors:
            mirror.failed(error)
        return mirror.up

    assert up_after(fault, fault)
    mirror.answered()
    assert up_after(fault, fault)
    assert not up_after(fault)
    for enough in (ConnectFailed("refused"), TimedOut("slow"), RateLimited("429", retry_after=DOWN)):
        now[0] += DOWN
        assert up_after()
        assert not up_after(enough)
