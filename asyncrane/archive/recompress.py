"""Layers that there are in another compression: the same tar in gzip or zstd or plain, or its files in eStargz."""

from __future__ import annotations

from collections.abc import AsyncIterator

from anyio import CapacityLimiter

from asyncrane.archive.compression import PIECE, Compression, Expanded, Readable, sniff
from asyncrane.archive.digesting import Verifier
from asyncrane.archive.estargz_toc import TOC_DIGEST
from asyncrane.archive.formats import Packing
from asyncrane.archive.packing import CheckedTar, Layer, pack
from asyncrane.archive.reading import Chained, Watched, read_head
from asyncrane.archive.spool import Spool
from asyncrane.archive.tarcheck import TarShape
from asyncrane.archive.through_thread import through_thread
from asyncrane.oci.descriptor import Descriptor


async def repacked(
    chunks: AsyncIterator[bytes],
    blob: Descriptor,
    packing: Packing,
    spool: Spool,
    *,
    always: bool = True,
    limiter: CapacityLimiter | None = None,
) -> Layer | Compression:
    """The layer ``blob``, whose content is ``chunks``, packed anew into ``spool``, which is to be kept as long as the
    layer is read. Unless ``always``, one that is packed so already is left alone: then its compression comes back.
    (eStargz is known by its annotation, without which nobody would use it.)

    :raises ContentError: when the content is not the blob's, or no layer
    """

    def work(raw: Readable) -> Layer | Compression:
        name = f"layer {blob.digest!s}"
        head = read_head(raw)
        compression = sniff(head)
        same = compression == packing.compression and (packing.format != "estargz" or TOC_DIGEST in blob.annotations)
        if same and not always:
            return compression
        verified = _Verified(Watched(Chained(head, raw)), Verifier(blob))
        tar = CheckedTar(Expanded(verified, compression, name), TarShape(name))
        layer = pack(tar, packing, spool, name=name)
        verified.finish()
        return layer

    return await through_thread(chunks, work, limiter=limiter)


class _Verified:
    """Checks what is read against its descriptor."""

    def __init__(self, raw: Readable, verifier: Verifier) -> None:
        self._raw = raw
        self._verifier = verifier

    def read(self, size: int, /) -> bytes:
        data = self._raw.read(size)
        if data:
            self._verifier.update(data, self._verifier.seen)
        return data

    def finish(self) -> None:
        """Read what is left.

        :raises ContentError: when it was another blob
        """
        while self.read(PIECE):
            pass
        self._verifier.finish()
