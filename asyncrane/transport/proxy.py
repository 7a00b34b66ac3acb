"""Which proxy to use, if any: ``HTTP_PROXY``, ``HTTPS_PROXY`` and ``NO_PROXY`` with the meaning they have in Go
(golang.org/x/net/http/httpproxy), since that is what scripts written for crane, docker and skopeo rely on.
"""

from __future__ import annotations

import base64
import ipaddress
import os
from collections.abc import Mapping
from typing import TypeAlias
from urllib.parse import unquote, urlsplit

import msgspec

from asyncrane.errors import InvalidInput

_Address: TypeAlias = ipaddress.IPv4Address | ipaddress.IPv6Address
_Network: TypeAlias = ipaddress.IPv4Network | ipaddress.IPv6Network


class Proxy(msgspec.Struct, frozen=True):
    """A proxy's URL without user and password, and the value of ``Proxy-Authorization``."""

    url: str
    authorization: str = ""

    @classmethod
    def parse(cls, text: str) -> Proxy | None:
        """Read a proxy URL; ``host:port`` alone is HTTP, and empty is none.

        :raises InvalidInput: when it is not a URL, or for a kind of proxy that is not supported
        """
        if not text:
            return None
        try:
            parts = urlsplit(text if "://" in text else f"http://{text}")
            host, port = parts.hostname, parts.port
        except ValueError as exc:
            raise InvalidInput("not a proxy URL (expected http://host:port)") from exc
        if not host:
            raise InvalidInput("not a proxy URL (expected http://host:port)")
        if parts.scheme not in ("http", "https"):
            raise InvalidInput(f"proxy {host}: {parts.scheme} is not supported (http, https)")
        user = ""
        if parts.username is not None:
            pair = f"{unquote(parts.username)}:{unquote(parts.password or '')}"
            user = f"Basic {base64.b64encode(pair.encode()).decode()}"
        name = f"[{host}]" if ":" in host else host
        return cls(f"{parts.scheme}://{name}{f':{port}' if port else ''}", user)

    def __repr__(self) -> str:
        return f"Proxy({self.url})"

    def __rich_repr__(self) -> list[tuple[str, str]]:
        return [("url", self.url)]


class _Exception(msgspec.Struct, frozen=True):
    """One entry of ``NO_PROXY``: a network, an address, or a domain (with a leading dot), perhaps with a port."""

    network: _Network | None = None
    address: _Address | None = None
    domain: str = ""
    itself: bool = False
    port: str = ""

    def covers(self, host: str, port: str, address: _Address | None) -> bool:
        if self.network is not None:
            return address is not None and address in self.network
        if self.port and self.port != port:
            return False
        if self.address is not None:
            return address == self.address
        if address is not None:
            return False
        return host.endswith(self.domain) or (self.itself and host == self.domain[1:])


class Proxies:
    """The environment's proxies. ``everything`` that ``NO_PROXY`` names is reached directly."""

    def __init__(self, *, http: str = "", https: str = "", no_proxy: str = "") -> None:
        self._by_scheme = {"http": Proxy.parse(http), "https": Proxy.parse(https)}
        self._exceptions: list[_Exception] = []
        self._none = False
        for entry in no_proxy.split(","):
            text = entry.strip().lower()
            if text == "*":
                self._none = True
            elif text and (exception := _read(text)) is not None:
                self._exceptions.append(exception)

    @classmethod
    def from_environment(cls, environ: Mapping[str, str] | None = None) -> Proxies:
        """Read the variables, upper case first. ``HTTP_PROXY`` does not count in a CGI script, where it is a header."""
        values = os.environ if environ is None else environ

        def get(name: str) -> str:
            return values.get(name) or values.get(name.lower()) or ""

        http = "" if values.get("REQUEST_METHOD") else get("HTTP_PROXY")
        return cls(http=http, https=get("HTTPS_PROXY"), no_proxy=get("NO_PROXY"))

    def choose(self, scheme: str, host: str, port: int) -> Proxy | None:
        """The proxy for a URL's scheme, host (without brackets) and port, ``None`` to connect directly."""
        proxy = self._by_scheme.get(scheme)
        if proxy is None or self._none:
            return None
        name = host.strip().lower()
        if name == "localhost":
            return None
        address = _address(name)
        if address is not None and address.is_loopback:
            return None
        if any(exception.covers(name, str(port), address) for exception in self._exceptions):
            return None
        return proxy


def _read(text: str) -> _Exception | None:
    """One entry, as Go reads it."""
    if "/" in text:
        try:
            return _Exception(network=ipaddress.ip_network(text, strict=False))
        except ValueError:
            pass
    host, port = _split_port(text)
    if not host:
        return None
    address = _address(host)
    if address is not None:
        return _Exception(address=address, port=port)
    domain = host[1:] if host.startswith("*.") else host
    if domain.startswith("."):
        return _Exception(domain=domain, port=port)
    return _Exception(domain=f".{domain}", itself=True, port=port)


def _split_port(text: str) -> tuple[str, str]:
    if text.startswith("["):
        host, bracket, port = text[1:].partition("]:")
        return (host, port) if bracket else (text, "")
    if text.count(":") == 1:
        host, _, port = text.partition(":")
        return host, port
    return text, ""


def _address(host: str) -> _Address | None:
    try:
        address = ipaddress.ip_address(host)
    except ValueError:
        return None
    mapped = address.ipv4_mapped if isinstance(address, ipaddress.IPv6Address) else None
    return mapped or address
