"""What to do when an upload fails: pure policy, and the table of what registries do.

Three kinds of upload, tried in this order, what is learned kept per registry:

- ``put``: all bytes in one PUT (two requests with the POST before it);
- ``patch``: all bytes in one PATCH without Content-Range, then PUT (Artifactory refuses a large PUT, containerd#3533);
- ``chunks``: PATCH by PATCH with Content-Range, then PUT. Never first: GCR refuses chunks, GHCR large ones.

``capabilities.chunk`` is the largest body that gets through (0: no limit known); bodies below it are not cut up.
An upload that broke goes on where the registry says it stopped, else it starts again.
"""

from __future__ import annotations

from enum import Enum
from typing import Literal, TypeAlias

from asyncrane.errors import AsyncraneError, RegistryError
from asyncrane.transport.capabilities import Capabilities

Kind: TypeAlias = Literal["put", "patch", "chunks"]
Phase: TypeAlias = Literal["whole", "piece", "commit"]

MIB = 1024 * 1024
CHUNK = 4 * MIB
"""Bytes of a chunk where nothing is known: GHCR takes no more, ECR wants 5 MiB and says so."""
PROXY_LIMIT = 95 * MIB
"""Below the 100 MB that Cloudflare and its like let through."""

_ORDER: tuple[Kind, ...] = ("put", "patch", "chunks")
_PLAIN_REFUSALS = frozenset({405, 411, 415, 501})
_REFUSALS = _PLAIN_REFUSALS | {400, 404, 416}
_HOPELESS = frozenset({"NAME_UNKNOWN", "NAME_INVALID", "DENIED", "UNAUTHORIZED"})
_TEMPORARY = frozenset({408, 429, 499})
_TRIES = 5
MOST_LOSSES = 5
"""Pieces that may get lost for the most part before a registry is taken to be broken."""
_PATIENCE = 2
_PROGRESS = MIB
_FLOOR = 64 * 1024


class Verdict(Enum):
    """What happens to a failed upload."""

    GIVE_UP = "give up"
    RESUME = "ask where it stopped and go on"
    RESTART = "begin a new session"


