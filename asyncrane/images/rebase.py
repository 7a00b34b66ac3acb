"""Rebasing: the layers of a base under an image taken out, those of another put in their place.

What is a base's is decided by the layers' content (diff ids), so that a recompressed base is still known.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any

from asyncrane.abc import Place
from asyncrane.errors import ContentError, InvalidPlatform
from asyncrane.images.history import EPOCH, HistoryEntry, above, aligned
from asyncrane.images.rebuild import each, rebuilt, relabelled
from asyncrane.images.serialise import items, table
from asyncrane.images.view import Blob, Image, Index, View, images
from asyncrane.oci.digest import Digest
from asyncrane.oci.platform import Platform

BASE_NAME = "org.opencontainers.image.base.name"
BASE_DIGEST = "org.opencontainers.image.base.digest"
"""Which image an image stands on (image-spec, annotations.md)."""

_SAME_VARIANT = {("arm64", ""): "v8", ("arm", ""): "v7", ("amd64", ""): "v1"}
"""What an architecture without a variant is (containerd's ``platforms`` package)."""

_REBASED = HistoryEntry(created=EPOCH, created_by="asyncrane rebase")


def rebase(
    view: View, old: View | Callable[[Image], View], new: View, *, name: str = "", history: HistoryEntry | None = None
) -> View:
    """``view`` on the base ``new`` instead of ``old``, which may be another for each image.

    Each image gets the base of its own platform. Its config, its history, its annotations and media types stay its own;
    only ``os.version`` and ``os.features`` come from the base, as the kernel they ask for is asked for by its layers.
    ``name`` is noted, with the digest of ``new``, as what it stands on now. With ``history`` the step is
    noted last in the history, as one that made no layer. An image that stands on ``new`` already is left as it is.

    :raises InvalidInput: when ``history`` cannot be said
    :raises InvalidPlatform: when a base has no image for one of the platforms
    :raises ContentError: when an image does not stand on its old base
    """
    noted = {BASE_NAME: name, BASE_DIGEST: str.__str__(new.manifest.digest)} if name else {}
    if history is not None:
        history.check()
        history = history.otherwise(_REBASED)

    def edit(image: Image) -> Image:
        below = matching(old(image) if callable(old) else old, image.platform, "old base")
        return _rebase(image, below, matching(new, image.platform, "new base"), noted, history)

    rebased = each(view, edit)
    if noted and isinstance(rebased, Index) and BASE_NAME in view.manifest.annotations:
        return relabelled(rebased, {**rebased.manifest.annotations, **noted})
    return rebased


def detect(view: View, candidates: Sequence[View]) -> int | None:
    """Which of ``candidates`` is the base of every image in ``view``: the one with the most layers of those that the
    image has the layers of, all of them and undermost; ``None`` when there is none.
    """
    best, most = None, 0
    for number, candidate in enumerate(candidates):
        layers = 0
        for image in images(view):
            try:
                found = matching(candidate, image.platform, "candidate").diff_ids()
            except (InvalidPlatform, ContentError):
                break
            if not _stands_on(image.diff_ids(), found):
                break
            layers += len(found)
        else:
            if layers > most:
                best, most = number, layers
    return best


def matching(base: View, platform: Platform, what: str) -> Image:
    """The image of ``base`` for ``platform``, the first one. Windows images must be of one build.

    :raises InvalidPlatform: when there is none; the message says which there are and calls the base ``what``
    """
    there = list(images(base))
    fitting = [image for image in there if _key(image.platform) == _key(platform)]
    if not fitting:
        known = ", ".join(sorted({str(image.platform) for image in there})) or "none"
        raise InvalidPlatform(f"the {what} has no image for {platform!s}; there are: {known}")
    return fitting[0]


def _key(platform: Platform) -> tuple[str, ...]:
    """What must be equal in an image and its base."""
    architecture, variant = platform.architecture, platform.variant
    build = ".".join(platform.os_version.split(".")[:3]) if platform.os == "windows" else ""
    return platform.os, architecture, _SAME_VARIANT.get((architecture, variant), variant), build


def _stands_on(layers: tuple[str, ...], base: tuple[str, ...]) -> bool:
    return bool(base) and layers[: len(base)] == base


def _rebase(image: Image, old: Image, new: Image, noted: Mapping[str, str], step: HistoryEntry | None) -> Image:
    layers, before, after = image.diff_ids(), old.diff_ids(), new.diff_ids()
    fields = image.fields()
    if noted:
        fields["annotations"] = {**table(fields, "annotations", f"manifest {image.name}"), **noted}
    if _stands_on(layers, after) and (len(after) >= len(before) or not _stands_on(layers, before)):
        return rebuilt(image, fields=fields, settings=image.settings())
    if not _stands_on(layers, before):
        raise ContentError(_not_on(image, old, layers, before))
    own = items(fields, "layers", f"manifest {image.name}", dict)[len(before) :]
    below: list[dict[str, Any]] = items(new.fields(), "layers", f"manifest {new.name}", dict)
    fields["layers"] = [*below, *own]
    settings = _settings(image, old, new)
    if step is not None:
        settings["history"] = [*settings["history"], step.fields(empty_layer=True)]
    origins: dict[Digest, Place] = {}
    added: dict[Digest, Blob] = {}
    for layer in new.manifest.layers():
        place = new.origin(layer.digest)
        if place is None:
            added[layer.digest] = new.added[layer.digest]
        else:
            origins[layer.digest] = place
    return rebuilt(image, fields=fields, settings=settings, added=added, origins=origins)


def _settings(image: Image, old: Image, new: Image) -> dict[str, Any]:
    """The config of ``image`` with the new base's layers and history under its own."""
    what = f"the config of {image.name}"
    settings, theirs = image.settings(), new.settings()
    layers, before, after = image.diff_ids(), old.diff_ids(), new.diff_ids()
    settings["rootfs"] = {**table(settings, "rootfs", what), "diff_ids": [*after, *layers[len(before) :]]}
    old_history = aligned(items(old.settings(), "history", f"the config of {old.name}", dict), len(before))
    new_history = aligned(items(theirs, "history", f"the config of {new.name}", dict), len(after))
    history = aligned(items(settings, "history", what, dict), len(layers))
    settings["history"] = [*new_history, *above(history, old_history, len(before))]
    for key in ("os.version", "os.features"):
        if key in theirs:
            settings[key] = theirs[key]
    return settings


def _not_on(image: Image, old: Image, layers: tuple[str, ...], before: tuple[str, ...]) -> str:
    if not before:
        return f"the old base {old.name} has no layers: nothing can stand on it"
    common = next((n for n, pair in enumerate(zip(layers, before, strict=False)) if pair[0] != pair[1]), len(layers))
    return f"{image.name} does not stand on {old.name}: of its {len(before)} layers only the first {common} are there"
