"""What every command does with bad input: one clear line, the right exit code, nothing published, no file left."""

from __future__ import annotations

import os
import tempfile
from collections.abc import Iterator
from contextlib import ExitStack
from pathlib import Path

import pytest

from asyncrane.testing import FaultyRegistry, corrupt
from asyncrane.testing.images import random_image, random_index
from tests.cli import badfiles
from tests.cli.conftest import Program, fill

NOWHERE = "linux/s390x"
FAILED, USAGE, MISSING, CONTENT = 1, 2, 3, 5

READERS = {
    "digest": "digest {}",
    "manifest": "manifest {}",
    "config": "config {}",
    "export": "export {} made",
    "pull": "pull {} made",
    "pull oci": "pull --format oci {} made",
    "validate": "validate --remote {}",
    "cp": "cp --progress none {} {new}",
    "cp to a layout": "cp --progress none {} oci:made:1",
    "cp to an archive": "cp --progress none {} docker-archive:made:1",
    "append": "append -b {} -f layer.tar -t {new}",
    "mutate": "mutate {} -l a=b -t {new}",
    "rebase": "rebase {} --old_base {index} --new_base {index} -t {new}",
    "flatten": "flatten {} -t {new}",
    "convert": "convert {} {new} --layers zstd --progress none",
    "convert to eStargz": "convert {} {new} --layers estargz --progress none",
    "index append": "index append -m {} -t {new}",
    "index filter": "index filter {} --platform linux/amd64 -t {new}",
    "index list": "index list {}",
    "edit config": "edit config {} -t {new}",
    "edit manifest": "edit manifest {} -t {new}",
    "edit fs": "edit fs {} -f etc/motd -t {new}",
    "tag": "tag {} other",
    "delete": "delete {}",
    "untag": "untag {}",
}
"""Every command that reads an image: where ``{}`` is."""
PLATFORMS = {name: line for name, line in READERS.items() if name not in ("tag", "delete", "untag", "index list")}
TRANSFORMING = ("export", "flatten", "convert", "convert to eStargz", "validate")
"""Those that look into layers."""


def _about(line: str, image: str) -> str:
    return line.replace("{}", image)


