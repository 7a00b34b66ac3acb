"""Clients of a faulty registry."""

from __future__ import annotations

from collections.abc import AsyncIterator

import aiohttp
import pytest

from asyncrane.testing import FaultyRegistry
from tests.server.client import Client


@pytest.fixture
async def session() -> AsyncIterator[aiohttp.ClientSession]:
    async with aiohttp.ClientSession(auto_decompress=False) as session:
        yield session


@pytest.fixture
def client(registry: FaultyRegistry, session: aiohttp.ClientSession) -> Client:
    return Client(session, registry.address)
