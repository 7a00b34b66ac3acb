"""``append``, ``mutate`` and ``rebase``: their words, what they print and refuse; as crane, where it has them."""

from __future__ import annotations

import gzip
import json
import os
import tarfile
from pathlib import Path
from typing import Any

import anyio
import pytest

from asyncrane.testing import FaultyRegistry
from tests.archive.test_layers import tar
from tests.cli.conftest import Program, fill, run
from tests.cli.surgery_samples import base, file
from tests.images.samples import image, index, sample
from tests.operations.test_jobs import config, wrong
from tests.peers import require
from tests.promises.images import tags


def made(registry: FaultyRegistry, name: str) -> dict[str, Any]:
    """The config that ``REPOSITORY:TAG`` has, or that of its first image."""
    repository, _, tag = name.partition(":")
    manifest = registry.get_manifest(repository, tag)
    assert manifest is not None
    identifier = str(manifest.children()[0].digest) if manifest.is_index else tag
    return config(registry, repository, identifier)


def names(path: Path) -> set[str]:
    """What is in a directory."""
    return {entry.name for entry in path.iterdir()}


@pytest.mark.parametrize("words", [("-b", "-f", "-t"), ("--base", "--new_layer", "--new_tag")])
async def test_append_prints_what_it_made(
    program: Program, registry: FaultyRegistry, tmp_path: Path, words: tuple[str, str, str]
) -> None:
    b, f, t = words
    one, two = file(tmp_path / "one,tar"), file(tmp_path / "two.tgz", gzip.compress(tar({"b": b"2"})))
    to = f"{registry.address}/app:1"
    ended = await program("append", b, base(registry), f, f'"{one}",{two}', f, two, t, to)
    assert (ended.code, ended.err) == (0, "")
    assert ended.text == f"{registry.address}/app@{tags(registry)['app:1']}\n"
    assert len(made(registry, "app:1")["rootfs"]["diff_ids"]) == 4
    assert await wrong(registry, "app", "1") == []


@pytest.mark.parametrize("flag", [(), ("--oci-empty-base",)])
async def test_append_without_a_base_says_so(
    program: Program, registry: FaultyRegistry, tmp_path: Path, flag: tuple[str, ...]
) -> None:
    ended = await program("append", *flag, "-f", file(tmp_path / "x"), "-t", f"{registry.address}/app:1")
    assert (ended.code, ended.err) == (0, "asyncrane: base unspecified, using an empty image\n")
    manifest = registry.get_manifest("app", "1")
    assert manifest is not None
    assert ("oci" in manifest.media_type) == bool(flag)


async def test_append_takes_stdin_and_what_a_shell_puts_in_brackets(
    program: Program, registry: FaultyRegistry, tmp_path: Path
) -> None:
    """``tar -c . | asyncrane append -f -`` and ``-f <(tar -c .)``."""
    bash, name = require("bash", package="bash"), base(registry)
    content = tar({"large": os.urandom(6_000_000)})
    to = f"{registry.address}/app"
    with anyio.fail_after(60):
        ended = await anyio.run_process(
            program.command("append", "-b", name, "-f", "-", "-t", f"{to}:1"), input=content, env=program.environ
        )
    (tmp_path / "layer").write_bytes(content)
    words = " ".join(program.command("append", "-b", name, "-t", f"{to}:2", "-f"))
    shell = await run([str(bash), "-c", f"{words} <(cat {tmp_path / 'layer'})"], program.environ)
    assert (shell.code, shell.err, ended.stderr) == (0, "", b"")
    assert shell.out == ended.stdout
    assert tags(registry)["app:1"] == tags(registry)["app:2"]
    assert await wrong(registry, "app", "1") == []


async def test_append_writes_a_file_and_prints_nothing(
    program: Program, registry: FaultyRegistry, tmp_path: Path
) -> None:
    layer, out = file(tmp_path / "x"), tmp_path / "out.tar"
    name = base(registry, sample(image("a")))
    ended = await program("append", "-b", name, "-f", layer, "-t", "example.com/app:1", "-o", str(out))
    assert (ended.code, ended.text, ended.err) == (0, "", "")
    with tarfile.open(out) as archive:
        (listed,) = json.loads(archive.extractfile("manifest.json").read())  # type: ignore[union-attr]
    assert (listed["RepoTags"], len(listed["Layers"])) == (["example.com/app:1"], 2)


