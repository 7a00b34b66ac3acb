"""Layers for Windows images: everything under Files, owned as Windows wants it, and the same every time."""

from __future__ import annotations

import gzip
import io
import tarfile
from pathlib import Path

import pytest

from asyncrane.archive.layers import windows_layer
from asyncrane.errors import ContentError, NotFound
from asyncrane.oci.digest import Digest
from tests.archive.test_layers import NOISE, read, tar, write


def several() -> bytes:
    out = io.BytesIO()
    with tarfile.open(fileobj=out, mode="w", format=tarfile.PAX_FORMAT) as archive:
        for name, kind, link in (
            ("./", tarfile.DIRTYPE, ""),
            ("./app/", tarfile.DIRTYPE, ""),
            ("./app/run.exe", tarfile.REGTYPE, ""),
            ("app/hard", tarfile.LNKTYPE, "./app/run.exe"),
            ("soft", tarfile.SYMTYPE, "app/run.exe"),
            ("app/" + "n" * 300, tarfile.REGTYPE, ""),
            ("app/.wh.gone", tarfile.REGTYPE, ""),
        ):
            entry = tarfile.TarInfo(name)
            entry.type, entry.linkname, entry.mtime = kind, link, 12345
            entry.size = 700 if kind == tarfile.REGTYPE and "wh" not in name else 0
            archive.addfile(entry, io.BytesIO(NOISE))
    return out.getvalue()


@pytest.mark.parametrize("pack", [bytes, gzip.compress])
async def test_everything_is_under_files_and_says_who_owns_it(tmp_path: Path, pack: type[bytes]) -> None:
    layer = await windows_layer(write(tmp_path / "layer.tar", pack(several())))
    content = await read(layer)
    assert (layer.compression, layer.digest, layer.size) == ("gzip", Digest.of(content), len(content))
    inside = gzip.decompress(content)
    assert layer.diff_id == Digest.of(inside)
    with tarfile.open(fileobj=io.BytesIO(inside)) as archive:
        entries = {entry.name: entry for entry in archive}
        assert archive.extractfile("Files/app/run.exe").read() == NOISE[:700]  # type: ignore[union-attr]
    assert list(entries) == [
        "Files",
        "Hives",
        "Files/app",
        "Files/app/run.exe",
        "Files/app/hard",
        "Files/soft",
        "Files/app/" + "n" * 300,
        "Files/app/.wh.gone",
    ]
    assert (entries["Hives"].mode, entries["Hives"].type, entries["Hives"].pax_headers) == (0o555, tarfile.DIRTYPE, {})
    assert {entry.pax_headers.get("MSWINDOWS.rawsd", "")[:6] for entry in list(entries.values())[2:]} == {"AQAAgB"}
    assert entries["Files/app/hard"].linkname == "Files/app/run.exe"
    assert entries["Files/soft"].linkname == "app/run.exe"
    assert entries["Files/app"].mtime == 12345


async def test_a_directory_is_laid_out_likewise_and_the_same_every_time(tmp_path: Path) -> None:
    (tmp_path / "root" / "app").mkdir(parents=True)
    write(tmp_path / "root" / "app" / "x", b"1")
    first, second = await windows_layer(tmp_path / "root"), await windows_layer(tmp_path / "root")
    assert first.digest == second.digest
    with tarfile.open(fileobj=io.BytesIO(gzip.decompress(await read(first)))) as archive:
        assert archive.getnames() == ["Files", "Hives", "Files/app", "Files/app/x"]


@pytest.mark.parametrize(
    ("content", "says"),
    [
        (tar({"Files/a": b"x"}), "laid out for Windows already: it has 'Files/a'"),
        (tar({"Hives/a": b"x"}), "laid out for Windows already"),
        (tar({"../a": b"x"}), "leads out of it"),
        (tar({"a": NOISE})[:9000], "cut off"),
        (gzip.compress(tar(), mtime=0)[:-5], "in the middle of its gzip data"),
        (b"hello" * 500, "not a tar"),
    ],
)
async def test_what_cannot_be_laid_out_is_refused_in_one_line(tmp_path: Path, content: bytes, says: str) -> None:
    with pytest.raises(ContentError, match="layer") as caught:
        await windows_layer(write(tmp_path / "layer", content))
    assert says in str(caught.value)
    assert "\n" not in str(caught.value)


async def test_a_file_that_is_not_there_is_one_line(tmp_path: Path) -> None:
    with pytest.raises(NotFound, match="No such file"):
        await windows_layer(tmp_path / "none")
