"""Layers that are read once: the same as from a file, in whatever pieces they come, and refused before their end."""

from __future__ import annotations

import gzip
import io
import os
import socket
import subprocess
import tarfile
import zlib
from pathlib import Path

import anyio
import pytest
from backports import zstd
from hypothesis import given, settings
from hypothesis import strategies as st

from asyncrane.archive.compression import PIECE, Expander
from asyncrane.archive.directory import directory_tar
from asyncrane.archive.formats import Packing
from asyncrane.archive.layers import Layer, directory_layer, layer_file
from asyncrane.archive.members import Gzip
from asyncrane.archive.streaming import in_memory, kind_of, packed
from asyncrane.errors import ContentError, InvalidInput, NotFound
from asyncrane.oci.digest import Digest
from tests.archive.pipes import pipe
from tests.archive.test_layers import NOISE, tar, write
from tests.peers import require


async def streamed(name: str | Path, packing: Packing | None = None, *, newest: int = 0) -> tuple[Layer, bytes]:
    """The layer, and what goes up."""
    async with packed(str(name), packing, newest=newest) as (packer, pieces):
        content = b"".join([piece async for piece in pieces])
        return packer.layer(in_memory(content)), content


@settings(max_examples=60, deadline=None)
@given(st.lists(st.binary(max_size=300), max_size=8), st.integers(0, 3), st.data())
def test_k5_gzip_is_what_zlib_reads_and_the_same_in_whatever_pieces(
    parts: list[bytes], pieces: int, data: st.DataObject
) -> None:
    """K5: checked against the standard one, with content around the size that is compressed at once."""
    content = b"".join(parts) + NOISE[: data.draw(st.sampled_from([0, 10]))] + b"x" * (pieces * PIECE)
    cuts = sorted(data.draw(st.lists(st.integers(0, len(content)), max_size=6)))
    whole, cut = Gzip(), Gzip()
    first = whole.compress(content) + whole.finish()
    second = b"".join(cut.compress(content[a:b]) for a, b in zip([0, *cuts], [*cuts, len(content)], strict=True))
    assert second + cut.finish() == first
    assert zlib.decompress(first, wbits=31) == content
    assert gzip.decompress(first) == content


@pytest.mark.parametrize("pack", [gzip.compress, zstd.compress], ids=["gzip", "zstd"])
def test_what_a_few_bytes_stand_for_comes_in_small_pieces(pack: type[bytes]) -> None:
    """A bomb costs time, not memory."""
    bomb = pack(bytes(64 * PIECE))
    assert len(bomb) < PIECE
    expander = Expander("gzip" if bomb[0] == 0x1F else "zstd", "bomb")
    sizes = [len(piece) for piece in expander.feed(bomb)]
    expander.finish()
    assert sum(sizes) == 64 * PIECE
    assert max(sizes) <= PIECE


@pytest.mark.parametrize("step", [1, 997, 1 << 20])
@pytest.mark.parametrize("pack", [bytes, gzip.compress, zstd.compress], ids=["plain", "gzip", "zstd"])
async def test_a_pipe_makes_the_layer_that_a_file_makes(tmp_path: Path, pack: type[bytes], step: int) -> None:
    content = pack(tar({"a": NOISE[: 3000 if step == 1 else 700_000]}))
    expected = await layer_file(write(tmp_path / "layer", content))
    with pipe(tmp_path / "pipe", content, step) as name:
        layer, sent = await streamed(name)
    assert (layer.compression, layer.digest, layer.size, layer.diff_id) == (
        expected.compression,
        expected.digest,
        expected.size,
        expected.diff_id,
    )
    assert Digest.of(sent) == layer.digest


@pytest.mark.parametrize(
    ("content", "says"),
    [
        (b"", "is not a tar archive"),
        (b"\x1f", "is not a tar archive"),
        (b"hello" * 400, "is not a tar archive"),
        (tar({"a": NOISE})[:300_000], "cut off"),
        (gzip.compress(tar({"a": NOISE}))[:-9], "in the middle of its gzip data"),
        (gzip.compress(tar()) + b"rubbish", "damaged gzip data"),
        (tar({"../a": b"x"}), "leads out of it"),
    ],
)
async def test_what_is_no_layer_is_refused_before_its_last_piece(tmp_path: Path, content: bytes, says: str) -> None:
    with pipe(tmp_path / "pipe", content) as name:
        sent = b""
        said = ""
        async with packed(name) as (_, pieces):
            try:
                async for piece in pieces:
                    sent += piece
            except ContentError as exc:
                said = str(exc)
    assert says in said
    assert name in said
    try:
        complete = bool(gzip.decompress(sent))
    except (EOFError, zlib.error, gzip.BadGzipFile):
        complete = False
    assert not complete or sent == content[: len(sent)]


