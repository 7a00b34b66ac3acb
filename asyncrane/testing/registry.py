"""The embedded registry with faults and a log: :class:`FaultyRegistry`."""

from __future__ import annotations

import contextlib
import ssl
from collections.abc import AsyncGenerator, AsyncIterator
from dataclasses import replace
from types import TracebackType
from typing import Literal

from asyncrane.oci.digest import Digest
from asyncrane.oci.manifest import Manifest
from asyncrane.server import REGISTRY, Auth, MemoryStorage, Storage, make_app, serving
from asyncrane.server.call import Around, Call, Handler
from asyncrane.server.refusal import error_reply
from asyncrane.server.reply import Chunk, Reply, Stream
from asyncrane.testing.faults import Faults
from asyncrane.testing.log import LoggedRequest, RequestLog

Locations = Literal["relative", "absolute", "opaque"]


class FaultyRegistry:
    """A registry that does what a test wants, and remembers what it was asked.

    ``async with FaultyRegistry() as registry`` serves it on a free loopback port.

    :param locations: what an upload's Location is: a path, a URL, or ``opaque``, a path with a query that changes with
        every answer, must come back as it was, percent signs and all, and only in its newest form
    :param storage_host: blobs are answered with a redirect to a second port, which takes GETs with the exact query it
        gave out, and refuses whoever sends it credentials, as presigned URLs do
    :param google: lists have children and manifests, there is no catalog, and a manifest goes only after its tags
    """

    def __init__(
        self,
        storage: Storage | None = None,
        *,
        auth: Auth | None = None,
        ssl: ssl.SSLContext | None = None,
        host: str = "127.0.0.1",
        page: int = 1000,
        locations: Locations = "relative",
        storage_host: bool = False,
        google: bool = False,
    ) -> None:
        self.storage: Storage = MemoryStorage() if storage is None else storage
        self.auth = auth
        self.faults = Faults()
        self.log = RequestLog()
        self.address = ""
        self.storage_address = ""
        self._ssl = ssl
        self._host = host
        self._app = make_app(self.storage, auth=auth, page=page, around=self._around, google=google)
        self._locations = locations
        self._states: dict[str, list[str]] = {}
        self._storage_host = storage_host
        self._signatures = 0
        self._exit = contextlib.AsyncExitStack()
        self._listening = contextlib.AsyncExitStack()

    def __repr__(self) -> str:
        return f"FaultyRegistry({self.address!r}, {self.log!r})"

    async def __aenter__(self) -> FaultyRegistry:
        self._exit.push_async_callback(self.go_down)
        await self._listen(0)
        if self._storage_host:
            app = make_app(self.storage, around=self._storage_around)
            self.storage_address = await self._exit.enter_async_context(
                serving(app, host=self._host, ssl=self._ssl, grace=0.2)
            )
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, exc: BaseException | None, at: TracebackType | None
    ) -> None:
        await self._exit.aclose()

    async def go_down(self) -> None:
        """Break all connections and refuse new ones; what is stored and what is being uploaded stays."""
        await self._listening.aclose()

    async def come_back(self) -> None:
        """Listen again where it was."""
        await self._listen(int(self.address.rpartition(":")[2]))

    async def _listen(self, port: int) -> None:
        served = serving(self._app, host=self._host, port=port, ssl=self._ssl, grace=0.2)
        self.address = await self._listening.enter_async_context(served)

    @property
    def url(self) -> str:
        """``http://address`` or ``https://address``."""
        return f"{self._scheme}://{self.address}"

    @property
    def open_uploads(self) -> int:
        """Upload sessions that were neither finished nor cancelled."""
        return len(self._app[REGISTRY].uploads)

    def requests(
        self,
        *,
        kind: str | None = None,
        method: str | None = None,
        repository: str | None = None,
        digest: str | None = None,
        status: int | None = None,
    ) -> list[LoggedRequest]:
        """The logged requests that are all of what is given."""
        return self.log.requests(kind=kind, method=method, repository=repository, digest=digest, status=status)

    def put_blob(self, repository: str, data: bytes, *, algorithm: str = "sha256") -> Digest:
        """Store a blob without a request."""
        digest = Digest.of(data, algorithm)
        incoming = self.storage.incoming()
        incoming.write(data)
        incoming.pause()
        self.storage.keep(incoming, repository, digest)
        return digest

    def get_blob(self, repository: str, digest: Digest) -> bytes | None:
        """A stored blob, without a request; ``None`` when this repository has it not."""
        size = self.storage.index.blob_size(repository, digest)
        return None if size is None else b"".join(self.storage.pieces(digest, 0, size))

    def put_manifest(self, repository: str, manifest: Manifest, *tags: str) -> Digest:
        """Store a manifest without a request, whether or not what it is made of is there."""
        self.storage.put_manifest(repository, manifest)
        for tag in tags:
            self.storage.put_tag(repository, tag, manifest.digest)
        return manifest.digest

    def get_manifest(self, repository: str, identifier: str) -> Manifest | None:
        """A stored manifest by tag or digest, without a request."""
        index = self.storage.index
        digest = Digest.parse(identifier) if ":" in identifier else index.tagged(repository, identifier)
        if digest is None or index.manifest_size(repository, digest) is None:
            return None
        return self.storage.manifest(repository, digest)

    def expire_signatures(self) -> None:
        """The URLs of the storage host given out so far are no longer good."""
        self._signatures += 1

    @property
    def _scheme(self) -> str:
        return "https" if self._ssl else "http"

    # one request

    async def _around(self, call: Call, handler: Handler) -> Reply:
        async def inner(call: Call) -> Reply:
            return await self._locate(call, handler)

        return await self._observe(call, inner)

    async def _storage_around(self, call: Call, handler: Handler) -> Reply:
        async def inner(seen: Call) -> Reply:
            if "Authorization" in seen.headers or seen.raw_query != self._signature or seen.method != "GET":
                return Reply(403, {"Content-Type": "application/xml"}, b"<Error><Code>AccessDenied</Code></Error>")
            return await handler(replace(seen, route=call.route))

        return await self._observe(replace(call, route=replace(call.route, kind="storage")), inner)

    async def _observe(self, call: Call, handler: Handler) -> Reply:
        """Log the request from its arrival to the last byte of its answer, and let the faults at it."""
        request = LoggedRequest.of(call)
        self.log.begin(request)
        try:
            striking = self.faults.striking(call)
            request.faults = tuple(fault.name for fault in striking)
            for fault in reversed(striking):
                handler = _within(fault.effect, handler)
            reply = await handler(replace(call, body=_counted(call.body, request)))
        except BaseException:
            self.log.end(request)
            raise
        request.status = reply.status
        if not isinstance(reply.body, Stream):
            request.response_bytes = 0 if call.method == "HEAD" else len(reply.body)
            self.log.end(request)
            return reply
        body = reply.body
        return replace(reply, body=Stream(body.length, lambda: self._sent(body, request)))

    async def _sent(self, body: Stream, request: LoggedRequest) -> AsyncGenerator[Chunk, None]:
        try:
            async with contextlib.aclosing(body.chunks()) as chunks:
                async for chunk in chunks:
                    request.response_bytes += len(chunk)
                    if 0 <= body.length <= request.response_bytes:
                        # Now, not when we are asked for more: by then the client may have looked at the log.
                        self.log.end(request)
                    yield chunk
        finally:
            self.log.end(request)

    # where things are said to be

    async def _locate(self, call: Call, handler: Handler) -> Reply:
        kind = call.route.kind
        if kind.startswith("upload-") and call.route.identifier and not self._is_newest(call):
            return error_reply(404, "BLOB_UPLOAD_UNKNOWN", "this is not the newest location of the upload")
        reply = await handler(call)
        if kind == "blob-get" and self._storage_host and reply.status in (200, 206):
            return Reply(307, {"Location": f"{self._scheme}://{self.storage_address}{call.path}?{self._signature}"})
        location = reply.headers.get("Location", "")
        if "/blobs/uploads/" not in location or self._locations == "relative":
            return reply
        if self._locations == "absolute":
            return replace(reply, headers={**reply.headers, "Location": call.base + location})
        states = self._states.setdefault(location.rpartition("/")[2], [])
        states.append(f"_state={len(states)}%2F%2b+%3D~x&_y=")
        return replace(reply, headers={**reply.headers, "Location": f"{location}?{states[-1]}"})

    def _is_newest(self, call: Call) -> bool:
        """Whether an upload is gone on with where it was last said to be; its status may be asked anywhere."""
        states = self._states.get(call.route.identifier)
        if not states:
            return True
        usable = states if call.route.kind == "upload-status" else states[-1:]
        return any(f"{call.raw_query}&".startswith(f"{state}&") for state in usable)

    @property
    def _signature(self) -> str:
        return f"X-Signature={self._signatures}%2Fa%2bb%3D&X-Expires=60"


def _within(effect: Around, handler: Handler) -> Handler:
    async def struck(call: Call) -> Reply:
        return await effect(call, handler)

    return struck


async def _counted(body: AsyncIterator[bytes], request: LoggedRequest) -> AsyncIterator[bytes]:
    async for chunk in body:
        request.request_bytes += len(chunk)
        yield chunk
