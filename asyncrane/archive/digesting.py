"""Checking a stream against its descriptor while it passes."""

from __future__ import annotations

from asyncrane.errors import DigestMismatch, SizeMismatch
from asyncrane.oci.descriptor import Descriptor


class Verifier:
    """Counts and hashes the bytes of one blob, in order; bytes seen before (after going back) are not hashed twice.

    The check is made with the last byte and before it is passed on, so that a wrong blob is never complete anywhere.
    """

    __slots__ = ("_blob", "_hash", "seen")

    def __init__(self, blob: Descriptor) -> None:
        self._blob = blob
        self._hash = blob.digest.hasher()
        self.seen = 0

    def update(self, chunk: bytes, position: int) -> None:
        """Take in ``chunk``, whose first byte is at offset ``position``.

        :raises SizeMismatch: when there are more bytes than the descriptor says, or bytes were left out
        :raises DigestMismatch: when the last byte is in and the digest is another
        """
        end = position + len(chunk)
        if position > self.seen:
            raise SizeMismatch(f"blob {self._blob.digest!s}: bytes {self.seen} to {position} are missing")
        if end > self._blob.size >= 0:
            raise SizeMismatch(f"blob {self._blob.digest!s} has more than the {self._blob.size} bytes it should have")
        if end <= self.seen:
            return
        self._hash.update(memoryview(chunk)[self.seen - position :] if position < self.seen else chunk)
        self.seen = end
        if end == self._blob.size:
            self._check()

    def finish(self) -> None:
        """No more bytes come.

        :raises SizeMismatch: when there were too few
        :raises DigestMismatch: when the digest is another
        """
        if self._blob.size >= 0 and self.seen != self._blob.size:
            raise SizeMismatch(f"blob {self._blob.digest!s} has {self.seen} bytes and should have {self._blob.size}")
        self._check()

    def _check(self) -> None:
        actual = f"{self._blob.digest.algorithm}:{self._hash.hexdigest()}"
        if actual != self._blob.digest:
            raise DigestMismatch(f"blob {self._blob.digest!s}: its bytes have the digest {actual}")
