"""What a verification finds is mended, exactly, and believed only when a second look finds nothing (G4)."""

from __future__ import annotations

import shutil
from pathlib import Path

import pytest

from asyncrane import Session
from asyncrane.engine.job import Job, Target
from asyncrane.mirror.proof import Verdict, mirror_verify
from asyncrane.mirror.rename import Template
from asyncrane.mirror.running import Running
from asyncrane.mirror.spec import MirrorSpec, Rule, SourcePattern
from asyncrane.mirror.verify import Difference
from asyncrane.mirror.wishes import place_of
from asyncrane.oci.reference import Repository
from asyncrane.registry.referrers import fallback_tag
from asyncrane.server import Call, Handler, Reply
from asyncrane.testing import FaultyRegistry, fault, no_referrers, status
from asyncrane.testing.images import random_image, random_index
from tests.copies.registries import docker_registry
from tests.mirror.attachments import attach, cosign, tree
from tests.mirror.both import CHILD, INDEX, WRITES, Both
from tests.promises.images import image, incomplete, noise, put


@pytest.fixture
def both(source: FaultyRegistry, destination: FaultyRegistry) -> Both:
    return Both(source, destination)


def broken(both: Both) -> tuple[list[dict[str, str]], set[str], list[str]]:
    """One of each kind of damage at the destination: what is to be told about it, the blobs that have to be sent, and
    the names that manifests have to be written under. ``also`` is ``first`` under another tag.
    """
    moved, deleted, childless = (random_index(name, layers=(3000,)) for name in ("moved", "deleted", "childless"))
    for sample, tag in ((moved, "moved"), (deleted, "deleted"), (childless, "childless")):
        both.fill(sample, tag)
    both.fill(INDEX, "first", "also")
    sbom = attach(both.source, "app", CHILD, "sbom")
    attach(both.destination, "copy", CHILD, "sbom")
    signature = attach(both.source, "app", sbom.manifest, "signature of the sbom")
    signed = image("signed", [noise("signed", 100)])
    by_tag = cosign(both.source, "app", INDEX.digest, "sig", signed)
    storage = both.destination.storage
    blob, child = CHILD.layers()[0].digest, childless.manifests[1].digest
    storage.unlink("copy", blob)
    storage.put_tag("copy", "moved", INDEX.digest)
    storage.delete_tag("copy", "deleted")
    storage.delete_manifest("copy", child)

    def told(kind: str, image: str, expected: str, **more: str) -> dict[str, str]:
        names = f"{both.source.address}/app:{image}", f"{both.destination.address}/copy:{image}"
        return {"kind": kind, "source": names[0], "destination": names[1], "expected": expected, **more}

    differences = [
        told("missing-blob", "first", blob, within=CHILD.digest),
        told("missing-referrer", "first", signature.digest, within=sbom.digest),
        told("missing-referrer", "first", signed.digest, within=INDEX.digest, tag=by_tag),
        told("different", "moved", moved.digest, found=INDEX.digest),
        told("missing", "deleted", deleted.digest),
        told("missing-manifest", "childless", child, within=childless.digest),
    ]
    sent = {blob, *signature.blobs, *signed.blobs} - sbom.blobs.keys()
    written = [CHILD.digest, signature.digest, by_tag, "moved", "deleted", child]
    written += [manifest.digest for manifest in deleted.manifests[:-1]]  # below a new tag all is made sure of
    return differences, set(map(str, sent)), list(map(str, written))


