"""``--layer-format``: what new layers become; as crane, skopeo and the stargz reader see them."""

from __future__ import annotations

import gzip
import json
import os
from pathlib import Path

import pytest
from backports import zstd

from asyncrane.archive.compression import Compression, sniff
from asyncrane.archive.estargz_reader import EstargzReader
from asyncrane.archive.estargz_toc import TOC_DIGEST
from asyncrane.oci import media
from asyncrane.oci.descriptor import Descriptor
from asyncrane.oci.digest import Digest
from asyncrane.testing import FaultyRegistry
from tests.archive.overlay import layer as files
from tests.archive.overlay import names
from tests.archive.pipes import pipe
from tests.archive.test_layers import tar
from tests.cli.conftest import Program, fill, run
from tests.images import tars
from tests.images.samples import expanded, image, index, sample
from tests.operations.test_jobs import config, wrong
from tests.peers import require
from tests.promises.images import incomplete, tags

FORMATS = ("gzip", "zstd", "estargz", "uncompressed")
LARGE = os.urandom(6_000_000)
PACKS = {"plain": bytes, "gzip": lambda data: gzip.compress(data, mtime=0), "zstd": zstd.compress}


def compression(kind: str) -> Compression:
    """What the bytes of a layer of that format are."""
    return {"estargz": "gzip", "uncompressed": "plain", "gzip": "gzip", "zstd": "zstd"}[kind]  # type: ignore[return-value]


def check(registry: FaultyRegistry, repository: str, identifier: str, kind: str) -> tuple[Descriptor, bytes]:
    """The last layer of an image and the tar in it, of which everything that is said is true."""
    manifest = registry.get_manifest(repository, identifier)
    assert manifest is not None
    layer = manifest.layers()[-1]
    blob = registry.get_blob(repository, layer.digest)
    assert blob is not None
    assert sniff(blob[:4]) == compression(kind)
    inside = expanded(blob)
    assert config(registry, repository, identifier)["rootfs"]["diff_ids"][-1] == str(Digest.of(inside))
    if kind == "estargz":
        toc = Digest(layer.annotations[TOC_DIGEST])
        reader = EstargzReader(lambda at, size: blob[at : at + size], len(blob), "layer", toc_digest=toc)
        assert reader.verify() > 0
    else:
        assert layer.annotations == {}
    return layer, inside


def own(inside: bytes) -> list[str]:
    """What is in a tar but for what makes it eStargz."""
    return [name for name in names(inside) if name not in ("stargz.index.json", ".no.prefetch.landmark")]


async def others_agree(program: Program, name: str, kind: str, directory: Path) -> None:
    """Skopeo reads every byte of it and finds nothing wrong; so does crane, which takes every layer for gzip."""
    skopeo, crane = require("skopeo", package="skopeo"), require("crane")
    seen = await run(
        [str(skopeo), "copy", "--src-tls-verify=false", f"docker://{name}", f"dir:{directory}"], program.environ
    )
    assert seen.code == 0, seen.err
    if compression(kind) != "gzip":
        return
    said = await run([str(crane), "validate", "--remote", name], program.environ)
    assert said.text == f"PASS: {name}\n", said.err


