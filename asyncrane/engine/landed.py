"""Which repositories of a site have which blobs. There may be millions, so a blob is its digest's raw bytes, and its
repository a shared string: little memory, and nothing that the garbage collector looks through again and again.
"""

from __future__ import annotations

import sys
from typing import TypeAlias

_FEW = 8
"""Repositories up to which a tuple is smaller than a table, and as quick."""

_Holders: TypeAlias = str | tuple[str, ...] | dict[str, None]


class Landed:
    """The blobs that one site is known to have, by :attr:`~asyncrane.oci.digest.Digest.raw`."""

    __slots__ = ("_holders",)

    def __init__(self) -> None:
        self._holders: dict[bytes, _Holders] = {}

    def has(self, raw: bytes, repository: str) -> bool:
        """Whether ``repository`` has the blob."""
        holders = self._holders.get(raw)
        if holders is None:
            return False
        return holders == repository if isinstance(holders, str) else repository in holders

    def holder(self, raw: bytes) -> str | None:
        """The first repository that had the blob."""
        holders = self._holders.get(raw)
        return holders if holders is None or isinstance(holders, str) else next(iter(holders))

    def add(self, raw: bytes, repository: str) -> None:
        """``repository`` has the blob now, and had not before."""
        repository = sys.intern(repository)
        holders = self._holders.get(raw)
        if holders is None:
            self._holders[raw] = repository
        elif isinstance(holders, str):
            self._holders[raw] = (holders, repository)
        elif isinstance(holders, dict):
            holders[repository] = None
        elif len(holders) < _FEW:
            self._holders[raw] = (*holders, repository)
        else:
            self._holders[raw] = dict.fromkeys((*holders, repository))

    def __len__(self) -> int:
        return len(self._holders)

    def __repr__(self) -> str:
        return f"Landed({len(self)} blobs)"
