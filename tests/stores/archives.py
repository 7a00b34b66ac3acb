"""Archives as others write them, rebuilt from their documented layout: docker 20, docker 25 with either of its stores,
podman, and what is wrong with archives.

(moby ``image/tarexport``, containerd's ``archive`` exporter, containers/image ``docker/archive``.)
"""

from __future__ import annotations

import gzip
import io
import json
import tarfile
import zlib
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Any

from asyncrane.oci import media
from asyncrane.oci.digest import Digest
from asyncrane.testing.images import Sample, random_image
from tests.stores.samples import described

File = tuple[str, bytes | str]
"""A name, and the content, or what it is a link to: a name that begins with ``=`` is a hard link's."""


def tar(files: Iterable[File]) -> bytes:
    """A tar of files and links."""
    out = io.BytesIO()
    with tarfile.open(fileobj=out, mode="w", format=tarfile.PAX_FORMAT) as archive:
        for name, content in files:
            entry = tarfile.TarInfo(name)
            if isinstance(content, bytes):
                entry.size = len(content)
                archive.addfile(entry, io.BytesIO(content))
                continue
            entry.type = tarfile.LNKTYPE if content.startswith("=") else tarfile.SYMTYPE
            entry.linkname = content.removeprefix("=")
            archive.addfile(entry)
    return out.getvalue()


def unpacked(seed: object) -> Sample:
    """An image with plain layers, which is what daemons keep."""
    return random_image(seed, gzip=False)


def parts(sample: Sample) -> tuple[bytes, list[bytes]]:
    """The config and the layers of one image."""
    config = sample.manifest.config()
    assert config is not None
    return sample.blobs[config.digest], [sample.blobs[layer.digest] for layer in sample.manifest.layers()]


def saved(config: str, layers: Sequence[str], *names: str, **more: Any) -> dict[str, Any]:
    """An entry of ``manifest.json``."""
    return {"Config": config, "RepoTags": list(names) or None, "Layers": list(layers), **more}


def listed(*entries: dict[str, Any]) -> File:
    """``manifest.json``."""
    return "manifest.json", json.dumps(list(entries)).encode()


def docker20(sample: Sample, *names: str) -> bytes:
    """Layers in directories by id, plain; a layer that is there twice is a symbolic link the second time."""
    config, layers = parts(sample)
    files: list[File] = []
    paths: list[str] = []
    for number, layer in enumerate((*layers, layers[0])):
        directory = Digest.of(f"{number}".encode() + layer).hex
        again = number == len(layers)
        first = f"../{paths[0]}" if again else layer
        files += [(f"{directory}/VERSION", b"1.0"), (f"{directory}/json", b"{}"), (f"{directory}/layer.tar", first)]
        paths.append(f"{directory}/layer.tar")
    fields = json.loads(config)
    fields["rootfs"]["diff_ids"].append(fields["rootfs"]["diff_ids"][0])
    config = json.dumps(fields).encode()
    name = f"{Digest.of(config).hex}.json"
    return tar([*files, (name, config), listed(saved(name, paths, *names)), ("repositories", b"{}")])


def podman(sample: Sample, *names: str) -> bytes:
    """Layers by diff id, plain, with links to them in directories as docker once had."""
    config, layers = parts(sample)
    files: list[File] = [(f"{Digest.of(layer).hex}.tar", layer) for layer in layers]
    paths = [name for name, _ in files]
    files += [(f"{number:064x}/layer.tar", f"../{path}") for number, path in enumerate(paths)]
    name = f"{Digest.of(config).hex}.json"
    return tar([*files, (name, config), listed(saved(name, paths, *names))])


def docker25(sample: Sample, *names: str) -> bytes:
    """Docker 25 with its own store: an OCI layout, made by the daemon, of plain layers."""
    config, layers = parts(sample)
    sources = {str(Digest.of(layer)): described(media.OCI_LAYER, layer) for layer in layers}
    entry = saved(_blob(config)[0], [_blob(layer)[0] for layer in layers], *names, LayerSources=sources)
    index = _index([described(media.OCI_MANIFEST, sample.manifest.body)])
    files = [_blob(config), *[_blob(layer) for layer in layers], _blob(sample.manifest.body), *index]
    return tar([*files, listed(entry), ("repositories", b"{}")])


def containerd(root: Sample, *names: str, without: Sequence[Digest] = ()) -> bytes:
    """Docker 25 with containerd's store: what was pulled, as it was pulled, but for platforms it has not fetched."""
    image = next(manifest for manifest in root.manifests if manifest.is_image)
    config = image.config()
    assert config is not None
    layers = [f"blobs/sha256/{layer.digest.hex}" for layer in image.layers()]
    notes = {"io.containerd.image.name": f"docker.io/library/{names[0]}"} if names else {}
    index = _index([described(root.manifest.media_type, root.manifest.body, annotations=notes)])
    contents = [*root.blobs.values(), *[manifest.body for manifest in root.manifests]]
    files = [_blob(content) for content in contents if Digest.of(content) not in without]
    return tar([*files, *index, listed(saved(f"blobs/sha256/{config.digest.hex}", layers, *names))])


def _blob(content: bytes) -> tuple[str, bytes]:
    return f"blobs/sha256/{Digest.of(content).hex}", content


def _index(manifests: list[dict[str, Any]]) -> list[File]:
    fields = {"schemaVersion": 2, "mediaType": media.OCI_INDEX, "manifests": manifests}
    return [("oci-layout", b'{"imageLayoutVersion":"1.0.0"}'), ("index.json", json.dumps(fields).encode())]


def bomb(size: int) -> bytes:
    """A small gzip file that expands to a tar with one file of ``size`` zeros."""
    entry = tarfile.TarInfo("zeros")
    entry.size = size
    deflate = zlib.compressobj(9, zlib.DEFLATED, -zlib.MAX_WBITS)
    head = deflate.compress(entry.tobuf()) + deflate.flush(zlib.Z_FULL_FLUSH)
    piece = deflate.compress(bytes(1 << 20)) + deflate.flush(zlib.Z_FULL_FLUSH)
    return gzip.compress(b"")[:10] + head + piece * (size >> 20) + deflate.flush()


def left(directory: Path) -> list[str]:
    """What is in a directory."""
    return sorted(path.name for path in directory.iterdir())


def write(path: Path, content: bytes) -> Path:
    """A file."""
    path.write_bytes(content)
    return path
