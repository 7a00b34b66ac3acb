"""What the scheduler decides, without a loop, a clock or a network."""

from __future__ import annotations

from collections.abc import Sequence

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from asyncrane.engine import reading
from asyncrane.engine.job import Job, Target
from asyncrane.engine.messages import (
    CopyBlob,
    Event,
    JobAdded,
    JobCancelled,
    MountBlob,
    Probe,
    ReadManifest,
    Resolve,
    TagsListed,
    WriteManifest,
)
from asyncrane.errors import Failure
from asyncrane.oci.manifest import Manifest
from asyncrane.oci.platform import Platform
from tests.engine.world import World, image, index, place, statuses

AMD, ARM = Platform("linux", "amd64"), Platform("linux", "arm64")
SOURCE = place("a", "app")
TARGET = place("b", "app")


def job(number: int = 1, *, tag: str = "1", targets: Sequence[Target] = (Target(TARGET, "1"),), **more: object) -> Job:
    return Job(number, SOURCE, tuple(targets), tag=tag, **more)  # type: ignore[arg-type]  # forwards keywords


def kinds(world: World) -> list[str]:
    return [type(command).__name__ for command in world.commands]


def test_an_unchanged_tag_costs_one_question_on_each_side() -> None:
    """A2, B3: no manifest is read."""
    world = World()
    root = image("x", ["l1"])
    world.fill(SOURCE, "1", root)
    world.fill(TARGET, "1", root)
    world.feed(JobAdded(job()))
    world.run()
    assert sorted(kinds(world)) == ["Finish", "Probe", "Resolve"]
    assert statuses(world, job()) == ["equal"]


def test_a_tag_that_a_listing_lacks_is_not_asked_for() -> None:
    world = World()
    world.fill(SOURCE, "1", image("x", ["l1"]))
    world.feed(TagsListed(TARGET, ("2", "3")))
    world.feed(JobAdded(job()))
    world.run()
    assert not [c for c in world.commands if isinstance(c, Probe | Resolve)]
    assert statuses(world, job()) == ["copied"]


def test_an_incomplete_listing_proves_nothing() -> None:
    world = World()
    world.fill(SOURCE, "1", image("x", ["l1"]))
    world.feed(TagsListed(TARGET, ("2",), complete=False))
    world.feed(JobAdded(job()))
    assert [c for c in world.commands if isinstance(c, Probe)]


def test_a_new_tag_in_the_same_repository_is_one_write() -> None:
    world = World()
    root = index([(image("x", ["l1"]), AMD), (image("y", ["l2"]), ARM)])
    world.fill(SOURCE, "1", root, image("x", ["l1"]), image("y", ["l2"]))
    world.feed(JobAdded(job(targets=[Target(SOURCE, "2")])))
    world.run()
    assert [type(c).__name__ for c in world.commands if isinstance(c, WriteManifest | CopyBlob | MountBlob)] == [
        "WriteManifest"
    ]


def test_of_manifests_the_one_nobody_asks_for_is_forgotten(monkeypatch: pytest.MonkeyPatch) -> None:
    """B3: there is room for two; the one that every second job wants stays."""
    world = World()
    images = {name: image(name, ["l1"]) for name in "abcd"}
    monkeypatch.setattr(reading, "_KEPT", 2 * (images["a"].size + 400))
    for name, found in images.items():
        world.fill(SOURCE, name, found)
    for number, name in enumerate("abacadab"):
        world.feed(JobAdded(job(number, tag=name, targets=[Target(place(f"b{number}", "app"), "1")])))
        world.run()
    assert {name: world.read[found.digest] for name, found in images.items()} == {"a": 1, "b": 2, "c": 1, "d": 1}


