"""Images in files and directories wherever an image is named: what commands do with them, and other tools' opinion."""

from __future__ import annotations

import itertools
import json
from pathlib import Path

import anyio
import pytest

from asyncrane.testing import FaultyRegistry, corrupt
from asyncrane.testing.images import Sample, random_image, random_index
from tests.cli.conftest import Ended, Program, fill, run
from tests.peers import require
from tests.stores.samples import EVERY_KIND, artifact

REF_NAME = "org.opencontainers.image.ref.name"


@pytest.fixture
def files(tmp_path: Path) -> Path:
    made = tmp_path / "files"
    made.mkdir()
    return made


def left(path: Path) -> list[str]:
    return sorted(found.name for found in path.iterdir())


async def good(program: Program, *arguments: str) -> Ended:
    ended = await program(*arguments)
    assert ended.code == 0, ended.err
    return ended


STORES = ["oci:{files}/out:1", "oci-archive:{files}/f.tar:1"]


async def test_of_an_index_an_archive_gets_one_image_and_it_is_said(
    program: Program, registry: FaultyRegistry, files: Path
) -> None:
    """As pull does; where the index can be had whole, it is."""
    index = fill(registry, "app", random_index("x"), "v1")
    ended = await good(program, "cp", index, f"docker-archive:{files}/a.tar:app:1")
    assert "took linux/amd64 of the index: only a single image can be there" in ended.err
    made = json.loads((await good(program, "config", f"docker-archive:{files}/a.tar")).out)
    assert (made["os"], made["architecture"]) == ("linux", "amd64")
    chosen = await good(program, "cp", "--platform", "linux/arm64", index, f"docker-archive:{files}/b.tar:app:1")
    assert "took" not in chosen.err
    assert json.loads((await good(program, "config", f"docker-archive:{files}/b.tar")).out)["architecture"] == "arm64"
    single = fill(registry, "app", random_image("y"), "v2")
    assert "took" not in (await good(program, "cp", single, f"docker-archive:{files}/c.tar:app:1")).err


@pytest.mark.parametrize("store", STORES)
async def test_an_image_is_looked_at_wherever_it_is(
    program: Program, registry: FaultyRegistry, files: Path, store: str
) -> None:
    """What every command prints is what it prints for the registry that the image came from."""
    sample, there = random_index("x"), store.format(files=files)
    here = fill(registry, "app", sample, "v1")
    await good(program, "cp", here, there)
    for command in ("digest", "manifest", "config"):
        for platform in ([], ["--platform", "linux/arm64"]):
            assert (await good(program, command, there, *platform)).out == (
                await good(program, command, here, *platform)
            ).out
    place = there.removesuffix(":1")
    digest, content = next(iter(sample.blobs.items()))
    assert (await good(program, "blob", f"{place}@{digest}")).out == content
    assert (await good(program, "ls", place)).text == "1\n"
    assert (await good(program, "ls", "--full-ref", place)).text == f"{there}\n"
    assert (await good(program, "digest", "--full-ref", place)).text == f"{place}@{sample.digest}\n"


async def test_an_image_goes_through_every_store_and_back(
    program: Program, registry: FaultyRegistry, other: FaultyRegistry, files: Path
) -> None:
    """Registry, layout, archive, layout, registry; the second time nothing is moved."""
    sample = random_index("x")
    stations = [
        fill(registry, "app", sample, "v1"),
        f"oci:{files}/one:first",
        f"oci-archive:{files}/f.tar:second",
        f"oci:{files}/two",
        f"{other.address}/app:v2",
    ]
    for source, destination in itertools.pairwise(stations):
        await good(program, "cp", source, destination)
    assert other.get_manifest("app", "v2") == sample.manifest
    again = await good(program, "cp", stations[0], stations[1], "--output", "json")
    assert (json.loads(again.text)["status"], json.loads(again.text)["bytes_read"]) == ("equal", 0)


async def test_all_tags_go_to_a_layout_and_back(
    program: Program, registry: FaultyRegistry, other: FaultyRegistry, files: Path
) -> None:
    samples = {name: sample for name, sample in EVERY_KIND.items() if not name.startswith("schema1")}
    for name, sample in samples.items():
        fill(registry, "app", sample, name)
    await good(program, "cp", "-a", f"{registry.address}/app", f"oci:{files}/out")
    await good(program, "cp", "-a", f"oci:{files}/out", f"oci-archive:{files}/f.tar")
    await good(program, "cp", "-a", f"oci-archive:{files}/f.tar", f"{other.address}/back")
    for name, sample in samples.items():
        assert other.get_manifest("back", name) == sample.manifest
    listed = await good(program, "ls", f"oci-archive:{files}/f.tar")
    assert sorted(listed.text.split()) == sorted(samples)


