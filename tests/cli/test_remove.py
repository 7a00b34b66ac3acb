"""``delete``, ``untag``, ``gc``, ``tag`` and ``ls``: what names what, and what goes with it (K9)."""

from __future__ import annotations

import json
from collections.abc import AsyncIterator

import pytest

from asyncrane.testing import FaultyRegistry, status
from tests.cli.conftest import Program, fill, run
from tests.images.samples import image, index, sample
from tests.peers import require

ONE, OTHER = sample(image("a")), sample(image("b"))


@pytest.fixture
async def google() -> AsyncIterator[FaultyRegistry]:
    async with FaultyRegistry(google=True) as started:
        yield started


def names(registry: FaultyRegistry, repository: str) -> list[str]:
    return list(registry.storage.index.tags(repository))


async def test_k9_deleting_by_digest_tells_which_tags_die(program: Program, registry: FaultyRegistry) -> None:
    """K9: two tags, one digest; another image's tag stays."""
    fill(registry, "app", ONE, "1", "latest")
    fill(registry, "app", OTHER, "2")
    ended = await program("delete", f"{registry.address}/app@{ONE.digest!s}")
    assert (ended.code, ended.out) == (0, b"")
    assert ended.err.splitlines() == [f"deleted with it: {registry.address}/app:{tag}" for tag in ("1", "latest")]
    assert names(registry, "app") == ["2"]


async def test_k9_deleting_by_tag_and_untagging_leave_the_other_tag(program: Program, registry: FaultyRegistry) -> None:
    """K9."""
    name = fill(registry, "app", ONE, "1", "2", "3")
    assert (await program("untag", name)).code == 0
    assert (await program("delete", f"{registry.address}/app:2")).code == 0
    assert names(registry, "app") == ["3"]
    assert registry.get_manifest("app", str(ONE.digest)) == ONE.manifest
    assert [request.path for request in registry.requests(method="DELETE")] == [
        "/v2/app/manifests/1",
        "/v2/app/manifests/2",
    ]


@pytest.mark.parametrize("command", ["untag", "delete"])
@pytest.mark.parametrize("code", [400, 405])
async def test_k9_a_registry_that_deletes_no_tag_is_not_asked_for_more(
    program: Program, registry: FaultyRegistry, command: str, code: int
) -> None:
    """K9: what would delete it, with all its tags, is said, and not done."""
    name = fill(registry, "app", ONE, "1", "2")
    registry.faults.add(status(code, kind="manifest-delete", error="UNSUPPORTED"))
    ended = await program(command, name, "--retries", "0")
    assert (ended.code, ended.out) == (1, b"")
    assert f"{registry.address} does not delete a tag alone" in ended.error
    assert f"'delete {registry.address}/app@{ONE.digest!s}' deletes the manifest with all its tags" in ended.error
    assert len(registry.requests(method="DELETE")) == 1
    assert names(registry, "app") == ["1", "2"]


async def test_k9_untag_takes_no_digest_for_a_tag(program: Program, registry: FaultyRegistry) -> None:
    """K9: with both the tag has to name that digest."""
    fill(registry, "app", ONE, "1")
    at = f"{registry.address}/app"
    for text in (f"{at}@{ONE.digest!s}", f"{at}:1@{OTHER.digest!s}"):
        ended = await program("untag", text)
        assert (ended.code, names(registry, "app")) == (2, ["1"])
        assert ended.error
    assert (await program("untag", f"{at}:none")).code == 3
    assert (await program("untag", f"{at}:1@{ONE.digest!s}")).code == 0
    assert names(registry, "app") == []


async def test_tags_that_are_not_told_do_not_keep_a_manifest(program: Program, registry: FaultyRegistry) -> None:
    fill(registry, "app", ONE, "1")
    registry.faults.add(status(403, kind="tags"))
    ended = await program("delete", f"{registry.address}/app@{ONE.digest!s}")
    assert ended.code == 0
    assert ended.err == f"{registry.address}/app does not tell which tags were deleted with {ONE.digest!s}\n"


async def test_googles_want_the_tags_deleted_first(program: Program, google: FaultyRegistry) -> None:
    fill(google, "app", ONE, "1")
    ended = await program("delete", f"{google.address}/app@{ONE.digest!s}")
    assert ended.code == 1
    assert ended.error.endswith("this registry wants its tags deleted first: 1 ('untag')")
    assert (await program("untag", f"{google.address}/app:1")).code == 0
    assert (await program("delete", f"{google.address}/app@{ONE.digest!s}")).code == 0


