"""What is attached to a manifest is found, and made known, with and without the referrers API."""

from __future__ import annotations

import json

import anyio
import pytest

from asyncrane.errors import AsyncraneError, UnsupportedManifest
from asyncrane.oci import media
from asyncrane.oci.digest import Digest
from asyncrane.oci.manifest import Manifest
from asyncrane.registry.referrers import fallback_tag
from asyncrane.server import Call, Handler, Reply
from asyncrane.testing import FaultyRegistry, fault, no_referrers, redirect, set_headers, status
from asyncrane.testing.images import random_image
from tests.registry.conftest import Open

EMPTY = b"{}"
SUBJECT = random_image("subject").manifest


def attached(number: int, kind: str = "application/vnd.test.signature") -> Manifest:
    empty = {"mediaType": media.OCI_EMPTY, "digest": Digest.of(EMPTY), "size": len(EMPTY)}
    subject = {"mediaType": SUBJECT.media_type, "digest": SUBJECT.digest, "size": SUBJECT.size}
    fields = {
        "schemaVersion": 2,
        "mediaType": media.OCI_MANIFEST,
        "artifactType": kind,
        "config": empty,
        "layers": [empty],
        "subject": subject,
        "annotations": {"number": str(number)},
    }
    return Manifest.read(json.dumps(fields).encode())


@pytest.fixture(autouse=True)
def blobs(registry: FaultyRegistry) -> None:
    registry.put_blob("app", EMPTY)


async def test_a_fallback_tag_is_made_of_the_digest() -> None:
    assert fallback_tag(SUBJECT.digest) == f"sha256-{SUBJECT.digest.hex}"
    long = Digest.of(b"", "sha512")
    assert fallback_tag(long) == f"sha512-{long.hex[:64]}"


async def test_the_api_is_asked_once_and_filtered_here(registry: FaultyRegistry, remote: Open) -> None:
    """With paging; a push to it costs one request, the first one a question more: ECR says OCI-Subject without API."""
    repository = await remote()
    for number in range(3):
        await repository.publish(attached(number))
    await repository.publish(attached(3, "application/vnd.test.sbom"))
    assert registry.log.counts() == {"ping": 1, "manifest-put": 4, "referrers": 1}
    found = await repository.referrers(SUBJECT.digest)
    assert {d.digest for d in found} == {attached(n).digest for n in range(3)} | {
        attached(3, "application/vnd.test.sbom").digest
    }
    only = await repository.referrers(SUBJECT.digest, artifact_type="application/vnd.test.sbom")
    assert [d.annotations["number"] for d in only] == ["3"]
    assert len(registry.requests(kind="referrers")) == 3
    assert registry.requests(kind="manifest-get") == []


async def test_pages_of_referrers_are_followed(remote: Open) -> None:
    async with FaultyRegistry(page=2) as registry:
        registry.put_blob("app", EMPTY)
        repository = await remote(of=registry)
        for number in range(5):
            await repository.publish(attached(number))
        assert len(await repository.referrers(SUBJECT.digest)) == 5


@pytest.mark.parametrize("code", [400, 404, 405, 406])
async def test_without_the_api_there_is_a_tag(registry: FaultyRegistry, remote: Open, code: int) -> None:
    """F3: a clean "no such thing" leads to the fallback tag, and is remembered."""
    registry.faults.add(no_referrers(code))
    repository = await remote()
    assert await repository.referrers(SUBJECT.digest) == ()
    await repository.publish(attached(1))
    found = await repository.referrers(SUBJECT.digest)
    assert [d.digest for d in found] == [attached(1).digest]
    assert (found[0].artifact_type, found[0].annotations) == ("application/vnd.test.signature", {"number": "1"})
    assert await repository.referrers(SUBJECT.digest, artifact_type="other") == ()
    assert len(registry.requests(kind="referrers")) == 1


async def test_a_web_page_is_not_an_answer(registry: FaultyRegistry, remote: Open) -> None:
    """F3: GHCR redirects to HTML."""

    async def page(call: Call, handler: Handler) -> Reply:
        return Reply(200, {"Content-Type": "text/html"}, b"<html>")

    registry.faults.add(
        redirect("/packages", code=303, kind="referrers"), fault("page", page, path="/packages", kind="other")
    )
    repository = await remote()
    assert await repository.referrers(SUBJECT.digest) == ()
    assert repository.origin.capabilities.referrers is False


@pytest.mark.parametrize("code", [401, 403, 429, 500, 503])
async def test_trouble_is_not_an_answer(registry: FaultyRegistry, remote: Open, code: int) -> None:
    """F3: it is an error, never "no signatures"."""
    registry.faults.add(status(code, kind="referrers"))
    with pytest.raises(AsyncraneError):
        await (await remote(retries=1)).referrers(SUBJECT.digest)


