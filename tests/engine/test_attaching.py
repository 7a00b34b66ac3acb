"""What is attached to images goes along (promises F1-F5), decided without a network."""

from __future__ import annotations

import json

import pytest

from asyncrane.abc import Place
from asyncrane.engine.job import Job, Target
from asyncrane.engine.messages import (
    JobAdded,
    JobCancelled,
    ListReferrers,
    ReadManifest,
    SourceListed,
    TagsListed,
    WriteManifest,
)
from asyncrane.errors import Failure
from asyncrane.oci import media
from asyncrane.oci.manifest import Manifest
from asyncrane.oci.platform import Platform
from tests.engine.world import World, blob, image, index, place, statuses

A, B, C = place("a", "app"), place("b", "app"), place("c", "app")
AMD = Platform("linux", "amd64")


def signature(subject: Manifest, name: str = "signature") -> Manifest:
    fields = {
        "schemaVersion": 2,
        "mediaType": media.OCI_MANIFEST,
        "config": blob(f"config of {name}"),
        "layers": [blob(name)],
        "subject": {"mediaType": subject.media_type, "digest": str(subject.digest), "size": subject.size},
    }
    return Manifest.read(json.dumps(fields).encode(), content_type=media.OCI_MANIFEST)


def attach(world: World, where: Place, subject: Manifest, attached: Manifest) -> None:
    world.fill(where, f"hidden-{attached.digest.hex[:8]}", attached)
    world.referrers[where, subject.digest] = (*world.referrers.get((where, subject.digest), ()), attached.descriptor)


def job(number: int = 1, *sinks: Place, tag: str = "1") -> Job:
    targets = tuple(Target(sink, tag) for sink in sinks or (B,))
    return Job(id=number, source=A, targets=targets, tag=tag, referrers=True)


def written(world: World, where: Place) -> list[str]:
    return [str(c.manifest.digest) for c in world.commands if isinstance(c, WriteManifest) and c.place == where]


def test_f1_what_is_attached_to_an_image_and_to_the_attachment_is_there_before_the_tag() -> None:
    world = World()
    app = image("app", ["base"])
    sbom = signature(app, "sbom")
    countersigned = signature(sbom, "signature of the sbom")
    world.fill(A, "1", app)
    attach(world, A, app, sbom)
    attach(world, A, sbom, countersigned)
    world.feed(JobAdded(job()))
    world.run()
    assert statuses(world, job()) == ["copied"]
    assert set(written(world, B)) == {str(m.digest) for m in (app, sbom, countersigned)}
    assert written(world, B)[-1] == str(app.digest)
    assert all(world.complete(B, m.digest) for m in (app, sbom, countersigned))


def test_f1_what_is_attached_to_the_children_of_an_index_goes_along() -> None:
    world = World()
    child = image("child", ["base"])
    root = index([(child, AMD)])
    signed = signature(child)
    world.fill(A, "1", root, child)
    attach(world, A, child, signed)
    world.feed(JobAdded(job()))
    world.run()
    assert world.complete(B, signed.digest)
    assert world.tags[B]["1"] == root.digest


@pytest.mark.parametrize("suffix", ["sig", "att", "sbom"])
def test_f1_cosigns_tags_go_along_whether_the_tags_were_listed_or_not(suffix: str) -> None:
    for listed in (True, False):
        world = World()
        app = image("app", ["base"])
        tag = f"sha256-{app.digest.hex}.{suffix}"
        signed = image("signed", ["signature"])
        world.fill(A, "1", app)
        world.fill(A, tag, signed)
        if listed:
            world.feed(SourceListed(A, ("1", tag)))
        world.feed(JobAdded(job()))
        world.run()
        assert world.tags[B] == {"1": app.digest, tag: signed.digest}


def test_f1_an_unchanged_image_gets_what_was_attached_since() -> None:
    world = World()
    child = image("child", ["base"])
    root = index([(child, AMD)])
    signed = signature(child)
    world.fill(A, "1", root, child)
    world.fill(B, "1", root, child)
    attach(world, A, child, signed)
    world.feed(JobAdded(job()))
    world.run()
    assert statuses(world, job()) == ["equal"]
    assert world.complete(B, signed.digest)
    assert written(world, B) == [str(signed.digest)]


def test_f2_each_subject_is_asked_about_once_for_all_tags_and_destinations() -> None:
    world = World()
    app = image("app", ["base"])
    for tag in ("1", "2", "3"):
        world.fill(A, tag, app)
    for number in range(20):
        attach(world, A, app, signature(app, f"signature {number}"))
    world.feed(SourceListed(A, ("1", "2", "3")))
    for number, tag in enumerate(("1", "2", "3")):
        world.feed(JobAdded(job(number, B, C, tag=tag)))
    world.run()
    asked = [c.subject for c in world.commands if isinstance(c, ListReferrers)]
    assert len(asked) == len(set(asked)) == 21
    assert len(written(world, B)) == len(set(written(world, C))) + 2  # the other tags of the one image


def test_f3_no_clear_answer_about_attachments_fails_the_image_and_writes_no_tag() -> None:
    world = World()
    app = image("app", ["base"])
    world.fill(A, "1", app)
    world.feed(JobAdded(job()))
    while world.running:
        asking = isinstance(world.running[0], ListReferrers)
        world.step(0, Failure("RateLimited", "too many requests") if asking else None)
    assert statuses(world, job()) == ["failed"]
    assert "1" not in world.tags.get(B, {})


