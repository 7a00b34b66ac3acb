"""Pruning deletes what it may, and nothing else (H5)."""

from __future__ import annotations

import pytest

from asyncrane.mirror.prune import Deleted
from asyncrane.mirror.rename import Template
from asyncrane.mirror.spec import Prune, Rule, TagRule
from asyncrane.oci.reference import Reference, Repository
from asyncrane.server import Call, Handler, Reply
from asyncrane.testing import FaultyRegistry, fault, status
from asyncrane.testing.images import random_image, random_index
from tests.mirror.pruning import OFF, delete, doomed, fill, names, only_digests, prune, rule
from tests.promises.images import put, tags


@pytest.fixture
def app(source: FaultyRegistry, destination: FaultyRegistry) -> Rule:
    """``app`` has lost ``v1``, which its mirror still has."""
    fill(source, "app", "v2", "v3")
    fill(destination, "app", "v1", "v2", "v3")
    return rule(source, "app", f"{destination.address}/{{path}}")


async def test_a_tag_that_is_gone_upstream_is_deleted(app: Rule, destination: FaultyRegistry) -> None:
    """H5; finding it writes nothing."""
    digest = str(destination.storage.index.tagged("app", "v1"))
    found, _ = await doomed(app)
    assert [(deletion.tag, deletion.digest, deletion.refused) for deletion in found] == [("v1", digest, "")]
    assert {request.method for request in destination.log} <= {"GET", "HEAD"}
    assert await delete(found) == [Deleted(f"{destination.address}/app:v1", digest)]
    assert list(tags(destination)) == ["app:v2", "app:v3"]


async def test_nothing_is_deleted_where_no_rule_says_so(
    app: Rule, source: FaultyRegistry, destination: FaultyRegistry
) -> None:
    """H5; and then not even looked for."""
    assert await prune(rule(source, "app", f"{destination.address}/{{path}}", prune=OFF)) == []
    assert {request.kind for request in destination.log} <= {"ping"}


@pytest.mark.parametrize("code", [401, 403, 404, 429, 500])
async def test_a_source_that_cannot_be_listed_deletes_nothing(app: Rule, source: FaultyRegistry, code: int) -> None:
    """H5."""
    source.faults.add(status(code, kind="tags"))
    found, gathered = await doomed(app)
    assert found == []
    assert len(gathered.unreadable) == 1


async def test_a_list_that_is_cut_short_deletes_nothing(app: Rule, source: FaultyRegistry) -> None:
    """H5: the second page cannot be had, or there is no end of pages."""
    for link in ("/v2/app/tags/list?n=1000", "/v2/nothing/tags/list?last=v2"):

        async def effect(call: Call, handler: Handler, link: str = link) -> Reply:
            if call.route.repository != "app":
                return await handler(call)
            return Reply.of_json({"tags": ["v2"]}, headers={"Link": f'<{link}>; rel="next"'})

        cut = source.faults.add(fault("cut", effect, kind="tags"))
        found, gathered = await doomed(app)
        assert found == []
        assert len(gathered.unreadable) == 1
        source.faults.remove(cut)


async def test_a_catalog_that_cannot_be_read_deletes_nothing_anywhere(
    app: Rule, source: FaultyRegistry, destination: FaultyRegistry
) -> None:
    """H5: what might have gone to the same repositories is not known."""
    source.faults.add(status(403, kind="catalog"))
    found, gathered = await doomed(app, rule(source, "team/**", f"{destination.address}/{{name}}", line=2))
    assert found == []
    assert len(gathered.unreadable) == 1


async def test_a_rule_whose_only_source_cannot_be_read_protects_what_it_wrote(
    app: Rule, source: FaultyRegistry, destination: FaultyRegistry
) -> None:
    """H5: ``v1`` came from the other one."""
    fill(source, "other", "v1")
    source.faults.add(status(403, kind="tags", path="/other/"))
    other = rule(source, "other", f"{destination.address}/app", line=2)
    assert (await doomed(app, other))[0] == []