@pytest.mark.parametrize("docker", [False, True], ids=["oci", "docker"])
@pytest.mark.parametrize("kind", FORMATS)
async def test_k3_append_makes_what_was_asked_for_and_types_fit(
    program: Program, registry: FaultyRegistry, tmp_path: Path, kind: str, docker: bool
) -> None:
    """K3, K5: for every platform, in the image's family where that has a type for it; the same every time."""
    name = fill(registry, "base", sample(index("a", docker=docker)), "1")
    (tmp_path / "layer.tar").write_bytes(tar({"etc/motd": b"hello", "large": LARGE}))
    words = ("append", "-b", name, "-f", str(tmp_path / "layer.tar"), "--layer-format", kind, "-t")
    ended = await program(*words, f"{registry.address}/app:1")
    assert ended.code == 0, ended.err
    becomes_oci = docker and kind == "zstd"
    assert ("made an OCI image: Docker's media types have none for zstd" in ended.err) == becomes_oci
    whole = registry.get_manifest("app", "1")
    assert whole is not None
    stays_docker = docker and not becomes_oci
    assert whole.media_type == (media.DOCKER_LIST if stays_docker else media.OCI_INDEX)
    expected = {
        "zstd": media.OCI_LAYER_ZSTD,
        "uncompressed": "application/vnd.docker.image.rootfs.diff.tar" if stays_docker else media.OCI_LAYER,
    }.get(kind, media.DOCKER_LAYER_GZIP if stays_docker else media.OCI_LAYER_GZIP)
    for child in whole.children():
        layer, inside = check(registry, "app", str(child.digest), kind)
        assert layer.media_type == expected
        assert own(inside) == ["etc/motd", "large"]
    assert await wrong(registry, "app", "1") == []
    again = await program(*words, f"{registry.address}/again:1")
    assert again.text.partition("@")[2] == ended.text.partition("@")[2]
    await others_agree(program, f"{registry.address}/app:1", kind, tmp_path / "copy")


@pytest.mark.parametrize("was", PACKS)
@pytest.mark.parametrize("kind", FORMATS)
async def test_a_file_that_is_so_already_goes_up_as_it_is_and_any_other_is_packed_anew(
    program: Program, registry: FaultyRegistry, tmp_path: Path, kind: str, was: str
) -> None:
    content = PACKS[was](tar({"a": LARGE[:300_000]}))
    (tmp_path / "layer").write_bytes(content)
    name = fill(registry, "base", sample(image("a")), "1")
    to = f"{registry.address}/app:1"
    ended = await program("append", "-b", name, "-f", str(tmp_path / "layer"), "-t", to, "--layer-format", kind)
    assert ended.code == 0, ended.err
    layer, inside = check(registry, "app", "1", kind)
    assert (layer.digest == Digest.of(content)) == (kind != "estargz" and compression(kind) == was)
    if kind != "estargz":
        assert inside == tar({"a": LARGE[:300_000]})


@pytest.mark.parametrize("size", [1000, len(LARGE)], ids=["small", "large"])
@pytest.mark.parametrize("kind", FORMATS)
async def test_k5_a_pipe_and_a_directory_become_the_layers_that_a_file_becomes(
    program: Program, registry: FaultyRegistry, tmp_path: Path, kind: str, size: int
) -> None:
    """K5: whatever was streamed, and whether it was small enough to be kept."""
    (tmp_path / "root").mkdir()
    (tmp_path / "root" / "f").write_bytes(LARGE[:size])
    (tmp_path / "root" / "f").chmod(0o644)
    name, at = fill(registry, "base", sample(image("a")), "1"), registry.address
    words = ("append", "-b", name, "--layer-format", kind)
    content = tar({"f": LARGE[:size]})
    (tmp_path / "layer").write_bytes(gzip.compress(content) if kind == "zstd" else zstd.compress(content))
    ended = await program(*words, "-f", str(tmp_path / "layer"), "-t", f"{at}/app:file")
    assert ended.code == 0, ended.err
    with pipe(tmp_path / "pipe", content) as fifo:
        piped = await program(*words, "-f", fifo, "-t", f"{at}/app:pipe")
    assert (piped.code, piped.text) == (0, ended.text), piped.err
    directory = await program(*words, "-f", str(tmp_path / "root"), "-t", f"{at}/app:directory")
    assert directory.code == 0, directory.err
    _, inside = check(registry, "app", "directory", kind)
    assert own(inside) == ["f"]
    assert incomplete(registry) == []
    assert await wrong(registry, "app", "pipe") == []


@pytest.mark.parametrize("kind", FORMATS)
async def test_mutate_append_takes_the_format_too(
    program: Program, registry: FaultyRegistry, tmp_path: Path, kind: str
) -> None:
    name = fill(registry, "app", sample(image("a")), "1")
    (tmp_path / "layer.tar").write_bytes(tar())
    ended = await program("mutate", name, "--append", str(tmp_path / "layer.tar"), "--layer-format", kind, "-l", "a=b")
    assert ended.code == 0, ended.err
    check(registry, "app", "1", kind)
    assert config(registry, "app", "1")["config"]["Labels"]["a"] == "b"
    await others_agree(program, name, kind, tmp_path / "copy")


