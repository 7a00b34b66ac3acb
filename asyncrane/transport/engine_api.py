"""The API of a container engine (docker, podman) on this machine or another: the few requests that images need.

(docs.docker.com, "Docker Engine API"; moby ``client/client.go``, ``client/envvars.go`` for where it is and how it is
agreed which version is spoken.)
"""

from __future__ import annotations

import re
from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager
from http import HTTPStatus
from pathlib import Path
from types import TracebackType
from typing import Any, NamedTuple, Self
from urllib.parse import SplitResult, quote, urlencode, urlsplit

import aiohttp
import msgspec

from asyncrane._version import __version__
from asyncrane.errors import (
    AsyncraneError,
    ConnectFailed,
    ContentError,
    Denied,
    InvalidInput,
    NotFound,
    RegistryError,
    ServerFault,
    Unauthorized,
)
from asyncrane.transport import failure
from asyncrane.transport.redaction import scrubbed
from asyncrane.transport.tls import Context, Trust
from asyncrane.transport.wire import Response

DEFAULT_HOST = "unix:///var/run/docker.sock"
NEWEST, OLDEST = (1, 55), (1, 24)
"""Versions of the API that we can speak."""

_NOBODY = "api.moby.localhost"
"""The host that requests over a socket name, as docker's own client does."""

_ANSWER_TIME = 30.0
_LARGEST_ANSWER = 16 * 1024 * 1024
_CHUNK = 256 * 1024
_VERSION = re.compile(r"v?([0-9]{1,3})\.([0-9]{1,3})")


class Endpoint(NamedTuple):
    """Where an engine is: ``name`` as people write it, the ``url`` its paths are appended to, the ``socket`` if it is
    one, TLS settings if there are any.
    """

    name: str
    url: str
    socket: str | None = None
    tls: Context | None = None


def endpoint(environ: Mapping[str, str]) -> Endpoint:
    """The engine that ``DOCKER_HOST``, ``DOCKER_TLS_VERIFY`` and ``DOCKER_CERT_PATH`` name; docker's socket otherwise.

    :raises InvalidInput: when they name none that can be talked to
    """
    name = environ.get("DOCKER_HOST") or DEFAULT_HOST
    parts = urlsplit(name)
    if parts.scheme == "unix":
        path = f"{parts.netloc}{parts.path}"
        if not path:
            raise InvalidInput(f"DOCKER_HOST is {name!r} (expected unix:///PATH)")
        return Endpoint(name, f"http://{_NOBODY}", path)
    if parts.scheme not in ("tcp", "http", "https") or not parts.hostname:
        raise InvalidInput(f"DOCKER_HOST is {scrubbed(name, 100)!r} (expected unix:///PATH or tcp://HOST:PORT)")
    tls = _tls(environ, parts) if parts.scheme != "http" else None
    scheme = "https" if tls is not None else "http"
    address = f"{parts.netloc.rpartition('@')[2]}"
    return Endpoint(f"{parts.scheme}://{address}", f"{scheme}://{address}{parts.path.rstrip('/')}", None, tls)


def _tls(environ: Mapping[str, str], parts: SplitResult) -> Context | None:
    verify, folder = environ.get("DOCKER_TLS_VERIFY"), environ.get("DOCKER_CERT_PATH")
    if not verify and not folder:
        return Trust().context(parts.hostname or "", parts.port or 443) if parts.scheme == "https" else None
    certs = Path(folder) if folder else Path(environ.get("HOME", "")) / ".docker"
    trust = Trust(insecure=not verify, ca=certs / "ca.pem", cert=certs / "cert.pem", key=certs / "key.pem")
    return trust.context(parts.hostname or "", parts.port or 443)