def test_children_are_written_once_for_many_indexes() -> None:
    world = World()
    amd, arm = image("x", ["l1"]), image("y", ["l2"])
    root = index([(amd, AMD), (arm, ARM)])
    for tag in ("1", "2", "3"):
        world.fill(SOURCE, tag, root, amd, arm)
        world.feed(JobAdded(job(int(tag), tag=tag, targets=[Target(TARGET, tag)])))
    world.run()
    writes = [c for c in world.commands if isinstance(c, WriteManifest)]
    assert sorted(str(w.tag) for w in writes) == ["1", "2", "3", "None", "None"]
    assert max(world.read.values()) == 1
    assert sorted(statuses(world, job(n))[0] for n in (1, 2, 3)) == ["copied", "tagged", "tagged"]


def test_one_platform_gives_that_image() -> None:
    """E1."""
    world = World()
    amd, arm = image("x", ["l1"]), image("y", ["l2"])
    world.fill(SOURCE, "1", index([(amd, AMD), (arm, ARM)]), amd, arm)
    world.feed(JobAdded(job(platforms=(ARM,))))
    world.run()
    assert world.tags[TARGET]["1"] == arm.digest
    assert amd.digest not in world.read


def test_a_platform_that_is_not_there_names_those_that_are() -> None:
    """E1."""
    world = World()
    amd = image("x", ["l1"])
    world.fill(SOURCE, "1", index([(amd, AMD)]), amd)
    world.feed(JobAdded(job(platforms=(Platform("linux", "riscv64"),))))
    world.run()
    failure = world.outcomes[1].failure
    assert failure is not None
    assert failure.kind == "InvalidPlatform"
    assert "linux/riscv64" in failure.message
    assert "linux/amd64" in failure.message


def test_a_second_filtered_run_writes_nothing() -> None:
    """E3."""
    world = World()
    amd, arm, other = image("x", ["l1"]), image("y", ["l2"]), image("z", ["l3"])
    world.fill(SOURCE, "1", index([(amd, AMD), (arm, ARM), (other, Platform("linux", "s390x"))]), amd, arm, other)
    for number in (1, 2):
        before = len(world.commands)
        world.feed(JobAdded(job(number, platforms=(AMD, ARM))))
        world.run()
    assert not [c for c in world.commands[before:] if isinstance(c, WriteManifest | CopyBlob | MountBlob)]
    assert statuses(world, job(2)) == ["equal"]


@pytest.mark.parametrize("actual", [AMD, None])
def test_a_single_image_is_checked_against_its_config(actual: Platform | None) -> None:
    """E1."""
    world = World()
    world.platform = actual
    world.fill(SOURCE, "1", image("x", ["l1"]))
    world.feed(JobAdded(job(1, platforms=(AMD,))))
    world.feed(JobAdded(job(2, platforms=(ARM,), targets=[Target(TARGET, "2")])))
    world.run()
    assert statuses(world, job(1)) == (["copied"] if actual else ["failed"])
    assert statuses(world, job(2)) == ["failed"]


def test_no_clobber_leaves_a_tag_that_is_there() -> None:
    world = World()
    world.fill(SOURCE, "1", image("x", ["l1"]))
    world.fill(TARGET, "1", image("old", ["l0"]))
    world.feed(JobAdded(job(overwrite="if-missing")))
    world.run()
    assert statuses(world, job()) == ["skipped"]
    assert not [c for c in world.commands if isinstance(c, WriteManifest | CopyBlob | ReadManifest)]


def test_a_destination_that_names_another_digest_fails() -> None:
    """G2."""
    world = World()
    root, other = image("x", ["l1"]), image("z", [])
    world.fill(SOURCE, "1", root)
    world.feed(JobAdded(job(1, targets=[Target(TARGET, "1", root.digest)])))
    world.feed(JobAdded(job(2, targets=[Target(TARGET, "2", other.digest)])))
    world.run()
    assert statuses(world, job(1)) == ["copied"]
    assert statuses(world, job(2)) == ["failed"]
    assert "2" not in world.tags[TARGET]


