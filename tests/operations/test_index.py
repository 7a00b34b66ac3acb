"""Indexes are put together and taken apart, wherever they are; what they list stays as it is (K10)."""

from __future__ import annotations

import json
from collections import Counter
from pathlib import Path
from typing import Any

import pytest

from asyncrane.errors import AsyncraneError, InvalidInput, InvalidPlatform, InvalidReference, UnsupportedManifest
from asyncrane.images.index import parse_wish
from asyncrane.oci import media
from asyncrane.oci.digest import Digest
from asyncrane.oci.manifest import Manifest
from asyncrane.oci.platform import Platform
from asyncrane.oci.reference import Repository
from asyncrane.operations.copy import copy
from asyncrane.operations.index import index_append, index_filter, index_list, index_remove
from asyncrane.operations.publish import Published
from asyncrane.session import Session
from asyncrane.stores.layout import open_layout
from asyncrane.stores.random import LINUX_AMD64, LINUX_ARM64
from asyncrane.testing import FaultyRegistry, status
from asyncrane.testing.images import Sample
from tests.images.samples import attested, image, index, problems, sample, with_fields
from tests.promises.images import incomplete, put

AMD, ARM = sample(image("a")), sample(image("a", platform=LINUX_ARM64))


async def appended(*arguments: Any, **options: Any) -> Published:
    async with Session() as session:
        made = await index_append(session, *arguments, **options)
    assert made is not None
    return made


def there(registry: FaultyRegistry, repository: str, identifier: str) -> Manifest:
    found = registry.get_manifest(repository, identifier)
    assert found is not None
    return found


def platforms(manifest: Manifest) -> list[str]:
    return [str(child.platform or "-") for child in manifest.children()]


async def test_k10_an_index_is_made_of_images_which_stay_as_they_are(
    source: FaultyRegistry, destination: FaultyRegistry
) -> None:
    """K10: platforms are what the configs say; everything is at the destination before the index is."""
    names = [put(source, "amd", AMD, "1"), put(source, "arm", ARM, "1")]
    made = await appended(None, names, tag=f"{destination.address}/app:1")
    manifest = there(destination, "app", "1")
    assert str(made.reference) == f"{destination.address}/app@{manifest.digest!s}"
    assert manifest.media_type == media.OCI_INDEX
    assert [child.digest for child in manifest.children()] == [AMD.digest, ARM.digest]
    assert platforms(manifest) == ["linux/amd64", "linux/arm64"]
    assert incomplete(destination) == []
    order = [request.path for request in destination.requests(kind="manifest-put")]
    assert order[-1].endswith("/app/manifests/1")
    assert len(order) == 3


async def test_on_one_registry_no_blob_is_moved(source: FaultyRegistry) -> None:
    names = [put(source, "amd", AMD, "1"), put(source, "arm", ARM, "1")]
    await appended(None, names, tag=f"{source.address}/app:1")
    assert source.requests(kind="blob-get") == [
        request for request in source.requests(kind="blob-get") if request.repository in ("amd", "arm")
    ]
    assert source.requests(kind="upload-put") == []
    assert {request.status for request in source.requests(kind="mount")} == {201}


async def test_k10_what_is_appended_goes_behind_what_is_there(source: FaultyRegistry) -> None:
    """K10: annotations and unknown fields of the index are kept, and adding the same again changes nothing."""
    base = sample(index("b"))
    base = with_fields(base, annotations={"made": "here"}, unknown=[1])
    put(source, "app", base, "1")
    added = put(source, "other", AMD, "1")
    made = await appended(f"{source.address}/app:1", [added])
    manifest = there(source, "app", "1")
    assert manifest.digest == made.digest
    assert [child.digest for child in manifest.children()] == [*[m.digest for m in base.manifests[:-1]], AMD.digest]
    assert (manifest.annotations, manifest.fields()["unknown"]) == ({"made": "here"}, [1])
    again = await appended(f"{source.address}/app:1", [added])
    assert again.digest == made.digest


@pytest.mark.parametrize("flatten", [True, False])
async def test_an_index_is_listed_by_its_parts_or_as_itself(source: FaultyRegistry, *, flatten: bool) -> None:
    inner = attested(sample(index("a")))
    name = put(source, "inner", inner, "1")
    await appended(None, [name], tag=f"{source.address}/app:1", flatten=flatten)
    manifest = there(source, "app", "1")
    entries = manifest.fields()["manifests"]
    if flatten:
        assert entries == inner.manifest.fields()["manifests"]
    else:
        assert [(e["digest"], e["mediaType"]) for e in entries] == [(str(inner.digest), media.OCI_INDEX)]
    assert incomplete(source) == []


async def test_k3_docker_images_make_a_list_of_dockers(source: FaultyRegistry) -> None:
    """K3: nothing has to be made anew for that."""
    made = [sample(image("a", docker=True)), sample(image("a", docker=True, platform=LINUX_ARM64))]
    names = [put(source, f"d{number}", one, "1") for number, one in enumerate(made)]
    result = await appended(None, names, tag=f"{source.address}/app:1")
    manifest = there(source, "app", "1")
    assert (manifest.media_type, result.notes) == (media.DOCKER_LIST, ())
    assert [child.digest for child in manifest.children()] == [one.digest for one in made]