@pytest.mark.parametrize(
    ("words", "code", "says"),
    [
        (("append", "-t", "@/app:1"), 2, "Missing option '--new_layer'"),
        (("append", "-f", "%/good"), 2, "Missing option '--new_tag'"),
        (("append", "-f", "%/good", "-t", "@/app:1", "-b", "@/base:1", "--oci-empty-base"), 2, "exclude each other"),
        (("append", "-f", "%/good", "-t", "@/app:1", "--set-base-image-annotations"), 2, "nothing without --base"),
        (("append", "-f", "%/good", "-t", "@/app:1", "-b", "@/gone:1"), 3, "gone"),
        (("append", "-f", "%/good", "-t", "@/app:1", "-b", "@/base:1", "--platform", "linux/mips"), 2, "linux/mips"),
        (("append", "-f", "%/good", "-t", "@/app:1", "-b", "@/base:1", "--platform", "linux"), 2, "not a platform"),
        (("append", "-f", "%/good", "-t", "127.0.0.1:1", "-b", "@/base:1"), 2, "without a repository"),
        (("append", "-f", "%/good", "-t", "@/App:1", "-b", "@/base:1"), 2, "lower-case"),
        (("append", "-f", "%/none", "-t", "@/app:1", "-b", "@/base:1"), 3, "No such file"),
        (("append", "-f", "%/text", "-t", "@/app:1", "-b", "@/base:1"), 5, "not a tar archive"),
        (("append", "-f", "%/cut", "-t", "@/app:1", "-b", "@/base:1"), 5, "in the middle of its gzip data"),
        (("append", "-f", "%/bomb", "-t", "@/app:1", "-b", "@/base:1"), 5, "cut off"),
        (("append", "-f", "%/out", "-t", "@/app:1", "-b", "@/base:1"), 5, "leads out of it"),
        (("append", "-f", "/dev/null", "-t", "@/app:1", "-b", "@/base:1"), 2, "not a file, a pipe or a directory"),
        (("append", "-f", "%/good", "-t", "@/app:1", "-b", "@/base:1", "--created", "soon"), 2, "not a time"),
        (("append", "-f", '"%/good', "-t", "@/app:1", "-b", "@/base:1"), 2, "quotes that are not closed"),
        (("append", "-f", "%/good", "-t", "@/app:1", "-b", "@/base:1", "-o", "%"), 2, ""),
        (("mutate",), 2, "Missing argument"),
        (("mutate", "@/gone:1", "-l", "a=b"), 3, "gone"),
        (("mutate", "@/base:1", "-l", "a"), 2, "not a label: 'a' (expected NAME=VALUE)"),
        (("mutate", "@/base:1", "-a", "=b"), 2, "not an annotation"),
        (("mutate", "@/base:1", "-e", "b"), 2, "not an environment variable"),
        (("mutate", "@/base:1", "--cmd", '"a"b'), 2, "behind quotes"),
        (("mutate", "@/base:1", "--exposed-ports", "99999"), 2, "not a port"),
        (("mutate", "@/base:1", "--set-platform", "linux/arm"), 2, "index of several images"),
        (("mutate", "@/base:1", "-u", "x", "--platform", "linux/amd64"), 2, "would name a part of it"),
        (("mutate", "@/base:1", "-u", "x", "-t", "@/a:1", "--repo", "@/a"), 2, "exclude each other"),
        (("mutate", "@/base:1", "--append", "%/none"), 3, "No such file"),
        (("mutate", "@/base:1", "--append", "%/text"), 5, "not a tar archive"),
        (("rebase",), 2, "either IMAGE"),
        (("rebase", "@/base:1", "--original", "@/base:1"), 2, "exclude each other"),
        (("rebase", "@/base:1", "-t", "@/a:1", "--rebased", "@/a:1"), 2, "exclude each other"),
        (("rebase", "@/base:1", "--from-file", "%/good"), 2, "either IMAGE"),
        (("rebase", "@/base:1"), 5, "name its 'new_base'"),
        (("rebase", "@/base:1", "--new_base", "@/gone:1", "--old_base", "@/base:1"), 3, "gone"),
        (("rebase", "@/base:1", "--new_base", "@/base:1"), 5, "name its 'old_base'"),
        (("rebase", "@/base:1", "--new_base", "@/base:1", "--old_base", "@/b", "--detect"), 2, "not looked for"),
        (("rebase", "--from-file", "%/none"), 2, "No such file"),
        (("rebase", "--from-file", "%/text"), 2, "text:1: expected IMAGE [TAG], found 3 words"),
        (("rebase", "@/base:1", "--output", "x"), 2, "No such option"),
    ],
    ids=lambda value: " ".join(value) if isinstance(value, tuple) else None,
)
async def test_what_cannot_be_done_is_one_line_and_leaves_nothing(
    program: Program, registry: FaultyRegistry, tmp_path: Path, words: tuple[str, ...], code: int, says: str
) -> None:
    base(registry)
    before = tags(registry)
    contents = {
        "good": tar(),
        "text": b"hello, no tar\n" * 100,
        "cut": gzip.compress(tar({"a": os.urandom(5000)}))[:-100],
        "out": tar({"../a": b"x"}),
    }
    huge = tarfile.TarInfo("huge")
    huge.size = 10 * 2**30
    contents["bomb"] = gzip.compress(huge.tobuf() + bytes(300_000))
    for name, content in contents.items():
        (tmp_path / name).write_bytes(content)
    left = names(tmp_path)
    ended = await program(*[word.replace("@", registry.address, 1).replace("%", str(tmp_path)) for word in words])
    assert (ended.code, ended.out) == (code, b""), ended.err
    assert says in ended.error
    assert tags(registry) == before
    assert registry.open_uploads == 0
    assert registry.requests(method="PUT") == registry.requests(method="PATCH") == []
    assert names(tmp_path) - {"home"} == left


