"""Copies between registries nobody here wrote, judged by programs nobody here wrote."""

from __future__ import annotations

import json
import os
import subprocess
from pathlib import Path
from typing import Any

import pytest

from asyncrane.abc import Sink
from asyncrane.errors import NotFound
from asyncrane.oci import media
from asyncrane.oci.descriptor import Descriptor
from asyncrane.oci.digest import Digest
from asyncrane.oci.manifest import Manifest
from asyncrane.oci.platform import Platform
from asyncrane.oci.reference import Repository
from asyncrane.operations.copy import Pair, copy, copy_all
from asyncrane.session import Session
from asyncrane.testing.images import Sample, random_image, random_index, reader
from tests.copies.conftest import Sides
from tests.copies.registries import PASSWORD, USER
from tests.peers import require

EMPTY = Descriptor(media.OCI_EMPTY, Digest.of(b"{}"), 2)


def nested(seed: object) -> Sample:
    inner, other = random_index(f"{seed}/inner"), random_image(f"{seed}/other")
    entries = [
        {"mediaType": child.media_type, "digest": str(child.digest), "size": child.size}
        for child in (inner.manifest, other.manifest)
    ]
    fields = {"schemaVersion": 2, "mediaType": media.OCI_INDEX, "manifests": entries, "annotations": {"a": "ü <&>"}}
    root = Manifest.read(json.dumps(fields, indent=3).encode())
    return Sample((*inner.manifests, *other.manifests, root), inner.blobs | other.blobs)


def artifact(seed: object) -> Sample:
    content = f"artifact {seed}".encode()
    layer = {"mediaType": "text/plain", "digest": str(Digest.of(content)), "size": len(content)}
    config = {"mediaType": EMPTY.media_type, "digest": str(EMPTY.digest), "size": EMPTY.size}
    fields = {
        "schemaVersion": 2,
        "mediaType": media.OCI_MANIFEST,
        "artifactType": "application/vnd.example",
        "config": config,
        "layers": [layer],
    }
    root = Manifest.read(json.dumps(fields).encode())
    return Sample((root,), {Digest.of(content): content, EMPTY.digest: b"{}"})


KINDS = {
    "an OCI image": lambda: random_image("oci"),
    "a Docker image": lambda: random_image("docker", docker=True),
    "an index": lambda: random_index("index"),
    "a Docker list": lambda: random_index("list", docker=True),
    "an index in an index": lambda: nested("nested"),
    "an artifact": lambda: artifact("artifact"),
}


async def fill(session: Session, name: str, sample: Sample, *tags: str) -> None:
    store = session.remote(Repository.parse(name), writing=True)
    assert isinstance(store, Sink)
    await sample.store(store, *tags)


def run(*words: str | Path, ca: Path | None = None, home: Path | None = None) -> str:
    environ = dict(os.environ)
    if ca:
        environ["SSL_CERT_FILE"] = str(ca)
    if home:
        environ["DOCKER_CONFIG"] = str(home)
    done = subprocess.run([str(w) for w in words], env=environ, capture_output=True, text=True, timeout=60, check=False)
    assert done.returncode == 0, f"{words}: {done.stderr}"
    return done.stdout


def login(directory: Path, *addresses: str) -> Path:
    """A docker config with the password, for crane."""
    auths = {address: {"username": USER, "password": PASSWORD} for address in addresses}
    (directory / "config.json").write_text(json.dumps({"auths": auths}))
    return directory


@pytest.mark.parametrize("kind", KINDS)
async def test_every_kind_arrives_byte_for_byte(sides: Sides, kind: str) -> None:
    """G1: what is read back is what was there, blob by blob."""
    sample = KINDS[kind]()
    source, destination = sides.name("source"), sides.name("destination")
    async with sides.session() as session:
        await fill(session, source, sample, "1")
        outcome = await copy(session, f"{source}:1", f"{destination}:1")
        assert outcome.digest == str(sample.digest)
        there = session.remote(Repository.parse(destination))
        assert (await there.manifest("1")).body == sample.manifest.body
        for manifest in sample.manifests:
            assert (await there.manifest(str(manifest.digest))).body == manifest.body
            for blob in manifest.blobs():
                async with there.open(blob) as chunks:
                    assert b"".join([chunk async for chunk in chunks]) == sample.blobs[blob.digest]


async def test_skopeo_reads_what_was_copied(sides: Sides, tmp_path: Path) -> None:
    skopeo = require("skopeo", package="skopeo")
    sample = random_index("for skopeo")
    source, destination = sides.name("source"), sides.name("destination")
    async with sides.session() as session:
        await fill(session, source, sample, "1")
        await copy(session, f"{source}:1", f"{destination}:1")
    ca = sides.destination.ca
    raw = run(skopeo, "inspect", "--raw", *sides.skopeo(""), f"docker://{destination}:1", ca=ca)
    assert raw.encode() == sample.manifest.body
    layout = tmp_path / "layout"
    run(skopeo, "copy", "--all", *sides.skopeo("src"), f"docker://{destination}:1", f"oci:{layout}:1", ca=ca)
    for digest, content in sample.blobs.items():
        assert (layout / "blobs" / "sha256" / digest.hex).read_bytes() == content


