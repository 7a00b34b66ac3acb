"""What Google's registries do differently, for tests: listings with children and manifests, no catalog, deletions.

(ggcr ``pkg/v1/google/list.go``; numbers are decimal strings, times in milliseconds since 1970. When something was
uploaded is not known here, so ``timeUploadedMs`` is left out.)
"""

from __future__ import annotations

from datetime import datetime
from typing import Any

import msgspec

from asyncrane.oci.digest import Digest
from asyncrane.oci.manifest import Manifest
from asyncrane.server.call import Call
from asyncrane.server.index import Index
from asyncrane.server.refusal import Refused, name_unknown
from asyncrane.server.reply import Reply
from asyncrane.server.storage import Storage

_LARGEST_CONFIG = 1024 * 1024


def list_everything(storage: Storage, call: Call) -> Reply:
    """Tags, direct children and manifests of a repository, or of a part of the names of others, on one page."""
    name = call.route.repository
    index = storage.index
    children = _children(index, name)
    if not children and not index.has(name):
        raise name_unknown(name)
    by_digest: dict[Digest, list[str]] = {digest: [] for digest in index.manifests(name)}
    for tag in index.tags(name):
        digest = index.tagged(name, tag)
        if digest in by_digest:
            by_digest[digest].append(tag)
    manifests = {
        str(digest): _described(storage, name, storage.manifest(name, digest), tags)
        for digest, tags in by_digest.items()
    }
    return Reply.of_json({"name": name, "tags": index.tags(name), "child": children, "manifest": manifests})


def check_deletion(index: Index, call: Call) -> None:
    """A manifest goes only after its tags.

    :raises Refused: when a manifest that has tags is to be deleted by digest (400 GOOGLE_MANIFEST_DANGLING_TAG)
    """
    if not call.route.by_digest:
        return
    repository, digest = call.route.repository, call.route.digest
    tags = [tag for tag in index.tags(repository) if index.tagged(repository, tag) == digest]
    if tags:
        message = f"manifest is still referenced by tag: {tags[0]}"
        raise Refused(400, "GOOGLE_MANIFEST_DANGLING_TAG", message, detail={"tags": tags})


def _children(index: Index, name: str) -> list[str]:
    above = f"{name}/"
    below = (repository for repository in index.repositories() if repository.startswith(above))
    return sorted({repository[len(above) :].partition("/")[0] for repository in below})


def _described(storage: Storage, repository: str, manifest: Manifest, tags: list[str]) -> dict[str, Any]:
    size = sum(storage.index.blob_size(repository, blob.digest) or 0 for blob in manifest.blobs())
    return {
        "imageSizeBytes": str(size),
        "layerId": "",
        "mediaType": manifest.media_type,
        "tag": tags,
        "timeCreatedMs": str(_created(storage, repository, manifest)),
    }


def _created(storage: Storage, repository: str, manifest: Manifest) -> int:
    """Milliseconds; 0 where the config does not say."""
    config = manifest.config()
    size = storage.index.blob_size(repository, config.digest) if config is not None else None
    if config is None or size is None or size > _LARGEST_CONFIG:
        return 0
    try:
        said = msgspec.json.decode(b"".join(storage.pieces(config.digest, 0, size)))
        return int(datetime.fromisoformat(said["created"]).timestamp() * 1000)
    except (msgspec.DecodeError, KeyError, TypeError, ValueError, RecursionError):
        return 0
