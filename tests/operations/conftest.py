"""Two registries that log every request."""

from __future__ import annotations

from collections.abc import AsyncIterator

import pytest

from asyncrane.testing import FaultyRegistry


@pytest.fixture
async def source() -> AsyncIterator[FaultyRegistry]:
    async with FaultyRegistry() as started:
        yield started


@pytest.fixture
async def destination() -> AsyncIterator[FaultyRegistry]:
    async with FaultyRegistry() as started:
        yield started
