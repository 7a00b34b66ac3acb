"""One attempt: a request goes out, the head of an answer comes in. No second tries, no credentials, no redirects."""

from __future__ import annotations

import asyncio
import math
import time
from collections.abc import AsyncIterator, Mapping
from typing import NoReturn

import aiohttp
import anyio
from yarl import URL

from asyncrane.errors import AsyncraneError, ServerFault, SizeMismatch, TimedOut, TransportError
from asyncrane.transport import failure
from asyncrane.transport.answer import Body
from asyncrane.transport.proxy import Proxies, Proxy
from asyncrane.transport.rate import Pace
from asyncrane.transport.redaction import Trace, bare_url
from asyncrane.transport.statistics import Counters
from asyncrane.transport.tls import Context, Trust

SMALL = 64 * 1024
"""Bytes that fit a socket's buffers: a body up to this size is handed over at once."""

_LETTING_GO = 5.0
_SLOWEST = 4096
"""Bytes a second, after the stall limit: what comes byte by byte would never stall, and never end."""


class Response(aiohttp.ClientResponse):
    """An answer whose failure to begin is called :class:`~asyncrane.transport.failure.Dropped`.

    By its usual names aiohttp would send GET, HEAD, PUT and DELETE a second time, unasked. A PUT that commits an upload
    must not be doubled unseen; trying again, counted and visible, is :mod:`~asyncrane.transport.origin`'s business.
    """

    async def start(self, connection: aiohttp.connector.Connection) -> aiohttp.ClientResponse:
        """Wait for the head of the answer."""
        try:
            return await super().start(connection)
        except (aiohttp.ClientOSError, aiohttp.ServerDisconnectedError) as exc:
            raise failure.Dropped(str(exc)) from exc

    def __repr__(self) -> str:
        # aiohttp's own shows the whole URL, which may be signed, and every header
        return f"Response({self.method} {bare_url(str(self.url))}, {self.status})"


class Route:
    """How to reach one scheme, host and port."""

    __slots__ = ("proxy", "proxy_headers", "request_headers", "ssl")

    def __init__(self, context: Context | None, proxy: Proxy | None) -> None:
        tunnel = context is not None
        self.ssl: Context = context if context is not None else True
        self.proxy = proxy.url if proxy else None
        shown = {"Proxy-Authorization": proxy.authorization} if proxy and proxy.authorization else None
        self.proxy_headers = shown if tunnel else None
        self.request_headers = None if tunnel else shown


class Upload:
    """A :class:`Body` on its way, as an iterator aiohttp reads in a task of its own.

    ``taken`` is how many bytes were read from it, which ``counters`` hear of at once, ``error`` what it raised.
    ``scope`` is cancelled when a chunk handed over is not asked about again within the stall limit: then the peer does
    not take it. Bytes leave at ``pace``.
    """

    def __init__(
        self,
        body: Body,
        what: str,
        stall_timeout: float,
        counters: Counters,
        *,
        patience: float = 0.0,
        pace: Pace | None = None,
    ) -> None:
        self.patience = patience
        self.taken = 0
        self.error: Exception | None = None
        self.scope = anyio.CancelScope()
        self._iterator = body.open()
        self._length = body.length
        self._what = what
        self._stall = stall_timeout
        self._counters = counters
        self._pace = pace
        self._clock = asyncio.get_running_loop().time
        self._ended = False
        self._reading: asyncio.Future[None] | None = None

    def __aiter__(self) -> AsyncIterator[bytes]:
        return self

    async def __anext__(self) -> bytes:
        if self._ended:
            # twice the limit: the rest leaves in one, then the answer has another (aiohttp's own watchdog)
            self.scope.deadline = self._clock() + 2 * self._stall + self.patience
            raise StopAsyncIteration
        # however long the source takes is not the peer's fault
        self.scope.deadline = math.inf
        self._reading = asyncio.get_running_loop().create_future()
        try:
            chunk = await self._next()
            if self._pace is not None:
                await self._pace.take(len(chunk))
        except StopAsyncIteration:
            self.scope.deadline = self._clock() + 2 * self._stall + self.patience
            raise
        except Exception as exc:
            self.error = exc
            raise
        finally:
            self._reading.set_result(None)
            self._reading = None
        self.scope.deadline = self._clock() + self._stall
        return chunk

    async def _next(self) -> bytes:
        chunk = b""
        try:
            while not chunk:
                chunk = await anext(self._iterator)
        except StopAsyncIteration:
            if self._length is not None and self.taken != self._length:
                self._mismatch(f"the body ended after {self.taken} of {self._length} bytes")
            raise
        self.taken += len(chunk)
        self._counters.sent += len(chunk)
        if self._length is None or self.taken < self._length:
            return chunk
        if self.taken > self._length:
            self._mismatch(f"the body is longer than {self._length} bytes")
        # the end comes before the last bytes leave: a verifying iterator still can refuse, and is never cut off
        async for rest in self._iterator:
            if rest:
                self._mismatch(f"the body is longer than {self._length} bytes")
        self._ended = True
        return chunk

    def _mismatch(self, why: str) -> NoReturn:
        raise SizeMismatch(f"{self._what}: {why}")

    async def close(self) -> None:
        """Wait until aiohttp lets go of the iterator, and close it."""
        while (reading := self._reading) is not None:
            await asyncio.wait([reading])
        close = getattr(self._iterator, "aclose", None)
        if close is not None:
            await close()


