"""The files of an image as one tar: its layers read from wherever they are, checked, and merged."""

from __future__ import annotations

from collections.abc import AsyncIterator, Iterator, Sequence
from contextlib import ExitStack, asynccontextmanager
from functools import partial

import anyio
import anyio.from_thread
import anyio.to_thread

from asyncrane.abc import Source
from asyncrane.archive.compression import Expanded, Readable, sniff
from asyncrane.archive.digesting import Verifier
from asyncrane.archive.merge import ahead, merged
from asyncrane.archive.reading import Chained, read_head
from asyncrane.archive.spool import Bounded, Room, Spool
from asyncrane.archive.tarfs import TarReader
from asyncrane.archive.through_thread import through_thread
from asyncrane.archive.whiteout import Listing, Tree, listed
from asyncrane.errors import AsyncraneError, ContentError, DigestMismatch, InvalidDigest
from asyncrane.images.view import Image
from asyncrane.oci.descriptor import Descriptor
from asyncrane.oci.digest import Digest

AT_ONCE = 4
"""Layers that are read at once."""

_CHUNK = 1024 * 1024

ROOM = 512 * 1024 * 1024
"""Bytes of expanded layers of one image that are kept in temporary files beside the layers, so that the second look at
these need not expand them again: that was a quarter of the time of an export."""


@asynccontextmanager
async def extract(source: Source, image: Image) -> AsyncIterator[AsyncIterator[bytes]]:
    """The files of ``image`` as one tar, without whiteouts and what they hide. ``source`` has its layers (for an image
    that was edited, an :class:`~asyncrane.images.overlay.Overlay`).

    Each layer is read once, into a temporary file, and checked; only then the first byte comes out.

    :raises ContentError: when a layer is not what the image says, or cannot be unpacked
    :raises NotFound: when one is not there
    """
    async with stacked(source, image.manifest.layers(), image.diff_ids()) as stack:
        yield stack.stream()


@asynccontextmanager
async def expanded(source: Source, blob: Descriptor) -> AsyncIterator[AsyncIterator[bytes]]:
    """The content of ``blob``, whatever it is, uncompressed; read whole and checked before the first byte comes out.

    :raises ContentError: when it is another blob, or its compression is damaged
    """
    with ExitStack() as files:
        layer = _Layer(blob, files, Room(0))
        await layer.keep(source)
        yield _content(layer)


@asynccontextmanager
async def stacked(
    source: Source, layers: Sequence[Descriptor], diff_ids: Sequence[str] | None = None
) -> AsyncIterator[Stack]:
    """Read ``layers``, the lowest first; ``diff_ids`` are the digests of their tars, where they are known.

    :raises ContentError: when a layer is not what it should be, or cannot be unpacked
    """
    with ExitStack() as files:
        stack = Stack(layers, diff_ids, files)
        await stack.read(source)
        yield stack


class Stack:
    """The layers of an image, each in a temporary file that ``files`` closes."""

    def __init__(self, layers: Sequence[Descriptor], diff_ids: Sequence[str] | None, files: ExitStack) -> None:
        self._tree = Tree()
        self._order = [blob.digest for blob in layers]
        room = Room(ROOM)
        self._layers = {blob.digest: _Layer(blob, files, room) for blob in layers}
        self._diff_ids = diff_ids if diff_ids is not None else [""] * len(layers)
        self._listings: dict[int, Listing] = {}
        self._applied = 0
        self._applying = anyio.Lock()

    async def read(self, source: Source) -> None:
        """Read some layers at once; put each on those below it as soon as these are there.

        :raises ContentError: when one is not what it should be, or cannot be unpacked
        """
        errors: list[AsyncraneError] = []
        slots, threads = anyio.Semaphore(AT_ONCE), anyio.CapacityLimiter(AT_ONCE)

        async def read(at: int, *, first: bool) -> None:
            layer = self._layers[self._order[at]]
            try:
                listing = layer.fetched(source, self._diff_ids[at], threads) if first else layer.again(threads)
                self._listings[at] = await listing
                for _ in range(await self._apply()):
                    slots.release()
            except AsyncraneError as exc:
                errors.append(exc)
                tasks.cancel_scope.cancel()

        async with anyio.create_task_group() as tasks:
            for at, digest in enumerate(self._order):
                await slots.acquire()
                tasks.start_soon(partial(read, at, first=digest not in self._order[:at]))
        if errors:
            raise errors[0]

    async def _apply(self) -> int:
        """Apply what can be, in order; how many these were."""
        async with self._applying:
            before = self._applied
            while (listing := self._listings.pop(self._applied, None)) is not None:
                name = self._layers[self._order[self._applied]].name
                await anyio.to_thread.run_sync(self._tree.apply, listing, name)
                self._applied += 1
            return self._applied - before

    def chunks(self) -> Iterator[bytes]:
        """Their files as one tar, once. For use in a thread."""
        return merged(self._tree, [self._layers[digest].expanded for digest in self._order])

    async def stream(self) -> AsyncIterator[bytes]:
        """The same, made in threads."""
        chunks = ahead(self.chunks())
        try:
            while chunk := await anyio.to_thread.run_sync(next, chunks, b""):
                yield chunk
        finally:
            chunks.close()

    def __repr__(self) -> str:
        return f"Stack({self._applied} of {len(self._order)} layers)"