def test_a_source_tag_that_names_another_digest_is_noted() -> None:
    """G2: the digest decides what is copied."""
    world = World()
    old, new = image("old", ["l1"]), image("new", ["l2"])
    world.fill(SOURCE, "1", old)
    world.fill(SOURCE, "1", new)
    world.feed(JobAdded(job(digest=old.digest)))
    world.run()
    assert world.tags[TARGET]["1"] == old.digest
    assert str(new.digest) in world.outcomes[1].notes[0]


def test_a_broken_blob_fails_its_images_and_no_others() -> None:
    """I1: the failed one is never tagged; a job that comes later fails at once, as long as others go on."""
    world = World()
    bad, good = image("bad", ["base", "rotten"]), image("good", ["base"])
    world.broken.add(bad.layers()[1].digest)
    world.fill(SOURCE, "bad", bad)
    world.fill(SOURCE, "good", good)
    world.feed(JobAdded(job(1, tag="bad", targets=[Target(TARGET, "bad")])))
    world.feed(JobAdded(job(2, tag="good", targets=[Target(TARGET, "good")])))
    world.run()
    assert statuses(world, job(1)) == ["failed"]
    assert statuses(world, job(2)) == ["copied"]
    assert "bad" not in world.tags[TARGET]
    before = len([c for c in world.commands if isinstance(c, CopyBlob)])
    world.feed(JobAdded(job(3, tag="bad", targets=[Target(TARGET, "worse")])))
    world.feed(JobAdded(job(4, tag="bad", targets=[Target(TARGET, "worst")])))
    world.run()
    assert statuses(world, job(3)) == statuses(world, job(4)) == ["failed"]
    assert len([c for c in world.commands if isinstance(c, CopyBlob)]) == before + 1


def test_what_failed_is_forgotten_when_all_jobs_have_ended() -> None:
    """A session outlives a bad day of a registry."""
    world = World()
    root = index([(image("x", ["rotten"]), None), (image("y", ["fine"]), None)])
    world.fill(SOURCE, "1", root, image("x", ["rotten"]), image("y", ["fine"]))
    world.broken.add(image("x", ["rotten"]).layers()[0].digest)
    world.feed(JobAdded(job(1)))
    world.run()
    assert statuses(world, job(1)) == ["failed"]
    world.broken.clear()
    world.feed(JobAdded(job(2)))
    world.run()
    assert statuses(world, job(2)) == ["copied"]
    assert world.complete(TARGET, root.digest)
    done = world.scheduler.statistics()
    assert done.blobs_total == done.blobs_done


def test_a_repository_that_may_not_be_written_fails_alone() -> None:
    """I1: the others waited for its upload, and one of them does it instead."""
    world = World()
    world.fill(SOURCE, "1", image("x", ["l1"]))
    places = [place("b", f"copy{n}") for n in range(4)]
    world.denied.add(places[0])
    world.feed(JobAdded(job(targets=[Target(where, "1") for where in places])))
    world.run()
    assert statuses(world, job()) == ["failed", "copied", "copied", "copied"]
    assert set(world.sent.values()) == {1}


def test_a_changed_index_keeps_the_children_that_are_there() -> None:
    world = World()
    same, old, new = image("same", ["l1"]), image("old", ["l2"]), image("new", ["l3"])
    world.fill(SOURCE, "1", index([(same, AMD), (new, ARM)]), same, new)
    world.fill(TARGET, "1", index([(same, AMD), (old, ARM)]), same, old)
    world.feed(JobAdded(job()))
    world.run()
    assert statuses(world, job()) == ["copied"]
    assert same.digest not in world.read


def test_a_lone_job_never_exceeds_its_jobs() -> None:
    world = World(jobs=3)
    world.fill(SOURCE, "1", image("x", [f"l{n}" for n in range(50)]))
    world.feed(JobAdded(job()))
    while world.running:
        assert len(world.running) <= 3
        world.step()
    assert statuses(world, job()) == ["copied"]


