"""Images in a tar file to read from: as docker saves them (every version, and podman, skopeo, crane, kaniko, bazel), as
an OCI layout in a tar, or as both in one.

    manifest.json    the images: names, config, layers (moby ``image/tarexport``)
    index.json       the same as an OCI layout, where it is one, too (docker from version 25 on, buildkit)

Where an image is there in both ways and complete as the OCI image it was pushed or pulled as, that is what it is: it
keeps its digest (J3). Else its manifest is made of the config and the layers, the same every time, and as crane makes
it. Names are compared as references, and by tag alone where that says enough.
"""

from __future__ import annotations

import json
from collections.abc import AsyncIterator, Callable, Sequence
from contextlib import ExitStack
from typing import Any

import anyio
import anyio.to_thread
import msgspec

from asyncrane.abc import Place, Reader, Stream
from asyncrane.archive.tarindex import Member
from asyncrane.errors import (
    AsyncraneError,
    ContentError,
    DigestMismatch,
    InvalidDigest,
    InvalidReference,
    NotFound,
)
from asyncrane.oci import media
from asyncrane.oci.descriptor import Descriptor
from asyncrane.oci.digest import Digest
from asyncrane.oci.manifest import LARGEST, Manifest
from asyncrane.oci.reference import Reference
from asyncrane.stores.contents import Contents
from asyncrane.stores.files import Extent
from asyncrane.stores.imageindex import LARGEST_INDEX, ImageIndex
from asyncrane.stores.layoutfiles import check_marker
from asyncrane.stores.tarball_layers import Layers, member_reader
from asyncrane.stores.tarball_opening import OpenArchive
from asyncrane.stores.tarball_parts import config_of, diff_ids, written

LARGEST_CONFIG = 8 * 1024 * 1024
_SHOWN = 20
_PLAIN = frozenset({media.OCI_LAYER, media.DOCKER_LAYER_GZIP.removesuffix(".gzip")})
_CONFIG_NAME_LENGTH = 64


class _Saved(msgspec.Struct, frozen=True, rename="pascal"):
    """An entry of ``manifest.json``."""

    config: str
    repo_tags: tuple[str, ...] | None = None
    layers: tuple[str, ...] | None = None
    layer_sources: dict[str, dict[str, Any]] | None = None

    @property
    def names(self) -> tuple[str, ...]:
        """What the image is called."""
        return self.repo_tags or ()


