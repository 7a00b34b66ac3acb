"""Archives of docker, podman, skopeo and crane are Sources."""

from __future__ import annotations

import bz2
import gzip
import json
import lzma
import os
import tarfile
from collections.abc import Callable
from pathlib import Path

import anyio
import pytest
from backports import zstd

from asyncrane.abc import Lister, Source
from asyncrane.archive import outer, tarindex
from asyncrane.errors import (
    AsyncraneError,
    ContentError,
    InvalidReference,
    NotFound,
)
from asyncrane.oci import media
from asyncrane.oci.descriptor import Descriptor
from asyncrane.oci.digest import Digest
from asyncrane.oci.manifest import Manifest
from asyncrane.stores.tarball import open_archive
from asyncrane.stores.tarball_opening import OpenArchive
from asyncrane.testing.checks import check_source
from asyncrane.testing.images import Sample, random_image, random_index
from tests.stores.archives import (
    File,
    bomb,
    containerd,
    docker20,
    docker25,
    listed,
    parts,
    podman,
    saved,
    tar,
    unpacked,
    write,
)
from tests.stores.samples import described, move


async def content(source: Source, blob: Descriptor) -> bytes:
    async with source.open(blob) as chunks:
        return b"".join([chunk async for chunk in chunks])


async def layers(source: Source, manifest: Manifest) -> list[bytes]:
    """The layers, unpacked."""
    return [gzip.decompress(await content(source, layer)) for layer in manifest.layers()]


@pytest.mark.parametrize("made", [docker20, podman, docker25])
async def test_plain_layers_are_compressed_and_the_config_stays(
    tmp_path: Path, made: Callable[[Sample, str], bytes]
) -> None:
    sample = unpacked("plain")
    async with open_archive(write(tmp_path / "a.tar", made(sample, "app:v1"))) as source:
        assert isinstance(source, Source)
        assert isinstance(source, Lister)
        root = await source.sole()
        found = await source.manifest("app:v1")
        await check_source(source, tag="app:v1", manifest=found)
        assert root == found.descriptor
        assert found.media_type == media.DOCKER_MANIFEST
        assert {layer.media_type for layer in found.layers()} == {media.DOCKER_LAYER_GZIP}
        config = found.config()
        assert config is not None
        ids = json.loads(await content(source, config))["rootfs"]["diff_ids"]
        unzipped = await layers(source, found)
        assert [str(Digest.of(layer)) for layer in unzipped] == ids
        assert unzipped[:2] == parts(sample)[1]
        if made is not docker20:
            assert config.digest == sample.manifest.config().digest  # type: ignore[union-attr]


async def test_the_same_archive_gives_the_same_digest_every_time(tmp_path: Path) -> None:
    """K5: also where layers have to be compressed, and whoever wrote them down."""
    sample = unpacked("again")
    digests = set()
    for made in (podman, docker25, podman):
        async with open_archive(write(tmp_path / "a.tar", made(sample))) as source:
            digests.add((await source.sole()).digest)
    assert len(digests) == 1


