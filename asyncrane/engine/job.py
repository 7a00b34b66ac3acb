"""A job: copy one image from one place to one or several others."""

from __future__ import annotations

import msgspec

from asyncrane.abc import Place
from asyncrane.oci.digest import Digest
from asyncrane.oci.platform import Platform


class Target(msgspec.Struct, frozen=True):
    """Where one copy goes: under ``tag``, or by digest only. A ``digest`` must be what the image has."""

    place: Place
    tag: str | None = None
    digest: Digest | None = None

    @property
    def identifier(self) -> str:
        """What to ask for to see what is there now."""
        return self.tag or str(self.digest or "")

    def __str__(self) -> str:
        tag = f":{self.tag}" if self.tag else ""
        digest = f"@{self.digest!s}" if self.digest else ""
        return f"{self.place}{tag}{digest}"


class Job(msgspec.Struct, frozen=True):
    """One image to copy. ``tag`` and ``digest`` say which one: the digest decides, the tag is checked against it."""

    id: int
    source: Place
    targets: tuple[Target, ...]
    tag: str | None = None
    digest: Digest | None = None
    platforms: tuple[Platform, ...] = ()
    clobber: bool = True
    nondistributable: bool = False

    @property
    def identifier(self) -> str:
        """What to ask the source for."""
        return str(self.digest) if self.digest else (self.tag or "latest")

    def __str__(self) -> str:
        tag = f":{self.tag}" if self.tag else ""
        digest = f"@{self.digest!s}" if self.digest else ""
        return f"{self.source}{tag}{digest}"
