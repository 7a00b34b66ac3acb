"""Applying a mirror file: everything arrives, nothing is asked twice, and one broken image stops no other."""

from __future__ import annotations

import time
from pathlib import Path

import pytest

from asyncrane import InvalidMirrorSpec, MirrorPlan, Platform
from asyncrane.oci.digest import Digest
from asyncrane.server.access import BasicAuth, PlainUsers
from asyncrane.testing import FaultyRegistry, faults
from asyncrane.testing.images import random_image, random_index
from tests.mirror.attachments import attach, cosign
from tests.mirror.runs import Mirror, fleet, in_an_hour
from tests.promises.images import image, incomplete, noise, put, tags

TREE = "{from: 'A/team/**', to: ['B/copy/{path}']}"


async def test_a_tree_arrives_whole_and_each_blob_is_read_and_sent_once(mirror: Mirror) -> None:
    """A1, H3: a glob over the catalog."""
    made = fleet(mirror.source)
    put(mirror.source, "other/app", image("other", [noise("other", 100)]), "v1")
    mirror.rules(TREE)
    report = await mirror.apply()
    assert (report.status, report.images, report.failures) == ("done", {"copied": 20}, ())
    assert tags(mirror.destination) == {f"copy/{name}": str(sample.digest) for name, sample in made.items()}
    assert incomplete(mirror.destination) == []
    unique = {digest for sample in made.values() for digest in sample.blobs}
    assert len(mirror.source.requests(kind="blob-get")) == len(mirror.destination.requests(kind="upload-put"))
    assert {r.digest for r in mirror.source.requests(kind="blob-get")} == set(unique)
    assert len(mirror.source.requests(kind="blob-get")) == len(unique)


async def test_a2_an_unchanged_fleet_costs_one_head_for_a_tag_and_side(mirror: Mirror) -> None:
    """A2, H8: no GET at the destination, no writes."""
    fleet(mirror.source)
    mirror.rules(TREE)
    await mirror.apply()
    mirror.forget()
    report = await mirror.apply()
    assert (report.status, report.images) == ("done", {"equal": 20})
    assert mirror.destination.log.counts() == {"ping": 1, "tags": 4, "manifest-head": 20}
    asked = mirror.source.log.counts()
    assert asked.pop("referrers") == 20
    assert asked == {"ping": 1, "catalog": 1, "tags": 4, "manifest-head": 20}


@pytest.mark.parametrize("api", [True, False], ids=["api", "fallback tags"])
async def test_h8_an_unchanged_fleet_with_attachments_is_pulled_by_nobody_at_the_destination(
    mirror: Mirror, api: bool
) -> None:
    """A2, H8: signatures in each style are there, also of platforms; each is looked for once and with HEAD."""
    if not api:
        mirror.source.faults.add(faults.no_referrers())
        mirror.destination.faults.add(faults.no_referrers())
    index = random_index("signed")
    put(mirror.source, "app", index, "v1", "v2")
    signature = attach(mirror.source, "app", index.manifest, "signature", api=api)
    attach(mirror.source, "app", signature.manifest, "countersigned", api=api)
    attach(mirror.source, "app", index.manifests[0], "sbom of a platform", api=api)
    cosign(mirror.source, "app", index.digest, "sig", image("sig", [noise("sig", 100)]))
    mirror.rules("{from: A/app, to: [B/app]}")
    assert (await mirror.apply()).images == {"copied": 1, "tagged": 1}
    mirror.forget()
    assert (await mirror.apply()).images == {"equal": 2}
    attached = 4
    counts = mirror.destination.log.counts()
    assert counts.pop("manifest-head") <= 2 + attached
    assert counts == {"ping": 1, "tags": 1}
    source = mirror.source.log.counts()
    assert source.get("manifest-get", 0) <= (0 if api else 1 + attached), "lists under fallback tags are manifests"
    assert source.pop("manifest-head") <= 2 + attached
    assert not {"blob-get", "blob-head"} & set(source)


async def test_a2_single_images_are_listed_nowhere_at_the_destination(mirror: Mirror, tmp_path: Path) -> None:
    """A2: a list of exact tags costs one HEAD for each on each side, however often."""
    names = [put(mirror.source, f"app{n}", image(f"app{n}", [noise(n, 300)]), "v1") for n in range(5)]
    (tmp_path / "images.txt").write_text("\n".join(names))
    mirror.write("defaults: {referrers: false}\nmirrors:\n  - {images_file: images.txt, to: ['B/copy/{path}']}\n")
    assert (await mirror.apply()).images == {"copied": 5}
    mirror.forget()
    assert (await mirror.apply()).images == {"equal": 5}
    for side in (mirror.source, mirror.destination):
        assert side.log.counts() == {"ping": 1, "manifest-head": 5}


