"""What an edit could not keep, for people to be told."""

from __future__ import annotations

from asyncrane.images.view import View, images, manifests, opaques
from asyncrane.oci import media

_DOCKER = frozenset({media.DOCKER_MANIFEST, media.DOCKER_LIST})


def losses(before: View, after: View, why: str) -> tuple[str, ...]:
    """What became of attestations, and of Docker's media types. ``why`` attestations were left out begins with
    ``about``.
    """
    notes = []
    gone = len(list(opaques(before))) - len(list(opaques(after)))
    if gone:
        notes.append(f"{gone} attestation{'s' * (gone > 1)} left out: {why}")
    was_docker = any(manifest.media_type in _DOCKER for manifest in manifests(before))
    zstd = any(layer.media_type == media.OCI_LAYER_ZSTD for image in images(after) for layer in image.manifest.layers())
    if was_docker and after.manifest.media_type not in _DOCKER and zstd:
        notes.append("made an OCI image: Docker's media types have none for zstd")
    return tuple(notes)
