"""``asyncrane pull`` and ``push``: what they print and write, and what crane, skopeo and tar say of it."""

from __future__ import annotations

import json
import signal
import subprocess
from collections.abc import Callable
from pathlib import Path

import anyio
import pytest

from asyncrane.oci.manifest import Manifest
from asyncrane.testing import FaultyRegistry, Gate, delay, status
from asyncrane.testing.images import Sample, random_image, random_index
from tests.cli.conftest import Ended, Program, fill, run, stopped_by
from tests.peers import require
from tests.stores.archives import containerd, docker20, docker25, left, podman, unpacked, write


async def piped(program: Program, *arguments: str, stdin: bytes) -> Ended:
    """Run it as a process that is fed bytes."""
    with anyio.fail_after(60):
        ended = await anyio.run_process(
            program.command(*arguments), input=stdin, env=program.environ, check=False, stderr=subprocess.PIPE
        )
    return Ended(ended.returncode, ended.stdout, ended.stderr.decode())


def found(registry: FaultyRegistry, repository: str, identifier: str = "v1") -> Manifest:
    manifest = registry.get_manifest(repository, identifier)
    assert manifest is not None
    return manifest


async def test_pull_is_silent_and_push_prints_the_digest(
    program: Program, registry: FaultyRegistry, tmp_path: Path
) -> None:
    sample = random_image("cli", docker=True)
    name = fill(registry, "app", sample, "v1")
    ended = await program("pull", name, str(tmp_path / "a.tar"))
    assert (ended.code, ended.out, ended.err) == (0, b"", "")
    refs = tmp_path / "refs"
    ended = await program("push", str(tmp_path / "a.tar"), f"{registry.address}/back:v1", "--image-refs", str(refs))
    back = f"{registry.address}/back@{found(registry, 'back').digest!s}"
    assert (ended.code, ended.text, ended.err) == (0, f"{back}\n", "")
    assert refs.read_text() == back
    assert refs.stat().st_mode & 0o777 == 0o600
    assert found(registry, "back").layers() == sample.manifest.layers()


async def test_a_minus_is_stdout_and_stdin(program: Program, registry: FaultyRegistry, tmp_path: Path) -> None:
    """crane makes a file of that name, and does not read stdin."""
    sample = random_image("streamed", layers=(2000, 3_000_000))
    name = fill(registry, "app", sample, "v1")
    archive = (await piped(program, "pull", name, "-", stdin=b"")).out
    assert (await program("pull", name, str(tmp_path / "a.tar"))).code == 0
    assert archive == (tmp_path / "a.tar").read_bytes()
    ended = await piped(program, "push", "-", f"{registry.address}/back:v1", stdin=archive)
    assert ended.code == 0, ended.err
    assert [layer.digest for layer in found(registry, "back").layers()] == [
        layer.digest for layer in sample.manifest.layers()
    ]
    assert (await piped(program, "push", "-", f"{registry.address}/b:v1", stdin=archive[:5000])).code == 5
    gone = await piped(program, "pull", f"{registry.address}/none:v1", "-", stdin=b"")
    assert (gone.code, gone.out) == (3, b"")


async def test_a_layout_of_several_is_pushed_with_index_or_by_name(
    program: Program, registry: FaultyRegistry, tmp_path: Path
) -> None:
    names = [fill(registry, "a", random_image("a"), "v1"), fill(registry, "b", random_index("b"), "v1")]
    layout, target = str(tmp_path / "layout"), f"{registry.address}/back:v1"
    ended = await program("pull", *names, layout, "--format", "oci", "--annotate-ref")
    assert (ended.code, ended.err) == (0, "")
    ended = await program("push", layout, target)
    assert ended.code == 2
    assert "holds 2 images, say which one: " in ended.error
    assert ended.error.endswith("(name one, or push all as one index)")
    assert (await program("push", layout, target, "--name", names[1])).text.endswith(
        f"@{found(registry, 'b').digest!s}\n"
    )
    assert (await program("push", layout, target, "--index")).code == 0
    assert len(found(registry, "back").children()) == 2


