"""Reading small blobs whole."""

from __future__ import annotations

from asyncrane.abc import Source
from asyncrane.archive.digesting import Verifier
from asyncrane.errors import ContentError, SizeMismatch
from asyncrane.oci.descriptor import Descriptor

LARGEST_CONFIG = 8 * 1024 * 1024
"""Bytes of an image's config that are read."""


async def read_blob(source: Source, blob: Descriptor, *, limit: int = LARGEST_CONFIG) -> bytes:
    """The content of ``blob``, checked. What was garbled on its way is read once more.

    :raises SizeMismatch: when it has more than ``limit`` bytes, or others than it says
    :raises DigestMismatch: when it is something else
    :raises NotFound: when it is not there
    """
    if blob.size > limit:
        raise SizeMismatch(f"blob {blob.digest!s} has {blob.size} bytes, more than the {limit} that are read")
    try:
        return await _read(source, blob)
    except ContentError:
        return await _read(source, blob)


async def _read(source: Source, blob: Descriptor) -> bytes:
    verifier, content = Verifier(blob), bytearray()
    async with source.open(blob) as chunks:
        async for chunk in chunks:
            verifier.update(chunk, len(content))
            content += chunk
    verifier.finish()
    return bytes(content)
