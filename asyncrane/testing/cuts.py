"""Faults of bytes on their way: cut, stalled, slow, corrupt, redirected, acknowledged too little, ranges that lie.

They strike blob GETs, or uploads, unless ``kind`` says otherwise (``storage`` where a storage host sends the content).
"""

from __future__ import annotations

import re
from collections.abc import AsyncGenerator, AsyncIterator, Awaitable, Callable, Mapping
from dataclasses import replace
from functools import partial
from typing import Unpack

import anyio
from multidict import CIMultiDict

from asyncrane.server.call import Call, Handler, HangUp
from asyncrane.server.reply import Chunk, Reply, Stream
from asyncrane.testing.faults import Fault, Gate, When

_UPLOADS = ("upload-post", "upload-patch", "upload-put")


def cut_response(at: int, *, reset: bool = False, **when: Unpack[When]) -> Fault:
    """Close the connection after ``at`` bytes of the answer's body."""
    return _at_byte("cut_response", at, partial(_hang_up, reset=reset), when)


def stall_response(at: int, gate: Gate | None = None, **when: Unpack[When]) -> Fault:
    """Send ``at`` bytes of the answer's body, then nothing until the gate is released (without one: ever)."""
    return _at_byte("stall_response", at, (gate or Gate()).wait, when)


def cut_request(at: int, *, reset: bool = False, **when: Unpack[When]) -> Fault:
    """Close the connection after ``at`` bytes of the request's body were taken; what was taken is kept."""
    return _at_request_byte("cut_request", at, partial(_hang_up, reset=reset), when)


def stall_request(at: int, gate: Gate | None = None, **when: Unpack[When]) -> Fault:
    """Take ``at`` bytes of the request's body, then none until the gate is released (without one: ever)."""
    return _at_request_byte("stall_request", at, (gate or Gate()).wait, when)


def slow(rate: float, **when: Unpack[When]) -> Fault:
    """Send the answer's body at ``rate`` bytes a second, per connection."""

    async def chunks(stream: Stream) -> AsyncGenerator[Chunk, None]:
        async for chunk in stream.chunks():
            for at in range(0, len(chunk), 65536):
                piece = chunk[at : at + 65536]
                await anyio.sleep(len(piece) / rate)
                yield piece

    return _on_body("slow", chunks, when)


def corrupt(at: int = 0, **when: Unpack[When]) -> Fault:
    """Send the right number of bytes, the one at ``at`` wrong."""

    async def chunks(stream: Stream) -> AsyncGenerator[Chunk, None]:
        position = 0
        async for chunk in stream.chunks():
            changed = bytearray(chunk)
            if position <= at < position + len(changed):
                changed[at - position] ^= 0xFF
            position += len(changed)
            yield bytes(changed)

    return _on_body("corrupt", chunks, when)


def shorten(by: int, **when: Unpack[When]) -> Fault:
    """Send ``by`` bytes less, with a Content-Length that agrees: an answer that looks whole and is not."""

    async def effect(call: Call, handler: Handler) -> Reply:
        reply = await handler(call)
        stream = _stream(call, reply)
        length = max(stream.length - by, 0)

        async def chunks() -> AsyncGenerator[Chunk, None]:
            left = length
            async for chunk in stream.chunks():
                yield chunk[:left]
                left -= min(left, len(chunk))

        headers = {name: value for name, value in reply.headers.items() if name != "Content-Length"}
        return Reply(reply.status, headers, Stream(length, chunks))

    return Fault("shorten", effect, {"kind": "blob-get", **when})


def overstate(by: int, **when: Unpack[When]) -> Fault:
    """Say ``by`` bytes more in Content-Length than there are, and close the connection when they were to come."""

    async def effect(call: Call, handler: Handler) -> Reply:
        reply = await handler(call)
        stream = _stream(call, reply)
        said = reply.headers.get("Content-Length", str(stream.length))

        async def chunks() -> AsyncGenerator[Chunk, None]:
            async for chunk in stream.chunks():
                yield chunk
            raise HangUp

        headers = {**reply.headers, "Content-Length": str(int(said) + by)}
        return Reply(reply.status, headers, Stream(stream.length + by, chunks))

    return Fault("overstate", effect, {"kind": "blob-get", **when})


def ignore_range(**when: Unpack[When]) -> Fault:
    """Answer every Range with 200 and everything."""

    async def effect(call: Call, handler: Handler) -> Reply:
        reply = await handler(replace(call, headers=_headers(call, {"Range": None})))
        return replace(reply, headers={n: v for n, v in reply.headers.items() if n != "Accept-Ranges"})

    return Fault("ignore_range", effect, {"kind": "blob-get", **when})


