"""Images as values, put where they belong: what is there stays, and nothing is named that is not complete."""

from __future__ import annotations

import pytest

from asyncrane import InvalidReference, MemoryStore, RegistryError, Repository, Session, put
from asyncrane import images as edits
from asyncrane.testing import FaultyRegistry, status
from tests.images.samples import attested, image, index, sample
from tests.operations.test_jobs import wrong
from tests.promises import images as registries


async def test_an_edited_index_is_put_with_everything_it_lists(source: FaultyRegistry) -> None:
    """Also with what is no image and was not read; in the same registry only configs and manifests are sent."""
    registries.put(source, "app", attested(sample(index("a"))), "1")
    async with Session() as session:
        view = await edits.load(session.remote(Repository.parse(f"{source.address}/app")), "1")
        await put(session, view, f"{source.address}/same:1")
        source.log.clear()
        changed = edits.mutate(view, edits.Changes(labels={"a": "b"}))
        assert source.requests() == [], "an edit asks nobody"
        outcome = await put(session, changed, f"{source.address}/other:1")
    assert registries.tags(source)["same:1"] == registries.tags(source)["app:1"] == str(view.manifest.digest)
    assert registries.tags(source)["other:1"] == outcome.digest == str(changed.manifest.digest)
    assert registries.incomplete(source) == []
    assert await wrong(source, "other", "1") == []
    configs = {str(one.manifest.config().digest) for one in edits.images(changed)}  # type: ignore[union-attr]
    assert {request.digest for request in source.requests(kind="upload-put")} == configs


async def test_a_store_of_ones_own_is_named_by_the_tag(source: FaultyRegistry) -> None:
    made, memory = sample(image("a")), MemoryStore()
    registries.put(source, "app", made, "1")
    async with Session() as session:
        view = await edits.load(session.remote(Repository.parse(f"{source.address}/app")), "1")
        await put(session, view, memory, tag="mine")
        await put(session, edits.mutate(view, edits.Changes(user="x")), memory)
        with pytest.raises(InvalidReference, match="what it is to be called"):
            await put(session, view, f"{source.address}/app:2", tag="3")
        with pytest.raises(InvalidReference, match="names a digest"):
            await put(session, view, f"{source.address}/app@{made.digest}")
    assert [tag async for tag in memory.tags()] == ["mine"]
    assert (await memory.manifest("mine")).digest == made.digest


async def test_what_fails_names_nothing(source: FaultyRegistry, destination: FaultyRegistry) -> None:
    registries.put(source, "app", sample(image("a")), "1")
    destination.faults.add(status(403, kind="upload-put"))
    async with Session() as session:
        view = await edits.load(session.remote(Repository.parse(f"{source.address}/app")), "1")
        with pytest.raises(RegistryError):
            await put(session, view, f"{destination.address}/app:1")
    assert registries.tags(destination) == {}
