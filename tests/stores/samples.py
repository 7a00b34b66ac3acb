"""Images of every kind there is, for stores that have to keep them as they are."""

from __future__ import annotations

import base64
import json
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

from asyncrane.abc import Sink, Source
from asyncrane.engine.job import Job, Target
from asyncrane.engine.outcome import Outcome
from asyncrane.oci import media
from asyncrane.oci.digest import Digest
from asyncrane.oci.manifest import Manifest
from asyncrane.session import Session
from asyncrane.stores.imageindex import REF_NAME
from asyncrane.stores.layout import open_layout
from asyncrane.testing.images import Sample, random_image, random_index


def described(media_type: str, content: bytes, **more: Any) -> dict[str, Any]:
    """A descriptor as JSON has it."""
    return {"mediaType": media_type, "digest": str(Digest.of(content)), "size": len(content), **more}


def artifact(subject: Manifest | None = None, name: str = "signature") -> Sample:
    """Something that is no image, attached to ``subject`` if there is one; without ``mediaType``, which is allowed."""
    content = f"content of {name}".encode()
    fields = {
        "schemaVersion": 2,
        "artifactType": "application/vnd.test",
        "config": described(media.OCI_EMPTY, b"{}"),
        "layers": [described("text/plain", content)],
    }
    if subject is not None:
        fields["subject"] = described(subject.media_type, subject.body)
    body = json.dumps(fields, indent=1).encode()
    return Sample((Manifest.read(body),), {Digest.of(blob): blob for blob in (b"{}", content)})


def schema1(*, signed: bool) -> Sample:
    """An image of docker's first kind; its digest leaves the signature out."""
    layers = [b"layer one", b"layer two"]
    fields = {
        "schemaVersion": 1,
        "name": "app",
        "tag": "v1",
        "architecture": "amd64",
        "fsLayers": [{"blobSum": str(Digest.of(layer))} for layer in (*layers, layers[0])],
        "history": [{"v1Compatibility": "{}"}] * 3,
    }
    body, kind = json.dumps(fields, indent=3).encode(), media.DOCKER_SCHEMA1
    if signed:
        head, tail = body[:-2], body[-2:]
        protected = json.dumps({"formatLength": len(head), "formatTail": _base64(tail)}).encode()
        body = head + b',"signatures":[{"protected":"' + _base64(protected).encode() + b'"}]' + tail
        kind = media.DOCKER_SCHEMA1_SIGNED
    return Sample((Manifest.read(body, content_type=kind),), {Digest.of(layer): layer for layer in layers})


def _base64(data: bytes) -> str:
    return base64.urlsafe_b64encode(data).decode().rstrip("=")


EVERY_KIND = {
    "oci-image": random_image("oci"),
    "docker-image": random_image("docker", docker=True),
    "oci-index": random_index("oci"),
    "docker-list": random_index("docker", docker=True),
    "artifact": artifact(),
    "schema1": schema1(signed=False),
    "schema1-signed": schema1(signed=True),
}


@asynccontextmanager
async def session(*stores: Source | Sink) -> AsyncIterator[Session]:
    """A session that knows ``stores``."""
    async with Session() as opened:
        for store in stores:
            opened.use(store)
        yield opened


async def move(source: Source, sink: Sink, *names: str, referrers: bool = False) -> list[Outcome]:
    """Copy images with an engine of their own."""
    async with session(source, sink) as opened:
        return [
            await opened.submit(
                Job(opened.next_id(), source.place, (Target(sink.place, name),), name, referrers=referrers)
            )
            for name in names
        ]


def entries(path: Path) -> list[dict[str, Any]]:
    """What ``index.json`` lists."""
    return list(json.loads((path / "index.json").read_bytes())["manifests"])


def names(path: Path) -> list[str | None]:
    """What the images of a layout are called."""
    return [entry.get("annotations", {}).get(REF_NAME) for entry in entries(path)]


def blobs(path: Path) -> set[str]:
    """The digests that a layout has something of."""
    return {f"{blob.parent.name}:{blob.name}" for blob in path.glob("blobs/*/*")}


def left(path: Path) -> list[str]:
    """Everything below ``path``."""
    return sorted(str(found.relative_to(path)) for found in path.rglob("*"))


async def stored(path: Path, sample: Sample, *tags: str) -> None:
    """Store ``sample`` in a layout."""
    async with open_layout(path, writing=True) as layout:
        await sample.store(layout, *tags)
