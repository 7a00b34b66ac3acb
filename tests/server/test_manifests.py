"""Manifests, tags and subjects (distribution-spec, "Pushing Manifests", "Content Management")."""

from __future__ import annotations

import base64
import json
from typing import Any

import pytest

from asyncrane.oci import media
from asyncrane.oci.digest import Digest
from asyncrane.server import Storage
from tests.server.client import Client, described

MISSING = described(b"nobody has this", media.OCI_LAYER)


async def test_a_manifest_comes_back_byte_for_byte_by_tag_and_digest(client: Client) -> None:
    """G1: spaces, order and line ends are the pusher's."""
    fields = await client.image("a/b")
    body = json.dumps(fields, indent=5).encode() + b"\r\n "
    digest = Digest.of(body)
    put = await client.put_manifest("a/b", "v1", body, media.OCI_MANIFEST)
    assert (put.status, put.headers["Docker-Content-Digest"]) == (201, digest)
    assert put.headers["Location"] == f"/v2/a/b/manifests/{digest}"
    for identifier in ("v1", digest, digest.replace(":", "%3A")):
        for method in ("GET", "HEAD"):
            answer = await client.ask(method, f"/v2/a/b/manifests/{identifier}")
            assert answer.status == 200
            assert answer.body == (body if method == "GET" else b"")
            assert answer.headers["Content-Type"] == media.OCI_MANIFEST
            assert answer.headers["Content-Length"] == str(len(body))
            assert answer.headers["Docker-Content-Digest"] == digest


@pytest.mark.parametrize("algorithm", ["sha256", "sha512"])
async def test_a_manifest_is_pushed_by_digest(client: Client, algorithm: str) -> None:
    digest = await client.push_manifest("a/b", await client.image("a/b"), algorithm=algorithm)
    assert Digest.of((await client.ask("GET", f"/v2/a/b/manifests/{digest}")).body, algorithm) == digest


async def test_a_manifest_with_another_digest_is_refused(client: Client) -> None:
    body = json.dumps(await client.image("a/b")).encode()
    answer = await client.put_manifest("a/b", Digest.of(b"other"), body, media.OCI_MANIFEST)
    assert (answer.status, answer.code) == (400, "DIGEST_INVALID")


@pytest.mark.parametrize(
    ("image", "index"), [(media.OCI_MANIFEST, media.OCI_INDEX), (media.DOCKER_MANIFEST, media.DOCKER_LIST)]
)
async def test_an_index_of_indexes_is_pushed_child_by_child(client: Client, image: str, index: str) -> None:
    fields = await client.image("a/b") | {"mediaType": image}
    kind = image
    for depth in range(3):
        digest = await client.push_manifest("a/b", fields)
        child = {"mediaType": kind, "digest": digest, "size": len(json.dumps(fields))}
        fields = {"schemaVersion": 2, "mediaType": index, "manifests": [child], "annotations": {"depth": str(depth)}}
        kind = index
    digest = await client.push_manifest("a/b", fields, tag="nested")
    answer = await client.ask("GET", "/v2/a/b/manifests/nested")
    assert (answer.headers["Docker-Content-Digest"], answer.headers["Content-Type"]) == (digest, index)


async def test_signed_schema_1_is_known_by_the_digest_of_its_payload(client: Client) -> None:
    layer = await client.push_blob("a/b", b"layer")
    payload = json.dumps({"schemaVersion": 1, "fsLayers": [{"blobSum": layer}]}, indent=3).encode()
    length = len(payload) - 2
    protected = _base64url(json.dumps({"formatLength": length, "formatTail": _base64url(payload[length:])}).encode())
    signature = json.dumps([{"protected": protected, "signature": "x"}]).encode()
    body = payload[:length] + b', "signatures": ' + signature + payload[length:]
    answer = await client.put_manifest("a/b", "old", body, media.DOCKER_SCHEMA1_SIGNED)
    assert (answer.status, answer.headers["Docker-Content-Digest"]) == (201, Digest.of(payload))
    assert (await client.ask("GET", "/v2/a/b/manifests/old")).body == body


@pytest.mark.parametrize("part", ["config", "layers", "manifests"])
async def test_what_a_manifest_is_made_of_must_be_there(client: Client, storage: Storage, part: str) -> None:
    fields: dict[str, Any] = await client.image("a/b")
    if part == "manifests":
        fields = {"schemaVersion": 2, "mediaType": media.OCI_INDEX, "manifests": [MISSING]}
    else:
        fields[part] = MISSING if part == "config" else [MISSING]
    answer = await client.put_manifest("a/b", "v1", json.dumps(fields).encode(), fields["mediaType"])
    assert (answer.status, answer.code) == (404, "MANIFEST_BLOB_UNKNOWN")
    assert answer.json["errors"][0]["detail"] == {"digest": MISSING["digest"]}
    assert storage.index.tags("a/b") == []


async def test_blobs_of_another_repository_do_not_count(client: Client) -> None:
    body = json.dumps(await client.image("a/b")).encode()
    answer = await client.put_manifest("c/d", "v1", body, media.OCI_MANIFEST)
    assert (answer.status, answer.code) == (404, "MANIFEST_BLOB_UNKNOWN")


async def test_a_wrong_size_is_refused(client: Client) -> None:
    fields = await client.image("a/b")
    fields["layers"][0]["size"] += 1
    answer = await client.put_manifest("a/b", "v1", json.dumps(fields).encode(), media.OCI_MANIFEST)
    assert (answer.status, answer.code) == (400, "SIZE_INVALID")


