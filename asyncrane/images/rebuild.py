"""Putting an image together again after an edit: digests, sizes and media types that fit each other."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any

import msgspec

from asyncrane.abc import Place
from asyncrane.errors import UnsupportedManifest
from asyncrane.images.family import DOCKER, OCI, Family, family, translated
from asyncrane.images.serialise import decode, described, encode, items
from asyncrane.images.view import Blob, Image, Index, Opaque, View
from asyncrane.oci.digest import Digest
from asyncrane.oci.manifest import Manifest
from asyncrane.oci.platform import Platform
from asyncrane.oci.select import ATTESTS

_NONE: Mapping[Digest, Any] = {}


def rebuilt(
    image: Image,
    *,
    fields: dict[str, Any],
    settings: dict[str, Any],
    added: Mapping[Digest, Blob] = _NONE,
    origins: Mapping[Digest, Place] = _NONE,
) -> Image:
    """``image`` with the manifest ``fields`` and the config ``settings``; ``added`` are new blobs, ``origins`` says
    where others are that were not part of it. What has not changed keeps its bytes.

    The image stays of its family, unless it has got a layer of a kind that Docker's has no type for: then all of it
    becomes OCI's.
    """
    fields, added, config = dict(fields), {**image.added, **added}, image.config
    if settings != image.settings():
        config = encode(settings)
        fields["config"] = described(fields["config"], config)
        added[Digest.of(config)] = config
    if fields == image.fields():
        return image
    manifest = _in_one_family(fields, image.manifest, family(image.manifest.media_type) or OCI)
    named = {blob.digest for blob in manifest.blobs()}
    elsewhere = {**origins, **dict.fromkeys((blob.digest for blob in image.manifest.blobs()), image.home)}
    return Image(
        manifest,
        config,
        image.home,
        {digest: place for digest, place in {**elsewhere, **image.origins}.items() if digest in named},
        {digest: blob for digest, blob in added.items() if digest in named},
    )


def each(view: View, edit: Callable[[Image], Image]) -> View:
    """``view`` with every image of it edited, in the order of its entries, whose annotations are kept (K1).

    An attestation names the image it is about by digest, and says how those bytes were made: where the image was edited
    it is left out, for it would be about nothing that is here. Everything else that an index lists stays as it is. A
    list of Docker's becomes an index of OCI's when one of its images does.

    :raises UnsupportedManifest: when that cannot be done to all that it lists
    """
    if isinstance(view, Image):
        return edit(view)
    children = [child if isinstance(child, Opaque) else each(child, edit) for child in view.children]
    if all(new is old for new, old in zip(children, view.children, strict=True)):
        return view
    ours = {family(child.manifest.media_type) for child in [view, *children] if not isinstance(child, Opaque)}
    return _reindexed(view, children, DOCKER if ours == {DOCKER} else OCI)


def relabelled(index: Index, annotations: Mapping[str, str]) -> Index:
    """``index`` with exactly these annotations."""
    fields = decode(index.manifest.body, f"index {index.manifest.digest!s}")
    if annotations:
        fields["annotations"] = dict(annotations)
    else:
        fields.pop("annotations", None)
    if fields == decode(index.manifest.body, ""):
        return index
    return msgspec.structs.replace(index, manifest=_manifest(fields, index.manifest.media_type))


def _reindexed(index: Index, children: Sequence[Image | Index | Opaque], wanted: Family) -> Index:
    """``index`` with other ``children``, one for each of its entries."""
    what = f"index {index.manifest.digest!s}"
    fields = decode(index.manifest.body, what)
    edited = {
        old.manifest.digest
        for old, new in zip(index.children, children, strict=True)
        if not isinstance(old, Opaque) and new is not old
    }
    kept: list[Image | Index | Opaque] = []
    entries: list[dict[str, Any]] = []
    for entry, old, new in zip(items(fields, "manifests", what, dict), index.children, children, strict=True):
        if isinstance(new, Opaque):
            if new.descriptor.annotations.get(ATTESTS) in edited:
                continue
            _check_opaque(new, wanted)
            kept.append(new)
            entries.append(entry)
        else:
            converted = _as_oci(new) if wanted == OCI else new
            kept.append(converted)
            entries.append(_entry(entry, old, converted))
    fields["manifests"] = entries
    media_type = translated(index.manifest.media_type, wanted) or index.manifest.media_type
    return Index(_manifest(fields, media_type), tuple(kept), index.home)


def _check_opaque(child: Opaque, wanted: Family) -> None:
    if wanted == OCI and family(child.descriptor.media_type) == DOCKER:
        raise UnsupportedManifest(
            f"the index would mix OCI's media types with {child.descriptor.media_type} ({child.descriptor.digest!s})"
        )


def _entry(entry: dict[str, Any], old: Image | Index | Opaque, new: Image | Index) -> dict[str, Any]:
    """The descriptor of ``new`` where that of ``old`` was."""
    if old.manifest == new.manifest:
        return entry
    changed = {**described(entry, new.manifest.body), "mediaType": new.manifest.media_type}
    if isinstance(old, Image) and isinstance(new, Image) and isinstance(entry.get("platform"), dict):
        changed["platform"] = _platform(entry["platform"], old.platform, new.platform)
    return changed


def _platform(said: dict[str, Any], before: Platform, after: Platform) -> dict[str, Any]:
    """What the index says of an image's platform, where its config changed it."""
    changed = dict(said)
    for key, old, new in (
        ("architecture", before.architecture, after.architecture),
        ("os", before.os, after.os),
        ("variant", before.variant, after.variant),
        ("os.version", before.os_version, after.os_version),
        ("os.features", list(before.os_features), list(after.os_features)),
    ):
        if new != old and new:
            changed[key] = new
        elif new != old:
            changed.pop(key, None)
    return changed


def _as_oci(view: Image | Index) -> Image | Index:
    """``view`` with OCI's media types all the way down."""
    if isinstance(view, Image):
        if family(view.manifest.media_type) == OCI:
            return view
        return msgspec.structs.replace(view, manifest=_in_one_family(view.fields(), view.manifest, OCI))
    if family(view.manifest.media_type) == OCI:
        return view
    return _reindexed(view, view.children, OCI)


def _in_one_family(fields: dict[str, Any], before: Manifest, wanted: Family) -> Manifest:
    """The manifest of ``fields``, every type in it of the family ``wanted`` if that can be, else of OCI's."""
    what = f"manifest {before.digest!s}"
    config = fields["config"]
    layers: list[dict[str, Any]] = items(fields, "layers", what, dict)
    types = [translated(str(entry.get("mediaType", "")), wanted) for entry in (config, *layers)]
    if None in types:
        return _in_one_family(fields, before, OCI)
    fields["config"] = {**config, "mediaType": types[0]}
    fields["layers"] = [{**layer, "mediaType": kind} for layer, kind in zip(layers, types[1:], strict=True)]
    return _manifest(fields, translated(before.media_type, wanted) or before.media_type)


def _manifest(fields: dict[str, Any], media_type: str) -> Manifest:
    """``fields`` as a manifest of ``media_type``, which is said in it where it was, and where Docker wants it."""
    if "mediaType" in fields or family(media_type) == DOCKER:
        fields["mediaType"] = media_type
    return Manifest.read(encode(fields), content_type=media_type)
