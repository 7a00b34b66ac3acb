"""A layer is looked at once, while it passes, in pieces of any size; Python's own tarfile and hashlib judge."""

from __future__ import annotations

import gzip
import hashlib
import io
import os
import tarfile

import pytest
from backports import zstd
from hypothesis import given
from hypothesis import strategies as st

from asyncrane.archive.compression import PIECE
from asyncrane.archive.inspection import Inspection, Inspector, inspect_blob
from asyncrane.archive.tarwalk import TarWalk
from asyncrane.errors import ContentError
from asyncrane.oci.descriptor import Descriptor
from asyncrane.oci.digest import Digest
from asyncrane.stores.memory import MemoryStore
from asyncrane.testing.images import reader

LONG = "deep/" * 60 + "file"
NAMES = ("a", "dir/b", LONG, "d/" * 45 + "x" * 90, "ünïcode", "c")


def tar(*names: str, form: int = tarfile.PAX_FORMAT, size: int = 700, headers: dict[str, str] | None = None) -> bytes:
    raw = io.BytesIO()
    with tarfile.open(fileobj=raw, mode="w", format=form) as made:
        for number, name in enumerate(names):
            entry = tarfile.TarInfo(name)
            entry.size = size + number
            entry.pax_headers = dict(headers or {})
            made.addfile(entry, io.BytesIO(os.urandom(entry.size)))
    return raw.getvalue()


def walked(content: bytes, step: int = 1 << 20) -> TarWalk:
    walk = TarWalk()
    for at in range(0, len(content), step):
        walk.feed(content[at : at + step])
    walk.finish()
    return walk


def inspected(blob: bytes, step: int = 1 << 18) -> Inspection:
    inspector = Inspector(layer=True)
    for at in range(0, len(blob), step):
        inspector.feed([blob[at : at + step]])
    return inspector.finish()


@pytest.mark.parametrize("form", [tarfile.PAX_FORMAT, tarfile.GNU_FORMAT, tarfile.USTAR_FORMAT])
@pytest.mark.parametrize("step", [1, 511, 512, 513, 1 << 20])
def test_every_format_is_walked_in_pieces_of_any_size(form: int, step: int) -> None:
    names = NAMES if form != tarfile.USTAR_FORMAT else (*NAMES[:2], *NAMES[4:])
    walk = walked(tar(*names, form=form), step)
    assert (walk.entries, walk.duplicate) == (len(names), "")


@pytest.mark.parametrize("form", [tarfile.PAX_FORMAT, tarfile.GNU_FORMAT])
@pytest.mark.parametrize("name", ["dir/b", LONG])
def test_a_name_that_is_there_twice_is_found(form: int, name: str) -> None:
    """A long one too, which stands in a header of its own."""
    assert walked(tar(*NAMES, name, form=form)).duplicate == name


def test_names_are_compared_as_they_are_written() -> None:
    """As crane does: ``a`` and ``./a`` are two names to it."""
    assert walked(tar("a", "./a", "a/b")).duplicate == ""


def test_what_has_no_content_is_not_stepped_over() -> None:
    raw = io.BytesIO()
    with tarfile.open(fileobj=raw, mode="w") as made:
        for kind in (tarfile.DIRTYPE, tarfile.SYMTYPE, tarfile.LNKTYPE, tarfile.FIFOTYPE):
            entry = tarfile.TarInfo(f"kind{kind!r}")
            entry.type, entry.linkname = kind, LONG
            made.addfile(entry)
        last = tarfile.TarInfo("last")
        last.size = 3
        made.addfile(last, io.BytesIO(b"abc"))
    assert walked(raw.getvalue()).entries == 5


def test_a_size_in_binary_is_read() -> None:
    """GNU tar writes a size of 8 GiB and more so; a small one may be, too."""
    content = bytearray(tar("a", "b"))
    content[124:136] = b"\x80" + (700).to_bytes(11, "big")
    content[148:156] = b" " * 8
    content[148:156] = b"%06o\0 " % sum(content[:512])
    assert walked(bytes(content)).entries == 2


