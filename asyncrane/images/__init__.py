"""Editing images: functions from image to image that do no I/O. What comes out is an overlay, a source of the few new
bytes (manifests, configs, layers) which the engine copies; everything else stays where it is.

    from asyncrane import images

    base = await images.load(source, "1.2")
    app = images.append_layers(base, [await images.layer_file(Path("app.tar"))])
    await asyncrane.put(session, images.mutate(app, images.Changes(user="1000")), "registry.example.com/app:1")

:func:`load` reads manifests and configs, :func:`layer_file` and :func:`directory_layer` look a new layer through. Then
:func:`append_layers`, :func:`mutate` and :func:`rebase` only compute; an :class:`Index` is edited as a whole, each of
its images. :func:`flatten` and :func:`extract` have to read layers, and are contexts: what they made is there as long
as these are. :func:`asyncrane.put` copies the result.

``docs/library.md`` has examples. What else is in here is the package's own.
"""

from asyncrane.archive.formats import Packing
from asyncrane.archive.layers import Layer, directory_layer, layer_file, windows_layer
from asyncrane.images.append import append_layers
from asyncrane.images.empty import empty_image
from asyncrane.images.extract import extract
from asyncrane.images.flatten import flatten
from asyncrane.images.history import HistoryEntry
from asyncrane.images.mutate import Changes, mutate
from asyncrane.images.overlay import Overlay
from asyncrane.images.rebase import detect, rebase
from asyncrane.images.view import Image, Index, Opaque, View, images, load, load_rest

__all__ = [
    "Changes",
    "HistoryEntry",
    "Image",
    "Index",
    "Layer",
    "Opaque",
    "Overlay",
    "Packing",
    "View",
    "append_layers",
    "detect",
    "directory_layer",
    "empty_image",
    "extract",
    "flatten",
    "images",
    "layer_file",
    "load",
    "load_rest",
    "mutate",
    "rebase",
    "windows_layer",
]
