"""Writing an archive as ``docker load`` and ``crane push`` read it. Any number of blobs arrive at once, in any order,
each at its place in one file: where it stays, if the images were announced, or from where it is copied in the end.

The file is the one that crane makes, byte for byte, where crane's own does not differ from run to run: it depends on
the images and their names only. Layers stay as they are in the registry; where they are to be unpacked, it is
:mod:`asyncrane.stores.legacy` that writes the file.
"""

from __future__ import annotations

import contextlib
import json
import os
from collections.abc import Mapping, Sequence
from typing import Any, Literal, TypeAlias

import anyio
import anyio.to_thread

from asyncrane.abc import Place, Reader
from asyncrane.archive.digesting import Verifier
from asyncrane.errors import Interrupted, RegistryError, UnsupportedManifest
from asyncrane.oci import media
from asyncrane.oci.descriptor import Descriptor
from asyncrane.oci.digest import Digest
from asyncrane.oci.manifest import Manifest
from asyncrane.oci.reference import Reference
from asyncrane.stores.files import PIECE, complaining
from asyncrane.stores.legacy import write_legacy
from asyncrane.stores.tarball_output import Destination, TarWriter, padded, write_at
from asyncrane.stores.tarball_parts import Part, SavedImage, config_of, diff_ids, written

Format: TypeAlias = Literal["tarball", "legacy"]

_EXTENSIONS = {
    media.OCI_LAYER_ZSTD: ".tar.zst",
    media.OCI_LAYER: ".tar",
    "application/vnd.oci.image.layer.nondistributable.v1.tar": ".tar",
    media.DOCKER_LAYER_GZIP.removesuffix(".gzip"): ".tar",
}
_BLOCK = 512


class ArchiveSink:
    """An archive to be: a Sink whose tags are whole image names. It takes single images only."""

    def __init__(self, place: Place, destination: Destination, form: Format) -> None:
        self._place = place
        self._destination = destination
        self._form = form
        self._descriptor = destination.create()
        self._closed = False
        self._end = 0
        self._planned: dict[Digest, int] = {}
        self._blobs: dict[Digest, Part] = {}
        self._manifests: dict[Digest, Manifest] = {}
        self._names: dict[str, Digest] = {}

    @property
    def place(self) -> Place:
        """Where this is."""
        return self._place

    def expect(self, images: Mapping[str, Manifest]) -> None:
        """Say which images will come, by name, so that what they are made of can be put where it stays. What is not
        true of it costs a copy, and nothing else.
        """
        if self._form != "tarball" or self._blobs:
            return
        position = 0
        for blob in _files(_grouped(images)).values():
            self._planned.setdefault(blob.digest, position + _BLOCK)
            position += _BLOCK + padded(blob.size)
        self._end = position

    async def probe(self, identifier: str) -> Descriptor | None:
        """What a name or manifest digest names here, ``None`` when it names nothing."""
        found = self._manifests.get(Digest(identifier))
        if found is None and (digest := self._names.get(repo_tag(identifier))) is not None:
            found = self._manifests[digest]
        return found.descriptor if found is not None else None

    async def has(self, digest: Digest) -> bool:
        """Whether the blob is here."""
        return digest in self._blobs

    async def mount(self, blob: Descriptor, donor: str) -> bool:
        """There is no other repository here."""
        return False

    async def put(self, blob: Descriptor, read: Reader) -> bool:
        """Store the blob; ``False`` when it was here already and nothing was read.

        :raises ContentError: when the bytes are not the blob
        :raises AsyncraneError: when it cannot be written
        """
        if blob.digest in self._blobs:
            return False
        if blob.size < 0:
            raise UnsupportedManifest(f"{self._place.site}: an image of schema 1 has no place in a docker archive")
        part = Part(self._reserve(blob), blob.size)
        incoming = _Incoming(self, blob, part.offset)
        with contextlib.closing(incoming):
            async with read(0) as chunks:
                async for chunk in chunks:
                    await incoming.write(chunk)
            await incoming.finish()
        self._blobs[blob.digest] = part
        return True

    async def publish(self, manifest: Manifest, tag: str | None = None) -> None:
        """Let the archive have ``manifest``, under the name ``tag``; without a tag ``:latest`` is added.

        :raises InvalidReference: when that is no image name
        :raises UnsupportedManifest: when it is not a single image
        :raises DigestMismatch: when its bytes have another digest
        :raises RegistryError: when something it names is not here
        """
        checked = Manifest.read(manifest.body, content_type=manifest.media_type, digest=manifest.digest)
        if not checked.is_image:
            what = "a multi-arch image" if checked.is_index else checked.media_type
            raise UnsupportedManifest(f"{self._place.site}: a docker archive holds single images, not {what}")
        for blob in checked.blobs():
            if blob.digest not in self._blobs and not media.is_nondistributable(blob.media_type):
                raise RegistryError(
                    f"{self._place.site}: blob {blob.digest!s} is unknown here",
                    status=400,
                    codes=("MANIFEST_BLOB_UNKNOWN",),
                )
        name = repo_tag(tag) if tag is not None else None
        self._manifests[checked.digest] = checked
        if name is not None:
            self._names[name] = checked.digest

    async def finish(self) -> None:
        """Let the archive be there, if any image came.

        :raises ContentError: when an image cannot be written in this form
        :raises AsyncraneError: when it cannot be written
        """
        if self._manifests:
            await anyio.to_thread.run_sync(self._finish)

    def close(self) -> None:
        """Forget what is not there yet."""
        self._closed = True
        self._destination.close()

    def _reserve(self, blob: Descriptor) -> int:
        planned = self._planned.get(blob.digest)
        if planned is not None:
            return planned
        start, self._end = self._end, self._end + padded(blob.size)
        return start

    def writable(self) -> int:
        """A descriptor of one's own for the file where blobs are kept.

        :raises Interrupted: when there is none any more
        """
        self.check_open()
        return os.dup(self._descriptor)

    def check_open(self) -> None:
        """Whether what is written still matters.

        :raises Interrupted: when it does not
        """
        if self._closed:
            raise Interrupted(f"{self._place.site} was closed before this was written")

    # in a thread

    def _finish(self) -> None:
        names = dict(self._names)
        named = set(names.values())
        images = _grouped({name: self._manifests[digest] for name, digest in names.items()})
        images += [SavedImage(found, ()) for digest, found in sorted(self._manifests.items()) if digest not in named]
        with complaining(self._destination.name):
            if self._form == "legacy":
                descriptor = self._destination.create()
                write_legacy(TarWriter(descriptor), descriptor, images, self._descriptor, self._blobs)
            else:
                descriptor = self._assemble(images)
        self._destination.commit(descriptor)

    def _assemble(self, images: Sequence[SavedImage]) -> int:
        files = _files(images)
        position, in_place = 0, True
        for blob in files.values():
            part = self._blobs.get(blob.digest)
            in_place = in_place and part is not None and part.offset == position + _BLOCK
            position += _BLOCK + padded(blob.size)
        descriptor = self._descriptor if in_place else self._destination.create()
        tar = TarWriter(descriptor)
        for name, blob in files.items():
            if (part := self._blobs.get(blob.digest)) is not None:
                tar.copy(name, self._descriptor, part.offset, part.size)
        tar.add("manifest.json", _encode([self._entry(image) for image in images]))
        tar.finish()
        return descriptor

    def _entry(self, image: SavedImage) -> dict[str, Any]:
        layers = image.manifest.layers()
        fields: dict[str, Any] = {
            "Config": str.__str__(image.config.digest),
            "RepoTags": list(image.names) or None,
            "Layers": [_layer_name(layer) for layer in layers],
        }
        foreign = [at for at, layer in enumerate(layers) if media.is_nondistributable(layer.media_type)]
        if foreign:
            what = f"the config {image.config.digest!s}"
            body = self._blobs[image.config.digest].read(self._descriptor)
            ids = diff_ids(config_of(body, what), len(layers), what)
            fields["LayerSources"] = {ids[at]: written(layers[at]) for at in sorted(foreign, key=lambda at: ids[at])}
        return fields

    def __repr__(self) -> str:
        return f"ArchiveSink({str(self._place)!r}, {len(self._manifests)} images, {len(self._blobs)} blobs)"


