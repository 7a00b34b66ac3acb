"""Bytes are never changed: whatever a manifest looks like, it arrives as it was, with everything it names."""

from __future__ import annotations

import json
from typing import Any

from hypothesis import given, settings
from hypothesis import strategies as st

from asyncrane import Manifest, Pair
from asyncrane.oci import media
from asyncrane.oci.digest import Digest
from asyncrane.server.call import Call, Handler
from asyncrane.server.reply import Reply
from asyncrane.testing import FaultyRegistry, fault, no_referrers
from asyncrane.testing.images import Sample, random_image, random_index
from tests.cli.conftest import Program
from tests.promises.images import described, incomplete, one, put, run, tags
from tests.stores.samples import schema1

texts = st.text(st.characters(codec="utf-8", exclude_categories=("Cs", "Cc")), max_size=12)
contents = st.binary(min_size=1, max_size=200)
notes = st.dictionaries(texts, texts, max_size=3)


def spelled(draw: st.DrawFn, fields: dict[str, Any]) -> bytes:
    """``fields`` in one of the many ways JSON can be written."""
    keys = draw(st.permutations(list(fields)))
    spaced = draw(st.sampled_from([None, 1, 3, "\t"]))
    text = json.dumps({key: fields[key] for key in keys}, indent=spaced, ensure_ascii=draw(st.booleans()))
    return (text + draw(st.sampled_from(["", "\n", " \n"]))).encode()


@st.composite
def images(draw: st.DrawFn) -> Sample:
    """OCI and Docker images, and artifacts; fields nobody knows; the same layer twice; content in the descriptor."""
    kind = draw(st.sampled_from(["oci", "docker", "artifact"]))
    manifest = media.DOCKER_MANIFEST if kind == "docker" else media.OCI_MANIFEST
    layer_type = {"oci": media.OCI_LAYER_GZIP, "docker": media.DOCKER_LAYER_GZIP, "artifact": "text/x-anything"}[kind]
    config_type = {"oci": media.OCI_CONFIG, "docker": media.DOCKER_CONFIG, "artifact": "application/vnd.x"}[kind]
    config, layers = draw(contents), draw(st.lists(contents, max_size=3))
    twice, typed, annotated, odd = (draw(st.booleans()) for _ in range(4))
    if twice:
        layers += layers[:1]
    fields: dict[str, Any] = {
        "schemaVersion": 2,
        "config": described(config_type, config),
        "layers": [described(layer_type, layer, annotations=draw(notes)) for layer in layers],
    }
    if kind == "docker" or typed:
        fields["mediaType"] = manifest
    if kind == "artifact":
        fields |= {"artifactType": "application/vnd.x", "mediaType": manifest}
    if annotated:
        fields["annotations"] = draw(notes)
    if odd:
        fields["x-unknown"] = [1, 2.5, None, {"deep": draw(texts)}]
    body = spelled(draw, fields)
    blobs = {Digest.of(content): content for content in (config, *layers)}
    return Sample((Manifest.read(body, content_type=manifest),), blobs)


@st.composite
def indexes(draw: st.DrawFn, children: st.SearchStrategy[Sample]) -> Sample:
    """Indexes and Docker's lists of whatever there is."""
    below = draw(st.lists(children, min_size=1, max_size=3))
    docker = draw(st.booleans())
    entries = [described(child.manifest.media_type, child.manifest.body, annotations=draw(notes)) for child in below]
    kind = media.DOCKER_LIST if docker else media.OCI_INDEX
    body = spelled(draw, {"schemaVersion": 2, "mediaType": kind, "manifests": entries, "x-more": draw(texts)})
    manifests = {m.digest: m for child in below for m in child.manifests}
    blobs = {d: c for child in below for d, c in child.blobs.items()}
    return Sample((*manifests.values(), Manifest.read(body, content_type=kind)), blobs)


@settings(max_examples=40, deadline=None)
@given(samples=st.lists(st.one_of(images(), indexes(st.one_of(images(), indexes(images())))), min_size=1, max_size=4))
async def test_g1_every_manifest_arrives_byte_for_byte(samples: list[Sample]) -> None:
    """G1: with all below it, and the media type it came with."""
    async with FaultyRegistry() as source, FaultyRegistry() as destination:
        pairs = [
            Pair(put(source, f"r{n % 2}", sample, f"v{n}"), (f"{destination.address}/r{n % 2}:v{n}",))
            for n, sample in enumerate(samples)
        ]
        outcomes, _ = await run(pairs)
        assert [o.failure for o in outcomes if o.failure] == []
        assert incomplete(destination) == []
        for number, sample in enumerate(samples):
            assert destination.get_manifest(f"r{number % 2}", f"v{number}") == sample.manifest
            for manifest in sample.manifests:
                assert destination.get_manifest(f"r{number % 2}", str(manifest.digest)) == manifest
            for digest, content in sample.blobs.items():
                assert destination.get_blob(f"r{number % 2}", digest) == content