async def test_e3_a_second_run_with_platforms_writes_nothing(mirror: Mirror) -> None:
    """E3: the stripped index is the same each time."""
    platforms = [Platform("linux", arch) for arch in ("amd64", "arm64", "s390x")]
    put(mirror.source, "app", random_index("three", platforms=platforms), "v1")
    mirror.rules("{from: A/app, to: [B/app], platforms: [linux/amd64, linux/arm64]}")
    assert (await mirror.apply()).images == {"copied": 1}
    mirror.forget()
    assert (await mirror.apply()).images == {"equal": 1}
    assert mirror.written() == []


async def test_h6_every_rule_has_its_own_word_about_tags_that_exist(mirror: Mirror) -> None:
    """H6: always, if-missing, never, if-different (the default) in one file."""
    for rule in ("always", "if-missing", "never", "if-different"):
        put(mirror.source, rule, image(f"new {rule}", [noise(rule, 100)]), "v1", "v2")
        put(mirror.destination, rule, image(f"old {rule}", [noise(f"old {rule}", 100)]), "v1")
    mirror.rules(
        *(
            f"{{from: A/{rule}, to: [B/{rule}], overwrite: {rule}}}"
            for rule in ("always", "if-missing", "never", "if-different")
        )
    )
    report = await mirror.apply()
    assert report.images == {"copied": 4, "tagged": 2, "skipped": 1, "conflict": 1}
    assert report.status == "failed"
    now = tags(mirror.destination)
    assert {rule for rule in ("always", "if-different") if now[f"{rule}:v1"] == now[f"{rule}:v2"]} == {
        "always",
        "if-different",
    }
    assert all(now[f"{rule}:v1"] != now[f"{rule}:v2"] for rule in ("if-missing", "never"))


async def test_g5_tags_that_nobody_may_move_are_conflicts_and_the_rest_goes_on(mirror: Mirror) -> None:
    """G5: a registry that refuses to move tags; unchanged ones are not put again."""
    fleet(mirror.source, repositories=1)
    mirror.rules(TREE)
    await mirror.apply()
    moved = image("moved", [noise("moved", 100)])
    put(mirror.source, "team/app0", moved, "v3")
    put(mirror.source, "team/app0", image("fresh", [noise("fresh", 100)]), "v9")
    mirror.destination.faults.add(faults.status(409, error="TAG_IMMUTABLE", kind="manifest-put", path="/v3$"))
    mirror.forget()
    report = await mirror.apply()
    assert report.images == {"equal": 4, "conflict": 1, "copied": 1}
    assert [lost.status for lost in report.failures] == ["conflict"]
    puts = [r.path.rpartition("/")[2] for r in mirror.destination.requests(kind="manifest-put")]
    assert sorted(puts) == ["v3", "v9"]


async def test_g3_untagged_images_come_by_a_list_of_digests(mirror: Mirror, tmp_path: Path) -> None:
    """G3: from a file, and can be pulled by digest afterwards."""
    made = [random_image(f"untagged {n}") for n in range(3)]
    names = [put(mirror.source, "app", sample) for sample in made]
    (tmp_path / "images.txt").write_text("# what runs in production\n" + "\n".join(names) + "\n")
    mirror.rules("{images_file: images.txt, to: ['B/copy/{path}']}")
    assert (await mirror.apply()).images == {"copied": 3}
    assert tags(mirror.destination) == {}
    for sample in made:
        assert mirror.destination.get_manifest("copy/app", str(sample.digest)) is not None
    mirror.forget()
    assert (await mirror.apply()).images == {"equal": 3}
    assert mirror.written() == []


async def test_a_rule_sends_to_several_destinations_and_reads_once(mirror: Mirror) -> None:
    made = fleet(mirror.source, repositories=2)
    mirror.rules("{from: 'A/team/*', to: ['B/one/{name}', 'B/two/{name}-{tag}:latest']}")
    report = await mirror.apply()
    assert report.images == {"copied": 20}
    unique = {digest for sample in made.values() for digest in sample.blobs}
    assert len(mirror.source.requests(kind="blob-get")) == len(unique)
    assert "two/app1-v3:latest" in tags(mirror.destination)
    assert incomplete(mirror.destination) == []


@pytest.mark.parametrize(
    "to", ["A/team/backup/{path}", "{registry}/team/backup/{1}", "A/team/backup/{path}:{tag}-copy"]
)
async def test_copies_below_what_a_rule_reads_are_not_copied_again(mirror: Mirror, to: str) -> None:
    """Else each run would make copies of the copies of the last one."""
    fleet(mirror.source, repositories=2, versions=2)
    mirror.rules(f"{{from: 'A/team/**', to: ['{to}']}}")
    assert (await mirror.apply()).images["copied"] == 4
    before = tags(mirror.source)
    assert len(before) == 8
    assert (await mirror.apply()).images == {"equal": 4}
    assert tags(mirror.source) == before


