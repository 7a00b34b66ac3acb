"""What of an OCI layout is of use: what ``index.json`` names, itself and through what it names. The rest is garbage."""

from __future__ import annotations

import re
from pathlib import Path

import msgspec

from asyncrane.errors import InvalidDigest
from asyncrane.oci import media
from asyncrane.oci.descriptor import Descriptor
from asyncrane.oci.digest import Digest
from asyncrane.oci.manifest import LARGEST
from asyncrane.stores.contents import Contents
from asyncrane.stores.files import PARTIAL, complaining
from asyncrane.stores.imageindex import ImageIndex
from asyncrane.stores.layout import Layout
from asyncrane.stores.layoutfiles import check_layout, check_no_links, nobody_writes, read_index

_DIGESTS = re.compile(rb"sha256:[0-9a-f]{64}|sha512:[0-9a-f]{128}")


class Garbage(msgspec.Struct, frozen=True):
    """A blob that nothing names, or, without a ``digest``, a file that was never finished; ``size`` is in bytes."""

    path: Path
    size: int
    digest: Digest | None = None

    def __str__(self) -> str:
        return str(self.digest or self.path.name)


def reachable(contents: Contents, index: ImageIndex) -> set[Digest]:
    """Everything that is of use and is here; for use in a thread.

    Of what is listed with an unknown media type every digest in it counts as used, so that nothing is lost by what we
    do not understand. What an attachment is attached to is not used by it.

    :raises ContentError: when a manifest is not what it should be
    """
    found: set[Digest] = set()
    waiting = [entry.descriptor for entry in index]
    while waiting:
        wanted = waiting.pop()
        if wanted.digest in found or not contents.holds(wanted.digest):
            continue
        found.add(wanted.digest)
        if wanted.media_type not in media.MANIFESTS:
            found.update(digest for digest in _mentioned(contents, wanted.digest) if contents.holds(digest))
            continue
        manifest = contents.read_manifest(Descriptor(wanted.media_type, wanted.digest, -1))
        found.update(blob.digest for blob in manifest.blobs() if contents.holds(blob.digest))
        waiting += manifest.children()
    return found


def _mentioned(contents: Contents, digest: Digest) -> set[Digest]:
    """Every digest that a small file mentions, and those that these mention."""
    found: set[Digest] = set()
    waiting = [digest]
    while waiting:
        extent = contents.extent(waiting.pop())
        if extent is None:
            continue
        body = extent.read(extent.size) if extent.size <= LARGEST else b""
        extent.close()
        if not body.lstrip().startswith(b"{"):
            continue
        new = {Digest(text.decode()) for text in _DIGESTS.findall(body)} - found
        found |= new
        waiting += new
    return found


def collect(root: Path, *, dry_run: bool = False) -> list[Garbage]:
    """Remove what is of no use from the layout ``root``, unless it is a ``dry_run``; for use in a thread.

    Nobody may write into it meanwhile: those who use :class:`~asyncrane.stores.layout.Layout` are noticed, other tools
    are not.

    :raises NotFound: when there is no such directory
    :raises ContentError: when it is no layout, or a manifest in it is damaged, or its blobs are a link: then nothing is
        removed
    :raises InvalidInput: when somebody is writing into it
    """
    root = root.resolve()
    check_layout(root)
    check_no_links(root)
    with nobody_writes(root), complaining(root):
        used = reachable(Layout(root), read_index(root))
        found = [garbage for garbage in _stored(root) if garbage.digest not in used]
        found += [Garbage(path, path.lstat().st_size) for path in sorted(root.glob(f"{PARTIAL}*")) if path.is_file()]
        if not dry_run:
            for garbage in found:
                garbage.path.unlink(missing_ok=True)
    return found


def _stored(root: Path) -> list[Garbage]:
    """Every blob; what is not named like one is somebody else's."""
    found = []
    for path in sorted((root / "blobs").glob("*/*")):
        try:
            digest = Digest.parse(f"{path.parent.name}:{path.name}")
        except InvalidDigest:
            continue
        if path.is_file() and not path.is_symlink():
            found.append(Garbage(path, path.lstat().st_size, digest))
    return found