class Strategy:
    """How one blob is sent; :meth:`judge` is told of every failure. ``losses`` counts the pieces of which the registry
    kept the smaller part.
    """

    def __init__(self, capabilities: Capabilities, size: int) -> None:
        self._capabilities = capabilities
        limited = 0 < capabilities.chunk < size
        self.kind: Kind = "chunks" if limited else capabilities.upload
        self.rejoined = False
        self.losses = 0
        self._chunk = capabilities.chunk
        self._refused = False
        self._renewed = False
        self._reread = False
        self._broken = False
        self._out_of_range = False
        self._late = False
        self._resumable = True
        self._restarts = 0
        self._tries = 0
        self._acknowledged = 0

    def piece(self, left: int, minimum: int) -> int:
        """Bytes of the next PATCH when ``left`` are to be sent and the registry wants at least ``minimum``."""
        if self.kind != "chunks":
            return left
        return min(left, max(self._chunk or CHUNK, minimum))

    def judge(
        self, error: AsyncraneError, phase: Phase, *, offset: int, length: int, streamed: bool, kept: bool
    ) -> Verdict:
        """What to do after ``error``, met in ``phase`` by a request of ``length`` bytes from ``offset`` on.

        ``streamed`` says that transport could not repeat it by itself, ``kept`` that the session is an old one, opened
        by a mount.
        """
        self._broken = not isinstance(error, RegistryError)
        if not isinstance(error, RegistryError) or temporary(error):
            return self._interrupted() if streamed else Verdict.GIVE_UP
        if "DIGEST_INVALID" in error.codes:
            return self._once_more() if self.rejoined else Verdict.GIVE_UP
        if error.status == 401:
            return self._unauthorized() if streamed else Verdict.GIVE_UP
        if error.status == 413:
            return self._too_large(phase, length)
        if error.status not in _REFUSALS or _HOPELESS.intersection(error.codes):
            return Verdict.GIVE_UP
        if error.status == 404 and (kept or phase == "commit"):
            return self._restart()
        if phase == "commit":
            return self._once_more() if self.rejoined else Verdict.GIVE_UP
        return self._refusal(error, phase, offset)

    def acknowledged(self, said: int | None, start: int, end: int) -> int:
        """Where the next piece begins after the one from ``start`` to ``end`` was answered with a Range up to ``said``.

        A part of it is taken at its word. No progress at all is ECR, which has the bytes and repeats its first Range
        (aws/containers-roadmap#2831); if it has not, the next piece is refused and the upload asked for its state.
        """
        if said is None or said >= end:
            return end
        self.rejoined = True
        if said <= max(start, 1):
            return end
        if 2 * (said - start) < end - start:  # so little that the rest had better not be sent for nothing each time
            self.losses += 1
            self.kind, self._chunk = "chunks", max(said - start, _FLOOR)
        return said

    def resumed(self, offset: int, before: int) -> None:
        """The registry has the bytes up to ``offset``; we were about to send from ``before`` on."""
        self.rejoined = True
        if offset - self._acknowledged >= _PROGRESS:
            self._tries = 0
        self._acknowledged = offset
        if self._out_of_range and offset == before:  # so it is not where the piece begins that was wrong
            self._chunk = max((self._chunk or CHUNK) // 2, _FLOOR)
        self._out_of_range = False

    def restarted(self) -> None:
        """A new session has begun."""
        self.rejoined = False
        self._acknowledged = 0

    def succeeded(self) -> None:
        """The blob is stored: what it took is remembered for the next one."""
        if self._refused:
            self._learn(self.kind)

    @property
    def pause(self) -> float:
        """Seconds to wait before trying again; nothing where there was progress."""
        return 0.25 * 2.0 ** (self._tries - 2) if self._tries > 1 else 0.0

    def _interrupted(self) -> Verdict:
        self._tries += 1
        if self._tries > _TRIES:
            return Verdict.GIVE_UP
        # a session that goes on nowhere may be held by the connection that broke
        return Verdict.RESUME if self._resumable and self._tries <= _PATIENCE else self.lost()

    def lost(self) -> Verdict:
        """The registry does not know where an interrupted upload stopped."""
        if self._broken and self._restarts and self.kind != "chunks":  # twice: perhaps something resets long bodies
            self._downgrade()
        return self._restart()

    def _restart(self) -> Verdict:
        self._restarts += 1
        return Verdict.RESTART if self._restarts <= _TRIES else Verdict.GIVE_UP

    def _once_more(self) -> Verdict:
        """Pieced together and wrong: send it again, in one go, never resumed."""
        if self._reread:
            return Verdict.GIVE_UP
        self._reread, self._resumable = True, False
        return self._restart()

    def _unauthorized(self) -> Verdict:
        """The token ran out while the bytes were on their way: with PATCH they are kept when that happens again."""
        if self._renewed:
            return Verdict.GIVE_UP
        self._renewed = True
        if self.kind == "put":
            self.kind = "patch"
        return Verdict.RESUME

    def _too_large(self, phase: Phase, length: int) -> Verdict:
        forced = self.kind == "chunks" and 0 < self._chunk < length  # by a registry that wants no smaller ones
        if phase == "commit" or length <= _FLOOR or forced:
            return Verdict.GIVE_UP
        limit = PROXY_LIMIT if length > PROXY_LIMIT else length // 2
        known = self._capabilities.chunk
        self._capabilities.chunk = self._chunk = min(limit, known) if known else limit
        first, self.kind = self.kind != "chunks", "chunks"
        return self._restart() if first else Verdict.RESUME

    def _refusal(self, error: RegistryError, phase: Phase, offset: int) -> Verdict:
        if phase == "piece" and offset > 0 and self.kind != "chunks":
            if error.status == 416 and not self._late:  # more of what was under way when it broke has arrived since
                self._late = True
                return self._interrupted()
            self._resumable = False  # it does not take the rest of a broken upload
            return self._restart()
        if self.kind != "chunks":
            self._downgrade()
            if error.status in _PLAIN_REFUSALS:
                self._learn(self.kind)
            return self._restart()
        if error.status == 416:
            self._out_of_range = True
            return self._interrupted()
        return self._restart() if offset > 0 and error.status in (400, 404) else Verdict.GIVE_UP

    def _downgrade(self) -> None:
        following = _ORDER[_ORDER.index(self.kind) + 1]
        self.kind = max(following, self._capabilities.upload, key=_ORDER.index)
        self._refused = True

    def _learn(self, kind: Kind) -> None:
        self._capabilities.upload = max(kind, self._capabilities.upload, key=_ORDER.index)


def temporary(error: RegistryError) -> bool:
    """Whether the same request may succeed later: also where it was answered with a web page."""
    return error.status in _TEMPORARY or (error.status >= 500 and error.status != 501) or 200 <= error.status < 300
