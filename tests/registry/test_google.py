"""Listings of Google's registries: children, manifests with sizes and times, tags."""

from __future__ import annotations

import json
from collections.abc import AsyncIterator
from datetime import UTC, datetime
from typing import Any

import pytest

from asyncrane.errors import AsyncraneError, NotFound, RegistryError
from asyncrane.oci import media
from asyncrane.oci.digest import Digest
from asyncrane.oci.manifest import Manifest
from asyncrane.registry import google, listing
from asyncrane.server import Call, Handler, Reply
from asyncrane.testing import FaultyRegistry, fault
from asyncrane.testing.images import random_index
from tests.registry.conftest import Open

DIGEST = Digest.of(b"one")
OTHER = Digest.of(b"two")


@pytest.fixture
async def registry() -> AsyncIterator[FaultyRegistry]:
    async with FaultyRegistry(google=True) as registry:
        yield registry


def answer(registry: FaultyRegistry, *bodies: object) -> None:
    """One page after the other, each with a link to the next."""

    async def effect(call: Call, handler: Handler) -> Reply:
        at = int(call.ask("page") or 0)
        more = {"Link": f'</v2/app/tags/list?page={at + 1}>; rel="next"'} if at + 1 < len(bodies) else {}
        return Reply.of_json(bodies[at], headers=more)

    registry.faults.add(fault("pages", effect, kind="tags"))


def put_image(registry: FaultyRegistry, repository: str, created: str, *tags: str) -> Digest:
    """An image with one layer of 5,000 bytes, and a config that says when it was made."""
    config = json.dumps({"os": "linux", "architecture": "amd64", "created": created}).encode()
    layer = created.encode() * 250
    for content in (config, layer):
        registry.put_blob(repository, content)
    fields = {
        "schemaVersion": 2,
        "mediaType": media.OCI_MANIFEST,
        "config": {"mediaType": media.OCI_CONFIG, "digest": str(Digest.of(config)), "size": len(config)},
        "layers": [{"mediaType": media.OCI_LAYER, "digest": str(Digest.of(layer)), "size": len(layer)}],
    }
    return registry.put_manifest(repository, Manifest.read(json.dumps(fields).encode()), *tags)


async def test_a_listing_tells_children_manifests_and_tags(registry: FaultyRegistry, remote: Open) -> None:
    old = put_image(registry, "project/app", "2020-01-02T03:04:05Z", "v1", "stable")
    untagged = put_image(registry, "project/app", "2021-01-01T00:00:00+02:00")
    index = random_index("multi")
    for manifest in index.manifests:
        registry.put_manifest("project/app/multi", manifest)
    registry.put_manifest("project/app/other/deep", index.manifests[0], "x")
    found = await google.listing((await remote("project/app")).origin, "project/app")
    assert (found.children, found.tags, found.extended, found.holds_images) == (
        ("multi", "other"),
        ("stable", "v1"),
        True,
        True,
    )
    manifests = {manifest.digest: manifest for manifest in found.manifests}
    assert manifests.keys() == {old, untagged}
    assert manifests[old].tags == ("stable", "v1")
    assert manifests[old].media_type == media.OCI_MANIFEST
    assert manifests[old].size > 5000
    assert manifests[old].created == datetime(2020, 1, 2, 3, 4, 5, tzinfo=UTC)
    assert (manifests[untagged].tags, manifests[untagged].uploaded) == ((), None)
    assert manifests[untagged].created == datetime(2020, 12, 31, 22, tzinfo=UTC)


async def test_a_part_of_a_name_has_children_and_no_images(registry: FaultyRegistry, remote: Open) -> None:
    put_image(registry, "project/team/app", "2020-01-01T00:00:00Z", "v1")
    origin = (await remote()).origin
    found = await google.listing(origin, "project")
    assert (found.children, found.holds_images, found.extended) == (("team",), False, True)
    with pytest.raises(NotFound):
        await google.listing(origin, "project/nothing")


