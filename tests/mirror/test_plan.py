"""Plans: exact before the first byte, made without a write, and carried out as they stand."""

from __future__ import annotations

from collections import Counter

import msgspec
import pytest

from asyncrane import InvalidMirrorSpec, MirrorPlan
from asyncrane.abc import DOUBTED
from asyncrane.server import Call, Handler, Reply
from asyncrane.testing import fault
from asyncrane.testing.images import random_index
from tests.mirror.runs import WRITES, Mirror, fleet
from tests.promises.images import image, incomplete, noise, put, tags

TREE = "{from: 'A/team/**', to: ['B/copy/{path}']}"


async def test_i3_a_plan_only_asks(mirror: Mirror) -> None:
    """I3: HEAD and GET at both registries, and nothing changes."""
    fleet(mirror.source)
    mirror.rules(TREE)
    made = await mirror.plan()
    assert {r.method for r in [*mirror.source.log, *mirror.destination.log]} <= {"GET", "HEAD"}
    assert mirror.source.requests(kind="blob-get") == []
    assert tags(mirror.destination) == {}
    assert made.counts() == {mirror.destination.address: {"new": 20}}
    assert not made.empty


async def test_a_plan_says_to_the_byte_and_the_request_what_applying_it_takes(mirror: Mirror) -> None:
    """I3: bytes to read, to write, to mount and there already, and every writing request."""
    made = fleet(mirror.source)
    put(mirror.destination, "copy/team/app0", made["team/app0:v0"], "v0")
    put(mirror.destination, "copy/team/app0", image("other", [noise("mine", 500)]), "v1")
    mirror.rules(TREE)
    planned = await mirror.plan()
    assert planned.counts() == {mirror.destination.address: {"new": 18, "changed": 1, "equal": 1}}
    mirror.forget()
    report = await mirror.apply(plan=planned)
    assert report.status == "done"
    done = report.statistics
    for name in ("bytes_read", "bytes_written", "bytes_mounted", "bytes_existing"):
        assert getattr(planned, name) == getattr(done, name), name
    assert done.bytes_read == sum(r.response_bytes for r in mirror.source.requests(kind="blob-get"))
    costs = planned.registries[mirror.destination.address]
    counted = mirror.destination.log.counts()
    posts = counted.get("upload-post", 0) + counted.get("mount", 0)
    assert costs.requests["POST uploads"] == posts
    assert costs.requests["PUT uploads"] == counted["upload-put"]
    assert costs.requests["PUT manifests"] == counted["manifest-put"] == 19
    reads = planned.registries[mirror.source.address]
    assert reads.requests["GET blobs"] == len(mirror.source.requests(kind="blob-get"))
    assert incomplete(mirror.destination) == []


async def test_i3_a_plan_says_every_request_that_applying_the_file_makes(mirror: Mirror) -> None:
    """I3, B3: by registry and kind, the reads and the questions too; also the HEAD of a large blob."""
    fleet(mirror.source, repositories=6, versions=10)
    large = image("large", [noise("large", DOUBTED), noise("less", DOUBTED - 1)])
    for name in ("large", "again"):
        put(mirror.source, f"team/{name}", large, "v1")
    mirror.rules(TREE)
    planned = await mirror.plan()
    report = await mirror.apply()
    assert report.status == "done"
    assert {registry: cost.requests for registry, cost in planned.registries.items()} == report.statistics.requests


async def test_i3_where_the_destination_holds_some_of_it_a_plan_says_no_less(mirror: Mirror) -> None:
    """I3: a blob that one of several repositories holds is sent once at most, and not at all if that one is first."""
    made = fleet(mirror.source, repositories=6, versions=10)
    for repository in range(3):
        put(mirror.destination, f"copy/team/app{repository}", made[f"team/app{repository}:v0"], "v0")
        put(mirror.destination, f"copy/team/app{repository}", image("other", [noise("mine", 500)]), "v1")
    mirror.rules(TREE)
    planned = await mirror.plan()
    report = await mirror.apply()
    assert report.status == "done"
    assert report.statistics.bytes_written <= planned.bytes_written
    less = Counter[str]()
    for registry, cost in planned.registries.items():
        less.update(cost.requests)
        less.subtract(report.statistics.requests[registry])
    spared = less.pop("PUT uploads")
    assert spared == less.pop("GET blobs") >= 0
    assert set(less.values()) == {0}