class ArchiveSource:
    """The images of one open archive: a Source and a Lister. They are asked for by name, tag, digest, or as ``@0``."""

    def __init__(self, place: Place, archive: OpenArchive, stack: ExitStack) -> None:
        self._place = place
        self._archive = archive
        self._layers = Layers(archive, stack)
        self._saved: tuple[_Saved, ...] = ()
        self._layout: LayoutPart | None = None
        self._made: dict[int, Manifest] = {}
        self._locks: dict[int, anyio.Lock] = {}
        self._manifests: dict[Digest, Manifest] = {}
        self._blobs: dict[Digest, tuple[int, Reader]] = {}

    async def load(self) -> None:
        """Read what images there are.

        :raises ContentError: when the archive holds none, or what says so cannot be read
        """
        index, name = self._archive.index, self._archive.name
        if "oci-layout" in index and "index.json" in index:
            check_marker(await self._archive.whole("oci-layout", limit=LARGEST), name)
            body = await self._archive.whole("index.json", limit=LARGEST_INDEX)
            self._layout = LayoutPart(self._place, self._archive, body)
        if "manifest.json" in index:
            self._saved = _read_saved(await self._archive.whole("manifest.json", limit=LARGEST), name)
        elif self._layout is None:
            raise ContentError(f"{name} is no image archive: it has neither a manifest.json nor an index.json")

    @property
    def place(self) -> Place:
        """Where this is."""
        return self._place

    @property
    def layout(self) -> LayoutPart | None:
        """The archive as an OCI layout, if it is one."""
        return self._layout

    async def sole(self) -> Descriptor:
        """The image that is meant where none is named: the only one.

        :raises NotFound: when there is none
        :raises InvalidReference: when there are several; the message names them
        """
        if not self._saved and self._layout is not None:
            return await self._layout.sole()
        if not self._saved:
            raise NotFound(f"{self._archive.name} holds no image", status=404)
        if len(self._saved) > 1:
            raise InvalidReference(
                f"{self._archive.name} holds {len(self._saved)} images, say which one: {self._choice()}"
            )
        return (await self._image(0)).descriptor

    async def resolve(self, identifier: str) -> Descriptor:
        """What a name or digest names.

        :raises NotFound: when it names nothing
        :raises InvalidReference: when it may be several
        """
        return (await self.manifest(identifier)).descriptor

    async def manifest(self, identifier: str) -> Manifest:
        """The manifest a name or digest names; made, where the archive has none.

        :raises NotFound: when it names nothing
        :raises InvalidReference: when it may be several
        :raises ContentError: when what it names is not complete, or not what it says
        """
        digest = _digest(identifier)
        if digest is not None:
            return await self._by_digest(digest)
        if not self._saved and self._layout is not None:
            return await self._layout.manifest(identifier)
        return await self._image(self._find(identifier))

    def open(self, blob: Descriptor, *, start: int = 0) -> Stream:
        """The bytes of ``blob`` from offset ``start`` on; the digest is the reader's to check.

        :raises NotFound: when it is part of no image that was asked for
        """
        if (found := self._blobs.get(blob.digest)) is not None:
            return found[1](start)
        if self._layout is not None:
            return self._layout.open(blob, start=start)
        raise NotFound(f"{self._archive.name} has no blob {blob.digest!s}", status=404)

    async def tags(self) -> AsyncIterator[str]:
        """What the images are called, in the order of the archive."""
        if not self._saved and self._layout is not None:
            async for name in self._layout.tags():
                yield name
        for saved in self._saved:
            for name in saved.names:
                yield name

    async def _by_digest(self, digest: Digest) -> Manifest:
        if (known := self._manifests.get(digest)) is not None:
            return known
        if self._layout is not None and self._layout.holds(digest):
            return await self._layout.manifest(str(digest))
        for number in range(len(self._saved)):
            if (await self._image(number)).digest == digest:
                return self._manifests[digest]
        raise NotFound(f"{self._archive.name} has no manifest {digest!s}", status=404)

    def _find(self, name: str) -> int:
        """Which image is called ``name``: by this very name, by one that means the same, by its tag."""
        if name.startswith("@") and name[1:].isdigit() and int(name[1:]) < len(self._saved):
            return int(name[1:])
        wanted = _parsed(name)
        matches: tuple[Callable[[str], bool], ...] = (
            lambda other: other == name,
            lambda other: wanted is not None and _parsed(other) == wanted,
            lambda other: (parsed := _parsed(other)) is not None and parsed.tag == name,
        )
        for match in matches:
            found = [at for at, saved in enumerate(self._saved) if any(match(other) for other in saved.names)]
            if len(found) > 1:
                choice, where = self._choice(found), self._archive.name
                raise InvalidReference(f"{where} has {len(found)} images called {name!r}, say which one: {choice}")
            if found:
                return found[0]
        raise NotFound(f"{self._archive.name} has no image {name!r}; there is: {self._choice()}", status=404)

    def _choice(self, numbers: Sequence[int] | None = None) -> str:
        shown = range(len(self._saved)) if numbers is None else numbers
        names = [name for at in shown for name in (self._saved[at].names or (f"@{at}",))]
        more = f" and {len(names) - _SHOWN} more" if len(names) > _SHOWN else ""
        return (", ".join(names[:_SHOWN]) or "nothing") + more

    # one image

    async def _image(self, number: int) -> Manifest:
        async with self._locks.setdefault(number, anyio.Lock()):
            if number not in self._made:
                made = self._made[number] = await self._make(self._saved[number])
                self._manifests[made.digest] = made
        return self._made[number]

    async def _make(self, saved: _Saved) -> Manifest:
        config, body = await self._config(saved.config)
        if self._layout is not None:
            found = await anyio.to_thread.run_sync(self._layout.image_of, config.digest)
            if found is not None:
                return found
        described = await self._described(saved, body)
        if any(layer.media_type == media.OCI_LAYER_ZSTD for layer in described):  # Docker has no type for it
            described = [msgspec.structs.replace(d, media_type=_to_oci(d.media_type)) for d in described]
            kind, config = media.OCI_MANIFEST, msgspec.structs.replace(config, media_type=media.OCI_CONFIG)
        else:
            kind = media.DOCKER_MANIFEST
        fields = {
            "schemaVersion": 2,
            "mediaType": kind,
            "config": written(config),
            "layers": [written(layer) for layer in described],
        }
        return Manifest.read(json.dumps(fields, separators=(",", ":")).encode(), content_type=kind)

    async def _config(self, path: str) -> tuple[Descriptor, bytes]:
        body = await self._archive.whole(path, limit=LARGEST_CONFIG)
        digest = Digest.of(body)
        said = path.removeprefix("sha256:").removesuffix(".json").rpartition("/")[2]
        if len(said) == _CONFIG_NAME_LENGTH and said != digest.hex:
            raise DigestMismatch(f"{self._archive.name}: the config {path} has the digest {digest!s}")
        self._blobs[digest] = len(body), member_reader(self._archive, self._archive.index.member(path))
        return Descriptor(media.DOCKER_CONFIG, digest, len(body)), body

    async def _described(self, saved: _Saved, config: bytes) -> list[Descriptor]:
        """The layers, oldest first; they are looked through side by side."""
        paths, name = saved.layers or (), self._archive.name
        what = f"{name}: the config {saved.config}"
        ids = diff_ids(config_of(config, what), len(paths), what)
        found: dict[int, Descriptor] = {}
        errors: dict[int, AsyncraneError] = {}

        async def describe(at: int) -> None:
            try:
                found[at] = await self._layer(paths[at], ids[at], (saved.layer_sources or {}).get(ids[at]))
            except AsyncraneError as exc:
                errors[at] = exc
                tasks.cancel_scope.cancel()

        async with anyio.create_task_group() as tasks:
            for at in range(len(paths)):
                tasks.start_soon(describe, at)
        if errors:
            raise errors[min(errors)]
        return [found[at] for at in range(len(paths))]

    async def _layer(self, path: str, diff_id: Digest, said: dict[str, Any] | None) -> Descriptor:
        foreign = Descriptor.read(said) if said is not None else None
        if foreign is not None and media.is_nondistributable(foreign.media_type):
            member = self._archive.index.find(path)
            if member is not None and member.size == foreign.size:
                self._blobs[foreign.digest] = member.size, member_reader(self._archive, member)
            return foreign
        layer = await self._layers.get(path, diff_id)
        self._blobs[layer.digest] = layer.size, layer.read
        kind = media.OCI_LAYER_ZSTD if layer.compression == "zstd" else media.DOCKER_LAYER_GZIP
        return Descriptor(kind, layer.digest, layer.size)

    def __repr__(self) -> str:
        return f"ArchiveSource({str(self._place)!r}, {len(self._saved)} images)"