async def test_a_namespace_that_cannot_be_read_deletes_nothing(destination: FaultyRegistry) -> None:
    """H5: on a registry like Google's, whose children below it nobody knows."""
    async with FaultyRegistry(google=True) as source:
        fill(source, "p/app", "v2")
        fill(source, "p/sub/app", "v1")
        fill(destination, "app", "v1", "v2")
        one = rule(source, "p/**", f"{destination.address}/{{name}}")
        assert names((await doomed(one))[0]) == []
        source.faults.add(status(403, kind="tags", path="/p/sub/tags"))
        found, gathered = await doomed(one)
    assert found == []
    assert [problem.repository for problem in gathered.unreadable] == [f"{source.address}/p/sub/**"]


async def test_no_more_than_the_given_share_is_deleted(source: FaultyRegistry, destination: FaultyRegistry) -> None:
    """H5: else nothing at all, and it says so."""
    fill(source, "app", *(f"v{number}" for number in range(8)))
    fill(destination, "app", *(f"v{number}" for number in range(10)))
    to = f"{destination.address}/{{path}}"
    refused, _ = await doomed(rule(source, "app", to, prune=Prune(enabled=True, most=0.19)))
    assert [deletion.refused for deletion in refused] == [
        f"{destination.address}/app: not pruned: 2 of 10 tags would go, and 1 may"
    ] * 2
    outcome = await delete(refused)
    assert [deleted.failure is not None for deleted in outcome] == [True, True]
    assert len(tags(destination)) == 10
    assert not any(d.refused for d in (await doomed(rule(source, "app", to, prune=Prune(True, 0.2))))[0])
    assert all(d.refused for d in (await doomed(rule(source, "app", to, prune=Prune(True, 1))))[0])
    await prune(rule(source, "app", to, prune=Prune(True, 2)))
    assert len(tags(destination)) == 8


async def test_what_is_attached_to_images_stays_and_does_not_count(
    app: Rule, destination: FaultyRegistry, source: FaultyRegistry
) -> None:
    """H5: the fallback tag of referrers, and cosign's."""
    digest = destination.storage.index.tagged("app", "v1")
    assert digest is not None
    attached = [f"sha256-{digest.hex}{ending}" for ending in ("", ".sig", ".att", ".sbom")]
    fill(destination, "app", *attached)
    found, _ = await doomed(rule(source, "app", f"{destination.address}/{{path}}", prune=Prune(True, 0.34)))
    assert names(found) == ["app:v1"]
    assert not found[0].refused
    await delete(found)
    assert sorted(tags(destination)) == sorted(f"app:{tag}" for tag in ("v2", "v3", *attached))


async def test_tags_to_keep_are_kept(source: FaultyRegistry, destination: FaultyRegistry) -> None:
    """H5."""
    fill(source, "app", "v9")
    fill(destination, "app", "v1", "stable-1", "stable-2", "unstable-1")
    keeping = Prune(enabled=True, most=1.0, keep=("stable-*", "v?"))
    await prune(rule(source, "app", f"{destination.address}/{{path}}", prune=keeping))
    assert list(tags(destination)) == ["app:stable-1", "app:stable-2", "app:v1"]


async def test_a_tag_that_no_rule_would_write_is_not_touched(
    source: FaultyRegistry, destination: FaultyRegistry
) -> None:
    """H5: by the filters of the rule and by the names it gives."""
    fill(source, "app", "v2")
    fill(destination, "app", "m-v1", "m-v2", "m-rc1", "v1", "mv1", "m-", "m--x", "latest", "fixed-1")
    wanted = TagRule(include=("v*", "-*"), semver=None)
    await prune(rule(source, "app", f"{destination.address}/{{path}}:m-{{tag}}", keep=wanted))
    assert list(tags(destination)) == [
        f"app:{tag}" for tag in ("fixed-1", "latest", "m-", "m--x", "m-rc1", "m-v2", "mv1", "v1")
    ]
    await prune(rule(source, "app", f"{destination.address}/{{path}}:fixed"))
    assert "app:fixed-1" in tags(destination)


