"""Attachments for tests, in each of the three styles, and what is attached to what as one tree."""

from __future__ import annotations

import json
from typing import Any

from asyncrane.oci import media
from asyncrane.oci.digest import Digest
from asyncrane.oci.manifest import Manifest
from asyncrane.registry.referrers import fallback_tag
from asyncrane.testing import FaultyRegistry
from asyncrane.testing.images import Sample
from tests.promises.images import described, missing, put

EMPTY = b"{}"


def attachment(subject: Manifest, name: str) -> Sample:
    """An artifact that says that it is attached to ``subject``."""
    content = f"content of {name}".encode()
    fields = {
        "schemaVersion": 2,
        "mediaType": media.OCI_MANIFEST,
        "artifactType": "application/vnd.test.signature",
        "config": described(media.OCI_EMPTY, EMPTY),
        "layers": [described("application/octet-stream", content)],
        "subject": {"mediaType": subject.media_type, "digest": subject.digest, "size": subject.size},
    }
    blobs = {Digest.of(blob): blob for blob in (EMPTY, content)}
    return Sample((Manifest.read(json.dumps(fields).encode()),), blobs)


def attach(registry: FaultyRegistry, repository: str, subject: Manifest, name: str, *, api: bool = True) -> Sample:
    """Attach something to ``subject``; without the API by an entry under the fallback tag."""
    made = attachment(subject, name)
    put(registry, repository, made)
    if not api:
        tag = fallback_tag(subject.digest)
        before = registry.get_manifest(repository, tag)
        listed = before.fields()["manifests"] if before is not None else []
        registry.put_manifest(repository, listing([*listed, entry(made.manifest)]), tag)
    return made


def entry(manifest: Manifest) -> dict[str, Any]:
    """A manifest's line in an index."""
    return {"mediaType": manifest.media_type, "digest": str(manifest.digest), "size": manifest.size}


def listing(entries: list[dict[str, Any]]) -> Manifest:
    """An index with these entries."""
    fields = {"schemaVersion": 2, "mediaType": media.OCI_INDEX, "manifests": entries}
    return Manifest.read(json.dumps(fields).encode())


def cosign(registry: FaultyRegistry, repository: str, subject: Digest, suffix: str, sample: Sample) -> str:
    """Attach ``sample`` by tag, which is returned."""
    tag = f"{fallback_tag(subject)}.{suffix}"
    put(registry, repository, sample, tag)
    return tag


def tree(registry: FaultyRegistry, repository: str, digest: Digest, *, api: bool = True) -> dict[str, Any]:
    """Everything below and attached to a manifest, as ``cosign tree`` would show it; all of it has to be whole."""
    assert missing(registry, repository, str(digest)) == []
    manifest = registry.get_manifest(repository, str(digest))
    assert manifest is not None
    index = registry.storage.index
    name = fallback_tag(digest)
    attached = index.referrers(repository, digest) if api else []
    if not api and (listed := registry.get_manifest(repository, name)) is not None:
        attached = [child.digest for child in listed.children()]
        assert len(attached) == len(set(attached))
    tags = {tag: index.tagged(repository, tag) for tag in index.tags(repository) if tag.startswith(f"{name}.")}

    def below(digests: list[Digest]) -> dict[str, Any]:
        return {str(digest): tree(registry, repository, digest, api=api) for digest in sorted(digests)}

    return {
        "children": below([child.digest for child in manifest.children()]),
        "attached": below(attached),
        "tags": {tag: below([named]) for tag, named in tags.items() if named is not None},
    }
