"""Where a request goes when it is sent elsewhere: by an absolute target, or by a redirect, and what it takes along.

URLs are used exactly as they came: re-quoting one breaks its signature.
"""

from __future__ import annotations

import aiohttp
from yarl import URL

from asyncrane.errors import ServerFault
from asyncrane.transport.call import Call
from asyncrane.transport.redaction import bare_url
from asyncrane.transport.tokens import is_foreign_private

_MOST = 5
_SAFE = frozenset({"GET", "HEAD"})
_KEEPS_METHOD = frozenset({307, 308})


def resolve(base: str, target: str, *, insecure: bool) -> tuple[URL, bool]:
    """The URL of an absolute target, and whether it is on another host than ``base``.

    A registry behind a proxy that ends TLS may give its own URLs as ``http``: they are asked as ``https``.

    :raises ServerFault: when it must not be asked
    """
    home, url = URL(base, encoded=True), _parse(target)
    if not url.absolute:
        url = home.join(url)
    if url.scheme == "http" and home.scheme == "https" and url.raw_authority == home.raw_authority:
        return URL(f"https{target[4:]}", encoded=True), False
    if same_origin(home, url):
        return url, False
    _check(home, url, home.raw_authority, f"{home}: sent", insecure=insecure)
    return url, True


def same_origin(a: URL, b: URL) -> bool:
    """Whether two URLs have the same scheme, host and port, and so may see the same credentials."""
    return a.scheme == b.scheme and a.host == b.host and a.port == b.port


def follow(call: Call, response: aiohttp.ClientResponse, registry: str, *, insecure: bool) -> bool:
    """Point ``call`` to where ``response`` redirects it; ``False`` when that is not a redirect to follow.

    Only GET and HEAD are sent elsewhere by 301 to 303; 307 and 308 keep any method, and none changes it.

    :raises ServerFault: when it must not be followed
    """
    location = response.headers.get("Location")
    if not location or (call.method not in _SAFE and response.status not in _KEEPS_METHOD):
        return False
    here = response.url
    there = here.join(_parse(location))
    if call.scopes is None and call.method not in _SAFE and not same_origin(here, there):
        return False  # a token request carries secrets
    call.redirects += 1
    what = f"{call.method} {bare_url(str(here))}: redirected"
    if call.redirects > _MOST:
        raise ServerFault(f"{what} more than {_MOST} times in a row", status=response.status)
    _check(here, there, registry, what, insecure=insecure)
    call.foreign = call.foreign or not same_origin(here, there)
    call.url = there
    return True


def _parse(text: str) -> URL:
    try:
        url = URL(text, encoded=True)
        _ = url.host, url.port  # are looked at when they are asked for
    except (ValueError, IndexError):  # yarl looks for the first character of a host that is not there
        return URL("invalid:")
    return url


def _check(here: URL, there: URL, registry: str, what: str, *, insecure: bool) -> None:
    """Whether a server may point us there (ggcr, ``transport/bearer.go`` and ``remote/fetcher.go``)."""
    refused = ""
    if there.scheme not in ("http", "https") or not there.host:
        refused = "not a URL to be asked"
    elif here.scheme == "https" and there.scheme == "http" and not insecure:
        refused = "from https to http"
    elif is_foreign_private(there.host, registry):
        refused = "a private address"
    if refused:
        raise ServerFault(f"{what} to {bare_url(str(there))}, refused: {refused}")
