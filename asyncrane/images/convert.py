"""Images with their layers packed otherwise, and images of the other family of media types."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, TypeAlias

import msgspec

from asyncrane.archive.compression import Compression
from asyncrane.archive.estargz_toc import TOC_DIGEST, UNCOMPRESSED_SIZE
from asyncrane.archive.packing import Layer
from asyncrane.errors import ContentError, UnsupportedManifest
from asyncrane.images.family import DOCKER, LAYERS, Family, family, translated
from asyncrane.images.rebuild import each, rebuilt
from asyncrane.images.serialise import decode, described, encode, items, table
from asyncrane.images.view import Image, Index, Opaque, View, images
from asyncrane.oci import media
from asyncrane.oci.descriptor import Descriptor
from asyncrane.oci.digest import Digest
from asyncrane.oci.manifest import Manifest
from asyncrane.oci.select import ATTESTS

Repacked: TypeAlias = Layer | Compression
"""What became of a layer: a new one, or, where its bytes are left alone, how they are compressed."""

_ESTARGZ = frozenset({TOC_DIGEST, UNCOMPRESSED_SIZE})


def convertible(view: View) -> dict[Digest, Descriptor]:
    """The layers of ``view`` that are tars of its own, each once: not those that are left where their ``urls`` point,
    nor what is no layer at all.
    """
    found: dict[Digest, Descriptor] = {}
    for image in images(view):
        for layer in image.manifest.layers():
            if family(layer.media_type) is not None and not media.is_nondistributable(layer.media_type):
                found.setdefault(layer.digest, layer)
    return found


def with_layers(view: View, repacked: Mapping[Digest, Repacked]) -> View:
    """``view`` with its layers replaced by what became of them. Types say what the bytes are (K7); an image of Docker's
    that gets a zstd layer becomes OCI's, as Docker has no type for that. The config changes only where the tar inside
    a layer did, as it does for eStargz.

    :raises ContentError: when a layer that was only compressed anew is not the one that the config names
    :raises UnsupportedManifest: when an index would mix families
    """
    return each(view, lambda image: _with_layers(image, repacked))


def _with_layers(image: Image, repacked: Mapping[Digest, Repacked]) -> Image:
    what = f"the config of {image.name}"
    fields, settings = image.fields(), image.settings()
    entries = items(fields, "layers", f"manifest {image.name}", dict)
    before, diff_ids = image.manifest.layers(), list(image.diff_ids())
    new: dict[Digest, Layer] = {}
    for at, layer in enumerate(before):
        found = repacked.get(layer.digest)
        if isinstance(found, Layer):
            entries[at] = _entry(entries[at], found)
            new[found.digest] = found
            if TOC_DIGEST not in found.annotations and found.diff_id != diff_ids[at]:
                raise ContentError(
                    f"{what} says that layer {layer.digest!s} is {diff_ids[at]}: it is {found.diff_id!s}"
                )
            diff_ids[at] = str.__str__(found.diff_id)
        elif found is not None:
            entries[at] = {**entries[at], "mediaType": LAYERS[found]}
    fields["layers"] = entries
    if diff_ids != list(image.diff_ids()):
        settings["rootfs"] = {**table(settings, "rootfs", what), "diff_ids": diff_ids}
    return rebuilt(
        image,
        fields=fields,
        settings=settings,
        added={digest: layer.read for digest, layer in new.items() if layer.home is None},
        origins={digest: layer.home for digest, layer in new.items() if layer.home is not None},
    )


def _entry(entry: dict[str, Any], layer: Layer) -> dict[str, Any]:
    """The descriptor object of ``layer`` where that of another was, whose annotations stay if they are still true."""
    changed = {key: value for key, value in entry.items() if key not in ("urls", "data", "annotations")}
    kept = {key: value for key, value in table(entry, "annotations", "a layer").items() if key not in _ESTARGZ}
    changed |= {"mediaType": LAYERS[layer.compression], "digest": str.__str__(layer.digest), "size": layer.size}
    return {**changed, "annotations": {**kept, **layer.annotations}} if kept or layer.annotations else changed


def retyped(view: View, wanted: Family) -> View:
    """``view`` with all media types of the family ``wanted``, from the index down to the layers (K3). Blobs stay.

    Attestations of images that change are left out, as :func:`~asyncrane.images.rebuild.each` does.

    :raises UnsupportedManifest: when Docker has no type for something in it (zstd layers, artifacts)
    """
    if isinstance(view, Image):
        return _image(view, wanted)
    what = f"index {view.manifest.digest!s}"
    fields = decode(view.manifest.body, what)
    children: list[Image | Index | Opaque] = []
    entries: list[dict[str, Any]] = []
    edited: set[Digest] = set()
    for entry, child in zip(items(fields, "manifests", what, dict), view.children, strict=True):
        if isinstance(child, Opaque):
            children.append(child)
            entries.append(entry)
            continue
        new = retyped(child, wanted)
        children.append(new)
        if new is child:
            entries.append(entry)
            continue
        edited.add(child.manifest.digest)
        entries.append({**described(entry, new.manifest.body), "mediaType": new.manifest.media_type})
    media_type = translated(view.manifest.media_type, wanted)
    if not edited and media_type == view.manifest.media_type:
        return view
    kept = [at for at, child in enumerate(children) if not _attests(child, edited)]
    for at in kept:
        _check(children[at], wanted, what)
    fields["manifests"] = [entries[at] for at in kept]
    return Index(_manifest(fields, media_type), tuple(children[at] for at in kept), view.home)


def _image(image: Image, wanted: Family) -> Image:
    if family(image.manifest.media_type) == wanted:
        return image
    what = f"manifest {image.name}"
    fields = image.fields()
    if wanted == DOCKER and (fields.get("artifactType") or fields.get("subject")):
        raise UnsupportedManifest(f"{image.name} is attached to something, which Docker's manifests cannot say")
    fields["config"] = _typed(table(fields, "config", what), wanted, image.name)
    fields["layers"] = [_typed(layer, wanted, image.name) for layer in items(fields, "layers", what, dict)]
    manifest = _manifest(fields, translated(image.manifest.media_type, wanted))
    return msgspec.structs.replace(image, manifest=manifest)


def _typed(entry: dict[str, Any], wanted: Family, name: str) -> dict[str, Any]:
    said = str(entry.get("mediaType", ""))
    kind = translated(said, wanted)
    if kind is None or (wanted == DOCKER and family(kind) != DOCKER):
        raise UnsupportedManifest(f"{name} cannot be Docker's: there is no type for a {said or 'blob without one'}")
    return {**entry, "mediaType": kind}


def _attests(child: Image | Index | Opaque, edited: set[Digest]) -> bool:
    return isinstance(child, Opaque) and child.descriptor.annotations.get(ATTESTS) in edited


def _check(child: Image | Index | Opaque, wanted: Family, what: str) -> None:
    if isinstance(child, Opaque) and family(child.descriptor.media_type) not in (wanted, None):
        raise UnsupportedManifest(
            f"{what} would mix families: it lists a {child.descriptor.media_type} ({child.descriptor.digest!s})"
        )


def _manifest(fields: dict[str, Any], media_type: str | None) -> Manifest:
    kind = media_type or media.OCI_MANIFEST
    fields["mediaType"] = kind
    return Manifest.read(encode(fields), content_type=kind)
