"""What images are made of here: a base that is in a registry, and layers that are files."""

from __future__ import annotations

from pathlib import Path

from asyncrane.testing import FaultyRegistry
from asyncrane.testing.images import Sample
from tests.archive.test_layers import tar
from tests.cli.conftest import fill
from tests.images.samples import index, sample


def base(registry: FaultyRegistry, sample_: Sample | None = None) -> str:
    return fill(registry, "base", sample_ or sample(index("a")), "1")


def file(path: Path, content: bytes | None = None) -> str:
    path.write_bytes(tar() if content is None else content)
    return str(path)
