"""Registries as they are: a fleet copies completely to and from each, and what one of them does otherwise is learned
with one wasted request, or none.
"""

from __future__ import annotations

import contextlib
import os
from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Any

import pytest

from asyncrane import Campaign, Failure, Journal, Pair, RegistryError, Session, copy, copy_all, load_mirror
from asyncrane.testing import FaultyRegistry, LoggedRequest, limit_body
from asyncrane.testing.images import Sample, random_image, random_index
from asyncrane.testing.profiles import PROFILES
from tests.faults.table import LIKE
from tests.images.samples import attested
from tests.mirror.attachments import attach, tree
from tests.promises.images import image, incomplete, noise, put, tags

MIB = 1024 * 1024
ALL = os.environ.get("ASYNCRANE_FAULTS") == "all"
BRIEF: dict[str, Any] = {"retry_base": 0.01, "retry_max_time": 20.0}
REPOSITORIES = ("team/app", "team/tool", "other/base")
WORDS = {"ecr": REPOSITORIES, "harbor": ("team", "other")}
"""What has to be there before anybody pushes."""

_ABSENCE = frozenset({"manifest-head", "manifest-get", "blob-head", "tags"})

Waste = Mapping[tuple[str, int], int]
"""Requests in vain that are allowed, by kind and answer."""


@dataclass(frozen=True)
class Profile:
    """``to`` and ``since`` are what may be wasted on it as a destination and as a source; ``api`` says whether it has
    the referrers API, ``absent`` how it says that something is not there.
    """

    to: Waste
    since: Waste
    api: bool = True
    absent: int = 404


_NO_API: Waste = {("referrers", 404): 1}

EXPECTED: Mapping[str, Profile] = {
    "acr": Profile({("upload-put", 413): 1}, {}),
    "artifactory": Profile({("upload-put", 404): 1}, {}, absent=403),
    "distribution-2.8": Profile(_NO_API, _NO_API, api=False),
    "docker-hub": Profile(_NO_API, _NO_API, api=False),
    "ecr": Profile(_NO_API, _NO_API, api=False),
    "gar": Profile({}, {}),
    "ghcr": Profile({("referrers", 303): 1}, {("referrers", 303): 1}, api=False),
    "gitlab": Profile({("mount", 401): 1, **_NO_API}, _NO_API, api=False),
    "harbor": Profile({("mount", 401): 1}, {}),
    "nexus": Profile(_NO_API, _NO_API, api=False),
    "quay": Profile({}, {}),
    "zot": Profile({}, {}),
}


def make(name: str) -> FaultyRegistry:
    """A registry of this profile that a fleet can be pushed to."""
    return PROFILES[name](*WORDS.get(name, ()))


@cache
def fleet() -> dict[str, Sample]:
    """The images by name."""
    a, b, c, d = (noise(f"layer {n}", 60_000 + 90_000 * n) for n in range(4))
    large = noise("large", 11 * MIB)
    return {
        "team/app:v1": image("app 1", [a, b, large]),
        "team/app:v2": image("app 2", [a, c]),
        "team/app:multi": attested(random_index("app 3", layers=(500, 30_000))),
        "team/tool:v1": image("tool 1", [a, large]),
        "team/tool:v2": image("tool 2", [b]),
        "other/base:v1": image("base 1", [a]),
        "other/base:v2": image("base 2", [c, d]),
    }


def fill(registry: FaultyRegistry, *, api: bool) -> Sample:
    """Seven images in three repositories that share layers, one of them large; one is an index with attestations, to
    one something is attached, which is returned.
    """
    images = fleet()
    for name, sample in images.items():
        repository, _, tag = name.partition(":")
        put(registry, repository, sample, tag)
    signed = images["team/tool:v1"]
    attach(registry, "team/tool", signed.manifest, "signature", api=api)
    return signed


async def copied(source: FaultyRegistry, destination: FaultyRegistry, home: Path) -> list[Failure]:
    """Everything with all that is attached; what failed."""
    pairs = [Pair(f"{source.address}/{name}", (f"{destination.address}/{name}",)) for name in REPOSITORIES]
    async with Session(**BRIEF) as session:
        outcomes = await copy_all(session, pairs, all_tags=True, referrers=True)
    return [outcome.failure for outcome in outcomes if outcome.failure is not None]


