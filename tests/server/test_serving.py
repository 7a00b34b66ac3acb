"""Starting and stopping a registry."""

from __future__ import annotations

import asyncio
import gc
import socket
import ssl

import aiohttp
import anyio
import pytest
import trustme
from anyio.lowlevel import checkpoint

from asyncrane.errors import InvalidInput
from asyncrane.oci.digest import Digest
from asyncrane.server import Call, Handler, MemoryStorage, Reply, access_log, make_app, parse_address, serving
from tests.server.client import Client


@pytest.mark.parametrize(
    ("text", "address"),
    [
        ("127.0.0.1:5000", ("127.0.0.1", 5000)),
        ("10.0.0.1:0", ("10.0.0.1", 0)),
        (":5000", ("127.0.0.1", 5000)),
        ("localhost", ("localhost", 7)),
        ("localhost:", ("localhost", 7)),
        ("[::1]:5000", ("::1", 5000)),
        ("[::1]", ("::1", 7)),
        ("", ("127.0.0.1", 7)),
    ],
)
def test_an_address_is_host_and_port_with_defaults(text: str, address: tuple[str, int]) -> None:
    assert parse_address(text, default_port=7) == address


@pytest.mark.parametrize("text", ["host:http", "host:65536", "host:-1", "::1", "[::1", "[::1]5000", "host:٣"])
def test_any_other_address_is_one_clear_error(text: str) -> None:
    with pytest.raises(InvalidInput, match="not an address to listen on"):
        parse_address(text)


async def test_a_registry_serves_tls(session: aiohttp.ClientSession) -> None:
    authority = trustme.CA()
    server, trusting = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER), ssl.create_default_context()
    authority.issue_cert("localhost").configure_cert(server)
    authority.configure_trust(trusting)
    async with serving(make_app(MemoryStorage()), host="localhost", ssl=server, grace=0.1) as address:
        assert address.startswith("localhost:")
        client = Client(session, address, scheme="https")
        data = b"x" * 1_000_000
        digest = Digest.of(data)
        location = (await client.ask("POST", "/v2/a/blobs/uploads/", ssl=trusting)).headers["Location"]
        answer = await client.ask("PUT", f"{location}?digest={digest}", data=data, ssl=trusting)
        assert answer.status == 201
        assert (await client.ask("GET", f"/v2/a/blobs/{digest}", ssl=trusting)).body == data


async def test_a_port_in_use_is_an_os_error() -> None:
    async with serving(make_app(MemoryStorage()), grace=0.1) as address:
        port = int(address.rpartition(":")[2])
        with pytest.raises(OSError, match="in use"):
            async with serving(make_app(MemoryStorage()), port=port):
                pass


@pytest.mark.parametrize("turns", range(6))
def test_a_connection_accepted_last_is_closed_too(turns: int) -> None:
    async def connect_and_leave() -> socket.socket:
        async with serving(make_app(MemoryStorage()), grace=0.1) as address:
            client = socket.create_connection(parse_address(address))
            for _ in range(turns):
                await checkpoint()
        return client

    with asyncio.run(connect_and_leave()):
        gc.collect()  # a socket that nobody closed is an error here


async def test_leaving_does_not_wait_for_a_request_that_never_ends(session: aiohttp.ClientSession) -> None:
    arrived, ended = anyio.Event(), anyio.Event()

    async def around(call: Call, handler: Handler) -> Reply:
        arrived.set()
        try:
            await anyio.sleep_forever()
        finally:
            ended.set()
        return await handler(call)

    async def ask(address: str) -> None:
        with pytest.raises(aiohttp.ClientError):
            await Client(session, address).ask("GET", "/v2/")

    app = make_app(MemoryStorage(), around=around)
    with anyio.fail_after(5):
        async with anyio.create_task_group() as group, serving(app, grace=0.05) as address:
            group.start_soon(ask, address)
            await arrived.wait()
    assert ended.is_set()


async def test_the_access_log_has_a_line_per_request_without_the_query(session: aiohttp.ClientSession) -> None:
    lines: list[str] = []
    async with serving(make_app(MemoryStorage(), around=access_log(lines.append)), grace=0.1) as address:
        await Client(session, address).ask("GET", "/v2/a/b/tags/list?token=secret")
    assert len(lines) == 1
    assert lines[0].startswith("GET /v2/a/b/tags/list 404 ")


async def test_a_storage_that_fails_is_a_500_with_the_specifications_body(
    session: aiohttp.ClientSession, caplog: pytest.LogCaptureFixture
) -> None:
    class Broken(MemoryStorage):
        def put_manifest(self, repository: str, manifest: object) -> None:
            raise OSError(28, "No space left on device")

    async with serving(make_app(Broken()), grace=0.1) as address:
        client = Client(session, address)
        fields = {"schemaVersion": 2, "manifests": []}
        index = "application/vnd.oci.image.index.v1+json"
        answer = await client.put_manifest("a", "v1", str(fields).replace("'", '"').encode(), index)
    assert (answer.status, answer.code) == (500, "UNKNOWN")
    assert "No space left" in caplog.text
    assert "No space left" not in answer.body.decode()
