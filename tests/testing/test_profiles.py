"""What each of the registries that are made like known ones does otherwise; copies to and from all of them are in
``tests/faults/test_profiles.py``.
"""

from __future__ import annotations

import io
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

import aiohttp

from asyncrane.oci import media
from asyncrane.oci.digest import Digest
from asyncrane.testing import (
    FaultyRegistry,
    acr,
    artifactory,
    distribution_2_8,
    docker_hub,
    ecr,
    gar,
    ghcr,
    gitlab,
    harbor,
    nexus,
    quay,
    zot,
)
from asyncrane.testing.images import random_image
from tests.server.client import Client

DATA = b"some content"
DIGEST = Digest.of(DATA)
IMAGE = random_image().manifest
REFERRERS = f"/v2/app/referrers/{IMAGE.digest}"
MIB = 1024 * 1024


@asynccontextmanager
async def asking(registry: FaultyRegistry) -> AsyncIterator[Client]:
    """A client of a registry with one image, ``app:v1``, and one blob."""
    async with registry, aiohttp.ClientSession(auto_decompress=False) as session:
        registry.put_manifest("app", IMAGE, "v1")
        registry.put_blob("app", DATA)
        yield Client(session, registry.address)


async def pieces(client: Client, *sizes: int) -> list[tuple[int, str]]:
    """Send pieces of an upload; the answers' statuses and ranges."""
    location, at, said = await client.start_upload("app"), 0, []
    for size in sizes:
        headers = {"Content-Range": f"{at}-{at + size - 1}"}
        answer = await client.ask("PATCH", location, data=io.BytesIO(bytes(size)), headers=headers)
        location, at = answer.headers.get("Location", location), at + size
        said.append((answer.status, answer.headers.get("Range", "")))
    return said


async def mounted(client: Client, donor: str, path: str = "other/app") -> int:
    return (await client.ask("POST", f"/v2/{path}/blobs/uploads/?mount={DIGEST}&from={donor}")).status


async def test_docker_hub() -> None:
    async with asking(docker_hub()) as client:
        assert (await client.ask("GET", "/v2/app/manifests/v1")).headers["RateLimit-Remaining"] == "76;w=21600"
        assert (await client.ask("GET", f"/v2/app/blobs/{DIGEST}")).status == 307
        assert (await client.ask("DELETE", f"/v2/app/manifests/{IMAGE.digest}")).status == 405
        assert (await client.ask("GET", "/v2/_catalog")).status == 404
        assert (await client.ask("GET", REFERRERS)).status == 404
        assert await mounted(client, "app") == 201
        assert await mounted(client, "app&origin=elsewhere.example") == 401


async def test_ecr() -> None:
    async with asking(ecr("app")) as client:
        assert await pieces(client, 5 * MIB, 5 * MIB, 10) == [(201, "0-5242879")] * 3
        assert [status for status, _ in await pieces(client, 1000, 1000)] == [201, 400]
        assert [status for status, _ in await pieces(client, 11 * MIB)] == [400]
        assert await mounted(client, "app", "app") == 202
        assert (await client.ask("POST", "/v2/new/blobs/uploads/")).code == "NAME_UNKNOWN"
        assert (await client.ask("GET", "/v2/app/tags/list?n=1001")).status == 400
        assert (await client.ask("GET", REFERRERS)).status == 404


async def test_ghcr() -> None:
    async with asking(ghcr()) as client:
        assert [status for status, _ in await pieces(client, 4 * MIB, 4 * MIB)] == [202, 202]
        assert await pieces(client, 4 * MIB + 1) == [(416, "")]
        answer = await client.ask("GET", REFERRERS)
        assert answer.status == 303
        assert (await client.ask("GET", answer.headers["Location"].replace("localhost", "127.0.0.1"))).status == 429
        assert (await client.ask("DELETE", "/v2/app/manifests/v1")).status == 405


async def test_gar() -> None:
    async with asking(gar()) as client:
        location = await client.start_upload("app")
        assert location.startswith("/artifacts-uploads/")
        refused = await client.ask("PATCH", location, data=DATA, headers={"Content-Range": "0-11"})
        assert refused.status == 400
        moved = await client.ask("PATCH", location, data=DATA)
        assert moved.headers["Location"].startswith("/artifacts-uploads/")
        assert (await client.ask("PUT", f"{moved.headers['Location']}?digest={DIGEST}")).status == 201
        assert (await client.ask("DELETE", f"/v2/app/manifests/{IMAGE.digest}")).code == "GOOGLE_MANIFEST_DANGLING_TAG"
        assert "manifest" in (await client.ask("GET", "/v2/app/tags/list")).json