@pytest.mark.parametrize("docker", [True, False])
async def test_k3_an_index_never_mixes_the_families(source: FaultyRegistry, *, docker: bool) -> None:
    """K3: the rarer ones are given the types of the others, with their configs and layers as they were."""
    names = [put(source, "d", sample(image("a", docker=True)), "1"), put(source, "o", ARM, "1")]
    result = await appended(None, names, tag=f"{source.address}/app:1", docker_empty_base=docker)
    assert result.notes == (
        f"1 manifest given {'Docker' if docker else 'OCI'}'s media types: an index does not mix the two",
    )
    assert there(source, "app", "1").media_type == (media.DOCKER_LIST if docker else media.OCI_INDEX)
    async with Session() as session:
        assert await problems(session.remote(Repository(source.address, "app")), "1") == []
    assert source.requests(kind="upload-put") == []


async def test_e6_filtering_keeps_the_attestations_of_what_is_kept(source: FaultyRegistry) -> None:
    """E6: and drops those of the rest; the images are the very same."""
    base = attested(sample(index("a")))
    put(source, "app", base, "1")
    async with Session() as session:
        await index_filter(
            session, f"{source.address}/app:1", [Platform("linux", "arm64")], tag=f"{source.address}/to:1"
        )
    manifest = there(source, "to", "1")
    assert platforms(manifest) == ["linux/arm64", "unknown/unknown"]
    assert manifest.fields()["manifests"] == base.manifest.fields()["manifests"][1::2]
    assert there(source, "app", "1").digest == base.digest


async def test_filtering_moves_the_tag_or_leaves_a_digest_beside_a_digest(source: FaultyRegistry) -> None:
    base = sample(index("a"))
    put(source, "app", base, "1")
    amd = [Platform("linux", "amd64")]
    async with Session() as session:
        by_digest = await index_filter(session, f"{source.address}/app@{base.digest!s}", amd)
        assert there(source, "app", "1").digest == base.digest
        by_tag = await index_filter(session, f"{source.address}/app:1", amd)
    assert by_digest.digest == by_tag.digest == there(source, "app", "1").digest
    assert there(source, "app", str(by_digest.digest)).children()[0].digest == base.manifests[0].digest


async def test_a_platform_may_be_said_in_part(source: FaultyRegistry) -> None:
    """What no image is for is told, and an index that loses nothing keeps its bytes."""
    base = sample(index("a"))
    put(source, "app", base, "1")
    async with Session() as session:
        wanted = [parse_wish("linux"), parse_wish("windows/amd64")]
        made = await index_filter(session, f"{source.address}/app:1", wanted)
    assert made.digest == base.digest
    assert made.notes == (f"nothing for windows/amd64 in {source.address}/app:1",)
    assert [str(parse_wish(text)) for text in ("linux", "linux:5", "linux/arm/v7")] == [
        "linux",
        "linux:5",
        "linux/arm/v7",
    ]
    with pytest.raises(InvalidPlatform):
        parse_wish("a/b/c/d")


async def test_filtering_never_publishes_an_empty_index(source: FaultyRegistry) -> None:
    """Trap: crane puts one over the tag when no platform is given, or none matches."""
    base = sample(index("a"))
    put(source, "app", base, "1")
    async with Session() as session:
        with pytest.raises(InvalidInput, match="which platforms"):
            await index_filter(session, f"{source.address}/app:1", [])
        with pytest.raises(InvalidPlatform, match="there are: linux/amd64, linux/arm64"):
            await index_filter(session, f"{source.address}/app:1", [Platform("windows")])
    assert there(source, "app", "1").digest == base.digest
    assert source.requests(method="PUT") == []


async def test_k10_entries_are_taken_out_by_digest(source: FaultyRegistry) -> None:
    """K10: with their attestations."""
    base = attested(sample(index("a")))
    put(source, "app", base, "1")
    async with Session() as session:
        await index_remove(session, f"{source.address}/app:1", [base.manifests[0].digest])
        assert platforms(there(source, "app", "1")) == ["linux/arm64", "unknown/unknown"]
        with pytest.raises(UnsupportedManifest, match="does not list sha256:"):
            await index_remove(session, f"{source.address}/app:1", [Digest.of(b"x")])


