"""The registry tests are made with: log, locations, storage host, TLS, authentication."""

from __future__ import annotations

import base64
import json
import ssl

import aiohttp
import anyio
import pytest
import trustme

from asyncrane.oci import media
from asyncrane.oci.digest import Digest
from asyncrane.oci.manifest import Manifest
from asyncrane.server import BasicAuth, PlainUsers, TokenAuth
from asyncrane.testing import FaultyRegistry, status
from asyncrane.testing.registry import Locations
from tests.server.client import Client

DATA = b"content " * 1000
DIGEST = Digest.of(DATA)


async def test_the_log_knows_what_was_asked_and_answered(registry: FaultyRegistry, client: Client) -> None:
    await client.push_blob("a/b", DATA)
    await client.ask("GET", f"/v2/a/b/blobs/{DIGEST}", headers={"Range": "bytes=0-99", "X-Test": "yes"})
    await client.ask("HEAD", "/v2/a/b/manifests/v1")
    post, put, get, head = registry.log
    assert [request.kind for request in registry.log] == ["upload-post", "upload-put", "blob-get", "manifest-head"]
    assert (post.status, post.repository, post.digest) == (202, "a/b", "")
    assert (put.method, put.status, put.digest, put.request_bytes) == ("PUT", 201, DIGEST, len(DATA))
    assert (get.status, get.digest, get.response_bytes, get.headers["x-test"]) == (206, DIGEST, 100, "yes")
    assert (head.status, head.digest) == (404, "")
    assert registry.requests(method="PUT", repository="a/b") == [put]
    assert registry.requests(kind="blob-get", status=200) == []
    assert registry.log.counts() == {"upload-post": 1, "upload-put": 1, "blob-get": 1, "manifest-head": 1}
    registry.log.clear()
    assert (len(registry.log), registry.log.peak()) == (0, 0)


async def test_content_is_put_and_looked_at_without_requests(registry: FaultyRegistry, client: Client) -> None:
    body = json.dumps({"schemaVersion": 2, "mediaType": media.OCI_INDEX, "manifests": []}).encode()
    assert registry.put_blob("a", DATA, algorithm="sha512").startswith("sha512:")
    digest = registry.put_manifest("a", Manifest.read(body), "v1", "v2")
    assert (await client.ask("GET", "/v2/a/manifests/v2")).body == body
    for identifier in ("v1", digest):
        found = registry.get_manifest("a", identifier)
        assert found is not None
        assert found.body == body
    assert registry.get_manifest("a", "v3") is None
    assert registry.get_blob("a", DIGEST) is None


async def test_a_registry_goes_down_and_comes_back_where_it_was(registry: FaultyRegistry, client: Client) -> None:
    location = await client.start_upload("a")
    address = registry.address
    await registry.go_down()
    with pytest.raises(aiohttp.ClientConnectorError):
        await client.ask("GET", "/v2/")
    await registry.come_back()
    assert registry.address == address
    assert (await client.ask("PUT", f"{location}?digest={DIGEST}", data=DATA)).status == 201


async def test_coming_back_is_not_broken_off(registry: FaultyRegistry, client: Client) -> None:
    """A socket would be left that nobody accepts on."""
    await registry.go_down()
    with anyio.CancelScope() as scope:
        scope.cancel()
        await registry.come_back()
    assert (await client.ask("GET", "/v2/")).status == 200


