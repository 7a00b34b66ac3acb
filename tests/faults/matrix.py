"""The matrix as data: the faults, what each means for each kind of request, the operations, and what each of them asks.

A cell is one fault that strikes one kind of request at one side of one operation, either in passing (once or twice) or
lasting (every such request).
"""

from __future__ import annotations

import random
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from itertools import combinations

from tests.faults import effects
from tests.faults.effects import Make

KINDS: Mapping[str, tuple[str, ...]] = {
    "ping": ("ping",),
    "token": ("token",),
    "HEAD manifest": ("manifest-head",),
    "GET manifest": ("manifest-get",),
    "HEAD blob": ("blob-head",),
    "GET blob": ("blob-get",),
    "POST upload": ("upload-post", "mount"),
    "PATCH upload": ("upload-patch",),
    "PUT upload": ("upload-put",),
    "PUT manifest": ("manifest-put",),
    "tags page": ("tags",),
}
"""Kinds of requests, and what the server calls them."""

_READING = ("ping", "token", "tags page", "HEAD manifest", "GET manifest", "GET blob")
_FETCHING = ("ping", "token", "GET manifest", "GET blob")
_PUSHING = ("ping", "token", "HEAD manifest", "HEAD blob", "POST upload", "PATCH upload", "PUT upload", "PUT manifest")

OPERATIONS: Mapping[str, Mapping[str, tuple[str, ...]]] = {
    "cp": {"source": _READING, "destination": (*_PUSHING, "tags page")},
    "mirror apply": {"source": _READING, "destination": (*_PUSHING, "tags page")},
    "pull": {"source": _FETCHING, "destination": ()},
    "push": {"source": (), "destination": _PUSHING},
    "append": {"source": _FETCHING, "destination": _PUSHING},
}
"""What each operation asks of each side: nothing else, as a test proves. ``HEAD blob`` takes a destination that mounts
nothing, ``PATCH upload`` one whose PUTs take no bodies.
"""

_BODILESS = ("HEAD manifest", "HEAD blob", "POST upload", "PATCH upload", "PUT upload", "PUT manifest")
_WRITES = ("POST upload", "PATCH upload", "PUT upload", "PUT manifest")


@dataclass(frozen=True)
class Row:
    """One fault: how it is made, and the errors that a run may end with when it lasts."""

    make: Make
    errors: tuple[str, ...]
    only: tuple[str, ...] = tuple(KINDS)
    """The kinds of requests that can meet it."""
    final: tuple[str, ...] = ()
    """Kinds for which one strike is an answer that nobody should ask for again."""
    harmless: tuple[str, ...] = ()
    """Kinds for which even a lasting one stops nothing."""
    unclear: tuple[str, ...] = ()
    """Kinds for which the run may end either way."""
    times: int = 2
    """Strikes of the passing form."""
    options: Mapping[str, float] = field(default_factory=dict)
    """Of the session."""
    lasting: Mapping[str, float] = field(default_factory=lambda: {"retry_max_time": 0.9})
    """Of the session when it lasts: by default less time than anybody is asked to wait."""


def _answered(code: int) -> Row:
    return Row(effects.answered(code), ("RegistryError" if code < 500 else "ServerFault",))


