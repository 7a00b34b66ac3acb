"""A mirror is proven to be what its file says, to the last blob; what is not is told once (G4)."""

from __future__ import annotations

import json
from collections import Counter

import anyio
import pytest

from asyncrane import Credential, FixedKeychain, RegistryOptions, Session
from asyncrane.mirror.proof import Verdict
from asyncrane.mirror.rename import Template
from asyncrane.mirror.spec import MirrorSpec, Prune, Rule, SourcePattern
from asyncrane.oci import media
from asyncrane.oci.digest import Digest
from asyncrane.oci.manifest import Manifest
from asyncrane.oci.platform import Platform
from asyncrane.oci.reference import Reference, Repository
from asyncrane.server import Call, Handler, PlainUsers, Reply, TokenAuth
from asyncrane.stores.random import LINUX_AMD64, LINUX_ARM64
from asyncrane.testing import FaultyRegistry, Gate, corrupt, delay, fault, status
from asyncrane.testing.images import Sample, random_image, random_index
from tests.cli.conftest import Program
from tests.mirror.attachments import attach, cosign
from tests.mirror.both import CHILD, INDEX, Both
from tests.mirror.runs import Mirror
from tests.promises.images import described, image, noise, put


@pytest.fixture
def both(source: FaultyRegistry, destination: FaultyRegistry) -> Both:
    return Both(source, destination)


async def test_g4_a_shallow_verification_of_n_tags_is_two_heads_each_and_no_get(both: Both) -> None:
    """The source's tags are listed besides, as for every rule (G4, B3)."""
    both.fill(INDEX, *(f"v{number}" for number in range(60)))
    verdict = await both.verify()
    assert verdict == Verdict(60, 0)
    assert both.source.log.counts() == {"tags": 1, "ping": 1, "manifest-head": 60}
    assert both.destination.log.counts() == {"ping": 1, "manifest-head": 60}


async def test_g4_a_deep_verification_asks_for_everything_once(both: Both) -> None:
    """Manifests are read from the destination, blobs asked for there, whatever the number of tags (G4)."""
    both.fill(INDEX, "1", "2", "3")
    other = image("shares a layer", [INDEX.blobs[INDEX.manifests[0].layers()[0].digest], noise("own", 500)])
    both.fill(other, "other")
    for registry, repository in ((both.source, "app"), (both.destination, "copy")):
        signature = attach(registry, repository, CHILD, "signature")
        attach(registry, repository, signature.manifest, "countersigned")
        cosign(registry, repository, INDEX.digest, "sig", image("sig", [noise("sig", 100)]))
    assert await both.verify(deep=True) == Verdict(4, 0)
    heads = Counter(request.digest for request in both.destination.requests(kind="blob-head"))
    assert set(heads.values()) == {1}
    assert set(heads) > {*INDEX.blobs, *other.blobs}
    assert len(heads) == len({*INDEX.blobs, *other.blobs}) + 3 + 2
    gets = Counter(request.path for request in both.destination.requests(kind="manifest-get"))
    assert (len(gets), set(gets.values())) == (3 + 1 + 2 + 1, {1})
    assert both.source.requests(kind="manifest-get") == both.source.requests(kind="blob-head") == []
    assert set(Counter(r.path for r in both.source.requests(kind="referrers")).values()) == {1}


@pytest.mark.parametrize(("code", "kind"), [(500, "manifest-head"), (403, "manifest-head"), (500, "blob-head")])
async def test_g4_a_destination_that_errs_is_unreadable_and_never_equal(both: Both, code: int, kind: str) -> None:
    both.fill(image("one blob", []), "1")
    both.destination.faults.add(status(code, kind=kind))
    verdict = await both.verify(deep=True)
    assert (verdict.compared, verdict.left, both.kinds()) == (1, 1, {"unreadable": 1})
    assert str(code) in both.told[0]["detail"]


async def test_g4_attachments_that_cannot_be_listed_are_unreadable(both: Both) -> None:
    """On either side (G4, F3)."""
    both.fill(INDEX, "1")
    for registry, repository in ((both.source, "app"), (both.destination, "copy")):
        attach(registry, repository, INDEX.manifest, "signature")
    both.source.faults.add(status(503, kind="referrers", path=f"/{CHILD.digest}$"))
    both.destination.faults.add(status(503, kind="referrers", path=f"/{INDEX.digest}$"))
    verdict = await both.verify(deep=True)
    assert (verdict.left, both.kinds()) == (2, {"unreadable": 2})


