"""A registry of each kind of storage, and a client of it."""

from __future__ import annotations

from collections.abc import AsyncIterator, Iterator
from pathlib import Path

import aiohttp
import pytest

from asyncrane.server import DiskStorage, MemoryStorage, Storage, make_app, serving
from tests.server.client import Client


@pytest.fixture(params=["memory", "disk"])
def storage(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[Storage]:
    if request.param == "memory":
        yield MemoryStorage()
    else:
        with DiskStorage(tmp_path / "registry") as disk:
            yield disk


@pytest.fixture
async def session() -> AsyncIterator[aiohttp.ClientSession]:
    async with aiohttp.ClientSession(auto_decompress=False) as session:
        yield session


@pytest.fixture
async def client(storage: Storage, session: aiohttp.ClientSession) -> AsyncIterator[Client]:
    """A client of a registry whose lists come in pages of at most 5."""
    async with serving(make_app(storage, page=5), grace=0.1) as address:
        yield Client(session, address)