async def test_waiting_for_a_pipe_can_be_given_up(tmp_path: Path) -> None:
    """Whether nobody has opened it yet, or somebody has and writes nothing."""
    os.mkfifo(tmp_path / "pipe")
    for silent in (False, True):
        writer = os.open(tmp_path / "pipe", os.O_RDWR) if silent else None
        with anyio.move_on_after(0.1) as scope:
            await streamed(tmp_path / "pipe")
        assert scope.cancelled_caught
        if writer is not None:
            os.close(writer)


def test_what_is_there_is_known_before_it_is_read(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "pipe")
    write(tmp_path / "file", b"")
    assert [kind_of(str(tmp_path / name)) for name in ("pipe", "file", "")] == ["pipe", "file", "directory"]
    assert kind_of("-") == "pipe"
    with pytest.raises(NotFound, match="No such file"):
        kind_of(str(tmp_path / "none"))
    with pytest.raises(InvalidInput, match="not a file, a pipe or a directory"):
        kind_of("/dev/null")


def plant(root: Path, when: int, names: tuple[str, ...]) -> Path:
    """A directory with one of everything, changed at ``when``; ``names`` are made in that order."""
    for name in names:
        (root / name).parent.mkdir(parents=True, exist_ok=True)
        (root / name).write_bytes(name.encode())
        (root / name).chmod(0o640)
    (root / "link").symlink_to("/etc/passwd")
    os.link(root / names[0], root / "zz-hard")
    os.mkfifo(root / "pipe")
    long = root / ("d" * 120) / ("\N{SNOWMAN}" * 30)
    long.parent.mkdir()
    long.write_bytes(NOISE[:100])
    os.mkdir(os.path.join(os.fsencode(root), b"not\xffutf8"))  # noqa: PTH102, PTH118
    for path in [*root.rglob("*"), root]:
        path.chmod(0o750) if path.is_dir() and not path.is_symlink() else None
        os.utime(path, (when, when), follow_symlinks=False)
    return root


def test_k5_a_directory_is_the_same_tar_every_time(tmp_path: Path) -> None:
    """K5: whatever order it was written in, whoever owns it, and whenever."""
    names = ("b/x", "a", "b-c", "b/a/deep")
    first, second = plant(tmp_path / "one", 10**9, names), plant(tmp_path / "two", 2 * 10**9, names[::-1])
    (second / "zz-hard").unlink()
    os.link(second / names[0], second / "zz-hard")
    content = b"".join(directory_tar(first))
    assert b"".join(directory_tar(second)) == content
    assert b"".join(directory_tar(first, newest=10**9)) == b"".join(directory_tar(second, newest=10**9)) != content
    with tarfile.open(fileobj=io.BytesIO(content)) as archive:
        entries = {entry.name: entry for entry in archive}
    tree = [name for name in entries if not name.startswith("d" * 120)]
    assert tree == ["a", "b", "b/a", "b/a/deep", "b/x", "b-c", "link", "not\udcffutf8", "pipe", "zz-hard"]
    assert {(e.uid, e.gid, e.uname, e.gname, e.mtime) for e in entries.values()} == {(0, 0, "", "", 0)}
    assert (entries["zz-hard"].type, entries["zz-hard"].linkname) == (tarfile.LNKTYPE, "b/x")
    assert (entries["link"].linkname, entries["b/x"].mode, entries["b"].mode) == ("/etc/passwd", 0o640, 0o750)
    long = "d" * 120
    assert {name for name, entry in entries.items() if entry.pax_headers} == {
        long,
        f"{long}/{chr(0x2603) * 30}",
        "not\udcffutf8",
    }


async def test_a_directory_is_one_layer_streamed_or_read_twice(tmp_path: Path) -> None:
    root = plant(tmp_path / "root", 10**9, ("a", "b/c"))
    write(root / "large", NOISE * 3)
    layer, content = await streamed(root, newest=5)
    again = await directory_layer(root, newest=5)
    assert (again.digest, again.size, again.diff_id) == (layer.digest, layer.size, layer.diff_id)
    async with again.read(1000) as chunks:
        assert b"".join([chunk async for chunk in chunks]) == content[1000:]


def test_gnu_tar_unpacks_what_the_directory_holds(tmp_path: Path) -> None:
    require("tar", package="tar")
    root = plant(tmp_path / "root", 10**9, ("a", "b/c"))
    (tmp_path / "out").mkdir()
    content = b"".join(directory_tar(root))
    subprocess.run(["tar", "-x", "-C", str(tmp_path / "out")], input=content, check=True)
    assert b"".join(directory_tar(tmp_path / "out")) == content


async def test_what_no_tar_can_hold_and_what_cannot_be_read_is_one_line(tmp_path: Path) -> None:
    (tmp_path / "root").mkdir()
    with socket.socket(socket.AF_UNIX) as unix:
        unix.bind(str(tmp_path / "root" / "socket"))
        with pytest.raises(InvalidInput, match="is a socket"):
            await streamed(tmp_path / "root")
    with pytest.raises(NotFound, match="No such file"):
        await directory_layer(tmp_path / "gone")
