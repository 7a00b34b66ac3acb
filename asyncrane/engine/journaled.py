"""Carrying out commands with a journal beside it: what it knows is not asked again; no tag is written before it holds
what led to it, and no blob sent before it holds where to. So a run that dies can be explained, resumed and taken back,
and what it finished is found.
"""

from __future__ import annotations

from typing import Protocol

from asyncrane.abc import Site
from asyncrane.engine.messages import (
    Command,
    CommandFailed,
    CopyBlob,
    Ended,
    Event,
    ManifestRead,
    ReadManifest,
    Work,
    WriteManifest,
)
from asyncrane.engine.runner import Executor
from asyncrane.errors import Failure, JournalError
from asyncrane.oci.digest import Digest
from asyncrane.oci.manifest import Manifest

BACKLOG = 20_000
"""Messages that may wait to be written before commands wait for the disk."""


class Log(Protocol):
    """The part of a journal that the engine needs."""

    @property
    def backlog(self) -> int:
        """Messages that are not on disk yet."""
        ...

    def record(self, message: Event | Command) -> None:
        """Take note of a message, at once."""
        ...

    async def committed(self) -> None:
        """Everything recorded so far is on disk.

        :raises JournalError: when it is not and will not be
        """
        ...

    def manifest(self, digest: Digest) -> Manifest | None:
        """A manifest that was read or written before."""
        ...

    def donors(self, site: Site, digest: Digest) -> tuple[str, ...]:
        """Repositories of ``site`` that had the blob."""
        ...


class JournaledExecutor:
    """``inner`` with a journal."""

    def __init__(self, inner: Executor, journal: Log) -> None:
        self._inner = inner
        self._journal = journal

    async def execute(self, command: Work) -> Ended:
        """Do it; a manifest that the journal holds is not read again."""
        if isinstance(command, ReadManifest) and (known := self._known(command.identifier)) is not None:
            return ManifestRead(command.id, known)
        if isinstance(command, WriteManifest | CopyBlob) or self._journal.backlog > BACKLOG:
            try:
                await self._journal.committed()
            except JournalError as exc:
                return CommandFailed(command.id, Failure.of(exc))
        return await self._inner.execute(command)

    def _known(self, identifier: str) -> Manifest | None:
        return self._journal.manifest(Digest.parse(identifier)) if ":" in identifier else None

    def __repr__(self) -> str:
        return f"JournaledExecutor({self._inner!r})"
