"""An archive that is written is whole or not there, and depends on nothing but the images in it."""

from __future__ import annotations

import json
import os
import tarfile
from pathlib import Path

import anyio
import pytest

from asyncrane.abc import Sink
from asyncrane.errors import (
    DigestMismatch,
    Interrupted,
    InvalidInput,
    InvalidReference,
    NotFound,
    RegistryError,
    UnsupportedManifest,
)
from asyncrane.oci import media
from asyncrane.oci.descriptor import Descriptor
from asyncrane.oci.manifest import Manifest
from asyncrane.stores.tarball import open_archive
from asyncrane.testing.checks import check_sink, check_source
from asyncrane.testing.images import Sample, random_image, random_index, reader
from tests.stores.archives import left, write
from tests.stores.samples import EVERY_KIND, described


@pytest.mark.parametrize("form", ["tarball", "legacy"])
async def test_it_is_a_sink_and_what_it_wrote_a_source(tmp_path: Path, form: str) -> None:
    async with open_archive(tmp_path / "a.tar", writing=True, form=form) as sink:  # type: ignore[call-overload]
        assert isinstance(sink, Sink)
        await check_sink(sink)
    assert left(tmp_path) == ["a.tar"]
    async with open_archive(tmp_path / "a.tar") as source:
        found = await source.manifest("checked")
        await check_source(source, tag="checked:latest", manifest=found)
        assert found.config() == random_config()


def random_config() -> Descriptor:
    """That of the image which the check of sinks stores, as Docker calls it."""
    config = random_image("check").manifest.config()
    assert config is not None
    return Descriptor(media.DOCKER_CONFIG, config.digest, config.size)


@pytest.mark.parametrize("form", ["tarball", "legacy"])
async def test_the_file_depends_on_the_images_only(tmp_path: Path, form: str) -> None:
    """J2, K5: a layer that several images share is there once, in whatever order things came."""
    base = random_image("base", layers=(5000,))
    one, two = random_image("o", layers=(5000, 100)), random_image("t", layers=(5000, 200))
    for number, order in enumerate(((base, one, two), (two, base, one))):
        async with open_archive(tmp_path / f"{number}.tar", writing=True, form=form) as sink:  # type: ignore[call-overload]
            if number:
                sink.expect({"x/base": base.manifest, "x/one:1": one.manifest, "x/two:2": two.manifest})
            for sample in order:
                name = {base.digest: "x/base", one.digest: "x/one:1", two.digest: "x/two:2"}[sample.digest]
                await sample.store(sink, name)
    assert (tmp_path / "0.tar").read_bytes() == (tmp_path / "1.tar").read_bytes()
    with tarfile.open(tmp_path / "0.tar") as archive:
        names = archive.getnames()
        assert len(names) == len(set(names))
        assert {(entry.mode, entry.mtime, entry.uname) for entry in archive} == {(0o644, 0, "")}
        listing = archive.extractfile("manifest.json")
        assert listing is not None
        tags = [entry["RepoTags"] for entry in json.load(listing)]
    assert sorted(tags) == [["x/base:latest"], ["x/one:1"], ["x/two:2"]]


async def failing(path: Path) -> None:
    """Write an archive all but for its end."""
    async with open_archive(path, writing=True) as sink:
        await random_image().store(sink, "app:v1")
        raise NotFound("something else")


async def test_an_archive_is_replaced_when_the_new_one_is_whole_and_not_before(tmp_path: Path) -> None:
    target = write(tmp_path / "a.tar", b"what was there")
    target.chmod(0o640)
    (tmp_path / "link.tar").symlink_to(target)
    with pytest.raises(NotFound):
        await failing(tmp_path / "link.tar")
    async with open_archive(tmp_path / "link.tar", writing=True):
        pass  # no image came
    assert target.read_bytes() == b"what was there"
    assert left(tmp_path) == ["a.tar", "link.tar"]
    async with open_archive(tmp_path / "link.tar", writing=True) as sink:
        await random_image().store(sink, "app:v1")
        assert target.read_bytes() == b"what was there"
    assert tarfile.is_tarfile(target)
    assert target.stat().st_mode & 0o777 == 0o640
    assert left(tmp_path) == ["a.tar", "link.tar"]


