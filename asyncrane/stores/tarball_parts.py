"""What those who write archives have in common: the images to be written, and the blobs they are made of."""

from __future__ import annotations

import os
from typing import Any

import msgspec

from asyncrane.errors import InvalidDigest, UnsupportedManifest
from asyncrane.oci.descriptor import Descriptor
from asyncrane.oci.digest import Digest
from asyncrane.oci.manifest import Manifest


class Part(msgspec.Struct, frozen=True):
    """Where in a file a blob of ``size`` bytes is."""

    offset: int
    size: int

    def read(self, descriptor: int) -> bytes:
        """All of it, from the file open as ``descriptor``; for small ones, in a thread."""
        return os.pread(descriptor, self.size, self.offset)


class PartFile:
    """Reads one part from start to end, for what wants a file. For use in a thread."""

    def __init__(self, descriptor: int, part: Part) -> None:
        self._descriptor = descriptor
        self._at = part.offset
        self._end = part.offset + part.size

    def read(self, size: int, /) -> bytes:
        """Up to ``size`` bytes."""
        data = os.pread(self._descriptor, min(size, self._end - self._at), self._at)
        self._at += len(data)
        return data


class SavedImage(msgspec.Struct, frozen=True):
    """An image of an archive, and what it is called there."""

    manifest: Manifest
    names: tuple[str, ...]

    @property
    def config(self) -> Descriptor:
        """Its config."""
        found = self.manifest.config()
        assert found is not None  # noqa: S101  (only images are saved)
        return found


def config_of(body: bytes, what: str) -> dict[str, Any]:
    """The config of an image.

    :raises UnsupportedManifest: when it is none; ``what`` says whose it was to be
    """
    try:
        fields = msgspec.json.decode(body)
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError) as exc:
        raise UnsupportedManifest(f"{what} is no image's: {str(exc)[:120]}") from exc
    if not isinstance(fields, dict):
        raise UnsupportedManifest(f"{what} is no image's: it is not a JSON object")
    return fields


def diff_ids(config: dict[str, Any], layers: int, what: str) -> list[Digest]:
    """The digests of the tars of an image's layers, oldest first.

    :raises UnsupportedManifest: when it does not name one for each of its ``layers``
    """
    rootfs = config.get("rootfs")
    found = rootfs.get("diff_ids") if isinstance(rootfs, dict) else None
    try:
        ids = [Digest.parse(text) for text in found or ()]
    except (InvalidDigest, TypeError) as exc:
        raise UnsupportedManifest(f"{what} is no image's: {exc}") from exc
    if len(ids) != layers:
        raise UnsupportedManifest(f"{what} has {len(ids)} diff_ids for {layers} layers: no image's")
    return ids


def written(descriptor: Descriptor) -> dict[str, Any]:
    """The descriptor object, its fields in crane's order: what is made here is what crane would make."""
    fields: dict[str, Any] = {
        "mediaType": descriptor.media_type,
        "size": descriptor.size,
        "digest": str.__str__(descriptor.digest),
    }
    if descriptor.urls:
        fields["urls"] = list(descriptor.urls)
    if descriptor.annotations:
        fields["annotations"] = descriptor.annotations
    return fields