async def test_tags_that_fall_out_of_the_window_go(source: FaultyRegistry, destination: FaultyRegistry) -> None:
    """H5: the latest two are wanted, and no more."""
    versions = [f"1.{number}.0" for number in range(5)]
    fill(source, "app", *versions, "edge")
    fill(destination, "app", *versions, "edge")
    latest = TagRule(semver="1.x", latest=2, sort="semver")
    await prune(rule(source, "app", f"{destination.address}/{{path}}", keep=latest))
    assert list(tags(destination)) == ["app:1.3.0", "app:1.4.0", "app:edge"]


# several rules


async def test_what_another_rule_wants_stays(app: Rule, source: FaultyRegistry, destination: FaultyRegistry) -> None:
    """H5: of two rules with one destination each knows what the other writes."""
    fill(source, "other", "v1")
    fill(destination, "app", "v0")
    found, _ = await doomed(app, rule(source, "other", f"{destination.address}/app", line=2))
    assert names(found) == ["app:v0"]


async def test_a_rule_that_does_not_prune_protects_its_destinations(
    app: Rule, source: FaultyRegistry, destination: FaultyRegistry
) -> None:
    """H5: also when its source has vanished, and only its pattern tells that it may have written there."""
    fill(source, "other", "w2")
    off = rule(source, "other", f"{destination.address}/app", prune=OFF, line=2)
    assert (await doomed(app, off))[0] == []
    vanished = rule(source, "gone/**", f"{destination.address}/{{name}}", prune=OFF, line=2)
    assert (await doomed(app, vanished))[0] == []
    elsewhere = rule(source, "gone/**", f"{destination.address}/elsewhere/{{name}}", prune=OFF, line=2)
    assert names((await doomed(app, elsewhere))[0]) == ["app:v1"]


async def test_a_single_image_that_is_wanted_there_stays(
    app: Rule, source: FaultyRegistry, destination: FaultyRegistry
) -> None:
    """H5: it has no tags that anybody lists."""
    fill(source, "other", "x")
    single = Rule(
        line=2,
        image=Reference(Repository(source.address, "other"), "x"),
        to=(Template.parse(f"{destination.address}/app:v1"),),
    )
    assert (await doomed(app, single))[0] == []


async def test_the_strictest_of_several_rules_counts(
    source: FaultyRegistry, destination: FaultyRegistry, app: Rule
) -> None:
    """H5: its share, and everybody's tags to keep."""
    fill(source, "other", "w1")
    to = f"{destination.address}/app"
    strict = rule(source, "other", to, prune=Prune(enabled=True, most=0), line=2)
    assert [bool(deletion.refused) for deletion in (await doomed(app, strict))[0]] == [True]
    keeping = rule(source, "other", to, prune=Prune(enabled=True, most=1.0, keep=("v1",)), line=2)
    assert (await doomed(app, keeping))[0] == []


# how it is deleted


async def test_a_tag_goes_and_its_siblings_stay(app: Rule, source: FaultyRegistry, destination: FaultyRegistry) -> None:
    """H5: also where the image is the same."""
    digest = destination.storage.index.tagged("app", "v1")
    assert digest is not None
    destination.storage.put_tag("app", "v2", digest)
    await prune(app)
    assert tags(destination)["app:v2"] == str(digest)
    assert destination.get_manifest("app", str(digest)) is not None


async def test_where_only_digests_are_deleted_siblings_are_not_taken_along(
    app: Rule, destination: FaultyRegistry
) -> None:
    """H5: the tag stays, and that is reported."""
    only_digests(destination)
    digest = destination.storage.index.tagged("app", "v1")
    assert digest is not None
    destination.storage.put_tag("app", "v2", digest)
    outcome = await prune(app)
    assert [deleted.failure and deleted.failure.kind for deleted in outcome] == ["AsyncraneError"]
    assert "v2 names the same image" in str(outcome)
    assert len(tags(destination)) == 3


