"""One request, as the API sees it: no HTTP library in sight.

The endpoints turn a :class:`Call` into a :class:`~asyncrane.server.reply.Reply`; :mod:`asyncrane.server.app` speaks
HTTP on both ends. Whatever stands between (access checks, a log, injected faults) is an :data:`Around`.
"""

from __future__ import annotations

from collections.abc import AsyncIterator, Awaitable, Callable, Mapping
from dataclasses import dataclass, field
from typing import TypeAlias

from asyncrane.server.reply import Reply
from asyncrane.server.routes import Route


@dataclass(frozen=True, slots=True, kw_only=True)
class Call:
    """A request: where it goes (``route``), what it says, and its body as it arrives (``length`` -1: not announced)."""

    route: Route
    method: str
    path: str
    raw_query: str = ""
    query: Mapping[str, tuple[str, ...]] = field(default_factory=dict)
    headers: Mapping[str, str] = field(default_factory=dict, repr=False)
    body: AsyncIterator[bytes]
    length: int = -1
    base: str = ""

    def ask(self, name: str) -> str:
        """The first query parameter ``name``, empty when there is none."""
        values = self.query.get(name)
        return values[0] if values else ""

    async def read(self, limit: int) -> bytes | None:
        """The whole body, ``None`` when it is longer than ``limit`` bytes."""
        if self.length > limit:
            return None
        data = bytearray()
        async for chunk in self.body:
            data += chunk
            if len(data) > limit:
                return None
        return bytes(data)


Handler: TypeAlias = Callable[[Call], Awaitable[Reply]]
Around: TypeAlias = Callable[[Call, Handler], Awaitable[Reply]]
"""Stands between the wire and the API: may look at a call, answer in its place, change what goes in or comes out."""


class HangUp(Exception):
    """Close the connection here and now, whatever was promised; ``reset`` throws away what is not sent yet (RST)."""

    def __init__(self, *, reset: bool = False) -> None:
        super().__init__("the connection is closed on purpose")
        self.reset = reset