@pytest.mark.parametrize("side", ["A", "B"])
async def test_a_plan_reckons_with_the_rates_of_its_file(mirror: Mirror, side: str) -> None:
    """At 100 bytes a second, in either direction, it takes the bytes' hundredth part."""
    put(mirror.source, "app", image("app", [noise("app", 50_000)]), "v1")
    host = (mirror.source if side == "A" else mirror.destination).address
    mirror.write(f"registries: {{'{host}': {{limits: {{rate: 100}}}}}}\nmirrors: [{{from: A/app, to: [B/app]}}]\n")
    planned = await mirror.plan()
    assert planned.bytes_read == planned.bytes_written > 50_000
    assert planned.seconds == round(planned.bytes_read / 100, 1)


async def test_what_was_found_while_planning_is_mounted_and_not_sent(mirror: Mirror) -> None:
    """I3: whichever image comes first when the plan is applied, the bytes are those of the plan."""
    made = fleet(mirror.source, repositories=8, versions=10, layers=6)
    for name, sample in list(made.items())[::7]:
        repository, tag = name.split(":")
        put(mirror.destination, f"copy/{repository}", sample, f"old-{tag}")
    mirror.rules(TREE)
    planned = await mirror.plan()
    assert planned.bytes_existing > 0
    mirror.forget()
    report = await mirror.apply(plan=MirrorPlan.decode(planned.encode(), name="plan"))
    sent = sum(r.request_bytes for r in mirror.destination.requests(kind="upload-put"))
    assert (report.status, sent) == ("done", planned.bytes_written)
    assert sum(r.response_bytes for r in mirror.source.requests(kind="blob-get")) == planned.bytes_read


async def test_i3_the_plan_of_what_was_applied_is_empty(mirror: Mirror) -> None:
    """I3: and applying it writes nothing."""
    fleet(mirror.source)
    mirror.rules(TREE)
    await mirror.apply()
    again = await mirror.plan()
    assert again.empty
    assert again.counts() == {mirror.destination.address: {"equal": 20}}
    assert (again.bytes_read, again.bytes_written, again.bytes_mounted) == (0, 0, 0)
    mirror.forget()
    assert (await mirror.apply(plan=again)).status == "done"
    assert mirror.written() == []


async def test_g6_a_tag_that_moves_after_planning_is_copied_as_planned_and_reported(mirror: Mirror) -> None:
    """G6: the plan pins digests."""
    before, after = image("before", [noise(1, 900)]), image("after", [noise(2, 900)])
    put(mirror.source, "team/app", before, "v1")
    mirror.rules(TREE)
    made = await mirror.plan()
    put(mirror.source, "team/app", after, "v1")
    report = await mirror.apply(plan=made)
    assert tags(mirror.destination) == {"copy/team/app:v1": str(before.digest)}
    assert [str(after.digest) in note and str(before.digest) in note for note in report.notes] == [True]


@pytest.mark.parametrize("planned", [True, False], ids=["plan", "file"])
@pytest.mark.parametrize("answered", [False, True], ids=["before-it-is-asked-for", "after-it-was-asked-for"])
async def test_g6_a_tag_that_moves_while_the_run_is_under_way(mirror: Mirror, planned: bool, answered: bool) -> None:
    """G6: a plan decides, whenever the tag moves, and what was seen to move is reported. Without one the tag's first
    answer decides; either way what arrives is one image, and whole.
    """
    before, after = image("before", [noise(1, 900)]), image("after", [noise(2, 900)])
    put(mirror.source, "team/app", before, "v1")
    mirror.rules(TREE)
    made = await mirror.plan() if planned else None

    async def move(call: Call, handler: Handler) -> Reply:
        first = await handler(call)
        put(mirror.source, "team/app", after, "v1")
        return first if answered else await handler(call)

    mirror.source.faults.add(fault("move", move, kind=("manifest-head", "manifest-get"), path="/v1$", times=1))
    report = await mirror.apply(plan=made)
    assert (report.status, report.images) == ("done", {"copied": 1})
    wanted = before if planned or answered else after
    assert tags(mirror.destination) == {"copy/team/app:v1": str(wanted.digest)}
    assert incomplete(mirror.destination) == []
    seen = planned and not answered
    assert [str(after.digest) in note and str(before.digest) in note for note in report.notes] == [True] * seen


async def test_a_plan_that_is_applied_as_planned_costs_one_head_more_for_each_tag(mirror: Mirror) -> None:
    """G6: to see whether a tag has moved. Everything else is what the plan says, the source's catalog left out."""
    fleet(mirror.source)
    mirror.rules(TREE)
    made = await mirror.plan()
    report = await mirror.apply(plan=made)
    more = {}
    for registry, cost in made.registries.items():
        counted = Counter(report.statistics.requests[registry])
        counted.subtract(cost.requests)
        more[registry] = {kind: number for kind, number in counted.items() if number}
    assert more == {mirror.source.address: {"HEAD manifests": 20, "GET catalog": -1}, mirror.destination.address: {}}


