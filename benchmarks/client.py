"""The harness's own client: the few requests of the distribution API that fill a registry and look into it."""

from __future__ import annotations

from contextlib import asynccontextmanager
from typing import TYPE_CHECKING
from urllib.parse import urljoin

import aiohttp
from yarl import URL

if TYPE_CHECKING:
    import ssl
    from collections.abc import AsyncIterator, Mapping

AGENT = "asyncrane-benchmarks"  # by this name the access log tells our requests from a runner's
MANIFEST_TYPE = "application/vnd.oci.image.manifest.v1+json"


class UnexpectedAnswer(Exception):
    """A registry did not answer as it must for the benchmark to make sense."""


class Client:
    """One registry, seen from the harness."""

    def __init__(self, session: aiohttp.ClientSession, url: str) -> None:
        self._session = session
        self.url = url

    def __repr__(self) -> str:
        return f"Client({self.url!r})"

    async def _ask(
        self, method: str, url: str, *, expect: tuple[int, ...], data: bytes | AsyncIterator[bytes] | None = None
    ) -> tuple[int, Mapping[str, str], bytes]:
        headers = {"Content-Type": "application/octet-stream"} if data is not None else {}
        if "/manifests/" in url:
            headers = {"Accept": MANIFEST_TYPE, "Content-Type": MANIFEST_TYPE}
        target = URL(urljoin(self.url, url), encoded=True)
        async with self._session.request(method, target, data=data, headers=headers) as answer:
            body = await answer.read()
            if answer.status not in expect:
                raise UnexpectedAnswer(f"{method} {url}: {answer.status} {body[:200].decode(errors='replace')}")
            return answer.status, answer.headers, body

    async def upload(self, repository: str, digest: str, data: bytes) -> None:
        """Put a small blob."""
        _, headers, _ = await self._ask("POST", f"/v2/{repository}/blobs/uploads/", expect=(202,), data=b"")
        await self._ask("PUT", _with_digest(headers["Location"], digest), expect=(201,), data=data)

    async def open_upload(self, repository: str, data: AsyncIterator[bytes]) -> str:
        """Send a blob whose digest nobody knows yet; the answer is where :meth:`close_upload` names it."""
        _, headers, _ = await self._ask("POST", f"/v2/{repository}/blobs/uploads/", expect=(202,), data=b"")
        _, headers, _ = await self._ask("PATCH", headers["Location"], expect=(202,), data=data)
        return headers["Location"]

    async def close_upload(self, location: str, digest: str) -> None:
        """End an upload by saying what it was."""
        await self._ask("PUT", _with_digest(location, digest), expect=(201,), data=b"")

    async def mount(self, repository: str, digest: str, donor: str) -> bool:
        """Take a blob over from another repository; ``False`` when the registry would rather be sent it."""
        target = f"/v2/{repository}/blobs/uploads/?mount={digest}&from={donor}"
        status, _, _ = await self._ask("POST", target, expect=(201, 202), data=b"")
        return status == 201

    async def publish(self, repository: str, tag: str, manifest: bytes) -> None:
        """Put a manifest under a tag."""
        await self._ask("PUT", f"/v2/{repository}/manifests/{tag}", expect=(201,), data=manifest)

    async def digest(self, repository: str, tag: str) -> str | None:
        """What a tag names."""
        status, headers, _ = await self._ask("HEAD", f"/v2/{repository}/manifests/{tag}", expect=(200, 404))
        return headers.get("Docker-Content-Digest") if status == 200 else None

    async def size(self, repository: str, digest: str) -> int | None:
        """How large a blob of a repository is, ``None`` when the repository has no such blob."""
        status, headers, _ = await self._ask("HEAD", f"/v2/{repository}/blobs/{digest}", expect=(200, 404))
        return int(headers["Content-Length"]) if status == 200 else None

    async def remove(self, repository: str, digest: str) -> None:
        """Delete a manifest, as far as the registry lets us."""
        await self._ask("DELETE", f"/v2/{repository}/manifests/{digest}", expect=(202, 400, 404, 405))


def _with_digest(location: str, digest: str) -> str:
    return f"{location}{'&' if '?' in location else '?'}digest={digest}"


@asynccontextmanager
async def connected(url: str, *, trust: ssl.SSLContext | None = None) -> AsyncIterator[Client]:
    """A client for the registry at ``url`` (``http://host:port``); ``trust`` is for ``https``."""
    connector = aiohttp.TCPConnector(limit=16, ssl=trust if trust is not None else True)
    timeout = aiohttp.ClientTimeout(total=None, sock_connect=10, sock_read=120)
    async with aiohttp.ClientSession(connector=connector, timeout=timeout, headers={"User-Agent": AGENT}) as session:
        yield Client(session, url)
