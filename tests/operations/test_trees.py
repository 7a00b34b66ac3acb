"""Whole trees: listed, copied in one run, and searched for what no tag leads to."""

from __future__ import annotations

from collections.abc import AsyncIterator
from typing import Any

import pytest

from asyncrane.engine.outcome import Outcome
from asyncrane.errors import InvalidReference, JobsFailed, NotFound, RegistryError, Unauthorized
from asyncrane.oci import media
from asyncrane.oci.digest import Digest
from asyncrane.operations.copy import Pair
from asyncrane.operations.listing import Contents, contents
from asyncrane.operations.trees import copy_tree, garbage, in_use, pairs
from asyncrane.session import Session
from asyncrane.stores.random import LINUX_AMD64
from asyncrane.testing import FaultyRegistry, status
from asyncrane.testing.images import Sample
from tests.images.samples import attested, image, index, reserialised, sample
from tests.promises.images import incomplete, put, tags

A, B, C = (sample(image(name)) for name in "abc")
BOTH = attested(sample(index("d")))


@pytest.fixture
async def google() -> AsyncIterator[FaultyRegistry]:
    async with FaultyRegistry(google=True) as registry:
        yield registry


def fill(registry: FaultyRegistry) -> None:
    """A tree with something at its top, something deep in it, and something beside it."""
    put(registry, "team", A, "1", "latest")
    put(registry, "team/app/deep", BOTH, "1", "sha256-abc")
    put(registry, "team/app/deep", B)
    put(registry, "teamwork", C, "1")


def attach(registry: FaultyRegistry, repository: str, subject: Digest, seed: str) -> Digest:
    """An artifact about ``subject``."""
    base = sample(image(seed))
    fields = base.manifest.fields()
    fields["subject"] = {"mediaType": media.OCI_MANIFEST, "digest": str(subject), "size": 1}
    return registry.put_manifest(repository, reserialised(base.manifest, fields))


async def listed(registry: FaultyRegistry, path: str, **options: Any) -> list[Contents]:
    async with Session(retries=0) as session:
        return [found async for found in contents(session, f"{registry.address}/{path}", **options)]


async def wasted(registry: FaultyRegistry, path: str, **options: Any) -> list[str]:
    async with Session(retries=0) as session:
        return [str(one) async for one in garbage(session, f"{registry.address}/{path}", **options)]


async def copied(source: FaultyRegistry, destination: FaultyRegistry, **options: Any) -> list[Outcome]:
    async with Session(retries=0) as session:
        return await copy_tree(session, f"{source.address}/team", f"{destination.address}/to/team", **options)


async def test_a_plain_registry_has_a_tree_by_its_catalog(source: FaultyRegistry) -> None:
    """Trap: gcrane says nothing there, and exits with 0."""
    fill(source)
    found = await listed(source, "team", recursive=True)
    at = source.address
    assert [one.fields() for one in found] == [
        {"child": ["app"], "manifest": {}, "name": "team", "tags": ["1", "latest"]},
        {"child": [], "manifest": {}, "name": "team/app/deep", "tags": ["1", "sha256-abc"]},
    ]
    assert [line for one in found for line in one.references(digest_tags=False)] == [
        f"{at}/team:1",
        f"{at}/team:latest",
        f"{at}/team/app/deep:1",
    ]


async def test_googles_tell_children_and_manifests(google: FaultyRegistry) -> None:
    """As gcrane prints them: by digest, then by tag."""
    fill(google)
    found = {one.repository.path: one for one in await listed(google, "team", recursive=True)}
    assert list(found) == ["team", "team/app", "team/app/deep"]
    assert found["team"].references() == [
        f"{google.address}/team@{A.digest!s}",
        f"{google.address}/team:1",
        f"{google.address}/team:latest",
    ]
    fields = found["team/app/deep"].fields(digest_tags=False)
    assert (fields["child"], fields["tags"]) == ([], ["1"])
    described = fields["manifest"][str(BOTH.digest)]
    assert described.pop("imageSizeBytes") == "0"
    assert described == {"mediaType": media.OCI_INDEX, "tag": ["1"], "timeCreatedMs": "0"}
    assert list(fields["manifest"]) == sorted(fields["manifest"])


