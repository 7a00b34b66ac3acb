"""Reading and deleting blobs (distribution-spec, "Pulling blobs"; RFC 9110, section 14)."""

from __future__ import annotations

import random

import pytest

from asyncrane.oci.digest import Digest
from asyncrane.server import Storage
from tests.server.client import Client

DATA = bytes(range(256)) * 40
SIZE = len(DATA)


async def test_head_says_how_long_a_blob_is_and_get_sends_it(client: Client) -> None:
    digest = await client.push_blob("a/b", DATA)
    head = await client.ask("HEAD", f"/v2/a/b/blobs/{digest}")
    get = await client.ask("GET", f"/v2/a/b/blobs/{digest.replace(':', '%3A')}")
    for answer in (head, get):
        assert answer.status == 200
        assert answer.headers["Content-Length"] == str(SIZE)
        assert answer.headers["Content-Type"] == "application/octet-stream"
        assert answer.headers["Docker-Content-Digest"] == digest
        assert answer.headers["Accept-Ranges"] == "bytes"
    assert (head.body, get.body) == (b"", DATA)


@pytest.mark.parametrize(
    ("asked", "start", "stop"),
    [
        ("bytes=0-0", 0, 1),
        ("bytes=0-", 0, SIZE),
        ("bytes=1000-", 1000, SIZE),
        ("bytes=1000-1999", 1000, 2000),
        (f"bytes=1000-{SIZE + 5}", 1000, SIZE),
        ("bytes=-100", SIZE - 100, SIZE),
        (f"bytes=-{SIZE * 2}", 0, SIZE),
    ],
)
async def test_one_range_is_answered_with_that_range(client: Client, asked: str, start: int, stop: int) -> None:
    digest = await client.push_blob("a/b", DATA)
    answer = await client.ask("GET", f"/v2/a/b/blobs/{digest}", headers={"Range": asked})
    assert (answer.status, answer.headers["Content-Range"]) == (206, f"bytes {start}-{stop - 1}/{SIZE}")
    assert answer.headers["Content-Length"] == str(stop - start)
    assert answer.body == DATA[start:stop]


@pytest.mark.parametrize("asked", [f"bytes={SIZE}-", "bytes=99999-100000", "bytes=500-0", "bytes=-0"])
async def test_a_range_outside_is_not_satisfiable(client: Client, asked: str) -> None:
    digest = await client.push_blob("a/b", DATA)
    answer = await client.ask("GET", f"/v2/a/b/blobs/{digest}", headers={"Range": asked})
    assert (answer.status, answer.headers["Content-Range"]) == (416, f"bytes */{SIZE}")
    assert answer.code == "RANGE_INVALID"


@pytest.mark.parametrize("asked", ["bytes=0-1,5-6", "lines=0-1", "bytes=-", "bytes", "bytes=a-b"])
async def test_any_other_range_is_answered_with_everything(client: Client, asked: str) -> None:
    digest = await client.push_blob("a/b", DATA)
    answer = await client.ask("GET", f"/v2/a/b/blobs/{digest}", headers={"Range": asked})
    assert (answer.status, answer.body) == (200, DATA)


async def test_a_range_holds_only_if_the_blob_is_the_one_meant(client: Client) -> None:
    digest = await client.push_blob("a/b", DATA)
    for etag, status in ((f'"{digest}"', 206), ('"other"', 200)):
        headers = {"Range": "bytes=5-", "If-Range": etag}
        assert (await client.ask("GET", f"/v2/a/b/blobs/{digest}", headers=headers)).status == status


async def test_a_blob_of_many_pieces_comes_back_as_it_was(client: Client) -> None:
    data = random.Random(1).randbytes(3 * 1024 * 1024 + 17)
    digest = await client.push_blob("a/b", data)
    answer = await client.ask("GET", f"/v2/a/b/blobs/{digest}")
    assert Digest.of(answer.body) == digest
    answer = await client.ask("GET", f"/v2/a/b/blobs/{digest}", headers={"Range": "bytes=262143-2000000"})
    assert answer.body == data[262143:2000001]


@pytest.mark.parametrize("method", ["GET", "HEAD", "DELETE"])
async def test_a_blob_of_another_repository_is_unknown(client: Client, method: str) -> None:
    digest = await client.push_blob("a/b", DATA)
    answer = await client.ask(method, f"/v2/c/d/blobs/{digest}")
    assert answer.status == 404
    assert answer.body == b"" if method == "HEAD" else answer.code == "BLOB_UNKNOWN"


async def test_a_deleted_blob_is_gone_here_and_stays_elsewhere(client: Client, storage: Storage) -> None:
    digest = await client.push_blob("a/b", DATA)
    await client.ask("POST", f"/v2/c/d/blobs/uploads/?mount={digest}&from=a/b")
    assert (await client.ask("DELETE", f"/v2/a/b/blobs/{digest}")).status == 202
    assert (await client.ask("GET", f"/v2/a/b/blobs/{digest}")).status == 404
    assert (await client.ask("GET", f"/v2/c/d/blobs/{digest}")).body == DATA
    assert (await client.ask("DELETE", f"/v2/c/d/blobs/{digest}")).status == 202
    assert storage.index.stored_size(digest) is None
    assert await client.push_blob("a/b", DATA) == digest
