"""Tars are read as the standard library and GNU tar read them, and both read what is written under other names."""

from __future__ import annotations

import contextlib
import io
import os
import subprocess
import tarfile
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from asyncrane.archive.tarfs import END, LINK, TarReader
from asyncrane.errors import ContentError
from tests.archive.overlay import entry, layer, link, merge, names, overlay, symlink, tar
from tests.peers import require

FORMATS = [tarfile.PAX_FORMAT, tarfile.GNU_FORMAT, tarfile.USTAR_FORMAT]


def moved(archive: bytes, prefix: str) -> bytes:
    """The archive with everything in it below ``prefix``."""
    tar, out = TarReader(io.BytesIO(archive), "it"), []
    while (found := tar.next()) is not None:
        out.append(found.at(os.fsencode(prefix) + found.path))
        out += tar.content()
    return b"".join([*out, END])


def walked(archive: bytes) -> int:
    """How many entries there are."""
    tar, count = TarReader(io.BytesIO(archive), "it"), 0
    while tar.next() is not None:
        count += 1
    tar.drain()
    return count


@pytest.mark.parametrize("kind", FORMATS)
@pytest.mark.parametrize("prefix", ["", "p/", "long/" * 20, "ü/" * 90])
def test_what_is_renamed_is_read_by_others_under_its_new_name(kind: int, prefix: str) -> None:
    long = "n" * (90 if kind == tarfile.USTAR_FORMAT else 120)
    before = tar(
        entry("d/", mode=0o700),
        entry("d/f", b"content", uid=5, mtime=7),
        entry(f"d/{long}", b"x" * 513),
        symlink("s", "t" * (90 if kind == tarfile.USTAR_FORMAT else 150)),
        entry("pipe", type=tarfile.FIFOTYPE),
        kind=kind,
    )
    after = moved(before, prefix)
    there = overlay([after])
    assert {path: file[:4] for path, file in there.items() if path.removeprefix(prefix) in overlay([before])} == {
        prefix + path: file[:4] for path, file in overlay([before]).items()
    }
    listed = subprocess.run(["tar", "-t"], input=after, capture_output=True, check=True, env={"LC_ALL": "C.UTF-8"})
    assert listed.stderr == b""
    assert len(listed.stdout.splitlines()) == 5


@pytest.mark.parametrize(
    "options", [["--format=gnu"], *[["--format=pax", f"--sparse-version={v}"] for v in ("0.0", "0.1", "1.0")]], ids=str
)
def test_files_with_holes_keep_them(tmp_path: Path, options: list[str]) -> None:
    """All four ways in which GNU tar writes them, also under another name and with many holes."""
    require("tar", package="tar")
    (tmp_path / "in").mkdir()
    with (tmp_path / "in" / "holes").open("wb") as file:
        for number in range(40):
            file.seek(number * 100_000)
            file.write(b"%d" % number * 5)
        file.truncate(5_000_000)
    whole = (tmp_path / "in" / "holes").read_bytes()
    made = subprocess.run(
        ["tar", "-c", "-S", *options, "-C", tmp_path / "in", "./holes"], capture_output=True, check=True
    )
    assert len(made.stdout) < 1_000_000, "not sparse at all"
    merged = merge(made.stdout, layer("a"), tar(entry(".wh.nothing", b"")))
    assert len(merged) < 1_000_000
    assert names(merged) == ["holes", "a"]
    (tmp_path / "out").mkdir()
    subprocess.run(["tar", "-x", "-C", tmp_path / "out"], input=merged, check=True)
    assert (tmp_path / "out" / "holes").read_bytes() == whole
    assert overlay([merged])["holes"][2] == whole
    linked = merge(made.stdout, layer("b = holes"), layer(".wh.holes"))
    assert overlay([linked])["b"][2] == whole


