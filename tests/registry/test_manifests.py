"""Manifests are checked when they come and compared when they go; a lookup takes one HEAD."""

from __future__ import annotations

import pytest

from asyncrane.errors import Denied, DigestMismatch, NotFound, RegistryError
from asyncrane.oci import media
from asyncrane.server import Call, Handler, Reply
from asyncrane.testing import FaultyRegistry, fault, lose_answer, set_headers, status, wrong_digest_header
from asyncrane.testing.images import random_image
from tests.registry.conftest import Open

IMAGE = random_image("manifests").manifest


async def test_a_lookup_takes_one_head(registry: FaultyRegistry, remote: Open) -> None:
    """A2: also at a destination, and also when there is nothing."""
    registry.put_manifest("app", IMAGE, "1")
    repository = await remote()
    for identifier in ("1", IMAGE.digest):
        assert await repository.resolve(identifier) == IMAGE.descriptor
        assert await repository.probe(identifier) == IMAGE.descriptor
    assert await repository.probe("2") is None
    with pytest.raises(NotFound):
        await repository.resolve("2")
    assert [r.method for r in registry.log if r.kind != "ping"] == ["HEAD"] * 6
    assert all(media.OCI_INDEX in r.headers["Accept"] for r in registry.requests(kind="manifest-head"))


@pytest.mark.parametrize("missing", [{"Docker-Content-Digest": None}, {"Content-Type": None}])
async def test_a_head_that_says_too_little_is_a_get(
    registry: FaultyRegistry, remote: Open, missing: dict[str, str | None]
) -> None:
    registry.put_manifest("app", IMAGE, "1")
    registry.faults.add(set_headers(missing, kind="manifest-head"), status(405, kind="manifest-head", nth=2))
    repository = await remote()
    for _ in range(2):
        assert await repository.resolve("1") == IMAGE.descriptor
    assert len(registry.requests(kind="manifest-get")) == 2


async def test_a_head_that_lies_about_a_digest_is_a_get(registry: FaultyRegistry, remote: Open) -> None:
    registry.put_manifest("app", IMAGE, "1")
    registry.faults.add(wrong_digest_header(kind="manifest-head"))
    assert await (await remote()).resolve(IMAGE.digest) == IMAGE.descriptor


async def test_what_comes_is_digested_here(registry: FaultyRegistry, remote: Open) -> None:
    """The header of a GET is often wrong, the bytes are not."""
    registry.put_manifest("app", IMAGE, "1")
    registry.faults.add(wrong_digest_header(kind="manifest-get"))
    found = await (await remote()).manifest("1")
    assert (found.body, found.digest, found.media_type) == (IMAGE.body, IMAGE.digest, IMAGE.media_type)


async def test_other_bytes_than_the_digest_are_an_error(registry: FaultyRegistry, remote: Open) -> None:
    async def other(call: Call, handler: Handler) -> Reply:
        return Reply(200, {"Content-Type": IMAGE.media_type}, random_image("other").manifest.body)

    registry.faults.add(fault("other", other, kind="manifest-get"))
    with pytest.raises(DigestMismatch):
        await (await remote()).manifest(IMAGE.digest)


async def test_forbidden_counts_as_absent_at_a_destination(registry: FaultyRegistry, remote: Open) -> None:
    """Artifactory says 403 for what is not there; a source says so aloud."""
    registry.faults.add(status(403, error="DENIED", kind="manifest-head"))
    repository = await remote()
    assert await repository.probe("1") is None
    with pytest.raises(Denied):
        await repository.resolve("1")


async def test_the_exact_bytes_are_pushed(registry: FaultyRegistry, remote: Open) -> None:
    """G1: under the tag, with the type they have; one request."""
    sample, repository = random_image("pushed"), await remote()
    for data in sample.blobs.values():
        registry.put_blob("app", data)
    await repository.publish(sample.manifest, "1")
    await repository.publish(sample.manifest)
    for identifier in ("1", sample.digest):
        stored = registry.get_manifest("app", identifier)
        assert stored is not None
        assert stored.body == sample.manifest.body
    puts = registry.requests(kind="manifest-put")
    assert [put.headers["Content-Type"] for put in puts] == [sample.manifest.media_type] * 2
    assert len([r for r in registry.log if r.kind != "ping"]) == 2


async def test_a_registry_that_stored_something_else_is_an_error(registry: FaultyRegistry, remote: Open) -> None:
    """G1."""
    sample = random_image("pushed")
    for data in sample.blobs.values():
        registry.put_blob("app", data)
    registry.faults.add(wrong_digest_header(kind="manifest-put"))
    with pytest.raises(DigestMismatch):
        await (await remote()).publish(sample.manifest, "1")


async def test_an_immutable_tag_that_is_right_already_is_no_error(registry: FaultyRegistry, remote: Open) -> None:
    """G5: the answer to the first PUT was lost, the second is refused; ECR refuses even the same digest."""
    sample, repository = random_image("pushed"), await remote()
    for data in sample.blobs.values():
        registry.put_blob("app", data)
    registry.faults.add(
        lose_answer(kind="manifest-put", times=1), status(400, error="TAG_INVALID", kind="manifest-put", after=1)
    )
    await repository.publish(sample.manifest, "1")
    with pytest.raises(RegistryError):
        await repository.publish(sample.manifest, "2")


async def test_a_tag_and_a_digest_are_deleted_as_they_are_named(registry: FaultyRegistry, remote: Open) -> None:
    """K9: a tag that cannot be deleted is an error, never the end of its manifest."""
    registry.put_manifest("app", IMAGE, "1", "2")
    repository = await remote()
    await repository.delete("1")
    assert registry.get_manifest("app", "2") is not None
    registry.faults.add(status(405, error="UNSUPPORTED", kind="manifest-delete", times=1))
    with pytest.raises(RegistryError):
        await repository.delete("2")
    assert registry.get_manifest("app", "2") is not None
    await repository.delete(IMAGE.digest)
    assert registry.get_manifest("app", "2") is None
    with pytest.raises(NotFound):
        await repository.delete(IMAGE.digest)
