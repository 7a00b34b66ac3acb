"""An image of nothing, to put layers on (crane's ``empty.Image``)."""

from __future__ import annotations

from asyncrane.abc import Place, Site
from asyncrane.images.family import OCI, Family
from asyncrane.images.serialise import encode
from asyncrane.images.view import Image
from asyncrane.oci import media
from asyncrane.oci.descriptor import Descriptor
from asyncrane.oci.digest import Digest
from asyncrane.oci.manifest import Manifest
from asyncrane.oci.platform import Platform

_NOWHERE = Place(Site("nothing"))


def empty_image(kind: Family, platform: Platform | None = None) -> Image:
    """An image without layers, of the family ``kind``. Without ``platform`` it says that it is for none."""
    wanted = platform or Platform()
    said = {"variant": wanted.variant, "os.version": wanted.os_version}
    config = encode(
        {
            "architecture": wanted.architecture,
            "os": wanted.os,
            **{key: value for key, value in said.items() if value},
            "config": {},
            "rootfs": {"type": "layers", "diff_ids": []},
        }
    )
    media_type = media.OCI_MANIFEST if kind == OCI else media.DOCKER_MANIFEST
    described = Descriptor(media.OCI_CONFIG if kind == OCI else media.DOCKER_CONFIG, Digest.of(config), len(config))
    fields = {
        "schemaVersion": 2,
        "mediaType": media_type,
        "config": {
            "mediaType": described.media_type,
            "size": described.size,
            "digest": str.__str__(described.digest),
        },
        "layers": [],
    }
    manifest = Manifest.read(encode(fields), content_type=media_type)
    return Image(manifest, config, _NOWHERE, added={described.digest: config})
