"""The only place where foreign failures become ours: aiohttp's and the system's exceptions, and HTTP error bodies.

A message is one line: what was asked of whom, and what came back; never a query, never a secret.
"""

from __future__ import annotations

import math
import os
import re
import socket
import ssl
from collections.abc import Callable, Collection, Mapping
from http import HTTPStatus
from typing import Any

import aiohttp
import msgspec

from asyncrane.errors import (
    AsyncraneError,
    ConnectFailed,
    Denied,
    Interrupted,
    NotFound,
    RateLimited,
    RegistryError,
    ServerFault,
    TimedOut,
    TransportError,
    Unauthorized,
)
from asyncrane.transport.redaction import bare_url, scrubbed

FOREIGN = (aiohttp.ClientError, OSError, TimeoutError, ValueError)
"""What an exchange over aiohttp can end with (``ValueError``: a header or URL that must not be sent)."""

_NO_SUCH_HOST = frozenset({socket.EAI_NONAME, getattr(socket, "EAI_NODATA", socket.EAI_NONAME)})
_UNCONNECTED = (aiohttp.ClientConnectorError, ssl.SSLError, socket.gaierror)
_OURS = "a client certificate, or another one"
_ABOUT_US = re.compile("ALERT_.*(CERT|UNKNOWN_CA|ACCESS_DENIED)")
_NONSENSE = (aiohttp.ClientResponseError, aiohttp.InvalidURL)


class Dropped(aiohttp.ClientConnectionError):
    """The connection ended before an answer began. Its cause is aiohttp's own exception, which aiohttp would answer by
    sending the request again behind our back.
    """


def of_answer(
    method: str,
    url: str,
    status: int,
    headers: Mapping[str, str],
    body: bytes,
    *,
    retry_after: float | None = None,
    note: str = "",
    secrets: Collection[str] = (),
) -> RegistryError:
    """The error an unexpected answer means; ``note`` ends its message, which shows none of ``secrets``."""
    codes, text = _read(body, headers.get("Content-Type", ""), secrets)
    if is_page(status, headers, body):
        text = "a web page instead of an answer"
    message = f"{method} {bare_url(url)}: {status}{_phrase(status)}{f': {text}' if text else ''}{note}"
    if status == 429 or "TOOMANYREQUESTS" in codes:
        wait = f" (to be asked again in {math.ceil(retry_after)} s)" if retry_after else ""
        return RateLimited(message + wait, status=status, codes=codes, retry_after=retry_after)
    return _kind(status)(message, status=status, codes=codes)


def is_page(status: int, headers: Mapping[str, str], body: bytes) -> bool:
    """Whether a good answer is a web page: somebody before the registry, a portal or a login, gave it in its place. (An
    empty body that is called HTML is what some registries send.)
    """
    return status < 300 and body[:64].lstrip()[:1] == b"<" and "html" in headers.get("Content-Type", "")


def _kind(status: int) -> type[RegistryError]:
    if status >= 500 or status < 400:
        return ServerFault
    return {401: Unauthorized, 403: Denied, 404: NotFound}.get(status, RegistryError)


def _phrase(status: int) -> str:
    try:
        return f" {HTTPStatus(status).phrase}"
    except ValueError:
        return ""


def _read(body: bytes, content_type: str, secrets: Collection[str]) -> tuple[tuple[str, ...], str]:
    """Error codes and a text for people (distribution-spec, "Error Codes"; token services have forms of their own)."""
    if not body:
        return (), ""
    try:
        fields: Any = msgspec.json.decode(body)
    except RecursionError:
        return (), ""
    except (msgspec.DecodeError, UnicodeDecodeError):
        text = body[:800].decode(errors="replace")
        return (), "" if "html" in content_type or text.lstrip()[:1] == "<" else scrubbed(text, secrets=secrets)
    if not isinstance(fields, dict):
        return (), ""
    errors = fields.get("errors")
    if isinstance(errors, list):
        known = [error for error in errors if isinstance(error, dict)]
        codes = tuple(str(error["code"])[:64] for error in known if error.get("code"))
        texts = [": ".join(str(error[k]) for k in ("code", "message") if error.get(k)) for error in known]
        return codes, scrubbed("; ".join(text for text in texts if text), 400, secrets)
    words = [fields.get(k) for k in ("error", "error_description", "details", "message")]
    return (), scrubbed(": ".join(word for word in words if isinstance(word, str)), secrets=secrets)


