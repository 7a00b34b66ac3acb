"""Uploads and mounts (distribution-spec, "Pushing blobs"), in memory and on disk."""

from __future__ import annotations

from collections.abc import AsyncIterator
from functools import partial

import anyio
import pytest

from asyncrane.oci.digest import Digest
from asyncrane.server import Storage
from tests.server.client import Client

DATA = bytes(range(256)) * 64
DIGEST = Digest.of(DATA)
OTHER = Digest.of(b"other")


async def pieces(data: bytes, size: int = 1000) -> AsyncIterator[bytes]:
    for at in range(0, len(data), size):
        yield data[at : at + size]


async def read_back(client: Client, repository: str = "a/b", digest: Digest = DIGEST) -> bytes:
    answer = await client.ask("GET", f"/v2/{repository}/blobs/{digest}")
    assert answer.status == 200, answer
    return answer.body


@pytest.mark.parametrize("algorithm", ["sha256", "sha512"])
async def test_post_then_put_with_the_body_stores_a_blob(client: Client, algorithm: str) -> None:
    digest = Digest.of(DATA, algorithm)
    location = await client.start_upload("a/b")
    answer = await client.ask("PUT", f"{location}?digest={digest.replace(':', '%3A')}", data=DATA)
    assert (answer.status, answer.headers["Location"]) == (201, f"/v2/a/b/blobs/{digest}")
    assert answer.headers["Docker-Content-Digest"] == digest
    assert await read_back(client, digest=digest) == DATA


async def test_one_post_with_the_body_stores_a_blob(client: Client) -> None:
    answer = await client.ask("POST", f"/v2/a/b/blobs/uploads/?digest={DIGEST}", data=DATA)
    assert answer.status == 201
    assert await read_back(client) == DATA


async def test_chunks_in_order_make_a_blob(client: Client) -> None:
    location = await client.start_upload("a/b")
    for first in range(0, len(DATA), 5000):
        chunk = DATA[first : first + 5000]
        last = first + len(chunk) - 1
        answer = await client.ask("PATCH", location, data=chunk, headers={"Content-Range": f"{first}-{last}"})
        assert (answer.status, answer.headers["Range"]) == (202, f"0-{last}")
        location = answer.headers["Location"]
    assert (await client.ask("PUT", f"{location}?digest={DIGEST}")).status == 201
    assert await read_back(client) == DATA


async def test_the_last_chunk_may_come_with_the_put(client: Client) -> None:
    location = await client.start_upload("a/b")
    await client.ask("PATCH", location, data=DATA[:100], headers={"Content-Range": "0-99"})
    headers = {"Content-Range": f"100-{len(DATA) - 1}"}
    assert (await client.ask("PUT", f"{location}?digest={DIGEST}", data=DATA[100:], headers=headers)).status == 201
    assert await read_back(client) == DATA


async def test_a_stream_of_unknown_length_is_taken_by_patch_and_by_put(client: Client) -> None:
    location = await client.start_upload("a/b")
    answer = await client.ask("PATCH", location, data=pieces(DATA[:9999]))
    assert (answer.status, answer.headers["Range"]) == (202, "0-9998")
    answer = await client.ask("PUT", f"{answer.headers['Location']}?digest={DIGEST}", data=pieces(DATA[9999:]))
    assert answer.status == 201
    assert await read_back(client) == DATA


async def test_a_chunk_at_the_wrong_offset_is_refused_with_the_right_one(client: Client) -> None:
    location = await client.start_upload("a/b")
    await client.ask("PATCH", location, data=DATA[:100], headers={"Content-Range": "0-99"})
    for wrong in ("0-99", "101-200", "99-98"):
        first, last = map(int, wrong.split("-"))
        answer = await client.ask("PATCH", location, data=DATA[first : last + 1], headers={"Content-Range": wrong})
        assert (answer.status, answer.code) == (416, "RANGE_INVALID")
        assert (answer.headers["Range"], answer.headers["Location"]) == ("0-99", location)
    status = await client.ask("GET", location)
    assert (status.status, status.headers["Range"]) == (204, "0-99")


@pytest.mark.parametrize("stated", ["bytes 0-9/10", "0-", "x-y", ""])
async def test_a_content_range_of_another_form_is_refused(client: Client, stated: str) -> None:
    location = await client.start_upload("a/b")
    answer = await client.ask("PATCH", location, data=DATA[:10], headers={"Content-Range": stated})
    assert (answer.status, answer.code) == (400, "BLOB_UPLOAD_INVALID")


async def test_a_chunk_that_is_not_as_long_as_its_range_is_refused(client: Client) -> None:
    location = await client.start_upload("a/b")
    headers = {"Content-Range": "0-10"}
    for body in (DATA[:10], pieces(DATA[:10])):
        answer = await client.ask("PATCH", location, data=body, headers=headers)
        assert (answer.status, answer.code) == (400, "SIZE_INVALID")
        location = await client.start_upload("a/b")


