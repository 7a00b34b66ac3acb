"""What a blob is, found out while it passes once: its digest and size, how it is compressed, and of a layer the digest
of the tar inside and whether that is one. Memory does not depend on its size.
"""

from __future__ import annotations

import hashlib
from collections.abc import Sequence

import anyio.to_thread
import msgspec
from anyio import CapacityLimiter

from asyncrane.abc import Source
from asyncrane.archive.compression import MAGIC, PIECE, Compression, Expander, sniff
from asyncrane.archive.tarwalk import TarWalk
from asyncrane.errors import ContentError
from asyncrane.oci.descriptor import Descriptor
from asyncrane.oci.digest import Digest


class Inspection(msgspec.Struct, frozen=True):
    """What a blob is. ``diff_id`` is the digest of the tar in a layer, ``None`` where it could not be read to its end;
    ``problem`` says why, or what is wrong with the tar. Of anything but a layer ``digest`` and ``size`` are known.
    """

    digest: Digest
    size: int
    compression: Compression | None = None
    diff_id: Digest | None = None
    problem: str = ""


async def inspect_blob(
    source: Source, blob: Descriptor, *, layer: bool, threads: CapacityLimiter | None = None
) -> Inspection:
    """Read ``blob`` once, the work done in one of ``threads``.

    :raises ContentError: when there are more or fewer bytes than it says
    :raises NotFound: when it is not there
    """
    inspector = Inspector(blob.digest.algorithm, layer=layer)
    waiting: list[bytes] = []
    size = 0
    async with source.open(blob) as chunks:
        async for chunk in chunks:
            waiting.append(chunk)
            size += len(chunk)
            if size >= PIECE:
                await anyio.to_thread.run_sync(inspector.feed, waiting, limiter=threads)
                waiting, size = [], 0
    await anyio.to_thread.run_sync(inspector.feed, waiting, limiter=threads)
    return await anyio.to_thread.run_sync(inspector.finish, limiter=threads)


class Inspector:
    """Takes in one blob, in order. For use in a thread."""

    def __init__(self, algorithm: str = "sha256", *, layer: bool) -> None:
        self._algorithm = algorithm
        self._stored = hashlib.new(algorithm)
        self._size = 0
        self._inside = _Inside() if layer else None
        self._problem = ""

    def feed(self, chunks: Sequence[bytes]) -> None:
        """The next bytes."""
        for chunk in chunks:
            self._stored.update(chunk)
            self._size += len(chunk)
            if self._inside is not None and not self._problem:
                try:
                    self._inside.feed(chunk)
                except ContentError as exc:
                    self._problem = str(exc)

    def finish(self) -> Inspection:
        """What it was."""
        digest = Digest.parse(f"{self._algorithm}:{self._stored.hexdigest()}")
        inside = self._inside
        if inside is None:
            return Inspection(digest, self._size)
        if not self._problem:
            try:
                inside.finish()
            except ContentError as exc:
                self._problem = str(exc)
        return Inspection(digest, self._size, inside.compression, inside.diff_id, self._problem or inside.problem)


class _Inside:
    """The tar in a layer. Something that is no tar still has a digest."""

    def __init__(self) -> None:
        self.compression: Compression | None = None
        self.diff_id: Digest | None = None
        self._head = b""
        self._expander: Expander | None = None
        self._hash = hashlib.sha256()
        self._tar = TarWalk()
        self._broken = ""

    @property
    def problem(self) -> str:
        """What is wrong with the tar."""
        if self._broken or not self._tar.duplicate:
            return self._broken
        return f"duplicate file path: {self._tar.duplicate}"

    def feed(self, chunk: bytes) -> None:
        """The next bytes of the blob.

        :raises ContentError: when they cannot be decompressed
        """
        expander = self._expander
        if expander is None:
            self._head += chunk
            if len(self._head) < MAGIC:
                return
            expander, chunk = self._begin()
        for piece in expander.feed(chunk):
            self._take(piece)

    def finish(self) -> None:
        """There are no more.

        :raises ContentError: when they end too early
        """
        expander = self._expander
        if expander is None:
            expander, head = self._begin()
            self.feed(head)
        expander.finish()
        self.diff_id = Digest.parse(f"sha256:{self._hash.hexdigest()}")
        if not self._broken:
            try:
                self._tar.finish()
            except ContentError as exc:
                self._broken = str(exc)

    def _begin(self) -> tuple[Expander, bytes]:
        head, self._head = self._head, b""
        self.compression = sniff(head)
        self._expander = Expander(self.compression, "it")
        return self._expander, head

    def _take(self, piece: bytes) -> None:
        self._hash.update(piece)
        if not self._broken:
            try:
                self._tar.feed(piece)
            except ContentError as exc:
                self._broken = str(exc)