@pytest.mark.parametrize(
    ("words", "key", "expected"),
    [
        (("-l", "a=b,c"), "Labels", {"old": "1", "a": "b,c"}),
        (("-l", "a=b=c"), "Labels", {"old": "1", "a": "b=c"}),
        (("-l", "a=k=v,w"), "Labels", {"old": "1", "a": "k=v,w"}),
        (("-l", "a=1,b=2", "--label", "c="), "Labels", {"old": "1", "a": "1", "b": "2", "c": ""}),
        (("-l", '"a=1,b=2"'), "Labels", {"old": "1", "a": "1,b=2"}),
        (("-l", 'a={"x": "y"}'), "Labels", {"old": "1", "a": '{"x": "y"}'}),
        (("--unset-label", "old,other"), "Labels", None),
        (("-e", "A=b,c=d", "--env", "PATH=/x"), "Env", ["PATH=/x", "KEEP=1", "A=b,c=d"]),
        (("--unset-env", "PATH", "-e", "B="), "Env", ["KEEP=1", "B="]),
        (("--entrypoint", "/run,-x"), "Entrypoint", ["/run", "-x"]),
        (("--entrypoint", ""), "Entrypoint", None),
        (("--entrypoint", "/run", "--cmd", 'sh,-c,"a, ""b"""', "--cmd", "c"), "Cmd", ["sh", "-c", 'a, "b"', "c"]),
        (("--entrypoint", "/run"), "Cmd", None),
        (("--cmd", ""), "Cmd", None),
        (("--cmd", "a\nb=c"), "Cmd", ["a\nb=c"]),
        (("-u", "1000:1000"), "User", "1000:1000"),
        (("--user", ""), "User", None),
        (("-w", "/srv"), "WorkingDir", "/srv"),
        (("--workdir", ""), "WorkingDir", None),
        (("--exposed-ports", "80,53/udp"), "ExposedPorts", {"80": {}, "53/udp": {}}),
        (("--exposed-ports", ""), "ExposedPorts", None),
    ],
    ids=lambda value: " ".join(value) if isinstance(value, tuple) else "",
)
async def test_k8_values_are_set_and_taken_away_on_all_platforms(
    program: Program, registry: FaultyRegistry, words: tuple[str, ...], key: str, expected: Any
) -> None:
    """K8: commas and equal signs come through, and what is empty takes away."""
    name = base(registry)
    first = ("-l", "old=1", "-e", "PATH=/bin", "-e", "KEEP=1", "--entrypoint", "/e", "--cmd", "c", "-u", "0", "-w", "/")
    started = await program("mutate", name, *first, "--exposed-ports", "1")
    assert started.code == 0, started.err
    ended = await program("mutate", name, *words)
    assert (ended.code, ended.err) == (0, "")
    for child in registry.get_manifest("base", "1").children():  # type: ignore[union-attr]
        assert config(registry, "base", str(child.digest))["config"].get(key) == expected
    assert ended.text == f"{registry.address}/base@{tags(registry)['base:1']}\n"


async def test_mutate_sets_annotations_platform_and_time(program: Program, registry: FaultyRegistry) -> None:
    name = base(registry, sample(image("a")))
    words = ("-a", "a=1", "-a", "b=2", "--set-platform", "windows/arm64/v8:10.0", "--created", "epoch")
    assert (await program("mutate", name, *words, SOURCE_DATE_EPOCH="1000000000")).code == 0
    assert (await program("mutate", name, "--unset-annotation", "a")).code == 0
    manifest, after = registry.get_manifest("base", "1"), made(registry, "base:1")
    assert manifest is not None
    assert manifest.annotations == {"b": "2"}
    said = {key: after.get(key) for key in ("os", "architecture", "variant", "os.version", "created")}
    assert list(said.values()) == ["windows", "arm64", "v8", "10.0", "2001-09-09T01:46:40Z"]