async def test_layers_that_are_elsewhere_need_not_be_there(client: Client) -> None:
    foreign = [MISSING | {"mediaType": media.DOCKER_FOREIGN_LAYER}, MISSING | {"urls": ["https://example.com/layer"]}]
    await client.push_image("a/b", tag="windows", layers=foreign)


@pytest.mark.parametrize(
    ("body", "content_type"),
    [
        (b"", media.OCI_MANIFEST),
        (b"{", media.OCI_MANIFEST),
        (b"[]", media.OCI_MANIFEST),
        (b"\xff\xfe", media.OCI_MANIFEST),
        (b"[" * 100_000, media.OCI_MANIFEST),
        (b'{"mediaType": 3}', media.OCI_MANIFEST),
        (b'{"layers": [], "manifests": []}', media.OCI_INDEX),
        (b'{"layers": [{"digest": "../../etc/passwd", "size": 1}]}', media.OCI_MANIFEST),
        (b'{"layers": [], "config": {"digest": "sha256:0", "size": -1}}', media.OCI_MANIFEST),
        (b'{"layers": [], "subject": {"digest": "sha256:0", "size": 1}}', media.OCI_MANIFEST),
        (b'{"hello": "world"}', "application/json"),
        (json.dumps({"mediaType": media.OCI_INDEX, "manifests": []}).encode(), media.DOCKER_LIST),
        (json.dumps({"mediaType": media.OCI_INDEX, "manifests": []}).encode(), "text/plain"),
    ],
)
async def test_what_is_no_manifest_is_refused(client: Client, storage: Storage, body: bytes, content_type: str) -> None:
    answer = await client.put_manifest("a/b", "v1", body, content_type)
    assert (answer.status, answer.code) == (400, "MANIFEST_INVALID")
    assert not storage.index.has("a/b")


async def test_a_manifest_of_more_than_4_mib_is_refused(client: Client) -> None:
    fields = await client.image("a/b")
    for padding, status in ((4 * 1024 * 1024, 413), (4 * 1024 * 1024 - 4096, 201)):
        body = json.dumps(fields | {"annotations": {"padding": "x" * padding}})

        async def pieces(text: str = body) -> Any:
            yield text.encode()

        target, headers = "/v2/a/b/manifests/big", {"Content-Type": media.OCI_MANIFEST}
        for stated in ({"Content-Length": str(len(body))}, {}):
            answer = await client.ask("PUT", target, data=pieces(), headers=headers | stated)
            assert answer.status == status, answer
    assert (await client.ask("HEAD", target)).headers["Content-Length"] == str(len(body))


async def test_an_unchanged_manifest_is_not_sent_again(client: Client) -> None:
    await client.push_image("a/b", tag="v1")
    first = await client.ask("GET", "/v2/a/b/manifests/v1")
    again = await client.ask("GET", "/v2/a/b/manifests/v1", headers={"If-None-Match": first.headers["ETag"]})
    assert (again.status, again.body) == (304, b"")


async def test_a_tag_moves_and_the_old_manifest_stays(client: Client) -> None:
    old = await client.push_image("a/b", tag="v1", seed="old")
    new = await client.push_image("a/b", tag="v1", seed="new")
    assert (await client.ask("HEAD", "/v2/a/b/manifests/v1")).headers["Docker-Content-Digest"] == new
    assert (await client.ask("HEAD", f"/v2/a/b/manifests/{old}")).status == 200


async def test_a_push_by_digest_can_name_tags(client: Client) -> None:
    body = json.dumps(await client.image("a/b")).encode()
    digest = Digest.of(body)
    answer = await client.put_manifest("a/b", f"{digest}?tag=one&tag=two", body, media.OCI_MANIFEST)
    assert (answer.status, answer.headers["OCI-Tag"]) == (201, "one, two")
    assert (await client.ask("HEAD", "/v2/a/b/manifests/two")).headers["Docker-Content-Digest"] == digest
    answer = await client.put_manifest("a/b", f"{digest}?tag=-", body, media.OCI_MANIFEST)
    assert (answer.status, answer.code) == (400, "TAG_INVALID")


async def test_deleting_a_tag_leaves_the_manifest_and_other_tags(client: Client) -> None:
    digest = await client.push_image("a/b", tag="one")
    await client.push_image("a/b", tag="two")
    assert (await client.ask("DELETE", "/v2/a/b/manifests/one")).status == 202
    assert (await client.ask("HEAD", "/v2/a/b/manifests/one")).status == 404
    assert (await client.ask("HEAD", "/v2/a/b/manifests/two")).status == 200
    assert (await client.ask("DELETE", f"/v2/a/b/manifests/{digest}")).status == 202
    for identifier in ("two", digest):
        answer = await client.ask("GET", f"/v2/a/b/manifests/{identifier}")
        assert (answer.status, answer.code) == (404, "MANIFEST_UNKNOWN")
        assert (await client.ask("DELETE", f"/v2/a/b/manifests/{identifier}")).status == 404
    assert (await client.ask("GET", "/v2/a/b/tags/list")).json == {"name": "a/b", "tags": []}


def _base64url(data: bytes) -> str:
    return base64.urlsafe_b64encode(data).decode().rstrip("=")