def test_f1_what_is_attached_to_cosigns_attachments_goes_along() -> None:
    world = World()
    app, sbom = image("app", ["base"]), image("sbom", ["packages"])
    signed = image("signed", ["signature"])
    note = signature(sbom, "note")
    tags = ("1", f"sha256-{app.digest.hex}.sbom", f"sha256-{sbom.digest.hex}.sig")
    for tag, manifest in zip(tags, (app, sbom, signed), strict=True):
        world.fill(A, tag, manifest)
    attach(world, A, sbom, note)
    world.feed(SourceListed(A, tags))
    world.feed(JobAdded(job()))
    world.run()
    assert world.tags[B] == dict(zip(tags, (app.digest, sbom.digest, signed.digest), strict=True))
    assert world.complete(B, note.digest)


def test_f1_what_two_sources_have_attached_to_one_image_comes_together_at_the_destination() -> None:
    world = World()
    app = image("app", ["base"])
    signed, described = signature(app), signature(app, "sbom")
    for where, attached in ((A, signed), (C, described)):
        world.fill(where, "1", app)
        attach(world, where, app, attached)
    for number, where in enumerate((A, C)):
        world.feed(JobAdded(Job(number, where, (Target(B, f"of-{where.site}"),), tag="1", referrers=True)))
    world.run()
    assert {str(m.digest) for m in (signed, described)} < set(written(world, B))


def test_f3_what_a_list_names_and_nobody_has_is_not_waited_for() -> None:
    """Indexes that clients keep outlive what they name."""
    world = World()
    app = image("app", ["base"])
    gone = signature(app)
    world.fill(A, "1", app)
    world.referrers[A, app.digest] = (gone.descriptor,)
    world.feed(JobAdded(job()))
    world.run()
    assert statuses(world, job()) == ["copied"]
    assert written(world, B) == [str(app.digest)]


def test_f3_what_is_attached_and_cannot_be_read_fails_the_image() -> None:
    world = World()
    app = image("app", ["base"])
    signed = signature(app)
    world.fill(A, "1", app)
    attach(world, A, app, signed)
    world.feed(JobAdded(job()))
    while world.running:
        command = world.running[0]
        unreadable = isinstance(command, ReadManifest) and command.identifier == signed.digest
        world.step(0, Failure("ServerFault", "broken") if unreadable else None)
    assert statuses(world, job()) == ["failed"]
    assert "1" not in world.tags.get(B, {})


@pytest.mark.parametrize("steps", range(16))
def test_a_job_that_is_cancelled_leaves_nothing_that_the_next_would_wait_for(steps: int) -> None:
    """However far its attachments have come: each command may be the one that is dropped."""
    world = World(jobs=1)
    app = image("app", ["base"])
    signed = signature(app)
    countersigned = signature(signed, "countersigned")
    world.fill(A, "1", app)
    attach(world, A, app, signed)
    attach(world, A, signed, countersigned)
    world.feed(JobAdded(job(1)))
    for _ in range(steps):
        if world.running:
            world.step()
    world.feed(JobCancelled(1))
    world.feed(JobAdded(job(2)))
    world.run()
    assert statuses(world, job(2)) in (["copied"], ["equal"], ["tagged"])
    assert world.tags[B]["1"] == app.digest
    assert all(world.complete(B, m.digest) for m in (signed, countersigned))


def test_f5_a_second_run_writes_nothing() -> None:
    world = World()
    app = image("app", ["base"])
    signed = signature(app)
    world.fill(A, "1", app)
    attach(world, A, app, signed)
    for number in (1, 2, 3):
        world.feed(JobAdded(job(number)))
        world.run()
    assert statuses(world, job(3)) == ["equal"]
    assert len(written(world, B)) == 2


def test_f5_what_the_list_says_wrongly_is_left_where_it_is() -> None:
    world = World()
    app, other = image("app", ["base"]), image("other", ["base"])
    stray = signature(other, "of something else")
    world.fill(A, "1", app)
    attach(world, A, app, stray)
    world.feed(JobAdded(job()))
    world.run()
    assert statuses(world, job()) == ["copied"]
    assert written(world, B) == [str(app.digest)]


def test_a_registry_whose_lists_go_in_circles_does_not_hang_anything() -> None:
    world = World()
    one, other = image("one", ["base"]), image("other", ["base"])
    world.fill(A, "1", one)
    world.fill(A, "2", other)
    world.referrers[A, one.digest] = (other.descriptor,)
    world.referrers[A, other.digest] = (one.descriptor,)
    for number, tag in ((1, "1"), (2, "2")):
        world.feed(JobAdded(job(number, tag=tag)))
    world.run()
    assert statuses(world, job(1)) == statuses(world, job(2)) == ["copied"]


def test_where_nothing_can_be_attached_nothing_is_asked_of_the_next_images() -> None:
    """A registry without the API whose tags are known takes no request for an image without attachments."""
    world = World()
    world.referrers_supported = False
    for number in range(40):
        world.fill(A, str(number), image(f"app {number}", ["base"]))
    world.feed(SourceListed(A, tuple(map(str, range(40)))))
    world.feed(TagsListed(B, None))
    for number in range(40):
        world.feed(JobAdded(job(number, tag=str(number))))
        world.run()
    assert len([c for c in world.commands if isinstance(c, ListReferrers)]) == 1
