"""The registry that docs/recipes.md talks about: a small shop's images, with real files in them."""

from __future__ import annotations

import gzip
import hashlib
import io
import json
import tarfile
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from asyncrane.oci import media
from asyncrane.oci.manifest import Manifest
from asyncrane.testing import FaultyRegistry

PLATFORMS = ("amd64", "arm64")
_BASE_NAME, _BASE_DIGEST = "org.opencontainers.image.base.name", "org.opencontainers.image.base.digest"


@dataclass(frozen=True)
class Layer:
    """A gzip layer of files by path, executable below ``bin``; content ``None`` makes a whiteout. A path that ends in
    ``/`` is a directory.
    """

    files: Mapping[str, str | None]

    @property
    def tar(self) -> bytes:
        packed = io.BytesIO()
        with tarfile.open(fileobj=packed, mode="w", format=tarfile.PAX_FORMAT) as archive:
            for path, content in self.files.items():
                folder, _, name = path.rpartition("/")
                member = tarfile.TarInfo(f"{folder}/.wh.{name}" if content is None else path)
                member.size = len(content or "")
                member.mode = 0o755 if path.startswith("bin/") or path.endswith("/") else 0o644
                if path.endswith("/"):
                    member.name, member.type = path, tarfile.DIRTYPE
                archive.addfile(member, io.BytesIO((content or "").encode()))
        return packed.getvalue()

    @property
    def blob(self) -> bytes:
        return gzip.compress(self.tar, mtime=0)


OLD_BASE = (
    Layer(
        {
            "etc/os-release": 'NAME="Shop Linux"\nVERSION_ID=1\n',
            "bin/sh": "#!/sh\n",
            "tmp/": "",
            "tmp/cache": "x" * 2000,
        }
    ),
    Layer({"etc/ssl/certs.pem": "certificates of 2025\n", "tmp/cache": None}),
)
NEW_BASE = (
    Layer({"etc/os-release": 'NAME="Shop Linux"\nVERSION_ID=2\n', "bin/sh": "#!/sh\n"}),
    Layer({"etc/ssl/certs.pem": "certificates of 2026\n"}),
)


def app(architecture: str, name: str, release: int) -> Layer:
    """What is an application's own."""
    return Layer(
        {
            f"bin/{name}": f"#!/bin/sh\necho {name} {release} on {architecture}\n",
            f"etc/{name}.conf": f"workers = {release}\n",
        }
    )