def lie_range(shift: int = 1, **when: Unpack[When]) -> Fault:
    """Send the bytes asked for, but say in Content-Range that they begin ``shift`` bytes later."""

    async def effect(call: Call, handler: Handler) -> Reply:
        reply = await handler(call)
        said = re.fullmatch(r"bytes (\d+)-(\d+)/(\d+)", reply.headers.get("Content-Range", ""))
        if said is None:
            return reply
        first, last, size = (int(number) for number in said.groups())
        return replace(reply, headers={**reply.headers, "Content-Range": f"bytes {first + shift}-{last}/{size}"})

    return Fault("lie_range", effect, {"kind": "blob-get", **when})


def wrong_range(shift: int = 1, **when: Unpack[When]) -> Fault:
    """Say the range that was asked for, but send the bytes that begin ``shift`` bytes earlier."""

    async def effect(call: Call, handler: Handler) -> Reply:
        asked = re.fullmatch(r"bytes=(\d+)-(\d*)", call.headers.get("Range", ""))
        honest = await handler(call)
        if asked is None or honest.status != 206:
            return honest
        start = max(int(asked[1]) - shift, 0)
        headers = _headers(call, {"Range": f"bytes={start}-{start + honest.length - 1}"})
        other = await handler(replace(call, headers=headers))
        return replace(honest, body=other.body)

    return Fault("wrong_range", effect, {"kind": "blob-get", **when})


def acknowledge(keep: int, **when: Unpack[When]) -> Fault:
    """Take the whole body of a PATCH but keep only its first ``keep`` bytes, and say so in Range."""

    async def effect(call: Call, handler: Handler) -> Reply:
        said = call.headers.get("Content-Range", "").partition("-")[0]
        stated = f"{said}-{int(said) + keep - 1}" if said.isdigit() else None
        headers = _headers(call, {"Content-Range": stated})
        return await handler(replace(call, headers=headers, body=_first(call.body, keep), length=-1))

    return Fault("acknowledge", effect, {"kind": "upload-patch", **when})


def redirect(target: str | Callable[[Call], str], *, code: int = 307, **when: Unpack[When]) -> Fault:
    """Send the client elsewhere for the content, to a URL or to what a function makes of the request."""

    async def effect(call: Call, handler: Handler) -> Reply:
        return Reply(code, {"Location": target if isinstance(target, str) else target(call)})

    return Fault("redirect", effect, {"kind": "blob-get", **when})


def _headers(call: Call, changes: Mapping[str, str | None]) -> Mapping[str, str]:
    """The request's headers with some changed, or with ``None`` taken away; names in any case."""
    headers = CIMultiDict(call.headers)
    for name, value in changes.items():
        headers.popall(name, None)
        if value is not None:
            headers[name] = value
    return headers


async def _hang_up(*, reset: bool) -> None:
    raise HangUp(reset=reset)


async def _first(body: AsyncIterator[bytes], keep: int) -> AsyncIterator[bytes]:
    async for chunk in body:
        if keep:
            yield chunk[:keep]
            keep -= min(keep, len(chunk))


def _at_byte(name: str, at: int, act: Callable[[], Awaitable[None]], when: When) -> Fault:
    """Do something between byte ``at`` of the answer's body and the next."""

    async def chunks(stream: Stream) -> AsyncGenerator[Chunk, None]:
        left: int | None = at
        async for chunk in stream.chunks():
            rest = chunk
            if left is not None and len(chunk) >= left:
                if left:
                    yield chunk[:left]
                rest, left = chunk[left:], None
                await act()
            elif left is not None:
                left -= len(chunk)
            if rest:
                yield rest
        if left == 0:  # there was no body
            await act()

    return _on_body(name, chunks, when)


def _on_body(name: str, change: Callable[[Stream], AsyncGenerator[Chunk, None]], when: When) -> Fault:
    async def effect(call: Call, handler: Handler) -> Reply:
        reply = await handler(call)
        stream = _stream(call, reply)
        return replace(reply, body=Stream(stream.length, lambda: change(stream)))

    return Fault(name, effect, {"kind": "blob-get", **when})


def _at_request_byte(name: str, at: int, act: Callable[[], Awaitable[None]], when: When) -> Fault:
    """Do something between byte ``at`` of the request's body and the next."""

    async def body(call: Call) -> AsyncIterator[bytes]:
        left: int | None = at
        if not left:
            await act()
            left = None
        async for chunk in call.body:
            rest = chunk
            if left is not None and len(chunk) >= left:
                yield chunk[:left]
                rest, left = chunk[left:], None
                await act()
            elif left is not None:
                left -= len(chunk)
            if rest:
                yield rest

    async def effect(call: Call, handler: Handler) -> Reply:
        return await handler(replace(call, body=body(call)))

    return Fault(name, effect, {"kind": _UPLOADS, **when})


def _stream(call: Call, reply: Reply) -> Stream:
    """The body to send: none to HEAD, whatever length the headers say."""
    body = reply.body
    if call.method == "HEAD":
        return Stream.of(int(reply.headers.get("Content-Length", reply.length)), lambda: iter(()))
    if isinstance(body, Stream):
        return body
    return Stream.of(len(body), lambda: iter((body,) if body else ()))
