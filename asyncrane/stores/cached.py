"""Reading what many want once: manifests and small blobs of several sources, kept within a bound of memory."""

from __future__ import annotations

from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from typing import TypeAlias

import anyio

from asyncrane.abc import Place, Source
from asyncrane.archive.whole import LARGEST_CONFIG, read_blob
from asyncrane.errors import AsyncraneError, Failure
from asyncrane.oci.descriptor import Descriptor
from asyncrane.oci.manifest import Manifest

KEPT = 64 * 1024 * 1024
"""Bytes that are kept; what was not asked for longest goes first."""

AT_ONCE = 16
"""Requests at once to one site, where nobody says otherwise."""

_Key: TypeAlias = tuple[Place, str]


class ReadCache:
    """What one run has read. A tag is looked up once, so that it means the same image from the run's first to its last
    moment; what could not be read is not asked for again either.

    :param kept: bytes to keep
    :param at_once: requests at once to a site, by its name, besides those for large blobs
    """

    def __init__(self, *, kept: int = KEPT, at_once: Callable[[str], int] = lambda site: AT_ONCE) -> None:
        self._most = kept
        self._at_once = at_once
        self._size = 0
        self._values: dict[_Key, Manifest | bytes] = {}
        self._named: dict[_Key, _Key] = {}
        self._failures: dict[_Key, Failure] = {}
        self._flights: dict[_Key, anyio.Lock] = {}
        self._limits: dict[str, anyio.CapacityLimiter] = {}

    def of(self, source: Source) -> CachedSource:
        """``source``, read through this."""
        return CachedSource(source, self)

    async def manifest(self, source: Source, identifier: str) -> Manifest:
        """As :meth:`asyncrane.abc.Source.manifest`."""
        key = source.place, str(identifier)
        _, pinned = self._named.get(key, key)
        found = await self._once(key, source, lambda: source.manifest(pinned))
        assert isinstance(found, Manifest)  # noqa: S101  (blobs have other keys)
        return found

    async def blob(self, source: Source, blob: Descriptor) -> bytes:
        """The content of a small blob, checked."""
        found = await self._once((source.place, f"blob {blob.digest!s}"), source, lambda: read_blob(source, blob))
        assert isinstance(found, bytes)  # noqa: S101  (manifests have other keys)
        return found

    async def _once(
        self, key: _Key, source: Source, fetch: Callable[[], Awaitable[Manifest | bytes]]
    ) -> Manifest | bytes:
        """Whoever asks while somebody fetches waits for that; if he gives up, the next one fetches."""
        if (known := self._known(key)) is not None:
            return known
        lock = self._flights.setdefault(key, anyio.Lock())
        async with lock:
            try:
                if (known := self._known(key)) is not None:
                    return known
                async with self._limit(source.place.site.name):
                    value = await fetch()
                self._keep(key, value)
            except AsyncraneError as exc:
                self._failures.setdefault(key, Failure.of(exc))
                raise
            finally:
                if not lock.statistics().tasks_waiting:
                    self._flights.pop(key, None)
        return value

    def _limit(self, site: str) -> anyio.CapacityLimiter:
        found = self._limits.get(site)
        if found is None:
            found = self._limits[site] = anyio.CapacityLimiter(self._at_once(site))
        return found

    def _known(self, key: _Key) -> Manifest | bytes | None:
        if (failure := self._failures.get(key)) is not None:
            raise failure.error()
        key = self._named.get(key, key)
        value = self._values.pop(key, None)
        if value is not None:
            self._values[key] = value  # the youngest again
        return value

    def _keep(self, key: _Key, value: Manifest | bytes) -> None:
        if isinstance(value, Manifest):
            digest = key[0], str.__str__(value.digest)
            if digest != key:
                self._named[key], key = digest, digest
        if key in self._values:
            return
        self._values[key] = value
        self._size += _weight(value)
        while self._size > self._most and len(self._values) > 1:
            self._size -= _weight(self._values.pop(next(iter(self._values))))

    def __repr__(self) -> str:
        return f"ReadCache({len(self._values)} values, {self._size} bytes)"


class CachedSource:
    """A Source that reads another one's manifests and small blobs through a cache."""

    def __init__(self, source: Source, cache: ReadCache) -> None:
        self._source = source
        self._cache = cache

    @property
    def place(self) -> Place:
        """Where this is."""
        return self._source.place

    async def resolve(self, identifier: str) -> Descriptor:
        """What a tag or digest names.

        :raises NotFound: when it names nothing
        """
        return (await self.manifest(identifier)).descriptor

    async def manifest(self, identifier: str) -> Manifest:
        """The manifest a tag or digest names.

        :raises NotFound: when it names nothing
        """
        return await self._cache.manifest(self._source, identifier)

    @asynccontextmanager
    async def open(self, blob: Descriptor, *, start: int = 0) -> AsyncIterator[AsyncIterator[bytes]]:
        """The bytes of ``blob`` from offset ``start`` on.

        :raises NotFound: when it is not there
        """
        if 0 <= blob.size <= LARGEST_CONFIG:
            yield _once((await self._cache.blob(self._source, blob))[start:])
        else:
            async with self._source.open(blob, start=start) as chunks:
                yield chunks

    def __repr__(self) -> str:
        return f"CachedSource({self._source!r})"


async def _once(data: bytes) -> AsyncIterator[bytes]:
    yield data


def _weight(value: Manifest | bytes) -> int:
    return value.size if isinstance(value, Manifest) else len(value)
