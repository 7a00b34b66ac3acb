"""Validating: what is well-formed passes, every kind of damage is named, and each blob is read once."""

from __future__ import annotations

import gzip
import io
import json
import tarfile
from collections import Counter
from collections.abc import Callable
from pathlib import Path
from typing import Any

import anyio
import pytest
from backports import zstd

from asyncrane.errors import InvalidInput, InvalidPlatform, NotFound
from asyncrane.oci import media
from asyncrane.oci.digest import Digest
from asyncrane.oci.manifest import Manifest
from asyncrane.oci.platform import Platform
from asyncrane.operations.check import Verdict, validate
from asyncrane.operations.copy import copy
from asyncrane.server import Call, Handler, Reply
from asyncrane.session import Session
from asyncrane.stores.random import LINUX_ARM64
from asyncrane.testing import FaultyRegistry, Gate, delay, fault
from asyncrane.testing.images import Sample
from tests.images.samples import attested, image, index, reserialised, sample, with_config, with_fields
from tests.promises.images import put

PASSED = ""


def tar(*names: str) -> bytes:
    raw = io.BytesIO()
    with tarfile.open(fileobj=raw, mode="w") as made:
        for name in names:
            entry = tarfile.TarInfo(name)
            entry.size = 5
            made.addfile(entry, io.BytesIO(b"hello"))
    return raw.getvalue()


def made(
    raw: bytes | None = None,
    *,
    pack: Callable[[bytes], bytes] = gzip.compress,
    kind: str = media.OCI_LAYER_GZIP,
    diff_id: str = "",
    **said: Any,
) -> Sample:
    """An image of one layer, packed and described as wanted."""
    raw = tar("etc/passwd") if raw is None else raw
    layer = pack(raw)
    root = {"type": "layers", "diff_ids": [diff_id or str(Digest.of(raw))]}
    config = json.dumps({"os": "linux", "architecture": "amd64", "rootfs": root}).encode()
    described = {"mediaType": kind, "digest": str(Digest.of(layer)), "size": len(layer), **said}
    fields = {
        "schemaVersion": 2,
        "mediaType": media.OCI_MANIFEST,
        "config": {"mediaType": media.OCI_CONFIG, "digest": str(Digest.of(config)), "size": len(config)},
        "layers": [described],
    }
    blobs = {Digest.of(content): content for content in (config, layer)}
    return Sample((Manifest.read(json.dumps(fields).encode()),), blobs)


async def problem(registry: FaultyRegistry, of: Sample, *, without: Digest | None = None) -> str:
    """What is wrong with an image in a registry that takes anything."""
    put(registry, "app", of, "1")
    if without is not None:
        registry.storage.unlink("app", without)
    return (await judged(registry, "app:1"))[0].problem


async def judged(registry: FaultyRegistry, *names: str, **options: Any) -> list[Verdict]:
    async with Session(retries=0) as session:
        return await validate(session, remotes=[f"{registry.address}/{name}" for name in names], **options)


@pytest.mark.parametrize(
    "wanted",
    [
        sample(image("a", "b")),
        sample(index("a", docker=True)),
        made(pack=zstd.compress, kind=media.OCI_LAYER_ZSTD),
        made(pack=bytes, kind=media.OCI_LAYER),
        with_config(sample(image("a")), extra=[1, {"x": None}]),
    ],
    ids=["oci", "docker index", "zstd", "plain", "unknown config fields"],
)
@pytest.mark.parametrize("fast", [True, False])
async def test_what_is_well_formed_passes(source: FaultyRegistry, wanted: Sample, *, fast: bool) -> None:
    name = put(source, "app", wanted, "1")
    assert await judged(source, "app:1", fast=fast) == [Verdict(name, str(wanted.digest))]


async def test_each_blob_is_read_once_and_fast_reads_no_layer(source: FaultyRegistry) -> None:
    """However many images of an index have it; crane reads every layer twice."""
    wanted = sample(index("a", "b"))
    put(source, "app", wanted, "1")
    assert (await judged(source, "app:1"))[0].passed
    reads = Counter(request.digest for request in source.requests(kind="blob-get"))
    assert reads == dict.fromkeys(map(str, wanted.blobs), 1)
    source.log.clear()
    assert (await judged(source, "app:1", fast=True))[0].passed
    configs = {str(config.digest) for m in wanted.manifests if (config := m.config()) is not None}
    assert {request.digest for request in source.requests(kind="blob-get")} == configs
    layers = {str(layer.digest) for m in wanted.manifests for layer in m.layers()}
    assert {request.digest for request in source.requests(kind="blob-head")} == layers


