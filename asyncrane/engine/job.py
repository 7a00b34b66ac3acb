"""A job: copy one image from one place to one or several others."""

from __future__ import annotations

from typing import Literal, TypeAlias

import msgspec

from asyncrane.abc import Place
from asyncrane.oci.digest import Digest
from asyncrane.oci.platform import Platform

Overwrite: TypeAlias = Literal["if-different", "if-missing", "never", "always"]
"""What becomes of a destination tag that exists: moved if it names something else; left as it is; left, and a conflict
if it names something else; written again in any case.
"""


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
    """One image to copy. ``tag`` and ``digest`` say which one: the digest decides, the tag is checked against it.

    ``referrers``: what is attached to it, and to the manifests an index lists, goes along (distribution-spec, "Listing
    Referrers"; cosign's tags). ``origins`` says where blobs are read that ``source`` itself does not have.
    """

    id: int
    source: Place
    targets: tuple[Target, ...]
    tag: str | None = None
    digest: Digest | None = None
    platforms: tuple[Platform, ...] = ()
    overwrite: Overwrite = "if-different"
    nondistributable: bool = False
    referrers: bool = False
    origins: tuple[tuple[Digest, Place], ...] = ()

    @property
    def identifier(self) -> str:
        """What to ask the source for."""
        return str(self.digest) if self.digest else (self.tag or "latest")

    def __str__(self) -> str:
        tag = f":{self.tag}" if self.tag else ""
        digest = f"@{self.digest!s}" if self.digest else ""
        return f"{self.source}{tag}{digest}"
