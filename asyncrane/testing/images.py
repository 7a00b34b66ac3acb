"""Small synthetic images for tests: complete, valid, and different for every seed."""

from __future__ import annotations

from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager

import msgspec

from asyncrane.abc import Reader, Sink
from asyncrane.oci.descriptor import Descriptor
from asyncrane.oci.digest import Digest
from asyncrane.oci.manifest import Manifest
from asyncrane.oci.platform import Platform
from asyncrane.stores.random import LINUX_AMD64, LINUX_ARM64, Image, Index, Kitchen, Layer, Recipe


class Sample(msgspec.Struct, frozen=True):
    """An image or index with everything below it. ``manifests`` lists children before parents; the last is the root."""

    manifests: tuple[Manifest, ...]
    blobs: dict[Digest, bytes]

    @property
    def manifest(self) -> Manifest:
        """The root."""
        return self.manifests[-1]

    @property
    def digest(self) -> Digest:
        """The digest of the root."""
        return self.manifest.digest

    @property
    def size(self) -> int:
        """Bytes of all blobs."""
        return sum(len(content) for content in self.blobs.values())

    def blob(self, digest: Digest) -> Descriptor:
        """The descriptor of one of the blobs, as a manifest has it."""
        found = {blob.digest: blob for manifest in self.manifests for blob in manifest.blobs()}
        return found[digest]

    async def store(self, sink: Sink, *tags: str) -> None:
        """Put everything into ``sink``, blobs first, and name the root ``tags``."""
        for digest, content in self.blobs.items():
            await sink.put(self.blob(digest), reader(content))
        for manifest in self.manifests:
            await sink.publish(manifest)
        for tag in tags:
            await sink.publish(self.manifest, tag)


def random_image(
    seed: object = 0,
    *,
    layers: Sequence[int] = (2000, 3000),
    platform: Platform = LINUX_AMD64,
    gzip: bool = True,
    docker: bool = False,
) -> Sample:
    """An image with layers of about ``layers`` bytes."""
    return _sample(_image(seed, layers, platform, gzip=gzip, docker=docker))


def random_index(
    seed: object = 0,
    *,
    layers: Sequence[int] = (2000, 3000),
    platforms: Sequence[Platform] = (LINUX_AMD64, LINUX_ARM64),
    gzip: bool = True,
    docker: bool = False,
) -> Sample:
    """An index with one image of ``layers`` for each of ``platforms``."""
    images = tuple(_image(f"{seed}/{p}", layers, p, gzip=gzip, docker=docker) for p in platforms)
    return _sample(Index(images, docker))


def reader(content: bytes) -> Reader:
    """Opens ``content`` at any offset, as often as wanted."""

    @asynccontextmanager
    async def opened(start: int) -> AsyncIterator[AsyncIterator[bytes]]:
        yield _chunks(content[start:])

    return opened


def _image(seed: object, layers: Sequence[int], platform: Platform, *, gzip: bool, docker: bool) -> Image:
    made = tuple(Layer(f"{seed}/{number}", size, gzip) for number, size in enumerate(layers))
    return Image(made, platform, docker)


def _sample(recipe: Recipe) -> Sample:
    kitchen = Kitchen()
    kitchen.make(recipe)
    blobs = {digest: b"".join(kitchen.read(digest)) for digest in kitchen.blobs}
    return Sample(tuple(kitchen.manifests.values()), blobs)


async def _chunks(content: bytes, size: int = 64 * 1024) -> AsyncIterator[bytes]:
    for start in range(0, len(content), size):
        yield content[start : start + size]
