"""What can go wrong with a registry: faults, when they strike, and the answers they change.

A fault is an effect and a condition. Every constructor takes the conditions of :class:`When` by keyword::

    registry.faults.add(status(503, kind="blob-get", times=2))
    registry.faults.add(delay(gate, kind="manifest-put", path="/app/"))

Of several faults that strike one request the first added is the outermost. What happens to bytes on their way is in
:mod:`asyncrane.testing.cuts`.
"""

from __future__ import annotations

import asyncio
import random
import re
from collections.abc import AsyncIterator, Callable, Collection, Iterator, Mapping
from dataclasses import dataclass, field, replace
from typing import TypedDict, Unpack

import anyio

from asyncrane.server.call import Around, Call, Handler, HangUp
from asyncrane.server.refusal import Refused, error_reply
from asyncrane.server.reply import Reply


class When(TypedDict, total=False):
    """When a fault strikes: all of what is given must hold."""

    kind: str | Collection[str]
    """Kinds of requests, see :data:`asyncrane.server.routes.KINDS`; ``storage`` is the storage host's."""
    method: str
    path: str
    """A regular expression that is searched in the path."""
    where: Callable[[Call], bool]
    """Anything else about the request."""
    after: int
    """Let this many that match pass first."""
    nth: int | Collection[int]
    """Only these of those that match, counted from 1."""
    times: int
    """Strike this often, then never again."""
    probability: float
    """Strike this share of those that match; the same ones for the same ``seed``."""
    seed: int


@dataclass(slots=True)
class Fault:
    """An effect that strikes the requests that match; ``matched`` and ``hits`` count them."""

    name: str
    effect: Around = field(repr=False)
    when: When = field(default_factory=When)
    matched: int = 0
    hits: int = 0
    _dice: random.Random | None = field(default=None, repr=False)

    def strikes(self, call: Call) -> bool:
        """Whether this request is struck; asking counts."""
        if not self._matches(call):
            return False
        self.matched += 1
        struck = self._turn()
        self.hits += struck
        return struck

    def _matches(self, call: Call) -> bool:
        when = self.when
        kinds = when.get("kind", call.route.kind)
        where = when.get("where")
        return (
            call.route.kind in ((kinds,) if isinstance(kinds, str) else kinds)
            and when.get("method", call.method) == call.method
            and re.search(when.get("path", ""), call.path) is not None
            and (where is None or where(call))
        )

    def _turn(self) -> bool:
        when = self.when
        nth = when.get("nth", self.matched)
        if self.matched <= when.get("after", 0) or self.matched not in ((nth,) if isinstance(nth, int) else nth):
            return False
        if self.hits >= when.get("times", self.hits + 1):
            return False
        if "probability" not in when:
            return True
        if self._dice is None:
            self._dice = random.Random(when.get("seed", 0))  # noqa: S311 - the same faults every time
        return self._dice.random() < when["probability"]


class Faults:
    """The faults of one registry."""

    def __init__(self) -> None:
        self._faults: list[Fault] = []

    def __repr__(self) -> str:
        return f"Faults({self._faults!r})"

    def __iter__(self) -> Iterator[Fault]:
        return iter(self._faults)

    def add(self, *faults: Fault) -> Fault:
        """From now on; returns the (last) fault, whose ``hits`` can be asserted on."""
        self._faults.extend(faults)
        return faults[-1]

    def remove(self, fault: Fault) -> None:
        """No longer."""
        self._faults.remove(fault)

    def clear(self) -> None:
        """None any longer."""
        self._faults.clear()

    def striking(self, call: Call) -> list[Fault]:
        """The faults that strike this request."""
        return [fault for fault in self._faults if fault.strikes(call)]


class Gate:
    """Holds what comes to it until it is released, and tells how much has come: a delay a test is master of."""

    def __init__(self) -> None:
        self.arrived = 0
        self._open = asyncio.Event()
        self._news = asyncio.Event()

    def __repr__(self) -> str:
        return f"Gate(arrived={self.arrived}, {'open' if self._open.is_set() else 'shut'})"

    def release(self) -> None:
        """Let all through, from now on."""
        self._open.set()

    async def wait(self) -> None:
        """Stand here until it is released."""
        self.arrived += 1
        self._news.set()
        await self._open.wait()

    async def reached(self, count: int = 1) -> None:
        """Return when ``count`` have come, whether they still stand here or not."""
        while self.arrived < count:
            self._news.clear()
            await self._news.wait()


def fault(name: str, effect: Around, **when: Unpack[When]) -> Fault:
    """A fault of one's own."""
    return Fault(name, effect, when)


def status(
    code: int,
    *,
    headers: Mapping[str, str] | None = None,
    body: bytes | None = None,
    error: str = "UNKNOWN",
    **when: Unpack[When],
) -> Fault:
    """Answer with a status, with an error body of the specification's shape or with ``body``."""

    async def effect(call: Call, handler: Handler) -> Reply:
        if body is None and call.method != "HEAD":
            return error_reply(code, error, f"injected {code}", headers=headers)
        return Reply(code, headers or {}, body or b"")

    return Fault(f"status {code}", effect, when)


