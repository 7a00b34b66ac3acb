"""Images as they are edited: manifests and configs at hand, layers known by where they are.

An :class:`Image` is one platform's, an :class:`Index` lists several, and an :class:`Opaque` is what an index lists
besides: attestations, artifacts. All are values; :func:`load` is the only thing here that reads anything.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from typing import Any, TypeAlias

import msgspec

from asyncrane.abc import Place, Reader, Source
from asyncrane.archive.whole import read_blob
from asyncrane.errors import ContentError, UnsupportedManifest
from asyncrane.images.serialise import decode, items, table
from asyncrane.oci import media
from asyncrane.oci.descriptor import Descriptor
from asyncrane.oci.digest import Digest
from asyncrane.oci.manifest import Manifest
from asyncrane.oci.nesting import Nesting
from asyncrane.oci.platform import Platform
from asyncrane.oci.select import ATTESTS, check_image, pick, strip
from asyncrane.together import all_of

Blob: TypeAlias = bytes | Reader
"""The content of a new blob, or what opens it."""


class Image(msgspec.Struct, frozen=True):
    """One platform's image.

    Its blobs are at ``home``, but for those that ``origins`` says are elsewhere and the new ones, which are in
    ``added``.
    """

    manifest: Manifest
    config: bytes
    home: Place
    origins: Mapping[Digest, Place] = {}
    added: Mapping[Digest, Blob] = {}

    @property
    def name(self) -> str:
        """What errors call it."""
        return f"{self.home}@{self.manifest.digest!s}"

    def fields(self) -> dict[str, Any]:
        """The manifest's JSON object, the caller's to change."""
        return decode(self.manifest.body, f"manifest {self.name}")

    def settings(self) -> dict[str, Any]:
        """The config's JSON object, the caller's to change.

        :raises ContentError: when the config is none
        """
        return decode(self.config, f"the config of {self.name}")

    @property
    def platform(self) -> Platform:
        """What its config says that it runs on."""
        return Platform.read(self.settings()) or Platform()

    def diff_ids(self) -> tuple[str, ...]:
        """The digests of its layers' tars, oldest first.

        :raises ContentError: when there are not as many as layers
        """
        config = f"the config of {self.name}"
        found: list[str] = items(table(self.settings(), "rootfs", config), "diff_ids", config, str)
        layers = len(self.manifest.layers())
        if len(found) != layers:
            raise ContentError(f"{config} has {len(found)} diff_ids for {layers} layers")
        return tuple(found)

    def origin(self, blob: Digest) -> Place | None:
        """Where a blob is; ``None`` for a new one."""
        return None if blob in self.added else self.origins.get(blob, self.home)


class Opaque(msgspec.Struct, frozen=True):
    """An entry of an index that is no image to edit; its ``manifest`` is read when it has to go along."""

    descriptor: Descriptor
    home: Place
    manifest: Manifest | None = None


class Index(msgspec.Struct, frozen=True):
    """A multi-arch image: ``children`` in the order of its entries."""

    manifest: Manifest
    children: tuple[Image | Index | Opaque, ...]
    home: Place


View: TypeAlias = Image | Index


def images(view: Image | Index | Opaque) -> Iterator[Image]:
    """Every image in ``view``, in order."""
    if isinstance(view, Image):
        yield view
    elif isinstance(view, Index):
        for child in view.children:
            yield from images(child)


def opaques(view: Image | Index | Opaque) -> Iterator[Opaque]:
    """Everything else that ``view`` lists."""
    if isinstance(view, Opaque):
        yield view
    elif isinstance(view, Index):
        for child in view.children:
            yield from opaques(child)


def manifests(view: Image | Index | Opaque) -> Iterator[Manifest]:
    """Every manifest in ``view`` that is at hand, children before parents."""
    if isinstance(view, Index):
        for child in view.children:
            yield from manifests(child)
    if view.manifest is not None:
        yield view.manifest


async def load(source: Source, identifier: str, *, platforms: Sequence[Platform] = ()) -> View:
    """The image that ``identifier`` names, manifests and configs. One of ``platforms`` chooses that image, several an
    index of these (as in :mod:`asyncrane.oci.select`).

    :raises InvalidPlatform: when it has not all of them
    :raises UnsupportedManifest: when it is no image, or one of schema 1
    """
    root = await source.manifest(identifier)
    while root.is_index and len(platforms) == 1:
        root = await source.manifest(str(pick(root, platforms[0]).digest))
    if root.is_index:
        return await _index(source, strip(root, platforms) if platforms else root, Nesting(), 0)
    image = await _image(source, root)
    if platforms:
        check_image(image.platform, platforms)
    return image


async def load_rest(source: Source, view: View) -> View:
    """``view`` with the manifests of everything that goes along unseen."""
    if isinstance(view, Image):
        return view
    children: list[Image | Index | Opaque] = []
    for child in view.children:
        if isinstance(child, Opaque):
            manifest = child.manifest or await source.manifest(str(child.descriptor.digest))
            children.append(msgspec.structs.replace(child, manifest=manifest))
        else:
            children.append(await load_rest(source, child))
    return msgspec.structs.replace(view, children=tuple(children))


async def _index(source: Source, manifest: Manifest, nesting: Nesting, depth: int) -> Index:
    entries = nesting.entries(manifest, depth)
    children = await all_of(entries, lambda entry: _child(source, entry, nesting, depth))
    return Index(manifest, tuple(children), source.place)


async def _child(source: Source, entry: Descriptor, nesting: Nesting, depth: int) -> Image | Index | Opaque:
    unknown = entry.platform is not None and entry.platform.os == "unknown"
    if unknown or ATTESTS in entry.annotations or entry.media_type not in media.IMAGES | media.INDEXES:
        return Opaque(entry, source.place)
    manifest = await source.manifest(str(entry.digest))
    if manifest.is_index:
        return await _index(source, manifest, nesting, depth + 1)
    if _kind(manifest) not in media.CONFIGS:
        return Opaque(entry, source.place, manifest)
    return await _image(source, manifest)


async def _image(source: Source, manifest: Manifest) -> Image:
    name = f"{source.place}@{manifest.digest!s}"
    config = manifest.config()
    if config is None:
        raise UnsupportedManifest(f"{name} is a {manifest.media_type}, which cannot be edited")
    if config.media_type not in media.CONFIGS:
        raise UnsupportedManifest(f"{name} is no image: its config is a {config.media_type or 'blob without a type'}")
    return Image(manifest, await read_blob(source, config), source.place)


def _kind(manifest: Manifest) -> str:
    config = manifest.config()
    return config.media_type if config is not None else ""
