"""The archive as docker wrote it before version 25, for what reads nothing else: each layer unpacked, in a directory of
its own, with a description that names its parent (crane's ``--format legacy``; ``pkg/legacy/tarball`` there).
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping, Sequence
from typing import Any

from anyio.from_thread import check_cancelled

from asyncrane.archive.compression import MAGIC, Expanded, sniff
from asyncrane.errors import ContentError, DigestMismatch
from asyncrane.oci import media
from asyncrane.oci.descriptor import Descriptor
from asyncrane.oci.digest import Digest
from asyncrane.stores.files import PIECE
from asyncrane.stores.tarball_output import TarWriter, write_at
from asyncrane.stores.tarball_parts import Part, PartFile, SavedImage, config_of, diff_ids, written

_NO_TIME = "0001-01-01T00:00:00Z"
"""The time that crane writes where there is none: Go's zero."""


def write_legacy(
    tar: TarWriter, descriptor: int, images: Sequence[SavedImage], source: int, blobs: Mapping[Digest, Part]
) -> None:
    """Write ``images`` to ``tar``, which is open as ``descriptor``; ``blobs`` are in the file ``source``. For use in a
    thread.

    :raises ContentError: when one of them is no image, or a layer is not what its config says
    """
    writing = _Writing(tar, descriptor, source, blobs)
    for image in sorted(images, key=lambda image: image.config.digest):
        writing.add(image)
    tar.add("manifest.json", _encode(writing.manifest))
    tar.add("repositories", _encode({key: writing.repositories[key] for key in sorted(writing.repositories)}))
    tar.finish()


class _Writing:
    def __init__(self, tar: TarWriter, descriptor: int, source: int, blobs: Mapping[Digest, Part]) -> None:
        self._tar = tar
        self._descriptor = descriptor
        self._source = source
        self._blobs = blobs
        self._seen: set[str] = set()
        self.manifest: list[dict[str, Any]] = []
        self.repositories: dict[str, dict[str, str]] = {}

    def add(self, image: SavedImage) -> None:
        digest, layers = image.config.digest, image.manifest.layers()
        body = self._blobs[digest].read(self._source)
        what = f"the config {digest!s}"
        config = config_of(body, what)
        ids = diff_ids(config, len(layers), what)
        history = _history(config, len(layers))
        name, parent, files, sources = f"{digest.hex}.json", "", [], {}
        if name not in self._seen:
            self._seen.add(name)
            self._tar.add(name, body)
        for at, layer in enumerate(layers):
            top = at == len(layers) - 1
            described = _described(layer, parent, history[at], (config, body) if top else None)
            parent = described["id"]
            files.append(f"{parent}/layer.tar")
            if media.is_nondistributable(layer.media_type):
                sources[ids[at]] = written(layer)
            self._layer(layer, ids[at], described)
        fields: dict[str, Any] = {"Config": name, "RepoTags": list(image.names) or None, "Layers": files}
        if sources:
            fields["LayerSources"] = {key: sources[key] for key in sorted(sources)}
        self.manifest.append(fields)
        for tag in image.names:
            repository, _, label = tag.rpartition(":")
            self.repositories.setdefault(repository, {})[label] = parent

    def _layer(self, layer: Descriptor, diff_id: Digest, described: dict[str, Any]) -> None:
        directory = described["id"]
        if directory in self._seen:
            return
        self._seen.add(directory)
        self._unpack(f"{directory}/layer.tar", layer, diff_id)
        self._tar.add(f"{directory}/json", _encode(described))
        self._tar.add(f"{directory}/VERSION", b"1.0")

    def _unpack(self, name: str, layer: Descriptor, diff_id: Digest) -> None:
        part = self._blobs.get(layer.digest)
        if part is None:
            raise ContentError(f"layer {layer.digest!s} is not here, and the legacy form cannot do without it")
        compression = sniff(PartFile(self._source, part).read(MAGIC))
        content = Expanded(PartFile(self._source, part), compression, f"layer {layer.digest!s}")
        hasher, start, size = diff_id.hasher(), self._tar.next, 0
        while data := content.read(PIECE):
            check_cancelled()
            hasher.update(data)
            write_at(self._descriptor, data, start + size)
            size += len(data)
        if hasher.hexdigest() != diff_id.hex:
            raise DigestMismatch(f"layer {layer.digest!s} is not the one that its image says: {diff_id!s} unpacked")
        self._tar.begin(name, size)


def _history(config: dict[str, Any], layers: int) -> list[dict[str, Any]]:
    """What is said of each layer; nothing where that does not add up."""
    found = config.get("history")
    entries = [entry for entry in found or () if isinstance(entry, dict) and not entry.get("empty_layer")]
    return entries if len(entries) == layers else [{} for _ in range(layers)]


def _described(
    layer: Descriptor, parent: str, history: dict[str, Any], top: tuple[dict[str, Any], bytes] | None
) -> dict[str, Any]:
    """The layer's description. Its id depends on all below it, and that of the topmost on the config, too."""
    seed = f"{layer.digest.hex} {parent}".encode()
    image: dict[str, Any] = {}
    if top is not None:
        image, body = top
        seed += b" " + body
    fields = {
        "architecture": image.get("architecture", ""),
        "author": history.get("author"),
        "container": image.get("container"),
        "created": (image if top is not None else history).get("created", _NO_TIME),
        "docker_version": image.get("docker_version"),
        "os": image.get("os", ""),
        "rootfs": {"type": "", "diff_ids": None},
        "config": image.get("config") or {},
        "container_config": {"Cmd": [history.get("created_by", "")]},
        "id": hashlib.sha256(seed).hexdigest(),
        "parent": parent or None,
        "comment": history.get("comment"),
    }
    kept = ("architecture", "os")
    return {key: value for key, value in fields.items() if value or key in kept or key == "config"}


def _encode(value: Any) -> bytes:
    """JSON as Go writes it, which escapes what HTML would."""
    text = json.dumps(value, ensure_ascii=False, separators=(",", ":"))
    return text.replace("&", r"\u0026").replace("<", r"\u003c").replace(">", r"\u003e").encode()
