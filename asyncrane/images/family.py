"""The two families of media types, OCI's and Docker's, which one image never mixes (K3).

(image-spec, media-types.md, "Compatibility Matrix".)
"""

from __future__ import annotations

from typing import Literal, TypeAlias

from asyncrane.oci import media

Family: TypeAlias = Literal["oci", "docker"]

OCI: Family = "oci"
DOCKER: Family = "docker"

_DOCKER_LAYER = media.DOCKER_LAYER_GZIP.removesuffix(".gzip")
_DOCKER_FOREIGN = media.DOCKER_FOREIGN_LAYER.removesuffix(".gzip")
_NONDISTRIBUTABLE = "application/vnd.oci.image.layer.nondistributable.v1.tar"

_TO_OCI = {
    media.DOCKER_MANIFEST: media.OCI_MANIFEST,
    media.DOCKER_LIST: media.OCI_INDEX,
    media.DOCKER_CONFIG: media.OCI_CONFIG,
    _DOCKER_LAYER: media.OCI_LAYER,
    media.DOCKER_LAYER_GZIP: media.OCI_LAYER_GZIP,
    _DOCKER_FOREIGN: _NONDISTRIBUTABLE,
    media.DOCKER_FOREIGN_LAYER: f"{_NONDISTRIBUTABLE}+gzip",
}
_TO_DOCKER = {oci: docker for docker, oci in _TO_OCI.items()}
_ONLY_OCI = frozenset({media.OCI_LAYER_ZSTD, f"{_NONDISTRIBUTABLE}+zstd"})

LAYERS = {"plain": media.OCI_LAYER, "gzip": media.OCI_LAYER_GZIP, "zstd": media.OCI_LAYER_ZSTD}
"""The type of a layer by its compression."""


def family(media_type: str) -> Family | None:
    """Whose type it is; ``None`` for a type of neither, which goes with both."""
    if media_type in _TO_OCI:
        return DOCKER
    return OCI if media_type in _TO_DOCKER or media_type in _ONLY_OCI else None


def translated(media_type: str, wanted: Family) -> str | None:
    """The same kind of thing in the family ``wanted``; ``None`` where that has no such kind (zstd in Docker's)."""
    if wanted == OCI:
        return _TO_OCI.get(media_type, media_type)
    return None if media_type in _ONLY_OCI else _TO_DOCKER.get(media_type, media_type)
