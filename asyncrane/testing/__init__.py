"""What tests of asyncrane, and of what is built on it, are made with: a registry with faults and a log.

async with FaultyRegistry() as registry:
    registry.faults.add(status(503, kind="blob-get", times=2))
    ...
    assert len(registry.requests(kind="blob-get")) == 3
"""

from __future__ import annotations

from asyncrane.testing.cuts import (
    acknowledge,
    corrupt,
    cut_request,
    cut_response,
    ignore_range,
    lie_range,
    redirect,
    shorten,
    slow,
    stall_request,
    stall_response,
    wrong_range,
)
from asyncrane.testing.faults import (
    Fault,
    Faults,
    Gate,
    When,
    delay,
    drop,
    fault,
    limit_body,
    lose_answer,
    no_referrers,
    refuse_chunks,
    refuse_mount,
    set_headers,
    status,
    wrong_digest_header,
)
from asyncrane.testing.log import LoggedRequest, RequestLog
from asyncrane.testing.registry import FaultyRegistry

__all__ = [
    "Fault",
    "Faults",
    "FaultyRegistry",
    "Gate",
    "LoggedRequest",
    "RequestLog",
    "When",
    "acknowledge",
    "corrupt",
    "cut_request",
    "cut_response",
    "delay",
    "drop",
    "fault",
    "ignore_range",
    "lie_range",
    "limit_body",
    "lose_answer",
    "no_referrers",
    "redirect",
    "refuse_chunks",
    "refuse_mount",
    "set_headers",
    "shorten",
    "slow",
    "stall_request",
    "stall_response",
    "status",
    "wrong_digest_header",
    "wrong_range",
]
