"""URLs that a registry hands out: upload locations and next pages. They are opaque and never re-quoted."""

from __future__ import annotations

import re
from urllib.parse import quote, urljoin, urlsplit

from asyncrane.errors import ServerFault
from asyncrane.transport.answer import Answer
from asyncrane.transport.redaction import bare_url

_LINK = re.compile(r"<([^<>]*)>((?:\s*;\s*[^,;\s=]+\s*(?:=\s*(?:\"[^\"]*\"|[^,;\s]*))?)*)")
_NEXT = re.compile(r";\s*rel\s*=\s*(?:\"(?:[^\"]*\s)?next(?:\s[^\"]*)?\"|next\s*(?:;|$))", re.IGNORECASE)


def resolve(requested: str, link: str) -> str:
    """The absolute form of ``link``, found in the answer to ``requested``.

    A registry behind a proxy that ends TLS may call itself ``http``: the same host and port stay on ``https``.

    :raises ServerFault: when it is no URL
    """
    root = requested[: requested.find("/", len("https://"))]
    if link.startswith(f"{root}/"):  # what nearly every answer says, and there are thousands
        return link
    try:
        target = urljoin(requested, link)
        asked, given = urlsplit(requested), urlsplit(target)
    except ValueError:
        raise ServerFault(f"{bare_url(requested)}: the answer names a place that is no URL") from None
    if asked.scheme == "https" and given.scheme == "http" and asked.netloc == given.netloc:
        return "https" + target[len("http") :]
    return target


def next_page(answer: Answer) -> str | None:
    """The ``rel="next"`` link of an answer, as it was sent (RFC 8288)."""
    for url, parameters in _LINK.findall(", ".join(answer.all("Link"))):
        if _NEXT.search(parameters):
            return str(url)
    return None


def same_host(one: str, other: str) -> bool:
    """Whether two absolute URLs have the same scheme, host and port."""
    a, b = urlsplit(one), urlsplit(other)
    return (a.scheme, a.netloc.lower()) == (b.scheme, b.netloc.lower())


def with_query(url: str, **parameters: str) -> str:
    """``url`` with ``parameters`` appended to whatever query it has."""
    added = "&".join(f"{name}={quote(value, safe='')}" for name, value in parameters.items())
    return f"{url}{'&' if '?' in url else '?'}{added}"
