"""The images that are cut up by :mod:`benchmarks.surgery`: real files in layers that compress as programs do."""

from __future__ import annotations

import gzip
import hashlib
import io
import json
import random
import tarfile
from dataclasses import dataclass
from functools import partial
from typing import TYPE_CHECKING, Any

import anyio

from .client import MANIFEST_TYPE, Client
from .fill import CONFIG_TYPE, LAYER_TYPE

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Sequence
    from pathlib import Path

MIB = 1 << 20
PIECE = 6 << 10  # bytes; of each piece a third is noise, the rest are words
LEVEL = 6  # of gzip, as most builders have it
WORDS = [f"{word:08x} symbol_{word % 977} " for word in random.Random(7).choices(range(1 << 32), k=400)]


@dataclass(frozen=True)
class Layer:
    """A layer, packed."""

    blob: bytes
    diff_id: str

    @property
    def digest(self) -> str:
        """The blob's digest."""
        return _sha256(self.blob)


@dataclass(frozen=True)
class Sizes:
    """How much there is of everything: MiB for sizes before compression, except where it is a number of things."""

    appended: int = 200
    layers: int = 16
    layer: int = 8
    rebases: int = 100
    base: int = 4

    @classmethod
    def quick(cls) -> Sizes:
        """Enough to see whether it works."""
        return cls(appended=8, layers=16, layer=1, rebases=5, base=1)


def content(seed: int, size: int) -> bytes:
    """Bytes of which gzip leaves about half."""
    dice = random.Random(seed)
    made = bytearray()
    while len(made) < size:
        made += dice.randbytes(PIECE // 3)
        made += "".join(dice.choices(WORDS, k=PIECE // 30)).encode()
    return bytes(made[:size])


def tar(seed: int, size: int, *, files: int = 50) -> bytes:
    """A tar of about ``size`` bytes: files in directories, some of them replaced by the next layer's."""
    packed = io.BytesIO()
    with tarfile.open(fileobj=packed, mode="w", format=tarfile.PAX_FORMAT) as archive:
        for number in range(files):
            shared = number % 10 == 0
            member = tarfile.TarInfo(f"usr/lib/{'shared' if shared else seed}/file-{number:03}")
            body = content(seed * 1000 + number, size // files)
            member.size = len(body)
            archive.addfile(member, io.BytesIO(body))
    return packed.getvalue()


def layer(seed: int, size: int, *, files: int = 50) -> Layer:
    """A gzip layer."""
    plain = tar(seed, size, files=files)
    return Layer(gzip.compress(plain, LEVEL, mtime=0), _sha256(plain))


def write_tar(path: Path, size: int) -> None:
    """A plain tar of about ``size`` bytes in a file."""
    path.write_bytes(tar(99, size, files=200))


async def build(client: Client, sizes: Sizes) -> None:
    """``base:1`` and ``base:2``, ``image:1`` of many layers, and applications ``app-N:1`` on ``base:1``."""
    make = anyio.to_thread.run_sync
    bases = [[await make(partial(layer, seed + at, sizes.base * MIB)) for at in range(4)] for seed in (10, 20)]
    for tag, layers in zip(("1", "2"), bases, strict=True):
        await publish(client, "base", tag, layers)
    image = [await make(partial(layer, 100 + at, sizes.layer * MIB)) for at in range(sizes.layers)]
    await publish(client, "image", "1", image)
    for number in range(sizes.rebases):
        own = await make(partial(layer, 1000 + number, 200_000, files=3))
        await publish(client, f"app-{number:03}", "1", [*bases[0], own], donor="base")


async def publish(client: Client, repository: str, tag: str, layers: Sequence[Layer], *, donor: str = "") -> None:
    """Store an image; what ``donor`` has is mounted."""
    for one in layers:
        if not donor or not await client.mount(repository, one.digest, donor):
            await client.close_upload(await client.open_upload(repository, _pieces(one.blob)), one.digest)
    config = _json(
        {
            "architecture": "amd64",
            "os": "linux",
            "created": "2026-01-01T00:00:00Z",
            "config": {"Env": ["PATH=/usr/bin"], "Labels": {"name": repository}},
            "rootfs": {"type": "layers", "diff_ids": [one.diff_id for one in layers]},
            "history": [{"created": "2026-01-01T00:00:00Z", "created_by": f"layer {at}"} for at in range(len(layers))],
        }
    )
    await client.upload(repository, _sha256(config), config)
    entries = [{"mediaType": LAYER_TYPE, "digest": one.digest, "size": len(one.blob)} for one in layers]
    named = {"mediaType": CONFIG_TYPE, "digest": _sha256(config), "size": len(config)}
    body = {"schemaVersion": 2, "mediaType": MANIFEST_TYPE, "config": named, "layers": entries}
    await client.publish(repository, tag, _json(body))


async def _pieces(blob: bytes) -> AsyncIterator[bytes]:
    for start in range(0, len(blob), MIB):
        yield blob[start : start + MIB]


def _json(value: Any) -> bytes:
    return json.dumps(value, separators=(",", ":")).encode()


def _sha256(data: bytes) -> str:
    return f"sha256:{hashlib.sha256(data).hexdigest()}"