async def test_sizes_and_times_are_decimal_strings(registry: FaultyRegistry, remote: Open) -> None:
    """As gcr.io writes them; an image of the year 1 is a reproducible one."""
    said = {
        "imageSizeBytes": "98765432109",
        "layerId": "",
        "mediaType": media.DOCKER_MANIFEST,
        "tag": ["latest", None],
        "timeCreatedMs": "1577934245678",
        "timeUploadedMs": "1577934300000",
    }
    body = {
        "name": "app",
        "child": [],
        "manifest": {str(DIGEST): said, str(OTHER): {"timeCreatedMs": "-62135596800000"}},
    }
    answer(registry, body)
    found = await google.listing((await remote()).origin, "app")
    assert found.manifests == (
        google.Listed(
            digest=DIGEST,
            tags=("latest",),
            media_type=media.DOCKER_MANIFEST,
            size=98765432109,
            created=datetime(2020, 1, 2, 3, 4, 5, 678000, tzinfo=UTC),
            uploaded=datetime(2020, 1, 2, 3, 5, tzinfo=UTC),
        ),
        google.Listed(digest=OTHER, created=datetime(1, 1, 1, tzinfo=UTC)),
    )


async def test_pages_of_a_listing_are_put_together(registry: FaultyRegistry, remote: Open) -> None:
    """H4: whatever the pages are cut by."""
    one, two = {"tag": ["a"], "imageSizeBytes": "7"}, {"tag": ["b"], "imageSizeBytes": "7"}
    answer(
        registry,
        {"child": ["x", "y"], "manifest": {str(DIGEST): one}, "tags": ["a"]},
        {"child": ["y", "z"], "manifest": {str(DIGEST): two, str(OTHER): {}}, "tags": ["b"]},
        {"tags": ["c"]},
    )
    found = await google.listing((await remote()).origin, "app")
    assert (found.children, found.tags) == (("x", "y", "z"), ("a", "b", "c"))
    assert [(manifest.digest, manifest.tags) for manifest in found.manifests] == [(DIGEST, ("a", "b")), (OTHER, ())]


async def test_pages_that_go_in_circles_are_an_error(registry: FaultyRegistry, remote: Open) -> None:
    """H4."""

    async def effect(call: Call, handler: Handler) -> Reply:
        at = int(call.ask("page") or 0)
        headers = {"Link": f'</v2/app/tags/list?page={at + 1}>; rel="next"'}
        return Reply.of_json({"child": [f"x{at % 2}"]}, headers=headers)

    registry.faults.add(fault("circle", effect, kind="tags"))
    with pytest.raises(RegistryError, match="sent before"):
        await google.listing((await remote()).origin, "app")
    assert len(registry.requests(kind="tags")) == 3


async def test_a_plain_registry_tells_its_tags(remote: Open) -> None:
    async with FaultyRegistry() as plain:
        put_image(plain, "app", "2020-01-01T00:00:00Z", "v1")
        found = await google.listing((await remote(of=plain)).origin, "app")
    assert found == google.Listing(tags=("v1",))


@pytest.mark.parametrize(
    "body",
    [
        {"child": "x"},
        {"manifest": ["x"]},
        {"tags": {}},
        {"manifest": {"sha256:nonsense": {}}},
        {"manifest": {str(DIGEST): "x"}},
        {"manifest": {str(DIGEST): {"imageSizeBytes": "many"}}},
        {"manifest": {str(DIGEST): {"imageSizeBytes": True}}},
        {"manifest": {str(DIGEST): {"timeCreatedMs": "9" * 30}}},
    ],
)
async def test_what_makes_no_sense_is_an_error(registry: FaultyRegistry, remote: Open, body: dict[str, Any]) -> None:
    answer(registry, body)
    with pytest.raises(AsyncraneError):
        await google.listing((await remote()).origin, "app")


@pytest.mark.parametrize(
    ("registry_name", "expected"),
    [
        ("gcr.io", True),
        ("eu.gcr.io", True),
        ("europe-docker.pkg.dev", True),
        ("europe-docker.pkg.dev:443", True),
        ("mirror.google.com", True),
        ("notgcr.io", False),
        ("gcr.io.example.com", False),
        ("pkg.dev", False),
        ("localhost:5000", False),
    ],
)
def test_googles_hosts(registry_name: str, expected: bool) -> None:
    assert google.is_google(registry_name) is expected


async def test_the_embedded_registry_refuses_what_googles_refuse(registry: FaultyRegistry, remote: Open) -> None:
    """No catalog, and a manifest goes only after its tags."""
    digest = put_image(registry, "app", "2020-01-01T00:00:00Z", "v1")
    repository = await remote()
    with pytest.raises(RegistryError):
        _ = [name async for name in listing.catalog(repository.origin)]
    with pytest.raises(RegistryError) as refused:
        await repository.delete(str(digest))
    assert refused.value.codes == ("GOOGLE_MANIFEST_DANGLING_TAG",)
    await repository.delete("v1")
    await repository.delete(str(digest))
    assert registry.get_manifest("app", str(digest)) is None
