"""eStargz is made of layers only, and a blob that is not what it says is noticed: each time in one line."""

from __future__ import annotations

import gzip
import tarfile
from collections.abc import Mapping
from pathlib import Path

import pytest

from asyncrane.archive.estargz_toc import FOOTER_SIZE, footer
from asyncrane.errors import ContentError, InvalidInput, NotFound
from tests.archive.estargz_blobs import estargz_file, made, opened
from tests.archive.test_layers import NOISE, tar, write


def resummed(block: bytes) -> bytes:
    """A header that adds up."""
    summed = sum(block[:148]) + 8 * 32 + sum(block[156:512])
    return block[:148] + b"%06o\0 " % summed + block[156:]


def unknown(content: bytes) -> bytes:
    """A tar whose first entry is of a kind that nobody knows."""
    return resummed(content[:156] + b"Q" + content[157:512]) + content[512:]


def negative() -> bytes:
    """A tar with an entry of -512 bytes (CVE-2025-8194)."""
    content = tar()
    return resummed(content[:124] + b"\xff" * 10 + b"\xfe\x00" + content[136:512]) + content[512:]


def huge_header() -> bytes:
    """A tar with a name of 8 GB, most of it not there."""
    entry = tarfile.TarInfo("././@LongLink")
    entry.type, entry.size = tarfile.GNUTYPE_LONGNAME, 8**11 - 1
    return entry.tobuf(tarfile.GNU_FORMAT) + bytes(100_000)


@pytest.mark.parametrize(
    ("content", "says"),
    [
        (b"", "not a tar"),
        (b"no tar at all, but long enough to be one" * 100, "not a tar"),
        (tar({"a": NOISE})[:300_000], "cut off"),
        (tar({"a": b"1", "b": b"2"})[:1100], "cut off"),
        (gzip.compress(tar({"a": NOISE}))[:-300_000], "ends in the middle of its gzip data"),
        (tar({"../../etc/passwd": b"x"}), "leads out of it"),
        (tar(link="../shadow"), "leads out of it"),
        (unknown(tar()), "'etc/motd' is an entry of type 'Q'"),
        (negative(), "not a tar"),
        (huge_header(), "not a tar"),
    ],
)
async def test_what_is_no_layer_is_refused_in_one_line(tmp_path: Path, content: bytes, says: str) -> None:
    path = write(tmp_path / "layer.tar", content)
    with pytest.raises(ContentError, match=r"layer\.tar") as caught:
        await estargz_file(path)
    assert says in str(caught.value)
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize("content", [b"", unknown(tar()), negative(), huge_header(), tar({"a": NOISE})[:300_000]])
def test_what_cannot_be_converted_is_refused_in_one_line(content: bytes) -> None:
    """Layers that come from elsewhere are not looked through before."""
    with pytest.raises(ContentError, match="layer") as caught:
        made(content)
    assert "\n" not in str(caught.value)


async def test_a_missing_file_and_a_directory_are_refused(tmp_path: Path) -> None:
    with pytest.raises(NotFound, match="No such file"):
        await estargz_file(tmp_path / "missing")
    with pytest.raises(InvalidInput, match="not a regular file"):
        await estargz_file(tmp_path)


def spoiled() -> Mapping[str, bytes]:
    """Blobs that are not what they say."""
    blob, _ = made(tar({"a": NOISE, "b": b"x" * 3000}))
    at = int(blob[-35:-19], 16)
    end = blob[at:]
    return {
        "flipped content": blob[:2000] + bytes((blob[2000] ^ 1,)) + blob[2001:],
        "no footer": blob[:-FOOTER_SIZE],
        "cut off": blob[:-10],
        "another offset": blob[:-FOOTER_SIZE] + footer(0),
        "an offset behind the end": blob[:-FOOTER_SIZE] + footer(len(blob)),
        "shifted content": blob[1000:at] + bytes(1000) + end,
        "nothing": b"",
    }


@pytest.mark.parametrize("how", spoiled())
def test_what_is_spoiled_is_noticed(how: str) -> None:
    with pytest.raises(ContentError, match="layer"):
        opened(spoiled()[how]).verify()


def test_a_toc_that_somebody_exchanged_is_noticed() -> None:
    blob, _ = made(tar({"a": b"good"}))
    other, _ = made(tar({"a": b"evil"}))
    with pytest.raises(ContentError, match="table of contents"):
        opened(other, opened(blob).toc_digest)