async def test_a_format_without_layers_means_nothing(program: Program, registry: FaultyRegistry) -> None:
    name = fill(registry, "app", sample(image("a")), "1")
    ended = await program("mutate", name, "-l", "a=b", "--layer-format", "zstd")
    assert (ended.code, ended.error) == (2, "asyncrane: error: --layer-format means nothing without --append")
    unknown = await program("flatten", name, "--layer-format", "lz4")
    assert unknown.code == 2
    assert "'lz4' is not one of 'gzip', 'zstd', 'estargz', 'uncompressed'" in " ".join(unknown.err.split())


@pytest.mark.parametrize("docker", [False, True], ids=["oci", "docker"])
@pytest.mark.parametrize("kind", FORMATS)
async def test_flatten_makes_what_was_asked_for(
    program: Program, registry: FaultyRegistry, tmp_path: Path, kind: str, docker: bool
) -> None:
    """With annotations and a diff id that are the new layer's; the same every time."""
    made = tars.image(files("a", "b"), files(".wh.a", "c"), docker=docker)
    name, to = fill(registry, "app", made, "1"), f"{registry.address}/flat:1"
    ended = await program("flatten", name, "--layer-format", kind, "-t", to)
    assert ended.code == 0, ended.err
    becomes_oci = docker and kind == "zstd"
    assert ended.err == ("made an OCI image: Docker's media types have none for zstd\n" if becomes_oci else "")
    _, inside = check(registry, "flat", "1", kind)
    flat = registry.get_manifest("flat", "1")
    assert flat is not None
    assert flat.media_type == (media.DOCKER_MANIFEST if docker and not becomes_oci else media.OCI_MANIFEST)
    assert own(inside) == ["b", "c"]
    assert await wrong(registry, "flat", "1") == []
    assert (await program("flatten", name, "--layer-format", kind, "-t", to)).out == ended.out
    await others_agree(program, to, kind, tmp_path / "copy")


async def test_job_files_say_it_line_by_line(program: Program, registry: FaultyRegistry, tmp_path: Path) -> None:
    """One file in all formats in one run."""
    name = fill(registry, "base", sample(image("a")), "1")
    (tmp_path / "layer.tar").write_bytes(tar())
    layers, at = [str(tmp_path / "layer.tar")], registry.address
    lines = [{"append": name, "layers": layers, "layer_format": kind, "to": f"{at}/app:{kind}"} for kind in FORMATS]
    lines += [{"mutate": name, "layers": layers, "layer_format": kind, "to": f"{at}/mut:{kind}"} for kind in FORMATS]
    (tmp_path / "jobs").write_text("".join(f"{json.dumps(line)}\n" for line in lines))
    ended = await program("copy", "--from-file", str(tmp_path / "jobs"))
    assert ended.code == 0, ended.err
    for kind in FORMATS:
        assert check(registry, "app", kind, kind) == check(registry, "mut", kind, kind)
    (tmp_path / "jobs").write_text(f'{{"mutate": "{name}", "labels": {{"a": "b"}}, "layer_format": "zstd"}}\n')
    assert (
        "'layer_format' means nothing without 'layers'"
        in (await program("copy", "--from-file", str(tmp_path / "jobs"))).error
    )
    (tmp_path / "jobs").write_text(f'{{"append": "{name}", "layers": ["x"], "layer_format": "lz4"}}\n')
    assert (
        "append: layer_format: invalid enum value 'lz4'"
        in (await program("copy", "--from-file", str(tmp_path / "jobs"))).error
    )