async def test_where_only_digests_are_deleted_what_is_all_to_go_goes_together(
    app: Rule, destination: FaultyRegistry
) -> None:
    """H5: two tags of one image, one request."""
    only_digests(destination)
    digest = destination.storage.index.tagged("app", "v1")
    assert digest is not None
    destination.storage.put_tag("app", "v0", digest)
    outcome = await prune(app)
    assert [(deleted.destination.rpartition(":")[2], deleted.digest) for deleted in outcome] == [
        ("v0", digest),
        ("v1", digest),
    ]
    assert list(tags(destination)) == ["app:v2", "app:v3"]
    assert len(destination.requests(kind="manifest-delete", digest=digest)) == 1


async def test_where_only_digests_are_deleted_an_image_of_an_index_stays(
    source: FaultyRegistry, destination: FaultyRegistry
) -> None:
    """H5: its index, which is tagged, would be broken."""
    only_digests(destination)
    index = random_index("multi", layers=[50])
    put(source, "app", index, "v2")
    put(destination, "app", index, "v2")
    child = index.manifest.children()[0].digest
    destination.storage.put_tag("app", "v2-amd64", child)
    outcome = await prune(rule(source, "app", f"{destination.address}/{{path}}"))
    assert "one of those of v2" in str(outcome)
    assert sorted(tags(destination)) == ["app:v2", "app:v2-amd64"]


async def test_an_image_that_is_wanted_by_digest_stays(
    app: Rule, source: FaultyRegistry, destination: FaultyRegistry
) -> None:
    """H5: where tags are deleted its tag goes, elsewhere nothing."""
    digest = destination.storage.index.tagged("app", "v1")
    assert digest is not None
    single = Rule(
        line=2,
        image=Reference(Repository(source.address, "other"), None, digest),
        to=(Template.parse(f"{destination.address}/app@{{digest}}"),),
    )
    only_digests(destination)
    outcome = await prune(app, single)
    assert "the image is to stay" in str(outcome)
    assert destination.get_manifest("app", "v1") is not None


async def test_a_sibling_that_cannot_be_asked_for_prevents_the_deletion(app: Rule, destination: FaultyRegistry) -> None:
    """H5: 403 is no answer to the question what a tag names."""
    only_digests(destination)
    found, _ = await doomed(app)
    destination.faults.add(status(403, kind="manifest-head", path="/v3$"))
    outcome = await delete(found)
    assert [deleted.failure and deleted.failure.status for deleted in outcome] == [403]
    assert len(tags(destination)) == 3


async def test_a_tag_that_has_moved_meanwhile_stays(app: Rule, destination: FaultyRegistry) -> None:
    """H5, G6: it was planned to go with another image."""
    found, _ = await doomed(app)
    fill(destination, "app", "v1")
    put(destination, "app", random_image("another", layers=[50]), "v1")
    outcome = await delete(found)
    assert "names another image" in str(outcome)
    assert "app:v1" in tags(destination)


async def test_a_tag_that_somebody_else_has_deleted_is_no_failure(app: Rule, destination: FaultyRegistry) -> None:
    found, _ = await doomed(app)
    destination.storage.delete_tag("app", "v1")
    assert await delete(found) == []


async def test_a_registry_like_googles_deletes_the_tag(source: FaultyRegistry) -> None:
    """H5: a manifest could not go before its tags there."""
    async with FaultyRegistry(google=True) as destination:
        fill(source, "app", "v2")
        fill(destination, "app", "v1", "v2")
        assert [d.failure for d in await prune(rule(source, "app", f"{destination.address}/{{path}}"))] == [None]
        assert list(tags(destination)) == ["app:v2"]


async def test_a_destination_that_cannot_be_listed_is_reported(app: Rule, destination: FaultyRegistry) -> None:
    """H5: that it was not pruned is not to be found out by chance."""
    destination.faults.add(status(403, kind="tags"))
    found, gathered = await doomed(app)
    assert found == []
    assert [(problem.repository, problem.failure.status) for problem in gathered.unreadable] == [
        (f"{destination.address}/app", 403)
    ]
