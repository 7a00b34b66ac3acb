"""What a registry was asked: one :class:`LoggedRequest` per request, in a :class:`RequestLog` that tests assert on."""

from __future__ import annotations

import time
from collections import Counter
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from typing import overload

from multidict import CIMultiDict

from asyncrane.server.call import Call


@dataclass(slots=True)
class LoggedRequest:
    """One request and what became of it. ``status`` is 0 until there is an answer, and where there never was one."""

    method: str
    path: str
    query: str
    kind: str
    repository: str
    digest: str
    """The digest the request is about: in the path, or as ``?digest=`` or ``?mount=``; empty for tags."""
    headers: Mapping[str, str] = field(repr=False)
    status: int = 0
    request_bytes: int = 0
    """Bytes of the request's body that arrived."""
    response_bytes: int = 0
    """Bytes of the answer's body that were handed to the connection."""
    started: float = field(default_factory=time.monotonic)
    ended: float | None = None
    faults: tuple[str, ...] = ()
    """The faults that struck it."""

    @classmethod
    def of(cls, call: Call) -> LoggedRequest:
        """The entry for a request that has just arrived."""
        identifier = call.route.identifier
        digest = identifier if ":" in identifier else call.ask("digest") or call.ask("mount")
        where = call.route
        return cls(
            call.method, call.path, call.raw_query, where.kind, where.repository, digest, CIMultiDict(call.headers)
        )


class RequestLog:
    """Every request, oldest first, and how many were under way at once."""

    def __init__(self) -> None:
        self._requests: list[LoggedRequest] = []
        self._active: Counter[str] = Counter()
        self._peaks: dict[str, int] = {}

    def __repr__(self) -> str:
        return f"RequestLog({dict(Counter(request.kind for request in self._requests))})"

    def __len__(self) -> int:
        return len(self._requests)

    def __iter__(self) -> Iterator[LoggedRequest]:
        return iter(self._requests)

    @overload
    def __getitem__(self, at: int) -> LoggedRequest: ...
    @overload
    def __getitem__(self, at: slice) -> list[LoggedRequest]: ...
    def __getitem__(self, at: int | slice) -> LoggedRequest | list[LoggedRequest]:
        return self._requests[at]

    def requests(
        self,
        *,
        kind: str | None = None,
        method: str | None = None,
        repository: str | None = None,
        digest: str | None = None,
        status: int | None = None,
    ) -> list[LoggedRequest]:
        """The requests that are all of what is given."""
        wanted = {"kind": kind, "method": method, "repository": repository, "digest": digest, "status": status}
        asked = {name: value for name, value in wanted.items() if value is not None}
        return [r for r in self._requests if all(getattr(r, name) == value for name, value in asked.items())]

    def counts(self) -> dict[str, int]:
        """Requests by kind."""
        return dict(Counter(request.kind for request in self._requests))

    def active(self, kind: str | None = None) -> int:
        """Requests under way now, of a kind or of all."""
        return self._active.total() if kind is None else self._active[kind]

    def peak(self, kind: str | None = None) -> int:
        """The most requests that were under way at once, of a kind or of all."""
        return self._peaks.get("" if kind is None else kind, 0)

    def clear(self) -> None:
        """Forget what has been, for the next part of a test."""
        self._requests.clear()
        self._peaks.clear()

    def begin(self, request: LoggedRequest) -> None:
        """A request has arrived."""
        self._requests.append(request)
        self._active[request.kind] += 1
        for name, now in ((request.kind, self._active[request.kind]), ("", self._active.total())):
            self._peaks[name] = max(now, self._peaks.get(name, 0))

    def end(self, request: LoggedRequest) -> None:
        """The last byte of its answer is handed over, or the connection is gone; may be said again."""
        if request.ended is None:
            self._active[request.kind] -= 1
            request.ended = time.monotonic()
