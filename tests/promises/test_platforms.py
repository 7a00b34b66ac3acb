"""Some platforms of an index: exactly those, the same bytes every time, and an error that names what there is."""

from __future__ import annotations

import json

import pytest

from asyncrane import Manifest, Platform
from asyncrane.oci import media
from asyncrane.oci.digest import Digest
from asyncrane.testing import FaultyRegistry
from asyncrane.testing.images import Sample, random_image, random_index
from tests.cli.conftest import Program
from tests.promises.images import described, incomplete, one, put, tags

AMD64, ARM64, ARM7 = Platform("linux", "amd64"), Platform("linux", "arm64"), Platform("linux", "arm", variant="v7")
PLATFORMS = (AMD64, ARM64, ARM7)


def attested() -> Sample:
    """Three images, each with an attestation as buildkit makes them, and annotations that must stay."""
    images = [random_image(f"for {p}", platform=p) for p in PLATFORMS]
    statements = []
    for image in images:
        statement = json.dumps({"about": image.digest}).encode()
        config = b"{}"
        fields = {
            "schemaVersion": 2,
            "mediaType": media.OCI_MANIFEST,
            "config": described(media.OCI_CONFIG, config),
            "layers": [described("application/vnd.in-toto+json", statement)],
        }
        manifest = Manifest.read(json.dumps(fields).encode())
        blobs = {Digest.of(content): content for content in (config, statement)}
        statements.append(Sample((manifest,), blobs))
    entries = [
        described(image.manifest.media_type, image.manifest.body, platform=_platform(p))
        for image, p in zip(images, PLATFORMS, strict=True)
    ]
    entries += [
        described(
            statement.manifest.media_type,
            statement.manifest.body,
            platform={"os": "unknown", "architecture": "unknown"},
            annotations={
                "vnd.docker.reference.digest": str(image.digest),
                "vnd.docker.reference.type": "attestation-manifest",
            },
        )
        for image, statement in zip(images, statements, strict=True)
    ]
    fields = {
        "schemaVersion": 2,
        "mediaType": media.OCI_INDEX,
        "manifests": entries,
        "annotations": {"org.example": "stays"},
    }
    root = Manifest.read(json.dumps(fields, indent=2).encode())
    below = [m for sample in (*images, *statements) for m in sample.manifests]
    blobs = {d: c for sample in (*images, *statements) for d, c in sample.blobs.items()}
    return Sample((*below, root), blobs)


def _platform(platform: Platform) -> dict[str, str]:
    fields = {"os": platform.os, "architecture": platform.architecture}
    return {**fields, "variant": platform.variant} if platform.variant else fields


@pytest.mark.parametrize("words", [["linux/amd64,linux/arm/v7"], ["linux/arm/v7", "linux/amd64"]])
async def test_e1_an_index_of_exactly_the_chosen_platforms_and_their_attestations(
    source: FaultyRegistry, destination: FaultyRegistry, program: Program, words: list[str]
) -> None:
    """E1, E2, E3, E6: stripped, accepted by a registry that checks children, others not even read; a second run writes
    nothing.
    """
    sample = attested()
    name = put(source, "app", sample, "v1")
    flags = [f"--platform={word}" for word in words]
    ended = await program("cp", name, f"{destination.address}/app:v1", *flags)
    assert ended.code == 0, ended.err
    index = destination.get_manifest("app", "v1")
    assert index is not None
    entries = sample.manifest.fields()["manifests"]
    assert index.fields() == {**sample.manifest.fields(), "manifests": [entries[n] for n in (0, 2, 3, 5)]}
    assert incomplete(destination) == []
    other = sample.manifest.children()[1].digest
    unread = {other, sample.manifest.children()[4].digest}
    assert unread.isdisjoint(Digest(r.digest) for r in source.requests(kind="manifest-get"))
    left_out = next(m for m in sample.manifests if m.digest == other)
    assert {b.digest for b in left_out.blobs()}.isdisjoint(r.digest for r in source.requests(kind="blob-get"))
    destination.log.clear()
    assert (await program("cp", name, f"{destination.address}/app:v1", *flags)).code == 0
    assert destination.log.counts() == {"ping": 1, "manifest-head": 1}


async def test_e1_one_platform_is_that_image(
    source: FaultyRegistry, destination: FaultyRegistry, program: Program
) -> None:
    """E1: the tag names the image, not an index."""
    sample = random_index("e1", platforms=PLATFORMS)
    ended = await program(
        "cp", put(source, "app", sample, "v1"), f"{destination.address}/app:v1", "--platform", "linux/arm/v7"
    )
    assert ended.code == 0, ended.err
    assert tags(destination) == {"app:v1": str(sample.manifest.children()[2].digest)}
    assert len(source.requests(kind="blob-get")) == 3


async def test_e1_a_platform_that_is_not_there_names_those_that_are(
    source: FaultyRegistry, destination: FaultyRegistry, program: Program
) -> None:
    """E1, I6."""
    name = put(source, "app", attested(), "v1")
    for flags in (["--platform", "linux/s390x"], ["--platform", "linux/amd64,linux/s390x"]):
        ended = await program("cp", name, f"{destination.address}/app:v1", *flags)
        assert ended.code == 2
        assert "linux/s390x" in ended.error
        assert "linux/amd64, linux/arm/v7, linux/arm64" in ended.error
        assert "unknown" not in ended.error
    assert tags(destination) == {}


async def test_e1_a_single_image_is_checked_against_its_config(
    source: FaultyRegistry, destination: FaultyRegistry, program: Program
) -> None:
    """E1: --platform means something for it, too."""
    name = put(source, "app", random_image("single", platform=ARM64), "v1")
    ended = await program("cp", name, f"{destination.address}/app:v1", "--platform", "linux/amd64")
    assert ended.code == 2
    assert "linux/arm64" in ended.error
    assert tags(destination) == {}
    assert (
        await program("cp", name, f"{destination.address}/app:v1", "--platform", "linux/arm64,linux/amd64")
    ).code == 0
    assert incomplete(destination) == []


async def test_e3_an_index_that_loses_nothing_keeps_its_bytes(
    source: FaultyRegistry, destination: FaultyRegistry
) -> None:
    """E3, G1."""
    sample = attested()
    async with FaultyRegistry() as third:
        outcome, _ = await one(put(source, "app", sample, "v1"), f"{destination.address}/app:v1")
        assert outcome.digest == str(sample.digest)
        copied = f"{destination.address}/app:v1"
        from_there, _ = await one(copied, f"{third.address}/app:v1")
        assert from_there.digest == str(sample.digest)
        assert incomplete(third) == []


async def test_e5_what_is_not_an_index_is_asked_for_with_every_media_type(
    source: FaultyRegistry, destination: FaultyRegistry
) -> None:
    """E5: registries answer with schema 1 to whoever does not say what else is welcome."""
    await one(put(source, "app", random_index("accept"), "v1"), f"{destination.address}/app:v1")
    kinds = {*media.INDEXES, *media.IMAGES, *media.SCHEMA1}
    for request in source.requests(kind="manifest-get") + source.requests(kind="manifest-head"):
        accepted = {word.strip() for word in request.headers["Accept"].split(",")}
        assert kinds <= accepted
