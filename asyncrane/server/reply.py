"""One answer, as the API gives it: no HTTP library in sight."""

from __future__ import annotations

import json
from collections.abc import AsyncGenerator, Callable, Iterator, Mapping
from dataclasses import dataclass, field
from typing import Any, TypeAlias

Chunk: TypeAlias = bytes | bytearray | memoryview


@dataclass(frozen=True, slots=True)
class Stream:
    """A body of ``length`` bytes (-1: nobody says) that is read while it is sent; ``chunks`` may be called once."""

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
