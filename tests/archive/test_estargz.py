"""eStargz layers: readable and verifiable file by file by the stargz-snapshotter's rules; gzip tars for the rest."""

from __future__ import annotations

import gzip
import hashlib
import io
import json
import os
import subprocess
import tarfile
from pathlib import Path

import pytest
from backports import zstd

from asyncrane.archive.estargz import CHUNK
from asyncrane.archive.estargz_reader import EstargzReader
from asyncrane.archive.estargz_toc import FOOTER_SIZE, TOC_DIGEST, UNCOMPRESSED_SIZE
from asyncrane.archive.formats import Packing, layer_format_from_environment
from asyncrane.archive.members import GZIP_LEVELS, Gzip
from asyncrane.archive.packing import Packer
from asyncrane.errors import NotFound
from asyncrane.oci.digest import Digest
from tests.archive.estargz_blobs import estargz_file, made, opened
from tests.archive.test_layers import NOISE, read, tar, write
from tests.peers import built, require

LARGE = os.urandom(1000) * (2 * CHUNK // 1000 + 500)
MODULE, VERSION = "github.com/containerd/stargz-snapshotter/estargz", "v0.19.1"


def corpus() -> bytes:
    """Every kind of entry a layer may have."""
    out = io.BytesIO()
    with tarfile.open(fileobj=out, mode="w", format=tarfile.PAX_FORMAT) as archive:

        def add(name: str, content: bytes = b"", kind: bytes = tarfile.REGTYPE, **fields: object) -> None:
            entry = tarfile.TarInfo(name)
            entry.type, entry.size = kind, len(content)
            for key, value in fields.items():
                setattr(entry, key, value)
            archive.addfile(entry, io.BytesIO(content))

        add("./", kind=tarfile.DIRTYPE, mode=0o755)
        add("./etc", kind=tarfile.DIRTYPE, mode=0o755, uname="root", gname="root")
        add("etc/motd", b"hello", mode=0o4755, uid=12, gid=34, uname="bob", gname="staff", mtime=1_600_000_000.6)
        add("etc/empty")
        add("etc/" + "long/" * 40 + "name", b"far down")
        add("etc/grüße", "ä".encode())
        add("etc/no-utf8-\udcff", b"odd name")
        add("usr/large", LARGE)
        add("usr/exact", LARGE[:CHUNK])
        add("usr/hard", kind=tarfile.LNKTYPE, linkname="usr/large")
        add("usr/soft", kind=tarfile.SYMTYPE, linkname="../etc/motd")
        add("usr/capable", b"x", pax_headers={"SCHILY.xattr.security.capability": "\x01\udc80\x02"})
        add("dev/null", kind=tarfile.CHRTYPE, devmajor=1, devminor=3)
        add("dev/disk", kind=tarfile.BLKTYPE, devmajor=8, devminor=1)
        add("dev/pipe", kind=tarfile.FIFOTYPE)
        add("etc/.wh.gone")
        add("big-id", b"1", uid=3_000_000_000, gid=3_000_000_001)
    return out.getvalue()


CORPUS = corpus()


def members(content: bytes) -> dict[str, tuple[bytes, int, int, bytes, str]]:
    """What the tar says, names as they are unpacked."""
    with tarfile.open(fileobj=io.BytesIO(content)) as archive:
        return {
            entry.name.removeprefix("./"): (
                entry.type,
                entry.mode,
                entry.uid,
                b"" if not entry.isreg() else archive.extractfile(entry).read(),  # type: ignore[union-attr]
                entry.linkname,
            )
            for entry in archive
        }


def test_an_estargz_blob_is_a_gzip_tar_of_the_same_files() -> None:
    blob, said = made(CORPUS)
    inside = gzip.decompress(blob)
    assert (said.diff_id, said.uncompressed_size) == (Digest.of(inside), len(inside))
    found, expected = members(inside), members(CORPUS)
    toc, landmark = found.pop("stargz.index.json"), found.pop(".no.prefetch.landmark")
    assert found == expected
    assert landmark[3] == b"\x0f"
    assert said.toc_digest == Digest.of(toc[3])
    assert said.annotations == {TOC_DIGEST: str(said.toc_digest), UNCOMPRESSED_SIZE: str(len(inside))}


def test_every_chunk_begins_a_gzip_member_of_its_own_and_the_toc_is_found_by_the_footer() -> None:
    blob, _ = made(CORPUS)
    end = blob[-FOOTER_SIZE:]
    assert gzip.decompress(end) == b""
    assert end[10:16] == b"\x1a\x00SG\x16\x00"
    at = int(end[16:32], 16)
    assert end[32:38] == b"STARGZ"
    with tarfile.open(fileobj=io.BytesIO(blob[at:-FOOTER_SIZE])) as archive:
        [entry] = archive.getmembers()
        toc = json.load(archive.extractfile(entry))  # type: ignore[arg-type]
    assert (entry.name, toc["version"]) == ("stargz.index.json", 1)
    with_content = [entry for entry in toc["entries"] if entry.get("size") or entry["type"] == "chunk"]
    chunks = [entry for entry in with_content if entry["name"] == "usr/large"]
    assert [(c["type"], c.get("chunkOffset", 0), c.get("chunkSize", 0)) for c in chunks] == [
        ("reg", 0, CHUNK),
        ("chunk", CHUNK, CHUNK),
        ("chunk", 2 * CHUNK, 0),
    ]
    assert chunks[0]["digest"] == str(Digest.of(LARGE))
    offsets = [entry["offset"] for entry in with_content]
    assert len(set(offsets)) == len(offsets) == 11
    for entry in with_content:
        assert blob[entry["offset"] : entry["offset"] + 3] == b"\x1f\x8b\x08"


def test_the_toc_says_what_the_tar_says() -> None:
    reader = opened(made(CORPUS)[0])
    motd, disk, capable = reader.entry("etc/motd"), reader.entry("dev/disk"), reader.entry("usr/capable")
    assert (motd.mode, motd.uid, motd.gid, motd.user_name, motd.group_name) == (0o4755, 12, 34, "bob", "staff")
    assert motd.modtime == "2020-09-13T12:26:41Z"
    assert (disk.type, disk.dev_major, disk.dev_minor) == ("block", 8, 1)
    assert capable.xattrs == {"security.capability": "AYAC"}
    assert reader.entry("big-id").uid == 3_000_000_000
    kinds = {name: reader.entry(name).type for name in ("etc", "etc/empty", "usr/hard", "usr/soft", "dev/pipe")}
    assert kinds == {
        "etc": "dir",
        "etc/empty": "reg",
        "usr/hard": "hardlink",
        "usr/soft": "symlink",
        "dev/pipe": "fifo",
    }
    assert reader.entry("usr/soft").link_name == "../etc/motd"
    assert reader.entry("etc").name == "./etc/"


def test_one_file_is_read_without_the_rest() -> None:
    blob, said = made(CORPUS)
    asked: list[int] = []

    def read_at(at: int, size: int) -> bytes:
        asked.append(at)
        return blob[at : at + size]

    reader = EstargzReader(read_at, len(blob), "layer", toc_digest=said.toc_digest)
    asked.clear()
    assert reader.read("big-id") == b"1"
    assert min(asked) >= reader.entry("big-id").offset
    assert reader.read("usr/large") == reader.read("usr/hard") == LARGE
    assert reader.read("/etc/./grüße") == "ä".encode()
    assert reader.read("etc/empty") == b""
    for name in ("nothing", "etc", "usr/soft"):
        with pytest.raises(NotFound, match="layer"):
            reader.read(name)
    assert reader.verify() == 1 + 10


def test_k5_converting_again_gives_the_same_bytes() -> None:
    """K5: a TOC and a landmark that are there are made anew, whatever level they were made with."""
    blob, said = made(CORPUS)
    assert made(gzip.decompress(blob)) == (blob, said)
    smaller = gzip.decompress(made(CORPUS, level=9)[0])
    assert smaller != gzip.decompress(blob), "the TOC inside says where the members are"
    assert made(smaller) == (blob, said)


class Cut:
    """A file that is read in pieces of ``size`` bytes at most."""

    def __init__(self, content: bytes, size: int) -> None:
        self._raw = io.BytesIO(content)
        self._size = size

    def read(self, size: int, /) -> bytes:
        return self._raw.read(min(size, self._size))


@pytest.mark.parametrize("cut", [1, 500, 4096, 65_536, 1_000_003])
async def test_k5_the_blob_does_not_depend_on_how_its_bytes_arrive(tmp_path: Path, cut: int) -> None:
    expected = await estargz_file(write(tmp_path / "layer.tar", CORPUS))
    packed = zstd.compress(CORPUS)
    packer = Packer(Cut(packed, max(cut, len(packed) // 400)), "stdin", Packing("estargz"))
    blob = b"".join(packer.pieces())
    layer = packer.layer(expected.read)
    assert (layer.digest, layer.size, layer.diff_id) == (expected.digest, expected.size, expected.diff_id)
    assert layer.annotations == expected.annotations
    assert blob == await read(expected)
    assert blob[1000:] == await read(expected, 1000)


async def test_a_file_is_made_again_when_it_is_read_from_anywhere(tmp_path: Path) -> None:
    layer = await estargz_file(write(tmp_path / "layer.tar.gz", gzip.compress(CORPUS)), 1)
    blob = await read(layer)
    assert (layer.compression, Digest.of(blob), len(blob)) == ("gzip", layer.digest, layer.size)
    for start in (1, len(blob) // 2, len(blob) - 1, len(blob)):
        assert await read(layer, start) == blob[start:]
    async with layer.read(0) as chunks:
        await anext(chunks)  # and nobody reads on


def test_a_sparse_file_becomes_an_ordinary_one(tmp_path: Path) -> None:
    program = require("tar", package="tar")
    with (tmp_path / "holes").open("wb") as file:
        file.write(b"begin")
        file.seek(3_000_000)
        file.write(b"end")
    content = (tmp_path / "holes").read_bytes()
    for format_ in ("gnu", "posix"):
        archive = tmp_path / f"{format_}.tar"
        subprocess.run([program, f"--format={format_}", "-S", "-cf", archive, "-C", tmp_path, "holes"], check=True)
        assert archive.stat().st_size < 100_000
        blob, _ = made(archive.read_bytes())
        assert opened(blob).read("holes") == content
        assert members(gzip.decompress(blob))["holes"][3] == content


def test_stargz_from_before_has_a_shorter_footer() -> None:
    blob, said = made(tar({"a": NOISE}))
    legacy = blob[-FOOTER_SIZE:]
    legacy = legacy[:10] + b"\x16\x00" + legacy[16:]
    assert len(legacy) == 47
    assert gzip.decompress(legacy) == b""
    assert opened(blob[:-FOOTER_SIZE] + legacy, said.toc_digest).read("a") == NOISE


def test_the_experiment_of_crane_is_understood() -> None:
    assert layer_format_from_environment({"GGCR_EXPERIMENT_ESTARGZ": "1"}) == "estargz"
    assert layer_format_from_environment({"GGCR_EXPERIMENT_ESTARGZ": "0"}) is None
    assert layer_format_from_environment({}) is None


@pytest.mark.parametrize("level", GZIP_LEVELS)
def test_a_gzip_member_is_what_the_standard_library_reads(level: int) -> None:
    """K5: the same bytes whatever pieces the content comes in."""
    content = LARGE[:2_500_000] + bytes(1_000_000)

    def packed(cut: int) -> bytes:
        member = Gzip(level)
        return b"".join(member.compress(content[i : i + cut]) for i in range(0, len(content), cut)) + member.finish()

    blob = packed(len(content))
    assert gzip.decompress(blob) == content
    assert blob[:10] == gzip.compress(b"", level, mtime=0)[:9] + b"\xff"
    assert {packed(cut) for cut in (999, 70_000, 1_048_576)} == {blob}


def test_the_fast_gzip_is_read_by_the_standard_one() -> None:
    for content in (b"", b"x", NOISE, LARGE[:3_000_000]):
        member = Gzip()
        assert gzip.decompress(member.compress(content) + member.finish()) == content


@pytest.fixture(scope="session")
def judge() -> Path:
    """The stargz-snapshotter's reader, built once into the user's cache directory."""
    source = Path(__file__).with_name("estargz_judge.go").read_text()
    version = hashlib.sha256(f"{source}{VERSION}".encode()).hexdigest()[:12]
    module = f"module judge\n\ngo 1.21\n\nrequire {MODULE} {VERSION}\n"
    commands = ["mod", "tidy"], ["build", "-o", "judge", "."]
    return built(f"estargz-{version}", "judge", *commands, sources={"main.go": source, "go.mod": module})


@pytest.mark.conformance
def test_the_stargz_snapshotter_verifies_and_reads_all_of_it(judge: Path, tmp_path: Path) -> None:
    blob, said = made(CORPUS)
    path = write(tmp_path / "blob", blob)
    ended = subprocess.run([judge, path, said.toc_digest], capture_output=True, text=True, check=False)
    assert ended.returncode == 0, ended.stderr
    lines = {line.split(" ")[0]: line for line in ended.stdout.splitlines()}
    assert f'"/usr/large" reg {len(LARGE)} 644 0:0 root:root "" 0,0 map[] {Digest.of(LARGE)!s}' in lines.values()
    assert lines['"/usr/hard"'].split(" ", 1)[1] == lines['"/usr/large"'].split(" ", 1)[1]
    assert r'map["security.capability":"\x01\x80\x02"]' in lines['"/usr/capable"']
    assert lines['"/dev/disk"'].startswith('"/dev/disk" block 0 644 0:0 root:root "" 8,1')
