"""Builds a data set in a registry, through its API, and checks that a registry holds it."""

from __future__ import annotations

import hashlib
import json
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, TypeVar

import anyio

from .client import MANIFEST_TYPE, Client
from .content import Packed, packed

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Awaitable, Callable, Iterable

    from .scenarios import Dataset, Image, Layer

T = TypeVar("T")

STREAMS = 12  # requests of the harness at a time
LARGE = 4 << 20  # bytes from which a layer is made while it is sent
LAYER_TYPE = "application/vnd.oci.image.layer.v1.tar+gzip"
CONFIG_TYPE = "application/vnd.oci.image.config.v1+json"


@dataclass(frozen=True)
class Blob:
    """A blob as it is in the registry."""

    digest: str
    size: int
    diff_id: str = ""


@dataclass(frozen=True)
class Tag:
    """A tag as it is in the registry: its manifest's digest and every blob it needs."""

    repository: str
    name: str
    digest: str
    blobs: tuple[Blob, ...]


@dataclass(frozen=True)
class Filled:
    """A data set as it is in a registry: what every copy must look like."""

    tags: tuple[Tag, ...]

    @property
    def blobs(self) -> dict[str, int]:
        """Every blob once, with its size in bytes."""
        return {blob.digest: blob.size for tag in self.tags for blob in tag.blobs}

    @property
    def placements(self) -> dict[tuple[str, str], int]:
        """Every (repository, blob) there is, with the blob's size in bytes."""
        return {(tag.repository, blob.digest): blob.size for tag in self.tags for blob in tag.blobs}

    @property
    def bytes(self) -> int:
        """What has to cross the line at least, manifests left out."""
        return sum(self.blobs.values())

    @property
    def repositories(self) -> tuple[str, ...]:
        """Every repository once, in order."""
        return tuple(dict.fromkeys(tag.repository for tag in self.tags))


class Incomplete(Exception):
    """A destination does not hold what it was sent."""


async def fill(client: Client, dataset: Dataset, *, namespace: str = "") -> Filled:
    """Build ``dataset``, every repository's path preceded by ``namespace``; shared layers are sent once."""
    homes: dict[Layer, str] = {}
    others: dict[tuple[Layer, str], None] = {}
    for image in dataset.images:
        for layer in image.layers:
            if homes.setdefault(layer, image.repository) != image.repository:
                others[layer, image.repository] = None
    known: dict[Layer, Blob] = {}

    async def send(layer: Layer) -> None:
        known[layer] = await _send(client, namespace + homes[layer], layer)

    async def share(placed: tuple[Layer, str]) -> None:
        layer, repository = placed
        if not await client.mount(namespace + repository, known[layer].digest, namespace + homes[layer]):
            await _send(client, namespace + repository, layer)

    tags: dict[Image, Tag] = {}

    async def publish(image: Image) -> None:
        tags[image] = await _publish(client, namespace + image.repository, image, [known[one] for one in image.layers])

    await _each(homes, send)
    await _each(others, share)
    await _each(dataset.images, publish)
    return Filled(tuple(tags[image] for image in dataset.images))


async def _send(client: Client, repository: str, layer: Layer) -> Blob:
    if layer.size < LARGE:
        body, made = packed(layer)
        await client.upload(repository, made.digest, body)
        return Blob(made.digest, made.size, made.diff_id)
    stream = Packed(layer)
    location = await client.open_upload(repository, _offloaded(stream))
    await client.close_upload(location, stream.digest)
    return Blob(stream.digest, stream.size, stream.diff_id)


async def _offloaded(stream: Packed) -> AsyncIterator[bytes]:
    """Make the bytes in a thread: making noise is slow, and other uploads want the loop."""
    pieces = iter(stream)
    while (piece := await anyio.to_thread.run_sync(next, pieces, None)) is not None:
        yield piece


async def _publish(client: Client, repository: str, image: Image, layers: list[Blob]) -> Tag:
    config = _json(
        {
            "architecture": "amd64",
            "os": "linux",
            "config": {"Labels": {"repository": image.repository, "tag": image.tag}},
            "rootfs": {"type": "layers", "diff_ids": [layer.diff_id for layer in layers]},
        }
    )
    named = Blob(_sha256(config), len(config))
    await client.upload(repository, named.digest, config)
    manifest = _json(
        {
            "schemaVersion": 2,
            "mediaType": MANIFEST_TYPE,
            "config": {"mediaType": CONFIG_TYPE, "digest": named.digest, "size": named.size},
            "layers": [{"mediaType": LAYER_TYPE, "digest": one.digest, "size": one.size} for one in layers],
        }
    )
    await client.publish(repository, image.tag, manifest)
    return Tag(repository, image.tag, _sha256(manifest), (named, *layers))


async def verify(client: Client, filled: Filled, *, source: str = "", destination: str = "") -> None:
    """Find every tag with the right digest and every blob in its repository at ``client``.

    ``source`` at the front of a repository's path stands for ``destination`` there.

    :raises Incomplete: something is missing or different; the message says how much and names one.
    """
    missing: list[str] = []

    def there(repository: str) -> str:
        return destination + repository.removeprefix(source)

    async def tag_is_right(tag: Tag) -> None:
        if await client.digest(there(tag.repository), tag.name) != tag.digest:
            missing.append(f"{there(tag.repository)}:{tag.name}")

    async def blob_is_there(placed: tuple[str, str]) -> None:
        repository, digest = placed
        if await client.size(there(repository), digest) != sizes[placed]:
            missing.append(f"{there(repository)}@{digest}")

    sizes = filled.placements
    await _each(filled.tags, tag_is_right)
    await _each(sizes, blob_is_there)
    if missing:
        raise Incomplete(f"{len(missing)} of {len(filled.tags) + len(sizes)} missing or different, e.g. {missing[0]}")


async def remove(client: Client, filled: Filled, *, source: str = "", destination: str = "") -> None:
    """Delete the manifests again, from a registry that is not ours to throw away."""

    async def gone(tag: Tag) -> None:
        await client.remove(destination + tag.repository.removeprefix(source), tag.digest)

    await _each(filled.tags, gone)


async def _each(items: Iterable[T], act: Callable[[T], Awaitable[None]]) -> None:
    """Act on every item, a few at a time."""
    limiter = anyio.CapacityLimiter(STREAMS)

    async def one(item: T) -> None:
        async with limiter:
            await act(item)

    async with anyio.create_task_group() as group:
        for item in items:
            group.start_soon(one, item)


def _json(value: Any) -> bytes:
    return json.dumps(value, separators=(",", ":")).encode()


def _sha256(data: bytes) -> str:
    return f"sha256:{hashlib.sha256(data).hexdigest()}"
