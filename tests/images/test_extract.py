"""The files of an image are read from any source, each blob once, and checked before the first byte comes out."""

from __future__ import annotations

import gzip
import os
import stat
import subprocess
from collections import Counter
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from importlib import import_module
from pathlib import Path
from typing import Any

import anyio
import psutil
import pytest
from backports import zstd

from asyncrane.archive.layers import layer_file
from asyncrane.errors import ContentError, DigestMismatch, NotFound, SizeMismatch, UnsupportedManifest
from asyncrane.images.append import append_layers
from asyncrane.images.export import exported
from asyncrane.images.extract import extract
from asyncrane.images.overlay import Overlay
from asyncrane.images.view import Image, load
from asyncrane.oci import media
from asyncrane.oci.descriptor import Descriptor
from asyncrane.oci.digest import Digest
from asyncrane.stores.memory import MemoryStore
from asyncrane.testing.images import Sample, reader
from tests.archive.overlay import contents, entry, layer, merge, overlay, tar
from tests.archive.test_merge import CASES
from tests.images.tars import artifact, image, write_layout
from tests.peers import require


class Counted(MemoryStore):
    """A repository that counts what is read."""

    def __init__(self) -> None:
        super().__init__("counted")
        self.opened: Counter[Digest] = Counter()

    @asynccontextmanager
    async def open(self, blob: Descriptor, *, start: int = 0) -> AsyncIterator[AsyncIterator[bytes]]:
        self.opened[blob.digest] += 1
        async with super().open(blob, start=start) as chunks:
            yield chunks


async def extracted(made: Sample, store: MemoryStore | None = None) -> bytes:
    """The files of ``made``."""
    store = store or MemoryStore()
    await made.store(store, "it")
    found = await load(store, "it")
    assert isinstance(found, Image)
    async with extract(store, found) as chunks:
        return b"".join([chunk async for chunk in chunks])


async def export(made: Sample) -> bytes:
    store = MemoryStore()
    await made.store(store, "it")
    async with exported(store, await store.manifest("it")) as chunks:
        return b"".join([chunk async for chunk in chunks])


async def test_layers_of_any_compression_are_told_by_their_bytes() -> None:
    """Whatever their media type says."""
    layers = [layer("a"), layer("b", ".wh.a"), layer("c"), layer("d")]
    types = [media.OCI_LAYER_GZIP, media.OCI_LAYER_ZSTD, media.OCI_LAYER, media.OCI_LAYER_GZIP]
    made = image(*layers, types=types, packed={3: zstd.compress(layers[3])})
    assert contents(await extracted(made)) == {"b": "b", "c": "c", "d": "d"}