async def test_mutate_puts_layers_on_top_and_goes_where_it_is_told(
    program: Program, registry: FaultyRegistry, tmp_path: Path
) -> None:
    name, layer = base(registry), file(tmp_path / "x")
    ended = await program("mutate", name, "--append", layer, "--repo", f"{registry.address}/other", "-l", "a=b")
    assert ended.code == 0, ended.err
    repository, _, digest = ended.text.strip().partition("@")
    assert repository == f"{registry.address}/other"
    assert await wrong(registry, "other", digest) == []
    assert tags(registry).keys() == {"base:1"}


@pytest.mark.parametrize("words", [("{app}", "-t"), ("{app}", "--tag"), ("--original", "{app}", "--rebased")])
async def test_rebase_takes_all_of_cranes_words(
    program: Program, registry: FaultyRegistry, words: tuple[str, ...]
) -> None:
    """``--original`` is of no use in crane; here it is."""
    old, app = base(registry), fill(registry, "app", sample(index("a", "x")), "1")
    new = fill(registry, "base", sample(index("b")), "2")
    before = tags(registry)
    first = [word.format(app=app) for word in words]
    ended = await program("rebase", *first, f"{registry.address}/app:2", "--old_base", old, "--new_base", new)
    assert (ended.code, ended.err) == (0, "")
    assert ended.text == f"{registry.address}/app@{tags(registry)['app:2']}\n"
    assert before.items() <= tags(registry).items()
    assert await wrong(registry, "app", "2") == []


async def test_rebase_finds_the_old_base_and_says_which(program: Program, registry: FaultyRegistry) -> None:
    base(registry)
    app, new = fill(registry, "app", sample(index("a", "x")), "1"), fill(registry, "base", sample(index("b")), "2")
    ended = await program("rebase", app, "--new_base", new, "--detect")
    assert (ended.code, ended.err) == (0, f"asyncrane: {app}: stands on {registry.address}/base:1, by its layers\n")
    again = await program("rebase", app)
    assert (again.code, again.text) == (0, ended.text)


@pytest.mark.parametrize("jobs", [False, True])
async def test_many_images_are_rebased_in_one_run(
    program: Program, registry: FaultyRegistry, tmp_path: Path, jobs: bool
) -> None:
    """What they share is read once; one that fails does not hold the others, and stdout has those that are done."""
    at, old = registry.address, base(registry)
    new = fill(registry, "base", sample(index("b")), "2")
    apps = [fill(registry, f"app{n}", sample(index("a", f"x{n}")), "1") for n in range(5)]
    lines = [f"{app} {at}/new{n}:1" for n, app in enumerate(apps)] + [f"{at}/gone:1  # not there", ""]
    words = ["--old_base", old, "--new_base", new]
    if jobs:
        bases = {"old_base": old, "new_base": new}
        lines = [json.dumps({"rebase": app, "to": f"{at}/new{n}:1", **bases}) for n, app in enumerate(apps)]
        lines.append(json.dumps({"rebase": f"{at}/gone:1", **bases}))
        words = []
    (tmp_path / "list").write_text("\n".join(lines))
    registry.log.clear()
    ended = await program("rebase", "--from-file", str(tmp_path / "list"), *words)
    assert ended.code == 1, ended.err
    assert ended.text.splitlines() == [f"{at}/new{n}@{tags(registry)[f'new{n}:1']}" for n in range(5)]
    said = ended.err.splitlines()
    assert said[0].startswith(f"asyncrane: failed: {at}/gone:1: ")
    assert said[1:] == ["asyncrane: error: 1 of 6 images failed"]
    assert len(registry.requests(kind="manifest-get", repository="base")) == 6


@pytest.mark.parametrize("command", ["append", "mutate", "mutate --append", "rebase"])
async def test_k4_the_history_says_what_it_is_told(
    program: Program, registry: FaultyRegistry, tmp_path: Path, command: str
) -> None:
    """K4: of the layers that are new or, where none are, in a step without one."""
    name, layer, to = base(registry), file(tmp_path / "x"), f"{registry.address}/app:2"
    app, new = fill(registry, "app", sample(index("a", "x")), "1"), fill(registry, "base", sample(index("b")), "2")
    words = {
        "append": ["append", "-b", name, "-f", layer],
        "mutate": ["mutate", name, "-l", "a=b"],
        "mutate --append": ["mutate", name, "--append", layer],
        "rebase": ["rebase", app, "--old_base", name, "--new_base", new],
    }[command]
    said = ["--history-created-by", "make, twice", "--history-author", "me", "--history-comment", "why not"]
    ended = await program(*words, *said, "--history-created", "2024-02-29T12:00:00Z", "-t", to)
    assert (ended.code, ended.err) == (0, "")
    entry = {"created": "2024-02-29T12:00:00Z", "created_by": "make, twice", "author": "me", "comment": "why not"}
    layers = {} if "append" in command else {"empty_layer": True}
    assert made(registry, "app:2")["history"][-1] == {**entry, **layers}
    assert await wrong(registry, "app", "2") == []
