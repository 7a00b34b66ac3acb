"""Which requests a fault strikes, and what it makes of the answers."""

from __future__ import annotations

import base64
import json

import aiohttp
import anyio
import pytest

from asyncrane.oci import media
from asyncrane.oci.digest import Digest
from asyncrane.server import BasicAuth, PlainUsers
from asyncrane.server.call import Call, Handler
from asyncrane.server.reply import Reply
from asyncrane.testing import (
    FaultyRegistry,
    Gate,
    When,
    delay,
    drop,
    fault,
    forget_caller,
    limit_body,
    lose_answer,
    no_referrers,
    refuse_chunks,
    refuse_mount,
    set_headers,
    status,
    wrong_digest_header,
)
from tests.server.client import Client, described

DATA = b"some content"
DIGEST = Digest.of(DATA)


async def statuses(client: Client, target: str, times: int) -> list[int]:
    return [(await client.ask("GET", target)).status for _ in range(times)]


@pytest.mark.parametrize(
    ("when", "expected"),
    [
        (When(), [503, 503, 503, 503]),
        (When(times=2), [503, 503, 200, 200]),
        (When(after=1), [200, 503, 503, 503]),
        (When(after=1, times=1), [200, 503, 200, 200]),
        (When(nth=3), [200, 200, 503, 200]),
        (When(nth=(1, 4)), [503, 200, 200, 503]),
        (When(kind="ping"), [503, 503, 503, 503]),
        (When(kind=("tags", "ping"), method="GET"), [503, 503, 503, 503]),
        (When(kind="tags"), [200, 200, 200, 200]),
        (When(method="HEAD"), [200, 200, 200, 200]),
        (When(path="^/v2/$"), [503, 503, 503, 503]),
        (When(path="/a/b/"), [200, 200, 200, 200]),
        (When(where=lambda call: "X-No" in call.headers), [200, 200, 200, 200]),
        (When(probability=0.0), [200, 200, 200, 200]),
        (When(probability=1.0), [503, 503, 503, 503]),
    ],
)
async def test_a_fault_strikes_what_it_is_told_to(
    registry: FaultyRegistry, client: Client, when: When, expected: list[int]
) -> None:
    struck = registry.faults.add(status(503, **when))
    assert await statuses(client, "/v2/", 4) == expected
    assert struck.hits == expected.count(503)


async def test_the_same_seed_strikes_the_same_requests(session: aiohttp.ClientSession) -> None:
    found = []
    for seed in (1, 1, 2):
        async with FaultyRegistry() as registry:
            registry.faults.add(status(503, probability=0.5, seed=seed))
            found.append(await statuses(Client(session, registry.address), "/v2/", 40))
    assert found[0] == found[1] != found[2]
    assert set(found[0]) == {200, 503}


async def test_a_status_comes_with_headers_and_a_body(registry: FaultyRegistry, client: Client) -> None:
    registry.faults.add(status(429, headers={"Retry-After": "7"}, error="TOOMANYREQUESTS", times=1))
    registry.faults.add(status(502, headers={"Content-Type": "text/html"}, body=b"<h1>Bad gateway</h1>", times=1))
    answer = await client.ask("GET", "/v2/")
    assert (answer.status, answer.headers["Retry-After"], answer.code) == (429, "7", "TOOMANYREQUESTS")
    answer = await client.ask("GET", "/v2/")
    # The first fault is the outermost: the second one, struck at the same time, was hidden behind it.
    assert answer.status == 200
    assert [request.faults for request in registry.log] == [("status 429", "status 502"), ()]


async def test_faults_can_be_taken_away(registry: FaultyRegistry, client: Client) -> None:
    first, second = status(503), status(500)
    registry.faults.add(first, second)
    registry.faults.remove(first)
    assert await statuses(client, "/v2/", 1) == [500]
    registry.faults.clear()
    assert await statuses(client, "/v2/", 1) == [200]


async def test_a_gate_holds_a_request_until_it_is_released(registry: FaultyRegistry, client: Client) -> None:
    gate = Gate()
    registry.faults.add(delay(gate, kind="ping"))
    async with anyio.create_task_group() as group:
        for _ in range(3):
            group.start_soon(client.ask, "GET", "/v2/")
        await gate.reached(3)
        assert registry.log.active("ping") == registry.log.peak("ping") == registry.log.peak() == 3
        assert [request.status for request in registry.log] == [0, 0, 0]
        gate.release()
    assert [request.status for request in registry.log] == [200, 200, 200]
    assert (registry.log.active(), gate.arrived) == (0, 3)


async def test_a_delay_may_also_be_seconds(registry: FaultyRegistry, client: Client) -> None:
    registry.faults.add(delay(0.02))
    await client.ask("GET", "/v2/")
    request = registry.log[0]
    assert request.ended is not None
    assert request.ended - request.started >= 0.02


