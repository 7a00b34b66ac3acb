"""What a layer is, and how one is made of a file that passes: digests are taken, its tar is looked at, and packed as it
is wanted.
"""

from __future__ import annotations

import hashlib
from collections.abc import Generator, Iterable, Iterator

import msgspec

from asyncrane.abc import Place, Reader
from asyncrane.archive.compression import PIECE, Compression, Expanded, Expander, Readable, sniff
from asyncrane.archive.estargz import Estargz, estargz
from asyncrane.archive.formats import Packing
from asyncrane.archive.members import Gzip, Member, Plain, Zstd
from asyncrane.archive.reading import Chained, read_head
from asyncrane.archive.spool import Spool
from asyncrane.archive.tarcheck import TarCheck
from asyncrane.oci.digest import Digest


class Layer(msgspec.Struct, frozen=True):
    """A new layer: how its blob is compressed, the blob's digest and size in bytes, and the digest of the tar inside.

    ``read`` opens the blob's bytes. One that was stored as it came has a ``home``.
    ``annotations`` are for its descriptor.
    """

    compression: Compression
    digest: Digest
    size: int
    diff_id: Digest
    read: Reader
    home: Place | None = None
    annotations: dict[str, str] = {}


class Packer:
    """Makes a layer of the file ``raw``, which is read once: :meth:`pieces` are its blob. Errors begin with ``name``.

    A file that is packed as ``packing`` says goes up as it is, any other is packed anew; without ``packing`` that is
    only done to what is not compressed, which becomes gzip. ``tar`` says that the file is a plain tar whatever its
    first bytes are, ``checked`` that its names need no look.
    """

    def __init__(
        self, raw: Readable, name: str, packing: Packing | None = None, *, tar: bool = False, checked: bool = False
    ) -> None:
        self._raw = raw
        self._name = name
        self._wanted = packing
        self._tar = tar
        self._check = None if checked else TarCheck(name)
        self._stored = hashlib.sha256()
        self._size = 0
        self._compression: Compression = "plain"
        self._inside = _Inside(Digest.of(b""))
        self.kept = False
        """Whether the file goes up as it is; known with the first piece."""

    def pieces(self) -> Generator[bytes, None, None]:
        """The blob. For use in a thread.

        :raises ContentError: before the last piece, when it is no layer
        """
        for piece in self._pieces():
            self._stored.update(piece)
            self._size += len(piece)
            yield piece

    @property
    def digest(self) -> Digest:
        """The digest of what came out so far."""
        return _digest(self._stored)

    @property
    def size(self) -> int:
        """Bytes that came out so far."""
        return self._size

    def layer(self, read: Reader, *, home: Place | None = None) -> Layer:
        """What has passed, as a layer."""
        inside = self._inside
        return Layer(self._compression, self.digest, self._size, inside.diff_id, read, home, inside.annotations)

    def _pieces(self) -> Iterator[bytes]:
        head = b"" if self._tar else read_head(self._raw)
        found: Compression = "plain" if self._tar else sniff(head)
        raw = Chained(head, self._raw)
        self.kept = is_kept(found, self._wanted)
        if self.kept:
            self._compression = found
            self._inside = yield from self._passed(raw, found)
        else:
            packing = self._wanted or Packing("gzip")
            self._compression = packing.compression
            tar = raw if self._tar else Expanded(raw, found, self._name)
            self._inside = yield from _packed(self._watched(tar), self._name, packing)

    def _passed(self, raw: Readable, compression: Compression) -> Generator[bytes, None, _Inside]:
        """The file as it is, and what is in it."""
        expander, inner = Expander(compression, self._name), hashlib.sha256()
        while piece := raw.read(PIECE):
            for tar in expander.feed(piece):
                inner.update(tar)
                if self._check is not None:
                    self._check.feed(tar)
            yield piece
        expander.finish()
        if self._check is not None:
            self._check.finish()
        return _Inside(_digest(inner))

    def _watched(self, tar: Readable) -> Readable:
        return tar if self._check is None else CheckedTar(tar, self._check)

    def __repr__(self) -> str:
        return f"Packer({self._name!r}, {self._size} bytes)"


def is_kept(compression: Compression, packing: Packing | None) -> bool:
    """Whether a file that is compressed so goes up as it is, where ``packing`` is wanted."""
    return compression != "plain" if packing is None else packing.fits(compression)


def pack(tar: Readable, packing: Packing, spool: Spool, *, name: str) -> Layer:
    """The plain ``tar``, whose names are not looked at, as a layer in ``spool``, which is to be kept as long as the
    layer is read. For use in a thread.

    :raises ContentError: when it is to be eStargz, and is no tar or has an entry that eStargz cannot say
    """
    packer = Packer(tar, name, packing, tar=True, checked=True)
    for piece in packer.pieces():
        spool.write(piece)
    return packer.layer(spool.read)


class CheckedTar:
    """A tar that is checked as it is read."""

    def __init__(self, raw: Readable, check: TarCheck) -> None:
        self._raw = raw
        self._check = check

    def read(self, size: int, /) -> bytes:
        """Up to ``size`` bytes, none at the end.

        :raises ContentError: when they are not a layer's
        """
        data = self._raw.read(size)
        if data:
            self._check.feed(data)
        else:
            self._check.finish()
        return data


class _Inside(msgspec.Struct, frozen=True):
    """What is known of a tar once it is packed."""

    diff_id: Digest
    annotations: dict[str, str] = {}


def _packed(tar: Readable, name: str, packing: Packing) -> Generator[bytes, None, _Inside]:
    """The plain ``tar``, packed."""
    if packing.format == "estargz":
        made: Estargz = yield from estargz(tar, name, level=packing.level)
        return _Inside(made.diff_id, made.annotations)
    hashed, member = hashlib.sha256(), _member(packing)
    while data := _full(tar):
        hashed.update(data)
        if piece := member.compress(data):
            yield piece
    if piece := member.finish():
        yield piece
    return _Inside(_digest(hashed))


def _member(packing: Packing) -> Member:
    if packing.format == "zstd":
        return Zstd(packing.level)
    return Gzip(packing.level) if packing.format == "gzip" else Plain()


def _full(tar: Readable) -> bytes:
    """The next piece, always of the same size but for the last: what comes out may depend on where it is cut."""
    data = tar.read(PIECE)
    if len(data) in (0, PIECE):
        return data
    pieces, size = [data], len(data)
    while size < PIECE and (data := tar.read(PIECE - size)):
        pieces.append(data)
        size += len(data)
    return b"".join(pieces)


def gathered(pieces: Iterable[bytes]) -> Iterator[bytes]:
    """The same bytes in pieces that are worth a thread: of :data:`PIECE` bytes, or a little more."""
    held: list[bytes] = []
    size = 0
    for piece in pieces:
        held.append(piece)
        size += len(piece)
        if size >= PIECE:
            yield b"".join(held)
            held, size = [], 0
    if held:
        yield b"".join(held)


def _digest(hashed: hashlib._Hash) -> Digest:
    return Digest(f"sha256:{hashed.hexdigest()}")