async def test_repositories_that_take_each_others_place_are_sources_all_the_same(mirror: Mirror) -> None:
    put(mirror.source, "a/b", image("ab", [noise("ab", 300)]), "one")
    put(mirror.source, "b/a", image("ba", [noise("ba", 300)]), "two")
    mirror.rules("{from: 'A/*/*', to: ['A/{2}/{1}']}")
    assert (await mirror.apply()).images == {"copied": 2}
    assert list(tags(mirror.source)) == ["a/b:one", "a/b:two", "b/a:one", "b/a:two"]


async def test_i1_broken_images_stop_no_others_and_are_the_only_ones_tried_again(mirror: Mirror) -> None:
    """I1: 300 images, 7 of them broken; the failures say class, URL and status."""
    base = noise("base", 2000)
    for number in range(300):
        put(mirror.source, f"app{number % 10}", image(number, [base, noise(number, 300)]), f"v{number}")
    broken = {f"app{number % 10}:v{number}" for number in (5, 50, 99, 123, 200, 201, 299)}
    for name in broken:
        repository, tag = name.split(":")
        manifest = mirror.source.get_manifest(repository, tag)
        assert manifest is not None
        mirror.source.storage.unlink(repository, manifest.blobs()[1].digest)
    mirror.rules("{from: 'A/*', to: ['B/{path}']}")
    report = await mirror.apply()
    assert (report.status, report.images) == ("failed", {"copied": 293, "failed": 7})
    assert {lost.source.partition("/")[2] for lost in report.failures} == broken
    for lost in report.failures:
        line = lost.line()
        assert (line["class"], line["status"]) == ("NotFound", 404)
        assert line["url"].startswith(f"http://{mirror.source.address}/v2/app")
    for number in (5, 50, 99, 123, 200, 201, 299):
        mirror.source.put_blob(f"app{number % 10}", noise(number, 300))
    mirror.forget()
    again = await mirror.retry(report.run)
    assert (again.status, again.images, again.run) == ("done", {"copied": 7}, report.run + 1)
    assert {r.path.rpartition("/")[2] for r in mirror.destination.requests(kind="manifest-put")} == {
        name.partition(":")[2] for name in broken
    }


async def test_i1_what_could_not_be_listed_is_not_done_when_the_rest_is_tried_again(mirror: Mirror) -> None:
    """I1: a run with nothing to try again is not a success when images are missing; another ``apply`` finds them."""
    put(mirror.source, "app", image("app", [noise("app", 300)]), "v1")
    mirror.rules("{from: 'A/*', to: ['B/{path}']}")
    unlisted = mirror.source.faults.add(faults.status(404, kind="catalog"))
    report = await mirror.apply()
    mirror.source.faults.remove(unlisted)
    again = await mirror.retry(report.run)
    assert (report.status, again.status) == ("failed", "failed")
    assert len(report.unreadable) == 1
    assert again.unreadable == report.unreadable
    assert (await mirror.apply()).images == {"copied": 1}


async def test_i1_what_a_plan_says_cannot_be_done_has_failed_when_it_is_carried_out(mirror: Mirror) -> None:
    """I1, G6: images that could not be read, and conflicts; nothing of a plan is left out in silence, now or later."""
    put(mirror.source, "app", image("app", [noise("app", 300)]), "v1", "v2")
    put(mirror.destination, "kept", image("old", [noise("old", 300)]), "v1")
    before = tags(mirror.destination)
    mirror.rules(
        "{from: A/app, to: [B/app]}",
        "{image: 'A/gone:v1', to: [B/gone]}",
        "{image: 'A/app:v1', to: [B/kept], overwrite: never}",
    )
    plan = MirrorPlan.decode((await mirror.plan()).encode(), name="plan.json")
    report = await mirror.apply(plan=plan)
    assert (report.status, report.images) == ("failed", {"copied": 1, "tagged": 1, "failed": 1, "conflict": 1})
    told = {lost.destination.partition("/")[2]: lost.line() for lost in report.failures}
    assert (told["gone:v1"]["outcome"], told["gone:v1"]["class"], told["gone:v1"]["status"]) == (
        "failed",
        "NotFound",
        404,
    )
    assert told["gone:v1"]["url"] == f"http://{mirror.source.address}/v2/gone/manifests/v1"
    assert (told["kept:v1"]["outcome"], told["kept:v1"]["class"]) == ("conflict", "TagExists")
    assert before.items() <= tags(mirror.destination).items()
    assert (await mirror.resume(report.run)).failures == report.failures
    assert (await mirror.retry(report.run)).images == {"failed": 1, "conflict": 1}
    put(mirror.source, "gone", image("back", [noise("back", 300)]), "v1")
    assert (await mirror.retry(report.run)).images == {"copied": 1, "conflict": 1}


