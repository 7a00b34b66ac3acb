"""Real HTTP servers on loopback that answer as a function says, and remember what they were asked."""

from __future__ import annotations

import asyncio
import base64
import json
import ssl
import time
from collections.abc import Awaitable, Callable
from contextlib import AsyncExitStack
from dataclasses import dataclass, field

from aiohttp import web
from multidict import CIMultiDictProxy

from asyncrane.server.accepting import accepting

Answering = Callable[[web.BaseRequest], Awaitable[web.StreamResponse]]


@dataclass(frozen=True)
class Asked:
    """One request as it arrived; ``at`` is monotonic seconds."""

    method: str
    raw_path: str
    headers: CIMultiDictProxy[str]
    at: float = field(default_factory=time.monotonic)

    @property
    def path(self) -> str:
        return self.raw_path.partition("?")[0]


class Server:
    """A server on a free port; everything goes to ``answering``."""

    def __init__(self, answering: Answering, *, context: ssl.SSLContext | None = None) -> None:
        self.asked: list[Asked] = []
        self._answering = answering
        self._context = context
        self._runner = web.ServerRunner(web.Server(self._handle, handler_cancellation=True), shutdown_timeout=0.1)
        self._listening = AsyncExitStack()
        self.port = 0

    async def start(self) -> None:
        await self._runner.setup()
        self._listening.push_async_callback(self._runner.cleanup)
        accepted = accepting(self._runner, "127.0.0.1", ssl=self._context)
        self.port = await self._listening.enter_async_context(accepted)

    async def stop(self) -> None:
        await self._listening.aclose()

    @property
    def address(self) -> str:
        return f"127.0.0.1:{self.port}"

    @property
    def url(self) -> str:
        return f"{'https' if self._context else 'http'}://{self.address}"

    def of(self, path: str, method: str = "") -> list[Asked]:
        """The requests for one path, as it looked on the wire."""
        return [a for a in self.asked if a.path == path and method in ("", a.method)]

    async def _handle(self, request: web.BaseRequest) -> web.StreamResponse:
        self.asked.append(Asked(request.method, request.raw_path, request.headers))
        return await self._answering(request)


async def take(request: web.BaseRequest) -> bytes:
    """The whole body, however large."""
    pieces = [chunk async for chunk in request.content.iter_any()]
    return b"".join(pieces)


async def fine(request: web.BaseRequest) -> web.StreamResponse:
    """200 for everything."""
    await take(request)
    return web.Response(text="fine")


class Guarded:
    """A registry that wants bearer tokens, and the token service that gives them, on one server.

    ``life`` is a token's in seconds; ``password`` the only one accepted, ``None`` for a service that gives tokens to
    anybody. ``users`` is what the token service was shown.
    """

    def __init__(self, *, life: float = 300.0, password: str | None = None, expires_in: bool = True) -> None:
        self.life = life
        self.password = password
        self.expires_in = expires_in
        self.given: dict[str, tuple[float, tuple[str, ...]]] = {}
        self.demands = "repository:x:pull"
        self.users: list[str] = []
        self.bodies: list[bytes] = []
        self.pause = 0.0

    async def __call__(self, request: web.BaseRequest) -> web.StreamResponse:
        if request.path == "/token":
            return await self.give(request)
        self.bodies.append(await take(request))
        token = request.headers.get("Authorization", "").removeprefix("Bearer ")
        until, _ = self.given.get(token, (0.0, ()))
        if time.monotonic() < until:
            return web.Response(text="fine", status=201 if request.method == "PUT" else 200)
        challenge = f'Bearer realm="http://{request.host}/token",service="tests"'
        if request.path != "/v2/":
            challenge += f',scope="{self.demands}"'
        return web.json_response(
            {"errors": [{"code": "UNAUTHORIZED", "message": "authentication required"}]},
            status=401,
            headers={"WWW-Authenticate": challenge},
        )

    async def give(self, request: web.BaseRequest) -> web.StreamResponse:
        user = basic(request)
        self.users.append(user)
        if self.pause:
            await asyncio.sleep(self.pause)
        if self.password is not None and not user.endswith(f":{self.password}"):
            return web.json_response({"details": "incorrect username or password"}, status=401)
        token = f"secret-token-{len(self.users)}"
        self.given[token] = (time.monotonic() + self.life, tuple(request.query.getall("scope", [])))
        fields: dict[str, object] = {"token": token}
        if self.expires_in:
            fields["expires_in"] = self.life
        return web.Response(body=json.dumps(fields).encode(), content_type="application/json")


def basic(request: web.BaseRequest) -> str:
    """``user:password`` of the request, empty when it shows none."""
    value = request.headers.get("Authorization", "")
    return base64.b64decode(value[6:]).decode() if value.startswith("Basic ") else ""
