"""The claim that every byte crosses each wire once, counted in the registries' own logs."""

from __future__ import annotations

from collections import Counter
from typing import TYPE_CHECKING

import msgspec

from asyncrane.abc import DOUBTED

from .accesslog import successes

if TYPE_CHECKING:
    from collections.abc import Sequence

    from .accesslog import Request
    from .fill import Filled


class Claim(msgspec.Struct, frozen=True):
    """One countable claim: what was seen, and what was said."""

    name: str
    seen: int
    said: int

    @property
    def holds(self) -> bool:
        """Whether it is so."""
        return self.seen == self.said


def claims(filled: Filled, source: Sequence[Request], destination: Sequence[Request]) -> tuple[Claim, ...]:
    """Every unique blob GET once, uploaded once (POST and PUT, a HEAD only of large ones), one mount POST per further
    repository.
    """
    unique = len(filled.blobs)
    large = sum(size >= DOUBTED for size in filled.blobs.values())
    further = len(filled.placements) - unique
    reads = Counter(one.reference for one in successes(source, "GET", "blob"))
    writes = Counter(one.reference for one in successes(destination, "PUT", "upload"))
    opened = [one for one in destination if one.method == "POST" and one.status == 202]
    mounted = [one for one in destination if one.method == "POST" and one.status == 201]
    posts = [one for one in destination if one.method == "POST"]
    return (
        Claim("blob GETs at the source", reads.total(), unique),
        Claim("most GETs of one blob", max(reads.values(), default=0), 1),
        Claim("uploads opened (POST, 202)", len(opened), unique),
        Claim("uploads ended (PUT)", writes.total(), unique),
        Claim("most uploads of one blob", max(writes.values(), default=0), 1),
        Claim("PATCHes", sum(one.method == "PATCH" for one in destination), 0),
        Claim("blob HEADs at the destination", _heads(destination), large),
        Claim("mounts (POST, 201)", len(mounted), further),
        Claim("POSTs in all", len(posts), unique + further),
    )


def _heads(requests: Sequence[Request]) -> int:
    return sum(one.method == "HEAD" and one.kind == "blob" for one in requests)