async def test_g4_a_manifest_whose_bytes_do_not_hash_is_corrupt(both: Both) -> None:
    both.fill(INDEX, "1")
    both.destination.faults.add(corrupt(kind="manifest-get", path=f"/{CHILD.digest}$"))
    await both.verify(deep=True)
    assert both.kinds() == {"corrupt": 1}
    assert (both.told[0]["expected"], both.told[0]["within"]) == (CHILD.digest, INDEX.digest)


async def test_g4_a_blob_of_another_size_is_corrupt(both: Both) -> None:
    """A file that was cut off by a full disk is still there (G4)."""
    both.fill(INDEX, "1")
    layer = CHILD.layers()[0]

    async def short(call: Call, handler: Handler) -> Reply:
        return Reply(200, {"Content-Length": str(layer.size - 1)})

    both.destination.faults.add(fault("short", short, kind="blob-head", path=f"/{layer.digest}$"))
    await both.verify(deep=True)
    assert both.kinds() == {"corrupt-blob": 1}
    assert both.told[0]["expected"] == layer.digest


async def test_g4_with_platforms_the_index_that_a_copy_makes_is_what_is_expected(both: Both) -> None:
    """One GET at the source tells it; a whole copy is another digest, and what is made anew is stripped again (E3)."""
    wanted = (LINUX_AMD64, LINUX_ARM64)
    sample = random_index("three", layers=(500,), platforms=(*wanted, Platform("linux", "s390x")))
    put(both.source, "app", sample, "1", "2")
    put(both.destination, "copy", sample, "1")
    spec = both.spec(platforms=wanted)
    verdict = await both.verify(spec=spec, repair=True, deep=True)
    assert (verdict.found, verdict.left, both.kinds()) == (2, 0, {"different": 1, "missing": 1})
    assert await both.verify(spec=spec) == Verdict(2, 0)
    assert both.source.log.counts() == {"tags": 1, "ping": 1, "manifest-get": 2}
    assert both.destination.log.counts() == {"ping": 1, "manifest-head": 2}
    tagged = both.destination.get_manifest("copy", "1")
    assert tagged is not None
    assert [child.platform for child in tagged.children()] == list(wanted)


async def test_g4_with_one_platform_the_image_is_what_is_expected(both: Both) -> None:
    """Of an index its image, of an image itself; another one's image is no answer."""
    single = random_image("single", layers=(500,), platform=LINUX_ARM64)
    put(both.source, "app", INDEX, "index")
    put(both.source, "app", single, "image")
    other = random_image("other", layers=(500,))
    put(both.source, "app", other, "other")
    spec = both.spec(platforms=(LINUX_ARM64,))
    verdict = await both.verify(spec=spec, repair=True)
    assert (verdict.compared, verdict.found, verdict.repaired) == (3, 3, 2)
    assert both.kinds() == {"missing": 2, "unreadable": 1}
    tagged = both.destination.storage.index.tagged
    assert tagged("copy", "index") == INDEX.manifests[1].digest
    assert (tagged("copy", "image"), tagged("copy", "other")) == (single.digest, None)


async def test_g4_layers_that_are_not_distributed_are_not_missed(both: Both) -> None:
    """Unless the rule says that they go along (J6)."""
    content, config = noise("foreign", 500), b"{}"
    fields = {
        "schemaVersion": 2,
        "mediaType": media.OCI_MANIFEST,
        "config": described(media.OCI_CONFIG, config),
        "layers": [described(media.DOCKER_FOREIGN_LAYER, content, urls=["http://example.invalid/layer"])],
    }
    windows = Sample((Manifest.read(json.dumps(fields).encode()),), {Digest.of(b): b for b in (content, config)})
    both.fill(windows, "1")
    both.destination.storage.unlink("copy", Digest.of(content))
    assert (await both.verify(deep=True)).left == 0
    spec = both.spec(nondistributable=True)
    assert (await both.verify(spec=spec, deep=True, repair=True)).repaired == 1
    assert both.sent() == {Digest.of(content)}


async def test_g4_without_referrers_nothing_attached_is_looked_for(both: Both) -> None:
    both.fill(INDEX, "1")
    attach(both.source, "app", INDEX.manifest, "signature")
    assert (await both.verify(spec=both.spec(referrers=False), deep=True)).left == 0
    assert both.source.requests(kind="referrers") == []


async def test_g4_an_image_by_digest_is_looked_for_by_digest(both: Both) -> None:
    """Without asking the source for what the file says already."""
    put(both.source, "app", INDEX)
    image = Reference(Repository(both.source.address, "app"), None, INDEX.digest)
    to = tuple(Template.parse(f"{both.destination.address}/{name}") for name in ("copy@{digest}", "tagged:1"))
    spec = both.spec(source=None, image=image, to=to)
    verdict = await both.verify(spec=spec, repair=True)
    assert (verdict.compared, verdict.found, verdict.left) == (2, 2, 0)
    assert await both.verify(spec=spec) == Verdict(2, 0)
    assert list(both.source.log) == []
    assert both.destination.log.counts() == {"ping": 1, "manifest-head": 2}