LINES: dict[str, tuple[int, str]] = {
    **{f"{name}: an image that is not there": (MISSING, _about(line, "{gone}"))
       for name, line in READERS.items()},
    **{f"{name}: a reference that is none": (USAGE, _about(line, "UPPER/a:b"))
       for name, line in READERS.items()},
    **{f"{name}: a layout that is not there": (MISSING, _about(READERS[name], "oci:nowhere:1"))
       for name in ("digest", "config", "cp", "export", "flatten", "append", "mutate")},
    **{f"append: {name}": (CONTENT, f"append -b {{image}} -f {name} -t {{new}}") for name in badfiles.LAYERS},
    **{f"mutate: {name}": (CONTENT, f"mutate {{image}} --append {name} -t {{new}}") for name in badfiles.LAYERS},
    **{f"append to a file: {name}": (CONTENT, f"append -b {{image}} -f {name} -t {{new}} -o made")
       for name in badfiles.LAYERS},
    **{f"append a stream: {name}": (CONTENT, f"append -b {{image}} -f fifo:{name} -t {{new}}")
       for name in badfiles.LAYERS},
    **{f"push: {name}": (CONTENT, f"push {name} {{new}}") for name in badfiles.ARCHIVES},
    **{f"cp: {name}": (CONTENT, f"cp --progress none docker-archive:{name} {{new}}") for name in badfiles.ARCHIVES},
    **{f"export: {name}": (CONTENT, f"export docker-archive:{name} made") for name in badfiles.ARCHIVES},
    **{f"validate: {name}": (CONTENT, f"validate --tarball {name}") for name in badfiles.ARCHIVES},
    **{f"{name}: a file that is not there": (code, line) for name, code, line in (
        ("append", MISSING, "append -b {image} -f nowhere -t {new}"),
        ("mutate", MISSING, "mutate {image} --append nowhere -t {new}"),
        ("push", MISSING, "push nowhere {new}"),
        ("validate", MISSING, "validate --tarball nowhere"),
        ("validate a layout", MISSING, "validate --layout nowhere"),
        ("export", MISSING, "export docker-archive:nowhere"),
        ("config", MISSING, "config docker-archive:nowhere"),
        ("cp", MISSING, "cp docker-archive:nowhere {new}"),
        ("layout gc", MISSING, "layout gc nowhere"),
        ("rebase", USAGE, "rebase --from-file nowhere"),
        ("cp jobs", USAGE, "cp --from-file nowhere"),
    )},
    **{f"{name}: a directory in place of a file": (code, line) for name, code, line in (
        ("push", CONTENT, "push folder {new}"),
        ("validate", CONTENT, "validate --tarball folder"),
        ("validate a layout", CONTENT, "validate --layout folder"),
        ("export", CONTENT, "export docker-archive:folder"),
        ("cp", CONTENT, "cp --progress none docker-archive:folder {new}"),
        ("layout gc", CONTENT, "layout gc folder"),
        ("rebase", USAGE, "rebase --from-file folder"),
    )},
    **{f"{name}: a file in place of a directory": (code, line) for name, code, line in (
        ("config", CONTENT, "config oci:app.tar:1"),
        ("validate", CONTENT, "validate --layout app.tar"),
        ("layout gc", CONTENT, "layout gc app.tar"),
        ("cp", CONTENT, "cp --progress none {image} oci:app.tar:1"),
        ("pull", CONTENT, "pull --format oci {image} app.tar"),
    )},
    **{f"{name}: it cannot be written": (code, line) for name, code, line in (
        ("pull", USAGE, "pull {image} folder"),
        ("pull legacy", USAGE, "pull --format legacy {image} folder"),
        ("pull into nowhere", USAGE, "pull {image} nowhere/made"),
        ("pull to a full disk", FAILED, "pull {image} /dev/full"),
        ("export", USAGE, "export {image} folder"),
        ("export into nowhere", USAGE, "export {image} nowhere/made"),
        ("export to a full disk", FAILED, "export {image} /dev/full"),
        ("cp", USAGE, "cp --progress none {image} docker-archive:folder:1"),
        ("cp into nowhere", USAGE, "cp --progress none {image} docker-archive:nowhere/made:1"),
        ("cp into nowhere, OCI", USAGE, "cp --progress none {image} oci-archive:nowhere/made:1"),
        ("cp into no directory", USAGE, "cp --progress none {image} oci-archive:layer.tar/made:1"),
        ("convert into nowhere", USAGE, "convert --progress none {image} oci-archive:nowhere/made:1 --to-oci"),
        ("mutate into nowhere", USAGE, "mutate {image} -l a=b -t {new} -o nowhere/made"),
        ("push, and its names", USAGE, "push app.tar {new} --image-refs nowhere/made"),
        ("mutate", USAGE, "mutate {image} -l a=b -t {new} -o folder"),
        ("append", USAGE, "append -b {image} -f layer.tar -t {new} -o folder"),
    )},
    **{f"{name}: a platform it is not for": (USAGE, f"{_about(line, '{index}')} --platform {NOWHERE}")
       for name, line in PLATFORMS.items() if name not in ("index append", "index filter", "edit manifest")},
    **{f"{name}: a platform that is none": (USAGE, f"{_about(line, '{index}')} --platform linux/a/b/c/d")
       for name, line in PLATFORMS.items() if name not in ("index append", "edit manifest")},
    "index filter: nothing would be left": (USAGE, f"index filter {{index}} --platform {NOWHERE} -t {{new}}"),
    "index filter: no platform": (USAGE, "index filter {index} -t {new}"),
    "index filter: no index": (CONTENT, "index filter {image} --platform linux/amd64 -t {new}"),
    "index list: no index": (CONTENT, "index list {image}"),
    "index append: nothing": (USAGE, "index append -t {new}"),
    "rebase: not on that base": (CONTENT, "rebase {image} --old_base {other} --new_base {other} -t {new}"),
    "validate: nothing": (USAGE, "validate"),
    "pull: no path": (USAGE, "pull {image}"),
    "mutate: no pair": (USAGE, "mutate {image} -l name -t {new}"),
    "mutate: two places": (USAGE, "mutate {image} -l a=b -t {new} --repo {new}"),
    "convert: no kind": (USAGE, "convert {image} {new} --layers lzma"),
    "convert: no level": (USAGE, "convert {image} {new} --layers gzip --level 99"),
    "blob: a tag": (USAGE, "blob {image}"),
    "edit fs: no file": (USAGE, "edit fs {image}"),
    "edit config: no JSON": (CONTENT, "edit config {image} -t {new}"),
    "edit manifest: no JSON": (CONTENT, "edit manifest {image} -t {new}"),
    "push: no archive on stdin": (CONTENT, "push - {new}"),
    "append: no tar on stdin": (CONTENT, "append -b {image} -f - -t {new}"),
    "validate: no archive on stdin": (CONTENT, "validate --tarball -"),
    "export: no archive on stdin": (CONTENT, "export - made"),
    "push: a layout that lies": (CONTENT, "push layout-that-lies {new}"),
    "cp: a layout that lies": (CONTENT, "cp --progress none oci:layout-that-lies {new}"),
    "validate: a layout that lies": (CONTENT, "validate --layout layout-that-lies"),
    "export: a layout that lies": (CONTENT, "export oci:layout-that-lies made"),
    "completion: no shell": (USAGE, "completion tcsh"),
}  # fmt: skip
"""Exit codes and command lines. ``{new}`` is a tag that nothing has, ``fifo:`` a pipe that has a file's content."""


