"""The layers of a docker-save archive as blobs: a compressed one as it is stored, a plain one as gzip, which is made
once, kept in a temporary file without a name, and the same every time (K5).
"""

from __future__ import annotations

import hashlib
import os
import re
from collections.abc import AsyncIterator, Callable
from contextlib import ExitStack, asynccontextmanager
from functools import partial

import anyio
import anyio.to_thread
import msgspec

from asyncrane.abc import Reader
from asyncrane.archive.compression import MAGIC, Compression, Expanded, sniff
from asyncrane.archive.members import Gzip
from asyncrane.archive.spool import Spool
from asyncrane.archive.tarindex import Member
from asyncrane.errors import DigestMismatch
from asyncrane.oci.digest import Digest
from asyncrane.stores.files import PIECE
from asyncrane.stores.tarball_opening import MemberFile, OpenArchive

_NAMED = re.compile(r"(?:.*/)?blobs/sha256/([0-9a-f]{64})|([0-9a-f]{64})\.(?:tar\.gz|tgz|tar\.zst)")


class StoredLayer(msgspec.Struct, frozen=True):
    """A layer as it goes up: how it is compressed, digest and size in bytes of the blob, and what opens it."""

    compression: Compression
    digest: Digest
    size: int
    read: Reader


class Layers:
    """The layers of one archive. Each is looked through once, whatever number of images have it (J8), and not at all
    where its name is the digest of what is stored: whoever reads it checks that. ``stack`` closes what is made.
    """

    def __init__(self, archive: OpenArchive, stack: ExitStack) -> None:
        self._archive = archive
        self._stack = stack
        self._made: dict[tuple[int, Digest], StoredLayer] = {}
        self._locks: dict[tuple[int, Digest], anyio.Lock] = {}
        self._at_once = anyio.CapacityLimiter(os.cpu_count() or 1)

    async def get(self, path: str, diff_id: Digest) -> StoredLayer:
        """The layer in the file ``path``, whose tar has the digest ``diff_id``.

        :raises ContentError: when it is not there, damaged, or another layer
        """
        member = self._archive.index.member(path)
        key = member.offset, diff_id
        async with self._locks.setdefault(key, anyio.Lock()):
            found = self._made.get(key)
            if found is None:
                make = partial(self._make, path, member, diff_id)
                found = self._made[key] = await anyio.to_thread.run_sync(make, limiter=self._at_once)
        return found

    def _make(self, path: str, member: Member, diff_id: Digest) -> StoredLayer:
        compression = sniff(self._archive.read(member, 0, MAGIC))
        if compression == "plain":
            return self._zipped(path, member, diff_id)
        digest = _digest_in(path)
        if digest is None or digest == diff_id:
            digest = self._measured(path, member, diff_id, compression)
        return StoredLayer(compression, digest, member.size, member_reader(self._archive, member))

    def _measured(self, path: str, member: Member, diff_id: Digest, compression: Compression) -> Digest:
        stored, content = hashlib.sha256(), diff_id.hasher()
        outer = _Hashed(MemberFile(self._archive, member), stored.update)
        inner = Expanded(outer, compression, f"{self._archive.name}: {path}")
        while data := inner.read(PIECE):
            content.update(data)
        while outer.read(PIECE):
            pass
        self._check(path, diff_id, content.hexdigest())
        return Digest(f"sha256:{stored.hexdigest()}")

    def _zipped(self, path: str, member: Member, diff_id: Digest) -> StoredLayer:
        content, packed, gzip = diff_id.hasher(), hashlib.sha256(), Gzip()
        spool = self._stack.enter_context(Spool())

        def keep(data: bytes) -> None:
            packed.update(data)
            spool.write(data)

        file = MemberFile(self._archive, member)
        while data := file.read(PIECE):
            content.update(data)
            keep(gzip.compress(data))
        keep(gzip.finish())
        self._check(path, diff_id, content.hexdigest())
        return StoredLayer("gzip", Digest(f"sha256:{packed.hexdigest()}"), spool.size, spool.read)

    def _check(self, path: str, diff_id: Digest, actual: str) -> None:
        if diff_id.hex != actual:
            raise DigestMismatch(
                f"{self._archive.name}: {path} has the digest {diff_id.algorithm}:{actual}, its image says {diff_id!s}"
            )

    def __repr__(self) -> str:
        return f"Layers({self._archive!r}, {len(self._made)} looked at)"


def _digest_in(path: str) -> Digest | None:
    """The digest that the name of a compressed layer says (crane, docker from version 25 on)."""
    match = _NAMED.fullmatch(path)
    return Digest(f"sha256:{match[1] or match[2]}") if match else None


def member_reader(archive: OpenArchive, member: Member) -> Reader:
    """Opens what is stored."""

    @asynccontextmanager
    async def read(start: int) -> AsyncIterator[AsyncIterator[bytes]]:
        yield archive.chunks(member, start)

    return read


class _Hashed:
    """Lets ``see`` see what is read."""

    def __init__(self, raw: MemberFile, see: Callable[[bytes], None]) -> None:
        self._raw = raw
        self._see = see

    def read(self, size: int, /) -> bytes:
        data = self._raw.read(size)
        self._see(data)
        return data
