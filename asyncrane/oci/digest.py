"""Digests (image-spec, descriptor.md, "Digests")."""

from __future__ import annotations

import hashlib
import re
from typing import TYPE_CHECKING, Any

from asyncrane.errors import InvalidDigest

if TYPE_CHECKING:
    from collections.abc import Callable

_HEX_LENGTH = {"sha256": 64, "sha512": 128}
_HASHERS: dict[str, Callable[..., Any]] = {"sha256": hashlib.sha256, "sha512": hashlib.sha512}
_KNOWN = re.compile(r"sha256:[0-9a-f]{64}|sha512:[0-9a-f]{128}")
_SHAPE = re.compile(r"[a-z0-9]+(?:[+._-][a-z0-9]+)*:[a-zA-Z0-9=_-]+")


class Digest(str):
    """``algorithm:hex``, checked once. A ``str``, so that it is the key of every table.

    :raises InvalidDigest: when built through :meth:`parse` from anything else than sha256 or sha512
    """

    __slots__ = ()

    @classmethod
    def parse(cls, text: str) -> Digest:
        """Check ``text`` and return it as a digest.

        :raises InvalidDigest: when it is no digest, or of an algorithm that is not supported
        """
        if _KNOWN.fullmatch(text):
            return str.__new__(cls, text)
        algorithm = text.partition(":")[0]
        length = _HEX_LENGTH.get(algorithm)
        if length is None:
            if _SHAPE.fullmatch(text):
                raise InvalidDigest(f"digest {_short(text)}: algorithm {algorithm!r} is not supported (sha256, sha512)")
            raise InvalidDigest(f"not a digest: {_short(text)} (expected sha256:<64 hex digits>)")
        raise InvalidDigest(f"not a digest: {_short(text)} ({algorithm} takes {length} lower-case hex digits)")

    @classmethod
    def of(cls, data: bytes, algorithm: str = "sha256") -> Digest:
        """The digest of ``data``."""
        return str.__new__(cls, f"{algorithm}:{_HASHERS[algorithm](data).hexdigest()}")

    @property
    def algorithm(self) -> str:
        """``sha256`` or ``sha512``."""
        return self.partition(":")[0]

    @property
    def hex(self) -> str:
        """The part after the colon."""
        return self.partition(":")[2]

    @property
    def raw(self) -> bytes:
        """The bytes that the hex digits stand for: a quarter of the memory, for tables with millions of digests."""
        return bytes.fromhex(self[7:])  # the names of all supported algorithms are of one length

    def hasher(self) -> Any:
        """A new ``hashlib`` object of this digest's algorithm."""
        return _HASHERS[self.algorithm]()

    def __repr__(self) -> str:
        return f"Digest({str.__str__(self)!r})"


def _short(text: str) -> str:
    return repr(text if len(text) <= 100 else text[:97] + "...")
