"""What is found out about a registry while it is used."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Literal


@dataclass
class Capabilities:
    """What was learned about a registry; written by :mod:`asyncrane.registry`.

    ``upload`` is the way blobs are sent, ``chunk`` the size for the last of them in bytes (0: the default), ``ranges``
    whether part of a blob can be read, ``self_mount`` whether a mount from the repository itself answers as a check,
    ``refused_donors`` pairs (repository, donor) that cannot be mounted, ``referrers`` whether there is that API.
    ``parts`` is the most connections that all its large blobs together may be read through (below 2: each in one
    piece), ``large`` how many of these are being read.
    """

    upload: Literal["put", "patch", "chunks"] = "put"
    chunk: int = 0
    ranges: bool = True
    self_mount: bool = True
    refused_donors: set[tuple[str, str]] = field(default_factory=set)
    referrers: bool | None = None
    parts: int = 6
    large: int = 0
