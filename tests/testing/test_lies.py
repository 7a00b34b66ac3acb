"""What a registry that lies says, and what it does meanwhile."""

from __future__ import annotations

import aiohttp

from asyncrane.oci.digest import Digest
from asyncrane.testing import FaultyRegistry, claim_mount, claim_received, flood, more_pages, skip_range
from asyncrane.testing.images import random_image
from tests.server.client import Client

DATA = bytes(range(200))
DIGEST = Digest.of(DATA)


async def test_a_flood_is_as_long_as_it_says_and_holds_nothing(registry: FaultyRegistry, client: Client) -> None:
    registry.faults.add(flood(250, piece=b"0123456789", kind="ping"))
    answer = await client.ask("GET", "/v2/")
    assert answer.headers["Content-Length"] == "250"
    assert answer.body == b"0123456789" * 25


async def test_a_flood_without_end_ends_when_nobody_listens(
    registry: FaultyRegistry, session: aiohttp.ClientSession
) -> None:
    registry.faults.add(flood(piece=b"x" * 1000, kind="ping", code=404))
    async with session.get(f"{registry.url}/v2/") as response:
        assert response.status == 404
        assert "Content-Length" not in response.headers
        assert await response.content.readexactly(100_000) == b"x" * 100_000


async def test_a_mount_is_claimed_and_not_made(registry: FaultyRegistry, client: Client) -> None:
    registry.put_blob("donor", DATA)
    registry.faults.add(claim_mount())
    answer = await client.ask("POST", f"/v2/app/blobs/uploads/?mount={DIGEST}&from=donor")
    assert answer.status == 201
    assert answer.headers["Docker-Content-Digest"] == DIGEST
    assert registry.get_blob("app", DIGEST) is None


async def test_more_is_said_to_have_come_than_came(registry: FaultyRegistry, client: Client) -> None:
    registry.faults.add(claim_received(50))
    location = await client.start_upload("app")
    answer = await client.ask("PATCH", location, data=DATA)
    assert answer.headers["Range"] == "0-249"
    assert (await client.ask("GET", location)).headers["Range"] == "0-249"


async def test_a_range_skips_bytes_and_keeps_its_length(registry: FaultyRegistry, client: Client) -> None:
    registry.put_blob("app", DATA)
    registry.faults.add(skip_range(5))
    target = f"/v2/app/blobs/{DIGEST}"
    assert (await client.ask("GET", target)).body == DATA
    answer = await client.ask("GET", target, headers={"Range": "bytes=100-"})
    assert answer.headers["Content-Range"] == "bytes 100-199/200"
    assert answer.body == DATA[105:] + bytes(5)


async def test_every_page_has_a_next_one(registry: FaultyRegistry, client: Client) -> None:
    registry.put_manifest("app", random_image().manifest, "v1")
    registry.faults.add(more_pages(lambda call, count: f"{call.path}?turn={count}", kind="tags"))
    for turn in (1, 2):
        answer = await client.ask("GET", "/v2/app/tags/list")
        assert answer.headers["Link"] == f'</v2/app/tags/list?turn={turn}>; rel="next"'
        assert answer.json["tags"] == ["v1"]
