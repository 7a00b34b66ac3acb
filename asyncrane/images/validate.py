"""Whether an image is what it says it is: a judgement on what was read of it, in crane's words where crane has them.

Reading is done elsewhere (:mod:`asyncrane.operations.check`); nothing here waits for anything.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any, TypeAlias

import msgspec

from asyncrane.archive.inspection import Inspection
from asyncrane.errors import ContentError
from asyncrane.images.serialise import decode, items, table
from asyncrane.oci import media
from asyncrane.oci.descriptor import Descriptor
from asyncrane.oci.digest import Digest
from asyncrane.oci.manifest import Manifest
from asyncrane.oci.platform import Platform

Found: TypeAlias = Mapping[Digest, Inspection | str | None]
"""What became of blobs: what they are, or why they could not be read, or ``None`` for one that is there and was not
read. A blob that is not in it was not to be looked at.
"""


class Node(msgspec.Struct, frozen=True):
    """A manifest as far as it could be read, with what it lists. ``entry`` is how an index lists it; ``problem`` says
    why there is no ``manifest``, ``config_problem`` why there is no ``config``.
    """

    manifest: Manifest | None = None
    problem: str = ""
    config: bytes | None = None
    config_problem: str = ""
    entry: Descriptor | None = None
    children: tuple[Node, ...] = ()


def is_layer(media_type: str) -> bool:
    """Whether a blob of this type is a tar of an image's file system."""
    return media_type.startswith(("application/vnd.oci.image.layer.", "application/vnd.docker.image.rootfs."))


def blobs(node: Node) -> Iterator[tuple[Descriptor, bool]]:
    """Every blob to look at besides configs, and whether it is a layer."""
    if node.manifest is not None and not node.manifest.is_index:
        config = node.manifest.config()
        for blob in node.manifest.blobs():
            if config is None or blob.digest != config.digest:
                yield blob, is_layer(blob.media_type)
    elif node.manifest is None and node.entry is not None and not node.problem:
        yield node.entry, is_layer(node.entry.media_type)
    for child in node.children:
        yield from blobs(child)


def problems(node: Node, found: Found) -> str:
    """What is wrong with an image or index and everything below; empty when nothing is."""
    if node.manifest is None:
        return node.problem or _stray(node.entry, found)
    if node.manifest.is_index:
        return _titled("children", _children(node, found))
    parts = (
        _titled("layers", _layers(node.manifest, node.config, found)),
        _titled("config", _config(node.manifest, node)),
    )
    return "\n\n".join(part for part in parts if part)


def _titled(what: str, said: list[str]) -> str:
    return f"validating {what}: " + "\n".join(said) if said else ""


def _stray(entry: Descriptor | None, found: Found) -> str:
    """A blob that an index lists."""
    if entry is None:
        return ""
    return "\n".join(_stored(entry, found.get(entry.digest), "blob", "Descriptor"))


# images


def _layers(manifest: Manifest, config: bytes | None, found: Found) -> list[str]:
    said: list[str] = []
    tars: list[tuple[int, Inspection | None]] = []
    for at, layer in enumerate(manifest.layers()):
        name, field = f"layer[{at}]", f"Manifest.Layers[{at}]"
        blob = found.get(layer.digest)
        said += _stored(layer, blob, name, field)
        if is_layer(layer.media_type):
            said += _content(layer, blob, name, field)
            tars.append((at, blob if isinstance(blob, Inspection) else None))
    described = manifest.config()
    if config is not None and described is not None and described.media_type in media.CONFIGS:
        said += _diff_ids(config, tars)
    return said


def _stored(blob: Descriptor, is_: Inspection | str | None, name: str, field: str) -> list[str]:
    if isinstance(is_, str):
        return [f"{name}: {is_}"]
    if is_ is None:
        return []
    said = []
    if is_.digest != blob.digest:
        said.append(f"mismatched {name} digest: {field}.Digest={blob.digest!s}, SHA256(Compressed())={is_.digest!s}")
    if is_.size != blob.size:
        said.append(f"mismatched {name} size: {field}.Size={blob.size}, len(Compressed())={is_.size}")
    return said