class EngineApi:
    """A connection to an engine: ``async with EngineApi(environ) as api``. Errors name the engine and the request.

    :raises InvalidInput: when the environment names no engine that can be talked to, or a version that is none
    :raises ConnectFailed: when it is not there
    """

    def __init__(self, environ: Mapping[str, str]) -> None:
        self._endpoint = endpoint(environ)
        self._pinned = environ.get("DOCKER_API_VERSION", "")
        if self._pinned and not _VERSION.fullmatch(self._pinned):
            raise InvalidInput(f"DOCKER_API_VERSION is {self._pinned[:40]!r} (expected a version like 1.44)")
        self._session: aiohttp.ClientSession | None = None
        self._prefix = ""

    @property
    def name(self) -> str:
        """The engine, as people write it."""
        return self._endpoint.name

    async def __aenter__(self) -> Self:
        where = self._endpoint
        connector: aiohttp.BaseConnector = (
            aiohttp.UnixConnector(where.socket)
            if where.socket is not None
            else aiohttp.TCPConnector(ssl=where.tls if where.tls is not None else True)
        )
        self._session = aiohttp.ClientSession(
            connector=connector,
            # an engine may be silent for minutes while it gathers what it saves, or unpacks what it loads
            timeout=aiohttp.ClientTimeout(total=None, sock_connect=_ANSWER_TIME),
            headers={"User-Agent": f"asyncrane/{__version__}", "Accept-Encoding": "identity"},
            cookie_jar=aiohttp.DummyCookieJar(),
            auto_decompress=False,
            response_class=Response,
        )
        try:
            self._prefix = f"/v{await self._version()}"
        except BaseException:
            await self._session.close()
            raise
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if self._session is not None:
            await self._session.close()

    async def read(self, path: str, **query: str) -> Any:
        """The JSON that is at ``path``.

        :raises NotFound: when there is nothing
        :raises RegistryError: when the engine refuses
        """
        async with self._answer("GET", f"{self._prefix}{path}", query, brief=True) as response:
            body = await self._whole("GET", path, response)
        try:
            return msgspec.json.decode(body)
        except (msgspec.DecodeError, UnicodeDecodeError, RecursionError) as exc:
            raise ContentError(f"GET {path} ({self.name}): the answer is not JSON") from exc

    @asynccontextmanager
    async def stream(self, path: str, **query: str) -> AsyncIterator[AsyncIterator[bytes]]:
        """The bytes that are at ``path``.

        :raises NotFound: when there is nothing
        :raises RegistryError: when the engine refuses
        """
        async with self._answer("GET", f"{self._prefix}{path}", query) as response:
            yield self._chunks("GET", path, response)

    @asynccontextmanager
    async def send(
        self, path: str, body: AsyncIterator[bytes], *, size: int, content_type: str, **query: str
    ) -> AsyncIterator[AsyncIterator[bytes]]:
        """Post the ``size`` bytes of ``body`` to ``path``; what comes is the answer, which may begin earlier.

        :raises RegistryError: when the engine refuses
        """
        headers = {"Content-Type": content_type, "Content-Length": str(size)}
        async with self._answer("POST", f"{self._prefix}{path}", query, headers=headers, body=body) as response:
            yield self._chunks("POST", path, response)

    async def _version(self) -> str:
        """The newest version that both sides speak, or the one that is asked for."""
        try:
            async with self._answer("HEAD", "/_ping", {}, brief=True) as response:
                said = response.headers.get("Api-Version", "")
        except RegistryError:
            async with self._answer("GET", "/_ping", {}, brief=True) as response:
                said = response.headers.get("Api-Version", "")
        if self._pinned:
            return self._pinned.removeprefix("v")
        found = _VERSION.fullmatch(said)
        theirs = (int(found[1]), int(found[2])) if found else OLDEST
        if theirs < OLDEST:
            raise AsyncraneError(f"the engine at {self.name} speaks version {said} of the API, which is too old")
        return ".".join(str(part) for part in min(theirs, NEWEST))

    @asynccontextmanager
    async def _answer(
        self,
        method: str,
        path: str,
        query: Mapping[str, str],
        *,
        headers: Mapping[str, str] | None = None,
        body: AsyncIterator[bytes] | None = None,
        brief: bool = False,
    ) -> AsyncIterator[aiohttp.ClientResponse]:
        if self._session is None:
            raise AsyncraneError("the engine's API is not open")
        url = f"{self._endpoint.url}{quote(path, safe='/:@')}{'?' if query else ''}{urlencode(query)}"
        timeout = aiohttp.ClientTimeout(
            total=None, sock_connect=_ANSWER_TIME, sock_read=_ANSWER_TIME if brief else None
        )
        try:
            response = await self._session.request(
                method, url, headers=headers, data=body, allow_redirects=False, timeout=timeout
            )
        except failure.FOREIGN as exc:
            raise self._failed(method, path, exc) from exc
        try:
            if response.status >= 300:
                raise self._refused(method, path, response.status, await self._whole(method, path, response))
            yield response
        finally:
            response.close()

    async def _whole(self, method: str, path: str, response: aiohttp.ClientResponse) -> bytes:
        body = bytearray()
        async for chunk in self._chunks(method, path, response):
            body += chunk
            if len(body) > _LARGEST_ANSWER:
                raise ServerFault(f"{method} {path} ({self.name}): the answer is longer than {_LARGEST_ANSWER} bytes")
        return bytes(body)

    async def _chunks(self, method: str, path: str, response: aiohttp.ClientResponse) -> AsyncIterator[bytes]:
        try:
            async for chunk in response.content.iter_chunked(_CHUNK):
                yield chunk
        except failure.FOREIGN as exc:
            raise self._failed(method, path, exc) from exc

    def _failed(self, method: str, path: str, exc: Exception) -> AsyncraneError:
        error = failure.of_exception(exc, method, f"{self._endpoint.url}{path}", limit=_ANSWER_TIME)
        reason = str(error).rpartition(": ")[2]
        if isinstance(error, ConnectFailed):
            return ConnectFailed(f"no container engine at {self.name}: {reason}")
        return type(error)(f"{method} {path} ({self.name}): {reason}")

    def _refused(self, method: str, path: str, status: int, body: bytes) -> RegistryError:
        kinds: dict[int, type[RegistryError]] = {401: Unauthorized, 403: Denied, 404: NotFound}
        kind = ServerFault if status >= 500 else kinds.get(status, RegistryError)
        said = f"{status} {_phrase(status)}: {message(body)}".rstrip(": ")
        return kind(f"{method} {path} ({self.name}): {said}", status=status)

    def __repr__(self) -> str:
        return f"EngineApi({self.name!r}{self._prefix})"


def message(body: bytes) -> str:
    """What an engine says went wrong."""
    try:
        fields = msgspec.json.decode(body)
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError):
        return scrubbed(body[:800].decode(errors="replace"))
    text = fields.get("message") if isinstance(fields, dict) else None
    return scrubbed(text) if isinstance(text, str) else ""


def _phrase(status: int) -> str:
    try:
        return HTTPStatus(status).phrase
    except ValueError:
        return ""
