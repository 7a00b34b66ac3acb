"""Descriptors (image-spec, descriptor.md)."""

from __future__ import annotations

import base64
import binascii
import sys
from typing import Any

import msgspec

from asyncrane.errors import InvalidDigest, UnsupportedManifest
from asyncrane.oci.digest import Digest
from asyncrane.oci.platform import Platform


class Descriptor(msgspec.Struct, frozen=True, omit_defaults=True, gc=False):
    """What a blob or manifest is and how to check it: media type, digest, size in bytes (-1: schema 1 does not say)."""

    media_type: str
    digest: Digest
    size: int
    platform: Platform | None = None
    annotations: dict[str, str] = {}
    urls: tuple[str, ...] = ()
    artifact_type: str = ""
    data: bytes | None = None

    @classmethod
    def read(cls, fields: Any) -> Descriptor:
        """Read a descriptor object of a manifest.

        :raises UnsupportedManifest: when it is not one, or its digest or size cannot be used
        """
        if not isinstance(fields, dict):
            raise UnsupportedManifest("a descriptor is not a JSON object")
        size = fields.get("size")
        if not isinstance(size, int) or isinstance(size, bool) or size < 0:
            raise UnsupportedManifest(f"a descriptor has no usable size: {str(size)[:40]}")
        try:
            digest = Digest.parse(str(fields.get("digest", "")))
        except InvalidDigest as exc:
            raise UnsupportedManifest(f"a descriptor has no usable digest: {exc}") from exc
        media_type = sys.intern(str(fields.get("mediaType", "")))
        if len(fields) <= 3 and "mediaType" in fields:  # as nearly all are
            return cls(media_type, digest, size)
        urls, annotations = fields.get("urls"), fields.get("annotations")
        return cls(
            media_type=media_type,
            digest=digest,
            size=size,
            platform=Platform.read(fields.get("platform")),
            annotations={str(k): str(v) for k, v in annotations.items()} if isinstance(annotations, dict) else {},
            urls=tuple(str(u) for u in urls) if isinstance(urls, list) else (),
            artifact_type=str(fields.get("artifactType") or ""),
            data=_inline(fields.get("data"), digest, size),
        )


def _inline(text: Any, digest: Digest, size: int) -> bytes | None:
    """The embedded content, if it is what the descriptor promises (image-spec, descriptor.md, "data")."""
    if not isinstance(text, str):
        return None
    try:
        data = base64.b64decode(text, validate=True)
    except (binascii.Error, ValueError):
        return None
    return data if len(data) == size and Digest.of(data, digest.algorithm) == digest else None
