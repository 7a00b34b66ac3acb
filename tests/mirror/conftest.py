"""The program, and mirror files between two registries."""

from __future__ import annotations

from pathlib import Path

import pytest

from asyncrane.testing import FaultyRegistry
from tests.cli.conftest import Program
from tests.mirror.runs import Mirror


@pytest.fixture
def program(tmp_path: Path) -> Program:
    return Program(tmp_path / "home")


@pytest.fixture
def mirror(tmp_path: Path, source: FaultyRegistry, destination: FaultyRegistry) -> Mirror:
    return Mirror(tmp_path, source, destination)
