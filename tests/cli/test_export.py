"""``asyncrane export`` and ``flatten``: what they print, write and publish, and what others say of it."""

from __future__ import annotations

import gzip
import json
import signal
import stat
import subprocess
import tarfile
from itertools import cycle
from pathlib import Path

import anyio
import pytest

from asyncrane.oci import media
from asyncrane.stores.random import LINUX_ARM64
from asyncrane.testing import FaultyRegistry, Gate, corrupt, delay
from tests.archive.overlay import contents, entry, layer, overlay, tar
from tests.archive.test_merge import CASES
from tests.cli.conftest import Ended, Program, fill, run, stopped_by
from tests.images.samples import attested
from tests.images.tars import artifact, image, index
from tests.peers import require

LAYERS = (layer("a", "b", "d/"), layer(".wh.a", "c"))
MERGED = {"b": "b", "c": "c"}
CRANE_IS_WRONG = {
    "a whiteout before a file of its own layer leaves that",
    "the last entry of a path wins in a layer",
    "a file behind a directory in a layer",
    "a hard link outlives its target (ggcr 977)",
    "a hard link keeps what its target was (ggcr 2002)",
    "a hard link to a lower layer",
    "a hard link in front of its target",
    "a hard link to what its own layer hides",
    "a hard link to a symbolic link",
    "files of many names, as AUFS kept them",
    "absolute targets of symbolic links are kept (ggcr 2238, 2279)",
    "what is put below a symbolic link goes where that leads",
    "a symbolic link leads nowhere above the root",
}


def left(directory: Path) -> list[str]:
    """The files in ``directory``, hidden ones too."""
    return sorted(path.name for path in directory.iterdir() if not path.is_dir())


def is_device(path: Path) -> bool:
    return stat.S_ISCHR(path.stat().st_mode)


async def piped(program: Program, *arguments: str, stdin: bytes) -> Ended:
    """Run it as a process that is fed bytes."""
    with anyio.fail_after(60):
        ended = await anyio.run_process(
            program.command(*arguments), input=stdin, env=program.environ, check=False, stderr=subprocess.PIPE
        )
    return Ended(ended.returncode, ended.stdout, ended.stderr.decode())


async def test_stdout_and_a_file_get_the_same_tar(program: Program, registry: FaultyRegistry, tmp_path: Path) -> None:
    """stdout is the default; ``tar`` has nothing to say against it."""
    name = fill(registry, "app", image(*LAYERS), "v1")
    plain, minus = await program("export", name), await program("export", name, "-")
    assert (plain.code, plain.err) == (0, "")
    assert contents(plain.out) == MERGED
    assert minus.out == plain.out
    ended = await program("export", name, str(tmp_path / "out.tar"))
    assert (ended.code, ended.out, ended.err) == (0, b"", "")
    assert (tmp_path / "out.tar").read_bytes() == plain.out
    assert left(tmp_path) == ["out.tar"]
    listed = await anyio.run_process(["tar", "-t"], input=plain.out)
    assert (listed.stdout.decode().split(), listed.stderr) == (["b", "c", "d/"], b"")


@pytest.mark.parametrize("case", [case for case in CASES if case not in CRANE_IS_WRONG])
async def test_where_crane_is_right_it_exports_the_same_files(
    program: Program, registry: FaultyRegistry, case: str
) -> None:
    crane = require("crane")
    name = fill(registry, "app", image(*CASES[case][0]), "v1")
    ours, theirs = await program("export", name), await run([str(crane), "export", name, "-"], program.environ)
    assert (ours.code, theirs.code) == (0, 0), ours.err + theirs.err
    assert overlay([ours.out]) == overlay([theirs.out])


async def test_of_an_index_the_image_of_one_platform_is_exported(program: Program, registry: FaultyRegistry) -> None:
    """linux/amd64 unless another is named."""
    made = index(image(layer("amd")), image(layer("arm"), platform=LINUX_ARM64))
    name = fill(registry, "app", made, "v1")
    assert contents((await program("export", name)).out) == {"amd": "amd"}
    assert contents((await program("export", "--platform", "linux/arm64", name)).out) == {"arm": "arm"}
    ended = await program("export", name, "--platform", "linux/s390x")
    assert ended.code == 2
    assert "there are: linux/amd64, linux/arm64" in ended.error


