"""Appending layers to one image: what is read once is sent once, and what is bad or missing leaves nothing behind."""

from __future__ import annotations

import gzip
import io
import json
import os
import tarfile
import threading
from pathlib import Path

import pytest
from backports import zstd

from asyncrane import ContentError, Interrupted, InvalidInput, InvalidPlatform, NotFound, Platform, Session
from asyncrane.oci import media
from asyncrane.operations.surgery import append, rebase
from asyncrane.testing import FaultyRegistry, cut_request
from tests.archive.pipes import pipe
from tests.archive.test_layers import NOISE, tar
from tests.images.samples import BOTH, attested, expanded, image, index, sample
from tests.operations.test_jobs import config, wrong
from tests.promises.images import incomplete, put, tags

WINDOWS = Platform("windows", "amd64", os_version="10.0.20348.1")
LARGE = os.urandom(7_000_000)


def names(path: Path) -> set[str]:
    """What is in a directory."""
    return {entry.name for entry in path.iterdir()}


def layer_of(registry: FaultyRegistry, repository: str, identifier: str, at: int = -1) -> bytes:
    """The tar of a layer."""
    manifest = registry.get_manifest(repository, identifier)
    assert manifest is not None
    blob = registry.get_blob(repository, manifest.layers()[at].digest)
    assert blob is not None
    return expanded(blob)


@pytest.mark.parametrize("pack", [bytes, zstd.compress], ids=["plain", "zstd"])
async def test_k1_a_streamed_layer_is_sent_once_for_a_whole_index(
    source: FaultyRegistry, destination: FaultyRegistry, tmp_path: Path, pack: type[bytes]
) -> None:
    """K1: every platform gets it, the others' bytes are mounted or copied once, and nothing is asked for twice."""
    base = put(source, "base", attested(sample(index("a"))), "1")
    content = tar({"large": LARGE})
    with pipe(tmp_path / "pipe", pack(content)) as name:
        async with Session() as session:
            outcome = await append(session, [name], f"{destination.address}/app:1", base=base)
    assert outcome.notes == ("2 attestations left out: about images that were edited",)
    assert len(destination.requests(kind="upload-patch")) == 1
    children = destination.get_manifest("app", "1").children()  # type: ignore[union-attr]
    assert [child.platform for child in children] == list(BOTH)
    assert {layer_of(destination, "app", str(child.digest)) for child in children} == {content}
    layers = {destination.get_manifest("app", str(c.digest)).layers()[-1].digest for c in children}  # type: ignore[union-attr]
    assert len(layers) == 1
    assert len([r for r in destination.log if r.digest in layers]) == 1, "the PUT that commits it"
    assert incomplete(destination) == []
    assert await wrong(destination, "app", "1") == []


async def test_a_small_stream_is_a_layer_like_any_other(source: FaultyRegistry, tmp_path: Path) -> None:
    """What can be kept is looked for first: the second time nothing is sent."""
    base = put(source, "base", sample(image("a")), "1")
    digests = []
    for number in (1, 2):
        source.log.clear()
        with pipe(tmp_path / f"{number}", tar({"small": b"x" * 5000})) as name:
            async with Session() as session:
                digests.append((await append(session, [name], f"{source.address}/app:{number}", base=base)).digest)
    assert digests[0] == digests[1]
    assert source.requests(kind="upload-put") == source.requests(kind="upload-patch") == []


