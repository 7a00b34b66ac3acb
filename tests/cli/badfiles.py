"""Files and images that are not what they should be, each wrong in one way."""

from __future__ import annotations

import gzip
import hashlib
import io
import json
import os
import tarfile
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

from asyncrane.oci import media
from asyncrane.oci.digest import Digest
from asyncrane.oci.manifest import Manifest
from asyncrane.testing import FaultyRegistry

TEN_GIGABYTES = 10_000_000_000


def tar(**members: bytes) -> bytes:
    """A tar of files; ``__`` in a name stands for ``/``."""
    return tar_of({name.replace("__", "/"): content for name, content in members.items()})


def tar_of(members: Mapping[str, bytes]) -> bytes:
    packed = io.BytesIO()
    with tarfile.open(fileobj=packed, mode="w", format=tarfile.PAX_FORMAT) as archive:
        for name, content in members.items():
            member = tarfile.TarInfo(name)
            member.size = len(content)
            archive.addfile(member, io.BytesIO(content))
    return packed.getvalue()


def hard_link(name: str, target: str) -> bytes:
    """A tar with one hard link."""
    packed = io.BytesIO()
    with tarfile.open(fileobj=packed, mode="w", format=tarfile.PAX_FORMAT) as archive:
        member = tarfile.TarInfo(name)
        member.type, member.linkname = tarfile.LNKTYPE, target
        archive.addfile(member)
    return packed.getvalue()


def claims_ten_gigabytes() -> bytes:
    """A gzip file of less than a kilobyte: a tar whose file is said to be that large."""
    member = tarfile.TarInfo("large")
    member.size = TEN_GIGABYTES
    return gzip.compress(member.tobuf(tarfile.GNU_FORMAT) + bytes(1 << 16), mtime=0)


GOOD = tar(etc__motd=os.urandom(5000))
SQUEEZED = gzip.compress(GOOD, mtime=0)

LAYERS: dict[str, bytes] = {
    "no-tar": b"this is a text, and no archive\n" * 100,
    "gzip-of-no-tar": gzip.compress(b"this is a text, and no archive\n" * 100),
    "cut-gzip": SQUEEZED[: len(SQUEEZED) // 2],
    "cut-tar": GOOD[:2000],
    "damaged-gzip": SQUEEZED[:-8] + bytes(8),
    "dots": tar_of({"../../outside": b"x"}),
    "link-to-dots": hard_link("link", "../../outside"),
    "large-claim": claims_ten_gigabytes(),
}
"""Layers by what is wrong with them."""


def _plain(layer: bytes) -> bytes:
    return gzip.decompress(layer) if layer.startswith(b"\x1f\x8b") else layer


def _config(diff_id: str) -> bytes:
    rootfs = {"type": "layers", "diff_ids": [f"sha256:{diff_id}"]}
    return json.dumps({"os": "linux", "architecture": "amd64", "config": {}, "rootfs": rootfs}).encode()


def archive(layer: bytes, *, layer_name: str = "layer.tar", diff_id: str | None = None) -> bytes:
    """What docker save writes, with this layer."""
    config = _config(diff_id or hashlib.sha256(_plain(layer)).hexdigest())
    listing = [{"Config": "config.json", "RepoTags": ["app:1"], "Layers": [layer_name]}]
    return tar_of({"config.json": config, "layer.tar": layer, "manifest.json": json.dumps(listing).encode()})


ARCHIVES: dict[str, bytes] = {
    "no-archive": LAYERS["no-tar"],
    "cut-gzip-archive": gzip.compress(archive(GOOD))[:-2000],
    "cut-archive": archive(GOOD)[:3000],
    "archive-of-nothing": tar(readme=b"no image here"),
    "archive-that-lies": archive(GOOD, diff_id="0" * 64),
    "archive-of-dots": archive(GOOD, layer_name="../../../../etc/passwd"),
    "large-claim-archive": claims_ten_gigabytes(),
}
"""Image archives by what is wrong with them."""


def make(directory: Path) -> None:
    """All of these files in a directory, a good one (``layer.tar``, ``app.tar``), and a directory ``folder``."""
    for name, content in {**LAYERS, **ARCHIVES}.items():
        (directory / name).write_bytes(content)
    (directory / "layer.tar").write_bytes(GOOD)
    (directory / "app.tar").write_bytes(archive(GOOD))
    (directory / "folder").mkdir()
    (directory / "folder" / "kept").write_bytes(b"")
    layout(directory / "layout", SQUEEZED)
    layout(directory / "layout-that-lies", SQUEEZED, spoil=True)


def layout(directory: Path, layer: bytes, *, spoil: bool = False) -> None:
    """An OCI layout with one image; ``spoil`` changes a byte of its layer afterwards."""
    blobs = directory / "blobs" / "sha256"
    blobs.mkdir(parents=True)

    def keep(content: bytes) -> str:
        digest = Digest.of(content)
        (blobs / digest.hex).write_bytes(content)
        return str(digest)

    body = _manifest(keep, layer)
    entry = {"mediaType": media.OCI_MANIFEST, "digest": keep(body), "size": len(body)}
    (directory / "oci-layout").write_text('{"imageLayoutVersion":"1.0.0"}')
    index = {"schemaVersion": 2, "mediaType": media.OCI_INDEX, "manifests": [entry]}
    (directory / "index.json").write_text(json.dumps(index))
    if spoil:
        (blobs / Digest.of(layer).hex).write_bytes(bytes([layer[0] ^ 1]) + layer[1:])


def put(registry: FaultyRegistry, repository: str, tag: str, layer: bytes) -> str:
    """Store an image with this layer."""
    manifest = Manifest.read(_manifest(lambda content: str(registry.put_blob(repository, content)), layer))
    registry.put_manifest(repository, manifest, tag)
    return f"{registry.address}/{repository}:{tag}"


def _manifest(keep: Callable[[bytes], str], layer: bytes) -> bytes:
    try:
        plain = _plain(layer)
    except (EOFError, OSError):
        plain = b""
    config = _config(hashlib.sha256(plain).hexdigest())
    kind = media.OCI_LAYER_GZIP if layer.startswith(b"\x1f\x8b") else media.OCI_LAYER
    body: dict[str, Any] = {
        "schemaVersion": 2,
        "mediaType": media.OCI_MANIFEST,
        "config": {"mediaType": media.OCI_CONFIG, "digest": keep(config), "size": len(config)},
        "layers": [{"mediaType": kind, "digest": keep(layer), "size": len(layer)}],
    }
    return json.dumps(body).encode()