@pytest.mark.parametrize("locations", ["relative", "absolute", "opaque"])
async def test_an_upload_is_gone_on_with_where_it_is_said_to_be(
    session: aiohttp.ClientSession, locations: Locations
) -> None:
    async with FaultyRegistry(locations=locations) as registry:
        client = Client(session, registry.address)
        first = await client.start_upload("a")
        assert first.startswith(registry.url if locations == "absolute" else "/v2/a/blobs/uploads/")
        second = (await client.ask("PATCH", first, data=DATA[:10])).headers["Location"]
        assert (first != second) == ("?" in first) == (locations == "opaque")
        if locations == "opaque":
            for method in ("PATCH", "PUT", "DELETE"):
                for wrong in (first, second.replace("%2F", "/"), second.replace("%2b", "+"), second[:-1]):
                    assert (await client.ask(method, f"{wrong}&digest={DIGEST}")).status == 404
            assert (await client.ask("GET", first)).headers["Range"] == "0-9"
            second = (await client.ask("GET", second)).headers["Location"]
        target = f"{second}{'&' if '?' in second else '?'}digest={DIGEST}"
        assert (await client.ask("PUT", target, data=DATA[10:])).status == 201
        assert (registry.get_blob("a", DIGEST), registry.open_uploads) == (DATA, 0)


async def test_a_storage_host_takes_its_own_urls_as_they_are_and_no_credentials(
    session: aiohttp.ClientSession,
) -> None:
    users = PlainUsers({"bob": "secret"})
    async with FaultyRegistry(auth=BasicAuth(users), storage_host=True) as registry:
        registry.put_blob("a", DATA)
        client = Client(session, registry.address)
        bob = {"Authorization": f"Basic {base64.b64encode(b'bob:secret').decode()}"}
        assert (await client.ask("GET", f"/v2/a/blobs/{DIGEST}")).status == 401
        answer = await client.ask("GET", f"/v2/a/blobs/{DIGEST}", headers=bob)
        location = answer.headers["Location"]
        assert answer.status == 307
        assert location.startswith(f"http://{registry.storage_address}/")
        assert registry.storage_address != registry.address
        assert (await client.ask("GET", location)).body == DATA
        assert (await client.ask("GET", location, headers={"Range": "bytes=8-"})).body == DATA[8:]
        assert (await client.ask("GET", location, headers=bob)).status == 403
        assert (await client.ask("GET", location.replace("%2F", "/"))).status == 403
        assert (await client.ask("HEAD", location)).status == 403
        assert (await client.ask("HEAD", f"/v2/a/blobs/{DIGEST}", headers=bob)).status == 200
        registry.expire_signatures()
        assert (await client.ask("GET", location)).status == 403
        registry.faults.add(status(503, kind="storage"))
        answer = await client.ask("GET", f"/v2/a/blobs/{DIGEST}", headers=bob)
        assert (await client.ask("GET", answer.headers["Location"])).status == 503
        assert len(registry.requests(kind="storage")) == 7
        assert len(registry.requests(kind="blob-get", status=307)) == 2


async def test_tls_and_tokens(session: aiohttp.ClientSession) -> None:
    authority = trustme.CA()
    server, trusting = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER), ssl.create_default_context()
    authority.issue_cert("127.0.0.1").configure_cert(server)
    authority.configure_trust(trusting)
    auth = TokenAuth(PlainUsers({"bob": "secret"}))
    async with FaultyRegistry(auth=auth, ssl=server) as registry:
        client = Client(session, registry.address, scheme="https")
        assert registry.url == client.base
        answer = await client.ask("GET", "/v2/", ssl=trusting)
        assert f'realm="{registry.url}/token"' in answer.headers["WWW-Authenticate"]
        bob = {"Authorization": f"Basic {base64.b64encode(b'bob:secret').decode()}"}
        token = (await client.ask("GET", "/token", headers=bob, ssl=trusting)).json["token"]
        headers = {"Authorization": f"Bearer {token}"}
        assert (await client.ask("GET", "/v2/", headers=headers, ssl=trusting)).status == 200
        assert [request.kind for request in registry.log] == ["ping", "token", "ping"]


async def test_two_registries_may_share_a_storage(registry: FaultyRegistry, session: aiohttp.ClientSession) -> None:
    registry.put_blob("a", DATA)
    async with FaultyRegistry(registry.storage) as other:
        assert (await Client(session, other.address).ask("GET", f"/v2/a/blobs/{DIGEST}")).body == DATA
        assert (len(registry.log), len(other.log)) == (0, 1)
