"""What holds for all tests, and registries that log every request, for those that ask for them."""

from __future__ import annotations

import os
from collections.abc import AsyncIterator

import pytest
from hypothesis import settings

from asyncrane.testing import FaultyRegistry

# A busy machine is no reason to fail; in CI the examples are the same every time, new ones are looked for elsewhere.
settings.register_profile("here", deadline=None)
settings.register_profile("ci", deadline=None, derandomize=True)
settings.load_profile("ci" if os.environ.get("CI", "").lower() in ("true", "1") else "here")


@pytest.fixture
async def registry() -> AsyncIterator[FaultyRegistry]:
    async with FaultyRegistry() as started:
        yield started


@pytest.fixture
async def source() -> AsyncIterator[FaultyRegistry]:
    async with FaultyRegistry() as started:
        yield started


@pytest.fixture
async def destination() -> AsyncIterator[FaultyRegistry]:
    async with FaultyRegistry() as started:
        yield started
