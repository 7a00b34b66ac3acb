"""One request and its answer, as the API sees them: no HTTP library in sight.

The endpoints turn a :class:`Call` into a :class:`Reply`; :mod:`asyncrane.server.app` speaks HTTP on both ends. Whatever
stands between (access checks, a log, injected faults) is an :data:`Around`.
"""

from __future__ import annotations

import json
from collections.abc import AsyncGenerator, AsyncIterator, Awaitable, Callable, Iterator, Mapping
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, TypeAlias

if TYPE_CHECKING:
    from asyncrane.server.routes import Route

Chunk: TypeAlias = bytes | bytearray | memoryview


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


@dataclass(frozen=True, slots=True)
class Stream:
    """A body of ``length`` bytes that is read while it is sent; ``chunks`` may be called once."""

    length: int
    chunks: Callable[[], AsyncGenerator[Chunk, None]]

    @classmethod
    def of(cls, length: int, pieces: Callable[[], Iterator[Chunk]]) -> Stream:
        """A stream of pieces that are at hand without waiting."""

        async def chunks() -> AsyncGenerator[Chunk, None]:
            for piece in pieces():
                yield piece

        return cls(length, chunks)


@dataclass(frozen=True, slots=True)
class Reply:
    """An answer. ``Content-Length`` is the body's unless ``headers`` say otherwise."""

    status: int
    headers: Mapping[str, str] = field(default_factory=dict)
    body: bytes | Stream = b""

    @property
    def length(self) -> int:
        """Bytes of the body."""
        return self.body.length if isinstance(self.body, Stream) else len(self.body)

    @classmethod
    def of_json(cls, value: Any, *, status: int = 200, headers: Mapping[str, str] | None = None) -> Reply:
        """An answer of JSON; ``headers`` may name a more precise Content-Type."""
        return cls(status, {"Content-Type": "application/json", **(headers or {})}, json.dumps(value).encode())


Handler: TypeAlias = Callable[[Call], Awaitable[Reply]]
Around: TypeAlias = Callable[[Call, Handler], Awaitable[Reply]]
"""Stands between the wire and the API: may look at a call, answer in its place, change what goes in or comes out."""


class HangUp(Exception):
    """Close the connection here and now, whatever was promised; ``reset`` throws away what is not sent yet (RST)."""

    def __init__(self, *, reset: bool = False) -> None:
        super().__init__("the connection is closed on purpose")
        self.reset = reset