async def test_many_blobs_are_read_at_once(source: FaultyRegistry) -> None:
    wanted = sample(image(*"abcdef"))
    put(source, "app", wanted, "1")
    gate = Gate()
    source.faults.add(*[delay(gate, kind="blob-get", path=str(layer.digest)) for layer in wanted.manifest.layers()])
    async with anyio.create_task_group() as tasks:
        tasks.start_soon(judged, source, "app:1")
        with anyio.fail_after(20):
            await gate.reached(6)
        gate.release()


@pytest.mark.parametrize(
    ("wanted", "says"),
    [
        (made(diff_id=str(Digest.of(b"x"))), "mismatched layer[0] diffid: ConfigFile.RootFS.DiffIDs[0]="),
        (made(kind=media.OCI_LAYER_ZSTD), f"Manifest.Layers[0].MediaType={media.OCI_LAYER_ZSTD}, the content is gzip"),
        (made(kind=media.OCI_LAYER), "the content is gzip"),
        (made(pack=bytes), "the content is not compressed"),
        (made(tar("a", "b", "a")), "layer[0]: duplicate file path: a"),
        (made(pack=lambda raw: gzip.compress(raw)[:-9]), "layer[0]: it ends in the middle of its gzip data"),
        (made(b"no tar" * 200), "layer[0]: it is not a tar, or a damaged one"),
        (with_config(made(), rootfs={"type": "layers"}), "len(ConfigFile.RootFS.DiffIDs)=0, len(layers)=1"),
        (with_config(made(), rootfs={"type": "x", "diff_ids": []}), 'invalid ConfigFile.RootFS.Type: "x" != "layers"'),
        (with_config(made(), rootfs=7), "'rootfs' is not a JSON object"),
    ],
    ids=["diff id", "zstd", "plain", "gzip", "duplicate", "truncated", "no tar", "count", "type", "rootfs"],
)
async def test_every_kind_of_damage_is_named(source: FaultyRegistry, wanted: Sample, says: str) -> None:
    found = await problem(source, wanted)
    assert says in found
    assert found.startswith(("validating layers: ", "validating config: "))


async def test_a_wrong_size_or_digest_is_named(source: FaultyRegistry) -> None:
    """Of a layer, of the config, of the manifest itself."""
    good = made()
    layer = good.manifest.layers()[0]
    put(source, "size", with_fields(good, layers=[{**good.manifest.fields()["layers"][0], "size": 5}]), "1")
    assert "size" in (await judged(source, "size:1"))[0].problem.lower()
    put(source, "digest", good, "1")
    other = gzip.compress(tar("other"))[: layer.size].ljust(layer.size, b"\0")

    async def lie(call: Call, handler: Handler) -> Reply:
        return Reply(200, {}, other)

    source.faults.add(fault("lie", lie, kind="blob-get", path=str(layer.digest)))
    found = (await judged(source, "digest:1"))[0].problem
    assert f"mismatched layer[0] digest: Manifest.Layers[0].Digest={layer.digest!s}" in found
    assert f"SHA256(Compressed())={Digest.of(other)!s}" in found


@pytest.mark.parametrize("fast", [True, False])
async def test_what_is_not_there_is_named(source: FaultyRegistry, *, fast: bool) -> None:
    wanted = sample(index("a", "b"))
    put(source, "app", wanted, "1")
    layer, child = wanted.manifests[0].layers()[0].digest, wanted.manifests[1]
    source.storage.unlink("app", layer)
    (verdict,) = await judged(source, "app:1", fast=fast)
    assert f"failed to validate image Manifests[0]({wanted.manifests[0].digest!s}): validating layers: layer[0]: " in (
        verdict.problem
    )
    source.storage.delete_manifest("app", child.digest)
    (verdict,) = await judged(source, "app:1", fast=fast)
    assert f"Manifests[1]({child.digest!s})" in verdict.problem


