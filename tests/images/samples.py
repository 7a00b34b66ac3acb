"""Images that share layers, and a look at edited ones by somebody who did not edit them."""

from __future__ import annotations

import gzip
import json
from collections.abc import Sequence
from typing import Any

from backports import zstd

from asyncrane.abc import Source
from asyncrane.archive.whole import read_blob
from asyncrane.images.overlay import Overlay
from asyncrane.images.view import View, load
from asyncrane.oci import media
from asyncrane.oci.digest import Digest
from asyncrane.oci.manifest import Manifest
from asyncrane.oci.platform import Platform
from asyncrane.oci.select import ATTESTS
from asyncrane.stores.memory import MemoryStore
from asyncrane.stores.random import LINUX_AMD64, LINUX_ARM64, Image, Index, Kitchen, Layer, Recipe
from asyncrane.testing.images import Sample

BOTH = (LINUX_AMD64, LINUX_ARM64)


def image(*layers: str, platform: Platform = LINUX_AMD64, docker: bool = False, size: int = 2000) -> Image:
    """An image of layers by name; names that are equal are the same layer on one platform."""
    return Image(tuple(Layer(f"{platform}/{name}", size) for name in layers), platform, docker)


def index(*layers: str, platforms: Sequence[Platform] = BOTH, docker: bool = False, size: int = 2000) -> Index:
    """The same for several platforms."""
    return Index(tuple(image(*layers, platform=p, docker=docker, size=size) for p in platforms), docker)


def sample(recipe: Recipe) -> Sample:
    """A recipe cooked."""
    kitchen = Kitchen()
    kitchen.make(recipe)
    blobs = {digest: b"".join(kitchen.read(digest)) for digest in kitchen.blobs}
    return Sample(tuple(kitchen.manifests.values()), blobs)


def with_config(made: Sample, **changes: Any) -> Sample:
    """An image whose config has ``changes`` (``None`` takes a key away)."""
    fields = made.manifest.fields()
    config = {**json.loads(made.blobs[Digest(fields["config"]["digest"])]), **changes}
    body = json.dumps({key: value for key, value in config.items() if value is not None}).encode()
    fields["config"] |= {"digest": str(Digest.of(body)), "size": len(body)}
    blobs = {digest: blob for digest, blob in made.blobs.items() if digest != made.manifest.config().digest}  # type: ignore[union-attr]
    return Sample((reserialised(made.manifest, fields),), {**blobs, Digest.of(body): body})


def with_fields(made: Sample, **changes: Any) -> Sample:
    """The same with other fields in its root manifest."""
    root = reserialised(made.manifest, {**made.manifest.fields(), **changes})
    return Sample((*made.manifests[:-1], root), made.blobs)


def reserialised(manifest: Manifest, fields: dict[str, Any]) -> Manifest:
    return Manifest.read(json.dumps(fields).encode(), content_type=manifest.media_type)


def attested(made: Sample) -> Sample:
    """An index with an attestation for each of its images, as buildkit makes them."""
    statement, config = b'{"_type":"https://in-toto.io/Statement/v0.1"}', b'{"architecture":"unknown","os":"unknown"}'
    fields, manifests = made.manifest.fields(), list(made.manifests[:-1])
    for child in made.manifest.children():
        body = {
            "schemaVersion": 2,
            "mediaType": media.OCI_MANIFEST,
            "config": _descriptor(media.OCI_CONFIG, config),
            "layers": [_descriptor("application/vnd.in-toto+json", statement)],
            "annotations": {"about": str(child.digest)},
        }
        manifests.append(Manifest.read(json.dumps(body).encode()))
        annotations = {"vnd.docker.reference.type": "attestation-manifest", ATTESTS: str(child.digest)}
        entry = _descriptor(media.OCI_MANIFEST, manifests[-1].body)
        platform = {"architecture": "unknown", "os": "unknown"}
        fields["manifests"].append({**entry, "annotations": annotations, "platform": platform})
    blobs = {**made.blobs, Digest.of(statement): statement, Digest.of(config): config}
    return Sample((*manifests, reserialised(made.manifest, fields)), blobs)


def _descriptor(media_type: str, content: bytes) -> dict[str, Any]:
    return {"mediaType": media_type, "digest": str(Digest.of(content)), "size": len(content)}


class Bench:
    """Repositories in memory, and an overlay to look at what edits made of them."""

    def __init__(self) -> None:
        self._root = MemoryStore("bench")
        self._overlay = Overlay("bench", lambda place: self._root.sibling(place.repository))

    async def load(self, name: str, made: Sample, **options: Any) -> View:
        """``made`` as a view, stored in the repository ``name``."""
        store = self._root.sibling(name)
        await made.store(store, "v1")
        return await load(store, "v1", **options)

    async def problems(self, view: View) -> list[str]:
        """What is wrong with an edited image."""
        self._overlay.add(view, tag="edited")
        return await problems(self._overlay, "edited")


async def problems(source: Source, identifier: str, *, like: str = "") -> list[str]:
    """What is wrong with an image: layers that are not their diff ids, sizes, histories, families (K3, K4)."""
    manifest = await source.manifest(identifier)
    found: list[str] = []
    if manifest.is_index:
        kinds = {child.media_type for child in manifest.children()}
        if len({kind.startswith("application/vnd.docker") for kind in {*kinds, manifest.media_type}}) > 1:
            found.append(f"mixed families: {kinds} in {manifest.media_type}")
        for child in manifest.children():
            found += await problems(source, str(child.digest), like=str(child.platform or ""))
        return found
    named = manifest.config()
    assert named is not None
    config = json.loads(await read_blob(source, named))
    if config.get("os") == "unknown":
        return found
    kinds = {blob.media_type for blob in (named, *manifest.layers())}
    if len({kind.startswith("application/vnd.docker") for kind in {*kinds, manifest.media_type}}) > 1:
        found.append(f"mixed families: {kinds} in {manifest.media_type}")
    diff_ids = [str(Digest.of(expanded(await read_blob(source, layer)))) for layer in manifest.layers()]
    if config["rootfs"] != {"type": "layers", "diff_ids": diff_ids}:
        found.append(f"rootfs is {config['rootfs']}, the layers are {diff_ids}")
    if sum(not entry.get("empty_layer") for entry in config.get("history", [])) != len(diff_ids):
        found.append(f"{len(diff_ids)} layers with the history {config.get('history')}")
    if like and like != str(Platform.read(config)):
        found.append(f"{like} in the index is {Platform.read(config)!s}")
    return found


def expanded(content: bytes) -> bytes:
    """The tar in a layer."""
    if content.startswith(b"\x1f\x8b"):
        return gzip.decompress(content)
    return zstd.decompress(content) if content.startswith(b"\x28\xb5\x2f\xfd") else content