class Shop:
    """Puts images into a registry; ``name`` is what it calls itself in annotations, ``prefix`` begins every path."""

    def __init__(self, registry: FaultyRegistry, name: str, prefix: str) -> None:
        self.registry = registry
        self.name = name
        self.prefix = prefix

    def image(
        self,
        repository: str,
        tag: str | None,
        layers: tuple[Layer, ...],
        architecture: str = "amd64",
        *,
        base: str = "",
        **config: Any,
    ) -> dict[str, Any]:
        """Store an image; returns its descriptor. ``base`` is the tag of what it says it stands on."""
        blobs = [layer.blob for layer in layers]
        settings = {
            "architecture": architecture,
            "os": "linux",
            "created": "2026-01-02T03:04:05Z",
            "config": {"Env": ["PATH=/bin"], "Cmd": ["/bin/sh"], **config},
            "rootfs": {"type": "layers", "diff_ids": [_digest(layer.tar) for layer in layers]},
            "history": [{"created": "2026-01-02T03:04:05Z", "created_by": f"layer {at}"} for at in range(len(layers))],
        }
        body = {
            "schemaVersion": 2,
            "mediaType": media.OCI_MANIFEST,
            "config": self._blob(repository, media.OCI_CONFIG, json.dumps(settings).encode()),
            "layers": [self._blob(repository, media.OCI_LAYER_GZIP, blob) for blob in blobs],
        }
        if base:
            digest = self.registry.storage.index.tagged(f"{self.prefix}base", base)
            body["annotations"] = {_BASE_NAME: f"{self.name}/{self.prefix}base:{base}", _BASE_DIGEST: str(digest)}
        platform = {"architecture": architecture, "os": "linux"}
        return self._manifest(repository, tag, body) | {"platform": platform}

    def index(self, repository: str, tag: str, entries: list[dict[str, Any]]) -> dict[str, Any]:
        """Store an index of images."""
        body = {"schemaVersion": 2, "mediaType": media.OCI_INDEX, "manifests": entries}
        return self._manifest(repository, tag, body)

    def artifact(self, repository: str, tag: str | None, kind: str, content: str, **fields: Any) -> None:
        """Store something that is no image: one blob of a type of its own."""
        body = {
            "schemaVersion": 2,
            "mediaType": media.OCI_MANIFEST,
            "artifactType": kind,
            "config": self._blob(repository, media.OCI_EMPTY, b"{}"),
            "layers": [self._blob(repository, kind, content.encode())],
        }
        self._manifest(repository, tag, body | fields)

    def attach(self, repository: str, subject: dict[str, Any], kind: str, content: str) -> None:
        """Store an artifact that is attached to an image."""
        about = {key: subject[key] for key in ("mediaType", "digest", "size")}
        self.artifact(repository, None, kind, content, subject=about)

    def sign(self, repository: str, subject: dict[str, Any]) -> None:
        """Store what cosign calls a signature, under its tag."""
        body = {
            "schemaVersion": 2,
            "mediaType": media.OCI_MANIFEST,
            "config": self._blob(repository, media.OCI_CONFIG, b"{}"),
            "layers": [self._blob(repository, "application/vnd.dev.cosign.simplesigning.v1+json", b'{"critical":{}}')],
        }
        self._manifest(repository, f"{subject['digest'].replace(':', '-')}.sig", body)

    def _blob(self, repository: str, media_type: str, content: bytes) -> dict[str, Any]:
        digest = self.registry.put_blob(self.prefix + repository, content)
        return {"mediaType": media_type, "digest": str(digest), "size": len(content)}

    def _manifest(self, repository: str, tag: str | None, body: dict[str, Any]) -> dict[str, Any]:
        manifest = Manifest.read(json.dumps(body).encode())
        self.registry.put_manifest(self.prefix + repository, manifest, *([tag] if tag else []))
        return {"mediaType": body["mediaType"], "digest": str(manifest.digest), "size": manifest.size}


def stock(registry: FaultyRegistry, name: str, *, prefix: str = "") -> None:
    """Bases 1 and 2; ``app`` and ``worker`` for two platforms, on base 1; ``tool`` in single images; what is attached
    to ``app:2``; and an image of ``app`` that lost its tag.
    """
    shop = Shop(registry, name, prefix)
    for tag, layers in {"1": OLD_BASE, "2": NEW_BASE}.items():
        shop.index("base", tag, [shop.image("base", None, layers, platform) for platform in PLATFORMS])
    for repository in ("app", "worker"):
        for release in (1, 2):
            made = [
                shop.image(
                    repository,
                    None,
                    (*OLD_BASE, app(platform, repository, release)),
                    platform,
                    base="1",
                    Entrypoint=[f"/bin/{repository}"],
                    Labels={"release": str(release)},
                )
                for platform in PLATFORMS
            ]
            index = shop.index(repository, str(release), made)
            if (repository, release) == ("app", 2):
                shop.sign(repository, index)
                shop.attach(repository, index, "application/spdx+json", '{"spdxVersion":"SPDX-2.3"}')
    shop.image("app", None, (*OLD_BASE, app("amd64", "app", 0)))
    for platform in PLATFORMS:
        shop.image("tool", platform, (*NEW_BASE, app(platform, "tool", 1)), platform)


def _digest(content: bytes) -> str:
    return f"sha256:{hashlib.sha256(content).hexdigest()}"