FAULTS: Mapping[str, Row] = {
    # a registry never heard of is not waited for
    "connection refused": Row(
        effects.gone, ("ConnectFailed",), final=("ping",), times=1, options={"retries": 10}, lasting={"retries": 3}
    ),
    "reset before headers": Row(effects.reset, ("Interrupted",)),
    # an answer without a body is complete by then, if the reset does not overtake it
    "reset after headers": Row(effects.reset_after_headers, ("Interrupted",), unclear=_BODILESS),
    "cut mid-body": Row(effects.cut, ("Interrupted",), only=(*effects.SENT, *effects.ANSWERED)),
    "stall": Row(effects.stalled, ("TimedOut",), times=1, options={"stall_timeout": 0.3, "retries": 6}),
    "408": _answered(408),
    "429, Retry-After in seconds": Row(effects.limited_for_a_second, ("RateLimited",), times=1),
    "429, Retry-After as a date": Row(effects.limited_until, ("RateLimited",), times=1),
    "500": _answered(500),
    "502": _answered(502),
    "503": _answered(503),
    "504": _answered(504),
    # a ping only tells how to log in, which the next answer tells, too; what a HEAD does not tell is asked otherwise
    "HTML instead of JSON": Row(
        effects.html, ("ServerFault", "SizeMismatch"), harmless=("ping", "HEAD manifest", "HEAD blob"), times=1
    ),
    "Content-Length too large": Row(
        effects.too_large, ("Interrupted", "SizeMismatch"), harmless=("HEAD manifest", "HEAD blob"), times=1
    ),
    "Content-Length too small": Row(
        effects.too_small,
        ("ServerFault", "UnsupportedManifest", "SizeMismatch"),
        only=(*effects.ANSWERED, "HEAD manifest", "HEAD blob"),
        final=("token", "GET manifest", "tags page"),
        harmless=("ping", "HEAD manifest", "HEAD blob"),
        times=1,
    ),
    # a body that was begun cannot go elsewhere, and secrets must not go to another host
    "redirect loop": Row(effects.loop, ("ServerFault",), unclear=("PATCH upload", "PUT upload")),
    "redirect to another host": Row(
        effects.elsewhere,
        ("ServerFault", "NotFound"),
        final=("token",),
        harmless=tuple(kind for kind in KINDS if kind != "token"),
        unclear=("PATCH upload", "PUT upload"),
    ),
    # it is how a ping is answered anyway; a token service that says it has been asked by somebody it does not know
    "401 mid-run": Row(effects.unauthorized, ("Unauthorized",), final=("token",), harmless=("ping",), times=1),
    "token expired during an upload": Row(effects.expired, ("Unauthorized",), only=_WRITES, times=1),
}


@dataclass(frozen=True)
class Cell:
    """One entry of the matrix."""

    fault: str
    operation: str
    kind: str
    side: str
    lasting: bool

    @property
    def row(self) -> Row:
        """The fault."""
        return FAULTS[self.fault]

    @property
    def options(self) -> Mapping[str, float]:
        """Of the session."""
        return {**self.row.options, **self.row.lasting} if self.lasting else self.row.options

    @property
    def ends_well(self) -> bool | None:
        """Whether the run must end well (or must not): ``None`` where it may do either."""
        row = self.row
        # the tags of a destination are asked for first, and only to spare questions
        spare = self.side == "destination" and "tags page" in OPERATIONS[self.operation][self.side]
        if self.kind in row.unclear or (spare and not self.lasting and self.kind in row.final):
            return None
        if not self.lasting:
            return self.kind not in row.final
        if spare and self.kind == "tags page":
            # about the registry as a whole; of a limit as long as there is time to wait for it
            return None if row.errors == ("RateLimited",) else row.errors != ("ConnectFailed",)
        return self.kind in row.harmless

    @property
    def lands(self) -> bool:
        """Whether the registry may have done what was asked, and only could not say so."""
        return self.kind == "PUT manifest" and self.fault in ("reset after headers", "Content-Length too large")

    @property
    def slow(self) -> bool:
        """Whether it takes many seconds: a blob is asked for again and again before it is given up."""
        return self.lasting and self.kind == "GET blob" and self.ends_well is False

    def pairs(self) -> frozenset[tuple[object, object]]:
        """What it tests together."""
        factors = (self.fault, self.operation, self.kind, ("lasting", self.lasting), ("at", self.side))
        return frozenset(combinations(factors, 2))

    def __str__(self) -> str:
        form = "lasting" if self.lasting else "passing"
        return "-".join((self.fault, self.operation, self.kind, self.side, form)).replace(" ", "_")


def cells() -> Iterator[Cell]:
    """The whole matrix: what cannot meet, and requests that are not sent, are left out."""
    for fault, row in FAULTS.items():
        for operation, sides in OPERATIONS.items():
            for side, kinds in sides.items():
                for kind in kinds:
                    if kind in row.only:
                        yield Cell(fault, operation, kind, side, lasting=False)
                        yield Cell(fault, operation, kind, side, lasting=True)


def sample(every: Iterable[Cell]) -> list[Cell]:
    """Few cells, the same every time. Any two of fault, operation, kind, side and form meet in one of them, if they do
    so in any quick one.
    """
    quick = [cell for cell in every if not cell.slow]
    random.Random(5).shuffle(quick)
    chosen: list[Cell] = []
    met: set[tuple[object, object]] = set()
    for worth in range(10, 0, -1):
        for cell in quick:
            if len(cell.pairs() - met) >= worth:
                chosen.append(cell)
                met |= cell.pairs()
    return sorted(chosen, key=str)
