"""One request and what became of it so far: what outlives an attempt."""

from __future__ import annotations

from collections.abc import AsyncIterator, Collection, Mapping
from typing import TYPE_CHECKING

from asyncrane.transport.answer import Body
from asyncrane.transport.redaction import bare_url
from asyncrane.transport.statistics import kind_of

if TYPE_CHECKING:
    from yarl import URL

    from asyncrane.transport.tokens import Token
    from asyncrane.transport.wire import Route

_PIECE = 256 * 1024


class Call:
    """A request to a registry (``scopes`` is a tuple) or to ping it or get a token (``scopes`` is ``None``).

    ``limit`` is the largest answer in bytes, ``None`` to leave it streaming. ``spent`` is set when bytes were read from
    a body that cannot be had again, ``foreign`` when the URL is not the registry's own. ``patience`` is the seconds
    that the answer may take beyond the stall limit.
    """

    __slots__ = (
        "body",
        "expect",
        "failures",
        "foreign",
        "headers",
        "kind",
        "limit",
        "method",
        "patience",
        "pinging",
        "placed",
        "redirects",
        "renewed",
        "retry",
        "route",
        "scopes",
        "spent",
        "started",
        "target",
        "token",
        "url",
    )

    def __init__(
        self,
        method: str,
        target: str,
        scopes: tuple[str, ...] | None,
        headers: Mapping[str, str] | None,
        body: bytes | Body,
        expect: Collection[int],
        limit: int | None,
        *,
        retry: bool = True,
        kind: str = "",
    ) -> None:
        self.method = method
        self.target = target
        self.scopes = scopes
        self.headers = headers
        self.body = body
        self.expect = expect
        self.limit = limit
        self.retry = retry
        self.patience = 0.0
        self.kind = kind or kind_of(target)
        self.url: URL
        self.route: Route
        self.placed = False
        self.token: Token | None = None
        self.foreign = False
        self.pinging = False
        self.renewed = False
        self.spent = False
        self.redirects = 0
        self.failures = 0
        self.started = 0.0

    def place(self, url: URL, route: Route, *, foreign: bool = False) -> None:
        """Say where it goes."""
        self.url, self.route, self.foreign, self.placed = url, route, foreign, True

    def again(self) -> None:
        """Begin anew where the registry was asked: what it redirected to may have run out."""
        self.placed = False
        self.redirects = 0

    def what(self) -> str:
        """Method and URL, for messages."""
        return f"{self.method} {bare_url(str(self.url))}"

    def streamed(self) -> Body:
        """The body as a stream."""
        body = self.body
        return body if isinstance(body, Body) else Body(lambda: _pieces(body), len(body))


async def _pieces(content: bytes) -> AsyncIterator[bytes]:
    for at in range(0, len(content), _PIECE):
        yield content[at : at + _PIECE]
