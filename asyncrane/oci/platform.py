"""Platforms: ``os/arch[/variant][:osversion]`` (image-spec, image-index.md, "platform")."""

from __future__ import annotations

import re
from typing import Any

import msgspec

from asyncrane.errors import InvalidPlatform

_PART = re.compile(r"[A-Za-z0-9_.+-]+")


class Platform(msgspec.Struct, frozen=True, omit_defaults=True):
    """What an image runs on. Empty fields are unknown (in an image) or do not matter (in a wish)."""

    os: str = ""
    architecture: str = ""
    variant: str = ""
    os_version: str = ""
    os_features: tuple[str, ...] = ()

    @classmethod
    def parse(cls, text: str) -> Platform:
        """Read ``os/arch[/variant][:osversion]``.

        :raises InvalidPlatform: for anything else
        """
        names, colon, version = text.partition(":")
        parts = names.split("/")
        if not 2 <= len(parts) <= 3 or not all(_PART.fullmatch(p) for p in parts) or (colon and not version):
            raise InvalidPlatform(f"not a platform: {text!r} (expected os/arch[/variant][:osversion])")
        return cls(parts[0], parts[1], parts[2] if len(parts) == 3 else "", version)

    @classmethod
    def read(cls, fields: Any) -> Platform | None:
        """The ``platform`` object of a descriptor, or the like-named fields of an image config; ``None`` if neither."""
        if not isinstance(fields, dict) or not fields:
            return None
        features = fields.get("os.features")
        return cls(
            os=_text(fields.get("os")),
            architecture=_text(fields.get("architecture")),
            variant=_text(fields.get("variant")),
            os_version=_text(fields.get("os.version")),
            os_features=tuple(_text(f) for f in features) if isinstance(features, list) else (),
        )

    def satisfies(self, wanted: Platform) -> bool:
        """Whether an image for this platform answers the wish: os and architecture equal, the rest if asked for."""
        return (
            self.os == wanted.os
            and self.architecture == wanted.architecture
            and wanted.variant in ("", self.variant)
            and wanted.os_version in ("", self.os_version)
            and set(wanted.os_features) <= set(self.os_features)
        )

    def __str__(self) -> str:
        name = "/".join(p for p in (self.os, self.architecture, self.variant) if p)
        return f"{name}:{self.os_version}" if self.os_version else name


DEFAULT_PLATFORM = Platform("linux", "amd64")
"""The image of an index that is meant where one is needed and none was named, as in crane."""


def _text(value: Any) -> str:
    return value if isinstance(value, str) else ""
