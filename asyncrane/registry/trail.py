"""The trail that a large upload leaves in a ledger, so that another process, or another attempt, can go on with it.

What the registry says of the upload counts, not what was sent. Not every registry can say: distribution up to 2.8 seals
the offset into the upload's URL, and once a request broke off in the middle knows neither the old URL nor has given out
a new one; such an upload starts again.
"""

from __future__ import annotations

from asyncrane.abc import Place, Site, UploadLedger
from asyncrane.errors import ContentError, RegistryError, TransportError
from asyncrane.oci.descriptor import Descriptor
from asyncrane.registry import sessions
from asyncrane.registry.sessions import Session
from asyncrane.transport.origin import Origin

LARGE = 8 * 1024 * 1024
"""Bytes from which on an upload leaves a trail; smaller ones are sent again in less time than it takes to ask."""


class Trail:
    """Of one blob on its way to repository ``path``. Nothing without a ledger, or when the blob is small."""

    def __init__(self, ledger: UploadLedger | None, origin: Origin, path: str, blob: Descriptor) -> None:
        self._ledger = ledger if blob.size >= LARGE else None
        self._origin = origin
        self._path = path
        self._blob = blob
        self._place = Place(Site(origin.registry, mounts=True), path)

    @property
    def kept(self) -> bool:
        """Whether there is one."""
        return self._ledger is not None

    async def session(self) -> Session | None:
        """The session of an earlier attempt, with what the registry has of it; ``None`` when that is nothing."""
        url = self._ledger.find(self._place, self._blob.digest) if self._ledger is not None else None
        if url is None:
            return None
        session = Session(url)
        try:
            await sessions.update(self._origin, self._path, session)
        except (RegistryError, TransportError):
            return None  # not known any more, or not to be reached: if that is the registry, its next answer tells
        if 0 < session.offset <= self._blob.size:
            return session
        await sessions.abandon(self._origin, self._path, session)
        return None

    def note(self, session: Session) -> None:
        """The upload goes on with ``session``."""
        if self._ledger is not None:
            self._ledger.note(self._place, self._blob.digest, session.url, session.offset)

    def drop(self) -> None:
        """There is nothing to go on with."""
        if self._ledger is not None:
            self._ledger.drop(self._place, self._blob.digest)

    def outlives(self, error: BaseException) -> bool:
        """Whether to leave the session open: who was interrupted, or lost a connection, may come back. What the
        registry refuses, or is no such blob, is no better the next time.
        """
        return self.kept and not isinstance(error, RegistryError | ContentError)

    def __repr__(self) -> str:
        return f"Trail({self._place}, {str(self._blob.digest)[:19]!r}, kept={self.kept})"