async def test_what_comes_when_it_is_closed_is_written_nowhere(tmp_path: Path) -> None:
    sample = random_image()
    digest, body = next(iter(sample.blobs.items()))
    async with open_archive(tmp_path / "a.tar", writing=True) as sink:
        pass
    sink.close()
    with pytest.raises(Interrupted):
        await sink.put(sample.blob(digest), reader(body))
    assert left(tmp_path) == []


async def test_an_archive_takes_single_images_with_names_only(tmp_path: Path) -> None:
    index, image = random_index(), random_image()
    async with open_archive(tmp_path / "a.tar", writing=True) as sink:
        for manifest in index.manifests[:-1]:
            for blob in manifest.blobs():
                await sink.put(blob, reader(index.blobs[blob.digest]))
        with pytest.raises(UnsupportedManifest, match="holds single images, not a multi-arch image"):
            await sink.publish(index.manifest, "app:v1")
        with pytest.raises(UnsupportedManifest, match=r"not application/vnd\.docker\.distribution\.manifest\.v1\+json"):
            await sink.publish(EVERY_KIND["schema1"].manifest, "app:v1")
        with pytest.raises(RegistryError, match="is unknown here"):
            await sink.publish(image.manifest, "app:v1")
        with pytest.raises(InvalidReference):
            await sink.publish(index.manifests[0], "no name")
        lie = Manifest(image.manifest.media_type, image.manifest.body + b" ", image.digest)
        with pytest.raises(DigestMismatch):
            await sink.publish(lie)
    assert not (tmp_path / "a.tar").exists()


async def legacy(path: Path, sample: Sample) -> None:
    async with open_archive(path, writing=True, form="legacy") as sink:
        await sample.store(sink, "app:v1")


async def test_a_legacy_archive_refuses_a_layer_that_is_not_what_its_config_says(tmp_path: Path) -> None:
    one, two = random_image("1", layers=(2000,)), random_image("2", layers=(2000,))
    config, wrong = one.manifest.config(), two.manifest.layers()[0]
    assert config is not None
    fields = one.manifest.fields() | {"layers": [described(wrong.media_type, two.blobs[wrong.digest])]}
    manifest = Manifest.read(json.dumps(fields).encode())
    sample = Sample((manifest,), {config.digest: one.blobs[config.digest], wrong.digest: two.blobs[wrong.digest]})
    with pytest.raises(DigestMismatch, match="is not the one that its image says"):
        await legacy(tmp_path / "a.tar", sample)
    assert left(tmp_path) == []


async def test_where_nothing_can_be_written_is_said_at_once(tmp_path: Path) -> None:
    with pytest.raises(InvalidInput, match="is a directory"):
        async with open_archive(tmp_path, writing=True):
            pass
    with pytest.raises(InvalidInput, match="is no directory"):
        async with open_archive(tmp_path / "none/a.tar", writing=True):
            pass


async def test_a_pipe_gets_the_archive_and_stays_a_pipe(tmp_path: Path) -> None:
    pipe, got = tmp_path / "pipe", []
    os.mkfifo(pipe)

    async def read() -> None:
        got.append(await anyio.to_thread.run_sync(pipe.read_bytes))

    async with anyio.create_task_group() as tasks:
        tasks.start_soon(read)
        async with open_archive(pipe, writing=True) as sink:
            await random_image().store(sink, "app:v1")
    assert pipe.is_fifo()
    async with open_archive(write(tmp_path / "a.tar", got[0])) as source:
        assert (await source.sole()).digest == (await source.resolve("app:v1")).digest
