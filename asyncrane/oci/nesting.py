"""How far an index may go on listing others: a few kilobytes of indexes that list one another again and again stand for
billions of manifests.
"""

from __future__ import annotations

from asyncrane.errors import UnsupportedManifest
from asyncrane.oci.descriptor import Descriptor
from asyncrane.oci.manifest import Manifest

DEEPEST = 16
"""Indexes that are followed, one in another."""

MOST = 10_000
"""Entries of all of them that are followed for one image, each time that they are listed."""


class Nesting:
    """What one image has listed so far."""

    def __init__(self) -> None:
        self._listed = 0

    def entries(self, index: Manifest, depth: int) -> tuple[Descriptor, ...]:
        """What ``index`` lists, which so many others are above.

        :raises UnsupportedManifest: when that leads too far
        """
        children = index.children()
        self._listed += len(children)
        if depth >= DEEPEST:
            raise UnsupportedManifest(f"{index.digest!s}: indexes in indexes, {depth} deep")
        if self._listed > MOST:
            raise UnsupportedManifest(f"{index.digest!s}: indexes in indexes, with more than {MOST} entries")
        return children

    def __repr__(self) -> str:
        return f"Nesting({self._listed} entries)"