async def test_an_index_that_is_called_json_is_an_answer(registry: FaultyRegistry, remote: Open) -> None:
    """F3: else what the API lists would be taken for nothing."""
    registry.faults.add(set_headers({"Content-Type": "application/json; charset=utf-8"}, kind="referrers"))
    repository = await remote()
    await repository.publish(attached(1))
    assert [d.digest for d in await repository.referrers(SUBJECT.digest)] == [attached(1).digest]


@pytest.mark.parametrize("body", [b'{"message": "not found"}', b"not json", b"[]"])
async def test_any_other_json_is_not_an_answer(registry: FaultyRegistry, remote: Open, body: bytes) -> None:
    """F3: the fallback tag counts."""
    registry.faults.add(status(200, headers={"Content-Type": "application/json"}, body=body, kind="referrers"))
    repository = await remote()
    assert await repository.referrers(SUBJECT.digest) == ()
    assert repository.origin.capabilities.referrers is False


@pytest.mark.parametrize("code", ["NAME_UNKNOWN", "MANIFEST_UNKNOWN"])
async def test_an_unknown_repository_or_subject_says_nothing_about_the_api(
    registry: FaultyRegistry, remote: Open, code: str
) -> None:
    registry.faults.add(status(404, error=code, kind="referrers", times=1))
    repository = await remote("new")
    assert await repository.referrers(SUBJECT.digest) == ()
    assert repository.origin.capabilities.referrers is None


async def test_a_registry_that_has_the_api_does_not_lose_it(registry: FaultyRegistry, remote: Open) -> None:
    """F3: one odd answer does not hide what is attached to all other images."""
    registry.faults.add(status(404, kind="referrers", nth=2))
    repository = await remote()
    await repository.publish(attached(1))
    for _ in range(3):
        found = await repository.referrers(SUBJECT.digest)
    assert [d.digest for d in found] == [attached(1).digest]


async def test_many_writers_of_one_tag_lose_nothing(registry: FaultyRegistry, remote: Open) -> None:
    """F4: 20 at once are all there, and share their writes."""
    registry.faults.add(no_referrers())
    repository, manifests = await remote(), [attached(number) for number in range(20)]
    async with anyio.create_task_group() as tasks:
        for manifest in manifests:
            tasks.start_soon(repository.publish, manifest)
    found = await repository.referrers(SUBJECT.digest)
    assert {d.digest for d in found} == {m.digest for m in manifests}
    writes = [r for r in registry.requests(kind="manifest-put") if r.path.endswith(fallback_tag(SUBJECT.digest))]
    assert len(writes) < 20


async def test_a_write_between_ours_is_kept(registry: FaultyRegistry, remote: Open) -> None:
    """F4: another process replaces the index after our write; it is read again and merged."""
    registry.faults.add(no_referrers())
    tag, theirs = fallback_tag(SUBJECT.digest), attached(100)
    index = {
        "schemaVersion": 2,
        "mediaType": media.OCI_INDEX,
        "manifests": [{"mediaType": theirs.media_type, "digest": theirs.digest, "size": theirs.size}],
        "annotations": {"kept": "yes"},
    }

    async def overwritten(call: Call, handler: Handler) -> Reply:
        reply = await handler(call)
        registry.put_manifest("app", Manifest.read(json.dumps(index).encode()), tag)
        return reply

    registry.put_manifest("app", theirs)
    registry.faults.add(fault("overwritten", overwritten, kind="manifest-put", path=tag, times=1))
    repository = await remote()
    await repository.publish(attached(1))
    assert {d.digest for d in await repository.referrers(SUBJECT.digest)} == {theirs.digest, attached(1).digest}
    stored = registry.get_manifest("app", tag)
    assert stored is not None
    assert stored.annotations == {"kept": "yes"}


async def test_publishing_again_changes_nothing(registry: FaultyRegistry, remote: Open) -> None:
    """F5: three runs leave the index byte for byte the same."""
    registry.faults.add(no_referrers())
    repository, seen = await remote(), set()
    for _ in range(3):
        for number in range(3):
            await repository.publish(attached(number))
        stored = registry.get_manifest("app", fallback_tag(SUBJECT.digest))
        assert stored is not None
        seen.add(stored.body)
    assert len(seen) == 1


async def test_a_tag_that_is_something_else_is_not_overwritten(registry: FaultyRegistry, remote: Open) -> None:
    registry.faults.add(no_referrers())
    registry.put_manifest("app", SUBJECT, fallback_tag(SUBJECT.digest))
    with pytest.raises(UnsupportedManifest):
        await (await remote()).publish(attached(1))