async def test_a_blob_that_is_no_layer_is_exported_as_crane_does(program: Program, registry: FaultyRegistry) -> None:
    name = fill(registry, "app", artifact(("application/wasm", b"\0asm" * 9)), "v1")
    crane = require("crane")
    theirs = await run([str(crane), "export", name, "-"], program.environ)
    assert (await program("export", name)).out == theirs.out == b"\0asm" * 9


async def test_a_minus_is_a_docker_archive_on_stdin(program: Program, registry: FaultyRegistry, tmp_path: Path) -> None:
    """As ``docker save app | asyncrane export -``."""
    name = fill(registry, "app", image(*LAYERS, docker=True), "v1")
    assert (await program("pull", name, str(tmp_path / "saved.tar"))).code == 0
    archive = (tmp_path / "saved.tar").read_bytes()
    ended = await piped(program, "export", "-", "-", stdin=archive)
    assert (ended.code, ended.err, contents(ended.out)) == (0, "", MERGED)
    ended = await piped(program, "export", "-", stdin=b"")
    assert ended.code in (2, 5)
    assert ended.out == b""
    assert ended.error


async def test_images_that_are_no_registrys_are_exported(
    program: Program, registry: FaultyRegistry, tmp_path: Path
) -> None:
    name = fill(registry, "app", image(*LAYERS), "v1")
    assert (await program("pull", "--format", "oci", name, str(tmp_path / "layout"))).code == 0
    assert contents((await program("export", f"oci:{tmp_path}/layout")).out) == MERGED


@pytest.mark.parametrize("target", ["/dev/null", "a pipe"])
async def test_what_is_no_ordinary_file_is_written_to(
    program: Program, registry: FaultyRegistry, tmp_path: Path, target: str
) -> None:
    name = fill(registry, "app", image(*LAYERS), "v1")
    if target == "/dev/null":
        assert (await program("export", name, target)).code == 0
        assert is_device(Path(target))
        return
    script = f'set -o pipefail; "$@" >(cat > {tmp_path}/out.tar; echo) | cat'
    ended = await run(["bash", "-c", script, "export", *program.command("export", name)], program.environ)
    assert ended.code == 0, ended.err
    assert contents((tmp_path / "out.tar").read_bytes()) == MERGED


async def test_a_file_keeps_the_rights_new_files_have_and_a_link_stays_one(
    program: Program, registry: FaultyRegistry, tmp_path: Path
) -> None:
    name = fill(registry, "app", image(*LAYERS), "v1")
    (tmp_path / "plain").touch()
    (tmp_path / "link").symlink_to("real")
    (tmp_path / "real").write_text("before")
    assert (await program("export", name, str(tmp_path / "link"))).code == 0
    assert (tmp_path / "link").is_symlink()
    assert contents((tmp_path / "real").read_bytes()) == MERGED
    assert (tmp_path / "real").stat().st_mode == (tmp_path / "plain").stat().st_mode


GOOD = layer("a", "b", "c")
BROKEN = {
    "is not a tar archive": image(GOOD, b"no tar" * 200),
    "ends in the middle of its gzip data": image(GOOD, packed={0: gzip.compress(GOOD)[:-20]}),
    "which the config says is": image(GOOD, packed={0: gzip.compress(layer("other"))}),
    "leads out": image(GOOD, tar(entry("../../etc/passwd", b""))),
    "which is not there": image(GOOD, layer("x = nothing")),
}


@pytest.mark.parametrize(("words", "before"), list(zip(BROKEN, cycle([None, b"before"]), strict=False)))
async def test_5_and_no_file_for_an_image_that_is_not_what_it_says(
    program: Program, registry: FaultyRegistry, tmp_path: Path, words: str, before: bytes | None
) -> None:
    """One line; a file that is there stays as it is, and stdout stays empty."""
    name, out = fill(registry, "app", BROKEN[words], "v1"), tmp_path / "out.tar"
    if before is not None:
        out.write_bytes(before)
    ended = await program("export", name, str(out))
    assert (ended.code, ended.out) == (5, b"")
    assert words in ended.error
    assert left(tmp_path) == ([] if before is None else ["out.tar"])
    assert before is None or out.read_bytes() == before
    assert (await program("export", name)).out == b""
    ended = await program("flatten", name, "-t", f"{registry.address}/flat:v1")
    assert ended.code == 5
    assert words in ended.error
    assert {request.method for request in registry.requests()} <= {"GET", "HEAD"}
    assert registry.get_manifest("flat", "v1") is None


