"""What is wanted where: a want is one blob at one place, an asset all open wants of one digest at one site.

There are as many as there are blobs to be placed, so they are small: a table is made where there are several.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Protocol

from asyncrane.abc import Place
from asyncrane.engine.landed import Landed
from asyncrane.errors import Failure
from asyncrane.oci.descriptor import Descriptor


class Waiter(Protocol):
    """Who waits for a blob."""

    @property
    def live(self) -> bool:
        """Whether anybody still waits for this waiter."""
        ...

    def arrived(self) -> None:
        """The blob is there."""
        ...

    def lost(self, failure: Failure) -> None:
        """The blob will not come."""
        ...


class Want:
    """One blob at one place. ``tried`` are the repositories it could not be mounted from, ``first`` whether others wait
    for its mount, ``alone`` whether it is copied by itself, having failed together with others.
    """

    __slots__ = (
        "_others",
        "_waiter",
        "alone",
        "asset",
        "blob",
        "eager",
        "failure",
        "first",
        "place",
        "source",
        "tried",
    )

    def __init__(
        self, asset: Asset, place: Place, blob: Descriptor, source: Place, waiter: Waiter, *, eager: bool
    ) -> None:
        self.asset = asset
        self.place = place
        self.blob = blob
        self.source = source
        self.eager = eager
        self.first = False
        self.alone = False
        self.failure: Failure | None = None
        self.tried: tuple[str, ...] = ()
        self._waiter: Waiter | None = waiter
        self._others: list[Waiter] | None = None

    @property
    def live(self) -> bool:
        """Whether anybody still waits for it."""
        if self._waiter is not None and self._waiter.live:
            return True
        return self._others is not None and any(waiter.live for waiter in self._others)

    @property
    def demand(self) -> int:
        """How many wait for it."""
        return 1 if self._others is None else 1 + len(self._others)

    def join(self, waiter: Waiter) -> None:
        """Let one more wait for it."""
        if self._others is None:
            self._others = []
        self._others.append(waiter)

    def release(self) -> Sequence[Waiter]:
        """All who have waited: from now on nobody does."""
        waiter, others, self._waiter, self._others = self._waiter, self._others, None, None
        if waiter is None:
            return ()
        return (waiter,) if others is None else (waiter, *others)

    def __repr__(self) -> str:
        return f"Want({self.blob.digest[:19]} at {self.place})"


class Asset:
    """One digest at one site, as long as something is to be done about it. ``arriving`` counts the copies (and mounts
    from where an earlier run knows it to be) whose outcome the others wait for.
    """

    __slots__ = ("_raw", "_shelf", "_wants", "arriving", "parked")

    def __init__(self, shelf: Shelf, raw: bytes) -> None:
        self._shelf = shelf
        self._raw = raw
        self._wants: Want | dict[str, Want] | None = None  # nearly always one
        self.arriving = 0
        self.parked: list[Want] | None = None

    @property
    def holder(self) -> str | None:
        """A repository that has it."""
        return self._shelf.landed.holder(self._raw)

    def land(self, repository: str) -> None:
        """``repository`` has it now."""
        self._shelf.landed.add(self._raw, repository)

    def want(self, repository: str) -> Want | None:
        """The want of ``repository``."""
        wants = self._wants
        if isinstance(wants, Want):
            return wants if wants.place.repository == repository else None
        return wants.get(repository) if wants is not None else None

    def open(self, want: Want) -> None:
        """Its repository wants it, too."""
        if self._wants is None:
            self._wants = want
            return
        if isinstance(self._wants, Want):
            self._wants = {self._wants.place.repository: self._wants}
        self._wants[want.place.repository] = want

    def close(self, repository: str) -> None:
        """Nothing is to be done for ``repository`` any more; when that was the last one, for the asset."""
        if isinstance(self._wants, dict):
            del self._wants[repository]
            if self._wants:
                return
        self._wants = None
        if self._shelf.assets.get(self._raw) is self:
            del self._shelf.assets[self._raw]

    def park(self, want: Want) -> None:
        """Let it wait for what is arriving."""
        if self.parked is None:
            self.parked = []
        self.parked.append(want)

    def unpark(self) -> list[Want]:
        """All that have waited."""
        parked, self.parked = self.parked or [], None
        return parked


class Shelf:
    """One site: what it has by raw digests, and what is being done about what it has not."""

    __slots__ = ("assets", "landed")

    def __init__(self) -> None:
        self.landed = Landed()
        self.assets: dict[bytes, Asset] = {}