async def test_bad_words_and_bad_files_are_one_line_and_leave_nothing(
    program: Program, registry: FaultyRegistry, tmp_path: Path
) -> None:
    name = fill(registry, "app", random_image(), "v1")
    files = tmp_path / "files"
    files.mkdir()
    target = f"{registry.address}/back:v1"
    write(tmp_path / "text", b"hello " * 200)
    write(tmp_path / "cut", docker20(unpacked("cut"), "a:1")[:6000])
    for code, said, arguments in (
        (2, "at least one IMAGE and a PATH", ("pull", name)),
        (2, "means nothing without --format oci", ("pull", name, str(files / "a"), "--annotate-ref")),
        (2, "", ("pull", name, str(files / "a"), "--format", "zip")),
        (2, "is a directory", ("pull", name, str(files))),
        (2, "is no directory", ("pull", name, str(files / "none" / "a.tar"))),
        (2, "no image for linux/s390x", ("pull", name, str(files / "a"), "--platform", "linux/s390x")),
        (3, "", ("pull", f"{registry.address}/none:v1", str(files / "a"))),
        (3, "no such file", ("push", str(files / "none"), target)),
        (5, "not an OCI layout", ("push", str(files), target)),
        (5, "is not a tar archive", ("push", str(tmp_path / "text"), target)),
        (5, "is cut off", ("push", str(tmp_path / "cut"), target)),
        (2, "exclude each other", ("push", str(tmp_path / "cut"), target, "--index", "--name", "x")),
    ):
        ended = await program(*arguments)
        assert ended.code == code, (arguments, ended.err)
        assert said in ended.error
        assert ended.out == b""
    assert left(files) == []
    assert found(registry, "app").is_image
    assert registry.get_manifest("back", "v1") is None


async def test_what_is_interrupted_leaves_nothing(program: Program, registry: FaultyRegistry, tmp_path: Path) -> None:
    name = fill(registry, "app", random_image("interrupted"), "v1")
    gate = Gate()
    registry.faults.add(delay(gate, kind="blob-get"))
    command = program.command("pull", name, str(tmp_path / "files" / "a.tar"))
    (tmp_path / "files").mkdir()
    ended = await stopped_by(command, program.environ, signal.SIGTERM, lambda: gate.reached(1))
    assert (ended.code, ended.out) == (143, b"")
    assert left(tmp_path / "files") == []
    gate.release()


async def test_a_file_that_cannot_be_fetched_whole_is_not_there(
    program: Program, registry: FaultyRegistry, tmp_path: Path
) -> None:
    name = fill(registry, "app", random_image(), "v1")
    registry.faults.add(status(404, kind="blob-get", nth=2))
    (tmp_path / "files").mkdir()
    assert (await program("pull", name, str(tmp_path / "files" / "a.tar"))).code == 3
    assert left(tmp_path / "files") == []


# judged by others


@pytest.mark.parametrize("form", ["tarball", "legacy"])
@pytest.mark.parametrize("kind", ["oci", "docker", "plain", "index"])
async def test_the_file_is_the_one_that_crane_makes(
    program: Program, registry: FaultyRegistry, tmp_path: Path, form: str, kind: str
) -> None:
    crane = str(require("crane"))
    sample: Sample = {
        "oci": random_image("x"),
        "docker": random_image("x", docker=True),
        "plain": random_image("x", gzip=False),
        "index": random_index("x"),
    }[kind]
    name = fill(registry, "app", sample, "v1")
    ours, theirs = tmp_path / "ours.tar", tmp_path / "theirs.tar"
    assert (await program("pull", name, str(ours), "--format", form)).code == 0
    await run([crane, "pull", name, str(theirs), "--format", form], program.environ)
    assert ours.read_bytes() == theirs.read_bytes()


async def test_crane_reads_ours_and_makes_the_same_image_of_it(
    program: Program, registry: FaultyRegistry, tmp_path: Path
) -> None:
    crane = str(require("crane"))
    names = [fill(registry, f"app{number}", random_image(number), "v1") for number in range(2)]
    one, both = str(tmp_path / "one.tar"), str(tmp_path / "both.tar")
    assert (await program("pull", names[0], one)).code == 0
    assert (await program("pull", *names, both)).code == 0
    assert (await run([crane, "validate", "--tarball", one], program.environ)).text.startswith("PASS")
    theirs = (await run([crane, "push", one, f"{registry.address}/theirs:v1"], program.environ)).text
    ours = (await program("push", one, f"{registry.address}/ours:v1")).text
    assert ours.partition("@")[2] == theirs.partition("@")[2]
    digest = await run([crane, "digest", "--tarball", both, names[1]], program.environ)
    pushed = await program("push", both, f"{registry.address}/ours:v2", "--name", names[1])
    assert digest.text.strip() == pushed.text.strip().partition("@")[2]


