"""A client for the tests of the server: aiohttp with the registry's address and a few words for what is pushed."""

from __future__ import annotations

import io
import json
from typing import Any

import aiohttp
from multidict import CIMultiDictProxy
from yarl import URL

from asyncrane.oci import media
from asyncrane.oci.digest import Digest


class Answer:
    """A whole answer."""

    def __init__(self, response: aiohttp.ClientResponse, body: bytes) -> None:
        self.status = response.status
        self.headers: CIMultiDictProxy[str] = response.headers
        self.body = body

    @property
    def json(self) -> Any:
        return json.loads(self.body)

    @property
    def code(self) -> str:
        """The error code of the body."""
        return str(self.json["errors"][0]["code"])

    def __repr__(self) -> str:
        return f"Answer({self.status}, {self.body[:200]!r})"


class Client:
    def __init__(self, session: aiohttp.ClientSession, address: str, *, scheme: str = "http") -> None:
        self.session = session
        self.base = f"{scheme}://{address}"

    async def ask(self, method: str, target: str, **arguments: Any) -> Answer:
        """Send a request; the target's encoding is left alone."""
        url = URL(target if target.startswith("http") else self.base + target, encoded=True)
        async with self.session.request(method, url, allow_redirects=False, **arguments) as response:
            return Answer(response, await response.read())

    async def start_upload(self, repository: str, query: str = "") -> str:
        """Open an upload session; its location."""
        answer = await self.ask("POST", f"/v2/{repository}/blobs/uploads/{query}")
        assert answer.status == 202, answer
        return str(answer.headers["Location"])

    async def push_blob(self, repository: str, data: bytes, *, algorithm: str = "sha256") -> Digest:
        digest = Digest.of(data, algorithm)
        location = await self.start_upload(repository)
        answer = await self.ask("PUT", f"{location}?digest={digest}", data=io.BytesIO(data))
        assert answer.status == 201, answer
        return digest

    async def push_manifest(
        self, repository: str, fields: dict[str, Any], *, tag: str | None = None, algorithm: str = "sha256"
    ) -> Digest:
        body = json.dumps(fields).encode()
        digest = Digest.of(body, algorithm)
        answer = await self.put_manifest(repository, tag or digest, body, fields["mediaType"])
        assert answer.status == 201, answer
        return digest

    async def put_manifest(self, repository: str, identifier: str, body: bytes, content_type: str) -> Answer:
        target = f"/v2/{repository}/manifests/{identifier}"
        return await self.ask("PUT", target, data=body, headers={"Content-Type": content_type})

    async def push_image(self, repository: str, *, tag: str | None = None, seed: str = "", **more: Any) -> Digest:
        """Push an image of one config and one layer."""
        return await self.push_manifest(repository, await self.image(repository, seed=seed, **more), tag=tag)

    async def image(self, repository: str, *, seed: str = "", **more: Any) -> dict[str, Any]:
        """The fields of an image manifest whose blobs are pushed."""
        config, layer = b'{"seed": "%s"}' % seed.encode(), b"layer %s" % seed.encode()
        for data in (config, layer):
            await self.push_blob(repository, data)
        return {
            "schemaVersion": 2,
            "mediaType": media.OCI_MANIFEST,
            "config": described(config, media.OCI_CONFIG),
            "layers": [described(layer, media.OCI_LAYER)],
            **more,
        }


def described(data: bytes, media_type: str) -> dict[str, Any]:
    """The descriptor of some bytes."""
    return {"mediaType": media_type, "digest": Digest.of(data), "size": len(data)}