async def test_g4_every_kind_of_damage_is_told_once_and_repaired_exactly(both: Both) -> None:
    """One blob, one tag moved, one deleted, one child manifest, one referrer, one of cosign's: JSON for each; a repair
    sends only the bytes that are missing, and is believed only when a second look finds nothing (G4).
    """
    differences, sent, written = broken(both)
    verdict = await both.verify(deep=True)
    assert (verdict.compared, verdict.found, verdict.left) == (5, 6, 6)
    told = [{key: text.replace(":also", ":first") for key, text in one.items()} for one in both.told]
    assert sorted(told, key=str) == sorted(differences, key=str)
    assert both.only_read()

    verdict = await both.verify(deep=True, repair=True)
    assert (verdict.found, verdict.repaired, verdict.left, verdict.failures) == (6, 6, 0, ())
    assert both.sent() == sent
    assert sorted(both.written()) == sorted(written)
    assert incomplete(both.destination) == []
    assert tree(both.destination, "copy", INDEX.digest) == tree(both.source, "app", INDEX.digest)

    assert await both.verify(deep=True) == Verdict(5, 0)
    assert both.told == []


async def test_g4_a_session_repairs_what_it_had_copied_itself(both: Both) -> None:
    """What the engine knows to be there may have been deleted since; it is not taken at its word (G4)."""
    put(both.source, "app", INDEX, "1")
    attach(both.source, "app", INDEX.manifest, "signature")
    place, target = (place_of(Repository(r.address, n)) for r, n in ((both.source, "app"), (both.destination, "copy")))
    async with Session() as session:
        running = Running(session, [Job(session.next_id(), place, (Target(target, "1"),), tag="1", referrers=True)])
        await running.run()
        assert await both.verify(session, deep=True) == Verdict(1, 0)
        storage = both.destination.storage
        for blob in CHILD.blobs():
            storage.unlink("copy", blob.digest)
        storage.delete_manifest("copy", INDEX.manifests[1].digest)
        storage.delete_manifest("copy", storage.index.referrers("copy", INDEX.digest)[0])
        verdict = await both.verify(session, deep=True, repair=True)
    assert (verdict.repaired, verdict.left) == (len(CHILD.blobs()) + 2, 0)
    assert both.sent() == {str(blob.digest) for blob in CHILD.blobs()}
    assert incomplete(both.destination) == []


async def test_g4_what_is_missing_below_what_was_missing_is_repaired_too(both: Both) -> None:
    """A child that is gone hides that its blobs and its signature are (G4)."""
    put(both.source, "app", INDEX, "1")
    attach(both.source, "app", CHILD, "signature")
    put(both.destination, "copy", INDEX, "1")
    both.destination.storage.delete_manifest("copy", CHILD.digest)
    both.destination.storage.unlink("copy", CHILD.layers()[0].digest)
    verdict = await both.verify(deep=True, repair=True)
    assert both.kinds() == {"missing-manifest": 1}
    assert verdict.left == 0
    assert tree(both.destination, "copy", INDEX.digest) == tree(both.source, "app", INDEX.digest)


async def test_g4_a_repair_that_did_not_work_is_not_counted(both: Both) -> None:
    """The registry says that it has stored the tag, and has not (G4)."""
    put(both.source, "app", INDEX, "1", "2")
    put(both.destination, "copy", INDEX, "2")

    async def lie(call: Call, handler: Handler) -> Reply:
        return Reply(201, {"Docker-Content-Digest": str(INDEX.digest)})

    both.destination.faults.add(fault("lie", lie, kind="manifest-put", path="/1$"))
    verdict = await both.verify(repair=True)
    assert (verdict.compared, verdict.found, verdict.repaired, verdict.left) == (2, 1, 0, 1)
    assert len(both.told) == 1


async def test_g4_what_a_repair_fails_with_is_told(both: Both) -> None:
    put(both.source, "app", INDEX, "1")
    both.destination.faults.add(status(403, kind="upload-post"), status(403, kind="mount"))
    verdict = await both.verify(repair=True)
    assert verdict.left == 1
    assert {failure.kind for failure in verdict.failures} == {"Denied"}


@pytest.mark.parametrize("overwrite", ["never", "if-missing"])
async def test_g5_a_repair_moves_no_tag_that_its_rule_leaves_alone(both: Both, overwrite: str) -> None:
    """It differs, and stays (G5); what is missing is copied."""
    put(both.source, "app", INDEX, "1", "2")
    theirs = random_image("theirs")
    put(both.destination, "copy", theirs, "1")
    verdict = await both.verify(spec=both.spec(overwrite=overwrite), repair=True)
    assert (verdict.found, verdict.repaired) == (2, 1)
    assert both.destination.storage.index.tagged("copy", "1") == theirs.digest
    assert both.destination.storage.index.tagged("copy", "2") == INDEX.digest