class _Incoming:
    """One blob on its way to ``offset``: hashed and written in a thread, a few pieces at once."""

    def __init__(self, sink: ArchiveSink, blob: Descriptor, offset: int) -> None:
        self._sink = sink
        self._verifier = Verifier(blob)
        self._offset = offset
        self._descriptor = sink.writable()
        self._held: list[bytes] = []
        self._size = 0

    async def write(self, chunk: bytes) -> None:
        self._held.append(chunk)
        self._size += len(chunk)
        if self._size >= PIECE:
            await anyio.to_thread.run_sync(self._flush)

    async def finish(self) -> None:
        await anyio.to_thread.run_sync(self._flush)
        self._verifier.finish()

    def _flush(self) -> None:
        self._sink.check_open()
        held, self._held, self._size = self._held, [], 0
        with complaining(self._sink.place.site):
            for chunk in held:
                at = self._verifier.seen
                self._verifier.update(chunk, at)
                write_at(self._descriptor, chunk, self._offset + at)

    def close(self) -> None:
        os.close(self._descriptor)


def repo_tag(name: str) -> str:
    """The name as it stands in ``RepoTags``: as it was typed, with a tag.

    :raises InvalidReference: when it is no image name
    """
    reference = Reference.parse(name)
    text = name.partition("@")[0]
    return text if ":" in text.rpartition("/")[2] else f"{text}:{reference.tag or 'latest'}"


def _grouped(images: Mapping[str, Manifest]) -> list[SavedImage]:
    """Each image once, with its names; in the order that crane writes ``manifest.json`` in."""
    names: dict[Digest, list[str]] = {}
    for name, manifest in images.items():
        names.setdefault(manifest.digest, []).append(repo_tag(name))
    known = {manifest.digest: manifest for manifest in images.values()}
    saved = [SavedImage(known[digest], tuple(sorted(set(tags)))) for digest, tags in names.items()]
    return sorted(saved, key=lambda image: (",".join(image.names), image.manifest.digest))


def _files(images: Sequence[SavedImage]) -> dict[str, Descriptor]:
    """The files of the archive but for ``manifest.json``, in order, each once."""
    found: dict[str, Descriptor] = {}
    for image in images:
        found.setdefault(str.__str__(image.config.digest), image.config)
        for layer in image.manifest.layers():
            found.setdefault(_layer_name(layer), layer)
    return found


def _layer_name(layer: Descriptor) -> str:
    return layer.digest.hex + _EXTENSIONS.get(layer.media_type, ".tar.gz")


def _encode(value: Any) -> bytes:
    return json.dumps(value, ensure_ascii=False, separators=(",", ":")).encode()
