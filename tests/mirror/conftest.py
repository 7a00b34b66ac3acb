"""Two registries that log every request, the program, and mirror files between them."""

from __future__ import annotations

from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from asyncrane.testing import FaultyRegistry
from tests.cli.conftest import Program
from tests.mirror.runs import Mirror


@pytest.fixture
async def source() -> AsyncIterator[FaultyRegistry]:
    async with FaultyRegistry() as started:
        yield started


@pytest.fixture
async def destination() -> AsyncIterator[FaultyRegistry]:
    async with FaultyRegistry() as started:
        yield started


@pytest.fixture
def program(tmp_path: Path) -> Program:
    return Program(tmp_path / "home")


@pytest.fixture
def mirror(tmp_path: Path, source: FaultyRegistry, destination: FaultyRegistry) -> Mirror:
    return Mirror(tmp_path, source, destination)
