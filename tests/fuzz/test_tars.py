"""Tars: as layers, as archives of images, as eStargz; every reader that there is looks at the same damage."""

from __future__ import annotations

import contextlib
import io
import os
import tarfile
import tempfile
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from asyncrane.archive import tarcopy
from asyncrane.archive.estargz import estargz
from asyncrane.archive.estargz_reader import EstargzReader
from asyncrane.archive.estargz_toc import FOOTER_SIZE, TOC_NAME, footer
from asyncrane.archive.packing import Packer
from asyncrane.archive.tarfs import TarReader
from asyncrane.archive.tarindex import index_file, index_stream
from asyncrane.archive.tarwalk import TarWalk
from asyncrane.archive.whiteout import listed
from asyncrane.archive.windows import for_windows
from asyncrane.errors import AsyncraneError
from asyncrane.oci.digest import Digest
from asyncrane.operations.places import located
from asyncrane.session import Session
from asyncrane.stores.tarball import open_archive
from tests.archive.overlay import entry, link, merge, symlink, tar
from tests.fuzz.hostile import changed, damaged, examples, refused, said
from tests.stores import archives

FORMATS = (0, 1, 2)
"""ustar, GNU and pax, as ``tarfile`` numbers them."""


def layer(kind: int) -> bytes:
    long = "d/" + "n" * (90 if kind == 0 else 300)
    more = {"pax_headers": {"SCHILY.xattr.user.a": "b", "size": "5"}} if kind == 2 else {}
    return tar(
        entry("d/"),
        entry(long, b"x" * 700),
        entry("d/small", b"small", **more),
        link("d/hard", "d/small"),
        symlink("d/soft", "../../etc/passwd"),
        entry("d/.wh.gone", b""),
        entry("p", type=b"6"),
        kind=kind,
    )


LAYERS = [layer(kind) for kind in FORMATS]
SPARSE = bytearray(tar(entry("sparse", b"s" * 512), kind=1))
SPARSE[156:157], SPARSE[386:410], SPARSE[483:495] = b"S", b"%011o\0%011o\0" % (0, 512), b"%011o\0" % 4096
LAYERS.append(bytes(SPARSE))


def walked(content: bytes) -> None:
    walk = TarWalk()
    walk.feed(content)
    walk.finish()


def drained(pieces: Any) -> int:
    return sum(len(piece) for piece in pieces)


READERS: dict[str, Callable[[bytes], object]] = {
    "walk": walked,
    "list": lambda content: listed(TarReader(io.BytesIO(content), "x"), "x"),
    "merge": lambda content: merge(content, LAYERS[2], content),
    "index": lambda content: index_file(io.BytesIO(content), "x", lambda: None),
    "stream": lambda content: index_stream(io.BytesIO(content), len, "x", lambda: None),
    "copy": lambda content: [copied.read(copied.size) for copied in tarcopy.entries(io.BytesIO(content), "x")],
    "windows": lambda content: drained(for_windows(io.BytesIO(content), "x")),
    "estargz": lambda content: drained(estargz(io.BytesIO(content), "x")),
}


@examples(60)
@given(damaged(LAYERS))
def test_every_reader_of_tars_reads_it_or_refuses_it(content: bytes) -> None:
    for read in READERS.values():
        refused(partial(read, content))


@pytest.mark.parametrize("digits", [5000, 4000, 30, 19])
@pytest.mark.parametrize("reader", READERS)
def test_a_size_of_any_length_is_a_size_or_an_error(reader: str, digits: int) -> None:
    """Found here: int() refuses more than 4300 digits, and a pax header may have a million."""
    record = b"%d size=%b\n"
    length = digits + len("size=\n ") + 4
    content = record % (length, b"1" * digits)
    about = tarfile.TarInfo("about")
    about.type, about.size = tarfile.XHDTYPE, len(content)
    blocks = about.tobuf(tarfile.USTAR_FORMAT) + content + bytes(-len(content) % 512)
    refused(partial(READERS[reader], blocks + LAYERS[0]))


def opened(blob: bytes) -> None:
    with tempfile.TemporaryFile() as file:
        file.write(blob)
        file.flush()
        reader = EstargzReader(lambda at, size: os.pread(file.fileno(), size, at), len(blob), "x")
        for name in reader.names():
            refused(partial(reader.read, name))
        reader.verify()


ESTARGZ = b"".join(estargz(io.BytesIO(LAYERS[2]), "x"))
ENTRIES = [
    {"name": "a", "type": "reg", "size": 5, "offset": 100, "digest": str(Digest.of(b"small"))},
    {"name": "a", "type": "chunk", "offset": 150, "chunkOffset": 5, "chunkSize": 5, "innerOffset": 2},
    {"name": "b", "type": "hardlink", "linkName": "b", "mode": 420},
]


