"""The layers of one run, each packed anew once for all images that have it."""

from __future__ import annotations

import os
from collections.abc import AsyncIterator, Iterable, Mapping
from contextlib import asynccontextmanager
from types import TracebackType
from typing import Self

import anyio
import msgspec

from asyncrane.abc import Place, Source
from asyncrane.archive.formats import Packing
from asyncrane.archive.packing import Layer
from asyncrane.archive.recompress import repacked
from asyncrane.archive.spool import Spool
from asyncrane.errors import AsyncraneError, Failure
from asyncrane.images.convert import Repacked
from asyncrane.oci.descriptor import Descriptor
from asyncrane.oci.digest import Digest


class Repacker:
    """Packs layers as ``packing`` says, as many at once as there are processors: ``with Repacker(packing)``.

    What it makes is in temporary files: until an image that has it has landed in a registry and nobody else is at it,
    else to the end.
    """

    def __init__(self, packing: Packing) -> None:
        at_once = os.cpu_count() or 2
        self._packing = packing
        self._turns = anyio.Semaphore(at_once)
        self._threads = anyio.CapacityLimiter(at_once)
        self._layers: dict[Digest, _Shared] = {}

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        for shared in self._layers.values():
            shared.close()

    @asynccontextmanager
    async def layers(
        self, source: Source, wanted: Mapping[Digest, Descriptor]
    ) -> AsyncIterator[Mapping[Digest, Repacked]]:
        """What became of the layers ``wanted``, to be read until the context ends.

        :raises AsyncraneError: when one cannot be read, or is not what it says; the same for all who want it
        """
        shared = {digest: self._layers.setdefault(digest, _Shared()) for digest in wanted}
        for one in shared.values():
            one.users += 1
        try:
            yield await self._all(source, wanted, shared)
        finally:
            for one in shared.values():
                one.release()

    async def _all(
        self, source: Source, wanted: Mapping[Digest, Descriptor], shared: Mapping[Digest, _Shared]
    ) -> dict[Digest, Repacked]:
        found: dict[Digest, Repacked] = {}
        errors: list[AsyncraneError] = []

        async def get(digest: Digest) -> None:
            try:
                found[digest] = await self._get(source, wanted[digest], shared[digest])
            except AsyncraneError as exc:
                errors.append(exc)

        async with anyio.create_task_group() as tasks:
            for digest in wanted:
                tasks.start_soon(get, digest)
        if errors:
            raise errors[0]
        return found

    async def _get(self, source: Source, blob: Descriptor, shared: _Shared) -> Repacked:
        async with shared.lock:
            if shared.failure is not None:
                raise shared.failure.error()
            if shared.made is None:
                try:
                    async with self._turns:
                        shared.made = await self._pack(source, blob, shared)
                except AsyncraneError as exc:
                    shared.failure = Failure.of(exc)
                    raise
            return shared.made

    async def _pack(self, source: Source, blob: Descriptor, shared: _Shared) -> Repacked:
        shared.spool = Spool()
        made: Repacked | None = None
        try:
            async with source.open(blob) as chunks:
                made = await repacked(
                    chunks,
                    blob,
                    self._packing,
                    shared.spool,
                    always=self._packing.level is not None,
                    limiter=self._threads,
                )
            return made
        finally:
            if not isinstance(made, Layer):
                shared.spool.close()

    def landed(self, layers: Iterable[Digest], place: Place) -> None:
        """What the layers became is at ``place`` now, where all who want it from here on find it."""
        for digest in layers:
            self._layers[digest].landed = place

    def __repr__(self) -> str:
        return f"Repacker({self._packing!r}, {len(self._layers)} layers)"


class _Shared:
    """One layer, for all images that have it."""

    def __init__(self) -> None:
        self.lock = anyio.Lock()
        self.users = 0
        self.made: Repacked | None = None
        self.failure: Failure | None = None
        self.spool: Spool | None = None
        self.landed: Place | None = None

    def release(self) -> None:
        """Somebody needs it no more."""
        self.users -= 1
        if self.users or self.landed is None or not isinstance(self.made, Layer) or self.made.home is not None:
            return
        self.made = msgspec.structs.replace(self.made, home=self.landed)
        self.close()

    def close(self) -> None:
        if self.spool is not None:
            self.spool.close()
