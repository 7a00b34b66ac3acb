"""Two repositories, or two trees of them, are compared; nothing is copied (G4)."""

from __future__ import annotations

import pytest

from asyncrane import NotFound
from asyncrane.mirror.verify import Totals
from asyncrane.registry.referrers import fallback_tag
from asyncrane.testing import FaultyRegistry, no_referrers, status
from asyncrane.testing.images import random_image
from tests.mirror.attachments import attach, cosign
from tests.mirror.both import INDEX, Both
from tests.promises.images import image, noise, put


@pytest.fixture
def both(source: FaultyRegistry, destination: FaultyRegistry) -> Both:
    return Both(source, destination)


async def test_g4_diff_of_two_repositories_compares_tags_and_what_they_name(both: Both) -> None:
    """Only reads; shallow, only tags and HEADs."""
    both.fill(INDEX, "same", "moved")
    put(both.source, "app", INDEX, "only-a")
    put(both.destination, "copy", random_image("b"), "moved", "only-b")
    assert await both.diff() == Totals(4, 3)
    a, b = f"{both.source.address}/app", f"{both.destination.address}/copy"
    assert both.told == [
        {"kind": "missing", "source": f"{a}:only-a", "destination": f"{b}:only-a"},
        {"kind": "extra", "destination": f"{b}:only-b"},
        {
            "kind": "different",
            "source": f"{a}:moved",
            "destination": f"{b}:moved",
            "expected": INDEX.digest,
            "found": random_image("b").digest,
        },
    ]
    assert both.destination.log.counts() == {"ping": 1, "tags": 1, "manifest-head": 2}
    assert both.only_read()


async def test_g4_diff_of_a_mirror_in_another_style_finds_nothing(both: Both) -> None:
    """Tags that stand in for the referrers API are each registry's own business."""
    both.destination.faults.add(no_referrers())
    both.fill(INDEX, "1")
    attach(both.source, "app", INDEX.manifest, "signature")
    attach(both.destination, "copy", INDEX.manifest, "signature", api=False)
    assert await both.diff(deep=True) == Totals(1, 0)
    both.destination.storage.delete_tag("copy", fallback_tag(INDEX.digest))
    assert await both.diff(deep=True) == Totals(1, 1)
    assert both.kinds() == {"missing-referrer": 1}


async def test_g4_a_deep_diff_tells_of_a_missing_signature_by_tag_once(both: Both) -> None:
    both.fill(INDEX, "1")
    tag = cosign(both.source, "app", INDEX.digest, "sig", image("sig", [noise("sig", 10)]))
    assert await both.diff(deep=True) == Totals(2, 1)
    assert [(t["kind"], t["destination"]) for t in both.told] == [("missing", f"{both.destination.address}/copy:{tag}")]


async def test_g4_diff_of_two_trees_matches_repositories_by_the_rest_of_their_names(both: Both) -> None:
    for registry, prefix, names in (
        (both.source, "team", ("one", "deep/two", "only-a")),
        (both.destination, "mirror/team", ("one", "deep/two", "only-b")),
        (both.destination, "mirror/teams", ("other",)),
    ):
        for name in names:
            put(registry, f"{prefix}/{name}", INDEX, "1", "2")
    both.destination.storage.delete_tag("mirror/team/deep/two", "2")
    assert await both.diff("team", "mirror/team/", recursive=True) == Totals(4, 3)
    a, b = f"{both.source.address}/team", f"{both.destination.address}/mirror/team"
    assert both.told == [
        {"kind": "missing-repository", "source": f"{a}/only-a"},
        {"kind": "extra-repository", "destination": f"{b}/only-b"},
        {"kind": "missing", "source": f"{a}/deep/two:2", "destination": f"{b}/deep/two:2"},
    ]


async def test_g4_diff_of_whole_registries_goes_on_after_a_repository_that_cannot_be_listed(both: Both) -> None:
    for registry in (both.source, both.destination):
        for name in ("one", "broken"):
            put(registry, name, INDEX, "1")
    both.destination.faults.add(status(500, kind="tags", path="/broken/"))
    assert await both.diff("", "", recursive=True) == Totals(1, 1)
    assert both.kinds() == {"unreadable": 1}


async def test_diff_of_a_repository_that_is_nowhere_is_an_error(both: Both) -> None:
    """On one side it is a difference."""
    with pytest.raises(NotFound):
        await both.diff()
    put(both.source, "app", INDEX, "1")
    assert await both.diff() == Totals(0, 1)
    assert both.kinds() == {"missing-repository": 1}