def _content(layer: Descriptor, blob: Inspection | str | None, name: str, field: str) -> list[str]:
    if not isinstance(blob, Inspection):
        return []
    said = [f"{name}: {blob.problem}"] if blob.problem else []
    declared = next((kind for kind in ("gzip", "zstd") if layer.media_type.endswith(kind)), "plain")
    if blob.compression is not None and declared != blob.compression:
        actual = "not compressed" if blob.compression == "plain" else blob.compression
        said.append(f"mismatched {name} mediaType: {field}.MediaType={layer.media_type}, the content is {actual}")
    return said


def _diff_ids(config: bytes, tars: list[tuple[int, Inspection | None]]) -> list[str]:
    try:
        fields = decode(config, "the config")
        listed: list[str] = items(table(fields, "rootfs", "the config"), "diff_ids", "the config", str)
    except ContentError:
        return []  # said of the config
    said = []
    if len(listed) != len(tars):
        said.append(
            f"mismatched number of diffids: len(ConfigFile.RootFS.DiffIDs)={len(listed)}, len(layers)={len(tars)}"
        )
    for at, (diff_id, (number, blob)) in enumerate(zip(listed, tars, strict=False)):
        if blob is not None and blob.diff_id is not None and blob.diff_id != diff_id:
            said.append(
                f"mismatched layer[{number}] diffid: ConfigFile.RootFS.DiffIDs[{at}]={diff_id}, "
                f"SHA256(Gunzip(Compressed()))={blob.diff_id!s}"
            )
    return said


def _config(manifest: Manifest, node: Node) -> list[str]:
    if node.config_problem:
        return [node.config_problem]
    described = manifest.config()
    if described is None or described.media_type not in media.CONFIGS or node.config is None:
        return []
    try:
        fields = decode(node.config, "the config")
        root = table(fields, "rootfs", "the config")
        items(root, "diff_ids", "the config", str)
    except ContentError as exc:
        return [str(exc)]
    kind = root.get("type", "")
    return [] if kind == "layers" else [f'invalid ConfigFile.RootFS.Type: "{kind}" != "layers"']


# indexes


def _children(node: Node, found: Found) -> list[str]:
    said: list[str] = []
    for at, child in enumerate(node.children):
        entry, manifest = child.entry, child.manifest
        assert entry is not None  # noqa: S101  (an index lists it)
        kind = "index" if entry.media_type in media.INDEXES else "image"
        where = f"[{at}]({entry.digest!s})"
        if wrong := problems(child, found):
            said.append(f"failed to validate {kind} Manifests{where}: {wrong}")
        if manifest is None:
            continue
        if manifest.media_type != entry.media_type:
            wrong = f"mismatched mediaType: MediaType() = {manifest.media_type} != {entry.media_type}"
            said.append(f"failed to validate {kind} MediaType{where}: {wrong}")
        if manifest.size != entry.size:
            wrong = f"mismatched manifest size: Size()={entry.size}, len(RawManifest())={manifest.size}"
            said.append(f"failed to validate {kind} Manifests{where}: {wrong}")
        if wrong := _platform(child):
            said.append(f"failed to validate image platform{where}: {wrong}")
    return said


def _platform(node: Node) -> str:
    """Where what the index says of an image's platform differs from what its config says."""
    config = node.manifest.config() if node.manifest is not None else None
    wanted = node.entry.platform if node.entry is not None else None
    if wanted is None or config is None or config.media_type not in media.CONFIGS or node.config is None:
        return ""
    try:
        fields = decode(node.config, "the config")
    except ContentError:
        return ""  # said of the config
    got = Platform.read(fields) or Platform()
    if got == Platform():
        return "config file missing platform fields"
    pairs: tuple[tuple[str, Any, Any], ...] = (
        ("OS", got.os, wanted.os),
        ("Architecture", got.architecture, wanted.architecture),
        ("Variant", got.variant, wanted.variant),
        ("OSVersion", got.os_version, wanted.os_version),
    )
    said = [f"mismatched {name}: {is_} != {should}" for name, is_, should in pairs if is_ != should]
    if not said and set(got.os_features) != set(wanted.os_features):
        said = [f"mismatched OSFeatures: {_listed(got.os_features)}, {_listed(wanted.os_features)}"]
    return "\n".join(said)


def _listed(values: tuple[str, ...]) -> str:
    return f"[{' '.join(values)}]"