@pytest.mark.parametrize("room", [0, 10_240, 30_000, 1 << 20])
async def test_layers_that_are_not_kept_expanded_give_the_same_bytes(
    room: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A small image's layers are expanded once, those of a large one a second time."""
    layers = [layer(*(f"{name}/{n}" for n in range(8))) for name in "abc"]
    whole = await extracted(image(*layers, layers[0]))
    monkeypatch.setattr(import_module("asyncrane.images.extract"), "ROOM", room)
    assert await extracted(image(*layers, layers[0])) == whole


async def test_each_blob_is_read_once_even_where_an_image_has_it_twice() -> None:
    empty, store = tar(), Counted()
    layers = [layer("a", "x"), empty, layer(".wh.a", "b"), empty, layer("a", "x")]
    made = image(*layers)
    assert contents(await extracted(made, store)) == {"a": "a", "b": "b", "x": "x"}
    assert set(store.opened.values()) == {1}


async def test_more_layers_than_are_read_at_once_keep_their_order() -> None:
    layers = [layer("same", f"own{n}", same=str(n)) for n in range(30)]
    found = contents(await extracted(image(*layers)))
    assert found.pop("same") == "29"
    assert found == {f"own{n}": f"own{n}" for n in range(30)}


async def test_an_image_without_layers_has_an_empty_tar() -> None:
    assert await extracted(image()) == bytes(1024)


async def test_an_edited_image_is_extracted_before_it_is_anywhere(tmp_path: Path) -> None:
    store = MemoryStore()
    await image(layer("a", "b")).store(store, "it")
    (tmp_path / "new.tar").write_bytes(layer(".wh.a", "c"))
    edited = append_layers(await load(store, "it"), [await layer_file(tmp_path / "new.tar")])
    assert isinstance(edited, Image)
    overlaid = Overlay("edits", lambda place: store)
    overlaid.add(edited)
    async with extract(overlaid, edited) as chunks:
        assert contents(b"".join([chunk async for chunk in chunks])) == {"b": "b", "c": "c"}


GOOD = layer("a", "b", "c")
BOMB, _ = entry("bomb")
BOMB.size = 10_000_000_000
WRONG = {
    "is not a tar archive": image(GOOD, b"no tar" * 200),
    "ends in the middle of its gzip data": image(GOOD, packed={0: gzip.compress(GOOD)[:-20]}),
    "damaged gzip data": image(GOOD, packed={0: gzip.compress(GOOD)[:10] + b"\xff" * 100}),
    "ends in the middle of its zstd data": image(GOOD, packed={0: zstd.compress(GOOD)[:-5]}),
    "which the config says is": image(GOOD, packed={0: gzip.compress(layer("other"))}),
    "leads out": image(GOOD, tar(entry("../../etc/passwd", b""))),
    "is cut off": image(GOOD, BOMB.tobuf() + bytes(500)),
    "diff_ids for 1 layers": image(GOOD, config={"rootfs": {"type": "layers", "diff_ids": []}}),
    "unusable diff id": image(GOOD, config={"rootfs": {"type": "layers", "diff_ids": ["md5:0"]}}),
}


@pytest.mark.parametrize("words", WRONG)
async def test_nothing_comes_out_of_an_image_that_is_not_what_it_says(words: str) -> None:
    """One line, which names the layer."""
    store = MemoryStore()
    await WRONG[words].store(store, "it")
    found = await load(store, "it")
    assert isinstance(found, Image)
    with pytest.raises(ContentError, match=words) as raised:
        async with extract(store, found):
            pytest.fail("it began")
    assert "\n" not in str(raised.value)
    assert "sha256:" in str(raised.value)


class Lying(MemoryStore):
    """A repository whose blobs arrive as something else."""

    def __init__(self, change: Any) -> None:
        super().__init__()
        self._change = change

    @asynccontextmanager
    async def open(self, blob: Descriptor, *, start: int = 0) -> AsyncIterator[AsyncIterator[bytes]]:
        content = self._here.blobs[blob.digest]
        async with reader(content if blob.media_type == media.OCI_CONFIG else self._change(content))(start) as chunks:
            yield chunks


@pytest.mark.parametrize(
    ("change", "error"),
    [
        (lambda content: content[:-1] + b"?", DigestMismatch),
        (lambda content: b"?" + content[1:], DigestMismatch),
        (lambda content: content[:-1], SizeMismatch),
        (lambda content: content + b"?", SizeMismatch),
    ],
)
async def test_a_blob_that_arrives_as_another_is_said_to_be_one(change: Any, error: type[ContentError]) -> None:
    """Even where what arrives is no gzip either."""
    with pytest.raises(error):
        await extracted(image(GOOD, layer("d")), Lying(change))


async def test_a_layer_that_is_not_there_is_said_to_be_missing() -> None:
    store, made = MemoryStore(), image(GOOD, layer("d"))
    await made.store(store, "it")
    del store._here.blobs[made.manifest.layers()[1].digest]
    with pytest.raises(NotFound):
        async with exported(store, made.manifest):
            pytest.fail("it began")


async def test_a_layer_of_many_zeros_passes_through_in_bounded_memory() -> None:
    """150 MB in a few kilobytes: what its header says it is, and no more than that at once."""
    size = 150_000_000
    info, _ = entry("zeros")
    info.size = size
    big = info.tobuf() + bytes(-(-size // 512) * 512) + bytes(1024)
    made = image(big, layer("a"), types=[media.OCI_LAYER_ZSTD])
    del big
    store = MemoryStore()
    await made.store(store, "it")
    found = await load(store, "it")
    assert isinstance(found, Image)
    process = psutil.Process()
    before = most = process.memory_info().rss
    length = 0
    async with extract(store, found) as chunks:
        async for chunk in chunks:
            length += len(chunk)
            most = max(most, process.memory_info().rss)
    assert length == len(merge(layer("a"))) + 512 + -(-size // 512) * 512
    assert most - before < 60_000_000


async def test_a_single_blob_that_is_no_layer_comes_as_it_is() -> None:
    """As crane has it: uncompressed if it is compressed."""
    assert await export(artifact(("application/wasm", b"\0asm"))) == b"\0asm"
    assert await export(artifact(("application/vnd.cncf.helm.chart.content.v1.tar+gzip", gzip.compress(GOOD)))) == GOOD


async def test_of_several_blobs_all_have_to_be_layers() -> None:
    with pytest.raises(UnsupportedManifest, match="application/wasm"):
        await export(artifact(("application/wasm", b"\0asm"), (media.OCI_LAYER, GOOD)))
    both = artifact((media.OCI_LAYER, GOOD), (media.OCI_LAYER_GZIP, gzip.compress(layer(".wh.a"))))
    assert contents(await export(both)) == {"b": "b", "c": "c"}


def on_disk(root: Path) -> dict[str, tuple[Any, ...]]:
    """What is below ``root``, as :func:`overlay` describes it."""
    inodes: dict[int, list[str]] = {}
    found: dict[str, tuple[Any, ...]] = {}
    for path in sorted(root.rglob("*")):
        name, status = str(path.relative_to(root)), path.lstat()
        inodes.setdefault(status.st_ino, []).append(name)
        target = str(path.readlink()) if path.is_symlink() else ""
        content = path.read_bytes() if stat.S_ISREG(status.st_mode) else b""
        mode = None if path.is_symlink() else stat.S_IMODE(status.st_mode)
        found[name] = (stat.S_IFMT(status.st_mode), mode, status.st_mtime, content, target, inodes[status.st_ino])
    return found


def unpacked(archive: bytes, root: Path) -> dict[str, tuple[Any, ...]]:
    """What GNU tar makes of it."""
    root.mkdir()
    ended = subprocess.run(["tar", "-xp", "-C", root], input=archive, capture_output=True, check=True)
    assert ended.stderr == b""
    return on_disk(root)


BEYOND_UMOCI = (
    "a hard link in front of its target",  # refused
    "a hard link to what its own layer hides",  # refused, as the whiteout comes first
    "an empty layer",  # refused: no tar
    "whiteouts that are hard links, as AUFS made them",  # no longer known
    "files of many names, as AUFS kept them",
)


@pytest.mark.parametrize("case", [case for case in CASES if case not in BEYOND_UMOCI and CASES[case][0]])
def test_k6_umoci_unpacks_the_same_files(tmp_path: Path, case: str) -> None:
    """K6: file by file, with modes, times and hard links, whatever the order in a layer."""
    umoci = require("umoci", package="umoci")
    made = image(*CASES[case][0])
    write_layout(tmp_path / "layout", made, "it")
    rootless = ["--rootless"] if os.geteuid() else []
    command = [str(umoci), "unpack", *rootless, "--image", f"{tmp_path}/layout:it", f"{tmp_path}/bundle"]
    subprocess.run(command, check=True, capture_output=True)
    ours, theirs = unpacked(anyio.run(extracted, made), tmp_path / "ours"), on_disk(tmp_path / "bundle" / "rootfs")
    assert known(ours, made) == known(theirs, made)


def known(files: dict[str, tuple[Any, ...]], made: Sample) -> dict[str, tuple[Any, ...]]:
    """``files``, without the modes and times of directories that no layer has an entry of."""
    said = {name for name, file in overlay([merge(*CASES_BY[made.digest])]).items() if file[1]}
    return {name: (file if name in said else (file[0], file[3:])) for name, file in files.items()}


CASES_BY = {image(*layers).digest: layers for layers, _ in CASES.values()}