async def test_a_directory_a_file_and_a_pipe_are_layers_in_the_order_given(
    source: FaultyRegistry, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("SOURCE_DATE_EPOCH", "1000000000")
    (tmp_path / "root" / "etc").mkdir(parents=True)
    (tmp_path / "root" / "etc" / "motd").write_bytes(LARGE)
    (tmp_path / "file").write_bytes(gzip.compress(tar({"file": b"1"})))
    with pipe(tmp_path / "pipe", tar({"pipe": b"1"})) as name:
        async with Session() as session:
            layers: list[str | Path] = [tmp_path / "root", name, tmp_path / "file"]
            await append(session, layers, f"{source.address}/app:1", scratch="oci", platforms=[BOTH[1]])
    listed = []
    for at in range(3):
        with tarfile.open(fileobj=io.BytesIO(layer_of(source, "app", "1", at))) as archive:
            listed.append(archive.getnames())
            assert at or {entry.mtime for entry in archive} == {10**9}
    assert listed == [["etc", "etc/motd"], ["pipe"], ["file"]]
    made = config(source, "app", "1")
    assert (made["os"], made["architecture"]) == ("linux", "arm64")
    assert {entry["created"] for entry in made["history"]} == {"2001-09-09T01:46:40Z"}
    assert source.get_manifest("app", "1").media_type == media.OCI_MANIFEST  # type: ignore[union-attr]
    assert await wrong(source, "app", "1") == []


async def test_without_a_base_it_is_dockers_image_of_nothing(source: FaultyRegistry, tmp_path: Path) -> None:
    (tmp_path / "file").write_bytes(tar())
    async with Session() as session:
        await append(session, [tmp_path / "file"], f"{source.address}/app:1")
    assert source.get_manifest("app", "1").media_type == media.DOCKER_MANIFEST  # type: ignore[union-attr]
    made = config(source, "app", "1")
    assert (made["os"], made["architecture"], len(made["rootfs"]["diff_ids"])) == ("", "", 1)
    assert await wrong(source, "app", "1") == []


async def test_windows_images_get_the_layer_laid_out_for_them(source: FaultyRegistry, tmp_path: Path) -> None:
    """In an index of both kinds each gets its own."""
    base = put(source, "base", sample(index("a", platforms=(BOTH[0], WINDOWS))), "1")
    (tmp_path / "file").write_bytes(tar({"run": b"1"}))
    (tmp_path / "root").mkdir()
    (tmp_path / "root" / "dir").write_bytes(b"2")
    async with Session() as session:
        await append(session, [tmp_path / "file", tmp_path / "root"], f"{source.address}/app:1", base=base)
    found = []
    for child in source.get_manifest("app", "1").children():  # type: ignore[union-attr]
        for at in (-2, -1):
            with tarfile.open(fileobj=io.BytesIO(layer_of(source, "app", str(child.digest), at))) as archive:
                found.append(archive.getnames())
    assert found == [["run"], ["dir"], ["Files", "Hives", "Files/run"], ["Files", "Hives", "Files/dir"]]
    assert await wrong(source, "app", "1") == []
    with pipe(tmp_path / "pipe", b"") as name:
        threading.Thread(target=lambda: Path(name).open("rb").close(), daemon=True).start()
        async with Session() as session:
            with pytest.raises(InvalidInput, match="a pipe is read once"):
                await append(session, [name], f"{source.address}/app:2", base=base)


@pytest.mark.parametrize(
    ("content", "says"),
    [
        (tar({"a": LARGE})[:-20_000], "cut off"),
        (gzip.compress(tar({"a": LARGE}), 1)[:-4], "in the middle of its gzip data"),
        (tar({"a": LARGE, "../../b": b"x"}), "leads out of it"),
        (b"no tar" * 2_000_000, "not a tar"),
        (tar({"a": NOISE})[:9_000], "cut off"),
    ],
    ids=["cut off", "truncated gzip", "escape", "no tar", "small"],
)
async def test_a_bad_stream_leaves_nothing_behind(
    source: FaultyRegistry, tmp_path: Path, content: bytes, says: str
) -> None:
    """No image, no blob, no session: what is wrong is seen before the last byte is sent."""
    base = put(source, "base", sample(image("a")), "1")
    with pipe(tmp_path / "pipe", content) as name:
        async with Session() as session:
            with pytest.raises(ContentError, match="pipe") as caught:
                await append(session, [name], f"{source.address}/app:1", base=base)
    assert says in str(caught.value)
    assert "\n" not in str(caught.value)
    assert source.requests(kind="upload-put") == []
    assert source.open_uploads == 0
    assert tags(source).keys() == {"base:1"}


async def test_what_is_missing_is_found_out_before_a_stream_is_read(source: FaultyRegistry, tmp_path: Path) -> None:
    """A pipe that was half read would be lost: base, platform and files come first."""
    base = put(source, "base", sample(index("a")), "1")
    (tmp_path / "bad").write_bytes(b"no tar")
    os.mkfifo(tmp_path / "pipe")  # nobody ever writes: whoever reads it waits for ever
    name, to = tmp_path / "pipe", f"{source.address}/app:1"
    async with Session() as session:
        with pytest.raises(NotFound):
            await append(session, [name], to, base=f"{source.address}/gone:1")
        with pytest.raises(InvalidPlatform, match="linux/s390x"):
            await append(session, [name], to, base=base, platforms=[Platform("linux", "s390x")])
        with pytest.raises(ContentError, match="bad is not a tar"):
            await append(session, [name, tmp_path / "bad"], to, base=base)
        with pytest.raises(NotFound, match="No such file"):
            await append(session, [name, tmp_path / "none"], to, base=base)
        with pytest.raises(InvalidInput, match="stdin can be one layer only"):
            await append(session, ["-", "-"], to, base=base)
    assert source.requests(kind="upload-post") == []


async def test_a_stream_that_is_lost_on_its_way_says_what_to_do(source: FaultyRegistry, tmp_path: Path) -> None:
    base = put(source, "base", sample(image("a")), "1")
    source.faults.add(cut_request(8_000_000, reset=True, kind="upload-patch"))
    with pipe(tmp_path / "pipe", tar({"a": LARGE * 3})) as name:
        async with Session() as session:
            with pytest.raises(Interrupted, match="save it to a file"):
                await append(session, [name], f"{source.address}/app:1", base=base)
    assert source.get_manifest("app", "1") is None
    assert source.open_uploads == 0


@pytest.mark.parametrize("broken", [False, True])
async def test_a_large_tar_is_compressed_once_while_it_goes_up(
    source: FaultyRegistry, tmp_path: Path, broken: bool
) -> None:
    """As a file can be read again, a broken connection costs no more than that."""
    base = put(source, "base", sample(index("a")), "1")
    content = tar({"noise": LARGE, "zeros": bytes(30_000_000)})
    (tmp_path / "large.tar").write_bytes(content)
    if broken:
        source.faults.add(cut_request(6_000_000, reset=True, times=1, kind="upload-patch"))
    async with Session() as session:
        await append(session, [tmp_path / "large.tar"], f"{source.address}/app:1", base=base)
    children = source.get_manifest("app", "1").children()  # type: ignore[union-attr]
    assert {layer_of(source, "app", str(child.digest)) for child in children} == {content}
    assert len(source.requests(kind="upload-patch")) == 1
    assert source.open_uploads == 0
    with_bad = tmp_path / "bad.tar"
    with_bad.write_bytes(content[:-20_000])
    source.log.clear()
    async with Session() as session:
        with pytest.raises(ContentError, match=r"bad\.tar is not a tar archive, or is cut off"):
            await append(session, [with_bad], f"{source.address}/bad:1", base=base)
    assert source.requests(kind="upload-put") == []
    assert source.open_uploads == 0


@pytest.mark.parametrize("platforms", [(), (BOTH[1],)])
async def test_the_base_is_noted_so_that_a_rebase_finds_it(
    source: FaultyRegistry, tmp_path: Path, platforms: tuple[Platform, ...]
) -> None:
    """As crane: the digest of the image that was used, and the name only where that is a tag's."""
    at = source.address
    put(source, "base", sample(index("a")), "1")
    (tmp_path / "file").write_bytes(tar())
    async with Session() as session:
        for base in (f"{at}/base:1", f"{at}/base@{tags(source)['base:1']}"):
            await append(
                session,
                [tmp_path / "file"],
                f"{at}/app:1",
                base=base,
                platforms=platforms,
                set_base_image_annotations=True,
            )
            made = source.get_manifest("app", "1")
            assert made is not None
            noted = dict(made.annotations)
            expected = tags(source)["base:1"]
            if platforms:
                expected = str(source.get_manifest("base", "1").children()[1].digest)  # type: ignore[union-attr]
            assert noted.pop("org.opencontainers.image.base.digest") == expected
            assert noted == ({"org.opencontainers.image.base.name": base} if "@" not in base else {})
        put(source, "base", sample(index("b")), "1")
        await append(session, [tmp_path / "file"], f"{at}/app:2", base=f"{at}/base:1", set_base_image_annotations=True)
        put(source, "base", sample(index("c")), "1")
        await rebase(session, f"{at}/app:2")
    assert await wrong(source, "app", "2") == []


@pytest.mark.parametrize("size", [5_000, 7_000_000])
async def test_a_file_for_docker_load_is_written_instead(source: FaultyRegistry, tmp_path: Path, size: int) -> None:
    """Of an index the image for linux/amd64, as crane, but it is said; also of what is read once."""
    base = put(source, "base", sample(index("a")), "1")
    content = tar({"x": LARGE[:size]})
    source.log.clear()
    with pipe(tmp_path / "pipe", content) as name:
        async with Session() as session:
            outcome = await append(session, [name], f"{source.address}/app:1", base=base, archive=tmp_path / "out.tar")
    assert outcome.notes == ("took linux/amd64 of the index: only a single image can be there",)
    assert {request.method for request in source.log} == {"GET"}
    with tarfile.open(tmp_path / "out.tar") as archive:
        listed = json.loads(archive.extractfile("manifest.json").read())  # type: ignore[union-attr]
        top = archive.extractfile(listed[0]["Layers"][-1]).read()  # type: ignore[union-attr]
    assert listed[0]["RepoTags"] == [f"{source.address}/app:1"]
    assert gzip.decompress(top) == content
    assert names(tmp_path) == {"out.tar", "pipe"}


async def test_a_file_that_cannot_be_made_is_not_left(source: FaultyRegistry, tmp_path: Path) -> None:
    base = put(source, "base", sample(image("a")), "1")
    (tmp_path / "bad").write_bytes(b"no tar")
    async with Session() as session:
        with pytest.raises(ContentError):
            await append(
                session, [tmp_path / "bad"], f"{source.address}/app:1", base=base, archive=tmp_path / "out.tar"
            )
        with pytest.raises(InvalidInput, match="is no directory"):
            await append(
                session, [tmp_path / "bad"], f"{source.address}/app:1", base=base, archive=tmp_path / "no" / "out.tar"
            )
    assert names(tmp_path) == {"bad"}
