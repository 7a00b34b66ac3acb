"""Tar files as layers: what is said of them is true, and what is no layer is refused in one line."""

from __future__ import annotations

import gzip
import io
import os
import tarfile
from collections.abc import Mapping
from pathlib import Path

import pytest
from backports import zstd
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from asyncrane.archive.compression import Compression, sniff
from asyncrane.archive.layers import Layer, layer_file
from asyncrane.errors import AsyncraneError, ContentError, InvalidInput, NotFound
from asyncrane.oci.digest import Digest

NOISE = os.urandom(700_000)


def tar(files: Mapping[str, bytes] = {"etc/motd": b"hello"}, *, link: str = "") -> bytes:
    out = io.BytesIO()
    with tarfile.open(fileobj=out, mode="w") as archive:
        for name, content in files.items():
            entry = tarfile.TarInfo(name)
            entry.size = len(content)
            archive.addfile(entry, io.BytesIO(content))
        if link:
            entry = tarfile.TarInfo("link")
            entry.type, entry.linkname = tarfile.LNKTYPE, link
            archive.addfile(entry)
    return out.getvalue()


async def read(layer: Layer, start: int = 0) -> bytes:
    async with layer.read(start) as chunks:
        return b"".join([chunk async for chunk in chunks])


def write(path: Path, content: bytes) -> Path:
    path.write_bytes(content)
    return path


@pytest.mark.parametrize(
    ("pack", "compression"),
    [
        (lambda data: gzip.compress(data, mtime=0), "gzip"),
        (lambda data: gzip.compress(data[:5000], mtime=0) + gzip.compress(data[5000:], mtime=0), "gzip"),
        (zstd.compress, "zstd"),
        (lambda data: zstd.compress(data[:5000]) + zstd.compress(data[5000:]), "zstd"),
    ],
    ids=["gzip", "two gzip members", "zstd", "two zstd frames"],
)
async def test_a_compressed_file_goes_up_as_it_is(tmp_path: Path, pack, compression: Compression) -> None:  # type: ignore[no-untyped-def]
    content = tar({"a": NOISE, "b": b"x" * 3_000_000})
    packed = pack(content)
    layer = await layer_file(write(tmp_path / "layer", packed))
    assert (layer.compression, layer.digest, layer.size) == (compression, Digest.of(packed), len(packed))
    assert layer.diff_id == Digest.of(content)
    assert await read(layer) == packed
    assert await read(layer, 1000) == packed[1000:]


async def test_a_plain_tar_is_compressed_the_same_way_every_time(tmp_path: Path) -> None:
    """K5: no name, no time, whatever the file is called and however old it is."""
    content = tar({"a": NOISE, "b": b"x" * 3_000_000})
    first = await layer_file(write(tmp_path / "one.tar", content))
    os.utime(write(tmp_path / "two.tar", content), (1, 1))
    second = await layer_file(tmp_path / "two.tar")
    packed = await read(first)
    assert (first.compression, first.size, first.digest) == ("gzip", len(packed), Digest.of(packed))
    assert second.digest == first.digest
    assert gzip.decompress(packed) == content
    assert first.diff_id == Digest.of(content)
    assert packed[4:8] == bytes(4)
    for start in (1, 9, len(packed) // 2, len(packed) - 1, len(packed)):
        assert await read(first, start) == packed[start:]


@pytest.mark.parametrize(
    ("content", "says"),
    [
        (b"", "not a tar"),
        (b"no tar at all, but long enough to be one" * 100, "not a tar"),
        (gzip.compress(b"no tar at all" * 100, mtime=0), "not a tar"),
        (tar({"a": NOISE})[:300_000], "cut off"),
        (tar({"a": b"1", "b": b"2"})[:1100], "cut off"),
        (gzip.compress(tar({"a": NOISE}), mtime=0)[:-300_000], "ends in the middle of its gzip data"),
        (gzip.compress(tar(), mtime=0)[:-4], "ends in the middle of its gzip data"),
        (zstd.compress(tar({"a": NOISE}))[:-300_000], "ends in the middle of its zstd data"),
        (gzip.compress(tar(), mtime=0)[:-8] + bytes(8), "damaged gzip data"),
        (gzip.compress(tar(), mtime=0) + b"rubbish", "damaged gzip data"),
        (b"\x1f\x8b\x08" + bytes(5000), "gzip data"),
        (b"\x28\xb5\x2f\xfd" + b"\xff" * 5000, "damaged zstd data"),
        (tar({"a": b"1"})[:1024] + b"\x01" * 10_240, "not a tar"),
        (tar({"../../etc/passwd": b"x"}), "leads out of it: '../../etc/passwd'"),
        (tar({"a/../../b": b"x"}), "leads out of it"),
        (tar(link="../shadow"), "leads out of it: 'link'"),
    ],
)
async def test_what_is_no_layer_is_refused_in_one_line(tmp_path: Path, content: bytes, says: str) -> None:
    path = write(tmp_path / "layer.tar", content)
    with pytest.raises(ContentError, match=r"layer\.tar") as caught:
        await layer_file(path)
    assert says in str(caught.value)
    assert "\n" not in str(caught.value)


async def test_absolute_names_and_links_to_anywhere_are_ordinary(tmp_path: Path) -> None:
    """What is unpacked is unpacked below the image's root; symbolic links may say what they like."""
    out = io.BytesIO()
    with tarfile.open(fileobj=out, mode="w") as archive:
        archive.addfile(tarfile.TarInfo("/etc/motd"))
        entry = tarfile.TarInfo("a/b/../c")
        entry.type, entry.linkname = tarfile.SYMTYPE, "../../../../usr/lib"
        archive.addfile(entry)
    layer = await layer_file(write(tmp_path / "layer.tar", out.getvalue()))
    assert layer.diff_id == Digest.of(out.getvalue())


async def test_a_missing_file_a_directory_and_a_pipe_are_refused(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "pipe")
    with pytest.raises(NotFound, match="No such file"):
        await layer_file(tmp_path / "none")
    for name in ("", "pipe"):
        with pytest.raises(InvalidInput, match="not a regular file"):
            await layer_file(tmp_path / name)


@settings(max_examples=150, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(data=st.data())
async def test_a_damaged_file_is_one_clear_error_or_the_layer_it_says(tmp_path: Path, data: st.DataObject) -> None:
    """Any bytes cut out or changed: never another exception, never a digest that is not the file's."""
    whole = data.draw(st.sampled_from([tar({"a": NOISE[:2000], "b": b"y" * 900})]))
    content = bytearray(data.draw(st.sampled_from([lambda d: d, gzip.compress, zstd.compress]))(whole))
    for _ in range(data.draw(st.integers(1, 3))):
        at = data.draw(st.integers(0, len(content) - 1))
        if data.draw(st.booleans()):
            content[at] ^= data.draw(st.integers(1, 255))
        else:
            del content[at : at + data.draw(st.integers(1, 600))]
        if not content:
            return
    path = write(tmp_path / "layer", bytes(content))
    said = ""
    try:
        layer = await layer_file(path)
    except AsyncraneError as exc:
        said = str(exc)
    assert str(path) in said if said else Digest.of(await read(layer)) == layer.digest


@pytest.mark.parametrize(
    ("head", "compression"),
    [
        (b"\x1f\x8b\x08\x00", "gzip"),
        (b"\x28\xb5\x2f\xfd", "zstd"),
        (b"\x50\x2a\x4d\x18", "zstd"),
        (b"etc/", "plain"),
        (b"", "plain"),
    ],
)
def test_a_compression_is_known_by_its_first_bytes(head: bytes, compression: str) -> None:
    assert sniff(head) == compression
