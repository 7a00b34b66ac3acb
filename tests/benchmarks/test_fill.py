"""A data set is built in a real registry, and only a registry that holds all of it passes."""

from __future__ import annotations

import os
import shutil
from typing import TYPE_CHECKING

import pytest

from benchmarks.client import connected
from benchmarks.fill import Incomplete, fill, verify
from benchmarks.registries import COMMAND, Certificates, serving
from benchmarks.scenarios import Dataset, Image, Layer

if TYPE_CHECKING:
    from pathlib import Path

SHARED = Layer(1, 20_000)
DATASET = Dataset(
    "small", (Image("small/one", "v1", (SHARED, Layer(2, 5_000_000))), Image("small/two", "v1", (SHARED,)))
)


@pytest.fixture(autouse=True)
def _installed() -> None:
    if shutil.which(COMMAND) is None:
        (pytest.fail if os.environ.get("CI") == "true" else pytest.skip)(f"{COMMAND} is not installed")


async def test_a_built_data_set_is_whole_and_an_empty_registry_is_not(tmp_path: Path) -> None:
    """No runner wins by not copying."""
    async with serving(tmp_path / "a", home=tmp_path / "home-a") as registry, connected(registry.url) as client:
        filled = await fill(client, DATASET)
        await verify(client, filled)
    assert len(filled.blobs) == 4
    assert len(filled.placements) == 5
    async with serving(tmp_path / "b", home=tmp_path / "home-b") as registry, connected(registry.url) as client:
        with pytest.raises(Incomplete, match="7 of 7 missing"):
            await verify(client, filled)


async def test_the_same_storage_is_served_with_a_certificate_too(tmp_path: Path) -> None:
    """A data set is built once for its plain and its encrypted scenarios."""
    async with serving(tmp_path / "a", home=tmp_path / "plain") as registry, connected(registry.url) as client:
        filled = await fill(client, DATASET)
    certificates = Certificates.made_in(tmp_path)
    async with (
        serving(tmp_path / "a", home=tmp_path / "tls", tls=certificates) as registry,
        connected(registry.url, trust=certificates.trust()) as client,
    ):
        assert registry.url.startswith("https://")
        await verify(client, filled)
