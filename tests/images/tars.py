"""Images whose layers are given tars."""

from __future__ import annotations

import gzip
import json
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

from backports import zstd

from asyncrane.oci import media
from asyncrane.oci.digest import Digest
from asyncrane.oci.manifest import Manifest
from asyncrane.oci.platform import Platform
from asyncrane.stores.random import LINUX_AMD64
from asyncrane.testing.images import Sample

_TYPES = {
    False: (media.OCI_MANIFEST, media.OCI_CONFIG, media.OCI_LAYER_GZIP),
    True: (media.DOCKER_MANIFEST, media.DOCKER_CONFIG, media.DOCKER_LAYER_GZIP),
}


def _gzip(tar: bytes) -> bytes:
    return gzip.compress(tar, mtime=0)


PACK: dict[str, Callable[[bytes], bytes]] = {media.OCI_LAYER: bytes, media.OCI_LAYER_ZSTD: zstd.compress}


def image(
    *layers: bytes,
    platform: Platform = LINUX_AMD64,
    docker: bool = False,
    types: Sequence[str] = (),
    config: dict[str, Any] | None = None,
    packed: dict[int, bytes] | None = None,
) -> Sample:
    """An image of ``layers``, plain tars, compressed as ``types`` say (gzip). ``packed`` are blobs that
    stand for some of them.
    """
    manifest_type, config_type, layer_type = _TYPES[docker]
    kinds = [*types, *[layer_type] * (len(layers) - len(types))]
    blobs = [PACK.get(kind, _gzip)(tar) for kind, tar in zip(kinds, layers, strict=True)]
    for number, blob in (packed or {}).items():
        blobs[number] = blob
    settings = {
        "architecture": platform.architecture,
        "os": platform.os,
        "created": "2020-01-01T00:00:00Z",
        "rootfs": {"type": "layers", "diff_ids": [str(Digest.of(tar)) for tar in layers]},
        "history": [{"created_by": f"layer {number}"} for number in range(len(layers))],
        **(config or {}),
    }
    body = json.dumps(settings).encode()
    fields = {
        "schemaVersion": 2,
        "mediaType": manifest_type,
        "config": descriptor(config_type, body),
        "layers": [descriptor(kind, blob) for kind, blob in zip(kinds, blobs, strict=True)],
    }
    manifest = Manifest.read(json.dumps(fields).encode())
    return Sample((manifest,), {Digest.of(blob): blob for blob in (*blobs, body)})


def index(*images: Sample, docker: bool = False, **fields: Any) -> Sample:
    """An index of images."""
    entries = []
    for made in images:
        config = json.loads(made.blobs[made.manifest.config().digest])  # type: ignore[union-attr]
        platform = {key: config[key] for key in ("architecture", "os")}
        entries.append({**descriptor(made.manifest.media_type, made.manifest.body), "platform": platform})
    kind = media.DOCKER_LIST if docker else media.OCI_INDEX
    body = json.dumps({"schemaVersion": 2, "mediaType": kind, "manifests": entries, **fields}).encode()
    blobs = {digest: blob for made in images for digest, blob in made.blobs.items()}
    manifests = {manifest.digest: manifest for made in images for manifest in made.manifests}
    return Sample((*manifests.values(), Manifest.read(body)), blobs)


def artifact(*blobs: tuple[str, bytes]) -> Sample:
    """Something of somebody else's, which has a config of his own."""
    fields = {
        "schemaVersion": 2,
        "mediaType": media.OCI_MANIFEST,
        "config": descriptor("application/vnd.example.config.v1+json", b"{}"),
        "layers": [descriptor(kind, blob) for kind, blob in blobs],
    }
    return Sample(
        (Manifest.read(json.dumps(fields).encode()),),
        {Digest.of(blob): blob for blob in (*[b for _, b in blobs], b"{}")},
    )


def descriptor(media_type: str, content: bytes) -> dict[str, Any]:
    return {"mediaType": media_type, "digest": str(Digest.of(content)), "size": len(content)}


def write_layout(path: Path, made: Sample, tag: str) -> None:
    """An OCI layout, for programs that read such."""
    blobs = path / "blobs" / "sha256"
    blobs.mkdir(parents=True)
    for digest, blob in [*made.blobs.items(), *((manifest.digest, manifest.body) for manifest in made.manifests)]:
        (blobs / digest.hex).write_bytes(blob)
    (path / "oci-layout").write_text('{"imageLayoutVersion":"1.0.0"}')
    entry = descriptor(made.manifest.media_type, made.manifest.body)
    named = {**entry, "annotations": {"org.opencontainers.image.ref.name": tag}}
    (path / "index.json").write_text(json.dumps({"schemaVersion": 2, "manifests": [named]}))
