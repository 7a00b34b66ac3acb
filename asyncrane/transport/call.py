"""One request and what became of it so far: what outlives an attempt."""

from __future__ import annotations

from collections.abc import AsyncIterator, Collection, Mapping
from typing import TYPE_CHECKING

from asyncrane.transport import failure
from asyncrane.transport.answer import Body
from asyncrane.transport.redaction import bare_url, secrets_in
from asyncrane.transport.statistics import kind_of

if TYPE_CHECKING:
    from anyio import Semaphore
    from yarl import URL

    from asyncrane.transport.tokens import Token
    from asyncrane.transport.wire import Route

_PIECE = 256 * 1024


class Call:
    """A request to a registry (``scopes`` is a tuple) or to ping it or get a token (``scopes`` is ``None``).

    ``limit`` is the largest answer in bytes, ``None`` to leave it streaming. ``spent`` is set when bytes were read from
    a body that cannot be had again, ``foreign`` when the URL is not the registry's own. ``patience`` is the seconds
    that the answer may take beyond the stall limit. ``lane`` is held while it is on the wire; ``mended`` says that
    somebody was told of the repository it found missing.
    """

    __slots__ = (
        "body",
        "expect",
        "failures",
        "foreign",
        "headers",
        "kind",
        "lane",
        "limit",
        "mended",
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
        self.mended = False
        self.lane: Semaphore | None = None
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

    def leave(self) -> None:
        """It is no longer on the wire; may be said again."""
        lane, self.lane = self.lane, None
        if lane is not None:
            lane.release()

    @property
    def pushes(self) -> bool:
        """Whether it begins an upload or stores a manifest: what finds out that a repository is missing."""
        return (self.method, self.kind) in (("POST", "uploads"), ("PUT", "manifests")) and self.target[:4] == "/v2/"

    def accepts(self, status: int, headers: Mapping[str, str], body: bytes) -> bool:
        """Whether this is an answer. A web page is none, except to a ping, or where there is no referrers API."""
        page = self.kind not in ("ping", "referrers") and failure.is_page(status, headers, body)
        return status in self.expect and not page

    @property
    def repository(self) -> str:
        """The path of the repository that a push is for."""
        path = self.target[4:].partition("?")[0]
        return path.rpartition("/blobs/uploads/" if self.kind == "uploads" else "/manifests/")[0]

    def what(self) -> str:
        """Method and URL, for messages."""
        return f"{self.method} {bare_url(str(self.url))}"

    def remark(self, status: int, registry: str) -> str:
        """What belongs to a message about this status: where a body is too large, how large it was; where another host
        said so, who sent us there.
        """
        if self.foreign and self.redirects:
            return f" (sent there by {registry})"
        size = self.body.length if isinstance(self.body, Body) else len(self.body)
        return f" (a body of {size} bytes)" if status == 413 and size else ""

    def secrets(self, shown: Mapping[str, str]) -> frozenset[str]:
        """What it shows in the headers ``shown`` and, if it is for a token, in its form."""
        return secrets_in(shown, self.body if self.kind == "token" and isinstance(self.body, bytes) else b"")

    def streamed(self) -> Body:
        """The body as a stream."""
        body = self.body
        return body if isinstance(body, Body) else Body(lambda: _pieces(body), len(body))


async def _pieces(content: bytes) -> AsyncIterator[bytes]:
    for at in range(0, len(content), _PIECE):
        yield content[at : at + _PIECE]
