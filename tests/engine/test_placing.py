"""How blobs get where they are wanted: mounted where anybody has them, sent once where nobody has."""

from __future__ import annotations

from collections.abc import Sequence

from asyncrane.engine.job import Job, Target
from asyncrane.engine.messages import CopyBlob, JobAdded, MountBlob
from tests.engine.world import World, image, place, statuses

SOURCE = place("a", "app")
TARGET = place("b", "app")


def job(targets: Sequence[Target] = (Target(TARGET, "1"),)) -> Job:
    return Job(1, SOURCE, tuple(targets), tag="1")


def test_bytes_go_to_a_site_once_and_every_other_repository_mounts() -> None:
    """A1, A3: 40 images in 8 repositories, all of one base."""
    world = World()
    jobs = []
    for number in range(40):
        where = place("a", f"app{number % 8}")
        world.fill(where, f"t{number}", image(f"i{number}", ["base1", "base2", f"own{number}"]))
        target = Target(place("b", f"copy{number % 8}"), f"t{number}")
        jobs.append(Job(number, where, (target,), tag=f"t{number}"))
    for each in jobs:
        world.feed(JobAdded(each))
    world.run()
    assert set(world.sent.values()) == {1}
    assert len([c for c in world.commands if isinstance(c, MountBlob)]) == 2 * 7
    assert all(statuses(world, each) == ["copied"] for each in jobs)
    assert world.scheduler.idle


def test_several_destinations_share_one_read() -> None:
    world = World()
    world.fill(SOURCE, "1", image("x", ["l1", "l2"]))
    targets = [Target(place(site, "app"), "1") for site in "bcd"]
    world.feed(JobAdded(job(targets=targets)))
    world.run()
    copies = [c for c in world.commands if isinstance(c, CopyBlob)]
    assert len(copies) == 3
    assert all(len(c.sinks) == 3 for c in copies)


def test_a_refused_mount_becomes_a_copy() -> None:
    """D10."""
    world = World()
    world.refuse_mounts = True
    for number in (1, 2):
        world.fill(place("a", f"app{number}"), "1", image(f"i{number}", ["base"]))
        target = Target(place("b", f"copy{number}"), "1")
        world.feed(JobAdded(Job(number, place("a", f"app{number}"), (target,), tag="1")))
    world.run()
    assert all(world.complete(place("b", f"copy{n}"), world.tags[place("b", f"copy{n}")]["1"]) for n in (1, 2))
    assert max(world.sent.values()) == 2


def test_what_an_earlier_run_left_is_mounted_from_there() -> None:
    """A3: nothing is known of this run, and no bytes move; who comes meanwhile waits, and asks nobody else."""
    root = image("x", ["l1", "l2"])
    world = World(donors=lambda site, digest: ("old",) if site.name == "b" else ())
    world.fill(SOURCE, "1", root)
    world.fill(place("b", "old"), "9", root)
    places = [place("b", f"copy{n}") for n in range(5)]
    world.feed(JobAdded(job(targets=[Target(where, "1") for where in places])))
    world.run()
    assert not world.sent
    assert all(world.complete(where, root.digest) for where in places)
    mounts = [c for c in world.commands if isinstance(c, MountBlob)]
    assert len(mounts) == 3 * len(places)
    assert len([c for c in mounts if c.donor == "old"]) >= 3


def test_donors_that_have_it_no_more_are_dropped_and_the_bytes_sent_once() -> None:
    """A3, D10: two are tried, not twenty; whoever waited mounts from where the bytes went."""
    gone = tuple(f"gone{n}" for n in range(20))
    world = World(donors=lambda site, digest: gone)
    root = image("x", ["l1"])
    world.fill(SOURCE, "1", root)
    places = [place("b", f"copy{n}") for n in range(4)]
    world.feed(JobAdded(job(targets=[Target(where, "1") for where in places])))
    world.run()
    assert statuses(world, job()) == ["copied"] * 4
    assert set(world.sent.values()) == {1}
    mounts = [c for c in world.commands if isinstance(c, MountBlob)]
    assert len([c for c in mounts if c.donor in gone]) == 2 * len(root.blobs())
    assert len([c for c in mounts if c.donor not in gone]) == 3 * len(root.blobs())


