"""Faults of registries that lie: answers without end, lists that go on for ever, mounts and bytes that never were.

Other lies are in :mod:`asyncrane.testing.cuts` (wrong bytes, ranges, lengths) and
:func:`~asyncrane.testing.faults.wrong_digest_header`.
"""

from __future__ import annotations

from collections.abc import AsyncGenerator, Callable, Mapping
from dataclasses import replace
from typing import Unpack

from asyncrane.server.call import Call, Handler
from asyncrane.server.reply import Chunk, Reply, Stream
from asyncrane.testing.faults import Fault, When

_PIECE = b" " * 65536


def flood(
    length: int = -1,
    *,
    piece: bytes = _PIECE,
    code: int = 200,
    headers: Mapping[str, str] | None = None,
    **when: Unpack[When],
) -> Fault:
    """Answer with ``piece`` again and again, ``length`` bytes of it or (-1) chunks without end; nothing is held."""

    async def chunks() -> AsyncGenerator[Chunk, None]:
        left = length
        while left:
            part = piece if left < 0 else piece[:left]
            left -= len(part) if left > 0 else 0
            yield part

    async def effect(call: Call, handler: Handler) -> Reply:
        return Reply(code, headers or {}, Stream(length, chunks))

    return Fault("flood", effect, when)


def claim_mount(**when: Unpack[When]) -> Fault:
    """Answer that the blob was mounted, and mount nothing."""

    async def effect(call: Call, handler: Handler) -> Reply:
        digest = call.ask("mount")
        return Reply(201, {"Location": f"/v2/{call.route.repository}/blobs/{digest}", "Docker-Content-Digest": digest})

    return Fault("claim_mount", effect, {"kind": "mount", **when})


def claim_received(by: int, **when: Unpack[When]) -> Fault:
    """Say of an upload that ``by`` bytes more have arrived than have."""

    async def effect(call: Call, handler: Handler) -> Reply:
        reply = await handler(call)
        first, dash, last = reply.headers.get("Range", "").partition("-")
        return replace(reply, headers={**reply.headers, "Range": f"{first}-{int(last) + by}"}) if dash else reply

    return Fault("claim_received", effect, {"kind": ("upload-patch", "upload-status"), **when})


def skip_range(by: int = 1, **when: Unpack[When]) -> Fault:
    """Say the range that was asked for, but send the bytes that begin ``by`` bytes later, and zeros for the last."""

    async def effect(call: Call, handler: Handler) -> Reply:
        honest = await handler(call)
        body = honest.body
        if honest.status != 206 or not isinstance(body, Stream):
            return honest

        async def chunks() -> AsyncGenerator[Chunk, None]:
            left = by
            async for chunk in body.chunks():
                yield chunk[left:]
                left -= min(left, len(chunk))
            yield bytes(by)

        return replace(honest, body=Stream(body.length, chunks))

    return Fault("skip_range", effect, {"kind": "blob-get", **when})


def more_pages(link: Callable[[Call, int], str], **when: Unpack[When]) -> Fault:
    """Say of every page of a list that there is another: where ``link`` makes of the request and its number."""
    count = 0

    async def effect(call: Call, handler: Handler) -> Reply:
        nonlocal count
        count += 1
        reply = await handler(call)
        return replace(reply, headers={**reply.headers, "Link": f'<{link(call, count)}>; rel="next"'})

    return Fault("more_pages", effect, {"kind": ("tags", "catalog", "referrers"), **when})