class _Layer:
    """One layer, in temporary files once it has been fetched: as it is, and expanded where there was ``room``."""

    def __init__(self, blob: Descriptor, files: ExitStack, room: Room) -> None:
        self.name = f"layer {blob.digest!s}"
        self._blob = blob
        self._spool = files.enter_context(Spool())
        self._plain = files.enter_context(Bounded(room))
        self._there = anyio.Event()
        self._listed = False

    async def fetched(self, source: Source, diff_id: str, threads: anyio.CapacityLimiter) -> Listing:
        """What is in the layer, which ``source`` has.

        :raises ContentError: when it is not what it should be
        """
        async with source.open(self._blob) as chunks:
            arriving = _verified(chunks, self._blob)
            found = await through_thread(
                arriving, lambda raw: self._list(_Kept(raw, self._spool), diff_id), limiter=threads
            )
        self._there.set()
        return found

    async def again(self, threads: anyio.CapacityLimiter) -> Listing:
        """The same, for a layer that an image has twice."""
        await self._there.wait()
        return await anyio.to_thread.run_sync(
            lambda: listed(TarReader(self.expanded(), self.name), self.name), limiter=threads
        )

    async def keep(self, source: Source) -> None:
        """Read the blob as it is.

        :raises ContentError: when it is another
        """
        async with source.open(self._blob) as chunks:
            async for chunk in _verified(chunks, self._blob):
                await anyio.to_thread.run_sync(self._spool.write, chunk)

    def expanded(self) -> Readable:
        """The tar, for another look."""
        plain = self._plain.spool
        return _Spooled(plain) if self._listed and plain is not None else _expanded(_Spooled(self._spool), self.name)

    def _list(self, raw: Readable, diff_id: str) -> Listing:
        try:
            content = _Hashed(_Kept(_expanded(raw, self.name), self._plain), diff_id, self.name)
            found = listed(TarReader(content, self.name), self.name)
            content.check()
            self._listed = True
        finally:  # whether it is the right blob at all is seen at its end, and said first
            while raw.read(_CHUNK):
                pass
        return found


class _Kept:
    """Writes down what is read."""

    def __init__(self, raw: Readable, spool: Spool | Bounded) -> None:
        self._raw = raw
        self._spool = spool

    def read(self, size: int, /) -> bytes:
        data = self._raw.read(size)
        self._spool.write(data)
        return data


class _Spooled:
    """Reads it again."""

    def __init__(self, spool: Spool) -> None:
        self._spool = spool
        self._at = 0

    def read(self, size: int, /) -> bytes:
        data = self._spool.read_at(self._at, size)
        self._at += len(data)
        return data


class _Hashed:
    """Sees to it that what is read has the digest ``diff_id``, if it is not empty."""

    def __init__(self, raw: Readable, diff_id: str, name: str) -> None:
        self._raw = raw
        self._name = name
        try:
            self._expected = Digest.parse(diff_id) if diff_id else None
        except InvalidDigest as exc:
            raise ContentError(f"{name} has an unusable diff id: {exc}") from exc
        self._hash = self._expected.hasher() if self._expected is not None else None

    def read(self, size: int, /) -> bytes:
        anyio.from_thread.check_cancelled()
        data = self._raw.read(size)
        if self._hash is not None:
            self._hash.update(data)
        return data

    def check(self) -> None:
        if self._expected is None or self._hash is None:
            return
        actual = f"{self._expected.algorithm}:{self._hash.hexdigest()}"
        if actual != self._expected:
            raise DigestMismatch(f"{self._name} holds a tar {actual}, which the config says is {self._expected!s}")


def _expanded(raw: Readable, name: str) -> Readable:
    head = read_head(raw)
    return Expanded(Chained(head, raw), sniff(head), name)


async def _content(layer: _Layer) -> AsyncIterator[bytes]:
    content = await anyio.to_thread.run_sync(layer.expanded)
    while piece := await anyio.to_thread.run_sync(content.read, _CHUNK):
        yield piece


async def _verified(chunks: AsyncIterator[bytes], blob: Descriptor) -> AsyncIterator[bytes]:
    verifier = Verifier(blob)
    async for chunk in chunks:
        verifier.update(chunk, verifier.seen)
        yield chunk
    verifier.finish()