async def test_whole_references_become_tags_in_a_registry(
    program: Program, registry: FaultyRegistry, other: FaultyRegistry, files: Path
) -> None:
    """As `crane pull --annotate-ref` names images; two that would be one tag are not both copied."""
    one, two = random_image("one"), random_image("two")
    source = fill(registry, "a", one, "v1", "v2")
    await good(program, "cp", source, f"oci:{files}/out:reg.example/a:v1")
    await good(program, "cp", "-a", f"oci:{files}/out", f"{other.address}/back")
    assert other.get_manifest("back", "v1") == one.manifest
    await good(program, "cp", fill(registry, "b", two, "v1"), f"oci:{files}/out:reg.example/b:v1")
    ended = await program("cp", "-a", f"oci:{files}/out", f"{other.address}/back")
    assert ended.code == 1
    assert "reg.example/b:v1 and reg.example/a:v1 would both be" in ended.err


async def test_pairs_of_a_file_may_be_anywhere(
    program: Program, registry: FaultyRegistry, other: FaultyRegistry, files: Path
) -> None:
    first, second = random_image("first"), random_image("second")
    lines = [
        f"{fill(registry, 'a', first, 'v1')} oci-archive:{files}/f.tar:one oci:{files}/out:one",
        f"{fill(registry, 'b', second, 'v1')} oci-archive:{files}/f.tar:two {other.address}/b:v1",
    ]
    ended = await program("cp", "--from-file", "-", stdin="\n".join(lines))
    assert ended.code == 0, ended.err
    assert sorted((await good(program, "ls", f"oci-archive:{files}/f.tar")).text.split()) == ["one", "two"]
    assert other.get_manifest("b", "v1") == second.manifest
    ended = await program("cp", "--from-file", "-", stdin="a oci:")
    assert ended.error.startswith("asyncrane: error: stdin, line 1: not an image: 'oci:'")
    assert ended.code == 2


async def test_what_is_attached_goes_along_if_asked(
    program: Program, registry: FaultyRegistry, other: FaultyRegistry, files: Path
) -> None:
    """J4, F1."""
    sample = random_image("x")
    signature = artifact(sample.manifest)
    source = fill(registry, "app", sample, "v1")
    for content in signature.blobs.values():
        registry.put_blob("app", content)
    registry.put_manifest("app", signature.manifest)
    await good(program, "cp", "--referrers", source, f"oci:{files}/out:1")
    await good(program, "cp", "--referrers", f"oci:{files}/out:1", f"oci-archive:{files}/f.tar:1")
    await good(program, "cp", "--referrers", f"oci-archive:{files}/f.tar:1", f"{other.address}/app:v1")
    assert other.storage.index.referrers("app", sample.digest) == [signature.digest]
    await good(program, "cp", f"oci:{files}/out:1", f"{other.address}/without:v1")
    assert other.get_manifest("without", str(signature.digest)) is None


async def test_no_clobber_leaves_an_image_of_a_layout_as_it_is(
    program: Program, registry: FaultyRegistry, files: Path
) -> None:
    old, new = fill(registry, "a", random_image("old"), "v1"), fill(registry, "a", random_image("new"), "v2")
    await good(program, "cp", old, f"oci:{files}/out:1")
    ended = await program("cp", "-n", new, f"oci:{files}/out:1")
    assert (ended.code, "refusing to clobber" in ended.err) == (1, True)
    assert (await good(program, "digest", f"oci:{files}/out:1")).text == f"{random_image('old').digest}\n"


@pytest.mark.parametrize(
    ("source", "code", "text"),
    [
        ("oci:{files}/no:1", 3, "no such directory"),
        ("oci:{files}/empty:1", 5, "is not an OCI layout"),
        ("oci:{files}/file:1", 5, "is not a directory (for a tar file: oci-archive:"),
        ("oci:{files}/two:v9", 3, "/two has no image 'v9'; there is: v1, v2"),
        ("oci:{files}/two", 2, "/two holds 2 images, say which one: v1, v2"),
        ("oci-archive:{files}/no.tar:1", 3, "no such file"),
        ("oci-archive:{files}/file:1", 5, "file"),
        ("oci-archive:{files}/two:1", 1, "is a directory"),
        ("oci:", 2, "expected oci:DIR[:REF][@DIGEST]"),
    ],
)
async def test_a_source_that_cannot_be_read_is_one_line_and_leaves_nothing(
    program: Program, registry: FaultyRegistry, files: Path, source: str, code: int, text: str
) -> None:
    (files / "empty").mkdir()
    (files / "file").write_text("hello " * 200)
    for tag in ("v1", "v2"):
        await good(program, "cp", fill(registry, "a", random_image(tag), tag), f"oci:{files}/two:{tag}")
    before = left(files)
    wanted = source.format(files=files)
    for command in (
        ["digest", wanted],
        ["cp", wanted, f"oci:{files}/new:1"],
        ["cp", wanted, f"oci-archive:{files}/n:1"],
    ):
        ended = await program(*command)
        assert text in ended.error
        assert ended.code in (code, 5)
    assert left(files) == before


@pytest.mark.parametrize("store", STORES)
async def test_a_failed_copy_leaves_nothing(
    program: Program, registry: FaultyRegistry, files: Path, store: str
) -> None:
    source = fill(registry, "a", random_index("x"), "v1")
    registry.faults.add(corrupt(kind="blob-get"))
    ended = await program("cp", source, store.format(files=files))
    assert ended.code == 5, ended.err
    assert left(files) == []


