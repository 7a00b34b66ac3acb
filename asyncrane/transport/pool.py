"""The connections: one aiohttp session for everything, and the registries reached through it."""

from __future__ import annotations

from collections.abc import Callable, Collection, Mapping
from pathlib import Path
from types import TracebackType

import aiohttp

from asyncrane._version import __version__
from asyncrane.auth.keychain import Keychain
from asyncrane.errors import AsyncraneError
from asyncrane.transport.options import RegistryOptions
from asyncrane.transport.origin import Origin
from asyncrane.transport.proxy import Proxies
from asyncrane.transport.rate import Bucket
from asyncrane.transport.redaction import Trace
from asyncrane.transport.retry import Policy
from asyncrane.transport.tls import Trust
from asyncrane.transport.traffic import Traffic
from asyncrane.transport.wire import Response, Wire

_USER_AGENT = f"asyncrane/{__version__}"
_BRIEF = Policy(retries=1, max_time=5.0)


class Pool:
    """Connections to any number of registries; ``async with Pool() as pool``.

    ``insecure`` neither checks certificates nor insists on TLS; ``plain`` names registries that are HTTP only.
    ``connections`` is the ceiling per host, so that reading from one can never starve writing to another.
    ``registries`` says how single registries are talked to, by ``host[:port]``; ``rate`` is the most bytes of blobs a
    second that come from all of them together, and that go to all of them.
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
        registries: Mapping[str, RegistryOptions] | None = None,
        rate: int | None = None,
        proxies: Proxies | None = None,
        trace: Callable[[str], None] | None = None,
    ) -> None:
        self._insecure = insecure
        self._registries = dict(registries or {})
        own = {
            host: Trust(
                insecure=insecure or options.insecure,
                ca=options.ca or ca,
                cert=options.cert or cert,
                key=options.key if options.cert or options.key else key,
                certs_dir=certs_dir,
            )
            for host, options in self._registries.items()
            if options.insecure or options.ca or options.cert or options.key
        }
        self._trust = Trust(insecure=insecure, ca=ca, cert=cert, key=key, certs_dir=certs_dir, hosts=own)
        self._proxies = proxies if proxies is not None else Proxies.from_environment()
        self._policy = Policy(retries, retry_max_time, retry_base)
        self._stall_timeout = stall_timeout
        self._connect_timeout = connect_timeout
        self._connections = connections
        self._plain = frozenset({*plain, *(host for host, options in self._registries.items() if options.plain_http)})
        self._down = Bucket(rate) if rate else None
        self._up = Bucket(rate) if rate else None
        self._traffic: dict[str, Traffic] = {}
        self._trace = Trace(trace) if trace is not None else None
        self._session: aiohttp.ClientSession | None = None
        self._wire: Wire | None = None
        self._origins: dict[tuple[str, int, bool], Origin] = {}

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
        self._traffic.clear()
        if session is not None:
            await session.close()

    def origin(self, registry: str, keychain: Keychain, *, spare: bool = False) -> Origin:
        """The registry ``host[:port]``, as the keychain's owner; the same object every time.

        A ``spare`` one is asked because it may have what another has for certain: no request is tried again for long.
        """
        if self._wire is None:
            raise AsyncraneError("the pool is not open")
        key = (registry, id(keychain), spare)
        found = self._origins.get(key)
        if found is None:
            found = self._origins[key] = Origin(
                registry,
                keychain,
                self._wire,
                policy=_BRIEF if spare else self._policy,
                insecure=self._insecure,
                plain=registry in self._plain,
                traffic=self._traffic_of(registry),
            )
        return found

    def _traffic_of(self, registry: str) -> Traffic:
        found = self._traffic.get(registry)
        if found is None:
            options = self._registries.get(registry, RegistryOptions())
            found = self._traffic[registry] = Traffic(options, down=self._down, up=self._up)
        return found

    def __repr__(self) -> str:
        return f"Pool(origins={len(self._origins)}, {'open' if self._session else 'closed'})"