async def test_crane_validates_what_was_copied(sides: Sides, tmp_path: Path) -> None:
    crane = require("crane")
    sample = random_image("for crane", layers=(50_000, 300_000))
    source, destination = sides.name("source"), sides.name("destination")
    async with sides.session() as session:
        await fill(session, source, sample, "1")
        await copy(session, f"{source}:1", f"{destination}:1")
    home = login(tmp_path, sides.destination.address) if sides.way == "password" else tmp_path
    how: dict[str, Any] = {"ca": sides.destination.ca, "home": home}
    assert "PASS" in run(crane, "validate", "--remote", f"{destination}:1", **how)
    assert run(crane, "digest", f"{destination}:1", **how).strip() == str(sample.digest)


async def test_all_tags_of_many_repositories_in_one_run(sides: Sides) -> None:
    """A1: the base that all share is uploaded once; a second run finds everything equal."""
    base = 200_000
    pairs, digests = [], {}
    async with sides.session() as session:
        for repository in range(3):
            source, destination = sides.name("source"), sides.name("destination")
            pairs.append(Pair(source, (destination,)))
            for tag in ("v1", "v2"):
                sample = random_image("shared base", layers=(base, 1000 + repository))
                await fill(session, source, sample, tag)
                digests[f"{destination}:{tag}"] = str(sample.digest)
    for status in ("copied", "equal"):
        async with sides.session() as session:
            outcomes = await copy_all(session, pairs, all_tags=True)
            ended = {t.destination: t.status for outcome in outcomes for t in outcome.targets}
            assert set(ended) == set(digests)
            assert set(ended.values()) <= ({"copied", "tagged"} if status == "copied" else {"equal"})
            assert {f"{t.destination}": o.digest for o in outcomes for t in o.targets} == digests
            assert session.statistics().bytes_read < 2 * base


async def test_a_schema_1_image_is_carried_verbatim(sides: Sides) -> None:
    """J7."""
    skopeo = require("skopeo", package="skopeo")
    sample = random_image("old", docker=True)
    source, destination = sides.name("source"), sides.name("destination")
    async with sides.session() as session:
        await fill(session, source, sample, "new")
        run(
            skopeo,
            "copy",
            "--format=v2s1",
            *sides.skopeo("src", "dest"),
            f"docker://{source}:new",
            f"docker://{source}:old",
            ca=sides.source.ca,
        )
        outcome = await copy(session, f"{source}:old", f"{destination}:old")
        assert outcome.media_type in media.SCHEMA1
        there, here = session.remote(Repository.parse(destination)), session.remote(Repository.parse(source))
        # the registry signs anew whenever it is asked; the digest covers what is signed
        assert (await there.manifest("old")).digest == (await here.manifest("old")).digest


async def test_one_platform_gives_that_image_and_several_an_index(sides: Sides) -> None:
    """E1, E2, E3: the registry accepts it, since nothing it names is missing, and a second time nothing is written."""
    platforms = [Platform("linux", arch) for arch in ("amd64", "arm64", "s390x")]
    sample = random_index("platforms", platforms=platforms)
    source, destination = sides.name("source"), sides.name("destination")
    async with sides.session() as session:
        await fill(session, source, sample, "1")
        one = await copy(session, f"{source}:1", f"{destination}:one", platforms=[platforms[1]])
        assert one.digest == str(sample.manifest.children()[1].digest)
        two = await copy(session, f"{source}:1", f"{destination}:two", platforms=platforms[:2])
        again = await copy(session, f"{source}:1", f"{destination}:two", platforms=platforms[:2])
        assert two.digest == again.digest
        assert again.targets[0].status == "equal"
        there = await session.remote(Repository.parse(destination)).manifest("two")
        assert [child.platform for child in there.children()] == platforms[:2]


async def test_tag_and_digest_are_both_kept(sides: Sides) -> None:
    """G2."""
    first, second = random_image("first"), random_image("second")
    source, destination = sides.name("source"), sides.name("destination")
    async with sides.session() as session:
        await fill(session, source, first, "1")
        await fill(session, source, second, "1")
        wanted = f"{source}:1@{first.digest!s}"
        outcome = await copy(session, wanted, f"{destination}:1@{first.digest!s}")
        assert str(second.digest) in outcome.notes[0]
        assert (await session.remote(Repository.parse(destination)).resolve("1")).digest == first.digest


async def test_a_deleted_tag_is_gone(sides: Sides) -> None:
    sample = random_image("doomed")
    name = sides.name("destination")
    async with sides.session() as session:
        await fill(session, name, sample, "1")
        there = session.remote(Repository.parse(name), writing=True)
        await there.delete(str(sample.digest))
        with pytest.raises(NotFound):
            await there.resolve("1")


async def test_a_layer_of_many_chunks_arrives(sides: Sides) -> None:
    content = os.urandom(9 * 1024 * 1024 + 17)
    blob = Descriptor("application/octet-stream", Digest.of(content), len(content))
    name = sides.name("destination")
    async with sides.session() as session:
        there = session.remote(Repository.parse(name), writing=True)
        assert await there.put(blob, reader(content))
        assert not await there.put(blob, reader(content))
        async with there.open(blob, start=9_000_000) as chunks:
            assert b"".join([chunk async for chunk in chunks]) == content[9_000_000:]
