"""Headers of a tar as :mod:`tarfile` reads them, only stricter: what is no header is an error."""

from __future__ import annotations

import tarfile
from typing import Self

_LONGEST_EXTENSION = 1024 * 1024
"""Bytes of a long name or of extended headers that are read into memory."""

_EXTENSIONS = frozenset(
    {tarfile.XHDTYPE, tarfile.XGLTYPE, tarfile.SOLARIS_XHDTYPE, tarfile.GNUTYPE_LONGNAME, tarfile.GNUTYPE_LONGLINK}
)


class StrictHeader(tarfile.TarInfo):
    """A header that is no header is an error wherever it is, where ``tarfile`` takes it for the end."""

    @classmethod
    def frombuf(cls, buf: bytes | bytearray, encoding: str, errors: str) -> Self:
        """Read one."""
        try:
            header = super().frombuf(buf, encoding, errors)
        except tarfile.HeaderError as exc:
            if buf.strip(b"\0"):
                raise tarfile.ReadError(str(exc)) from exc
            raise
        check_size(header)
        if header.type in _EXTENSIONS and header.size > _LONGEST_EXTENSION:
            raise tarfile.ReadError(f"a header of {header.size} bytes")
        return header


def check_size(entry: tarfile.TarInfo) -> None:
    """Refuse a negative size, which an extended header may still have set.

    :raises tarfile.ReadError: as it would send the reader back, for ever (CVE-2025-8194)
    """
    if entry.size < 0:
        raise tarfile.ReadError(f"{entry.name!r} has a size of {entry.size}")
