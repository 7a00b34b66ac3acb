"""eStargz layers: made of a file, or in memory and opened."""

from __future__ import annotations

import io
from pathlib import Path

from asyncrane.archive.estargz import Estargz, estargz
from asyncrane.archive.estargz_reader import EstargzReader
from asyncrane.archive.formats import Packing
from asyncrane.archive.layers import Layer, layer_file
from asyncrane.oci.digest import Digest


async def estargz_file(path: Path, level: int | None = None) -> Layer:
    return await layer_file(path, Packing("estargz", level))


def made(content: bytes, **options: int) -> tuple[bytes, Estargz]:
    """The blob, and what is said of it."""
    pieces, blob = estargz(io.BytesIO(content), "layer", **options), b""
    while True:
        try:
            blob += next(pieces)
        except StopIteration as ended:
            return blob, ended.value


def opened(blob: bytes, toc_digest: Digest | None = None) -> EstargzReader:
    return EstargzReader(lambda at, size: blob[at : at + size], len(blob), "layer", toc_digest=toc_digest)