class Wire:
    """aiohttp, as asyncrane wants it."""

    def __init__(
        self,
        session: aiohttp.ClientSession,
        *,
        trust: Trust,
        proxies: Proxies,
        stall_timeout: float,
        trace: Trace | None,
    ) -> None:
        self.stall_timeout = stall_timeout
        self.trace = trace
        self._session = session
        self._trust = trust
        self._proxies = proxies
        self._routes: dict[tuple[str, str, int], Route] = {}

    def route(self, url: URL) -> Route:
        """How to reach a URL's host; remembered."""
        scheme, host, port = url.scheme, url.host or "", url.port or 0
        route = self._routes.get((scheme, host, port))
        if route is None:
            name = f"[{host}]" if ":" in host else host
            context = self._trust.context(name, port) if scheme == "https" else None
            route = Route(context, self._proxies.choose(scheme, host, port))
            self._routes[scheme, host, port] = route
        return route

    async def send(
        self,
        method: str,
        url: URL,
        route: Route,
        headers: Mapping[str, str],
        body: bytes | Upload | None,
        *,
        patience: float = 0.0,
    ) -> aiohttp.ClientResponse:
        """Send a request and wait for the head of the answer.

        :raises TransportError: when there is none
        """
        if route.request_headers is not None:
            headers = {**headers, **route.request_headers}
        trace, started = self.trace, 0.0
        if trace is not None:
            trace.request(method, str(url), headers)
            started = time.perf_counter()
        try:
            response = await self._session.request(
                method,
                url,
                headers=headers,
                data=body,
                allow_redirects=False,
                ssl=route.ssl,
                proxy=route.proxy,
                proxy_headers=route.proxy_headers,
                timeout=self._timeout(patience),
            )
        except failure.FOREIGN as exc:
            raise self.failed(exc, method, url) from exc
        if trace is not None:
            trace.answer(method, str(url), response.status, response.headers, time.perf_counter() - started)
        return response

    def _timeout(self, patience: float) -> aiohttp.ClientTimeout:
        usual = self._session.timeout
        if patience < 1 or usual.sock_read is None:
            return usual
        return aiohttp.ClientTimeout(total=None, sock_connect=usual.sock_connect, sock_read=usual.sock_read + patience)

    async def upload(
        self, method: str, url: URL, route: Route, headers: Mapping[str, str], upload: Upload, *, limit: int
    ) -> tuple[aiohttp.ClientResponse, bytes]:
        """Send a request with a streamed body and read the answer, which may come before the body is through.

        :raises TimedOut: when the peer takes nothing for the stall limit
        """
        found: tuple[aiohttp.ClientResponse, bytes] | None = None
        failed: TransportError | None = None
        try:
            with upload.scope:
                response = await self.send(method, url, route, headers, upload, patience=upload.patience)
                found = response, await self.read(method, response, limit=limit)
        except TransportError as exc:
            failed = exc
        finally:
            # aiohttp's writer is on its way out; the iterator must be at rest before the caller goes on
            with anyio.move_on_after(_LETTING_GO, shield=True):
                await upload.close()
        if upload.error is not None:
            raise upload.error
        if failed is not None:
            raise failed
        if found is None:
            raise failure.stalled(method, str(url), self.stall_timeout)
        return found

    async def read(self, method: str, response: aiohttp.ClientResponse, *, limit: int) -> bytes:
        """The body of an answer, cut at ``limit`` bytes when it is an error's.

        :raises ServerFault: when it is longer than that
        :raises TimedOut: when it comes slower than anybody has to send it
        """
        if method == "HEAD":
            response.release()
            return b""
        try:
            length = response.content_length
            if length is not None and length <= limit and response.content.is_eof():  # it has come already
                return await response.read()
            return await self._read_piecewise(method, response, limit)
        except failure.FOREIGN as exc:
            raise self.failed(exc, method, response.url) from exc

    async def _read_piecewise(self, method: str, response: aiohttp.ClientResponse, limit: int) -> bytes:
        pieces, size = list[bytes](), 0
        clock = asyncio.get_running_loop().time
        started = clock()
        try:
            while chunk := await response.content.readany():
                pieces.append(chunk)
                size += len(chunk)
                if size > limit and response.status < 400:
                    raise ServerFault(
                        f"{method} {bare_url(str(response.url))}: the answer is longer than {limit} bytes"
                    )
                if size > limit:
                    break
                if (spent := clock() - started) > self.stall_timeout + size / _SLOWEST:
                    raise TimedOut(f"{method} {bare_url(str(response.url))}: {size} bytes in {spent:.0f} s, and no end")
        finally:
            if not response.content.at_eof():
                response.close()
        return b"".join(pieces)[:limit]

    def failed(self, exc: Exception, method: str, url: URL) -> AsyncraneError:
        """The error for an exception."""
        error = failure.of_exception(exc, method, str(url), limit=self.stall_timeout)
        if self.trace is not None:
            self.trace.failure(error)
        return error