async def test_i1_dead_credentials_stop_the_run_at_once(tmp_path: Path) -> None:
    """I1: of many images only a few are tried; the failure says why the others were not."""
    async with FaultyRegistry() as source, FaultyRegistry(auth=BasicAuth(PlainUsers({"me": "right"}))) as destination:
        fleet(source, versions=25)
        mirror = Mirror(tmp_path, source, destination)
        mirror.write(
            "registries:\n  B/: {credentials: {username: me, password: wrong}}\n".replace("B/", destination.address)
            + "mirrors:\n  - {from: 'A/team/**', to: ['B/copy/{path}']}\n"
        )
        report = await mirror.apply()
        assert report.images == {"failed": 100}
        assert {lost.failure.kind for lost in report.failures} == {"Unauthorized"}
        refused = destination.log.requests(status=401)
        assert len(refused) < 60
        assert sum(lost.failure.message.startswith("not tried: ") for lost in report.failures) > 20
        assert source.requests(kind="blob-get") == []
        mirror.path.write_text(mirror.path.read_text().replace("wrong", "right"))
        again = await mirror.retry(report.run)
        assert (again.status, again.images) == ("done", {"copied": 100}), "those that were not tried have failed, too"
        assert len(tags(destination)) == 100


async def test_until_ends_the_run_at_an_image_and_resuming_does_the_rest(mirror: Mirror) -> None:
    """Nothing that was begun is left half done, and what is done is not sent again."""
    made = fleet(mirror.source, repositories=10, versions=20)
    mirror.rules(TREE)
    report = await mirror.apply(until=time.time() - 1)
    assert (report.status, report.left) == ("stopped", 200)
    assert mirror.written() == []
    first = await mirror.resume(report.run)
    assert (first.run, first.status) == (report.run, "done")
    assert incomplete(mirror.destination) == []
    assert tags(mirror.destination) == {f"copy/{name}": str(sample.digest) for name, sample in made.items()}
    assert (await mirror.apply(until=in_an_hour())).images == {"equal": 200}


async def test_what_an_earlier_run_knows_is_mounted_and_not_sent_again(mirror: Mirror) -> None:
    """A1, A3: the journal remembers which repositories have a blob."""
    shared = noise("shared", 200_000)
    put(mirror.source, "one", image("one", [shared]), "v1")
    mirror.rules("{from: A/one, to: [B/one]}")
    await mirror.apply()
    put(mirror.source, "two", image("two", [shared]), "v1")
    mirror.rules("{from: A/two, to: [B/two]}")
    mirror.forget()
    report = await mirror.apply()
    assert report.statistics.bytes_mounted == len(shared)
    assert str(Digest.of(shared)) not in {r.digest for r in mirror.source.requests(kind="blob-get")}
    assert incomplete(mirror.destination) == []


async def test_a_donor_of_an_earlier_run_that_is_gone_costs_one_request(mirror: Mirror) -> None:
    """D10: the mount is refused once, then the bytes are sent; nothing fails."""
    shared = noise("shared", 200_000)
    put(mirror.source, "one", image("one", [shared]), "v1")
    mirror.rules("{from: A/one, to: [B/one]}")
    await mirror.apply()
    mirror.destination.storage.unlink("one", Digest.of(shared))
    put(mirror.source, "two", image("two", [shared]), "v1")
    mirror.rules("{from: A/two, to: [B/two]}")
    mirror.forget()
    assert (await mirror.apply()).images == {"copied": 1}
    assert incomplete(mirror.destination) == [f"one: blob {Digest.of(shared)}"]
    asked = [
        r for r in mirror.destination.requests(kind="mount", digest=str(Digest.of(shared))) if "from=one" in r.query
    ]
    assert len(asked) == 1


async def test_c6_a_variable_that_is_not_set_is_named_before_anything_is_asked(mirror: Mirror) -> None:
    """C6: with file and line."""
    mirror.write(
        f"registries:\n  '{mirror.destination.address}':\n    credentials: {{username: me, password_env: NOT_SET}}\n"
        "mirrors:\n  - {from: A/app, to: [B/app]}\n"
    )
    with pytest.raises(InvalidMirrorSpec, match=r"mirror.yaml:4:\d+: .*NOT_SET"):
        mirror.load()
    assert len(mirror.source.log) == 0
