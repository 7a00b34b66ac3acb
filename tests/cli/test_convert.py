"""``convert``: old and new digests on stdout, one clear line and the right exit code where it cannot be done."""

from __future__ import annotations

import json

import pytest

from asyncrane.oci import media
from asyncrane.oci.digest import Digest
from asyncrane.testing import FaultyRegistry, corrupt
from tests.cli.conftest import Program, fill
from tests.images.samples import image, index, sample
from tests.promises.images import incomplete, tags


async def test_k7_every_digest_that_changes_is_a_line_and_the_image_is_the_last(
    program: Program, registry: FaultyRegistry, other: FaultyRegistry
) -> None:
    made = sample(index("os", "code"))
    name = fill(registry, "app", made, "1")
    ended = await program("convert", name, f"{other.address}/app:1", "--layers", "zstd")
    assert ended.code == 0, ended.err
    lines = [line.partition(" -> ") for line in ended.out.decode().splitlines()]
    became = {old: new for old, _, new in lines}
    assert len(lines) == len(became) == 4 + 2 + 1
    assert lines[-1] == (str(made.digest), " -> ", tags(other)["app:1"])
    assert {str(child.digest) for child in made.manifest.children()} <= set(became)
    for manifest in made.manifests[:-1]:
        for layer in manifest.layers():
            converted = other.get_blob("app", Digest(became[str(layer.digest)]))
            assert converted is not None
            assert converted.startswith(b"\x28\xb5\x2f\xfd")
    assert incomplete(other) == []


async def test_all_tags_are_converted_in_one_run_and_shared_lines_are_printed_once(
    program: Program, registry: FaultyRegistry, other: FaultyRegistry
) -> None:
    for n in range(3):
        fill(registry, "app", sample(image("os", f"code {n}")), f"v{n}")
    ended = await program("convert", "-a", f"{registry.address}/app", f"{other.address}/app", "--layers=estargz")
    assert ended.code == 0, ended.err
    assert len(ended.out.splitlines()) == 1 + 3 + 3
    assert set(tags(other)) == {"app:v0", "app:v1", "app:v2"}


async def test_json_says_what_became_of_what(program: Program, registry: FaultyRegistry, other: FaultyRegistry) -> None:
    made = sample(image("os"))
    name = fill(registry, "app", made, "1")
    ended = await program("convert", name, f"{other.address}/app:1", "--to-docker", "--output", "json")
    assert ended.code == 0, ended.err
    said = json.loads(ended.out)
    assert (said["root"], said["media_type"]) == (str(made.digest), media.DOCKER_MANIFEST)
    assert said["digest"] == tags(other)["app:1"]
    assert said["replaced"] == [{"kind": "manifest", "before": str(made.digest), "after": said["digest"]}]
    assert [target["status"] for target in said["destinations"]] == ["copied"]


async def test_a_single_platform_is_chosen(program: Program, registry: FaultyRegistry) -> None:
    name = fill(registry, "app", sample(index("os")), "1")
    ended = await program("convert", name, f"{registry.address}/app:2", "--layers=gzip", "--platform", "linux/arm64")
    assert ended.code == 0, ended.err
    found = registry.get_manifest("app", "2")
    assert found is not None
    assert found.is_image


@pytest.mark.parametrize(
    ("arguments", "says"),
    [
        ([], "nothing to convert"),
        (["--to-oci", "--to-docker"], "exclude each other"),
        (["--layers", "lzma"], "lzma"),
        (["--layers", "gzip", "--level", "10"], "no level of gzip: 10"),
        (["--layers", "zstd", "--to-docker"], "none for zstd"),
        (["--layers", "zstd", "--platform", "arm"], "not a platform"),
    ],
)
async def test_words_that_cannot_be_used_are_one_line_and_nothing_is_sent(
    program: Program, registry: FaultyRegistry, arguments: list[str], says: str
) -> None:
    ended = await program("convert", f"{registry.address}/a:1", f"{registry.address}/b:1", *arguments)
    assert ended.code == 2
    assert says in ended.err
    assert len(ended.err.splitlines()) == 1
    assert ended.out == b""
    assert list(registry.log) == []


async def test_what_is_broken_or_missing_has_its_exit_code_and_publishes_nothing(
    program: Program, registry: FaultyRegistry, other: FaultyRegistry
) -> None:
    name = fill(registry, "app", sample(image("os", size=100_000)), "1")
    missing = await program("convert", f"{registry.address}/app:2", f"{other.address}/app:1", "--layers=zstd")
    assert missing.code == 3
    registry.faults.add(corrupt(50_000, kind="blob-get"))
    broken = await program("convert", name, f"{other.address}/app:1", "--layers=zstd")
    assert broken.code == 5
    assert broken.out == b""
    many = await program("convert", "-a", f"{registry.address}/app", f"{other.address}/app", "--layers=zstd")
    assert many.code == 1
    assert "1 of 1 images failed" in many.err
    assert tags(other) == {}
