"""Images made of noise: a deterministic source for demos, tests and benchmarks.

Nothing is stored. A layer is a seed and a size; its bytes (a tar archive with one file, plain or wrapped in gzip) are
made whenever somebody reads them, from any offset, the same every time on every machine. The noise does not compress
and costs almost nothing to make, so that a measurement measures the copying.
"""

from __future__ import annotations

import hashlib
import json
import random
import struct
import tarfile
import threading
import zlib
from collections.abc import AsyncIterator, Iterator, Mapping, Sequence
from contextlib import asynccontextmanager
from functools import cache
from typing import Any, TypeAlias

import anyio.lowlevel
import anyio.to_thread
import msgspec

from asyncrane.abc import Place, Site
from asyncrane.errors import NotFound
from asyncrane.oci import media
from asyncrane.oci.descriptor import Descriptor
from asyncrane.oci.digest import Digest
from asyncrane.oci.manifest import Manifest
from asyncrane.oci.platform import Platform

LINUX_AMD64 = Platform("linux", "amd64")
LINUX_ARM64 = Platform("linux", "arm64")

_BLOCK = 256 * 1024
"""Bytes of noise made at a time."""
_STORED = 65535
"""The longest stored (uncompressed) block of a deflate stream (RFC 1951, section 3.2.4)."""
_GZIP_HEAD = b"\x1f\x8b\x08\x00\x00\x00\x00\x00\x00\xff"
_GZIP_LAST_BLOCK = b"\x01\x00\x00\xff\xff"


class Layer(msgspec.Struct, frozen=True):
    """A layer with one file of ``size`` bytes of noise. Layers with equal fields are the same blob."""

    seed: str
    size: int
    gzip: bool = True


class Image(msgspec.Struct, frozen=True):
    """An image of ``layers``, oldest first. ``docker`` selects Docker's schema 2 media types."""

    layers: tuple[Layer, ...]
    platform: Platform = LINUX_AMD64
    docker: bool = False


class Index(msgspec.Struct, frozen=True):
    """A multi-arch image."""

    images: tuple[Image | Index, ...]
    docker: bool = False


Recipe: TypeAlias = Image | Index


class Kitchen:
    """Makes what the recipes say and remembers it by digest: manifests and configs as bytes, layers as their recipe.

    Sources of one fleet share a kitchen, so that a layer they share is hashed once. Synchronous: hashing is work for a
    thread.
    """

    def __init__(self) -> None:
        self._lock = threading.RLock()
        self._layers: dict[Layer, _Made] = {}
        self._recipes: dict[Recipe, Manifest] = {}
        self.manifests: dict[Digest, Manifest] = {}
        self.blobs: dict[Digest, bytes | _Made] = {}

    def make(self, recipe: Recipe) -> Manifest:
        """The manifest of ``recipe``; everything below it can be read from here afterwards."""
        with self._lock:
            if (found := self._recipes.get(recipe)) is None:
                found = self._index(recipe) if isinstance(recipe, Index) else self._image(recipe)
                self.manifests[found.digest] = found
                self._recipes[recipe] = found
            return found

    def read(self, digest: Digest, start: int = 0) -> Iterator[bytes]:
        """The bytes of a blob made before, from ``start`` on.

        :raises NotFound: when it was not
        """
        content = self.blobs.get(digest)
        if content is None:
            raise NotFound(f"no blob {digest!s} has been made", status=404)
        if isinstance(content, bytes):
            return iter((content[start:],))
        return _bytes(content.layer, content.checksum, start)

    def _index(self, index: Index) -> Manifest:
        entries = []
        for recipe in index.images:
            child = self.make(recipe)
            entry = _descriptor(child.descriptor)
            if isinstance(recipe, Image):
                entry["platform"] = _platform(recipe.platform)
            entries.append(entry)
        media_type = media.DOCKER_LIST if index.docker else media.OCI_INDEX
        return _manifest({"schemaVersion": 2, "mediaType": media_type, "manifests": entries})

    def _image(self, image: Image) -> Manifest:
        made = [self._layer(layer) for layer in image.layers]
        config = _encode(
            {
                "created": "1970-01-01T00:00:00Z",
                **_platform(image.platform),
                "config": {"Env": ["PATH=/usr/local/bin:/usr/bin:/bin"]},
                "rootfs": {"type": "layers", "diff_ids": [layer.diff_id for layer in made]},
                "history": [
                    {"created": "1970-01-01T00:00:00Z", "created_by": f"noise {layer.layer.seed}"} for layer in made
                ],
            }
        )
        media_type = media.DOCKER_CONFIG if image.docker else media.OCI_CONFIG
        described = Descriptor(media_type, Digest.of(config), len(config))
        self.blobs[described.digest] = config
        return _manifest(
            {
                "schemaVersion": 2,
                "mediaType": media.DOCKER_MANIFEST if image.docker else media.OCI_MANIFEST,
                "config": _descriptor(described),
                "layers": [
                    {
                        "mediaType": _layer_type(layer.layer, docker=image.docker),
                        "digest": layer.digest,
                        "size": layer.size,
                    }
                    for layer in made
                ],
            }
        )

    def _layer(self, layer: Layer) -> _Made:
        if (found := self._layers.get(layer)) is None:
            found = _make(layer)
            self._layers[layer] = found
            self.blobs[found.digest] = found
        return found


