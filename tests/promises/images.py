"""Images put together by hand, registries filled with them, and a walk that finds what is missing."""

from __future__ import annotations

import json
from collections.abc import Sequence
from typing import Any

from asyncrane import Outcome, Pair, Session, Statistics, copy_all
from asyncrane.oci import media
from asyncrane.oci.digest import Digest
from asyncrane.oci.manifest import Manifest
from asyncrane.testing import FaultyRegistry
from asyncrane.testing.images import Sample


def noise(seed: object, size: int) -> bytes:
    """``size`` bytes that differ for every seed."""
    head = f"{seed};".encode()
    return (head * (size // len(head) + 1))[:size]


def described(media_type: str, content: bytes, **more: Any) -> dict[str, Any]:
    """A descriptor as JSON has it."""
    return {"mediaType": media_type, "digest": str(Digest.of(content)), "size": len(content), **more}


def image(seed: object, layers: Sequence[bytes]) -> Sample:
    """An image of exactly these layers, with a config of its own."""
    config = json.dumps({"os": "linux", "architecture": "amd64", "author": str(seed)}).encode()
    fields = {
        "schemaVersion": 2,
        "mediaType": media.OCI_MANIFEST,
        "config": described(media.OCI_CONFIG, config),
        "layers": [described(media.OCI_LAYER_GZIP, layer) for layer in layers],
    }
    blobs = {Digest.of(content): content for content in (config, *layers)}
    return Sample((Manifest.read(json.dumps(fields).encode()),), blobs)


def put(registry: FaultyRegistry, repository: str, sample: Sample, *tags: str) -> str:
    """Store ``sample`` without a request; returns its name with the first tag."""
    for content in sample.blobs.values():
        registry.put_blob(repository, content)
    for manifest in sample.manifests:
        registry.put_manifest(repository, manifest)
    registry.put_manifest(repository, sample.manifest, *tags)
    return f"{registry.address}/{repository}:{tags[0]}" if tags else f"{registry.address}/{repository}@{sample.digest}"


def missing(registry: FaultyRegistry, repository: str, identifier: str) -> list[str]:
    """Everything a tag or digest names, as deep as it goes, that is not there or is not what it should be."""
    manifest = registry.get_manifest(repository, identifier)
    if manifest is None:
        return [f"{repository}: {identifier}"]
    found = [lack for child in manifest.children() for lack in missing(registry, repository, str(child.digest))]
    for blob in manifest.blobs():
        content = registry.get_blob(repository, blob.digest)
        if content is None or Digest.of(content, blob.digest.algorithm) != blob.digest:
            found.append(f"{repository}: blob {blob.digest}")
    return found


def incomplete(registry: FaultyRegistry) -> list[str]:
    """What is missing of everything that has a tag."""
    index = registry.storage.index
    return [
        lack
        for repository in index.repositories()
        for tag in index.tags(repository)
        for lack in missing(registry, repository, tag)
    ]


def tags(registry: FaultyRegistry) -> dict[str, str]:
    """Every tag of every repository, and the digest it names."""
    index = registry.storage.index
    return {f"{r}:{t}": str(index.tagged(r, t)) for r in index.repositories() for t in index.tags(r)}


async def run(pairs: Sequence[Pair], *, all_tags: bool = False, **options: Any) -> tuple[list[Outcome], Statistics]:
    """Copy all pairs in a session of their own, opened with ``options``."""
    async with Session(**options) as session:
        outcomes = await copy_all(session, pairs, all_tags=all_tags)
        return outcomes, session.statistics()


async def one(source: str, *destinations: str, **options: Any) -> tuple[Outcome, Statistics]:
    """Copy one image in a session of its own; what failed is in the outcome."""
    outcomes, done = await run([Pair(source, destinations)], **options)
    return outcomes[0], done