def delay(pause: float | Gate, **when: Unpack[When]) -> Fault:
    """Wait for seconds, or for the gate, before the request is looked at."""

    async def effect(call: Call, handler: Handler) -> Reply:
        await (pause.wait() if isinstance(pause, Gate) else anyio.sleep(pause))
        return await handler(call)

    return Fault("delay", effect, when)


def drop(*, reset: bool = True, **when: Unpack[When]) -> Fault:
    """Close the connection before anything is answered or done; with RST, or orderly."""

    async def effect(call: Call, handler: Handler) -> Reply:
        raise HangUp(reset=reset)

    return Fault("drop", effect, when)


def lose_answer(*, reset: bool = True, **when: Unpack[When]) -> Fault:
    """Do what was asked, then close the connection instead of saying so."""

    async def effect(call: Call, handler: Handler) -> Reply:
        await handler(call)
        raise HangUp(reset=reset)

    return Fault("lose_answer", effect, when)


def forget_caller(**when: Unpack[When]) -> Fault:
    """Act as if nothing had been shown: 401 with the registry's own challenge, if it has any."""

    async def effect(call: Call, handler: Handler) -> Reply:
        shown = {name: value for name, value in call.headers.items() if name.lower() != "authorization"}
        return await handler(replace(call, headers=shown))

    return Fault("forget_caller", effect, when)


def set_headers(headers: Mapping[str, str | None], **when: Unpack[When]) -> Fault:
    """Change headers of the answer; ``None`` takes one away. (Content-Length cannot be made to lie: cut instead.)"""

    async def effect(call: Call, handler: Handler) -> Reply:
        reply = await handler(call)
        changed = {name.lower() for name in headers}
        kept = {name: value for name, value in reply.headers.items() if name.lower() not in changed}
        return replace(reply, headers=kept | {name: value for name, value in headers.items() if value is not None})

    return Fault("set_headers", effect, when)


def wrong_digest_header(value: str = f"sha256:{'0' * 64}", **when: Unpack[When]) -> Fault:
    """Say another Docker-Content-Digest than the content's."""
    made = set_headers({"Docker-Content-Digest": value}, **when)
    return replace(made, name="wrong_digest_header")


def refuse_mount(code: int = 202, **when: Unpack[When]) -> Fault:
    """Mount nothing: 202 opens a session instead, as the specification has it; anything else is an error."""

    async def effect(call: Call, handler: Handler) -> Reply:
        if code != 202:
            return error_reply(code, "UNSUPPORTED", "this registry mounts nothing")
        query = {name: values for name, values in call.query.items() if name not in ("mount", "from")}
        return await handler(replace(call, query=query, route=replace(call.route, kind="upload-post")))

    return Fault("refuse_mount", effect, {"kind": "mount", **when})


def refuse_chunks(code: int = 416, **when: Unpack[When]) -> Fault:
    """Refuse every PATCH that says Content-Range; 416 comes with the Location and Range to go on from."""

    async def effect(call: Call, handler: Handler) -> Reply:
        if "Content-Range" not in call.headers:
            return await handler(call)
        where: dict[str, str] = {}
        if code == 416:
            where = dict(
                (await handler(replace(call, method="GET", route=replace(call.route, kind="upload-status")))).headers
            )
        return error_reply(code, "RANGE_INVALID", "this registry takes no chunks", headers=where)

    return Fault("refuse_chunks", effect, {"kind": "upload-patch", **when})


def limit_body(limit: int, code: int = 413, **when: Unpack[When]) -> Fault:
    """Refuse bodies of more than ``limit`` bytes as a proxy does: 413 and a page that is no JSON."""

    async def effect(call: Call, handler: Handler) -> Reply:
        async def body() -> AsyncIterator[bytes]:
            left = limit
            async for chunk in call.body:
                left -= len(chunk)
                if left < 0:
                    raise Refused(code, "SIZE_INVALID", f"more than {limit} bytes")
                yield chunk

        if call.length <= limit:
            return await handler(replace(call, body=body()))
        return Reply(code, {"Content-Type": "text/html"}, b"<html><h1>413 Request Entity Too Large</h1></html>")

    kinds = ("upload-post", "upload-patch", "upload-put", "manifest-put")
    return Fault("limit_body", effect, {"kind": kinds, **when})


def no_referrers(code: int = 404, **when: Unpack[When]) -> Fault:
    """A registry of before 1.1: no referrers API, and no OCI-Subject when a manifest with a subject is pushed."""

    async def effect(call: Call, handler: Handler) -> Reply:
        if call.route.kind == "referrers":
            return Reply(code, {"Content-Type": "text/plain"}, b"404 page not found")
        reply = await handler(call)
        return replace(reply, headers={name: value for name, value in reply.headers.items() if name != "OCI-Subject"})

    return Fault("no_referrers", effect, {"kind": ("referrers", "manifest-put"), **when})
