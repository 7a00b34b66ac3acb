"""One image of every kind a registry has to take."""

from __future__ import annotations

import json
from collections.abc import Callable
from functools import cache
from typing import Any

from backports import zstd

from asyncrane.oci import media
from asyncrane.oci.digest import Digest
from asyncrane.oci.manifest import Manifest
from asyncrane.testing.images import Sample, random_image, random_index
from tests.archive.test_layers import tar
from tests.copies.test_real_registries import artifact, nested
from tests.images.samples import attested
from tests.promises.images import described

MIB = 1024 * 1024
LARGE = 21 * MIB


def packed_with_zstd() -> Sample:
    """An image whose layers are zstd."""
    tars = [tar({"etc/motd": b"hello" * 1000}), tar({f"{n}": b"x" * 3000 for n in range(9)})]
    layers = [zstd.compress(content) for content in tars]
    config = json.dumps(
        {
            "os": "linux",
            "architecture": "amd64",
            "rootfs": {"type": "layers", "diff_ids": [str(Digest.of(content)) for content in tars]},
            "history": [{"created_by": "a test"} for _ in tars],
        }
    ).encode()
    fields: dict[str, Any] = {
        "schemaVersion": 2,
        "mediaType": media.OCI_MANIFEST,
        "config": described(media.OCI_CONFIG, config),
        "layers": [described(media.OCI_LAYER_ZSTD, layer) for layer in layers],
    }
    blobs = {Digest.of(content): content for content in (config, *layers)}
    return Sample((Manifest.read(json.dumps(fields).encode()),), blobs)


_MAKERS: dict[str, Callable[[], Sample]] = {
    "image": lambda: random_image("image"),
    "docker-image": lambda: random_image("docker", docker=True),
    "zstd-image": packed_with_zstd,
    "artifact": lambda: artifact("for servers"),
    "index": lambda: attested(random_index("index")),
    "docker-list": lambda: random_index("list", docker=True),
    "index-in-index": lambda: nested("for servers"),
    "large-image": lambda: random_image("large", layers=(2000, LARGE)),
}
KINDS = tuple(_MAKERS)


@cache
def made(kind: str) -> Sample:
    """The one of a kind, made once."""
    return _MAKERS[kind]()
