"""What comes back (:class:`Answer`), and bodies that are streamed out (:class:`Body`)."""

from __future__ import annotations

from collections.abc import AsyncIterator, Awaitable, Callable, Mapping
from contextlib import AbstractAsyncContextManager
from types import TracebackType

import aiohttp

from asyncrane.transport import failure
from asyncrane.transport.rate import Pace
from asyncrane.transport.statistics import Counters


class Body:
    """A request body that is streamed: ``open`` begins it anew, ``length`` is its size in bytes where known.

    It is iterated in a task of aiohttp's, and closed when the request is over. Its own exceptions come out of the
    request. When the length is known the iterator is run to its end *before* the last bytes leave, so that one that
    verifies what passes can keep a wrong blob from being completed.
    """

    __slots__ = ("length", "open")

    def __init__(self, open: Callable[[], AsyncIterator[bytes]], length: int | None = None) -> None:  # noqa: A002  it is what it does
        self.open = open
        self.length = length

    def __repr__(self) -> str:
        return f"Body(length={self.length})"


class Answer:
    """A registry's answer. ``url`` is the final one, as sent; ``body`` is empty while it is streamed, at ``pace``."""

    __slots__ = ("_counters", "_leave", "_limit", "_pace", "_response", "body", "headers", "method", "status")

    def __init__(
        self,
        method: str,
        response: aiohttp.ClientResponse,
        body: bytes,
        counters: Counters,
        limit: float,
        *,
        pace: Pace | None = None,
        leave: Callable[[], None] | None = None,
    ) -> None:
        self.method = method
        self.status: int = response.status
        self.headers: Mapping[str, str] = response.headers
        self.body = body
        self._response = response
        self._counters = counters
        self._limit = limit
        self._pace = pace
        self._leave = leave

    @property
    def url(self) -> str:
        """Where this was answered, after redirects: the base for a relative ``Location`` or ``Link``."""
        return str(self._response.url)

    def all(self, name: str) -> list[str]:
        """Every line of a header that may repeat (``Link``, ``Warning``)."""
        return self._response.headers.getall(name, [])

    async def chunks(self) -> AsyncIterator[bytes]:
        """The body as it arrives, in whatever pieces it comes; only inside ``stream()``.

        :raises Interrupted: when the connection breaks before the end
        :raises TimedOut: when nothing arrives for the stall limit
        """
        # not readany(): it joins what has piled up, which copies every byte once more
        counters, read, pace = self._counters, self._response.content.readchunk, self._pace
        while True:
            try:
                chunk, more = await read()
            except failure.FOREIGN as exc:
                raise failure.of_exception(exc, self.method, self.url, limit=self._limit) from exc
            if not chunk:
                if more:
                    continue
                return
            counters.received += len(chunk)
            if pace is not None:
                await pace.take(len(chunk))
            yield chunk

    def let_go(self) -> None:
        """Give the connection back, or close it when there is more to come that nobody wants."""
        if self._leave is not None:
            self._leave()
        if self._response.content.at_eof():
            self._response.release()
        else:
            self._response.close()

    def __repr__(self) -> str:
        return f"Answer({self.status}, {len(self.body)} bytes)"


class Streaming(AbstractAsyncContextManager[Answer]):
    """An answer whose body is still on its way: entering it asks, leaving it lets go."""

    __slots__ = ("_answer", "_ask")

    def __init__(self, ask: Callable[[], Awaitable[Answer]]) -> None:
        self._ask = ask
        self._answer: Answer | None = None

    async def __aenter__(self) -> Answer:
        self._answer = await self._ask()
        return self._answer

    async def __aexit__(
        self, kind: type[BaseException] | None, exc: BaseException | None, trace: TracebackType | None
    ) -> None:
        if self._answer is not None:
            self._answer.let_go()