class LayoutPart(Contents):
    """The archive as an OCI layout; ``body`` is its ``index.json``."""

    def __init__(self, place: Place, archive: OpenArchive, body: bytes) -> None:
        super().__init__(place, archive.name)
        self._archive = archive
        self._index = ImageIndex.read(body, archive.name)
        self.body = body

    async def index(self) -> ImageIndex:
        """What images there are."""
        return self._index

    def extent(self, digest: Digest) -> Extent | None:
        """A blob, ``None`` if it is not here."""
        member = self._member(digest)
        return self._archive.extent(member) if member is not None else None

    def holds(self, digest: Digest) -> bool:
        """Whether there is a blob of that digest, or a manifest, which is one here."""
        return self._member(digest) is not None

    def _member(self, digest: Digest) -> Member | None:
        return self._archive.index.find(f"blobs/{digest.algorithm}/{digest.hex}")

    def image_of(self, config: Digest) -> Manifest | None:
        """The image with that config as it was pushed or pulled: the multi-arch image it belongs to if all of that is
        here, else itself; ``None`` where it is not complete, or has plain layers, which no registry has given. For use
        in a thread.
        """
        for entry in self._index:
            if entry.descriptor.media_type not in media.MANIFESTS:
                continue
            found = self._below(entry.descriptor, config)
            if found is None:
                continue
            for root in (entry.descriptor, found.descriptor):
                if not self.missing(root):
                    return self.read_manifest(root)
        return None

    def _below(self, root: Descriptor, config: Digest) -> Manifest | None:
        waiting, seen = [root], set[Digest]()
        while waiting:
            wanted = waiting.pop()
            if wanted.digest in seen:
                continue
            seen.add(wanted.digest)
            try:
                manifest = self.read_manifest(wanted)
            except NotFound:
                continue
            waiting += reversed(manifest.children())
            described = manifest.config()
            if described is None or described.digest != config:
                continue
            if not any(layer.media_type in _PLAIN for layer in manifest.layers()):
                return manifest
        return None


def _read_saved(body: bytes, name: str) -> tuple[_Saved, ...]:
    try:
        found = msgspec.json.decode(body, type=tuple[_Saved, ...] | None)
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError) as exc:
        raise ContentError(f"{name}: manifest.json is not a list of images: {str(exc)[:120]}") from exc
    return found or ()


def _to_oci(media_type: str) -> str:
    return media.OCI_LAYER_GZIP if media_type == media.DOCKER_LAYER_GZIP else media_type


def _digest(identifier: str) -> Digest | None:
    try:
        return Digest.parse(identifier)
    except InvalidDigest:
        return None


def _parsed(name: str) -> Reference | None:
    try:
        return Reference.parse(name)
    except InvalidReference:
        return None
