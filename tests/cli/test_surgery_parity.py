"""Where crane is on PATH: ``append``, ``mutate`` and ``rebase`` make what it makes of these words; skopeo reads it."""

from __future__ import annotations

import gzip
import json
import os
from pathlib import Path
from typing import Any

from asyncrane.testing import FaultyRegistry
from tests.archive.test_layers import tar
from tests.cli.conftest import Program, run
from tests.cli.surgery_samples import base, file
from tests.images.samples import image, sample
from tests.peers import require


async def crane(*words: str) -> str:
    return (await printed(*words)).decode()


async def printed(*words: str) -> bytes:
    """What crane prints."""
    ended = await run([str(require("crane")), *words], {"PATH": os.environ["PATH"], "HOME": "/nonexistent"})
    assert ended.code == 0, ended.err
    return ended.out


async def judged(name: str) -> dict[str, Any]:
    """The config that crane reads, of an image that it finds nothing wrong with."""
    assert await crane("validate", "--remote", name) == f"PASS: {name}\n"
    found: dict[str, Any] = json.loads(await crane("config", name))
    return found


async def test_crane_agrees_on_what_append_makes(program: Program, registry: FaultyRegistry, tmp_path: Path) -> None:
    """The same files from the same words, printed in the same way."""
    require("crane")
    name = base(registry, sample(image("a")))
    layers = [
        file(tmp_path / "x.tar", tar({"etc/x": b"x" * 70_000})),
        file(tmp_path / "y.tgz", gzip.compress(tar({"y": b"2"}))),
    ]
    words = ["append", "-b", name, "-f", layers[0], "-f", layers[1], "--set-base-image-annotations", "-t"]
    at = registry.address
    theirs = await crane(*words, f"{at}/app:theirs")
    ours = await program(*words, f"{at}/app:ours")
    assert theirs.partition("@")[0] == ours.text.partition("@")[0] == f"{at}/app"
    first, second = await judged(f"{at}/app:theirs"), await judged(f"{at}/app:ours")
    assert first["rootfs"] == second["rootfs"]
    assert await printed("export", f"{at}/app:theirs", "-") == await printed("export", f"{at}/app:ours", "-")
    manifests = [registry.get_manifest("app", tag) for tag in ("theirs", "ours")]
    assert manifests[0].annotations == manifests[1].annotations  # type: ignore[union-attr]


async def test_crane_agrees_on_what_mutate_makes(program: Program, registry: FaultyRegistry) -> None:
    require("crane")
    name = base(registry, sample(image("a")))
    words = [*("-l", "a=b,c", "-l", "x=1,y=2", "-e", "A=b,c", "-e", "PATH=/x", "-a", "n=v", "-u", "1", "-w", "/w")]
    words += [
        "--entrypoint",
        "/a,b",
        "--cmd",
        '"c,d",e',
        "--exposed-ports",
        "80,53/udp",
        "--set-platform",
        "linux/arm/v7",
    ]
    at = registry.address
    await crane("mutate", name, *words, "-t", f"{at}/app:theirs")
    ended = await program("mutate", name, *words, "-t", f"{at}/app:ours")
    assert ended.code == 0, ended.err
    first, second = await judged(f"{at}/app:theirs"), await judged(f"{at}/app:ours")
    assert {key: first[key] for key in ("config", "os", "architecture", "variant", "rootfs")} == {
        key: second[key] for key in ("config", "os", "architecture", "variant", "rootfs")
    }


async def test_crane_agrees_on_what_rebase_makes(program: Program, registry: FaultyRegistry, tmp_path: Path) -> None:
    """Images and bases of crane's own making: what it does not lose is the same."""
    require("crane")
    at = registry.address
    for tag, content in {"1": b"one", "2": b"two"}.items():
        layer = file(tmp_path / tag, tar({"base": content}))
        await crane("append", "--oci-empty-base", "-f", layer, "-t", f"{at}/base:{tag}")
        await crane("mutate", f"{at}/base:{tag}", "--set-platform", "linux/amd64")
    await crane("append", "-b", f"{at}/base:1", "-f", file(tmp_path / "app"), "-t", f"{at}/app:1")
    await crane("mutate", f"{at}/app:1", "--entrypoint", "/app")
    words = ["rebase", f"{at}/app:1", "--old_base", f"{at}/base:1", "--new_base", f"{at}/base:2", "-t"]
    theirs, ours = await crane(*words, f"{at}/app:theirs"), await program(*words, f"{at}/app:ours")
    assert theirs.partition("@")[0] == ours.text.partition("@")[0]
    first, second = await judged(f"{at}/app:theirs"), await judged(f"{at}/app:ours")
    assert (first["rootfs"], first["config"]["Entrypoint"]) == (second["rootfs"], second["config"]["Entrypoint"])
    assert await printed("export", f"{at}/app:theirs", "-") == await printed("export", f"{at}/app:ours", "-")


async def test_skopeo_copies_an_edited_index_and_an_archive(
    program: Program, registry: FaultyRegistry, tmp_path: Path
) -> None:
    skopeo = str(require("skopeo", package="skopeo"))
    name, layer, at = base(registry), file(tmp_path / "x"), registry.address
    await program("append", "-b", name, "-f", layer, "-t", f"{at}/app:1")
    await program("append", "-b", name, "-f", layer, "-t", f"{at}/app:1", "-o", str(tmp_path / "out.tar"))
    for source, flags in ((f"docker://{at}/app:1", ["--all"]), (f"docker-archive:{tmp_path / 'out.tar'}", [])):
        to = f"dir:{tmp_path / 'copied'}{len(flags)}"
        words = [skopeo, "--insecure-policy", "copy", *flags, "--src-tls-verify=false", source, to]
        ended = await run(words, {"PATH": os.environ["PATH"], "HOME": str(tmp_path)})
        assert ended.code == 0, ended.err
