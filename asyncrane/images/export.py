"""What a user who exports an image gets: its files as a tar, or, where there is only one thing in it that is no layer
(a Helm chart, a module of WebAssembly), that thing.
"""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

from asyncrane.abc import Source
from asyncrane.archive.whole import read_blob
from asyncrane.errors import UnsupportedManifest
from asyncrane.images.extract import expanded, extract, stacked
from asyncrane.images.family import family
from asyncrane.images.view import Image
from asyncrane.oci import media
from asyncrane.oci.manifest import Manifest


@asynccontextmanager
async def exported(source: Source, manifest: Manifest) -> AsyncIterator[AsyncIterator[bytes]]:
    """The content of the image ``manifest``, which ``source`` has: a tar, or the bytes of its only blob, uncompressed.

    Nothing comes out before all of it has been read and found right.

    :raises ContentError: when a layer is not what the image says, or cannot be unpacked
    :raises UnsupportedManifest: when it is no image, or of several blobs one is no layer
    :raises NotFound: when a blob is not there
    """
    config, layers = manifest.config(), manifest.layers()
    name = f"{source.place}@{manifest.digest!s}"
    if config is None:
        raise UnsupportedManifest(f"{name} is a {manifest.media_type}, which has no layers to export")
    others = [blob for blob in layers if family(blob.media_type) is None]
    if others and len(layers) == 1:
        async with expanded(source, others[0]) as content:
            yield content
        return
    if others:
        raise UnsupportedManifest(f"{name} cannot be merged: {others[0].digest!s} in it is a {others[0].media_type}")
    if config.media_type in media.CONFIGS:
        image = Image(manifest, await read_blob(source, config), source.place)
        async with extract(source, image) as content:
            yield content
    else:  # a config of somebody else's, who need not say what the layers hold
        async with stacked(source, layers) as stack:
            yield stack.stream()
