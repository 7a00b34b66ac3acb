"""A layout as a bundle: what is attached to images, and many repositories, across a gap without a network."""

from __future__ import annotations

import json
from pathlib import Path

from asyncrane.oci import media
from asyncrane.oci.descriptor import Descriptor
from asyncrane.oci.digest import Digest
from asyncrane.oci.manifest import Manifest
from asyncrane.operations.copy import Pair, copy_all
from asyncrane.operations.layout import layout_gc
from asyncrane.session import Session
from asyncrane.stores.layout import open_layout
from asyncrane.stores.memory import MemoryStore
from asyncrane.testing import FaultyRegistry
from asyncrane.testing.images import Sample, random_image, random_index
from tests.cli.conftest import fill
from tests.promises.images import image, noise
from tests.stores.samples import artifact, blobs, move, stored


async def test_what_is_attached_travels_and_the_source_is_not_asked_again(tmp_path: Path) -> None:
    """J4, F1: signatures across the gap, also those attached to what an index lists, and to a signature."""
    sample = random_index("x")
    first = artifact(sample.manifest)
    others = [artifact(sample.manifests[0].__class__.read(m.body)) for m in (sample.manifests[0], first.manifest)]
    before, after = MemoryStoreWithReferrers("before"), MemoryStore("after")
    await sample.store(before, "v1")
    for attached in (first, *others):
        await attached.store(before)
    async with open_layout(tmp_path / "out", writing=True) as layout:
        assert [outcome.failure for outcome in await move(before, layout, "v1", referrers=True)] == [None]
    async with open_layout(tmp_path / "out") as layout:
        assert [d.digest for d in (await layout.attached(sample.digest))[0]] == [first.digest]
        outcomes = await move(layout, after, "v1", referrers=True)
    assert [(outcome.failure, outcome.targets[0].referrers) for outcome in outcomes] == [(None, 3)]
    for attached in (first, *others):
        assert await after.manifest(str(attached.digest)) == attached.manifest
    assert await layout_gc(tmp_path / "out") == []


async def test_attachments_by_a_tag_in_place_of_the_api_are_found(tmp_path: Path) -> None:
    """As other tools leave them in a layout (distribution-spec, "Referrers Tag Schema")."""
    sample, signature = random_image("x"), artifact(random_image("x").manifest)
    fields = {
        "schemaVersion": 2,
        "mediaType": media.OCI_INDEX,
        "manifests": [{"mediaType": media.OCI_MANIFEST, "digest": signature.digest, "size": signature.manifest.size}],
    }
    listing = Manifest.read(json.dumps(fields).encode())
    await stored(tmp_path / "out", sample, "v1")
    await stored(tmp_path / "out", signature)
    await stored(tmp_path / "out", Sample((listing,), {}), str(sample.digest).replace(":", "-"))
    async with open_layout(tmp_path / "out") as layout:
        assert [d.digest for d in (await layout.attached(sample.digest))[0]] == [signature.digest]
        assert await layout.attached(signature.digest) == ((), True)


async def test_j2_a_hundred_images_share_their_base_and_come_back_under_their_names(tmp_path: Path) -> None:
    """J2, J3: one layout as a bundle of repositories; the base is stored once, import gives every name and digest."""
    base = noise("base", 200_000)
    samples = {f"team/app{n % 10}:v{n // 10}": image(n, [base, noise(n, 100)]) for n in range(100)}
    bundle = f"oci:{tmp_path}/bundle"
    async with FaultyRegistry() as registry, FaultyRegistry() as other, Session() as session:
        for name, sample in samples.items():
            repository, _, tag = name.partition(":")
            fill(registry, repository, sample, tag)
        out = [Pair(f"{registry.address}/{name}", (f"{bundle}:{registry.address}/{name}",)) for name in samples]
        assert [outcome for outcome in await copy_all(session, out) if outcome.failure] == []
        asked = len(registry.requests())
        back = [Pair(f"{bundle}:{registry.address}/{name}", (f"{other.address}/{name}",)) for name in samples]
        assert [outcome for outcome in await copy_all(session, back) if outcome.failure] == []
        assert len(registry.requests()) == asked
        for name, sample in samples.items():
            repository, _, tag = name.partition(":")
            assert other.get_manifest(repository, tag) == sample.manifest
    assert len(blobs(tmp_path / "bundle")) == 1 + 3 * 100


class MemoryStoreWithReferrers(MemoryStore):
    """One that knows what is attached to what."""

    async def publish(self, manifest: Manifest, tag: str | None = None) -> None:
        await super().publish(manifest, tag)
        self._published = {**getattr(self, "_published", {}), manifest.digest: manifest}

    async def attached(self, subject: Digest, *, fallback: bool = True) -> tuple[tuple[Descriptor, ...], bool]:
        found = [m for m in self._published.values() if m.subject is not None and m.subject.digest == subject]
        return tuple(m.descriptor for m in found), True