async def test_acr() -> None:
    async with asking(acr(limit=1000)) as client:
        location = await client.start_upload("app")
        assert (await client.ask("PUT", f"{location}?digest={DIGEST}", data=bytes(1001))).status == 413
        chunked = await client.ask("PATCH", location, data=_chunks())
        assert chunked.code == "CONTENT_LENGTH_INVALID"
        assert (await client.ask("GET", location)).status == 404
        assert await pieces(client, 1001) == [(202, "0-1000")]


async def test_harbor() -> None:
    async with asking(harbor("team", "other")) as client:
        assert await mounted(client, "other/app", "other/tool") == 202
        assert await mounted(client, "team/app") == 401
        assert (await client.ask("POST", "/v2/new/app/blobs/uploads/")).code == "NAME_UNKNOWN"
        assert (await client.ask("DELETE", "/v2/app/manifests/v1")).code == "UNSUPPORTED"


async def test_quay() -> None:
    registry = quay(page=2)
    async with asking(registry) as client:
        registry.put_manifest("app", IMAGE, *"abcd")
        target, found = "/v2/app/tags/list?n=1000", []
        while target:
            answer = await client.ask("GET", target)
            assert len(answer.json["tags"]) <= 2
            found += answer.json["tags"]
            target = answer.headers.get("Link", "").partition("<")[2].partition(">")[0]
            assert "last" not in target
        assert found == ["a", "b", "c", "d", "v1"]
        assert (await client.ask("POST", f"/v2/app/blobs/uploads/?mount={DIGEST}")).status == 400


async def test_artifactory() -> None:
    async with asking(artifactory(limit=1000)) as client:
        assert (await client.ask("HEAD", "/v2/app/manifests/v2")).status == 403
        assert (await client.ask("HEAD", "/v2/app/manifests/v1")).status == 200
        location = await client.start_upload("app")
        assert (await client.ask("PUT", f"{location}?digest={DIGEST}", data=bytes(1001))).status == 404
        assert (await client.ask("PATCH", location, data=bytes(1001))).status == 202
        assert (await client.ask("GET", "/v2/app/tags/list")).json["tags"] == ["v1", str(IMAGE.digest)]


async def test_nexus() -> None:
    async with asking(nexus()) as client:
        assert (await client.ask("GET", "/v2/app/tags/list")).json["tags"] == [None, "v1", None]
        assert (await client.ask("PUT", "/v2/app/manifests/v2", data=_chunks())).status == 411
        assert (await client.ask("GET", REFERRERS)).status == 404


async def test_zot() -> None:
    docker = random_image(docker=True).manifest
    async with asking(zot()) as client:
        assert (await client.put_manifest("app", "v2", docker.body, docker.media_type)).status == 415
        assert (await client.put_manifest("app", "v2", IMAGE.body, media.OCI_MANIFEST)).status == 404
        assert await mounted(client, "nowhere") == 201
        assert (await client.ask("POST", "/v2/app/blobs/uploads/?from=other")).status == 405
        ping = await client.ask("GET", "/v2/")
        assert (ping.status, ping.headers["WWW-Authenticate"][:13]) == (200, "bearer realm=")


async def test_gitlab() -> None:
    async with asking(gitlab()) as client:
        assert await mounted(client, "app") == 401
        assert await mounted(client, "other/app") == 202
        assert (await client.ask("GET", REFERRERS)).status == 404


async def test_distribution_2_8() -> None:
    registry = distribution_2_8()
    async with asking(registry) as client:
        registry.put_manifest("app", IMAGE, "v2")
        assert (await client.ask("GET", "/v2/app/tags/list?n=1")).json["tags"] == ["v1", "v2"]
        assert (await client.ask("DELETE", "/v2/app/manifests/v1")).code == "DIGEST_INVALID"
        assert (await client.ask("DELETE", f"/v2/app/manifests/{IMAGE.digest}")).status == 405
        assert "_state=" in await client.start_upload("app")
        assert (await client.ask("GET", REFERRERS)).status == 404


async def _chunks() -> AsyncIterator[bytes]:
    yield DATA
