"""A registry's repository is a complete Source, Sink and Lister, also on registries nobody here wrote."""

from __future__ import annotations

from collections.abc import AsyncIterator, Iterator
from contextlib import AsyncExitStack
from itertools import count
from pathlib import Path

import pytest

from asyncrane.abc import Lister, Sink, Source
from asyncrane.auth.credentials import Credential
from asyncrane.auth.keychain import FixedKeychain
from asyncrane.oci.reference import Repository
from asyncrane.registry.strategy import Kind
from asyncrane.server import PlainUsers, TokenAuth
from asyncrane.stores.remote import Remote
from asyncrane.testing import FaultyRegistry, cut_request, cut_response
from asyncrane.testing.checks import check_sink, check_source
from asyncrane.testing.images import random_index, reader
from asyncrane.transport import Pool
from asyncrane.transport.proxy import Proxies
from tests.copies.registries import RealRegistry, docker_registry
from tests.registry.conftest import MIB, Blob, read

WAYS: tuple[Kind, ...] = ("put", "patch", "chunks")
_numbers = count(1)


@pytest.fixture(scope="module")
def real(tmp_path_factory: pytest.TempPathFactory) -> Iterator[RealRegistry]:
    with docker_registry(tmp_path_factory.mktemp("real")) as registry:
        yield registry


@pytest.fixture
async def pool() -> AsyncIterator[Pool]:
    async with Pool(retry_base=0.001, proxies=Proxies()) as pool:
        yield pool


def repository(pool: Pool, address: str, path: str, keychain: FixedKeychain | None = None) -> Remote:
    return Remote(pool.origin(address, keychain or FixedKeychain(Credential())), Repository(address, path))


def new(pool: Pool, real: RealRegistry) -> Remote:
    return repository(pool, real.address, f"test/n{next(_numbers)}")


async def test_it_is_what_it_has_to_be(pool: Pool) -> None:
    remote = repository(pool, "registry.example", "team/app")
    assert isinstance(remote, Source)
    assert isinstance(remote, Sink)
    assert isinstance(remote, Lister)
    assert str(remote.place) == "registry.example/team/app"
    assert remote.place.site.mounts


@pytest.mark.parametrize("way", WAYS)
async def test_the_embedded_registry_conforms(pool: Pool, way: Kind) -> None:
    async with FaultyRegistry(locations="opaque") as registry:
        one, other = (repository(pool, registry.address, path) for path in ("one", "other"))
        one.origin.capabilities.upload = way
        await check_sink(one, sibling=other)
        assert registry.open_uploads == 0


async def test_a_registry_with_tokens_and_a_storage_host_conforms(pool: Pool) -> None:
    auth, keychain = TokenAuth(PlainUsers({"mover": "secret"})), FixedKeychain(Credential("mover", "secret"))
    async with FaultyRegistry(auth=auth, storage_host=True) as registry:
        one, other = (repository(pool, registry.address, path, keychain) for path in ("one", "other"))
        await check_sink(one, sibling=other)
        scopes = {request.query for request in registry.requests(kind="token")}
        assert len(scopes) == len(registry.requests(kind="token")), "no token is asked for twice"


@pytest.mark.parametrize("way", WAYS)
async def test_a_real_registry_conforms(pool: Pool, real: RealRegistry, way: Kind) -> None:
    one, other = new(pool, real), new(pool, real)
    one.origin.capabilities.upload = way
    await check_sink(one, sibling=other, seed=way)


async def test_a_real_registry_takes_an_index(pool: Pool, real: RealRegistry) -> None:
    remote, sample = new(pool, real), random_index("real")
    for digest, content in sample.blobs.items():
        await remote.put(sample.blob(digest), reader(content))
    for manifest in sample.manifests[:-1]:
        await remote.publish(manifest)
    await remote.publish(sample.manifest, "1")
    await check_source(remote, tag="1", manifest=sample.manifest)
    assert await remote.tags_page() == (("1",), True)


@pytest.mark.parametrize("way", WAYS)
async def test_large_blobs_arrive_at_a_real_registry_in_every_way(pool: Pool, real: RealRegistry, way: Kind) -> None:
    remote, blob = new(pool, real), Blob(9 * MIB, way)
    remote.origin.capabilities.upload = way
    assert await remote.put(blob.descriptor, blob.read)
    assert not await remote.put(blob.descriptor, blob.read)
    assert await read(remote, blob.descriptor) == blob.data
    assert await read(remote, blob.descriptor, 8 * MIB) == blob.data[8 * MIB :]
    assert remote.origin.statistics().sent == 9 * MIB


async def test_bytes_cut_on_both_sides_are_moved_once(pool: Pool) -> None:
    """D5: the source is cut five times while the upload to the destination stays open, and that is cut as well (D1)."""
    blob = Blob(24 * MIB)
    async with AsyncExitStack() as stack:
        here, there = [await stack.enter_async_context(FaultyRegistry()) for _ in range(2)]
        here.put_blob("app", blob.data)
        here.faults.add(cut_response(2 * MIB, times=5))
        source, sink = repository(pool, here.address, "app"), repository(pool, there.address, "app")
        assert await sink.put(blob.descriptor, lambda start: source.open(blob.descriptor, start=start))
        assert there.get_blob("app", blob.digest) == blob.data
        assert source.origin.statistics().received < 1.05 * len(blob.data)
        assert [r.kind for r in there.log if r.kind != "ping"] == ["mount", "blob-head", "upload-put"]
        there.faults.add(cut_request(10 * MIB, times=1))
        again = repository(pool, there.address, "again")
        there.storage.unlink("app", blob.digest)
        assert await again.put(blob.descriptor, lambda start: source.open(blob.descriptor, start=start))
        assert there.get_blob("again", blob.digest) == blob.data


async def test_a_real_registry_recovers_from_a_session_that_is_gone(pool: Pool, real: RealRegistry) -> None:
    """distribution 2.8 ends a session whose upload broke: the blob is sent again, in a new one."""
    remote, blob = new(pool, real), Blob(2 * MIB)
    assert not await remote.mount(blob.descriptor, "test/nobody")
    for left in Path(real.log).parent.glob("data/docker/registry/v2/repositories/test/*/_uploads/*/startedat"):
        left.unlink()
    assert await remote.put(blob.descriptor, blob.read)
    assert await read(remote, blob.descriptor) == blob.data
