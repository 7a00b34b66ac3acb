"""Which repositories of a site have which blobs: a string a blob where it is one repository, for there may be millions.

Nothing here is looked through by the garbage collector, which would have to look at all of it again and again.
"""

from __future__ import annotations

import sys
from typing import TypeAlias

from asyncrane.oci.digest import Digest

_FEW = 8
"""Repositories up to which a tuple is smaller than a table, and as quick."""

_Holders: TypeAlias = str | tuple[str, ...] | dict[str, None]


class Landed:
    """The blobs that one site is known to have."""

    __slots__ = ("_holders",)

    def __init__(self) -> None:
        self._holders: dict[Digest, _Holders] = {}

    def has(self, digest: Digest, repository: str) -> bool:
        """Whether ``repository`` has the blob."""
        holders = self._holders.get(digest)
        if holders is None:
            return False
        return holders == repository if isinstance(holders, str) else repository in holders

    def holder(self, digest: Digest) -> str | None:
        """The first repository that had the blob."""
        holders = self._holders.get(digest)
        return holders if holders is None or isinstance(holders, str) else next(iter(holders))

    def add(self, digest: Digest, repository: str) -> None:
        """``repository`` has the blob now, and had not before."""
        repository = sys.intern(repository)
        holders = self._holders.get(digest)
        if holders is None:
            self._holders[digest] = repository
        elif isinstance(holders, str):
            self._holders[digest] = (holders, repository)
        elif isinstance(holders, dict):
            holders[repository] = None
        elif len(holders) < _FEW:
            self._holders[digest] = (*holders, repository)
        else:
            self._holders[digest] = dict.fromkeys((*holders, repository))

    def __len__(self) -> int:
        return len(self._holders)

    def __repr__(self) -> str:
        return f"Landed({len(self)} blobs)"
