"""Manifests and indexes: the bytes are the truth, everything else is a view that is never written back.

(image-spec, manifest.md and image-index.md; Docker's schema 2; schema 1 is carried as it is.)
"""

from __future__ import annotations

import base64
import binascii
import json
from functools import lru_cache
from typing import Any

import msgspec

from asyncrane.errors import DigestMismatch, UnsupportedManifest
from asyncrane.oci import media
from asyncrane.oci.descriptor import Descriptor
from asyncrane.oci.digest import Digest
from asyncrane.oci.weight import is_heavy

LARGEST = 16 * 1024 * 1024
"""Bytes of manifest we read: registries accept 4 MiB (distribution-spec, "Pushing manifests"), some a little more."""


class Named(msgspec.Struct, frozen=True):
    """What a manifest names: manifests that an index lists, and blobs, each digest once."""

    children: tuple[Descriptor, ...]
    blobs: tuple[Descriptor, ...]


class Manifest(msgspec.Struct, frozen=True):
    """One manifest as it was received: ``media_type``, ``body`` (never re-serialised), ``digest``."""

    media_type: str
    body: bytes
    digest: Digest

    @classmethod
    def read(cls, body: bytes, *, content_type: str = "", digest: Digest | None = None) -> Manifest:
        """Check and wrap ``body``. The kind is decided by Content-Type, then ``mediaType``, then shape.

        :raises DigestMismatch: when ``digest`` is given and ``body`` has another (schema 1 is digested without its
            signatures)
        :raises UnsupportedManifest: when it is no manifest, too large, or claims to be an image and an index at once
        """
        if len(body) > LARGEST:
            raise UnsupportedManifest(f"the manifest has {len(body)} bytes, more than the {LARGEST} that are read")
        fields = _decode(body)
        media_type = _media_type(fields, content_type)
        actual = _digest(body, fields, media_type, digest.algorithm if digest else "sha256")
        if digest is not None and digest != actual:
            raise DigestMismatch(f"the manifest asked for as {digest!s} is {actual!s}")
        manifest = cls(media_type, body, actual)
        manifest.named()
        return manifest

    @property
    def size(self) -> int:
        """Bytes of ``body``."""
        return len(self.body)

    @property
    def is_index(self) -> bool:
        """Whether it lists manifests."""
        return self.media_type in media.INDEXES

    @property
    def is_image(self) -> bool:
        """Whether it is an image manifest (or an artifact in its shape): a config and layers."""
        return self.media_type in media.IMAGES

    @property
    def descriptor(self) -> Descriptor:
        """The descriptor of the manifest itself."""
        return Descriptor(self.media_type, self.digest, len(self.body))

    def fields(self) -> dict[str, Any]:
        """The decoded JSON object."""
        return _decode.__wrapped__(self.body)  # the caller's own

    def named(self) -> Named:
        """What has to be there before this manifest."""
        decode = _named if len(self.body) <= _REMEMBERED else _named.__wrapped__
        return decode(self.media_type, self.body)

    def children(self) -> tuple[Descriptor, ...]:
        """The manifests an index lists, in order; nothing for an image."""
        return self.named().children

    def config(self) -> Descriptor | None:
        """The config of an image or artifact."""
        if not self.is_image:
            return None
        return Descriptor.read(self.fields().get("config"))

    def layers(self) -> tuple[Descriptor, ...]:
        """The layers of an image, oldest first; the blobs of an artifact."""
        return _layers(self.fields(), self.media_type)

    def blobs(self) -> tuple[Descriptor, ...]:
        """Every blob that has to be there before this manifest: layers, then config; each digest once."""
        return self.named().blobs

    @property
    def subject(self) -> Descriptor | None:
        """The manifest this one is attached to (image-spec, manifest.md, "subject")."""
        subject = self.fields().get("subject")
        return Descriptor.read(subject) if isinstance(subject, dict) else None

    @property
    def annotations(self) -> dict[str, str]:
        """The manifest's own annotations."""
        found = self.fields().get("annotations")
        return {str(k): str(v) for k, v in found.items()} if isinstance(found, dict) else {}

    @property
    def artifact_type(self) -> str:
        """``artifactType``, else the config's media type for a manifest with one (distribution-spec, "Listing
        Referrers")."""
        fields = self.fields()
        if found := fields.get("artifactType"):
            return str(found)
        config = fields.get("config")
        return str(config.get("mediaType", "")) if isinstance(config, dict) else ""

    def __repr__(self) -> str:
        return f"Manifest({self.media_type!r}, {len(self.body)} bytes, {str(self.digest)!r})"


_MOST_VALUES = 1_000_000
"""Ten for each of 100,000 layers; as many take 100 MB."""