async def mirrored(source: FaultyRegistry, destination: FaultyRegistry, home: Path) -> list[Failure]:
    """The same with a journal: large blobs are sent so that another process could go on."""
    path = home / "mirror.yaml"
    rules = [f"{{from: {source.address}/{name}, to: {destination.address}/{name}}}" for name in REPOSITORIES]
    path.write_text("\n  - ".join(["version: 1\nmirrors:", *rules]))
    with contextlib.closing(Journal.open(home / "journal.db")) as journal:
        async with Session(**BRIEF, journal=journal) as session:
            report = await Campaign(session, journal).apply(load_mirror(path), name=path)
    return [*(lost.failure for lost in report.failures), *(lost.failure for lost in report.unreadable)]


HOW = {"cp": copied, "mirror apply": mirrored}


def wasted(registry: FaultyRegistry, *, absent: int = 404) -> Counter[tuple[str, int]]:
    """Requests that led to nothing: refusals, and redirections to nowhere, but not that what was asked for is absent;
    each donor that refuses is a fact of its own.
    """

    def is_waste(request: LoggedRequest) -> bool:
        asks = request.kind in _ABSENCE and request.status in (404, absent)
        return not asks and (request.status >= 400 or request.status == 303)

    counts = Counter((r.kind, r.status, r.query.partition("from=")[2]) for r in registry.log if is_waste(r))
    most: Counter[tuple[str, int]] = Counter()
    for (kind, status, _), count in counts.items():
        most[kind, status] = max(count, most[kind, status])
    return most


def each(first: int) -> list[Any]:
    """Every profile with every operation, or (``ASYNCRANE_FAULTS`` is not ``all``) with one or the other."""
    ways = [*HOW]
    return [
        pytest.param(name, operation, marks=pytest.mark.cell(LIKE[name], operation), id=f"{name}-{operation}")
        for number, name in enumerate(PROFILES)
        for operation in (ways if ALL else [ways[(number + first) % 2]])
    ]


@pytest.mark.parametrize(("name", "operation"), each(1))
async def test_a_fleet_is_copied_to_it(tmp_path: Path, name: str, operation: str) -> None:
    profile = EXPECTED[name]
    async with FaultyRegistry() as source, make(name) as destination:
        signed = fill(source, api=True)
        assert await HOW[operation](source, destination, tmp_path) == []
        assert {k: v for k, v in tags(destination).items() if ":sha256-" not in k} == tags(source)
        assert incomplete(destination) == []
        attached = tree(source, "team/tool", signed.digest)
        assert tree(destination, "team/tool", signed.digest, api=profile.api) == attached
        assert wasted(destination, absent=profile.absent) <= Counter(profile.to)
        assert destination.open_uploads == 0


@pytest.mark.parametrize(("name", "operation"), each(0))
async def test_a_fleet_is_copied_from_it(tmp_path: Path, name: str, operation: str) -> None:
    profile = EXPECTED[name]
    async with make(name) as source, FaultyRegistry() as destination:
        signed = fill(source, api=profile.api)
        assert await HOW[operation](source, destination, tmp_path) == []
        assert incomplete(destination) == []
        wanted = {k: v for k, v in tags(source).items() if ":sha256-" not in k}
        assert {k: v for k, v in tags(destination).items() if ":sha256-" not in k} == wanted
        attached = tree(source, "team/tool", signed.digest, api=profile.api)
        assert tree(destination, "team/tool", signed.digest) == attached
        assert wasted(source, absent=profile.absent) <= Counter(profile.since)


@pytest.mark.parametrize(("name", "limit"), [("ecr", 8 * MIB), ("ghcr", 7 * MIB)])
async def test_pieces_are_such_as_it_takes(tmp_path: Path, name: str, limit: int) -> None:
    """Behind a proxy that takes no whole blob of that size."""
    async with FaultyRegistry() as source, make(name) as destination:
        fill(source, api=True)
        destination.faults.add(limit_body(limit))
        assert await copied(source, destination, tmp_path) == []
        assert incomplete(destination) == []
        refused = wasted(destination)
        assert refused["upload-put", 413] == 1
        assert refused["upload-patch", 416] <= 1
        assert destination.open_uploads == 0


async def test_what_zot_does_not_take_is_offered_once() -> None:
    """Docker's media types: nothing is converted unasked, and the layers that came for nothing are not tagged."""
    sample = random_image("docker", docker=True)
    async with FaultyRegistry() as source, make("zot") as destination:
        name = put(source, "app", sample, "v1")
        async with Session(**BRIEF) as session:
            with pytest.raises(RegistryError, match="415"):
                await copy(session, name, f"{destination.address}/app:v1")
        assert wasted(destination) == {("manifest-put", 415): 1}
        assert tags(destination) == {}
        assert destination.open_uploads == 0