@pytest.mark.parametrize("is_google", [True, False])
async def test_nothing_is_an_error_and_not_an_empty_list(*, is_google: bool) -> None:
    async with FaultyRegistry(google=is_google) as registry:
        fill(registry)
        for attempt in (listed(registry, "tea", recursive=True), copied_nowhere(registry), wasted(registry, "tea")):
            with pytest.raises(RegistryError):
                await attempt


async def copied_nowhere(registry: FaultyRegistry) -> None:
    async with Session(retries=0) as session:
        await copy_tree(session, f"{registry.address}/tea", f"{registry.address}/to")


async def test_a_path_that_is_not_in_the_catalog_is_not_found(source: FaultyRegistry) -> None:
    fill(source)
    with pytest.raises(NotFound, match="has no repository tea, and none below it"):
        await listed(source, "tea", recursive=True)


async def test_a_registry_without_any_list_says_so(source: FaultyRegistry) -> None:
    fill(source)
    source.faults.add(status(401, kind="catalog"))
    with pytest.raises(Unauthorized, match="does not say which repositories are below team"):
        await listed(source, "team", recursive=True)


async def test_what_cannot_be_read_is_told_after_the_rest(source: FaultyRegistry) -> None:
    """H3."""
    fill(source)
    source.faults.add(status(403, kind="tags", path="/team/app/deep/"))
    names: list[str] = []

    async def read() -> None:
        async with Session(retries=0) as session:
            async for one in contents(session, f"{source.address}/team", recursive=True):
                names.append(one.repository.path)  # noqa: PERF401  (what came before the error)

    with pytest.raises(JobsFailed, match=r"1 repositories could not be read: .*/team/app/deep: ") as raised:
        await read()
    assert names == ["team"]
    assert [failure.status for failure in raised.value.failures] == [403]


async def test_a_tree_is_copied_in_one_run(source: FaultyRegistry, destination: FaultyRegistry) -> None:
    fill(source)
    outcomes = await copied(source, destination)
    assert {outcome.failure for outcome in outcomes} == {None}
    assert tags(destination) == {
        f"to/{name}": digest for name, digest in tags(source).items() if name.startswith(("team:", "team/"))
    }
    assert incomplete(destination) == []


async def test_from_googles_what_has_no_tag_goes_along(google: FaultyRegistry, destination: FaultyRegistry) -> None:
    """G3: by digest, in the very same run; a tag is copied as what it was when it was listed."""
    fill(google)
    outcomes = await copied(google, destination)
    assert {outcome.failure for outcome in outcomes} == {None}
    assert tags(destination) == {
        f"to/{name}": digest for name, digest in tags(google).items() if name.startswith(("team:", "team/"))
    }
    assert destination.get_manifest("to/team/app/deep", str(B.digest)) == B.manifest
    assert {r.path for r in google.requests(kind="manifest-get") if "sha256:" not in r.path} == set()
    layer = A.manifest.layers()[0].digest
    assert len(google.requests(kind="blob-get", digest=str(layer))) == 1


async def test_with_platforms_only_what_has_a_tag_is_copied(
    google: FaultyRegistry, destination: FaultyRegistry
) -> None:
    fill(google)
    outcomes = await copied(google, destination, platforms=[LINUX_AMD64])
    assert {outcome.failure for outcome in outcomes} == {None}
    assert destination.get_manifest("to/team/app/deep", str(B.digest)) is None
    found = destination.get_manifest("to/team/app/deep", "1")
    assert found is not None
    assert found.digest == BOTH.manifest.children()[0].digest