class RandomSource:
    """One repository of synthetic images: a Source and a Lister. ``images`` maps tags to recipes."""

    def __init__(
        self,
        images: Mapping[str, Recipe],
        *,
        name: str = "random",
        repository: str = "",
        kitchen: Kitchen | None = None,
    ) -> None:
        self._images = dict(images)
        self._place = Place(Site(name), repository)
        self._kitchen = kitchen or Kitchen()

    @property
    def place(self) -> Place:
        """Where this is."""
        return self._place

    async def resolve(self, identifier: str) -> Descriptor:
        """What a tag or digest names.

        :raises NotFound: when it names nothing
        """
        return (await self.manifest(identifier)).descriptor

    async def manifest(self, identifier: str) -> Manifest:
        """The manifest a tag or digest names.

        :raises NotFound: when it names nothing
        """
        if (recipe := self._images.get(identifier)) is not None:
            return await self._make(recipe)
        digest, known = Digest(identifier), self._kitchen.manifests
        if digest not in known:
            await self._make_all()
        if digest not in known:
            raise NotFound(f"{self._place}: no manifest {identifier!r}", status=404)
        return known[digest]

    @asynccontextmanager
    async def open(self, blob: Descriptor, *, start: int = 0) -> AsyncIterator[AsyncIterator[bytes]]:
        """The bytes of ``blob`` from offset ``start`` on.

        :raises NotFound: when it is not there
        """
        if blob.digest not in self._kitchen.blobs:
            await self._make_all()
        yield _each(self._kitchen.read(blob.digest, start))

    async def tags(self) -> AsyncIterator[str]:
        """Every tag, in the order given."""
        for tag in self._images:
            yield tag

    async def _make_all(self) -> None:
        for recipe in self._images.values():
            await self._make(recipe)

    async def _make(self, recipe: Recipe) -> Manifest:
        return await anyio.to_thread.run_sync(self._kitchen.make, recipe)

    def __repr__(self) -> str:
        return f"RandomSource({str(self._place)!r}, {len(self._images)} images)"


def fleet(
    *,
    repositories: int,
    tags: int,
    shared: Sequence[int],
    own: Sequence[int],
    platforms: Sequence[Platform] = (LINUX_AMD64, LINUX_ARM64),
    seed: str = "fleet",
    name: str = "random",
) -> list[RandomSource]:
    """Repositories ``app-00``, ``app-01``, ... of multi-arch images ``v1``, ``v2``, ...

    Every image of a platform stands on the same layers of ``shared`` sizes and adds its own of ``own`` sizes (bytes).
    """
    kitchen = Kitchen()
    base = {p: [Layer(f"{seed}/base/{p}/{n}", size) for n, size in enumerate(shared)] for p in platforms}

    def image(repository: str, tag: str, platform: Platform) -> Image:
        top = [Layer(f"{seed}/{repository}/{tag}/{platform}/{n}", size) for n, size in enumerate(own)]
        return Image((*base[platform], *top), platform)

    def index(repository: str, tag: str) -> Index:
        return Index(tuple(image(repository, tag, platform) for platform in platforms))

    names = [f"app-{number:02d}" for number in range(repositories)]
    versions = [f"v{number}" for number in range(1, tags + 1)]
    return [RandomSource({t: index(r, t) for t in versions}, name=name, repository=r, kitchen=kitchen) for r in names]


class _Made(msgspec.Struct, frozen=True):
    """A layer after one pass over it. ``checksum`` is the CRC-32 of the tar, which gzip wants at the end."""

    layer: Layer
    digest: Digest
    size: int
    diff_id: Digest
    checksum: int