async def test_g5_what_is_broken_below_an_immutable_tag_is_repaired_without_writing_the_tag(both: Both) -> None:
    """A registry that refuses every PUT of a tag that exists (G5)."""
    both.fill(INDEX, "1")
    both.destination.storage.unlink("copy", CHILD.layers()[0].digest)
    both.destination.faults.add(status(409, kind="manifest-put", path="/1$"))
    verdict = await both.verify(deep=True, repair=True)
    assert (verdict.found, verdict.left) == (1, 0)
    assert both.written() == [str(CHILD.digest)]


async def test_g4_an_attachment_that_is_there_and_not_listed_is_listed_again(both: Both) -> None:
    """The fallback index lost an entry to a client that does not merge (G4, F4)."""
    both.destination.faults.add(no_referrers())
    both.fill(INDEX, "1")
    kept = [attach(both.source, "app", INDEX.manifest, f"signature {number}") for number in range(2)]
    attach(both.destination, "copy", INDEX.manifest, "signature 0", api=False)
    put(both.destination, "copy", kept[1])
    verdict = await both.verify(deep=True, repair=True)
    assert (verdict.found, verdict.left) == (1, 0)
    assert both.told[0]["detail"] == "it is there, and is not listed"
    index = both.destination.get_manifest("copy", fallback_tag(INDEX.digest))
    assert index is not None
    assert [child.digest for child in index.children()] == [sample.digest for sample in kept]


def lose(directory: Path, *patterns: str) -> None:
    """Take away what a registry's disk has under these names."""
    for pattern in patterns:
        for found in directory.rglob(pattern):
            shutil.rmtree(found)


async def test_g4_damage_in_a_registry_of_others_is_found_and_repaired(source: FaultyRegistry, tmp_path: Path) -> None:
    """CNCF distribution 2.8, which has no referrers API, with files taken away under it (G4, F1)."""
    put(source, "app", INDEX, "1")
    signature = attach(source, "app", CHILD, "signature")
    attach(source, "app", signature.manifest, "countersigned")
    cosign(source, "app", INDEX.digest, "sig", image("sig", [noise("sig", 100)]))
    layer = CHILD.layers()[0].digest
    with docker_registry(tmp_path / "registry") as real:
        told: list[Difference] = []
        to = (Template.parse(f"{real.address}/copy"),)
        spec = MirrorSpec(rules=(Rule(line=1, source=SourcePattern(source.address, "app"), to=to),))

        async def proven(*, repair: bool = False) -> Verdict:
            told.clear()
            async with Session() as session:
                return await mirror_verify(session, spec, deep=True, repair=repair, on_difference=told.append)

        assert (await proven(repair=True)).left == 0
        assert await proven() == Verdict(1, 0)
        lose(tmp_path, f"_layers/sha256/{layer.hex}", f"revisions/sha256/{signature.digest.hex}")
        assert (await proven()).left == 2
        assert {(one.kind, one.expected) for one in told} == {
            ("missing-blob", layer),
            ("missing-referrer", signature.digest),
        }
        assert (await proven(repair=True)).left == 0
        assert await proven() == Verdict(1, 0)


async def test_g4_only_the_destination_that_differs_is_repaired(both: Both) -> None:
    """One source, two destinations, one of them whole (G4)."""
    put(both.source, "app", INDEX, "1")
    put(both.destination, "copy", INDEX, "1")
    to = tuple(Template.parse(f"{both.destination.address}/{name}") for name in ("copy", "second"))
    verdict = await both.verify(spec=both.spec(to=to), repair=True)
    assert (verdict.compared, verdict.found, verdict.left) == (2, 1, 0)
    assert {r.repository for r in both.destination.log if r.method in WRITES} == {"second"}
