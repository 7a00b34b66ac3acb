"""A registry that breaks on demand, a client of it that does not wait long, and blobs to move."""

from __future__ import annotations

import random
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import AsyncExitStack, asynccontextmanager
from typing import Any

import pytest

from asyncrane.abc import Source
from asyncrane.auth.credentials import Credential
from asyncrane.auth.keychain import FixedKeychain
from asyncrane.oci.descriptor import Descriptor
from asyncrane.oci.digest import Digest
from asyncrane.oci.reference import Repository
from asyncrane.stores.remote import Remote
from asyncrane.testing import FaultyRegistry
from asyncrane.transport import Pool
from asyncrane.transport.proxy import Proxies

MIB = 1024 * 1024
PERIOD = 100_003
"""Bytes of noise, over and over: more would take long, and at no offset that anybody asks for does it begin anew."""

Open = Callable[..., Awaitable[Remote]]


class Blob:
    """Content that is different for every seed, and a reader that counts what is read of it."""

    def __init__(self, size: int, seed: object = 0) -> None:
        noise = random.Random(str(seed)).randbytes(min(size, PERIOD))
        self.data = (noise * (size // PERIOD + 1))[:size]
        self.descriptor = Descriptor("application/octet-stream", Digest.of(self.data), size)
        self.digest = self.descriptor.digest
        self.opened: list[int] = []
        self.taken = 0

    @asynccontextmanager
    async def read(self, start: int) -> AsyncIterator[AsyncIterator[bytes]]:
        self.opened.append(start)
        yield self._chunks(start)

    async def _chunks(self, start: int) -> AsyncIterator[bytes]:
        for at in range(start, len(self.data), 65536):
            chunk = self.data[at : at + 65536]
            self.taken += len(chunk)
            yield chunk


async def read(source: Source, blob: Descriptor, start: int = 0) -> bytes:
    """The content of a blob."""
    async with source.open(blob, start=start) as chunks:
        return b"".join([chunk async for chunk in chunks])


@pytest.fixture
async def remote(registry: FaultyRegistry) -> AsyncIterator[Open]:
    """Opens repositories of the registry, all through one pool."""
    async with AsyncExitStack() as stack:
        pools: list[Pool] = []
        keychain = FixedKeychain(Credential())

        async def enter(path: str = "app", *, of: FaultyRegistry = registry, **settings: Any) -> Remote:
            if not pools:
                pool = Pool(**{"retry_base": 0.001, "proxies": Proxies(), **settings})
                pools.append(await stack.enter_async_context(pool))
            return Remote(pools[0].origin(of.address, keychain), Repository(of.address, path))

        yield enter
