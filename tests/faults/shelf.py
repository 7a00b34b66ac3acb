"""What a ``docker-registry`` has on its disk, put there and looked at without asking it (distribution's file layout).

Nothing of ours is between the bytes and a test: what the registry would say of itself is for ``mirror verify``.
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterator
from pathlib import Path

from asyncrane.oci.digest import Digest
from asyncrane.testing.images import Sample


class Shelf:
    """The storage directory of one registry."""

    def __init__(self, directory: Path) -> None:
        self._blobs = directory / "docker/registry/v2/blobs"
        self._repositories = directory / "docker/registry/v2/repositories"

    def put(self, repository: str, sample: Sample, tag: str) -> None:
        """Store an image, before the registry is asked about it."""
        home = self._repositories / repository
        for digest, content in sample.blobs.items():
            self._keep(digest, content)
            _link(home / "_layers/sha256" / digest.hex / "link", digest)
        for manifest in sample.manifests:
            self._keep(manifest.digest, manifest.body)
            _link(home / "_manifests/revisions/sha256" / manifest.digest.hex / "link", manifest.digest)
        named = home / "_manifests/tags" / tag
        _link(named / "current/link", sample.digest)
        _link(named / "index/sha256" / sample.digest.hex / "link", sample.digest)

    def _keep(self, digest: Digest, content: bytes) -> None:
        path = self._blobs / "sha256" / digest.hex[:2] / digest.hex / "data"
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(content)

    def tags(self, prefix: str) -> dict[str, str]:
        """``repository:tag`` of everything below ``prefix``, and the digest that each names."""
        root = self._repositories / prefix
        links = root.glob("**/_manifests/tags/*/current/link")
        return {f"{link.parents[4].relative_to(root)}:{link.parents[1].name}": link.read_text() for link in links}

    def spoiled(self) -> list[str]:
        """Blobs and manifests that are not what their names say."""
        return [
            path.parent.name
            for path in self._blobs.glob("sha256/*/*/data")
            if hashlib.sha256(path.read_bytes()).hexdigest() != path.parent.name
        ]

    def lacking(self, prefix: str, images: dict[str, Sample]) -> list[str]:
        """What ``images``, as far as their tags are below ``prefix``, should have there and have not."""
        there = self.tags(prefix)
        return [
            f"{name}: {digest}"
            for name in sorted(there)
            for kind, digest in _parts(images[name])
            if not (self._repositories / prefix / name.partition(":")[0] / kind / digest / "link").is_file()
        ]


def _parts(sample: Sample) -> Iterator[tuple[str, str]]:
    yield from (("_layers/sha256", digest.hex) for digest in sample.blobs)
    yield from (("_manifests/revisions/sha256", manifest.digest.hex) for manifest in sample.manifests)


def _link(path: Path, digest: Digest) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(str(digest))
