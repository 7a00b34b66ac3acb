"""Accepting connections so that none is lost when it ends."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from ssl import SSLContext

import anyio
from aiohttp import web
from anyio.lowlevel import checkpoint


@asynccontextmanager
async def accepting(
    runner: web.BaseRunner, host: str, port: int = 0, ssl: SSLContext | None = None
) -> AsyncIterator[int]:
    """Accept connections for the runner, which was set up, at ``host``; gives the port.

    When this is left, the runner knows of the connection accepted last: an event loop takes three turns from accepting
    a connection to ``connection_made``. Closed earlier, as ``aiohttp.web.TCPSite`` does, the loop loses the connection
    and leaves its socket open.

    :raises OSError: when the address cannot be listened on
    """
    if runner.server is None:
        raise RuntimeError("the runner was not set up")
    loop = asyncio.get_running_loop()
    with anyio.CancelScope(shield=True):  # cancelled, it would leave the listening socket open
        server = await loop.create_server(runner.server, host, port, ssl=ssl, backlog=128)
    try:
        yield int(server.sockets[0].getsockname()[1])
    finally:
        for listener in server.sockets:
            loop.remove_reader(listener)
        with anyio.CancelScope(shield=True):
            for _ in range(3):
                await checkpoint()
        server.close()
