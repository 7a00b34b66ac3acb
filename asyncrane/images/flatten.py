"""Flattening: an image's layers made one, its config kept.

Unlike other edits this has to read what it is made from: the digest of the new layer is known only when it has been
made. It is kept in a temporary file without a name until it is where it belongs.
"""

from __future__ import annotations

import json
from collections.abc import AsyncIterator, Mapping
from contextlib import ExitStack, asynccontextmanager, closing
from functools import partial
from typing import Any

import anyio.to_thread
import msgspec

from asyncrane.abc import Source
from asyncrane.archive.formats import Packing
from asyncrane.archive.merge import ahead
from asyncrane.archive.packing import Layer, pack
from asyncrane.archive.reading import Joined
from asyncrane.archive.spool import Spool
from asyncrane.errors import UnsupportedManifest
from asyncrane.images.extract import Stack, stacked
from asyncrane.images.rebuild import each, rebuilt
from asyncrane.images.serialise import decode, encode, items, layer_entry, table
from asyncrane.images.view import Blob, Image, Index, Opaque, View, images
from asyncrane.oci.digest import Digest
from asyncrane.oci.manifest import Manifest
from asyncrane.oci.select import ATTESTS

GZIP = Packing("gzip")


@asynccontextmanager
async def flatten(
    source: Source,
    view: View,
    *,
    packing: Packing | None = None,
    created: str | None = None,
    keep_attestations: bool = False,
) -> AsyncIterator[View]:
    """``view`` with every image of it flattened; what is new is there as long as the context is. ``source`` has the
    layers. The new ones are packed as ``packing`` says, by default as gzip.

    Everything in the config stays but for its layers and its history, which becomes one entry; what it was before is
    that entry's comment, as in crane. ``created`` (RFC 3339) is when, for config and history; ``None`` leaves it as it
    was, so that the same image always gives the same digest (K5).

    Attestations tell how layers were made that are not there any more: they are left out. With ``keep_attestations``
    they go along as they are, now listed as being about the flattened image.

    :raises ContentError: when a layer is not what the image says, or cannot be unpacked
    :raises UnsupportedManifest: for a Windows image, whose layers cannot be merged, and an index without images
    """
    there = list(images(view))
    if not there:
        raise UnsupportedManifest(f"{view.home}@{view.manifest.digest!s} has no image to flatten")
    for image in there:
        if image.platform.os == "windows":
            raise UnsupportedManifest(f"{image.name} is for Windows: its layers cannot be merged as files")
    with ExitStack() as files:
        layers: dict[tuple[Digest, ...], Layer] = {}
        flat: dict[Digest, Image] = {}
        for image in there:
            key = tuple(blob.digest for blob in image.manifest.layers())
            if key not in layers:
                layers[key] = await _merged(source, image, packing or GZIP, files)
            flat[image.manifest.digest] = _flat(image, layers[key], created)
        prepared = _attestations(view, {old: new.manifest.digest for old, new in flat.items()}, keep=keep_attestations)
        yield each(prepared, lambda image: flat[image.manifest.digest])


async def _merged(source: Source, image: Image, packing: Packing, files: ExitStack) -> Layer:
    async with stacked(source, image.manifest.layers(), image.diff_ids()) as stack:
        spool = files.enter_context(Spool())
        return await anyio.to_thread.run_sync(partial(_packed, stack, packing, spool, image.name))


def _packed(stack: Stack, packing: Packing, spool: Spool, name: str) -> Layer:
    """The merged layers as one layer in ``spool``. For use in a thread."""
    with closing(ahead(stack.chunks())) as chunks:
        return pack(Joined(chunks), packing, spool, name=name)


def _flat(image: Image, layer: Layer, created: str | None) -> Image:
    what = f"the config of {image.name}"
    settings, fields = image.settings(), image.fields()
    history = items(settings, "history", what, dict)
    entry: dict[str, Any] = {"created_by": f"asyncrane flatten {image.manifest.digest!s}"}
    when = created if created is not None else settings.get("created")
    if isinstance(when, str):
        entry = {"created": when, **entry}
    if created is not None:
        settings["created"] = created
    if history:
        entry["comment"] = json.dumps(history, separators=(",", ":"))
    settings["history"] = [entry]
    settings["rootfs"] = {**table(settings, "rootfs", what), "type": "layers", "diff_ids": [str.__str__(layer.diff_id)]}
    fields["layers"] = [layer_entry(layer)]
    here = {blob.digest for blob in image.manifest.blobs()}
    added: dict[Digest, Blob] = {} if layer.digest in here else {layer.digest: layer.read}
    return rebuilt(image, fields=fields, settings=settings, added=added)


def _attestations(view: View, flat: Mapping[Digest, Digest], *, keep: bool) -> View:
    """``view`` with its attestations left out, or said to be about what became of their image in ``flat``."""
    if isinstance(view, Image) or not any(images(view)):
        return view
    what = f"index {view.manifest.digest!s}"
    fields = decode(view.manifest.body, what)
    before: list[dict[str, Any]] = items(fields, "manifests", what, dict)
    entries: list[dict[str, Any]] = []
    children: list[Image | Index | Opaque] = []
    for entry, child in zip(before, view.children, strict=True):
        if not isinstance(child, Opaque):
            entries.append(entry)  # what became of the child is put there when it has been edited
            children.append(_attestations(child, flat, keep=keep))
        elif not _attests(child):
            entries.append(entry)
            children.append(child)
        elif keep:
            noted = _renamed(child.descriptor.annotations, flat)
            entries.append({**entry, "annotations": noted} if noted else entry)
            described = msgspec.structs.replace(child.descriptor, annotations=noted)
            children.append(msgspec.structs.replace(child, descriptor=described))
    if entries == before:
        return msgspec.structs.replace(view, children=tuple(children))
    fields["manifests"] = entries
    manifest = Manifest.read(encode(fields), content_type=view.manifest.media_type)
    return Index(manifest, tuple(children), view.home)


def _attests(child: Opaque) -> bool:
    platform = child.descriptor.platform
    return ATTESTS in child.descriptor.annotations or (platform is not None and platform.os == "unknown")


def _renamed(annotations: Mapping[str, str], flat: Mapping[Digest, Digest]) -> dict[str, str]:
    about = {str.__str__(old): str.__str__(new) for old, new in flat.items()}
    return {key: about.get(value, value) if key == ATTESTS else value for key, value in annotations.items()}
