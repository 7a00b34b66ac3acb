"""What each fault of the matrix does to a request, made for one kind of request at one registry."""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import dataclass
from email.utils import formatdate
from typing import TypeAlias

from asyncrane.server import Call, Handler, Reply, TokenAuth
from asyncrane.testing import (
    Fault,
    FaultyRegistry,
    Gate,
    When,
    cut_request,
    cut_response,
    delay,
    drop,
    fault,
    forget_caller,
    overstate,
    redirect,
    shorten,
    stall_request,
    stall_response,
    status,
)

SENT = ("PATCH upload", "PUT upload", "PUT manifest")
"""Requests with a body."""

ANSWERED = ("ping", "token", "GET manifest", "GET blob", "tags page")
"""Requests that are answered with a body."""

_PAGE = b"<html><body><h1>Welcome to the network</h1></body></html>"
_EARLY = 60
"""Bytes of a body that every body has more of."""


@dataclass(frozen=True)
class Struck:
    """What a fault is made for: a kind of request at ``registry``; ``elsewhere`` is another host with the same content.
    ``gate`` is where requests stand until the registry has gone.
    """

    kind: str
    registry: FaultyRegistry
    elsewhere: FaultyRegistry
    gate: Gate


Make: TypeAlias = Callable[[Struck, When], Fault]


def gone(struck: Struck, when: When) -> Fault:
    """The test takes the registry down when somebody stands at the gate."""
    return delay(struck.gate, **when)


def reset(struck: Struck, when: When) -> Fault:
    return drop(**when)


def reset_after_headers(struck: Struck, when: When) -> Fault:
    return cut_response(0, reset=True, **when)


def cut(struck: Struck, when: When) -> Fault:
    return cut_request(_EARLY, **when) if struck.kind in SENT else cut_response(1, **when)


def stalled(struck: Struck, when: When) -> Fault:
    if struck.kind in SENT:
        return stall_request(_EARLY, **when)
    return stall_response(1, **when) if struck.kind in ANSWERED else delay(Gate(), **when)


def answered(code: int) -> Make:
    return lambda struck, when: status(code, **when)


def limited_for_a_second(struck: Struck, when: When) -> Fault:
    return status(429, headers={"Retry-After": "1"}, **when)


def limited_until(struck: Struck, when: When) -> Fault:
    async def effect(call: Call, handler: Handler) -> Reply:
        return Reply(429, {"Retry-After": formatdate(time.time() + 1.5, usegmt=True)})

    return fault("until", effect, **when)


def html(struck: Struck, when: When) -> Fault:
    return status(200, headers={"Content-Type": "text/html"}, body=_PAGE, **when)


def too_large(struck: Struck, when: When) -> Fault:
    return overstate(10, **when)


def too_small(struck: Struck, when: When) -> Fault:
    return shorten(1, **when)


def loop(struck: Struck, when: When) -> Fault:
    return redirect(lambda call: f"{call.path}?{call.raw_query}", **when)


def elsewhere(struck: Struck, when: When) -> Fault:
    return redirect(lambda call: f"{struck.elsewhere.url}{call.path}?{call.raw_query}", **when)


def unauthorized(struck: Struck, when: When) -> Fault:
    return status(401, error="UNAUTHORIZED", **when) if struck.kind == "token" else forget_caller(**when)


def expired(struck: Struck, when: When) -> Fault:
    async def effect(call: Call, handler: Handler) -> Reply:
        if isinstance(struck.registry.auth, TokenAuth):
            struck.registry.auth.revoke()
        return await handler(call)

    return fault("expired", effect, **when)
