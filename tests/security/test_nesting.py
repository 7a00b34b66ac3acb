"""Indexes in indexes: a registry can make kilobytes stand for billions of manifests, or for a chain without an end."""

from __future__ import annotations

import io
import json
import tarfile
from pathlib import Path

import pytest

from asyncrane.oci import media
from asyncrane.oci.manifest import Manifest
from asyncrane.oci.nesting import DEEPEST, MOST, Nesting
from asyncrane.testing import FaultyRegistry
from asyncrane.testing.images import random_image
from tests.cli.conftest import Program, fill
from tests.stores import archives


def nested(registry: FaultyRegistry, repository: str, *, deep: int, wide: int) -> str:
    """An image in an index that lists it ``wide`` times, in an index that lists that one, and so on."""
    sample = random_image("nested")
    fill(registry, repository, sample, "plain")
    above = sample.manifest
    for number in range(deep):
        entry = {"mediaType": above.media_type, "digest": str(above.digest), "size": above.size}
        fields = {"schemaVersion": 2, "mediaType": media.OCI_INDEX, "manifests": [entry] * wide}
        above = Manifest.read(json.dumps({**fields, "annotations": {"n": str(number)}}).encode())
        registry.put_manifest(repository, above)
    registry.put_manifest(repository, above, "v1")
    return f"{registry.address}/{repository}:v1"


COMMANDS = [
    "cp IMAGE OTHER/a:v1",
    "mutate --label a=b -t OTHER/c:v1 IMAGE",
    "validate --remote IMAGE",
    "index list IMAGE",
]


@pytest.mark.parametrize(("deep", "wide"), [(1100, 1), (40, 2), (5, 100)], ids=["deep", "doubling", "wide"])
async def test_an_image_without_an_end_is_one_clear_error(program: Program, deep: int, wide: int) -> None:
    """Found here: a thousand indexes deep was a RecursionError that ended the whole run, forty that double were for
    ever.
    """
    async with FaultyRegistry() as source, FaultyRegistry() as other:
        image = nested(source, "app", deep=deep, wide=wide)
        for command in COMMANDS[: {1: 4, 2: 2, 100: 1}[wide]]:
            source.log.clear()
            words = command.replace("IMAGE", image).replace("OTHER", other.address).split()
            ended = await program(*words)
            assert "unexpected" not in ended.err
            assert ended.code in ((0,) if wide == 100 or words[0] == "index" else (1, 5)), ended.err
            assert ended.code == 0 or "indexes in indexes" in ended.err + ended.text
            assert len(source.log) <= MOST + 100
        assert (other.get_manifest("a", "v1") is not None) == (wide == 100)


async def test_others_of_a_run_are_copied_all_the_same(program: Program) -> None:
    async with FaultyRegistry() as source, FaultyRegistry() as other:
        nested(source, "app", deep=1100, wide=1)
        ended = await program("cp", "-a", f"{source.address}/app", f"{other.address}/app")
        assert ended.code == 1
        assert other.get_manifest("app", "plain") is not None
        assert other.get_manifest("app", "v1") is None


async def test_an_archive_is_searched_once(program: Program, tmp_path: Path) -> None:
    """The same in a file: each manifest is looked at once, however often it is listed."""
    sample, files = archives.unpacked("archive"), list[tuple[str, bytes]]()
    above = random_image("another").manifest
    for _ in range(60):
        files.append((f"blobs/sha256/{above.digest.hex}", above.body))
        entry = {"mediaType": above.media_type, "digest": str(above.digest), "size": above.size}
        fields = {"schemaVersion": 2, "mediaType": media.OCI_INDEX, "manifests": [entry] * 2}
        above = Manifest.read(json.dumps(fields).encode())
    files += [("oci-layout", b'{"imageLayoutVersion":"1.0.0"}'), ("index.json", above.body)]
    (tmp_path / "a.tar").write_bytes(archives.docker20(sample, "a:1"))
    with tarfile.open(tmp_path / "a.tar", "a") as tar:
        for name, content in files:
            info = tarfile.TarInfo(name)
            info.size = len(content)
            tar.addfile(info, io.BytesIO(content))
    async with FaultyRegistry() as registry:
        ended = await program("push", str(tmp_path / "a.tar"), f"{registry.address}/app:v1")
        assert ended.code == 0, ended.err
        assert registry.get_manifest("app", "v1") is not None


def test_what_is_listed_counts_as_often_as_it_is_listed() -> None:
    image = random_image("count").manifest
    entry = {"mediaType": image.media_type, "digest": str(image.digest), "size": image.size}
    fields = {"schemaVersion": 2, "mediaType": media.OCI_INDEX, "manifests": [entry] * (MOST // 2)}
    index = Manifest.read(json.dumps(fields).encode())
    nesting = Nesting()
    assert len(nesting.entries(index, 0)) == len(nesting.entries(index, DEEPEST - 1)) == MOST // 2
    for depth, why in ((1, f"more than {MOST} entries"), (DEEPEST, f"{DEEPEST} deep")):
        with pytest.raises(Exception, match=why):
            nesting.entries(index, depth)
