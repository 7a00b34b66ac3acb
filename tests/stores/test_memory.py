"""The store in memory is a Source, a Sink and a Lister, as strict as a registry."""

from __future__ import annotations

import pytest

from asyncrane.abc import Lister, Sink, Source
from asyncrane.errors import DigestMismatch, NotFound, RegistryError
from asyncrane.oci.manifest import Manifest
from asyncrane.stores.memory import MemoryStore
from asyncrane.testing.checks import check_sink, check_sink_index, check_source
from asyncrane.testing.images import random_image, random_index


async def test_it_passes_the_conformance_suites() -> None:
    store = MemoryStore(repository="a")
    assert isinstance(store, Source)
    assert isinstance(store, Sink)
    assert isinstance(store, Lister)
    await check_sink(store, sibling=store.sibling("b"))
    await check_source(store.sibling("b"), tag="checked", manifest=await store.manifest("checked"))
    await check_sink_index(store)


async def test_an_index_can_be_stored_and_read_back() -> None:
    store, sample = MemoryStore(), random_index("i", docker=True)
    await sample.store(store, "v1", "v2")
    await check_source(store, tag="v2", manifest=sample.manifest)
    assert [tag async for tag in store.tags()] == ["v1", "v2"]


async def test_a_manifest_is_refused_until_what_it_names_is_here() -> None:
    store, sample = MemoryStore(), random_image()
    with pytest.raises(RegistryError, match="unknown here"):
        await store.publish(sample.manifest, "v1")
    index = random_index()
    with pytest.raises(RegistryError, match="unknown here"):
        await store.publish(index.manifest, "v1")
    assert await store.probe("v1") is None


async def test_a_manifest_whose_bytes_are_others_is_refused() -> None:
    store, sample = MemoryStore(), random_image()
    lie = Manifest(sample.manifest.media_type, sample.manifest.body + b" ", sample.digest)
    with pytest.raises(DigestMismatch):
        await store.publish(lie)


async def test_a_repository_nobody_wrote_to_does_not_exist() -> None:
    with pytest.raises(NotFound):
        [tag async for tag in MemoryStore().tags()]


async def test_its_repr_says_what_it_holds() -> None:
    store = MemoryStore("here", repository="a/b")
    await random_image().store(store, "v1")
    assert repr(store) == "MemoryStore('here/a/b', 1 tags, 1 manifests, 3 blobs)"