@examples(60)
@given(damaged([ESTARGZ]))
def test_a_damaged_estargz_blob_is_read_or_refused(blob: bytes) -> None:
    refused(lambda: opened(blob))


@examples(60)
@given(changed([{"version": 1, "entries": ENTRIES}]))
def test_any_table_of_contents_is_read_or_refused(toc: bytes) -> None:
    head = b"".join(Packer(io.BytesIO(tar(entry("a", b"small"))), "x", tar=True).pieces())
    table = b"".join(Packer(io.BytesIO(tar(entry(TOC_NAME, toc))), "x", tar=True).pieces())
    refused(lambda: opened(head + table + footer(len(head))))


@examples(40)
@example(b"-000000000000001")  # found here: a read before the beginning
@given(st.binary(min_size=16, max_size=16) | st.from_regex(rb"[-+ _0-9a-fx]{16}", fullmatch=True))
def test_any_footer_is_read_or_refused(offset: bytes) -> None:
    blob = bytearray(ESTARGZ)
    at = len(blob) - FOOTER_SIZE + 16
    blob[at : at + 16] = offset
    refused(lambda: opened(bytes(blob)))


SAMPLE = archives.unpacked("fuzz")
ARCHIVES = [archives.docker20(SAMPLE, "a:1"), archives.podman(SAMPLE, "a:1"), archives.docker25(SAMPLE, "a:1")]


def kept(directory: Path, content: bytes) -> Path:
    path = directory / "a.tar"
    path.write_bytes(content)
    return path


async def images(path: Path) -> None:
    """Everything that can be asked of an archive."""
    size = path.stat().st_size  # noqa: ASYNC240  (a file of this test)
    async with open_archive(path) as archive:
        names = [name async for name in archive.tags()]
        for name in [*names[:3], "@0", "a:1"]:
            with contextlib.suppress(AsyncraneError):
                manifest = await archive.manifest(name)
                for blob in manifest.blobs():
                    async with archive.open(blob) as chunks:
                        assert sum([len(chunk) async for chunk in chunks]) <= size * 1100


@examples(15)
@given(damaged(ARCHIVES))
async def test_a_damaged_archive_is_read_or_refused(tmp_path: Path, content: bytes) -> None:
    try:
        await images(kept(tmp_path, content))
    except AsyncraneError as exc:
        said(exc)


def with_file(name: str, content: bytes) -> bytes:
    """The archive of docker 25 with another file ``name``: of two the last counts."""
    out = io.BytesIO(ARCHIVES[2])
    with tarfile.open(fileobj=out, mode="a") as archive:
        info = tarfile.TarInfo(name)
        info.size = len(content)
        archive.addfile(info, io.BytesIO(content))
    return out.getvalue()


SAVED = [[{"Config": "blobs/sha256/0", "RepoTags": ["a:1"], "Layers": ["../x", "/etc/passwd"], "LayerSources": {}}]]
INDEXES = [
    {
        "schemaVersion": 2,
        "manifests": [
            {
                "mediaType": "application/vnd.oci.image.manifest.v1+json",
                "digest": str(SAMPLE.digest),
                "size": SAMPLE.manifest.size,
                "annotations": {"org.opencontainers.image.ref.name": "1", "io.containerd.image.name": "a:1"},
            }
        ],
    }
]


@examples(15)
@given(
    st.tuples(st.just("manifest.json"), changed(SAVED))
    | st.tuples(st.just("index.json"), changed(INDEXES))
    | st.tuples(st.just("oci-layout"), changed([{"imageLayoutVersion": "1.0.0"}]))
)
async def test_an_archive_that_says_anything_is_read_or_refused(tmp_path: Path, file: tuple[str, bytes]) -> None:
    try:
        await images(kept(tmp_path, with_file(*file)))
    except AsyncraneError as exc:
        said(exc)


@examples(15)
@given(changed(INDEXES))
async def test_a_layout_whose_index_says_anything_is_read_or_refused(tmp_path: Path, index: bytes) -> None:
    layout = tmp_path / "layout"
    layout.mkdir(exist_ok=True)
    (layout / "oci-layout").write_text('{"imageLayoutVersion":"1.0.0"}')
    (layout / "index.json").write_bytes(index)
    async with Session() as session:
        for name in ("", ":1", "@sha256:" + "0" * 64):
            with contextlib.suppress(AsyncraneError):
                async with located(session, f"oci:{layout}{name}") as found:
                    await session.source(found.place).manifest(found.identifier)