async def test_each_layer_is_looked_through_once(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """J8: whatever number of images have it, and however often they are asked for."""
    sample = unpacked("once")
    config, tars = parts(sample)
    other = json.dumps({**json.loads(config), "author": "somebody else"}).encode()
    files = [(f"{Digest.of(layer).hex}.tar", layer) for layer in tars]
    names = [name for name, _ in files]
    entries = listed(saved("one.json", names, "a:1"), saved("two.json", names, "a:2"))
    archive = write(tmp_path / "a.tar", tar([*files, ("one.json", config), ("two.json", other), entries]))
    read: list[int] = []
    plain = OpenArchive.read

    def counted(self: OpenArchive, member: tarindex.Member, start: int = 0, size: int = 1 << 20) -> bytes:
        if start == 0 and size > 100 and member.size > 2000:
            read.append(member.offset)
        return plain(self, member, start, size)

    monkeypatch.setattr(OpenArchive, "read", counted)
    async with open_archive(archive) as source:
        async with anyio.create_task_group() as tasks:
            for name in ("a:1", "a:2", "a:1", "a:2"):
                tasks.start_soon(source.manifest, name)
        assert len(read) == len(set(read)) == len(tars)


@pytest.mark.parametrize("kind", ["oci", "list"])
async def test_an_image_that_is_there_as_it_was_pulled_keeps_its_digest(tmp_path: Path, kind: str) -> None:
    """J3: docker 25 with containerd's store, buildkit: the OCI layout in the archive is preferred."""
    sample = random_image("kept") if kind == "oci" else random_index("kept", docker=True)
    async with open_archive(write(tmp_path / "a.tar", containerd(sample, "app:v1"))) as source:
        assert (await source.sole()).digest == sample.digest
        await check_source(source, tag="app:v1", manifest=sample.manifest)


async def test_of_an_index_that_is_there_in_part_the_image_keeps_its_digest(tmp_path: Path) -> None:
    """J3: docker saves an index whose other platforms it never fetched."""
    sample = random_index("part")
    here, gone = sample.manifests[0], sample.manifests[1]
    missing = [gone.digest, *[blob.digest for blob in gone.blobs()]]
    async with open_archive(write(tmp_path / "a.tar", containerd(sample, "app:v1", without=missing))) as source:
        assert (await source.sole()).digest == here.digest
        await check_source(source, tag="app:v1", manifest=here)


async def test_what_is_not_complete_as_an_oci_image_is_read_as_a_docker_image(tmp_path: Path) -> None:
    sample = random_image("docker only")
    async with open_archive(write(tmp_path / "a.tar", containerd(sample, "app:v1", without=[sample.digest]))) as source:
        found = await source.manifest("app:v1")
        assert found.media_type == media.DOCKER_MANIFEST
        assert [layer.digest for layer in found.layers()] == [layer.digest for layer in sample.manifest.layers()]


@pytest.mark.parametrize(
    "pack", [gzip.compress, zstd.compress, lzma.compress, bz2.compress], ids=["gz", "zst", "xz", "bz2"]
)
async def test_an_archive_may_be_compressed_as_a_whole(tmp_path: Path, pack: Callable[[bytes], bytes]) -> None:
    sample = random_image("packed")
    packed = pack(containerd(sample, "app:v1"))
    async with open_archive(write(tmp_path / "a.tar", packed)) as source:
        await check_source(source, tag="app:v1", manifest=sample.manifest)
    for size in (len(packed) // 2, len(packed) - 5):
        with pytest.raises(ContentError, match="in the middle of its"):
            async with open_archive(write(tmp_path / "cut.tar", packed[:size])):
                pass


async def test_a_pipe_is_read_to_its_end(tmp_path: Path) -> None:
    sample = random_image("piped")
    pipe = tmp_path / "pipe"
    os.mkfifo(pipe)
    async with anyio.create_task_group() as tasks:
        tasks.start_soon(anyio.to_thread.run_sync, pipe.write_bytes, containerd(sample, "app:v1"))
        async with open_archive(pipe) as source:
            await check_source(source, tag="app:v1", manifest=sample.manifest)


async def test_compressed_layers_are_passed_on_and_zstd_makes_an_oci_image(tmp_path: Path) -> None:
    config, tars = parts(unpacked("zstd"))
    stored = [zstd.compress(tars[0]), gzip.compress(tars[1])]
    files = [(f"{number}/layer.tar", layer) for number, layer in enumerate(stored)]
    archive = tar([*files, ("config", config), listed(saved("config", [name for name, _ in files], "app:v1"))])
    async with open_archive(write(tmp_path / "a.tar", archive)) as source:
        found = await source.manifest("app:v1")
        assert found.media_type == media.OCI_MANIFEST
        assert [layer.media_type for layer in found.layers()] == [media.OCI_LAYER_ZSTD, media.OCI_LAYER_GZIP]
        assert [await content(source, layer) for layer in found.layers()] == stored


async def test_a_foreign_layer_stays_where_it_is(tmp_path: Path) -> None:
    """J6: docker saves images of Windows without the layers it may not pass on."""
    config, tars = parts(unpacked("foreign"))
    zipped = gzip.compress(tars[0])
    foreign = described(media.DOCKER_FOREIGN_LAYER, zipped, urls=["https://example.com/layer"])
    entry = saved("c", ["base.tar", "app.tar"], "app:v1", LayerSources={str(Digest.of(tars[0])): foreign})
    async with open_archive(
        write(tmp_path / "a.tar", tar([("c", config), ("app.tar", tars[1]), listed(entry)]))
    ) as source:
        base = (await source.manifest("app:v1")).layers()[0]
        assert (base.digest, base.urls) == (Digest.of(zipped), ("https://example.com/layer",))


async def test_images_are_found_by_name_by_what_means_the_same_by_tag_and_by_number(tmp_path: Path) -> None:
    one, two = unpacked("one"), unpacked("two")
    files = []
    entries = []
    for sample, names in ((one, ("app:v1", "reg.example.com/b:latest")), (two, ("docker.io/library/app:v2",))):
        config, tars = parts(sample)
        stored = [(f"{Digest.of(layer).hex}.tar", layer) for layer in tars]
        files += [*stored, (f"{Digest.of(config).hex}.json", config)]
        entries.append(saved(f"{Digest.of(config).hex}.json", [name for name, _ in stored], *names))
    async with open_archive(write(tmp_path / "a.tar", tar([listed(*entries), *files]))) as source:
        first, second = (await source.resolve("@0")).digest, (await source.resolve("@1")).digest
        assert first != second
        for name in ("app:v1", "index.docker.io/library/app:v1", "reg.example.com/b", "v1", "latest", first):
            assert (await source.resolve(name)).digest == first, name
        for name in ("app:v2", "v2", second):
            assert (await source.resolve(name)).digest == second, name
        assert [tag async for tag in source.tags()] == [
            "app:v1",
            "reg.example.com/b:latest",
            "docker.io/library/app:v2",
        ]
        with pytest.raises(
            InvalidReference, match=r"holds 2 images, say which one: app:v1, reg\.example\.com/b:latest, "
        ):
            await source.sole()
        with pytest.raises(NotFound, match="has no image 'app:v3'; there is: app:v1, "):
            await source.manifest("app:v3")


async def test_links_are_followed_inside_the_archive_only(tmp_path: Path) -> None:
    config, tars = parts(unpacked("links"))
    good = tar(
        [
            ("./store/one", tars[0]),
            ("two", tars[1]),
            ("l/one", "../store/one"),
            ("l/two", "=two"),
            ("l/three", "two"),
            ("c", config),
            listed(saved("c", ["l/one", "l/two"], "app:v1")),
        ]
    )
    async with open_archive(write(tmp_path / "a.tar", good)) as source:
        assert await layers(source, await source.manifest("app:v1")) == tars


def _wrong_archives() -> dict[str, tuple[bytes, str]]:
    config, tars = parts(unpacked("wrong"))
    zipped = [gzip.compress(layer) for layer in tars]
    files: list[File] = [("one", tars[0]), ("two", tars[1]), ("c", config)]
    named = f"{'0' * 64}.json"
    circle: list[File] = [("one", "two"), ("two", "one"), ("c", config)]
    sparse = json.dumps({**json.loads(config), "rootfs": {"diff_ids": ["sha256:1"]}}).encode()
    return {
        "no manifest.json": (tar(files), "neither a manifest.json nor an index.json"),
        "garbage": (tar([*files, ("manifest.json", b"{garbage")]), "manifest.json is not a list of images"),
        "not a list": (tar([*files, ("manifest.json", b'{"a":1}')]), "manifest.json is not a list of images"),
        "empty": (tar([*files, listed()]), "holds no image"),
        "config missing": (tar([listed(saved("x", []))]), "no file 'x'"),
        "config outside": (tar([listed(saved("../../etc/passwd", []))]), "leads out of the archive"),
        "config no JSON": (tar([("c", b"x"), listed(saved("c", []))]), "the config c is no image's"),
        "config otherwise": (tar([("c", sparse), listed(saved("c", ["one"]))]), "the config c is no image's"),
        "config of another digest": (tar([(named, config), listed(saved(named, []))]), f"the config {named} has"),
        "layer missing": (tar([("c", config), listed(saved("c", ["one", "two"]))]), "no file 'one'"),
        "layer outside": (tar([*files, listed(saved("c", ["one", "../two"]))]), "leads out of the archive"),
        "link outside": (tar([("one", "/../../x"), *files[1:], listed(saved("c", ["one", "two"]))]), "leads out"),
        "links in a circle": (tar([*circle, listed(saved("c", ["one", "two"]))]), "lead in a circle"),
        "too few layers": (tar([*files, listed(saved("c", ["one"]))]), "has 2 diff_ids for 1 layers"),
        "another layer": (tar([*files, listed(saved("c", ["two", "one"]))]), "(one|two) has the digest sha256:"),
        "another layer, compressed": (
            tar([("a", zipped[1]), ("b", zipped[0]), ("c", config), listed(saved("c", ["a", "b"]))]),
            "[ab] has the digest sha256:",
        ),
        "a layer cut off": (
            tar([("a", zipped[0][:-20]), ("b", zipped[1]), ("c", config), listed(saved("c", ["a", "b"]))]),
            "a ends in the middle of its gzip data",
        ),
        "no tar": (b"hello" * 1000, "is not a tar archive"),
        "nothing": (b"", "is not a tar archive: empty file"),
        "cut off": (tar([*files, listed(saved("c", ["one", "two"]))])[:5000], "is cut off"),
        "a header of a gigabyte": (_claiming(1 << 30, tarfile.XHDTYPE), "a header of 1073741824 bytes"),
        "a file of ten gigabytes": (gzip.compress(_claiming(10 << 30, tarfile.REGTYPE)), "is cut off"),
        "negative size": (_claiming(-512, tarfile.REGTYPE), "has a size of -512"),
    }


def _claiming(size: int, kind: bytes) -> bytes:
    entry = tarfile.TarInfo("x")
    entry.size, entry.type = size, kind
    return entry.tobuf(tarfile.GNU_FORMAT) + bytes(1024)


WRONG = _wrong_archives()


@pytest.mark.parametrize("what", list(WRONG))
async def test_what_is_wrong_with_an_archive_is_said_in_one_line(tmp_path: Path, what: str) -> None:
    archive, said = WRONG[what]
    with pytest.raises(AsyncraneError, match=said) as caught:
        async with open_archive(write(tmp_path / "a.tar", archive)) as source:
            await source.sole()
    assert isinstance(caught.value, ContentError | NotFound)
    assert "\n" not in str(caught.value)


async def test_a_layer_that_is_not_what_its_name_says_is_noticed_when_it_is_read(tmp_path: Path) -> None:
    sample = random_image("wrong name")
    config, zipped = parts(sample)
    names = [f"{layer.digest.hex}.tar.gz" for layer in sample.manifest.layers()]
    archive = tar([(names[0], zipped[1]), (names[1], zipped[1]), ("c", config), listed(saved("c", names, "app:v1"))])
    async with (
        open_archive(write(tmp_path / "a.tar", archive)) as source,
        open_archive(tmp_path / "b.tar", writing=True) as sink,
    ):
        outcome = (await move(source, sink, "app:v1"))[0]
        assert outcome.failure is not None
        assert (outcome.failure.kind, outcome.targets[0].status) == ("DigestMismatch", "failed")
    assert not (tmp_path / "b.tar").exists()


async def test_ten_gigabytes_of_nothing_are_not_unpacked(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(outer, "UNQUESTIONED", 64 << 20)  # for a quick test: it is the rule that counts
    packed = bomb(10 << 30)
    assert len(packed) < 20_000_000
    with pytest.raises(ContentError, match="expands to more than 500 times its size"):
        async with open_archive(write(tmp_path / "a.tar", packed)):
            pass


async def test_no_file_and_a_directory_are_no_archives(tmp_path: Path) -> None:
    with pytest.raises(NotFound, match=f"{tmp_path}/none: no such file"):
        async with open_archive(tmp_path / "none"):
            pass
    with pytest.raises(ContentError, match="is a directory, not an archive"):
        async with open_archive(tmp_path):
            pass
