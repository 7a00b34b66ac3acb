"""Credentials go to the host they belong to: whatever a registry answers, no other host is shown anything."""

from __future__ import annotations

import json
from collections.abc import AsyncIterator, Callable
from typing import Any

import pytest
from aiohttp import web

from asyncrane.errors import ServerFault
from asyncrane.oci.manifest import Manifest
from asyncrane.registry.links import resolve as resolve_link
from asyncrane.server.call import Call, Handler
from asyncrane.server.reply import Reply
from asyncrane.testing import FaultyRegistry, fault, set_headers
from asyncrane.testing.images import random_image
from asyncrane.transport.redirect import resolve
from asyncrane.transport.tokens import is_foreign_private
from tests.cli.conftest import Program, fill
from tests.security.conftest import Guarded
from tests.transport.server import Server


@pytest.fixture
async def trap() -> AsyncIterator[Server]:
    """A host that answers everything, and remembers how it was asked."""

    async def answering(request: web.BaseRequest) -> web.StreamResponse:
        await request.read()
        return web.json_response({"tags": [], "token": "x", "name": "x"}, headers={"Location": "/v2/x/blobs/uploads/1"})

    server = Server(answering)
    await server.start()
    yield server
    await server.stop()


def sent_to(server: Server, kind: str | tuple[str, ...]) -> Any:
    """A fault: requests of one kind are sent to the trap."""

    async def effect(call: Call, handler: Handler) -> Reply:
        return Reply(307, {"Location": f"{server.url}{call.path}"})

    return fault("sent elsewhere", effect, kind=kind)


def elsewhere(server: Server, header: str, value: str, kind: str | tuple[str, ...]) -> Any:
    """A fault: a header of the answer names the trap."""
    return set_headers({header: value.replace("TRAP", server.url)}, kind=kind)


PRIVATE = [
    *(
        "127.0.0.1",
        "127.1",
        "0177.0.0.1",
        "0x7f000001",
        "2130706433",
        "0",
        "169.254.169.254",
        "100.64.0.1",
        "localhost",
    ),
    *("LOCALHOST.", "a.localhost", "[::1]", "[::ffff:10.0.0.1]", "[64:ff9b::a00:1]", "[fe80::1%25eth0]", "[fd00::1]"),
    *("\uff11\uff12\uff17.0.0.1", "127\u30020\u30020\u30021"),
]
WAYS: dict[str, tuple[str, Callable[[Server], Any], bool]] = {
    "a ping": ("cp", lambda trap: sent_to(trap, "ping"), False),
    "a manifest": ("cp", lambda trap: sent_to(trap, "manifest-get"), False),
    "a blob": ("cp", lambda trap: sent_to(trap, "blob-get"), False),
    "tags": ("ls", lambda trap: sent_to(trap, "tags"), False),
    "the next page": ("ls", lambda trap: elsewhere(trap, "Link", '<TRAP/v2/x>; rel="next"', "tags"), False),
    "a token": ("cp", lambda trap: sent_to(trap, "token"), False),
    "an upload": ("cp", lambda trap: sent_to(trap, ("upload-post", "mount")), True),
    "an upload's place": (
        "cp",
        lambda trap: elsewhere(trap, "Location", "TRAP/v2/x/blobs/uploads/1", ("upload-post", "mount")),
        True,
    ),
    "a manifest that is written": ("cp", lambda trap: sent_to(trap, "manifest-put"), True),
}


@pytest.mark.parametrize("way", WAYS)
async def test_no_other_host_is_shown_a_credential(program: Program, guarded: Guarded, trap: Server, way: str) -> None:
    """Sent on by a redirect, a Link, a Location: the other host may be asked, as nobody."""
    image = fill(guarded.source, "app", random_image("hosts"), "v1")
    command, leading, at_destination = WAYS[way]
    struck = (guarded.destination if at_destination else guarded.source).faults.add(leading(trap))
    arguments = [image, f"{guarded.destination.address}/app:v1"] if command == "cp" else [image.rpartition(":")[0]]
    await program(command, *arguments, "--retries", "1", DOCKER_AUTH_CONFIG=guarded.config)
    assert struck.hits
    assert trap.asked or way == "the next page"
    shown = [f"{asked.raw_path} {dict(asked.headers)}" for asked in trap.asked]
    assert [text for text in shown if "Authorization" in text or "X-Meta-Key" in text] == []
    assert [text for text in shown if any(secret in text for secret in guarded.secrets())] == []


