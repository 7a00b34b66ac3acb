"""What of a layout nothing names is removed, and nothing else."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from asyncrane.errors import (
    ContentError,
    InvalidInput,
)
from asyncrane.oci.digest import Digest
from asyncrane.operations.layout import layout_gc
from asyncrane.stores.layout import open_layout
from asyncrane.testing.images import random_image, random_index
from tests.stores.samples import blobs, left, stored


async def test_gc_removes_what_nothing_names_and_nothing_else(tmp_path: Path) -> None:
    """Also where a media type is unknown: crane's fails there."""
    out, index, gone, odd = tmp_path / "out", random_index("kept"), random_image("gone"), b'{"needs":"%s"}'
    await stored(out, index, "v1")
    await stored(out, gone, "v2")
    needed, unneeded = b"needed by something odd", b"left over"
    odd %= Digest.of(needed).encode()
    for content in (needed, unneeded, odd):
        (out / "blobs/sha256" / Digest.of(content).hex).write_bytes(content)
    (out / ".asyncrane-dead").write_bytes(b"x")
    (out / "blobs/sha256/not-a-digest").write_bytes(b"x")
    fields = json.loads((out / "index.json").read_bytes())
    fields["manifests"] = [
        fields["manifests"][0],
        {"mediaType": "application/vnd.odd+json", "digest": Digest.of(odd), "size": len(odd)},
    ]
    (out / "index.json").write_text(json.dumps(fields))
    garbage = {*gone.blobs, gone.digest, Digest.of(unneeded)} - set(index.blobs)
    before = left(out)
    assert {found.digest for found in await layout_gc(out, dry_run=True)} == {*garbage, None}
    assert left(out) == before
    found = await layout_gc(out)
    assert {garbage.digest for garbage in found} == {*garbage, None}
    kept = {*index.blobs, *(m.digest for m in index.manifests), Digest.of(needed), Digest.of(odd)}
    assert blobs(out) == {*kept, "sha256:not-a-digest"}
    assert not (out / ".asyncrane-dead").exists()
    assert await layout_gc(out) == []


async def test_gc_keeps_away_from_a_layout_that_is_being_written(tmp_path: Path) -> None:
    async with open_layout(tmp_path / "out", writing=True) as layout:
        await random_image("x").store(layout, "v1")
        with pytest.raises(InvalidInput, match="is being written by another process"):
            await layout_gc(tmp_path / "out")
    assert await layout_gc(tmp_path / "out") == []


async def test_gc_of_a_damaged_layout_removes_nothing(tmp_path: Path) -> None:
    out, sample = tmp_path / "out", random_image("x")
    await stored(out, sample, "v1")
    (out / "blobs/sha256" / sample.digest.hex).write_bytes(b"damaged")
    before = left(out)
    with pytest.raises(ContentError):
        await layout_gc(out)
    assert left(out) == before