@pytest.mark.parametrize("reset", [True, False])
async def test_a_dropped_request_is_not_answered_and_not_done(
    registry: FaultyRegistry, client: Client, reset: bool
) -> None:
    registry.faults.add(drop(reset=reset, method="POST"))
    with pytest.raises(aiohttp.ClientConnectionError):
        await client.ask("POST", "/v2/a/blobs/uploads/")
    assert (registry.open_uploads, registry.log[0].status) == (0, 0)
    assert (await client.ask("GET", "/v2/")).status == 200


async def test_a_lost_answer_was_given_for_something_done(registry: FaultyRegistry, client: Client) -> None:
    registry.faults.add(lose_answer(kind="upload-post"))
    with pytest.raises(aiohttp.ClientConnectionError):
        await client.ask("POST", f"/v2/a/blobs/uploads/?digest={DIGEST}", data=DATA)
    assert registry.get_blob("a", DIGEST) == DATA


async def test_a_caller_who_is_not_known_any_more_is_challenged(session: aiohttp.ClientSession) -> None:
    async with FaultyRegistry(auth=BasicAuth(PlainUsers({"me": "secret"}))) as registry:
        client = Client(session, registry.address)
        shown = {"authorization": f"Basic {base64.b64encode(b'me:secret').decode()}"}
        registry.faults.add(forget_caller(times=1))
        answer = await client.ask("GET", "/v2/", headers=shown)
        assert (answer.status, "WWW-Authenticate" in answer.headers) == (401, True)
        assert (await client.ask("GET", "/v2/", headers=shown)).status == 200


async def test_headers_are_changed_and_taken_away(registry: FaultyRegistry, client: Client) -> None:
    registry.put_blob("a", DATA)
    registry.faults.add(set_headers({"ETag": None, "oci-chunk-min-length": "5", "content-type": "x/y"}, nth=1))
    registry.faults.add(wrong_digest_header(nth=2))
    answer = await client.ask("GET", f"/v2/a/blobs/{DIGEST}")
    assert ("ETag" in answer.headers, answer.headers["OCI-Chunk-Min-Length"]) == (False, "5")
    assert answer.headers.getall("Content-Type") == ["x/y"]
    answer = await client.ask("GET", f"/v2/a/blobs/{DIGEST}")
    assert (answer.headers["Docker-Content-Digest"], answer.body) == (f"sha256:{'0' * 64}", DATA)


@pytest.mark.parametrize("code", [202, 400, 401, 404, 500])
async def test_a_mount_is_refused_by_a_session_or_an_error(registry: FaultyRegistry, client: Client, code: int) -> None:
    registry.put_blob("a", DATA)
    registry.faults.add(refuse_mount(code))
    answer = await client.ask("POST", f"/v2/b/blobs/uploads/?mount={DIGEST}&from=a")
    assert (answer.status, "Location" in answer.headers) == (code, code == 202)
    assert (registry.open_uploads, registry.get_blob("b", DIGEST)) == (int(code == 202), None)
    assert len(registry.requests(kind="mount", digest=DIGEST, repository="b", status=code)) == 1


async def test_chunks_are_refused_and_whole_bodies_are_not(registry: FaultyRegistry, client: Client) -> None:
    registry.faults.add(refuse_chunks())
    location = await client.start_upload("a")
    answer = await client.ask("PATCH", location, data=DATA, headers={"content-range": f"0-{len(DATA) - 1}"})
    assert (answer.status, answer.headers["Location"], answer.headers["Range"]) == (416, location, "0-0")
    assert (await client.ask("PATCH", location, data=DATA)).status == 202


async def test_a_body_that_is_too_long_is_refused_as_proxies_do(registry: FaultyRegistry, client: Client) -> None:
    registry.faults.add(limit_body(10))
    location = await client.start_upload("a")

    async def stream() -> object:
        yield DATA

    for body in (DATA, stream()):
        assert (await client.ask("PATCH", location, data=body)).status == 413
    assert (await client.ask("PUT", f"{location}?digest={Digest.of(DATA[:10])}", data=DATA[:10])).status == 201


async def test_a_registry_may_have_no_referrers_api(registry: FaultyRegistry, client: Client) -> None:
    registry.faults.add(no_referrers())
    subject = described(b"subject", media.OCI_MANIFEST)
    fields = {"schemaVersion": 2, "mediaType": media.OCI_INDEX, "manifests": [], "subject": subject}
    await client.push_manifest("a", fields, tag="v1")
    answer = await client.put_manifest("a", "v2", json.dumps(fields).encode(), media.OCI_INDEX)
    assert (answer.status, "OCI-Subject" in answer.headers) == (201, False)
    assert (await client.ask("GET", f"/v2/a/referrers/{subject['digest']}")).status == 404


async def test_a_fault_of_ones_own_is_a_function(registry: FaultyRegistry, client: Client) -> None:
    async def teapot(call: Call, handler: Handler) -> Reply:
        reply = await handler(call)
        return Reply(418, reply.headers, reply.body)

    registry.faults.add(fault("teapot", teapot, kind="ping"))
    answer = await client.ask("GET", "/v2/")
    assert (answer.status, answer.body) == (418, b"{}")
    assert "teapot" in repr(registry.faults)