async def test_gc_prints_and_deletes_nothing(
    program: Program, google: FaultyRegistry, registry: FaultyRegistry
) -> None:
    """Trap: gcrane prints the images of tagged indexes, and nothing at all on other registries."""
    fill(google, "team", sample(index("a")), "1")
    fill(google, "team/deep", ONE, "1")
    for repository in ("team", "team/deep"):
        google.put_manifest(repository, OTHER.manifest)
    at = google.address
    ended = await program("gc", f"{at}/team")
    assert (ended.code, ended.text) == (0, f"{at}/team@{OTHER.digest!s}\n")
    ended = await program("gc", "-r", f"{at}/team")
    assert ended.text == f"{at}/team@{OTHER.digest!s}\n{at}/team/deep@{OTHER.digest!s}\n"
    assert google.requests(method="DELETE") == []
    fill(registry, "team", ONE, "1")
    ended = await program("gc", f"{registry.address}/team")
    assert (ended.code, ended.out) == (1, b"")
    assert "does not tell which manifests of team have no tag" in ended.error


async def test_an_image_gets_several_tags_at_once(program: Program, registry: FaultyRegistry) -> None:
    name = fill(registry, "app", ONE, "1")
    ended = await program("tag", name, "2", "3", "2")
    assert ended.code == 0
    assert ended.err.splitlines() == [
        f"{registry.address}/app:{tag}: digest: {ONE.digest!s} size: {ONE.manifest.size}" for tag in ("2", "3")
    ]
    assert len(registry.requests(kind="manifest-put")) == 2
    registry.faults.add(status(403, kind="manifest-put", path="/manifests/bad"))
    ended = await program("tag", name, "bad", "4")
    assert ended.code == 4
    assert names(registry, "app") == ["1", "2", "3", "4"]
    assert (await program("tag", name, "not/a/tag", "5")).code == 2
    assert names(registry, "app") == ["1", "2", "3", "4"]


async def test_ls_lists_a_tree(program: Program, registry: FaultyRegistry, google: FaultyRegistry) -> None:
    """Trap: gcrane prints nothing on other registries, and exits with 0."""
    for one in (registry, google):
        fill(one, "team", ONE, "1", "sha256-x")
        fill(one, "team/deep/app", OTHER, "1")
    at = registry.address
    assert (await program("ls", "-r", f"{at}/team")).text == f"{at}/team:1\n{at}/team:sha256-x\n{at}/team/deep/app:1\n"
    assert (await program("ls", "-r", "-O", f"{at}/team")).text == f"{at}/team:1\n{at}/team/deep/app:1\n"
    assert (await program("ls", "-O", "--full-ref", f"{at}/team")).text == f"{at}/team:1\n"
    objects = [json.loads(line) for line in (await program("ls", "-r", "--json", f"{at}/team")).text.splitlines()]
    assert [(one["name"], one["tags"], one["child"]) for one in objects] == [
        ("team", ["1", "sha256-x"], ["deep"]),
        ("team/deep/app", ["1"], []),
    ]
    ended = await program("ls", "-r", f"{at}/nothing")
    assert (ended.code, ended.out) == (3, b"")
    at = google.address
    assert (
        await program("ls", "-r", f"{at}/team/deep")
    ).text == f"{at}/team/deep/app@{OTHER.digest!s}\n{at}/team/deep/app:1\n"
    ended = await program("ls", f"{at}/team/deep")
    assert (ended.code, ended.out) == (0, b"")
    assert ended.err == f"{at}/team/deep has no tags; below it (ls -r): app\n"
    described = json.loads((await program("ls", "--json", f"{at}/team")).text)
    assert described["manifest"][str(ONE.digest)]["tag"] == ["1", "sha256-x"]
    assert (await program("ls", "--json", "--full-ref", f"{at}/team")).code == 2


async def test_ls_lists_a_whole_registry_by_its_catalog(program: Program, registry: FaultyRegistry) -> None:
    at = registry.address
    assert (await program("ls", "-r", at)).code == 3
    for repository in ("app", "team/deep/app"):
        fill(registry, repository, ONE, "1")
    ended = await program("ls", "-r", at)
    assert (ended.code, ended.text, ended.err) == (0, f"{at}/app:1\n{at}/team/deep/app:1\n", "")
    names_ = [json.loads(line)["name"] for line in (await program("ls", "-r", "--json", at)).text.splitlines()]
    assert names_ == ["app", "team/deep/app"]
    registry.faults.add(status(401, kind="catalog"))
    refused = await program("ls", "-r", at)
    assert (refused.code, "does not say which repositories it has" in refused.error) == (4, True)
    assert (await program("ls", at)).code == 2


async def test_crane_lists_the_same(program: Program, registry: FaultyRegistry) -> None:
    crane = str(require("crane"))
    at = registry.address
    for repository in ("app", "team/b"):
        fill(registry, repository, ONE, "1", "2", "sha256-0")
    for words in (
        ("ls", f"{at}/app"),
        ("ls", "-O", f"{at}/app"),
        ("ls", "--full-ref", f"{at}/team/b"),
        ("catalog", at),
        ("catalog", "--full-ref", at),
    ):
        theirs = await run([crane, *words], program.environ)
        assert (await program(*words)).out == theirs.out
        assert theirs.out