@pytest.mark.parametrize("path", ["PUT", "PATCH", "POST"])
async def test_content_with_another_digest_is_never_stored(client: Client, storage: Storage, path: str) -> None:
    if path == "POST":
        answer = await client.ask("POST", f"/v2/a/b/blobs/uploads/?digest={OTHER}", data=DATA)
        location = ""
    else:
        location = await client.start_upload("a/b")
        if path == "PATCH":
            assert (await client.ask("PATCH", location, data=DATA)).status == 202
        answer = await client.ask("PUT", f"{location}?digest={OTHER}", data=DATA if path == "PUT" else b"")
    assert (answer.status, answer.code) == (400, "DIGEST_INVALID")
    assert answer.json["errors"][0]["detail"]["received"] == DIGEST
    assert not storage.index.has("a/b")
    if location:
        assert (await client.ask("GET", location)).status == 404


@pytest.mark.parametrize("digest", ["", "sha256:zz", "md5:0123", f"sha256:{'A' * 64}", "%2e%2e"])
async def test_an_upload_cannot_be_finished_under_what_is_no_digest(client: Client, digest: str) -> None:
    location = await client.start_upload("a/b")
    answer = await client.ask("PUT", f"{location}?digest={digest}", data=DATA)
    assert (answer.status, answer.code) == (400, "DIGEST_INVALID")
    assert (await client.ask("PUT", f"{location}?digest={DIGEST}", data=DATA)).status == 201


async def test_the_empty_blob_can_be_pushed(client: Client) -> None:
    digest = await client.push_blob("a/b", b"")
    assert await read_back(client, digest=digest) == b""


async def test_a_sha512_blob_can_be_pushed_in_chunks_with_and_without_notice(client: Client) -> None:
    digest = Digest.of(DATA, "sha512")
    for query in ("", "?digest-algorithm=sha512"):
        location = await client.start_upload("a/b", query)
        answer = await client.ask("PATCH", location, data=DATA)
        assert (await client.ask("PUT", f"{answer.headers['Location']}?digest={digest}")).status == 201
        assert await read_back(client, digest=digest) == DATA
    answer = await client.ask("POST", "/v2/a/b/blobs/uploads/?digest-algorithm=md5")
    assert (answer.status, answer.code) == (400, "DIGEST_INVALID")


async def test_a_cancelled_upload_is_gone(client: Client) -> None:
    location = await client.start_upload("a/b")
    await client.ask("PATCH", location, data=DATA)
    assert (await client.ask("DELETE", location)).status == 204
    for method in ("GET", "PATCH", "PUT", "DELETE"):
        answer = await client.ask(method, f"{location}?digest={DIGEST}")
        assert (answer.status, answer.code) == (404, "BLOB_UPLOAD_UNKNOWN")


async def test_an_upload_belongs_to_one_repository(client: Client) -> None:
    location = await client.start_upload("a/b")
    assert (await client.ask("GET", location.replace("/a/b/", "/a/c/"))).status == 404


async def test_what_arrived_before_the_connection_broke_is_kept(client: Client) -> None:
    """D5: the client asks how far it got and goes on there."""
    location = await client.start_upload("a/b")
    sent = anyio.Event()

    async def body() -> AsyncIterator[bytes]:
        yield DATA[:9000]
        sent.set()
        await anyio.Event().wait()

    async with anyio.create_task_group() as group:
        group.start_soon(partial(client.ask, "PATCH", location, data=body()))
        await sent.wait()
        have = -1
        while have != 8999:
            have = int((await client.ask("GET", location)).headers["Range"].partition("-")[2])
        group.cancel_scope.cancel()
    rest = {"Content-Range": f"9000-{len(DATA) - 1}"}
    assert (await client.ask("PATCH", location, data=DATA[9000:], headers=rest)).status == 202
    assert (await client.ask("PUT", f"{location}?digest={DIGEST}")).status == 201
    assert await read_back(client) == DATA


async def test_the_same_blob_may_be_pushed_by_many_at_once(client: Client) -> None:
    async with anyio.create_task_group() as group:
        for number in range(8):
            group.start_soon(client.push_blob, f"many/{number % 2}", DATA)
    assert await read_back(client, "many/0") == await read_back(client, "many/1") == DATA


async def test_a_blob_is_mounted_from_another_repository(client: Client) -> None:
    await client.push_blob("a/b", DATA)
    answer = await client.ask("POST", f"/v2/c/d/blobs/uploads/?mount={DIGEST}&from=a/b")
    assert (answer.status, answer.headers["Location"]) == (201, f"/v2/c/d/blobs/{DIGEST}")
    assert await read_back(client, "c/d") == DATA
    again = await client.ask("POST", f"/v2/c/d/blobs/uploads/?mount={DIGEST}&from=c/d")
    assert again.status == 201


@pytest.mark.parametrize("query", [f"mount={OTHER}&from=a/b", f"mount={DIGEST}&from=no/such", f"mount={DIGEST}"])
async def test_a_mount_that_cannot_be_opens_a_session(client: Client, query: str) -> None:
    await client.push_blob("a/b", DATA)
    answer = await client.ask("POST", f"/v2/c/d/blobs/uploads/?{query}")
    assert answer.status == 202
    answer = await client.ask("PUT", f"{answer.headers['Location']}?digest={DIGEST}", data=DATA)
    assert answer.status == 201


async def test_a_mount_from_what_is_no_name_is_refused(client: Client) -> None:
    answer = await client.ask("POST", f"/v2/c/d/blobs/uploads/?mount={DIGEST}&from=../../etc")
    assert (answer.status, answer.code) == (400, "NAME_INVALID")
