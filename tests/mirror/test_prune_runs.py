"""Whole runs that prune: as planned, and not where anything went wrong (H5)."""

from __future__ import annotations

import pytest

from asyncrane.mirror.plan import MirrorPlan
from asyncrane.mirror.prune import Deletion, spared
from asyncrane.oci.reference import Repository
from asyncrane.testing import FaultyRegistry, set_headers, status
from asyncrane.testing.images import random_image
from tests.mirror.pruning import fill, names
from tests.mirror.runs import Mirror
from tests.promises.images import put, tags


def test_where_an_image_failed_nothing_is_deleted() -> None:
    """H5: whatever form the failed destination has."""
    doomed = [Deletion(Repository("r:5000", path), "v1") for path in ("a", "b", "c", "d")]
    failed = ["r:5000/a:x", f"r:5000/b@sha256:{'0' * 64}", "r:5000/c"]
    assert [deletion.repository.path for deletion in spared(doomed, failed)] == ["d"]


async def test_a_run_prunes_what_its_plan_shows(
    mirror: Mirror, source: FaultyRegistry, destination: FaultyRegistry
) -> None:
    """H5, I3: and a plan that is carried out later deletes what it lists."""
    fill(source, "app", "v2", "v3")
    fill(destination, "app", "v1", "other")
    rules = "{from: A/app, to: B/app, tags: {include: [v*]}, prune: {enabled: true, max: 50%}}"
    mirror.rules(rules)
    plan = await mirror.plan()
    assert names(plan.deletions) == ["app:v1"]
    assert mirror.written() == []
    assert plan.registries[destination.address].requests["DELETE manifests"] == 1
    report = await mirror.apply(plan=MirrorPlan.decode(plan.encode(), name="plan.json"))
    assert [deleted.failure for deleted in report.deleted] == [None]
    assert list(tags(destination)) == ["app:other", "app:v2", "app:v3"]
    fill(destination, "app", "v1")
    plan = await mirror.plan()
    report = await mirror.apply()
    assert [deleted.destination for deleted in report.deleted] == [f"{destination.address}/app:v1"]
    assert {registry: cost.requests for registry, cost in plan.registries.items()} == report.statistics.requests
    assert (await mirror.plan()).deletions == ()


@pytest.mark.parametrize("planned", [True, False])
async def test_where_a_copy_fails_nothing_is_pruned(
    mirror: Mirror, source: FaultyRegistry, destination: FaultyRegistry, planned: bool
) -> None:
    """H5: what is to replace the old tags has not arrived."""
    fill(source, "app", "v2")
    fill(destination, "app", "v1")
    mirror.rules("{from: A/app, to: B/app, prune: {enabled: true, max: 100%}}")
    plan = await mirror.plan() if planned else None
    destination.faults.add(status(403, kind="manifest-put"))
    report = await mirror.apply(plan=plan)
    assert report.status == "failed"
    assert report.deleted == ()
    assert list(tags(destination)) == ["app:v1"]


LISTED = {
    "refused": status(403, kind="tags", path="/app/"),
    "cut": status(200, body=b'{"tags": ["v2"', kind="tags", path="/app/"),
    "no-next-page": set_headers({"Link": '</v2/gone/tags/list?last=v2>; rel="next"'}, kind="tags", path="/app/"),
    "error": status(200, kind="tags", path="/app/"),
}


@pytest.mark.parametrize("how", LISTED)
async def test_a_run_whose_source_is_listed_badly_prunes_nothing(
    mirror: Mirror, source: FaultyRegistry, destination: FaultyRegistry, how: str
) -> None:
    """H5: neither now nor by its plan, nor when it is resumed or tried again."""
    fill(source, "app", "v2")
    fill(destination, "app", "v1")
    mirror.rules("{from: A/app, to: B/app, prune: {enabled: true, max: 100%}}")
    source.faults.add(LISTED[how])
    plan = await mirror.plan()
    assert (plan.deletions, plan.troubled) == ((), True)
    report = await mirror.apply()
    for run in (report, await mirror.apply(plan=plan), await mirror.resume(report.run), await mirror.retry(report.run)):
        assert (run.status, run.deleted) == ("failed", ())
    assert list(tags(destination)) == ["app:v1"]


async def test_a_source_that_has_not_one_tag_left_prunes_nothing(
    mirror: Mirror, source: FaultyRegistry, destination: FaultyRegistry
) -> None:
    """H5: a registry that lost its data looks like this; where one tag is left, the others were deleted."""
    put(source, "app", random_image("untagged", layers=[50]))
    fill(destination, "app", "v1")
    mirror.rules("{from: A/app, to: B/app, prune: {enabled: true, max: 100%}}")
    report = await mirror.apply()
    assert (report.status, report.deleted, report.unreadable) == ("done", (), ())
    assert list(tags(destination)) == ["app:v1"]
    fill(source, "app", "v2")
    assert len((await mirror.apply()).deleted) == 1
    assert list(tags(destination)) == ["app:v2"]
