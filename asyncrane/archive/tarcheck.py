"""Whether what passes is a tar that can be a layer: whole, and nothing in it leads out of the image's root."""

from __future__ import annotations

from pathlib import PurePosixPath

from asyncrane.archive.tarwalk import TarHeaders
from asyncrane.errors import ContentError

_HARD_LINK = ord("1")


class TarCheck(TarHeaders):
    """Looks at a tar that passes in pieces, and remembers nothing of it; errors begin with ``name``."""

    def __init__(self, name: str) -> None:
        super().__init__()
        self._name = name

    def entry(self, kind: int, name: bytes, link: bytes) -> None:
        """One more entry.

        :raises ContentError: when it would be unpacked outside
        """
        if _leads_out(name) or (kind == _HARD_LINK and _leads_out(link)):
            shown = name.decode(errors="backslashreplace")
            raise ContentError(f"{self._name} has an entry that leads out of it: {shown!r}")

    def refusal(self, why: str) -> ContentError:
        """The error for what is no tar."""
        return ContentError(f"{self._name} is not a tar archive, or is cut off: {why}")

    def finish(self) -> None:
        """No more bytes come.

        :raises ContentError: when there was nothing, or it ends in the middle of an entry
        """
        if not self.blocks:
            raise self.refusal("it is empty" if not self._held else "it is too short for one")
        if self.unfinished(padded=True):
            raise self.refusal("it ends in the middle of an entry")


class TarShape(TarCheck):
    """Whether it is a tar at all, whatever its entries are called, and whole. Nothing is one, too."""

    def entry(self, kind: int, name: bytes, link: bytes) -> None:
        """One more entry."""

    def finish(self) -> None:
        """No more bytes come.

        :raises ContentError: when it ends in the middle of an entry
        """
        if self.unfinished(padded=False):
            raise self.refusal("it ends in the middle of an entry")


def _leads_out(name: bytes) -> bool:
    if b".." not in name:
        return False
    depth = 0
    for part in PurePosixPath(name.decode(errors="surrogateescape")).parts:
        depth += -1 if part == ".." else part != "/"
        if depth < 0:
            return True
    return False
