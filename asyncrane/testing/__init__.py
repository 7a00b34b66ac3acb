"""What tests of asyncrane, and of what is built on it, are made with: a registry with faults and a log.

async with FaultyRegistry() as registry:
    registry.faults.add(status(503, kind="blob-get", times=2))
    ...
    assert len(registry.requests(kind="blob-get")) == 3

``ecr()``, ``ghcr()`` and their like, all of them in ``PROFILES``, make registries that behave as those do.
"""

from __future__ import annotations

from asyncrane.testing.cuts import (
    acknowledge,
    corrupt,
    cut_request,
    cut_response,
    ignore_range,
    lie_range,
    overstate,
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
    forget_caller,
    limit_body,
    lose_answer,
    no_referrers,
    refuse_chunks,
    refuse_mount,
    set_headers,
    status,
    wrong_digest_header,
)
from asyncrane.testing.lies import (
    claim_mount,
    claim_received,
    flood,
    more_pages,
    skip_range,
)
from asyncrane.testing.log import LoggedRequest, RequestLog
from asyncrane.testing.profiles import (
    PROFILES,
    acr,
    artifactory,
    distribution_2_8,
    docker_hub,
    ecr,
    gar,
    ghcr,
    gitlab,
    harbor,
    nexus,
    quay,
    zot,
)
from asyncrane.testing.registry import FaultyRegistry

__all__ = [
    "PROFILES",
    "Fault",
    "Faults",
    "FaultyRegistry",
    "Gate",
    "LoggedRequest",
    "RequestLog",
    "When",
    "acknowledge",
    "acr",
    "artifactory",
    "claim_mount",
    "claim_received",
    "corrupt",
    "cut_request",
    "cut_response",
    "delay",
    "distribution_2_8",
    "docker_hub",
    "drop",
    "ecr",
    "fault",
    "flood",
    "forget_caller",
    "gar",
    "ghcr",
    "gitlab",
    "harbor",
    "ignore_range",
    "lie_range",
    "limit_body",
    "lose_answer",
    "more_pages",
    "nexus",
    "no_referrers",
    "overstate",
    "quay",
    "redirect",
    "refuse_chunks",
    "refuse_mount",
    "set_headers",
    "shorten",
    "skip_range",
    "slow",
    "stall_request",
    "stall_response",
    "status",
    "wrong_digest_header",
    "wrong_range",
    "zot",
]