async def test_what_cannot_be_listed_fails_and_the_rest_is_copied(
    source: FaultyRegistry, destination: FaultyRegistry
) -> None:
    fill(source)
    source.faults.add(status(403, kind="tags", path="/team/app/deep/"))
    told: list[Outcome] = []
    outcomes = await copied(source, destination, on_outcome=told.append)
    assert told == outcomes
    failed = [outcome.source for outcome in outcomes if outcome.failure is not None]
    assert failed == [f"{source.address}/team/app/deep"]
    assert set(tags(destination)) == {"to/team:1", "to/team:latest"}


async def test_pairs_are_made_of_paths_below_both_tops(source: FaultyRegistry) -> None:
    fill(source)
    async with Session() as session:
        found = await pairs(session, f"{source.address}/team/app", "other.example/x")
        with pytest.raises(InvalidReference, match="registry without a repository"):
            await pairs(session, f"{source.address}/team", "other.example:5000")
        with pytest.raises(InvalidReference, match="not in a registry"):
            await pairs(session, f"{source.address}/team", "oci:somewhere")
    assert found.pairs == tuple(
        Pair(f"{source.address}/team/app/deep:{tag}", (f"other.example/x/deep:{tag}",)) for tag in ("1", "sha256-abc")
    )


async def test_garbage_is_what_no_tag_leads_to(google: FaultyRegistry) -> None:
    """Trap: gcrane lists the images of tagged indexes, whose deletion breaks them; and what is attached to an image in
    use is in use, at any depth.
    """
    fill(google)
    inner = sample(index("inner"))
    put(google, "app", inner)
    nested = sample(index("outer"))
    entries = [{"mediaType": media.OCI_INDEX, "digest": str(inner.digest), "size": inner.manifest.size}]
    root = reserialised(nested.manifest, {**nested.manifest.fields(), "manifests": entries})
    put(google, "app", Sample((root,), {}), "1")
    signature = attach(google, "app", inner.manifests[0].digest, "signature")
    attach(google, "app", signature, "of the signature")
    lost = put(google, "app", B)
    about_lost = attach(google, "app", B.digest, "about the lost")
    assert await wasted(google, "app") == sorted(
        [lost, f"{google.address}/app@{about_lost!s}"], key=(await wasted(google, "app")).index
    )
    assert google.requests(method="DELETE") == []


async def test_garbage_of_a_whole_tree(google: FaultyRegistry) -> None:
    fill(google)
    put(google, "team", C)
    assert await wasted(google, "team", recursive=True) == [
        f"{google.address}/team@{C.digest!s}",
        f"{google.address}/team/app/deep@{B.digest!s}",
    ]
    assert await wasted(google, "team") == [f"{google.address}/team@{C.digest!s}"]


async def test_without_anything_untagged_no_manifest_is_read(google: FaultyRegistry) -> None:
    put(google, "app", A, "1")
    assert await wasted(google, "app") == []
    assert google.requests(kind="manifest-get") == []


async def test_a_repository_that_cannot_be_read_is_not_without_garbage(google: FaultyRegistry) -> None:
    fill(google)
    put(google, "team", C)
    google.faults.add(status(500, kind="manifest-get", path=str(C.digest)))
    with pytest.raises(JobsFailed, match="1 repositories could not be read"):
        await wasted(google, "team", recursive=True)


@pytest.mark.parametrize("recursive", [True, False])
async def test_elsewhere_nobody_can_tell_what_is_garbage(source: FaultyRegistry, *, recursive: bool) -> None:
    """Trap: gcrane prints nothing, as if all were in use."""
    fill(source)
    with pytest.raises(RegistryError, match="does not tell which manifests of team have no tag"):
        await wasted(source, "team", recursive=recursive)


def test_use_is_followed_in_circles_to_its_end() -> None:
    one = reserialised(A.manifest, {**A.manifest.fields(), "subject": {"digest": str(B.digest), "size": 1}})
    assert in_use([B.digest], [one, B.manifest]) == {B.digest, one.digest}
    assert in_use([one.digest], [one, B.manifest]) == {one.digest}
    assert in_use([], [one, B.manifest]) == set()