def _make(layer: Layer) -> _Made:
    outer, inner, size, checksum = hashlib.sha256(), hashlib.sha256(), 0, 0
    for index in range(_count(layer)):
        piece = _piece(layer, index)
        inner.update(piece)
        if layer.gzip:
            checksum = zlib.crc32(piece, checksum)
    diff_id = Digest(f"sha256:{inner.hexdigest()}")
    if not layer.gzip:
        return _Made(layer, diff_id, sum(_length(layer, i) for i in range(_count(layer))), diff_id, 0)
    for chunk in _bytes(layer, checksum):
        outer.update(chunk)
        size += len(chunk)
    return _Made(layer, Digest(f"sha256:{outer.hexdigest()}"), size, diff_id, checksum)


def _bytes(layer: Layer, checksum: int, start: int = 0) -> Iterator[bytes]:
    """The blob from ``start`` on; what lies before is skipped by arithmetic."""
    parts = _count(layer) + (2 if layer.gzip else 0)
    for part in range(parts):
        length = _part_length(layer, part, parts)
        if start >= length:
            start -= length
            continue
        yield _part(layer, part, parts, checksum)[start:]
        start = 0


def _part_length(layer: Layer, part: int, parts: int) -> int:
    if not layer.gzip:
        return _length(layer, part)
    if part == 0:
        return len(_GZIP_HEAD)
    if part == parts - 1:
        return len(_GZIP_LAST_BLOCK) + 8
    length = _length(layer, part - 1)
    return length + 5 * -(-length // _STORED)


def _part(layer: Layer, part: int, parts: int, checksum: int) -> bytes:
    if not layer.gzip:
        return _piece(layer, part)
    if part == 0:
        return _GZIP_HEAD
    if part == parts - 1:
        whole = sum(_length(layer, index) for index in range(_count(layer)))
        return _GZIP_LAST_BLOCK + struct.pack("<II", checksum, whole & 0xFFFFFFFF)
    return _stored(_piece(layer, part - 1))


def _stored(piece: bytes) -> bytes:
    """``piece`` as stored blocks of a deflate stream: what ``gzip -0`` would make, without running it."""
    framed = bytearray()
    for start in range(0, len(piece), _STORED):
        block = piece[start : start + _STORED]
        framed += struct.pack("<BHH", 0, len(block), len(block) ^ 0xFFFF)
        framed += block
    return bytes(framed)


def _count(layer: Layer) -> int:
    """How many pieces the tar has: the header, the blocks of noise, the end."""
    return 2 + -(-layer.size // _BLOCK)


def _length(layer: Layer, index: int) -> int:
    if index == 0:
        return tarfile.BLOCKSIZE
    if index == _count(layer) - 1:
        return -layer.size % tarfile.BLOCKSIZE + 2 * tarfile.BLOCKSIZE
    return min(_BLOCK, layer.size - (index - 1) * _BLOCK)


def _piece(layer: Layer, index: int) -> bytes:
    length = _length(layer, index)
    if index == 0:
        return _header(layer)
    if index == _count(layer) - 1:
        return bytes(length)
    nonce = hashlib.sha256(f"{layer.seed}:{layer.size}:{index}".encode()).digest()
    return (nonce + _noise()[len(nonce) :])[:length]


def _header(layer: Layer) -> bytes:
    name = hashlib.sha256(layer.seed.encode()).hexdigest()[:16]
    entry = tarfile.TarInfo(f"noise/{name}")
    entry.size, entry.mode = layer.size, 0o644
    return entry.tobuf(tarfile.GNU_FORMAT)


@cache
def _noise() -> bytes:
    """One block that does not compress; blocks differ by the hash at their start, and are longer than gzip's window."""
    return random.Random("asyncrane").randbytes(_BLOCK)  # noqa: S311 - noise, not a secret


def _layer_type(layer: Layer, *, docker: bool) -> str:
    if docker:
        return media.DOCKER_LAYER_GZIP if layer.gzip else media.DOCKER_LAYER_GZIP.removesuffix(".gzip")
    return media.OCI_LAYER_GZIP if layer.gzip else media.OCI_LAYER


def _platform(platform: Platform) -> dict[str, Any]:
    fields: dict[str, Any] = {"architecture": platform.architecture, "os": platform.os}
    if platform.variant:
        fields["variant"] = platform.variant
    if platform.os_version:
        fields["os.version"] = platform.os_version
    return fields


def _descriptor(descriptor: Descriptor) -> dict[str, Any]:
    return {"mediaType": descriptor.media_type, "digest": descriptor.digest, "size": descriptor.size}


def _manifest(fields: dict[str, Any]) -> Manifest:
    return Manifest.read(_encode(fields))


def _encode(fields: dict[str, Any]) -> bytes:
    return json.dumps(fields, separators=(",", ":")).encode()


async def _each(chunks: Iterator[bytes]) -> AsyncIterator[bytes]:
    for chunk in chunks:
        yield chunk
        await anyio.lowlevel.checkpoint()