async def test_g1_schema_1_arrives_as_it_was(source: FaultyRegistry, destination: FaultyRegistry) -> None:
    """G1, J7: verbatim, its layers once each."""
    sample = schema1(signed=False)
    outcome, _ = await one(put(source, "app", sample, "v1"), f"{destination.address}/app:v1")
    assert outcome.failure is None
    copied = destination.get_manifest("app", "v1")
    assert copied is not None
    assert copied.body == sample.manifest.body
    assert len(source.requests(kind="blob-get")) == 2


async def test_g1_an_artifact_attached_to_an_image_stays_attached(
    source: FaultyRegistry, destination: FaultyRegistry
) -> None:
    """G1, F1: subject and referrers, also where there is no API for them."""
    image = random_image("subject")
    signature = b"a signature"
    fields = {
        "schemaVersion": 2,
        "mediaType": media.OCI_MANIFEST,
        "artifactType": "application/vnd.sig",
        "config": described(media.OCI_EMPTY, b"{}"),
        "layers": [described("application/vnd.sig", signature)],
        "subject": described(image.manifest.media_type, image.manifest.body),
    }
    blobs = {Digest.of(content): content for content in (b"{}", signature)}
    attached = Sample((Manifest.read(json.dumps(fields).encode()),), blobs)
    destination.faults.add(no_referrers(path="/v2/old/"))
    for repository in ("new", "old"):
        await one(put(source, "app", image, "v1"), f"{destination.address}/{repository}:v1")
        await one(put(source, "app", attached), f"{destination.address}/{repository}@{attached.digest}")
        assert destination.get_manifest(repository, str(attached.digest)) == attached.manifest
    assert destination.storage.index.referrers("new", image.digest) == [attached.digest]
    fallback = destination.get_manifest("old", str(image.digest).replace(":", "-"))
    assert fallback is not None
    assert [child.digest for child in fallback.children()] == [attached.digest]


async def test_g2_tag_and_digest_keep_both(
    source: FaultyRegistry, destination: FaultyRegistry, program: Program
) -> None:
    """G2: the digest decides what is copied, the tag is set, and a tag that moved is reported."""
    old, new = random_index("old"), random_index("new")
    put(source, "app", old, "v1")
    put(source, "app", new, "v1")
    ended = await program(
        "cp", f"{source.address}/app:v1@{old.digest}", f"{destination.address}/app:v1@{old.digest}", "--output", "json"
    )
    assert ended.code == 0, ended.err
    assert json.loads(ended.text)["digest"] == str(old.digest)
    assert str(new.digest) in json.loads(ended.text)["notes"][0]
    assert tags(destination) == {"app:v1": str(old.digest)}
    ended = await program("cp", f"{source.address}/app:v1", f"{destination.address}/app:v2@{old.digest}")
    assert ended.code == 5
    assert tags(destination) == {"app:v1": str(old.digest)}


async def test_g2_a_digest_alone_makes_no_tag(source: FaultyRegistry, destination: FaultyRegistry) -> None:
    """G2, G3."""
    sample = random_index("untagged")
    name = put(source, "app", sample)
    outcome, _ = await one(name, f"{destination.address}/app@{sample.digest}")
    assert outcome.failure is None
    assert tags(destination) == {}
    assert destination.get_manifest("app", str(sample.digest)) == sample.manifest
    kinds = [r.path.rpartition("/")[2].partition(":")[0] for r in destination.requests(kind="manifest-put")]
    assert kinds == ["sha256"] * 3


async def test_g5_an_immutable_registry_takes_an_unchanged_run_and_refuses_a_changed_tag(
    source: FaultyRegistry, destination: FaultyRegistry
) -> None:
    """G5: no PUT to a tag that is right; children are never put by tag; a changed one is an error, others go on."""
    samples = {f"v{n}": random_index(f"g5/{n}") for n in range(3)}
    for tag, sample in samples.items():
        put(source, "app", sample, tag)

    async def immutable(call: Call, handler: Handler) -> Reply:
        if not call.route.by_digest and destination.storage.index.tagged("app", call.route.identifier):
            return Reply(400, {}, b'{"errors":[{"code":"TAG_INVALID","message":"immutable"}]}')
        return await handler(call)

    destination.faults.add(fault("immutable", immutable, kind="manifest-put"))
    pairs = [Pair(f"{source.address}/app", (f"{destination.address}/app",))]
    for _ in range(2):
        outcomes, _ = await run(pairs, all_tags=True)
        assert [o.failure for o in outcomes if o.failure] == []
    assert len([r for r in destination.requests(kind="manifest-put") if not r.digest]) == 3
    put(source, "app", random_index("changed"), "v1")
    put(source, "app", random_index("added"), "v9")
    outcomes, _ = await run(pairs, all_tags=True)
    assert [o.source.rpartition(":")[2] for o in outcomes if o.failure] == ["v1"]
    assert set(tags(destination)) == {"app:v0", "app:v1", "app:v2", "app:v9"}
    assert tags(destination)["app:v1"] == str(samples["v1"].digest)
