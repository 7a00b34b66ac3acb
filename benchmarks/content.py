"""The bytes of a layer: a real tar.gz that no compressor can make smaller, made from a seed while it is read."""

from __future__ import annotations

import hashlib
import io
import random
import tarfile
import zlib
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Iterator

    from .scenarios import Layer

SLICE = 1 << 20


class Packed:
    """Iterate once for the bytes; afterwards ``digest``, ``diff_id`` and ``size`` say what they were.

    The gzip stream stores instead of compressing: it is valid for clients that look into layers (skopeo would
    compress anything that is not gzip), and costs next to nothing to make.
    """

    def __init__(self, layer: Layer) -> None:
        self._layer = layer
        self._outer = hashlib.sha256()
        self._inner = hashlib.sha256()
        self.size = 0

    def __repr__(self) -> str:
        return f"Packed({self._layer!r}, size={self.size})"

    @property
    def digest(self) -> str:
        """The blob's digest."""
        return f"sha256:{self._outer.hexdigest()}"

    @property
    def diff_id(self) -> str:
        """The digest of the tar inside."""
        return f"sha256:{self._inner.hexdigest()}"

    def __iter__(self) -> Iterator[bytes]:
        squeeze = zlib.compressobj(level=0, wbits=31)
        for piece in self._tar():
            self._inner.update(piece)
            yield from self._counted(squeeze.compress(piece))
        yield from self._counted(squeeze.flush())

    def _counted(self, packed: bytes) -> Iterator[bytes]:
        if packed:
            self._outer.update(packed)
            self.size += len(packed)
            yield packed

    def _tar(self) -> Iterator[bytes]:
        noise = random.Random(self._layer.seed)
        member = tarfile.TarInfo(f"data-{self._layer.seed}")
        # header, padding and the two empty blocks at the end belong to the size that was asked for
        member.size = max(0, (self._layer.size // 512 - 3) * 512)
        yield member.tobuf(tarfile.PAX_FORMAT)
        for start in range(0, member.size, SLICE):
            yield noise.randbytes(min(SLICE, member.size - start))
        yield bytes(1024)


def packed(layer: Layer) -> tuple[bytes, Packed]:
    """A small layer in one piece, with what it is."""
    stream = Packed(layer)
    whole = io.BytesIO()
    whole.writelines(stream)
    return whole.getvalue(), stream
