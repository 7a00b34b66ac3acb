"""``index append|filter|remove|list`` as people type them."""

from __future__ import annotations

from pathlib import Path

import pytest

from asyncrane.oci.digest import Digest
from asyncrane.stores.random import LINUX_ARM64
from asyncrane.testing import FaultyRegistry
from tests.cli.conftest import Program, fill, run
from tests.images.samples import attested, image, index, sample
from tests.peers import require

AMD, ARM = sample(image("a")), sample(image("a", platform=LINUX_ARM64))
NO_INDEX = "is not an index (image manifest application/vnd.oci.image.manifest.v1+json)"


async def test_an_index_is_made_listed_filtered_and_thinned(program: Program, registry: FaultyRegistry) -> None:
    """K10: the digest goes to stdout, where it is is said by --tag, or by what was there."""
    at = registry.address
    amd, arm = fill(registry, "amd", AMD, "1"), fill(registry, "arm", ARM, "1")
    made = await program("index", "append", "-m", f"{amd},{arm}", "-t", f"{at}/app:1")
    assert (made.code, made.err) == (0, "")
    manifest = registry.get_manifest("app", "1")
    assert manifest is not None
    assert made.text == f"{at}/app@{manifest.digest!s}\n"
    listed = await program("index", "list", f"{at}/app:1")
    assert listed.text.splitlines() == [
        f"{'Digest':<70} {'MediaType':<20} Platform",
        f"{AMD.digest!s} {AMD.manifest.media_type} linux/amd64",
        f"{ARM.digest!s} {ARM.manifest.media_type} linux/arm64",
    ]
    filtered = await program("index", "filter", f"{at}/app:1", "--platform", "linux/arm64", "-t", f"{at}/app:arm")
    assert (filtered.code, registry.get_manifest("app", "1")) == (0, manifest)
    assert (await program("index", "list", f"{at}/app:arm")).text.count("\n") == 2
    removed = await program("index", "remove", f"{at}/app:1", str(ARM.digest))
    assert (await program("digest", f"{at}/app:1")).text == removed.text.partition("@")[2]


async def test_words_after_the_base_are_manifests_too(program: Program, registry: FaultyRegistry) -> None:
    """As in crane."""
    base, more = fill(registry, "app", sample(index("b")), "1"), fill(registry, "amd", AMD, "1")
    assert (await program("index", "append", base, more, "-t", f"{registry.address}/to:1")).code == 0
    assert (await program("index", "list", f"{registry.address}/to:1")).text.count("\n") == 4


async def test_filter_without_a_platform_publishes_nothing(program: Program, registry: FaultyRegistry) -> None:
    """Trap: crane puts an empty index over the tag."""
    name = fill(registry, "app", sample(index("a")), "1")
    for words in ((), ("--platform", "all"), ("--platform", "linux/amd64/v8/x"), ("--platform", "plan9")):
        ended = await program("index", "filter", name, *words)
        assert (ended.code, ended.out) == (2, b"")
        assert ended.error
    assert registry.requests(method="PUT") == []


@pytest.mark.parametrize(
    "words",
    [("list",), ("append", "-m", "x.example/a"), ("filter", "--platform", "linux"), ("remove", str(Digest.of(b"")))],
)
async def test_e5_a_single_image_is_said_to_be_none(
    program: Program, registry: FaultyRegistry, words: tuple[str, ...]
) -> None:
    """E5."""
    name = fill(registry, "app", AMD, "1")
    arguments = [words[0], name, *(word.replace("x.example/a", name) for word in words[1:])]
    ended = await program("index", *arguments)
    assert (ended.code, ended.out) == (5, b"")
    assert ended.error == f"asyncrane: error: {name} {NO_INDEX}"


async def test_what_happens_to_a_mixture_is_said(program: Program, registry: FaultyRegistry) -> None:
    """K3."""
    docker = fill(registry, "docker", sample(image("a", docker=True)), "1")
    oci = fill(registry, "oci", ARM, "1")
    ended = await program("index", "append", "-m", docker, "-m", oci, "-t", f"{registry.address}/app:1")
    assert ended.err == "1 manifest given OCI's media types: an index does not mix the two\n"


async def test_options_that_mean_nothing_are_refused(program: Program, registry: FaultyRegistry) -> None:
    """E4."""
    name = fill(registry, "app", sample(index("a")), "1")
    for words in (
        ("append", name, "-m", name, "--platform", "linux/amd64"),
        ("append", name, "-m", name, "--docker-empty-base"),
        ("list", name, "--platform", "linux/amd64"),
        ("list", name, "--allow-nondistributable-artifacts"),
        ("append", "-m", name),
        ("append",),
    ):
        ended = await program("index", *words)
        assert ended.code == 2, words
        assert ended.error
    assert registry.requests(method="PUT") == []


async def test_crane_lists_the_same_and_takes_what_is_made(program: Program, registry: FaultyRegistry) -> None:
    crane = str(require("crane"))
    at = registry.address
    names = [fill(registry, "amd", AMD, "1"), fill(registry, "app", attested(sample(index("b"))), "1")]
    ended = await program("index", "append", "-m", names[0], "-m", names[1], "-t", f"{at}/to:1")
    assert ended.code == 0
    await program("index", "filter", f"{at}/to:1", "--platform", "linux/amd64", "-t", f"{at}/to:2")
    for image_ in (names[1], f"{at}/to:1", f"{at}/to:2"):
        theirs = await run([crane, "index", "list", image_], program.environ)
        assert (await program("index", "list", image_)).out == theirs.out
        assert theirs.out
    assert (await run([crane, "digest", f"{at}/to:1"], program.environ)).text == ended.text.partition("@")[2]


async def test_a_layout_is_listed_as_crane_lists_it(program: Program, registry: FaultyRegistry, tmp_path: Path) -> None:
    names = [fill(registry, "amd", AMD, "1"), fill(registry, "arm", ARM, "1")]
    layout = str(tmp_path / "layout")
    ended = await program("index", "append", layout, *names)
    assert (ended.code, ended.out, ended.err) == (0, b"", "")
    ours = await program("index", "list", layout)
    assert [line.split()[0] for line in ours.text.splitlines()[1:]] == [str(AMD.digest), str(ARM.digest)]
    crane = str(require("crane"))
    assert ours.out == (await run([crane, "index", "list", layout], program.environ)).out
