"""What went over the wire to one registry, counted."""

from __future__ import annotations

from collections import Counter

import msgspec


class OriginStatistics(msgspec.Struct, frozen=True):
    """``requests`` by ``"METHOD kind"`` (kinds: ping, token, manifests, blobs, uploads, tags, referrers, catalog,
    other; redirects and retries count), body bytes, further attempts, and seconds the registry was parked.
    """

    requests: dict[str, int] = {}
    sent: int = 0
    received: int = 0
    retries: int = 0
    throttled: float = 0.0


class Counters:
    """The mutable side of :class:`OriginStatistics`."""

    __slots__ = ("received", "requests", "retries", "sent", "throttled")

    def __init__(self) -> None:
        self.requests: Counter[tuple[str, str]] = Counter()
        self.sent = 0
        self.received = 0
        self.retries = 0
        self.throttled = 0.0

    def snapshot(self) -> OriginStatistics:
        """The counts now."""
        requests = {f"{method} {kind}": count for (method, kind), count in sorted(self.requests.items())}
        return OriginStatistics(requests, self.sent, self.received, self.retries, self.throttled)


def kind_of(target: str) -> str:
    """What a path of the distribution API is about; the API's own words cannot end a repository's name here because
    they are looked for where the specification puts them: last.
    """
    head, _, last = target.partition("?")[0].rpartition("/")
    if head.endswith("/manifests"):
        return "manifests"
    if head.endswith("/blobs"):
        return "blobs"
    if "/blobs/uploads" in target:
        return "uploads"
    if head.endswith("/referrers"):
        return "referrers"
    if last == "list" and head.endswith("/tags"):
        return "tags"
    return "catalog" if last == "_catalog" else "other"