@pytest.fixture
def work(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    """The working directory, full of bad files; a directory for temporary files beside it must be empty afterwards."""
    directory, temporary = tmp_path / "work", tmp_path / "temporary"
    directory.mkdir()
    temporary.mkdir()
    badfiles.make(directory)
    monkeypatch.chdir(directory)
    monkeypatch.setattr(tempfile, "tempdir", str(temporary))
    yield directory
    assert list(temporary.rglob("*")) == []


def seen(directory: Path) -> dict[str, int]:
    """All files and their sizes."""
    return {str(path.relative_to(directory)): path.stat().st_size for path in directory.rglob("*")}


def published(*registries: FaultyRegistry) -> list[str]:
    """Requests that would name anything."""
    return [f"{one.method} {one.path}" for each in registries for one in each.requests(kind="manifest-put")]


@pytest.mark.parametrize("name", LINES)
async def test_bad_input_is_refused(
    name: str, program: Program, registry: FaultyRegistry, other: FaultyRegistry, work: Path
) -> None:
    code, line = LINES[name]
    names = {
        "image": fill(registry, "app", random_image("a"), "1"),
        "other": fill(registry, "other", random_image("o"), "1"),
        "index": fill(registry, "many", random_index("b"), "1"),
        "gone": f"{registry.address}/app:gone",
        "new": f"{other.address}/made:new",
    }
    before = seen(work)
    with ExitStack() as pipes:
        words = [_fifo(word, work, pipes) for word in line.format(**names).split()]
        ended = await program(*words, stdin="no JSON, no tar\n", TMPDIR=tempfile.gettempdir())
    assert ended.error
    assert ended.code == code, ended.err
    assert ended.text == "" or ended.text.startswith("FAIL: ")
    assert published(registry, other) == []
    assert registry.open_uploads == other.open_uploads == 0
    assert seen(work) == before


@pytest.mark.parametrize("layer", [name for name in badfiles.LAYERS if name not in ("cut-tar", "dots", "link-to-dots")])
@pytest.mark.parametrize("command", TRANSFORMING)
async def test_a_bad_layer_of_an_image_is_refused(
    command: str, layer: str, program: Program, registry: FaultyRegistry, other: FaultyRegistry, work: Path
) -> None:
    """Whose digest is right: who looks into it sees that it is no layer."""
    image = badfiles.put(registry, "bad", "1", badfiles.LAYERS[layer])
    before = seen(work)
    line = _about(READERS[command], image).replace("{new}", f"{other.address}/made:new")
    ended = await program(*line.split(), TMPDIR=tempfile.gettempdir())
    assert (ended.code, bool(ended.error)) == (CONTENT, True)
    assert published(registry, other) == []
    assert registry.open_uploads == other.open_uploads == 0
    assert seen(work) == before


@pytest.mark.parametrize("command", [*TRANSFORMING, "cp", "cp to a layout", "cp to an archive", "pull", "pull oci"])
async def test_a_layer_with_another_digest_is_refused(
    command: str, program: Program, registry: FaultyRegistry, other: FaultyRegistry, work: Path
) -> None:
    image = badfiles.put(registry, "app", "1", badfiles.SQUEEZED)
    manifest = registry.get_manifest("app", "1")
    assert manifest is not None
    registry.faults.add(corrupt(at=2000, kind="blob-get", path=str(manifest.layers()[0].digest)))
    before = seen(work)
    line = _about(READERS[command], image).replace("{new}", f"{other.address}/made:new")
    ended = await program(*line.split(), "--retries", "0", TMPDIR=tempfile.gettempdir())
    assert (ended.code, bool(ended.error)) == (CONTENT, True)
    assert published(registry, other) == []
    assert registry.open_uploads == other.open_uploads == 0
    assert seen(work) == before


@pytest.mark.parametrize("layer", ["dots", "link-to-dots"])
async def test_an_export_stays_inside(layer: str, program: Program, registry: FaultyRegistry, work: Path) -> None:
    """What would be outside of the root is an error, or is not in it."""
    image = badfiles.put(registry, "bad", "1", badfiles.LAYERS[layer])
    ended = await program("export", image, "made", TMPDIR=tempfile.gettempdir())
    if ended.code == 0:
        assert b".." not in (work / "made").read_bytes()
    else:
        assert (ended.code, bool(ended.error), (work / "made").exists()) == (CONTENT, True, False)


def _fifo(word: str, work: Path, pipes: ExitStack) -> str:
    """For ``fifo:FILE`` the path of a pipe that has its content in it, all of it: pipes hold 64 KiB."""
    if not word.startswith("fifo:"):
        return word
    content = (work / word.removeprefix("fifo:")).read_bytes()
    reading, writing = os.pipe()
    os.write(writing, content)
    os.close(writing)
    pipes.callback(os.close, reading)
    return f"/dev/fd/{reading}"
