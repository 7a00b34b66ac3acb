"""Looking at an image without copying it: its digest, manifest, config and blobs."""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any

import msgspec

from asyncrane.abc import Source
from asyncrane.errors import DigestMismatch, InvalidReference, SizeMismatch, UnsupportedManifest
from asyncrane.oci.descriptor import Descriptor
from asyncrane.oci.manifest import Manifest
from asyncrane.oci.platform import DEFAULT_PLATFORM, Platform
from asyncrane.oci.select import pick
from asyncrane.operations.places import Found, located
from asyncrane.session import Session
from asyncrane.stores.locate import Location, parse_location

_LARGEST_CONFIG = 64 * 1024 * 1024


class Image(msgspec.Struct, frozen=True):
    """One image: what it was asked for as, its manifest, and the bytes of its config."""

    reference: Location
    manifest: Manifest
    config: bytes

    @property
    def platform(self) -> Platform | None:
        """What the config says the image runs on."""
        return Platform.read(self.fields())

    def fields(self) -> dict[str, Any]:
        """The decoded config; empty for an artifact whose config is no JSON object."""
        try:
            found = msgspec.json.decode(self.config)
        except (msgspec.DecodeError, UnicodeDecodeError, RecursionError):
            return {}
        return found if isinstance(found, dict) else {}

    def __repr__(self) -> str:
        return f"Image({str(self.reference)!r}, {str(self.manifest.digest)!r})"


async def resolve(session: Session, image: str, *, platform: Platform | None = None) -> Descriptor:
    """What ``image`` names, wherever it is, or the image for ``platform`` in it.

    :raises InvalidPlatform: when it has none for ``platform``
    :raises NotFound: when it names nothing
    """
    async with located(session, image) as found:
        source = session.source(found.place)
        if platform is not None:
            return (await _chosen(source, found, platform)).descriptor
        return await source.resolve(found.identifier)


async def manifest(session: Session, image: str, *, platform: Platform | None = None) -> Manifest:
    """The manifest ``image`` names, or that of its image for ``platform``.

    :raises InvalidPlatform: when it has none for ``platform``
    :raises NotFound: when it names nothing
    """
    async with located(session, image) as found:
        source = session.source(found.place)
        if platform is None:
            return await source.manifest(found.identifier)
        return await _chosen(source, found, platform)


async def inspect(session: Session, image: str, *, platform: Platform | None = None) -> Image:
    """One image with its config; of an index the one for ``platform`` (default linux/amd64).

    :raises InvalidPlatform: when it has none for that platform
    :raises NotFound: when it names nothing
    :raises UnsupportedManifest: when it has no config, as schema 1
    """
    location = parse_location(image)
    async with located(session, location) as found:
        source = session.source(found.place)
        chosen = await _chosen(source, found, platform or DEFAULT_PLATFORM)
        described = chosen.config()
        if described is None:
            raise UnsupportedManifest(f"{location}: a {chosen.media_type} has no config")
        if described.size > _LARGEST_CONFIG:
            raise SizeMismatch(f"{location}: the config has {described.size} bytes, more than {_LARGEST_CONFIG}")
        async with source.open(described) as chunks:
            content = b"".join([chunk async for chunk in _verified(chunks, described, str(found.place))])
    return Image(location, chosen, content)


@asynccontextmanager
async def blob(session: Session, blob: str) -> AsyncIterator[AsyncIterator[bytes]]:
    """The bytes of the blob ``repository@digest``, checked: the last step raises if they are not that blob.

    :raises InvalidReference: when ``blob`` names no digest
    :raises NotFound: when it is not there
    :raises DigestMismatch: when the bytes hash to another digest
    """
    location = parse_location(blob)
    if location.digest is None:
        raise InvalidReference(f"not a blob: {blob!r} (expected REPOSITORY@DIGEST)")
    described = Descriptor("application/octet-stream", location.digest, -1)
    async with (
        located(session, location) as found,
        session.source(found.place).open(described) as chunks,
    ):
        yield _verified(chunks, described, str(found.place))


async def _chosen(source: Source, image: Found, platform: Platform) -> Manifest:
    """The image for ``platform``, through as many indexes as there are; a single image is what it is."""
    found = await source.manifest(image.identifier)
    while found.is_index:
        found = await source.manifest(pick(found, platform).digest)
    return found


async def _verified(chunks: AsyncIterator[bytes], blob: Descriptor, where: str) -> AsyncIterator[bytes]:
    hasher, size = blob.digest.hasher(), 0
    async for chunk in chunks:
        hasher.update(chunk)
        size += len(chunk)
        yield chunk
    actual = f"{blob.digest.algorithm}:{hasher.hexdigest()}"
    if actual != blob.digest:
        raise DigestMismatch(f"{where}: blob {blob.digest!s} arrived as {actual} ({size} bytes)")