async def test_layout_gc_prints_what_it_removes(program: Program, registry: FaultyRegistry, files: Path) -> None:
    out, gone = f"oci:{files}/out:1", random_image("gone")
    await good(program, "cp", fill(registry, "a", gone, "v1"), out)
    await good(program, "cp", fill(registry, "a", random_image("kept"), "v2"), out)
    garbage = sorted([*gone.blobs, gone.digest])
    dry = await good(program, "layout", "gc", "--dry-run", str(files / "out"))
    assert (dry.text.split(), "4 blobs, " in dry.err, "would be removed" in dry.err) == (garbage, True, True)
    assert (await good(program, "layout", "gc", str(files / "out"))).text.split() == garbage
    assert (await good(program, "layout", "gc", str(files / "out"))).text == ""
    assert (await program("layout", "gc", str(files / "no"))).code == 3


# other tools


async def peer(program: Program, *command: str) -> Ended:
    ended = await run([str(require(command[0], package=PACKAGES.get(command[0], ""))), *command[1:]], program.environ)
    assert ended.code == 0, ended.err
    return ended


PACKAGES = {"skopeo": "skopeo", "umoci": "umoci"}


@pytest.mark.parametrize("store", STORES)
@pytest.mark.parametrize("docker", [False, True])
async def test_skopeo_reads_what_is_written_and_writes_what_is_read(
    program: Program, registry: FaultyRegistry, files: Path, store: str, docker: bool
) -> None:
    sample, there = random_image("x", docker=docker), store.format(files=files)
    await good(program, "cp", fill(registry, "app", sample, "v1"), there)
    # by name skopeo finds OCI's own media types only
    await peer(program, "skopeo", "copy", there.removesuffix(":1") if docker else there, f"dir:{files}/copy")
    copied = {path.name: path.read_bytes() for path in (files / "copy").iterdir()}
    assert copied["manifest.json"] == sample.manifest.body
    for digest, content in sample.blobs.items():
        assert copied[digest.hex] == content
    kind = there.partition(":")[0]
    await peer(program, "skopeo", "copy", "--preserve-digests", f"dir:{files}/copy", f"{kind}:{files}/theirs:name")
    assert (await good(program, "digest", f"{kind}:{files}/theirs:name")).text == f"{sample.digest}\n"
    await good(program, "cp", f"{kind}:{files}/theirs", f"{registry.address}/back:v1")
    assert registry.get_manifest("back", "v1") == sample.manifest


async def test_skopeo_reads_a_whole_index(program: Program, registry: FaultyRegistry, files: Path) -> None:
    sample = random_index("x")
    await good(program, "cp", fill(registry, "app", sample, "v1"), f"oci:{files}/out:1")
    await peer(program, "skopeo", "copy", "--all", f"oci:{files}/out:1", f"oci-archive:{files}/f.tar:1")
    assert (await good(program, "digest", f"oci-archive:{files}/f.tar:1")).text == f"{sample.digest}\n"


async def test_umoci_lists_and_unpacks_a_layout(program: Program, registry: FaultyRegistry, files: Path) -> None:
    await good(program, "cp", fill(registry, "app", random_image("x"), "v1"), f"oci:{files}/out:1")
    await good(program, "cp", fill(registry, "app", random_image("y"), "v2"), f"oci:{files}/out:2")
    assert (await peer(program, "umoci", "ls", "--layout", str(files / "out"))).text.split() == ["1", "2"]
    bundle = str(files / "bundle")
    await peer(program, "umoci", "unpack", "--rootless", "--image", f"{files}/out:1", bundle)
    assert await anyio.Path(bundle, "rootfs").is_dir()
    await peer(program, "umoci", "tag", "--image", f"{files}/out:1", "3")
    await peer(program, "umoci", "gc", "--layout", str(files / "out"))
    assert (await good(program, "digest", f"oci:{files}/out:3")).text == f"{random_image('x').digest}\n"


@pytest.mark.parametrize("sample", [random_image("x"), random_index("x")], ids=["image", "index"])
async def test_crane_pulls_and_pushes_layouts_both_ways(
    program: Program, registry: FaultyRegistry, files: Path, sample: Sample
) -> None:
    source = fill(registry, "app", sample, "v1")
    await peer(program, "crane", "pull", "--format", "oci", "--annotate-ref", source, f"{files}/theirs")
    for name in ("", ":v1", f":{source}"):
        assert (await good(program, "digest", f"oci:{files}/theirs{name}")).text == f"{sample.digest}\n"
    await good(program, "cp", f"oci:{files}/theirs", f"oci:{files}/ours")
    await peer(program, "crane", "push", "--index", f"{files}/ours", f"{registry.address}/back:v1")
    found = registry.get_manifest("back", "v1")
    assert found is not None
    assert sample.digest in {found.digest, *[child.digest for child in found.children()]}
    assert (await peer(program, "crane", "validate", "--remote", f"{registry.address}/back:v1")).code == 0