async def test_h2_two_images_for_one_tag_are_an_error_that_names_both_rules(mirror: Mirror) -> None:
    """H2: and nothing is written; one image twice is none."""
    put(mirror.source, "one", image("one", [noise(1, 100)]), "v1")
    put(mirror.source, "two", image("two", [noise(2, 100)]), "v1")
    put(mirror.source, "three", image("one", [noise(1, 100)]), "v1")
    mirror.rules("{image: 'A/one:v1', to: ['B/x:v1']}", "{image: 'A/two:v1', to: ['B/x:v1']}")
    both = r"yaml:4: .*x:v1 is to be two images: .*one:v1 .*line 3.*two:v1 .*line 4"
    with pytest.raises(InvalidMirrorSpec, match=both) as said:
        await mirror.plan()
    assert str(said.value).startswith(str(mirror.path))
    with pytest.raises(InvalidMirrorSpec):
        await mirror.apply()
    assert not any(request.kind in WRITES for request in mirror.destination.log)
    mirror.rules("{image: 'A/one:v1', to: ['B/x:v1']}", "{image: 'A/three:v1', to: ['B/x:v1']}")
    assert (await mirror.plan()).counts() == {mirror.destination.address: {"new": 1}}


@pytest.mark.parametrize(
    "rules",
    [
        pytest.param(["{from: 'A/**', to: ['B/flat/{name}']}"], id="one-template"),
        pytest.param(["{from: 'A/x/**', to: ['B/{1}']}", "{from: {registry: A, regex: 'y/(.+)'}, to: ['B/{1}']}"]),
        pytest.param(["{from: A/x/app, to: [B/app]}", "{from: A/x/app, to: [B/app], platforms: [linux/arm64]}"]),
        pytest.param(["{from: A/x/app, to: ['B/app:1']}"], id="one-tag-for-two"),
    ],
)
async def test_h2_names_that_meet_only_when_they_are_filled_in_are_an_error(mirror: Mirror, rules: list[str]) -> None:
    """H2: by the last part of a name, by the groups of two expressions, by platforms, by a tag that is always the same.
    Nothing is written.
    """
    for repository, tag in (("x/app", "v1"), ("y/app", "v1"), ("x/app", "v2")):
        put(mirror.source, repository, random_index(f"{repository}:{tag}", layers=(50,)), tag)
    mirror.write("mirrors:\n" + "".join(f"  - {line.replace('registry: A', 'registry: A/')}\n" for line in rules))
    mirror.path.write_text(mirror.path.read_text().replace("/, regex", ", regex"))
    with pytest.raises(
        InvalidMirrorSpec, match=r":v?1 is to be two images: .*\(sha256:.*rule of line \d\) and .*sha256:"
    ):
        await mirror.plan()
    with pytest.raises(InvalidMirrorSpec):
        await mirror.apply()
    assert mirror.written() == []


async def test_conflicts_and_what_cannot_be_read_are_in_the_plan(mirror: Mirror) -> None:
    """H5, H6: a tag that may not move, a repository that answers 403, an image that is gone."""
    put(mirror.source, "team/good", image("good", [noise(1, 100)]), "v1")
    put(mirror.source, "team/never", image("new", [noise(2, 100)]), "v1")
    put(mirror.destination, "never", image("old", [noise(3, 100)]), "v1")
    mirror.rules(
        "{from: A/team/good, to: [B/good]}",
        "{from: A/team/never, to: [B/never], overwrite: never}",
        "{from: A/team/absent, to: [B/absent]}",
        "{image: 'A/team/good:v2', to: [B/gone]}",
    )
    made = await mirror.plan()
    assert made.counts() == {mirror.destination.address: {"new": 1, "conflict": 1, "unreadable": 1}}
    assert [problem.repository for problem in made.unreadable] == [f"{mirror.source.address}/team/absent"]
    assert made.troubled
    report = await mirror.apply(plan=made)
    assert report.images == {"copied": 1, "conflict": 1, "failed": 1}
    assert report.status == "failed"


def test_a_plan_survives_its_file_and_nothing_else_passes_for_one() -> None:
    made = MirrorPlan(form=1, made="now", program="asyncrane", spec="x", images=(), registries={})
    assert MirrorPlan.decode(made.encode(), name="p") == made
    with pytest.raises(InvalidMirrorSpec, match=r"^p: a plan of form 9; this program reads form 1: plan again$"):
        MirrorPlan.decode(msgspec.structs.replace(made, form=9).encode(), name="p")
    for wrong in (b"", b"{}", b"[1]", b'{"form": "x"}', made.encode()[:-20], b"\xff\xfe"):
        with pytest.raises(InvalidMirrorSpec, match=r"^p: not a plan: "):
            MirrorPlan.decode(wrong, name="p")
