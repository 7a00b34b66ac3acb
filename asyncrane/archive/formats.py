"""What a layer's tar may be packed as, and how people say so."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Literal, TypeAlias

import msgspec

from asyncrane.archive.compression import Compression
from asyncrane.archive.members import GZIP_LEVELS, ZSTD_LEVELS
from asyncrane.errors import InvalidInput

Format: TypeAlias = Literal["plain", "gzip", "zstd", "estargz"]

LayerFormat: TypeAlias = Literal["gzip", "zstd", "estargz", "uncompressed"]
"""What new layers are to be, as it is said in commands and job files."""

_EXPERIMENT = "GGCR_EXPERIMENT_ESTARGZ"


class Packing(msgspec.Struct, frozen=True):
    """How a layer is to be packed. ``level`` is zlib's (0 to 9) or zstd's (1 to 22), ``None`` a fast one."""

    format: Format
    level: int | None = None

    def check(self) -> None:
        """See whether there is such a level.

        :raises InvalidInput: when there is not
        """
        if self.level is None:
            return
        if self.format == "plain":
            raise InvalidInput("a level means nothing to layers that are not compressed")
        levels = ZSTD_LEVELS if self.format == "zstd" else GZIP_LEVELS
        if self.level not in levels:
            raise InvalidInput(f"no level of {self.format}: {self.level} (expected {levels[0]} to {levels[-1]})")

    @property
    def compression(self) -> Compression:
        """What the blob's first bytes say: eStargz is gzip."""
        return "gzip" if self.format == "estargz" else self.format

    def fits(self, compression: Compression) -> bool:
        """Whether a file that is compressed so is packed as is wanted. Of eStargz only its TOC could say so."""
        return self.format == compression and self.level is None


def packing_of(layer_format: LayerFormat | None) -> Packing | None:
    """How layers of that format are packed; ``None`` leaves compressed files as they are, and makes others gzip."""
    if layer_format is None:
        return None
    return Packing("plain" if layer_format == "uncompressed" else layer_format)


def layer_format_from_environment(environ: Mapping[str, str]) -> LayerFormat | None:
    """``estargz`` where ``GGCR_EXPERIMENT_ESTARGZ=1`` asks for it, as crane once had it (until v0.21.5): layers made
    of files become eStargz.
    """
    return "estargz" if environ.get(_EXPERIMENT) == "1" else None
