"""What is known about one registry before it is talked to: ``registries`` of a mirror file, flags of a command."""

from __future__ import annotations

from pathlib import Path
from typing import Literal, TypeAlias

import msgspec

from asyncrane.auth.credentials import Credential

OnMissing: TypeAlias = Literal["fail", "create"] | tuple[str, ...]
"""What to do about a repository that a push finds missing: nothing, create it (registries we know), run a command."""


class RegistryOptions(msgspec.Struct, frozen=True, kw_only=True):
    """How one registry is talked to.

    ``rate`` is bytes of blobs a second in each direction; ``requests`` and ``streams`` how many short requests and blob
    streams in each direction run at once (``None``: adapts); ``mirrors`` are registries asked first when reading, each
    ``host[:port]`` with a path in front of the repository's if need be; ``helper`` names a
    ``docker-credential-<helper>`` program. ``insecure`` does not check certificates, ``plain_http`` never tries HTTPS.
    """

    credential: Credential | None = None
    helper: str | None = None
    insecure: bool = False
    plain_http: bool = False
    ca: Path | None = None
    cert: Path | None = None
    key: Path | None = None
    rate: int | None = None
    requests: int | None = None
    streams: int | None = None
    mirrors: tuple[str, ...] = ()
    on_missing: OnMissing = "fail"
