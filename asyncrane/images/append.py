"""Adding layers on top."""

from __future__ import annotations

from collections.abc import Sequence

from asyncrane.archive.packing import Layer
from asyncrane.errors import UnsupportedManifest
from asyncrane.images.history import EPOCH, HistoryEntry, aligned
from asyncrane.images.rebuild import each, rebuilt
from asyncrane.images.serialise import items, layer_entry, table
from asyncrane.images.view import Image, View, images

_APPENDED = HistoryEntry(created=EPOCH, created_by="asyncrane append")


def append_layers(
    view: View,
    layers: Sequence[Layer],
    *,
    windows: Sequence[Layer] = (),
    history: HistoryEntry = _APPENDED,
) -> View:
    """``view`` with ``layers`` on top of every image in it, the first one lowest; for Windows, where layers have a
    layout of their own, ``windows`` (:mod:`asyncrane.archive.windows`).

    The layers go up as they are, under the type their compression has in the image's family; Docker's has none for
    zstd, so that such a layer makes an OCI image of it. ``history`` is what the history says of each.

    :raises InvalidInput: when that cannot be said
    :raises UnsupportedManifest: for a Windows image that there are no layers for
    """
    history.check()
    said = history.otherwise(_APPENDED)

    def edit(image: Image) -> Image:
        return _append(image, windows if is_windows(image) else layers, said)

    if len(windows) < len(layers) and any(is_windows(image) for image in images(view)):
        raise UnsupportedManifest(f"{view.manifest.digest!s} is for Windows: layers cannot be appended as they are")
    return each(view, edit)


def is_windows(image: Image) -> bool:
    """Whether its layers are Windows'."""
    return image.platform.os == "windows"


def _append(image: Image, layers: Sequence[Layer], said: HistoryEntry) -> Image:
    if not layers:
        return image
    what, count = f"the config of {image.name}", len(image.diff_ids())
    settings, fields = image.settings(), image.fields()
    root = table(settings, "rootfs", what)
    root["diff_ids"] = [*image.diff_ids(), *[str.__str__(layer.diff_id) for layer in layers]]
    settings["rootfs"] = {"type": "layers", **root}
    history = items(settings, "history", what, dict)
    settings["history"] = [*aligned(history, count), *[said.fields() for _ in layers]]
    fields["layers"] = [*items(fields, "layers", what, dict), *[layer_entry(layer) for layer in layers]]
    here = {blob.digest for blob in image.manifest.blobs()}
    new = [layer for layer in layers if layer.digest not in here]
    return rebuilt(
        image,
        fields=fields,
        settings=settings,
        added={layer.digest: layer.read for layer in new if layer.home is None},
        origins={layer.digest: layer.home for layer in new if layer.home is not None},
    )