async def test_the_experiment_of_crane_makes_new_layers_estargz_unless_told_otherwise(
    program: Program, registry: FaultyRegistry, tmp_path: Path
) -> None:
    """``GGCR_EXPERIMENT_ESTARGZ=1``; ``flatten`` never knew it, and ``0`` is no 1."""
    name, at = fill(registry, "base", tars.image(files("a")), "1"), registry.address
    (tmp_path / "layer.tar").write_bytes(tar())
    words, on = ("append", "-b", name, "-f", str(tmp_path / "layer.tar"), "-t"), {"GGCR_EXPERIMENT_ESTARGZ": "1"}
    assert (await program(*words, f"{at}/app:on", **on)).code == 0
    assert (
        await program("mutate", name, "--append", str(tmp_path / "layer.tar"), "-t", f"{at}/app:mut", **on)
    ).code == 0
    assert (await program(*words, f"{at}/app:told", "--layer-format", "gzip", **on)).code == 0
    assert (await program(*words, f"{at}/app:off", GGCR_EXPERIMENT_ESTARGZ="0")).code == 0
    assert (await program("flatten", name, "-t", f"{at}/app:flat", **on)).code == 0
    assert check(registry, "app", "on", "estargz") == check(registry, "app", "mut", "estargz")
    assert check(registry, "app", "told", "gzip") == check(registry, "app", "off", "gzip")
    check(registry, "app", "flat", "gzip")


@pytest.mark.parametrize("kind", FORMATS)
async def test_what_is_no_layer_is_one_line_and_nothing_is_published(
    program: Program, registry: FaultyRegistry, tmp_path: Path, kind: str
) -> None:
    name = fill(registry, "base", sample(image("a")), "1")
    before = tags(registry)
    bad = {
        "cut": (gzip.compress(tar({"a": LARGE}))[:-9], "in the middle of its gzip data"),
        "out": (tar({"a": LARGE, "../../b": b"x"}), "leads out of it"),
        "text": (b"no tar\n" * 1000, "is not a tar"),
    }
    for what, (content, says) in bad.items():
        (tmp_path / what).write_bytes(content)
        words = ("append", "-b", name, "--layer-format", kind, "-t", f"{registry.address}/app:1", "-f")
        with pipe(tmp_path / f"{what}-pipe", content) as fifo:
            piped = await program(*words, fifo)
        for ended in (await program(*words, str(tmp_path / what)), piped):
            assert ended.code != 0
            assert says in ended.error
    assert tags(registry) == before
    assert incomplete(registry) == []


@pytest.mark.parametrize("kind", FORMATS)
async def test_a_large_file_is_packed_once_while_it_goes_up(
    program: Program, registry: FaultyRegistry, tmp_path: Path, kind: str
) -> None:
    """It is sent in one piece after the other; one that goes up as it is is looked for first."""
    content = tar({"noise": LARGE, "zeros": bytes(30_000_000)})
    (tmp_path / "large.tar").write_bytes(content)
    name = fill(registry, "base", sample(image("a")), "1")
    words = ("append", "-b", name, "-f", str(tmp_path / "large.tar"), "--layer-format", kind, "-t")
    ended = await program(*words, f"{registry.address}/app:1")
    assert ended.code == 0, ended.err
    _, inside = check(registry, "app", "1", kind)
    assert kind == "estargz" or inside == content
    assert bool(registry.requests(kind="upload-patch")) == (kind != "uncompressed")


@pytest.mark.parametrize("kind", FORMATS)
async def test_an_archive_of_it_is_read_by_skopeo(
    program: Program, registry: FaultyRegistry, tmp_path: Path, kind: str
) -> None:
    """Nothing is in a registry then, and what is streamed is kept in a temporary file meanwhile."""
    skopeo = require("skopeo", package="skopeo")
    name = fill(registry, "base", tars.image(files("a")), "1")
    layout = f"oci:{tmp_path / 'layout'}:app"
    with pipe(tmp_path / "pipe", tar({"f": LARGE})) as fifo:
        ended = await program("append", "-b", name, "-f", fifo, "--layer-format", kind, "-t", layout)
    assert ended.code == 0, ended.err
    seen = await run([str(skopeo), "copy", layout, f"dir:{tmp_path / 'copy'}"], program.environ)
    assert seen.code == 0, seen.err