@pytest.mark.parametrize("kind", ["oci", "oci-archive"])
async def test_k10_layouts_and_archives_are_places_like_others(
    source: FaultyRegistry, tmp_path: Path, kind: str
) -> None:
    """K10: made there, read there, and from there to a registry with the same digest."""
    names = [put(source, "amd", AMD, "1"), put(source, "arm", ARM, "1")]
    there_ = f"{kind}:{tmp_path / 'images'}:app"
    made = await appended(None, names, tag=there_)
    async with Session() as session:
        assert [str(entry.platform) for entry in await index_list(session, there_)] == ["linux/amd64", "linux/arm64"]
        filtered = await index_filter(session, there_, [LINUX_ARM64], tag=f"{source.address}/back:1")
        back = await index_append(session, there_, [names[0]], tag=f"{source.address}/back:2")
    assert back is not None
    assert there(source, "back", "2").digest == back.digest == made.digest
    assert there(source, "back", "1").digest == filtered.digest
    assert incomplete(source) == []


async def test_a_directory_gets_images_as_they_are(source: FaultyRegistry, tmp_path: Path) -> None:
    """crane's local base: its own index.json is the index, and nothing is printed."""
    base = sample(index("b"))
    names = [put(source, "app", base, "1"), put(source, "amd", AMD, "1")]
    path = tmp_path / "layout"
    async with Session() as session:
        assert await index_append(session, str(path), names) is None
        listed = await index_list(session, str(path))
        with pytest.raises(InvalidInput, match="is a directory"):
            await index_append(session, str(path), names, tag=f"{source.address}/x:1")
    assert [entry.digest for entry in listed] == [*[m.digest for m in base.manifests[:-1]], AMD.digest]
    async with open_layout(path) as layout:
        assert (await layout.manifest(str(AMD.digest))).body == AMD.manifest.body


async def test_paths_are_layouts_and_archives(source: FaultyRegistry, tmp_path: Path) -> None:
    """As crane takes them: all that is in a layout, and the image in an archive."""
    names = [put(source, "app", sample(index("b")), "1"), put(source, "amd", AMD, "1")]
    layout, archive = tmp_path / "layout", tmp_path / "one.tar"
    async with Session() as session:
        await index_append(session, str(layout), names)
        await copy(session, names[1], f"docker-archive:{archive}:amd:1")
    made = await appended(None, [str(layout), str(archive)], tag=f"{source.address}/to:1")
    manifest = there(source, "to", "1")
    assert made.digest == manifest.digest
    assert platforms(manifest) == ["linux/amd64", "linux/arm64", "linux/amd64", "linux/amd64"]
    assert incomplete(source) == []


async def test_e5_a_single_image_is_said_to_be_no_index(source: FaultyRegistry) -> None:
    """E5: by every command on indexes."""
    name = put(source, "app", AMD, "1")
    says = r"/app:1 is not an index \(image manifest application/vnd.oci.image.manifest.v1\+json\)"
    async with Session() as session:
        for attempt in (
            index_list(session, name),
            index_append(session, name, [name]),
            index_filter(session, name, [LINUX_AMD64]),
            index_remove(session, name, [AMD.digest]),
        ):
            with pytest.raises(UnsupportedManifest, match=says):
                await attempt
    assert source.requests(method="PUT") == []


@pytest.mark.parametrize(
    ("base", "manifests", "options", "says"),
    [
        (None, ["r.example/a"], {}, "needs a --tag"),
        ("r.example/a", [], {}, "no manifests to append"),
        ("r.example/a", ["r.example/b"], {"docker_empty_base": True}, "means nothing"),
        (None, ["r.example/a"], {"tag": "r.example:5000"}, "registry without a repository"),
        (None, ["r.example/a"], {"tag": f"r.example/a@{AMD.digest!s}"}, "names a digest"),
    ],
)
async def test_words_that_cannot_be_used_are_refused_before_anything_is_sent(
    base: str | None, manifests: list[str], options: dict[str, Any], says: str
) -> None:
    async with Session() as session:
        with pytest.raises((InvalidInput, InvalidReference), match=says):
            await index_append(session, base, manifests, **options)
        assert session.statistics().requests == {}


async def test_nothing_is_tagged_when_something_listed_is_missing(
    source: FaultyRegistry, destination: FaultyRegistry
) -> None:
    broken: Sample = sample(index("a"))
    name = put(source, "app", broken, "1")
    source.faults.add(status(404, kind="blob-get", path=str(broken.manifests[0].layers()[0].digest)))
    async with Session(retries=0) as session:
        with pytest.raises(AsyncraneError):
            await index_append(session, None, [name], tag=f"{destination.address}/to:1")
    assert destination.get_manifest("to", "1") is None
    assert incomplete(destination) == []


async def test_every_manifest_is_read_once(source: FaultyRegistry, destination: FaultyRegistry) -> None:
    base = sample(index("a"))
    name = put(source, "app", base, "1")
    async with Session() as session:
        await index_filter(session, name, [LINUX_AMD64], tag=f"{destination.address}/to:1")
    reads = Counter(request.path for request in source.requests(kind="manifest-get"))
    assert set(reads.values()) == {1}
    layers = [layer.digest for layer in base.manifests[1].layers()]
    assert not {request.digest for request in source.requests(kind="blob-get")} & set(layers)
    assert json.loads(there(destination, "to", "1").body)["schemaVersion"] == 2