async def test_nothing_is_written_when_the_image_is_not_there_or_arrives_garbled(
    program: Program, registry: FaultyRegistry, tmp_path: Path
) -> None:
    out = tmp_path / "out.tar"
    assert (await program("export", f"{registry.address}/none:v1", str(out))).code == 3
    name = fill(registry, "app", image(*LAYERS), "v1")
    registry.faults.add(corrupt(kind="blob-get"))
    assert (await program("export", name, str(out))).code == 5
    assert left(tmp_path) == []


@pytest.mark.parametrize("where", ["a directory", "nowhere/out.tar", "/proc/out.tar"])
async def test_2_where_the_output_cannot_be_written_and_nobody_is_asked(
    program: Program, registry: FaultyRegistry, tmp_path: Path, where: str
) -> None:
    (tmp_path / "a directory").mkdir()
    name = fill(registry, "app", image(*LAYERS), "v1")
    ended = await program("export", name, str(tmp_path / where))
    assert ended.code == 2
    assert f"cannot write {tmp_path / where}" in ended.error
    assert registry.requests() == []
    assert left(tmp_path / "a directory") == left(tmp_path) == []


async def test_no_file_is_left_when_it_is_interrupted(
    program: Program, registry: FaultyRegistry, tmp_path: Path
) -> None:
    name, gate, out = fill(registry, "app", image(*LAYERS), "v1"), Gate(), tmp_path / "out.tar"
    registry.faults.add(delay(gate, kind="blob-get"))
    ended = await stopped_by(
        program.command("export", name, str(out)), program.environ, signal.SIGINT, lambda: gate.reached(1)
    )
    gate.release()
    assert ended.code == 130
    assert left(tmp_path) == []


async def test_what_a_killed_export_left_is_gone_after_the_next(
    program: Program, registry: FaultyRegistry, tmp_path: Path
) -> None:
    """Nobody can clean up after SIGKILL but the next; the file itself is untouched, and keeps its mode."""
    name, gate, out = fill(registry, "app", image(*LAYERS), "v1"), Gate(), tmp_path / "out.tar"
    out.write_text("before")
    out.chmod(0o600)
    registry.faults.add(delay(gate, kind="blob-get"))
    command = program.command("export", name, str(out))
    ended = await stopped_by(command, program.environ, signal.SIGKILL, lambda: gate.reached(1))
    gate.release()
    assert ended.code == -signal.SIGKILL
    assert (out.read_text(), len(left(tmp_path))) == ("before", 2)
    assert (await program("export", name, str(out))).code == 0
    assert contents(out.read_bytes()) == MERGED
    assert left(tmp_path) == ["out.tar"]
    assert stat.S_IMODE(out.stat().st_mode) == 0o600


async def test_flatten_prints_the_digest_and_keeps_the_config(program: Program, registry: FaultyRegistry) -> None:
    """Over the tag that was named; crane and skopeo have nothing to say against it."""
    made = image(*LAYERS, config={"config": {"Cmd": ["/b"], "x": {"y": 1}}, "x.vendor": "z"})
    name = fill(registry, "app", made, "v1")
    ended = await program("flatten", name)
    flat = registry.get_manifest("app", "v1")
    assert flat is not None
    assert (ended.code, ended.text, ended.err) == (0, f"{registry.address}/app@{flat.digest!s}\n", "")
    assert contents((await program("export", name)).out) == MERGED
    config = json.loads((await program("config", name)).out)
    assert (config["config"], config["x.vendor"]) == ({"Cmd": ["/b"], "x": {"y": 1}}, "z")
    assert config["history"][0]["created_by"] == f"asyncrane flatten {made.digest!s}"
    skopeo = require("skopeo", package="skopeo")
    seen = await run([str(skopeo), "inspect", "--tls-verify=false", f"docker://{name}"], program.environ)
    assert len(json.loads(seen.out)["Layers"]) == 1
    crane = require("crane")
    said = await run([str(crane), "validate", "--remote", name], program.environ)
    assert said.text == f"PASS: {name}\n"


