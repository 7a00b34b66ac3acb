"""A portal, a login or a proxy that answers 200 with a web page in the registry's place is not taken for it."""

from __future__ import annotations

import pytest

from asyncrane.errors import ServerFault
from asyncrane.registry import blobs
from asyncrane.testing import Fault, FaultyRegistry, refuse_mount, set_headers, status
from asyncrane.testing.images import random_image
from tests.registry.conftest import MIB, Blob, Open

IMAGE = random_image("page", layers=()).manifest
HTML = {"Content-Type": "text/html; charset=utf-8"}


def page(kind: str, times: int = 99) -> Fault:
    return status(200, headers=HTML, body=b"<!doctype html><title>Welcome</title>", kind=kind, times=times)


async def test_a_manifest_is_not_taken_for_stored(registry: FaultyRegistry, remote: Open) -> None:
    registry.put_blob("app", random_image("page", layers=()).blobs[IMAGE.blobs()[0].digest])
    registry.faults.add(page("manifest-put", times=3))
    with pytest.raises(ServerFault, match="200 OK: a web page instead of an answer"):
        await (await remote(retries=1)).publish(IMAGE, "v1")
    await (await remote()).publish(IMAGE, "v1")
    assert registry.get_manifest("app", "v1") == IMAGE
    assert [r.status for r in registry.requests(kind="manifest-put")] == [200, 200, 200, 201]


@pytest.mark.parametrize("size", [1000, 2 * MIB])
async def test_a_blob_is_sent_again(registry: FaultyRegistry, remote: Open, size: int) -> None:
    blob = Blob(size)
    registry.faults.add(page("upload-put", times=1))
    assert await (await remote()).put(blob.descriptor, blob.read)
    assert registry.get_blob("app", blob.digest) == blob.data


@pytest.mark.parametrize("code", [404, 405, 500])
async def test_a_refusal_may_be_a_page(registry: FaultyRegistry, remote: Open, code: int) -> None:
    """By a proxy that lets no mounts through: the upload is begun without."""
    blob = Blob(1000)
    registry.faults.add(status(code, headers=HTML, body=b"<h1>No</h1>", kind="mount"))
    assert await (await remote()).put(blob.descriptor, blob.read)
    assert registry.get_blob("app", blob.digest) == blob.data
    assert len(registry.requests(kind="mount")) == 1


async def test_a_blob_is_not_taken_for_there(registry: FaultyRegistry, remote: Open) -> None:
    """By a registry that mounts nothing, and so is asked with HEAD."""
    blob = Blob(1000)
    registry.faults.add(refuse_mount(405), page("blob-head"))
    assert await (await remote()).put(blob.descriptor, blob.read)
    assert registry.get_blob("app", blob.digest) == blob.data


async def test_what_names_the_digest_is_no_page(registry: FaultyRegistry, remote: Open) -> None:
    """Whatever a registry calls a blob."""
    registry.put_blob("app", b"<p>an artifact</p>")
    registry.put_manifest("app", IMAGE, "v1")
    registry.faults.add(set_headers(HTML, kind=("blob-head", "blob-get")))
    repository = await remote()
    blob = Blob(0).descriptor.digest.of(b"<p>an artifact</p>")
    assert await blobs.exists(repository._origin, "app", blob)


async def test_a_manifest_is_not_taken_for_there(registry: FaultyRegistry, remote: Open) -> None:
    """Also when it was asked for by digest, which the page then need not name."""
    registry.faults.add(page("manifest-head"))
    assert await (await remote()).probe(IMAGE.digest) is None


async def test_no_content_may_be_called_html(registry: FaultyRegistry, remote: Open) -> None:
    """Web frameworks call an empty body so."""
    blob = Blob(1000)
    registry.faults.add(set_headers(HTML, kind=("mount", "upload-put", "manifest-put")))
    repository = await remote()
    assert await repository.put(blob.descriptor, blob.read)
    registry.put_blob("app", random_image("page", layers=()).blobs[IMAGE.blobs()[0].digest])
    await repository.publish(IMAGE, "v1")
    assert len(registry.requests(kind="upload-put")) == len(registry.requests(kind="manifest-put")) == 1
