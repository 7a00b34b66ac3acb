"""The connections: one aiohttp session for everything, and the registries reached through it."""

from __future__ import annotations

from collections.abc import Callable, Collection
from pathlib import Path
from types import TracebackType

import aiohttp

from asyncrane._version import __version__
from asyncrane.auth.keychain import Keychain
from asyncrane.errors import AsyncraneError
from asyncrane.transport.origin import Origin
from asyncrane.transport.proxy import Proxies
from asyncrane.transport.redaction import Trace
from asyncrane.transport.retry import Policy
from asyncrane.transport.tls import Trust
from asyncrane.transport.wire import Response, Wire

_USER_AGENT = f"asyncrane/{__version__}"


class Pool:
    """Connections to any number of registries; ``async with Pool() as pool``.

    ``insecure`` neither checks certificates nor insists on TLS; ``plain`` names registries that are HTTP only.
    ``connections`` is the ceiling per host, so that reading from one can never starve writing to another.
    ``retry_base`` is about the first wait between attempts, ``retry_max_time`` the most that all attempts of one
    request may take, ``stall_timeout`` how long nothing may move in either direction: all in seconds.

    :raises InvalidInput: when certificates or proxies cannot be used
    """

    def __init__(  # noqa: PLR0913  independent facts about the network, each with its own flag
        self,
        *,
        insecure: bool = False,
        ca: Path | None = None,
        cert: Path | None = None,
        key: Path | None = None,
        certs_dir: Path | None = None,
        retries: int = 5,
        retry_max_time: float = 900.0,
        retry_base: float = 0.5,
        stall_timeout: float = 60.0,
        connect_timeout: float = 30.0,
        connections: int = 256,
        plain: Collection[str] = (),
        proxies: Proxies | None = None,
        trace: Callable[[str], None] | None = None,
    ) -> None:
        self._insecure = insecure
        self._trust = Trust(insecure=insecure, ca=ca, cert=cert, key=key, certs_dir=certs_dir)
        self._proxies = proxies if proxies is not None else Proxies.from_environment()
        self._policy = Policy(retries, retry_max_time, retry_base)
        self._stall_timeout = stall_timeout
        self._connect_timeout = connect_timeout
        self._connections = connections
        self._plain = frozenset(plain)
        self._trace = Trace(trace) if trace is not None else None
        self._session: aiohttp.ClientSession | None = None
        self._wire: Wire | None = None
        self._origins: dict[tuple[str, int], Origin] = {}

    async def __aenter__(self) -> Pool:
        self._session = aiohttp.ClientSession(
            connector=aiohttp.TCPConnector(limit=0, limit_per_host=self._connections, keepalive_timeout=60.0),
            timeout=aiohttp.ClientTimeout(
                total=None, sock_connect=self._connect_timeout, sock_read=self._stall_timeout
            ),
            headers={"User-Agent": _USER_AGENT, "Accept-Encoding": "identity"},
            cookie_jar=aiohttp.DummyCookieJar(),
            auto_decompress=False,
            response_class=Response,
        )
        self._wire = Wire(
            self._session,
            trust=self._trust,
            proxies=self._proxies,
            stall_timeout=self._stall_timeout,
            trace=self._trace,
        )
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, exc: BaseException | None, trace: TracebackType | None
    ) -> None:
        session, self._session, self._wire = self._session, None, None
        self._origins.clear()
        if session is not None:
            await session.close()

    def origin(self, registry: str, keychain: Keychain) -> Origin:
        """The registry ``host[:port]``, as the keychain's owner; the same object every time."""
        if self._wire is None:
            raise AsyncraneError("the pool is not open")
        found = self._origins.get((registry, id(keychain)))
        if found is None:
            found = self._origins[registry, id(keychain)] = Origin(
                registry,
                keychain,
                self._wire,
                policy=self._policy,
                insecure=self._insecure,
                plain=registry in self._plain,
            )
        return found

    def __repr__(self) -> str:
        return f"Pool(origins={len(self._origins)}, {'open' if self._session else 'closed'})"