_REMEMBERED = 256 * 1024
"""Bytes of manifest up to which what it names is kept for whoever asks next, which is soon."""


@lru_cache(maxsize=128)
def _named(media_type: str, body: bytes) -> Named:
    fields = _decode(body)
    children = _descriptors(fields, "manifests") if media_type in media.INDEXES else ()
    if media_type in media.SCHEMA1:
        found = _schema1_blobs(fields)
    else:
        found = [*_layers(fields, media_type)]
        if media_type in media.IMAGES:
            found.append(Descriptor.read(fields.get("config")))
    return Named(children, tuple({blob.digest: blob for blob in found}.values()))


def _layers(fields: dict[str, Any], media_type: str) -> tuple[Descriptor, ...]:
    if media_type in media.IMAGES:
        return _descriptors(fields, "layers")
    return _descriptors(fields, "blobs") if media_type == media.OCI_ARTIFACT else ()


@lru_cache(maxsize=1)
def _decode(body: bytes) -> dict[str, Any]:
    """The JSON object, shared by the few that look at a manifest when it has come: for reading only."""
    if is_heavy(body, _MOST_VALUES):
        raise UnsupportedManifest(f"the manifest holds more than {_MOST_VALUES} values")
    try:
        fields = msgspec.json.decode(body)
    except (msgspec.DecodeError, RecursionError, UnicodeDecodeError) as exc:
        raise UnsupportedManifest(f"the manifest is not JSON: {str(exc)[:120]}") from exc
    if not isinstance(fields, dict):
        raise UnsupportedManifest("the manifest is not a JSON object")
    if "manifests" in fields and ("layers" in fields or "config" in fields):
        raise UnsupportedManifest("the manifest claims to be an image and an index at once (CVE-2021-41190)")
    return fields


def _media_type(fields: dict[str, Any], content_type: str) -> str:
    declared = content_type.partition(";")[0].strip()
    inner = fields.get("mediaType")
    for candidate in (declared, inner):
        if isinstance(candidate, str) and candidate in media.MANIFESTS:
            return _same_shape(candidate, fields)
    if "manifests" in fields:
        return media.OCI_INDEX
    if "fsLayers" in fields:
        return media.DOCKER_SCHEMA1_SIGNED if "signatures" in fields else media.DOCKER_SCHEMA1
    if "layers" in fields or "config" in fields:
        return media.OCI_MANIFEST
    raise UnsupportedManifest(f"no known kind of manifest: {str(inner or declared or 'no media type')[:120]}")


def _same_shape(media_type: str, fields: dict[str, Any]) -> str:
    wrong = "manifests" in fields if media_type in media.IMAGES else media_type in media.INDEXES and "layers" in fields
    if wrong:
        raise UnsupportedManifest(f"the manifest says {media_type} and is shaped otherwise (CVE-2021-41190)")
    return media_type


def _digest(body: bytes, fields: dict[str, Any], media_type: str, algorithm: str) -> Digest:
    payload = _schema1_payload(body, fields) if media_type in media.SCHEMA1 else body
    return Digest.of(payload, algorithm)


def _schema1_payload(body: bytes, fields: dict[str, Any]) -> bytes:
    """The signed part of a schema 1 manifest: its body up to ``formatLength`` and the tail the signature names."""
    signatures = fields.get("signatures")
    if not isinstance(signatures, list) or not signatures:
        return body
    try:
        protected = json.loads(_base64url(signatures[0]["protected"]))
        return body[: int(protected["formatLength"])] + _base64url(protected["formatTail"])
    except (KeyError, TypeError, ValueError, OverflowError, RecursionError, binascii.Error) as exc:
        raise UnsupportedManifest(f"the schema 1 manifest has an unreadable signature: {exc}") from exc


def _base64url(text: str) -> bytes:
    return base64.urlsafe_b64decode(text + "=" * (-len(text) % 4))


def _descriptors(fields: dict[str, Any], key: str) -> tuple[Descriptor, ...]:
    found = fields.get(key)
    if found is None:
        return ()
    if not isinstance(found, list):
        raise UnsupportedManifest(f"{key!r} of the manifest is not a list")
    return tuple(Descriptor.read(item) for item in found)


def _schema1_blobs(fields: dict[str, Any]) -> list[Descriptor]:
    found = fields.get("fsLayers")
    if not isinstance(found, list):
        raise UnsupportedManifest("'fsLayers' of the schema 1 manifest is not a list")
    sums = [str(item.get("blobSum", "")) if isinstance(item, dict) else "" for item in found]
    known = [Descriptor.read({"mediaType": media.DOCKER_LAYER_GZIP, "digest": s, "size": 0}) for s in sums]
    return [Descriptor(blob.media_type, blob.digest, -1) for blob in known]
