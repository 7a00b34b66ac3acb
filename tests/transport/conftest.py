"""Servers and pools that are gone when the test is over."""

from __future__ import annotations

import socket
import ssl
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import AsyncExitStack
from typing import Any, Protocol

import pytest
import trustme

from asyncrane.transport import Pool
from asyncrane.transport.proxy import Proxies
from tests.transport.server import Answering, Server


class Serve(Protocol):
    async def __call__(self, answering: Answering, *, context: ssl.SSLContext | None = None) -> Server: ...


OpenPool = Callable[..., Awaitable[Pool]]


@pytest.fixture
async def stack() -> AsyncIterator[AsyncExitStack]:
    async with AsyncExitStack() as stack:
        yield stack


@pytest.fixture
def serve(stack: AsyncExitStack) -> Serve:
    async def start(answering: Answering, *, context: ssl.SSLContext | None = None) -> Server:
        server = Server(answering, context=context)
        await server.start()
        stack.push_async_callback(server.stop)
        return server

    return start


@pytest.fixture
def open_pool(stack: AsyncExitStack) -> OpenPool:
    """Opens a pool whose waits are short, and which does not look at this machine's proxies."""

    async def enter(**settings: Any) -> Pool:
        return await stack.enter_async_context(Pool(**{"retry_base": 0.001, "proxies": Proxies(), **settings}))

    return enter


@pytest.fixture
def free_port() -> int:
    """A port nobody listens on."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port: int = probe.getsockname()[1]
        return port


@pytest.fixture(scope="session")
def ca() -> trustme.CA:
    return trustme.CA()
