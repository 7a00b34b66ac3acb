"""``validate``: PASS and FAIL on stdout, and an exit code that scripts can go by."""

from __future__ import annotations

from pathlib import Path

import pytest

from asyncrane.testing import FaultyRegistry, status
from asyncrane.testing.images import Sample
from tests.cli.conftest import Program, fill, run
from tests.images.samples import image, index, sample, with_config
from tests.peers import require

GOOD = sample(index("a", "b"))


def broken() -> Sample:
    return with_config(sample(image("a")), rootfs={"type": "layers", "diff_ids": []})


async def test_one_line_for_each_and_5_if_one_fails(program: Program, registry: FaultyRegistry) -> None:
    good, bad = fill(registry, "good", GOOD, "1"), fill(registry, "bad", broken(), "1")
    ended = await program("validate", "--remote", good, "--remote", bad)
    assert ended.code == 5
    says = "validating layers: mismatched number of diffids: len(ConfigFile.RootFS.DiffIDs)=0, len(layers)=1"
    assert ended.text == f"PASS: {good}\nFAIL: {bad}: {says}\n"
    assert ended.error == "asyncrane: error: 1 of 2 are not well-formed"
    ended = await program("validate", "--remote", bad)
    assert ended.error == f"asyncrane: error: {bad} is not well-formed"


async def test_all_that_is_wrong_with_an_image_is_on_its_line(program: Program, registry: FaultyRegistry) -> None:
    made = with_config(sample(image("a")), rootfs={"type": "tars", "diff_ids": []})
    bad = fill(registry, "bad", made, "1")
    ended = await program("validate", "--remote", bad)
    assert ended.text.count("\n") == 1
    assert "len(layers)=1; validating config: invalid ConfigFile.RootFS.Type" in ended.text


async def test_without_anything_to_validate_it_is_no_success(program: Program) -> None:
    """Trap: crane exits with 0."""
    ended = await program("validate")
    assert (ended.code, ended.out) == (2, b"")
    assert "validate what?" in ended.error


async def test_what_cannot_be_read_is_an_error_after_the_others(program: Program, registry: FaultyRegistry) -> None:
    good = fill(registry, "good", GOOD, "1")
    ended = await program("validate", "--remote", f"{registry.address}/none:1", "--remote", good)
    assert (ended.code, ended.text) == (3, f"PASS: {good}\n")
    ended = await program("validate", "--tarball", "/nowhere/x.tar")
    assert (ended.code, ended.out) == (3, b"")
    assert ended.error == "asyncrane: error: /nowhere/x.tar: no such file"


async def test_fast_reads_no_layer(program: Program, registry: FaultyRegistry) -> None:
    good = fill(registry, "good", GOOD, "1")
    for layer in GOOD.manifests[0].layers():
        registry.faults.add(status(500, kind="blob-get", path=str(layer.digest)))
    assert (await program("validate", "--fast", "--remote", good)).text == f"PASS: {good}\n"


async def test_an_archive_and_a_layout_are_validated(
    program: Program, registry: FaultyRegistry, tmp_path: Path
) -> None:
    good = fill(registry, "good", sample(image("a")), "1")
    layout, archive = tmp_path / "layout", tmp_path / "one.tar"
    await program("cp", good, f"oci:{layout}:1")
    await program("cp", good, f"docker-archive:{archive}:app:1")
    ended = await program("validate", "--layout", str(layout), "--tarball", str(archive))
    assert (ended.code, ended.text) == (0, f"PASS: {archive}\nPASS: {layout}\n")
    blob = next((layout / "blobs" / "sha256").iterdir())
    blob.write_bytes(b"x" * blob.stat().st_size)
    ended = await program("validate", "--layout", str(layout))
    assert ended.code == 5
    assert ended.text.startswith(f"FAIL: {layout}: validating ")
    archive.write_bytes(archive.read_bytes()[:-8000])
    ended = await program("validate", "--tarball", str(archive))
    assert (ended.code, ended.out) == (5, b"")
    assert ended.error


@pytest.mark.parametrize("fast", [(), ("--fast",)])
async def test_crane_says_the_same(program: Program, registry: FaultyRegistry, fast: tuple[str, ...]) -> None:
    crane = str(require("crane"))
    for name in (
        fill(registry, "oci", GOOD, "1"),
        fill(registry, "docker", sample(index("a", docker=True)), "1"),
        fill(registry, "image", sample(image("a")), "1"),
        fill(registry, "config", with_config(sample(image("a")), rootfs={"type": "x", "diff_ids": []}), "1"),
    ):
        theirs = await run([crane, "validate", "--remote", name, *fast], program.environ)
        ours = await program("validate", "--remote", name, *fast)
        assert (ours.out.partition(b": validating")[0], ours.code > 0) == (
            theirs.out.partition(b": validating")[0],
            theirs.code > 0,
        )
        assert theirs.out
