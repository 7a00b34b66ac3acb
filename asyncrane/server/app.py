"""The registry on aiohttp.web: requests become calls, replies become responses; starting and stopping it."""

from __future__ import annotations

import logging
from collections.abc import AsyncIterator, Callable
from contextlib import aclosing, asynccontextmanager
from ssl import SSLContext
from urllib.parse import quote

import anyio
from aiohttp import ClientError, StreamReader, web

from asyncrane.errors import InvalidInput
from asyncrane.server.accepting import accepting
from asyncrane.server.access import Auth
from asyncrane.server.api import Registry
from asyncrane.server.call import Around, Call, Handler, HangUp
from asyncrane.server.refusal import error_reply
from asyncrane.server.reply import Reply, Stream
from asyncrane.server.routes import find_route
from asyncrane.server.storage import Storage

_LOG = logging.getLogger(__name__)
_READ_BUFFER = 256 * 1024
_PLAIN = "/:@!$&'()*+,;=~"
"""What a path in a log is written with as it is; spaces and line feeds would make fields and lines of their own."""

_GONE = (ConnectionError, ClientError, web.RequestPayloadError)

REGISTRY = web.AppKey("registry", Registry)
"""Where an application keeps its registry."""


def make_app(
    storage: Storage,
    *,
    auth: Auth | None = None,
    page: int = 1000,
    around: Around | None = None,
    google: bool = False,
    silence: float = 300.0,
) -> web.Application:
    """The registry as an application.

    :param auth: who may use it; without one, everybody
    :param page: entries of the longest page of tags, repositories or referrers
    :param around: sees every call before access is checked, and every reply
    :param google: list and delete as Google's registries do
    :param silence: seconds for which a client may send nothing of a body it owes, or take nothing of an answer
    """
    registry = Registry(storage, auth=auth, page=page, google=google)

    async def inner(call: Call) -> Reply:
        try:
            return await registry.answer(call)
        except (HangUp, *_GONE):
            raise
        except Exception:
            _LOG.exception("%s %s failed", call.method, quote(call.path, safe=_PLAIN))
            return error_reply(500, "UNKNOWN", "the registry failed; its log says why")

    async def handle(request: web.Request) -> web.StreamResponse:
        call = _call(request, silence)
        try:
            reply = await (around(call, inner) if around else inner(call))
            return await _send(request, reply, silence)
        except HangUp as order:
            return _hang_up(request, reset=order.reset)
        except _GONE:
            return _hang_up(request, reset=False)

    app = web.Application()
    app[REGISTRY] = registry
    app.router.add_route("*", "/{path:.*}", handle)
    return app


@asynccontextmanager
async def serving(
    app: web.Application,
    *,
    host: str = "127.0.0.1",
    port: int = 0,
    ssl: SSLContext | None = None,
    grace: float = 1.0,
    idle: float = 75.0,
) -> AsyncIterator[str]:
    """Serve ``app``; gives ``host:port`` as clients write it, with the real port.

    :param idle: seconds a connection may take to bring a whole head of a request, the first or the next one
    :param grace: seconds the requests under way have to end when this is left
    :raises OSError: when the address cannot be listened on
    """
    runner = web.AppRunner(
        app,
        access_log=None,
        shutdown_timeout=grace,
        keepalive_timeout=idle,
        auto_decompress=False,  # what is stored is what was sent; a few bytes may stand for a disk full
        read_bufsize=_READ_BUFFER,
        # A client that has gone must not keep its upload session busy.
        handler_cancellation=True,
    )
    await runner.setup()
    try:
        async with accepting(runner, host, port, ssl) as bound:
            yield f"[{host}]:{bound}" if ":" in host else f"{host}:{bound}"
    finally:
        with anyio.CancelScope(shield=True):
            await runner.cleanup()


def parse_address(text: str, *, default_port: int = 0) -> tuple[str, int]:
    """Read ``[HOST][:PORT]``; without a host it is the loopback, without a port the default (0: any free one).

    :raises InvalidInput: when it is not an address to listen on
    """
    host, port = text, ""
    if text.startswith("["):
        host, bracket, rest = text[1:].partition("]")
        if not bracket or (rest and not rest.startswith(":")):
            raise InvalidInput(f"not an address to listen on: {text!r} (expected HOST:PORT)")
        port = rest[1:]
    elif ":" in text:
        host, _, port = text.rpartition(":")
    number = int(port) if port.isascii() and port.isdigit() and len(port) < 6 else -1
    if (port and not 0 <= number < 65536) or (":" in host and not text.startswith("[")):
        raise InvalidInput(f"not an address to listen on: {text!r} (expected HOST:PORT)")
    return host or "127.0.0.1", number if port else default_port


def access_log(write: Callable[[str], None]) -> Around:
    """An ``around`` that writes one line per request: method, path, status, bytes. Query strings are left out: they
    carry what is nobody's business."""

    async def around(call: Call, handler: Handler) -> Reply:
        reply = await handler(call)
        write(f"{call.method} {quote(call.path, safe=_PLAIN)} {reply.status} {reply.length}")
        return reply

    return around


def _call(request: web.Request, silence: float) -> Call:
    query: dict[str, tuple[str, ...]] = {}
    for name, value in request.query.items():
        query[name] = (*query.get(name, ()), value)
    length = request.content_length
    return Call(
        route=find_route(request.method, request.path, mounting="mount" in query),
        method=request.method,
        path=request.path,
        raw_query=request.rel_url.raw_query_string,
        query=query,
        headers=request.headers,
        body=_arriving(request.content, silence),
        length=length if length is not None else 0 if not request.can_read_body else -1,
        base=f"{request.scheme}://{request.host}",
    )


async def _arriving(content: StreamReader, silence: float) -> AsyncIterator[bytes]:
    """A body as it comes; a client that sends nothing more keeps nothing open."""
    chunk = b"first"
    while chunk:
        with anyio.move_on_after(silence) as scope:
            chunk = await content.readany()
        if scope.cancelled_caught:
            raise HangUp(reset=True)
        if chunk:
            yield chunk


async def _send(request: web.Request, reply: Reply, silence: float) -> web.StreamResponse:
    headers = {"Docker-Distribution-API-Version": "registry/2.0", **reply.headers}
    if not isinstance(reply.body, Stream):
        return web.Response(status=reply.status, headers=headers, body=reply.body or None)
    response = web.StreamResponse(status=reply.status, headers=headers)
    if "Content-Length" not in headers and reply.body.length >= 0:
        response.content_length = reply.body.length
    await response.prepare(request)
    async with aclosing(reply.body.chunks()) as chunks:
        async for chunk in chunks:
            with anyio.move_on_after(silence) as scope:
                await response.write(chunk)
            if scope.cancelled_caught:
                raise HangUp(reset=True)
    await response.write_eof()
    return response


def _hang_up(request: web.Request, *, reset: bool) -> web.StreamResponse:
    """Close the connection; the response is for nobody."""
    if transport := request.transport:
        if reset:
            transport.abort()
        else:
            transport.close()
    return web.Response(status=400)