async def test_a_cookie_is_shown_to_nobody(program: Program, guarded: Guarded) -> None:
    """Other ports of a host would get it, and it may be as good as a credential (RFC 6265, 8.5)."""
    cookie = {"Set-Cookie": "session=as-good-as-a-password; Path=/"}
    for registry in guarded.both:
        registry.faults.add(set_headers(cookie))
    image = fill(guarded.source, "app", random_image("cookie"), "v1")
    there = f"{guarded.destination.address}/app:v1"
    assert (await program("cp", image, there, DOCKER_AUTH_CONFIG=guarded.config)).code == 0
    asked = [request for registry in guarded.both for request in registry.log]
    assert [request for request in asked if "Cookie" in request.headers] == []


async def test_a_foreign_layer_takes_no_credential_along(program: Program, guarded: Guarded, trap: Server) -> None:
    sample = random_image("foreign")
    fill(guarded.source, "app", sample, "plain")
    fields = sample.manifest.fields()
    lost = {
        "mediaType": "application/vnd.docker.image.rootfs.foreign.diff.tar.gzip",
        "digest": f"sha256:{'0' * 64}",
        "size": 5,
    }
    fields["layers"].append({**lost, "urls": [f"{trap.url}/layer?X-Signature=1"]})
    guarded.source.put_manifest("app", Manifest.read(json.dumps(fields).encode()), "v1")
    there = f"{guarded.destination.address}/app:v1"
    ended = await program(
        "cp",
        "--allow-nondistributable-artifacts",
        f"{guarded.source.address}/app:v1",
        there,
        DOCKER_AUTH_CONFIG=guarded.config,
    )
    assert ended.code != 0
    assert guarded.destination.get_manifest("app", "v1") is None
    assert [asked.raw_path for asked in trap.asked if asked.path == "/layer"]
    assert [asked for asked in trap.asked if "Authorization" in asked.headers or "X-Meta-Key" in asked.headers] == []


async def test_each_registry_is_shown_its_own_credential_and_not_the_others(program: Program, guarded: Guarded) -> None:
    """Also where they are told on the command line, and a third registry is asked on the way."""
    image = fill(guarded.source, "app", random_image("own"), "v1")
    async with FaultyRegistry() as third:
        for there in (guarded.destination, third):
            ended = await program("cp", image, f"{there.address}/app:v1", DOCKER_AUTH_CONFIG=guarded.config)
            assert ended.code == 0, ended.err
        at_source = {
            request.headers["Authorization"] for request in guarded.source.log if "Authorization" in request.headers
        }
        others = [*guarded.destination.log, *third.log]
        assert [request for request in others if request.headers.get("Authorization", "") in at_source] == []
        assert [request for request in third.log if "Authorization" in request.headers] == []


@pytest.mark.parametrize("host", PRIVATE)
def test_a_public_registry_leads_to_no_private_address_however_it_is_written(host: str) -> None:
    """Resolvers understand more than dotted quads."""
    with pytest.raises(ServerFault, match="a private address"):
        resolve("https://registry.example", f"https://{host}/x", insecure=False)
    assert not is_foreign_private("storage.example", "registry.example")
    assert not is_foreign_private("8.8.8.8", "registry.example")


def test_what_is_no_url_is_an_error_of_ours() -> None:
    """Found by fuzzing: a ValueError of the standard library ended the run."""
    with pytest.raises(ServerFault, match="no URL"):
        resolve_link("https://registry.example/v2/", "http://[::1")