def of_exception(exc: BaseException, method: str, url: str, *, limit: float = 0.0) -> AsyncraneError:
    """The error an exception of aiohttp or the system means; ``limit`` is the stall limit in seconds."""
    what = f"{method} {bare_url(url)}"
    if isinstance(exc, Dropped) and exc.__cause__ is not None:
        exc = exc.__cause__
    if isinstance(exc, AsyncraneError):
        return exc
    if (alert := _alert(exc)) is not None:
        exc = alert
    kind, text = _explain(exc, limit)
    return kind(f"{what}: {text}")


def _explain(exc: BaseException, limit: float) -> tuple[type[AsyncraneError], str]:
    """The first row of the table that fits."""
    table: tuple[tuple[Any, type[AsyncraneError], Callable[[], str]], ...] = (
        (aiohttp.ClientHttpProxyError, ConnectFailed, lambda: f"the proxy answered {_status(exc)}"),
        (aiohttp.ClientProxyConnectionError, ConnectFailed, lambda: f"no connection to the proxy: {_reason(exc)}"),
        (_UNCONNECTED, ConnectFailed, lambda: f"no connection: {_reason(exc)}"),
        (aiohttp.ConnectionTimeoutError, TimedOut, lambda: "no connection in time"),
        (TimeoutError, TimedOut, lambda: f"nothing moved for {limit:g} s"),
        (_NONSENSE, ServerFault, lambda: f"the answer is not HTTP: {scrubbed(str(exc), 120)}"),
        (aiohttp.ServerDisconnectedError, Interrupted, lambda: "the server closed the connection without an answer"),
        ((aiohttp.ClientError, OSError), Interrupted, lambda: f"the connection broke: {_reason(exc)}"),
    )
    for kinds, error, explain in table:
        if isinstance(exc, kinds):
            return error, explain()
    return ServerFault, f"cannot be sent: {scrubbed(str(exc), 120)}"


def _alert(exc: BaseException | None) -> ssl.SSLError | None:
    """What the server finds wrong with our certificate. From TLS 1.3 on that comes after the handshake, when aiohttp
    takes it for a connection that broke: trying again changes nothing.
    """
    if isinstance(exc, aiohttp.ClientOSError) and isinstance(exc.__cause__, ssl.SSLError):
        exc = exc.__cause__
    return exc if isinstance(exc, ssl.SSLError) and _ABOUT_US.search(exc.reason or "") else None


def _status(exc: BaseException) -> str:
    return f"{exc.status}{_phrase(exc.status)}" if isinstance(exc, aiohttp.ClientResponseError) else ""


def stalled(method: str, url: str, limit: float) -> TimedOut:
    """Nothing could be sent for ``limit`` seconds."""
    return TimedOut(f"{method} {bare_url(url)}: nothing could be sent for {limit:g} s")


def _reason(exc: BaseException) -> str:
    inner: BaseException = exc
    if isinstance(exc, aiohttp.ClientConnectorCertificateError):
        inner = exc.certificate_error
    elif isinstance(exc, aiohttp.ClientConnectorError):
        inner = exc.os_error
    if isinstance(inner, ssl.SSLCertVerificationError):
        return f"the certificate is not trusted: {inner.verify_message}"
    if isinstance(inner, ssl.SSLError):
        said = (inner.reason or str(inner)).replace("_", " ").lower()
        return f"the server wants {_OURS} ({said})" if _alert(inner) is not None else f"TLS: {said}"
    if isinstance(inner, socket.gaierror):
        return "no such host" if inner.errno in _NO_SUCH_HOST else f"name resolution: {inner.strerror}"
    if isinstance(inner, OSError) and inner.errno:
        return os.strerror(inner.errno).lower()
    return scrubbed(str(inner), 120) or type(inner).__name__


def is_transient(error: TransportError) -> bool:
    """Whether the same may succeed later: not so when a name, a certificate or a proxy's mind would have to change."""
    cause = error.__cause__
    if isinstance(cause, Dropped):
        cause = cause.__cause__
    if _alert(cause) is not None:
        return False
    if isinstance(cause, aiohttp.ClientHttpProxyError):
        return cause.status >= 500
    if isinstance(cause, aiohttp.ClientConnectorCertificateError | ssl.SSLError | aiohttp.ClientSSLError):
        return False
    if isinstance(cause, aiohttp.ClientConnectorError):
        cause = cause.os_error
    return not (isinstance(cause, socket.gaierror) and cause.errno in _NO_SUCH_HOST)