@st.composite
def fleets(draw: st.DrawFn) -> list[tuple[int, str, Manifest, tuple[Manifest, ...]]]:
    """Images and (nested) indexes that share layers and children, spread over three source repositories."""
    layers = st.lists(st.sampled_from([f"layer{n}" for n in range(6)]), max_size=4, unique=True)
    images = [image(f"i{n}", draw(layers)) for n in range(draw(st.integers(1, 5)))]
    found = []
    for number in range(draw(st.integers(1, 8))):
        chosen = draw(st.lists(st.sampled_from(images), min_size=1, max_size=3, unique=True))
        below: tuple[Manifest, ...] = tuple(chosen)
        root = chosen[0]
        if len(chosen) > 1:
            root = index([(child, None) for child in chosen])
            if draw(st.booleans()):
                below = (*below, root)
                root = index([(root, None), (images[0], None)])
                below = (*below, images[0])
        found.append((number, f"app{draw(st.integers(0, 2))}", root, below))
    return found


@settings(max_examples=75, deadline=None)
@given(data=st.data(), fleet=fleets(), refuse=st.booleans(), jobs=st.sampled_from([None, 1, 2]))
def test_whatever_order_things_happen_in(
    data: st.DataObject,
    fleet: list[tuple[int, str, Manifest, tuple[Manifest, ...]]],
    refuse: bool,
    jobs: int | None,
) -> None:
    """Random orders, failures and cancellations: what is said to be copied is complete, what is not is not tagged,
    bytes go to a site once where nothing failed or was refused, and in the end nothing is held or left waiting.
    """
    remembered = data.draw(st.sampled_from([(), ("to0",), ("nowhere", "to1")]))
    world = World(jobs=jobs, donors=lambda site, digest: remembered)
    world.refuse_mounts = refuse
    wanted: list[tuple[Job, Manifest]] = []
    for number, repository, root, below in fleet:
        source = place("a", repository)
        world.fill(source, f"t{number}", root, *below)
        sites = data.draw(st.lists(st.sampled_from("bc"), min_size=1, unique=True))
        targets = tuple(Target(place(site, f"to{number % 3}"), f"t{number}") for site in sites)
        wanted.append((Job(number, source, targets, tag=f"t{number}"), root))
    disturbed = False
    events: list[Event] = [JobAdded(each) for each, _ in wanted]
    while world.running or events:
        if events and (not world.running or data.draw(st.booleans())):
            world.feed(events.pop(0))
            continue
        at = data.draw(st.integers(0, len(world.running) - 1))
        roll = data.draw(st.integers(0, 40))
        world.behind = {place(site, "to0") for site in data.draw(st.sets(st.sampled_from("bc")))}
        world.late = dict.fromkeys(data.draw(st.sets(st.sampled_from("bc"))), 30.0)
        if roll == 0:
            disturbed = True
            world.step(at, Failure("ServerFault", "it broke"))
        elif roll == 1 and wanted:
            disturbed = True
            world.feed(JobCancelled(data.draw(st.sampled_from(wanted))[0].id))
        else:
            world.step(at)
    assert world.scheduler.idle
    assert all(limit.busy == 0 and limit.weight == 0 for limit in world.scheduler.budget.sites().values())
    assert set(world.outcomes) == {each.id for each, _ in wanted}
    for each, root in wanted:
        for target, ended in zip(each.targets, world.outcomes[each.id].targets, strict=True):
            tagged = world.tags.get(target.place, {}).get(target.tag or "")
            if ended.status in ("copied", "tagged", "equal"):
                assert tagged == root.digest
            elif ended.status == "failed":
                assert tagged is None
            if tagged is not None:
                assert world.complete(target.place, tagged)
            assert world.tagged[target.place, target.tag or ""] <= 1
            assert disturbed or ended.status in {"copied", "tagged"}
    if not refuse and not disturbed:
        assert all(times == 1 for times in world.sent.values())