async def test_flatten_goes_to_another_tag_or_repository(program: Program, registry: FaultyRegistry) -> None:
    made = image(*LAYERS)
    name = fill(registry, "app", made, "v1")
    ended = await program("flatten", name, "-t", f"{registry.address}/flat/app:new")
    flat = registry.get_manifest("flat/app", "new")
    assert flat is not None
    assert ended.text == f"{registry.address}/flat/app@{flat.digest!s}\n"
    assert registry.get_manifest("app", "v1") == made.manifest


async def test_what_is_named_by_digest_is_flattened_beside_it(program: Program, registry: FaultyRegistry) -> None:
    made = image(*LAYERS)
    fill(registry, "app", made, "v1")
    ended = await program("flatten", f"{registry.address}/app@{made.digest!s}")
    digest = ended.text.strip().partition("@")[2]
    assert registry.get_manifest("app", digest) is not None
    assert registry.get_manifest("app", "v1") == made.manifest


async def test_flatten_takes_every_image_of_an_index_or_those_of_a_platform(
    program: Program, registry: FaultyRegistry
) -> None:
    """K1; the layer that they share is uploaded once (crane sends it for each)."""
    made = attested(index(image(*LAYERS), image(*LAYERS, platform=LINUX_ARM64)))
    name = fill(registry, "app", made, "v1")
    ended = await program("flatten", name, "-t", f"{registry.address}/flat:v1")
    assert ended.code == 0
    assert ended.err == "2 attestations left out: about layers that were merged\n"
    flat = registry.get_manifest("flat", "v1")
    assert flat is not None
    assert [str(child.platform) for child in flat.children()] == ["linux/amd64", "linux/arm64"]
    images = [registry.get_manifest("flat", str(child.digest)) for child in flat.children()]
    first, second = [one.layers() for one in images if one is not None]
    assert first == second
    assert len(registry.requests(kind="upload-put", digest=str(first[0].digest))) == 1
    crane = require("crane")
    assert (await run([str(crane), "validate", "--remote", f"{registry.address}/flat:v1"], program.environ)).code == 0
    await program("flatten", name, "--platform", "linux/arm64", "-t", f"{registry.address}/flat:arm")
    one = registry.get_manifest("flat", "arm")
    assert one is not None
    assert one.media_type == media.OCI_MANIFEST
    kept = await program("flatten", name, "--keep-attestations", "-t", f"{registry.address}/flat:kept")
    assert kept.err == ""
    whole = registry.get_manifest("flat", "kept")
    assert whole is not None
    assert len(whole.children()) == 4


async def test_k5_flattening_is_reproducible_and_honours_source_date_epoch(
    program: Program, registry: FaultyRegistry
) -> None:
    """K5."""
    name = fill(registry, "app", image(*LAYERS), "v1")
    target = f"{registry.address}/flat:v1"
    first, again = await program("flatten", name, "-t", target), await program("flatten", name, "-t", target)
    assert first.out == again.out
    await program("flatten", name, "-t", target, SOURCE_DATE_EPOCH="86400")
    config = json.loads((await program("config", target)).out)
    assert (config["created"], config["history"][0]["created"]) == ("1970-01-02T00:00:00Z",) * 2
    assert (await program("flatten", name, "-t", target, SOURCE_DATE_EPOCH="today")).code == 2


async def test_a_layer_that_claims_ten_gigabytes_in_a_kilobyte_is_refused(
    program: Program, registry: FaultyRegistry, tmp_path: Path
) -> None:
    bomb = tarfile.TarInfo("bomb")
    bomb.size = 10_000_000_000
    name = fill(registry, "app", image(GOOD, bomb.tobuf() + bytes(100_000)), "v1")
    ended = await program("export", name, str(tmp_path / "out"))
    assert ended.code == 5
    assert "cut off" in ended.error
    assert not (tmp_path / "out").exists()