def test_a_hard_link_to_a_file_with_holes_is_one(tmp_path: Path) -> None:
    require("tar", package="tar")
    with (tmp_path / "holes").open("wb") as file:
        file.truncate(1_000_000)
        file.write(b"end")
    (tmp_path / "same").hardlink_to(tmp_path / "holes")
    made = subprocess.run(
        ["tar", "-cS", "--format=gnu", "-C", tmp_path, "holes", "same"], capture_output=True, check=True
    )
    merged = merge(made.stdout, layer("a"))
    with tarfile.open(fileobj=io.BytesIO(merged)) as archive:
        assert [(member.name, member.type) for member in archive][:2] == [
            ("holes", tarfile.GNUTYPE_SPARSE),
            ("same", LINK),
        ]


def test_a_tar_that_is_cut_off_anywhere_is_an_error_or_ends_between_entries() -> None:
    """What an archive ends with may be missing, and what its last block is filled up with."""
    whole = tar(entry("a", b"x" * 700), link("b", "a"), entry("c" * 150, b"y"), kind=tarfile.GNU_FORMAT)
    complete = {0: 0, 512 + 700: 1, 512 + 1024: 1, 2048: 2}
    end = 2048 + 3 * 512 + 1
    for size in range(0, end, 50):
        if size in complete or 512 + 700 <= size <= 1536:
            assert walked(whole[:size]) == (1 if size else 0)
        else:
            with pytest.raises(ContentError, match=r"^it is not a tar archive, or is cut off"):
                walked(whole[:size])
    assert walked(whole[:end]) == 3


@pytest.mark.parametrize(
    "damage",
    [
        lambda whole: b"not a tar" * 100,
        lambda whole: b"\x7fELF" + bytes(2000),
        lambda whole: whole[:3] + b"!" + whole[4:],
        lambda whole: whole[:1024] + b"x" * 512 + whole[1536:],
    ],
)
def test_what_is_no_tar_is_an_error(damage) -> None:  # type: ignore[no-untyped-def]
    with pytest.raises(ContentError, match="is not a tar archive"):
        walked(damage(tar(entry("a", b"a"), entry("b", b"b"))))


def test_an_entry_that_claims_ten_gigabytes_is_an_error_when_they_do_not_come() -> None:
    info, _ = entry("bomb")
    info.size = 10_000_000_000
    with pytest.raises(ContentError, match="cut off"):
        walked(info.tobuf(tarfile.GNU_FORMAT) + bytes(2048))


@pytest.mark.parametrize("size", [2 * 1024 * 1024, 1 << 40])
@pytest.mark.parametrize("kind", [b"x", b"g", b"L", b"K"])
def test_a_header_of_gigabytes_is_not_read(kind: bytes, size: int) -> None:
    """Memory stays bounded whatever a header claims."""
    info = tarfile.TarInfo("header")
    info.type, info.size = kind, size
    with pytest.raises(ContentError, match="more than the 1048576 that are read"):
        walked(info.tobuf(tarfile.GNU_FORMAT) + bytes(4096))


@pytest.mark.parametrize(
    "records", [b"8 ab=c\n", b"99 a=b\n", b"6 ab\n\n\n", b"-6 a=b\n", b"9 path=\0\n", b"11 size=-1\n", b"11 size=1x\n"]
)
def test_extended_headers_that_cannot_be_read_are_errors(records: bytes) -> None:
    info = tarfile.TarInfo("pax")
    info.type, info.size = tarfile.XHDTYPE, len(records)
    archive = info.tobuf(tarfile.USTAR_FORMAT) + records.ljust(512, b"\0") + layer("a")
    with pytest.raises(ContentError, match="cannot be"):
        walked(archive)


@settings(max_examples=200)
@given(st.binary(max_size=600), st.integers(0, 3000), st.sampled_from(FORMATS))
def test_garbage_never_raises_anything_else(garbage: bytes, at: int, kind: int) -> None:
    """Whatever is in it: an error that says so, or entries."""
    whole = bytearray(tar(entry("a/", mode=0o700), entry("b", b"x" * 600, uid=1 << 20), link("c", "b"), kind=kind))
    whole[at : at + len(garbage)] = garbage
    with contextlib.suppress(ContentError):
        merge(bytes(whole))