async def test_layers_that_stay_elsewhere_need_not_be_there(source: FaultyRegistry) -> None:
    wanted = made(kind=media.DOCKER_FOREIGN_LAYER, urls=["http://127.0.0.1:9/layer"])
    assert await problem(source, wanted, without=wanted.manifest.layers()[0].digest) == PASSED


async def test_what_an_index_says_of_its_images_is_compared_with_them(source: FaultyRegistry) -> None:
    good = sample(index("a"))
    entries = good.manifest.fields()["manifests"]
    entries[0]["platform"] |= {"architecture": "s390x", "variant": "v9"}
    entries[1] |= {"mediaType": media.DOCKER_MANIFEST, "size": entries[1]["size"] + 1}
    found = await problem(source, with_fields(good, manifests=entries))
    assert "image platform[0]" in found
    assert "mismatched Architecture: amd64 != s390x\nmismatched Variant:  != v9" in found
    assert f"mismatched mediaType: MediaType() = {media.OCI_MANIFEST} != {media.DOCKER_MANIFEST}" in found
    assert "mismatched manifest size" in found


async def test_artifacts_are_judged_by_what_they_are(source: FaultyRegistry) -> None:
    """A config that is no image's, and blobs that are no layers, are only checked for being there."""
    base = sample(image("a"))
    statement = b"{}"
    fields = base.manifest.fields()
    fields["config"] = {"mediaType": media.OCI_EMPTY, "digest": str(Digest.of(b"{}")), "size": 2}
    fields["layers"] = [{"mediaType": "text/plain", "digest": str(Digest.of(statement)), "size": 2}]
    artifact = Sample((reserialised(base.manifest, fields),), {Digest.of(statement): statement})
    assert await problem(source, artifact) == PASSED


async def test_attestations_are_judged_like_crane_does(source: FaultyRegistry) -> None:
    """An image's config without a root file system is none."""
    found = await problem(source, attested(sample(index("a"))))
    assert found.count('invalid ConfigFile.RootFS.Type: "" != "layers"') == 2


async def test_several_are_judged_in_one_run_and_told_in_order(source: FaultyRegistry, tmp_path: Path) -> None:
    """Archives and layouts with all their images; what cannot be read does not keep the others from being judged."""
    good, bad = sample(image("a")), made(tar("a", "a"))
    names = [put(source, "good", good, "1"), put(source, "bad", bad, "1")]
    told: list[str] = []
    async with Session() as session:
        for number, name in enumerate(names):
            await copy(session, name, f"oci:{tmp_path}/layout:{number}")
        await copy(session, names[0], f"docker-archive:{tmp_path}/one.tar:app:1")
        options: dict[str, Any] = {"layouts": [f"{tmp_path}/layout"], "tarballs": [f"{tmp_path}/one.tar"]}
        verdicts = await validate(
            session,
            remotes=[*names, f"oci:{tmp_path}/layout:0"],
            on_verdict=lambda verdict: told.append(verdict.name),
            **options,
        )
        with pytest.raises(NotFound):
            await validate(session, remotes=[f"{source.address}/none", names[0]], on_verdict=lambda v: told.append("x"))
    layout = f"{tmp_path}/layout"
    assert told == [f"{tmp_path}/one.tar", *names, f"oci:{layout}:0", f"{layout}:0", f"{layout}:1", "x"]
    assert [verdict.passed for verdict in verdicts] == [True, True, False, True, True, False]


async def test_a_platform_chooses_what_is_judged(source: FaultyRegistry) -> None:
    wanted = sample(index("a"))
    put(source, "app", wanted, "1")
    (verdict,) = await judged(source, "app:1", platform=LINUX_ARM64)
    assert verdict.digest == wanted.manifests[1].digest
    assert not {r.digest for r in source.requests()} & {str(layer.digest) for layer in wanted.manifests[0].layers()}
    with pytest.raises(InvalidPlatform):
        await judged(source, "app:1", platform=Platform("plan9", "mips"))


async def test_nothing_to_validate_is_no_success(source: FaultyRegistry) -> None:
    """Trap: crane says nothing, and exits with 0."""
    with pytest.raises(InvalidInput, match="nothing to validate"):
        await judged(source)
