"""What may be shown of a request: URLs and headers without secrets, and the log of ``-v``.

A signed URL is a secret as a whole, so queries are hidden except for parameters known to be harmless.
"""

from __future__ import annotations

import base64
import contextlib
import re
from collections.abc import Callable, Iterable, Mapping
from urllib.parse import parse_qs, urlsplit

_SHORTEST = 4
_HARMLESS = frozenset({"digest", "mount", "from", "n", "last", "service", "scope", "artifactType", "tag"})
_SECRET_HEADERS = frozenset({"authorization", "proxy-authorization", "cookie", "set-cookie", "x-registry-auth"})
_URL_HEADERS = frozenset({"location", "link"})
_SHOWN_HEADERS = frozenset(
    {"host", "user-agent", "accept", "accept-encoding", "accept-ranges", "content-type", "content-length", "range"}
    | {"content-range", "docker-content-digest", "docker-distribution-api-version", "docker-upload-uuid", "date"}
    | {"server", "www-authenticate", "retry-after", "ratelimit-limit", "ratelimit-remaining", "ratelimit-reset", "etag"}
    | {"docker-ratelimit-source", "oci-subject", "oci-filters-applied", "oci-chunk-min-length", "warning", "connection"}
    | {"transfer-encoding", "content-encoding", "cache-control", "strict-transport-security", "x-content-type-options"}
    | {"vary", "last-modified", "keep-alive", "via", "age", "x-request-id", "x-amz-request-id", "x-ms-request-id"}
)
_CREDENTIAL = re.compile(
    r"\b(?:bearer|basic)\s+(?:<redacted>|[A-Za-z0-9._~+/=-]{8,})|\beyJ[A-Za-z0-9._-]{16,}", re.IGNORECASE
)


def bare_url(url: str) -> str:
    """The URL without user, query and fragment, in characters that do nothing to a terminal: for messages."""
    try:
        parts = urlsplit(url)
    except ValueError:
        return "(not a URL)"
    shown = f"{parts.scheme}://{parts.netloc.rpartition('@')[2]}{parts.path}"
    return shown if shown.isprintable() else "".join(c if c.isprintable() else "?" for c in shown)


def shown_url(url: str) -> str:
    """The URL without user, with the query's values hidden unless they are harmless: for the log."""
    query = url.partition("#")[0].partition("?")[2]
    return f"{bare_url(url)}?{'&'.join(_shown_pair(pair) for pair in query.split('&'))}" if query else bare_url(url)


def _shown_pair(pair: str) -> str:
    name, equals, _ = pair.partition("=")
    return pair if name in _HARMLESS or not equals else f"{name}=<redacted>"


def scrubbed(text: str, limit: int = 200, secrets: Iterable[str] = ()) -> str:
    """Text from a server on one line, without control characters, ``secrets`` and anything that looks like one."""
    line = " ".join("".join(c if c.isprintable() else " " for c in text[: limit * 4]).split())
    line = _CREDENTIAL.sub("<redacted>", without(secrets, line))
    return line if len(line) <= limit else line[: limit - 3] + "..."


def without(secrets: Iterable[str], text: str) -> str:
    """``text`` without ``secrets``."""
    for secret in secrets:
        text = text.replace(secret, "<redacted>")
    return text


def secrets_in(headers: Mapping[str, str], form: bytes = b"") -> frozenset[str]:
    """What a request shows that must not be shown again, should the answer repeat it: the credential in ``headers``, a
    password in that, the refresh token in a ``form``. What is too short to be a secret would only garble what is said.
    """
    scheme, _, value = headers.get("Authorization", "").partition(" ")
    found = {value, *parse_qs(form.decode(errors="replace")).get("refresh_token", ())}
    if scheme == "Basic":
        with contextlib.suppress(ValueError):  # HttpHeaders of config.json may be anything
            found.add(base64.b64decode(value).decode().partition(":")[2])
    return frozenset(secret for secret in found if len(secret) >= _SHORTEST)


def shown_headers(headers: Mapping[str, str]) -> list[str]:
    """Headers as lines; values not known to be harmless are hidden (``HttpHeaders`` of config.json may be secrets)."""
    lines = []
    for name, value in headers.items():
        low = name.lower()
        if low in _URL_HEADERS:
            shown = shown_url(value) if low == "location" and "://" in value else value.partition("?")[0]
        else:
            shown = value if low in _SHOWN_HEADERS and low not in _SECRET_HEADERS else "<redacted>"
        lines.append(f"{name}: {shown}")
    return lines


class Trace:
    """Tells a callback about every exchange, as ``crane -v`` does, without bodies and secrets."""

    def __init__(self, tell: Callable[[str], None]) -> None:
        self._show = tell
        self._secrets: frozenset[str] = frozenset()

    def request(self, method: str, url: str, headers: Mapping[str, str]) -> None:
        """A request goes out."""
        if "Authorization" in headers:
            self._secrets |= secrets_in(headers)
        self._tell("\n".join([f"--> {method} {shown_url(url)}", *shown_headers(headers)]))

    def answer(self, method: str, url: str, status: int, headers: Mapping[str, str], seconds: float) -> None:
        """The head of an answer came."""
        head = f"<-- {status} {method} {shown_url(url)} ({seconds * 1000:.1f}ms)"
        self._tell("\n".join([head, *shown_headers(headers)]))

    def failure(self, error: Exception) -> None:
        """No answer came; the error's message is free of secrets."""
        self._tell(f"<-- {type(error).__name__}: {error}")

    def note(self, text: str) -> None:
        """Something decided here: a retry, a wait."""
        self._tell(f"--- {text}")

    def _tell(self, text: str) -> None:
        """A server may say again, in any header, what it was shown."""
        self._show(without(self._secrets, text))