async def test_skopeo_reads_ours_and_we_read_its(program: Program, registry: FaultyRegistry, tmp_path: Path) -> None:
    skopeo = str(require("skopeo", package="skopeo"))
    sample = random_image("skopeo")
    name = fill(registry, "app", sample, "v1")
    config = sample.manifest.config()
    assert config is not None
    for form in ("tarball", "legacy"):
        archive = tmp_path / f"{form}.tar"
        assert (await program("pull", name, str(archive), "--format", form)).code == 0
        copied = f"docker://{registry.address}/{form}:v1"
        ended = await run(
            [skopeo, "copy", "--dest-tls-verify=false", f"docker-archive:{archive}:{name}", copied], program.environ
        )
        assert ended.code == 0, ended.err
        assert found(registry, form).config().digest == config.digest  # type: ignore[union-attr]
    theirs = tmp_path / "theirs.tar"
    await run(
        [skopeo, "copy", "--src-tls-verify=false", f"docker://{name}", f"docker-archive:{theirs}:x/app:v1"],
        program.environ,
    )
    assert (await program("push", str(theirs), f"{registry.address}/back:v1")).code == 0
    assert found(registry, "back").config().digest == config.digest  # type: ignore[union-attr]
    inspected = await run(
        [skopeo, "inspect", "--tls-verify=false", f"docker://{registry.address}/back:v1"], program.environ
    )
    assert json.loads(inspected.text)["Digest"] == found(registry, "back").digest


async def test_an_oci_archive_of_skopeo_keeps_its_digest(
    program: Program, registry: FaultyRegistry, tmp_path: Path
) -> None:
    """J1, J3."""
    skopeo = str(require("skopeo", package="skopeo"))
    sample = random_index("oci archive")
    name = fill(registry, "app", sample, "v1")
    theirs = tmp_path / "theirs.tar"
    command = [skopeo, "copy", "--all", "--src-tls-verify=false", f"docker://{name}", f"oci-archive:{theirs}:v1"]
    ended = await run(command, program.environ)
    assert ended.code == 0, ended.err
    assert (await program("push", str(theirs), f"{registry.address}/back:v1")).code == 0
    assert found(registry, "back").body == sample.manifest.body


async def test_tar_lists_what_is_there(program: Program, registry: FaultyRegistry, tmp_path: Path) -> None:
    tar = str(require("tar", package="tar"))
    sample = random_image("listed")
    name = fill(registry, "app", sample, "v1")
    assert (await program("pull", name, str(tmp_path / "a.tar"))).code == 0
    ended = await run([tar, "-tf", str(tmp_path / "a.tar")], program.environ)
    layers = [f"{layer.digest.hex}.tar.gz" for layer in sample.manifest.layers()]
    assert ended.code == 0, ended.err
    assert ended.text.split() == [str(sample.manifest.config().digest), *layers, "manifest.json"]  # type: ignore[union-attr]


@pytest.mark.parametrize("packer", ["gzip", "zstd", "xz", "bzip2"])
async def test_archives_compressed_by_others_are_read(
    program: Program, registry: FaultyRegistry, tmp_path: Path, packer: str
) -> None:
    command = str(require(packer, package={"xz": "xz-utils"}.get(packer, packer)))
    sample = random_image("packed")
    packed = await anyio.run_process([command, "-c"], input=containerd(sample, "app:v1"))
    ended = await program("push", str(write(tmp_path / "a", packed.stdout)), f"{registry.address}/back:v1")
    assert ended.code == 0, ended.err
    assert found(registry, "back").digest == sample.digest


@pytest.mark.parametrize("made", [docker20, docker25, podman])
async def test_archives_of_daemons_are_images_to_crane_when_they_are_pushed(
    program: Program, registry: FaultyRegistry, tmp_path: Path, made: Callable[[Sample, str], bytes]
) -> None:
    crane = str(require("crane"))
    archive = write(tmp_path / "a.tar", made(unpacked("daemon"), "app:v1"))
    ended = await program("push", str(archive), f"{registry.address}/back:v1")
    assert ended.code == 0, ended.err
    judged = await run([crane, "validate", "--remote", f"{registry.address}/back:v1"], program.environ)
    assert judged.text.startswith("PASS"), judged.err


async def test_digest_looks_into_an_archive(program: Program, registry: FaultyRegistry, tmp_path: Path) -> None:
    """As crane's --tarball: by name where there are several, else without one."""
    one, two = (fill(registry, "app", random_image(name), name) for name in ("one", "two"))
    file = str(tmp_path / "images.tar")
    assert (await program("pull", one, two, file)).code == 0
    found = [(await program("digest", "--tarball", file, name)).text for name in (one, two)]
    assert len(set(found)) == 2
    assert all(text.startswith("sha256:") for text in found)
    assert (await program("digest", "--tarball", file)).code != 0
    assert (await program("digest", "--tarball", file, one, "--full-ref")).code == 2
    assert "digest needs an IMAGE" in (await program("digest")).error
