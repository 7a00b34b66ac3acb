"""Making indexes out of images, adding to them, taking away, and listing what they have, wherever they are."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from asyncrane.abc import Source
from asyncrane.archive.whole import read_blob
from asyncrane.errors import ContentError, InvalidInput, UnsupportedManifest
from asyncrane.images import index as edits
from asyncrane.images.serialise import decode
from asyncrane.images.view import Index
from asyncrane.oci import media
from asyncrane.oci.descriptor import Descriptor
from asyncrane.oci.digest import Digest
from asyncrane.oci.manifest import Manifest
from asyncrane.oci.platform import Platform
from asyncrane.operations.copy import copy
from asyncrane.operations.places import Places
from asyncrane.operations.publish import Published, destination, publish
from asyncrane.session import Session
from asyncrane.stores.layout import open_layout
from asyncrane.stores.locate import Location, parse_location


async def index_append(
    session: Session,
    base: str | None,
    manifests: Sequence[str],
    *,
    tag: str | None = None,
    flatten: bool = True,
    docker_empty_base: bool = False,
    nondistributable: bool = False,
) -> Published | None:
    """An index of what ``base`` lists, and of ``manifests``; without ``base`` of these alone. Of an index among them
    its entries are listed, or itself where not ``flatten``. It goes to ``tag``, or to where ``base`` is; everything in
    it goes there first.

    A ``base`` that is a directory (crane's rule: it exists, or begins with ``.`` or ``/``) is an OCI layout, to which
    all are added as they are; nothing is returned then.

    :raises InvalidInput: when it is not said where to put it, or what to put into it
    :raises UnsupportedManifest: when ``base`` is not an index, or what it is to list cannot stand in one
    """
    if not manifests:
        raise InvalidInput("no manifests to append: name them with --manifest")
    if base is not None and is_local(base):
        if tag is not None or docker_empty_base:
            raise InvalidInput(
                f"{base} is a directory: what is appended has no tag there (for an index in it: oci:DIR:REF)"
            )
        await _append_to_layout(session, Path(base), manifests, flatten=flatten)
        return None
    if base is None and tag is None:
        raise InvalidInput("an index without a base needs a --tag to go to")
    if base is not None and docker_empty_base:
        raise InvalidInput("--docker-empty-base means nothing where there is a base")
    origin = parse_location(base) if base is not None else None
    target = destination(origin, tag)
    async with Places(session) as places:
        additions: list[edits.Addition] = []
        for name in manifests:
            for location in await _located(places, name):
                additions += await _additions(session, places, location, flatten=flatten)
        if origin is not None:
            before = await _load(session, places, origin)
        else:
            before = edits.empty_index(additions[0].what.home, docker=docker_empty_base)
        after, converted = edits.append_manifests(before, additions, docker=docker_empty_base)
        return await publish(
            session, places, after, target, nondistributable=nondistributable, notes=_converted(after, converted)
        )


async def index_filter(
    session: Session,
    image: str,
    platforms: Sequence[Platform],
    *,
    tag: str | None = None,
    nondistributable: bool = False,
) -> Published:
    """What the index ``image`` has for ``platforms``, with the attestations of that, to ``tag`` or back to where it is.
    An empty field of a platform means any.

    :raises InvalidInput: when no platform is given
    :raises InvalidPlatform: when it has nothing for any of them
    :raises UnsupportedManifest: when ``image`` is not an index
    """
    if not platforms:
        raise InvalidInput("which platforms to keep? (--platform OS[/ARCH[/VARIANT]])")
    origin = parse_location(image)
    target = destination(origin, tag)
    async with Places(session) as places:
        before = await _load(session, places, origin)
        after, missing = edits.filter_platforms(before, platforms)
        notes = tuple(f"nothing for {platform!s} in {origin}" for platform in missing)
        return await publish(session, places, after, target, nondistributable=nondistributable, notes=notes)


async def index_remove(
    session: Session, image: str, digests: Sequence[Digest], *, tag: str | None = None, nondistributable: bool = False
) -> Published:
    """The index ``image`` without the entries of ``digests`` and their attestations, to ``tag`` or back to where it is.

    :raises UnsupportedManifest: when it is not an index, or does not list one of them
    """
    origin = parse_location(image)
    target = destination(origin, tag)
    async with Places(session) as places:
        after = edits.remove_manifests(await _load(session, places, origin), digests)
        return await publish(session, places, after, target, nondistributable=nondistributable)


async def index_list(session: Session, image: str) -> tuple[Descriptor, ...]:
    """What the index ``image`` lists, in order; of a directory what its ``index.json`` lists.

    :raises UnsupportedManifest: when it is not an index
    """
    if is_local(image):
        async with open_layout(image) as layout:
            return tuple(entry.descriptor for entry in (await layout.index()).entries)
    location = parse_location(image)
    async with Places(session) as places:
        found = await places.source(location)
        manifest = await session.source(found.place).manifest(found.identifier)
    edits.check_index(manifest, str(location))
    return manifest.children()


def is_local(text: str) -> bool:
    """Whether crane takes ``text`` for a path: there is something, or it begins with ``.`` or ``/``."""
    return text.startswith((".", "/")) or Path(text).exists()


def _is_directory(text: str) -> bool:
    return Path(text).is_dir()


async def _located(places: Places, name: str) -> list[Location]:
    """What is meant by ``name``: with a path of crane's all in a layout, or what is in an archive."""
    if not is_local(name):
        return [parse_location(name)]
    if not _is_directory(name):
        return [Location("docker-archive", name)]
    layout = await places.store(Location("oci", name))
    return [Location("oci", name, None, entry.descriptor.digest) for entry in await layout.index()]


async def _load(session: Session, places: Places, location: Location) -> Index:
    found = await places.source(location)
    source = session.source(found.place)
    manifest = await source.manifest(found.identifier)
    edits.check_index(manifest, str(location))
    return await edits.load_index(source, manifest)


async def _additions(session: Session, places: Places, location: Location, *, flatten: bool) -> list[edits.Addition]:
    found = await places.source(location)
    source = session.source(found.place)
    manifest = await source.manifest(found.identifier)
    if manifest.media_type in media.SCHEMA1:
        raise UnsupportedManifest(f"{location} is of schema 1, which an index cannot list")
    if manifest.is_index:
        index = await edits.load_index(source, manifest)
        return edits.parts(index) if flatten else [edits.whole(index)]
    return [edits.listed(manifest, source.place, platform=await _platform(source, manifest))]


async def _platform(source: Source, manifest: Manifest) -> Platform | None:
    """What the image's config says, if there is one that says something."""
    config = manifest.config()
    if config is None or config.media_type not in media.CONFIGS:
        return None
    try:
        return Platform.read(decode(await read_blob(source, config), "the config"))
    except ContentError:
        return None


async def _append_to_layout(session: Session, path: Path, manifests: Sequence[str], *, flatten: bool) -> None:
    """One after the other, so that ``index.json`` has them in their order."""
    images: list[Location] = []
    async with Places(session) as places:
        named = [location for name in manifests for location in await _located(places, name)]
        for location in named:
            found = await places.source(location)
            manifest = await session.source(found.place).manifest(found.identifier)
            digests = [child.digest for child in manifest.children()] if flatten else []
            images += [location.at(digest) for digest in digests or [manifest.digest]]
    for image in images:
        await copy(session, str(image), f"oci:{path}")


def _converted(index: Index, count: int) -> tuple[str, ...]:
    if not count:
        return ()
    family = "Docker's" if index.manifest.media_type == media.DOCKER_LIST else "OCI's"
    return (f"{count} manifest{'s' * (count > 1)} given {family} media types: an index does not mix the two",)