def test_a_repository_that_had_it_is_not_its_own_donor() -> None:
    """Its upload finds the blob there."""
    world = World(donors=lambda site, digest: (TARGET.repository, "other"))
    root = image("x", ["l1"])
    world.fill(SOURCE, "1", root)
    world.blobs[TARGET] = {blob.digest for blob in root.blobs()}
    world.feed(JobAdded(job()))
    world.run()
    assert not world.sent
    assert not [c for c in world.commands if isinstance(c, MountBlob)]
    assert world.scheduler.statistics().blobs_existing == 2


def test_within_one_registry_no_bytes_move() -> None:
    """A3: the source repository is a donor."""
    world = World()
    world.fill(SOURCE, "1", image("x", ["l1", "l2"]))
    target = Target(place("a", "other"), "1")
    world.feed(JobAdded(job(targets=[target])))
    world.run()
    assert not world.sent
    assert world.complete(target.place, world.tags[target.place]["1"])


def test_a_destination_that_fell_behind_is_served_by_itself() -> None:
    """The others have ended with the copy that they shared."""
    world = World()
    world.fill(SOURCE, "1", image("x", ["l1", "l2"]))
    places = [place(site, "app") for site in "bcd"]
    world.behind.add(places[1])
    world.feed(JobAdded(job(targets=[Target(where, "1") for where in places])))
    world.run()
    assert statuses(world, job()) == ["copied", "copied", "copied"]
    assert set(world.sent.values()) == {1}
    copies = [[sink.site.name for sink in c.sinks] for c in world.commands if isinstance(c, CopyBlob)]
    assert sorted(copies) == [["b", "c", "d"]] * 3 + [["c"]] * 3
    done = world.scheduler.statistics()
    assert done.blobs_total == done.blobs_done == 9


def test_a_destination_that_keeps_the_others_waiting_holds_them_no_longer() -> None:
    """What waits for both is parted, too, and the source read for each; with the next run it has another chance."""
    world = World(jobs=4)
    world.late, world.elapsed = {"c": 3.0}, 3.1
    targets = (Target(place("b", "app"), "1"), Target(place("c", "app"), "1"))
    copies: list[CopyBlob] = []

    def run(number: int) -> list[str]:
        world.fill(SOURCE, f"{number}", image(f"image {number}", [f"layer {number}.{n}" for n in range(20)]))
        world.commands.clear()
        world.feed(JobAdded(Job(number, SOURCE, targets, tag=f"{number}")))
        world.run()
        assert [target.status for target in world.outcomes[number].targets] == ["copied", "copied"]
        made = [c for c in world.commands if isinstance(c, CopyBlob)]
        copies.extend(made)
        return ["".join(sink.site.name for sink in c.sinks) for c in made]

    first, second = run(1), run(2)
    together = first.count("bc")
    assert 4 < together < 14
    assert first.count("b") == first.count("c") == 21 - together
    assert "bc" not in first[together:]
    assert second[0] == "bc"
    assert set(world.sent.values()) == {1}
    done = world.scheduler.statistics()
    assert done.blobs_total == done.blobs_done == 84
    assert done.bytes_total == sum(c.blob.size for c in copies)


def test_destinations_that_take_about_as_long_as_each_other_stay_together() -> None:
    """A little later is what somebody always is."""
    world = World(jobs=4)
    world.late, world.elapsed = {"c": 0.4}, 1.0
    world.fill(SOURCE, "1", image("x", [f"l{n}" for n in range(60)]))
    world.feed(JobAdded(job(targets=[Target(place(site, "app"), "1") for site in "bc"])))
    world.run()
    assert {len(c.sinks) for c in world.commands if isinstance(c, CopyBlob)} == {2}