@given(st.data())
def test_a_tar_that_is_cut_off_anywhere_is_known_for_that(data: st.DataObject) -> None:
    """But for the zeros behind its last entry, which may be missing, and cuts between entries, which nobody can see."""
    names = [f"file{number}" for number in range(4)]
    content = tar(*names, size=600)
    ends = [1536 * (number + 1) for number in range(4)]
    cut = data.draw(st.integers(1, ends[-1] - 1))
    try:
        walked(content[:cut], data.draw(st.sampled_from([100, 512, 4096])))
    except ContentError:
        assert cut not in ends
    else:
        within = cut % 1536
        assert within == 0 or within >= 512 + 600 + (cut // 1536)


@pytest.mark.parametrize(
    "content", [b"no tar at all " * 100, b"\xff" * 2000, tar("a")[:1536] + b"x" * 512], ids=["text", "ones", "behind"]
)
def test_what_is_no_tar_is_known_for_that(content: bytes) -> None:
    with pytest.raises(ContentError, match="not a tar"):
        walked(content)


def test_an_extended_header_beyond_reason_is_refused() -> None:
    content = tar("a", headers={"comment": "x" * (2 << 20)})
    with pytest.raises(ContentError, match="has a header of"):
        walked(content)


@pytest.mark.parametrize("step", [3, 1 << 18])
@pytest.mark.parametrize(
    ("kind", "blob"),
    [
        ("plain", lambda raw: raw),
        ("gzip", gzip.compress),
        ("gzip", lambda raw: gzip.compress(raw[:5000]) + gzip.compress(raw[5000:]) + bytes(300)),
        ("zstd", zstd.compress),
        ("zstd", lambda raw: zstd.compress(raw[:99]) + b"\x50\x2a\x4d\x18\x02\0\0\0ab" + zstd.compress(raw[99:])),
    ],
    ids=["plain", "gzip", "members", "zstd", "frames"],
)
def test_a_layer_is_known_whatever_its_compression(kind: str, blob: object, step: int) -> None:
    raw = tar(*NAMES)
    packed = blob(raw)  # type: ignore[operator]
    found = inspected(packed, step)
    assert found == Inspection(Digest.of(packed), len(packed), kind, Digest.of(raw))  # type: ignore[arg-type]


@pytest.mark.parametrize(
    ("blob", "says"),
    [
        (gzip.compress(tar(*NAMES))[:-20], "ends in the middle of its gzip data"),
        (gzip.compress(tar(*NAMES))[:-8] + bytes(8), "damaged gzip data"),
        (zstd.compress(tar(*NAMES))[:-20], "ends in the middle of its zstd data"),
        (gzip.compress(b"hello" * 1000), "not a tar"),
        (gzip.compress(tar("a", "b")[:2000]), "cut off"),
        (gzip.compress(tar("etc/passwd", "etc/passwd")), "duplicate file path: etc/passwd"),
    ],
    ids=["truncated", "checksum", "zstd", "no tar", "cut tar", "duplicate"],
)
def test_what_is_wrong_with_a_layer_is_said_and_its_digest_is_right(blob: bytes, says: str) -> None:
    found = inspected(blob)
    assert says in found.problem
    assert (found.digest, found.size) == (Digest.of(blob), len(blob))


def test_a_file_without_a_byte_is_an_empty_tar() -> None:
    assert inspected(b"") == Inspection(Digest.of(b""), 0, "plain", Digest.of(b""))


def test_little_that_stands_for_a_lot_takes_little_memory() -> None:
    """A gigabyte of zeros in a megabyte: pieces are bounded, whatever they come from."""
    sizes: list[int] = []
    inspector = Inspector(layer=True)
    inside = inspector._inside
    assert inside is not None
    take = inside._take

    def counted(piece: bytes) -> None:
        sizes.append(len(piece))
        take(piece)

    inside._take = counted  # type: ignore[method-assign]
    inspector.feed([gzip.compress(bytes(64 << 20))])
    found = inspector.finish()
    assert max(sizes) <= PIECE
    assert found.diff_id == f"sha256:{hashlib.sha256(bytes(64 << 20)).hexdigest()}"


async def test_a_blob_that_is_no_layer_is_only_counted_and_hashed() -> None:
    content = b"statement" * 1000
    blob = Descriptor("application/vnd.in-toto+json", Digest.of(content, "sha512"), len(content))
    store = MemoryStore("here")
    await store.put(blob, reader(content))
    assert await inspect_blob(store, blob, layer=False) == Inspection(blob.digest, len(content))