async def test_g4_a_source_that_cannot_be_read_is_told_and_the_rest_is_verified(both: Both) -> None:
    both.fill(INDEX, "1")
    spec = MirrorSpec(
        rules=(
            *both.spec().rules,
            Rule(2, SourcePattern(both.source.address, "gone"), to=(Template.parse(f"{both.destination.address}/x"),)),
        )
    )
    verdict = await both.verify(spec=spec)
    assert (verdict.compared, verdict.left, both.kinds()) == (1, 1, {"unreadable": 1})
    assert both.told[0]["source"] == f"{both.source.address}/gone"


@pytest.mark.parametrize("jobs", [1, 3])
@pytest.mark.parametrize("limited", ["session", "source", "destination"])
async def test_a5_a_verification_asks_no_more_at_once_than_it_may(both: Both, limited: str, jobs: int) -> None:
    """What the command line says, or the file of a registry (A5)."""
    for number in range(4):
        both.fill(random_index(f"jobs {number}", layers=(100,)), str(number))
    to = tuple(Template.parse(f"{both.destination.address}/{name}") for name in ("copy", "second", "third"))
    gate = Gate()
    both.destination.faults.add(delay(gate, kind="manifest-head"))

    async def release() -> None:
        await gate.reached(jobs)
        gate.release()

    hosts = {"source": both.source.address, "destination": both.destination.address}
    registries = {hosts[limited]: RegistryOptions(requests=jobs)} if limited in hosts else {}
    session = Session(jobs=12 if registries else jobs, registries=registries)
    async with session, anyio.create_task_group() as tasks:
        tasks.start_soon(release)
        await both.verify(session, spec=both.spec(to=to), deep=True)
    assert both.destination.log.peak() == jobs
    assert both.source.log.peak() <= jobs


async def test_g4_the_command_prints_json_lines_and_its_exit_code_says_whether_any_is_left(
    both: Both, mirror: Mirror, program: Program
) -> None:
    """1 with differences, 0 once they are repaired (G4)."""
    both.fill(INDEX, "1")
    layer = CHILD.layers()[0].digest
    both.destination.storage.unlink("copy", layer)
    spec = str(mirror.write("mirrors:\n  - {from: A/app, to: B/copy}\n"))
    ended = await program("mirror", "verify", spec)
    assert (ended.code, ended.out) == (0, b""), ended.err
    ended = await program("mirror", "verify", spec, "--deep")
    assert ended.code == 1, ended.err
    (line,) = ended.out.splitlines()
    told = json.loads(line)
    assert (told["kind"], told["expected"]) == ("missing-blob", layer)
    ended = await program("mirror", "verify", spec, "--deep", "--repair")
    assert ended.code == 0, ended.err
    assert "1 image compared, 1 difference, 1 repaired" in ended.err
    names = f"{both.source.address}/app", f"{both.destination.address}/copy"
    assert (await program("diff", "--deep", *names)).code == 0
    both.destination.storage.delete_tag("copy", "1")
    ended = await program("diff", *names)
    assert (ended.code, json.loads(ended.out)["kind"]) == (1, "missing")


async def test_a_verification_asks_for_no_right_to_write(source: FaultyRegistry) -> None:
    """Who may only read can prove that a mirror is complete."""
    users = PlainUsers({"auditor": "secret"})
    async with FaultyRegistry(auth=TokenAuth(users, grant=lambda user, scope: {"pull"})) as destination:
        both = Both(source, destination)
        both.fill(INDEX, "1")
        for registry, repository in ((source, "app"), (destination, "copy")):
            attach(registry, repository, INDEX.manifest, "signature")
        async with Session(keychain=FixedKeychain(Credential("auditor", "secret"))) as session:
            assert await both.verify(session, deep=True) == Verdict(1, 0)
        asked = destination.requests(kind="token")
        assert asked
        assert not [request for request in asked if "push" in request.query]


async def test_tags_nobody_wants_are_differences_where_the_rule_prunes(both: Both) -> None:
    both.fill(INDEX, "1")
    put(both.destination, "copy", random_image("old"), "old")
    assert (await both.verify()).found == 0
    verdict = await both.verify(spec=both.spec(prune=Prune(enabled=True, most=10)), repair=True)
    assert (verdict.found, verdict.left, both.kinds()) == (1, 1, {"extra": 1})
    assert both.told[0]["destination"] == f"{both.destination.address}/copy:old"
    assert both.only_read()
