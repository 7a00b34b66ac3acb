"""Tag selection (H1): real tag names, every way to choose among them, alone and together."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta

import pytest
from hypothesis import given
from hypothesis import strategies as st

from asyncrane.errors import InvalidInput
from asyncrane.mirror.select import choose, needs_created
from asyncrane.mirror.spec import TagRule

HEX = "9f86d081884c7d659a2feaa0c55ad015a3bf4f1b2b0b822cd15d6c15b0f00a08"

NGINX = ["1.25.3", "1.25.3-alpine", "1.25.3-alpine3.18", "1.25.3-alpine-slim", "1.25.3-bookworm", "1.25.3-perl"]
NGINX += ["1.25", "1.25-alpine", "1.26.2", "1.27.0", "1.9.15", "1", "latest", "stable", "mainline-alpine", "alpine3.19"]
KUBERNETES = [
    "v1.29.0",
    "v1.29.0-rc.1",
    "v1.29.1",
    "v1.30.0-alpha.3",
    "v1.30.0-beta.0",
    "v1.30.0",
    "v1.30.10",
    "v1.9.11",
]
K3S = ["v1.27.3-k3s1", "v1.28.2-k3s1", "v1.28.2-rc1-k3s1"]
UBUNTU = ["24.04", "22.04", "noble-20240801", "noble", "jammy-20240627.1", "20.04"]
POSTGRES = ["16", "16-alpine", "16.4", "16.4-bookworm", "15.8", "17beta3"]
JAVA = ["11.0.16_8-jdk", "11.0.16_8", "8u302-b08-jdk", "21-jre"]
DATES = ["2024.05.1", "2024-05-01", "20240501", "20240501.123456-abc", "2024.5.1", "RELEASE.2024-05-01T01-11-10Z"]
HASHES = ["3f2a1b9", "1234567", "main-3f2a1b9c", f"sha-{HEX[:7]}", "git-0a1b2c3"]
CUDA = ["12.2.0-runtime-ubuntu20.04", "12.2.0-devel-ubuntu22.04", "11.8.0-cudnn8-runtime"]
ODD = ["1.2.3.4", "4.18.0.1-2", "v2", "V3.1.0", "01.2.3", "1..2", "nightly", "pr-1234", "_", "1.2.3_build.5"]
COSIGN = [f"sha256-{HEX}", f"sha256-{HEX}.sig", f"sha256-{HEX}.att", f"sha256-{HEX}.sbom", f"sha512-{HEX}"]

ALL = NGINX + KUBERNETES + K3S + UBUNTU + POSTGRES + JAVA + DATES + HASHES + CUDA + ODD + COSIGN
ORDINARY = ALL[: -len(COSIGN)]


def test_the_table_has_at_least_sixty_tags() -> None:
    """H1 asks for so many."""
    assert len(ALL) == len(set(ALL)) >= 60


@pytest.mark.parametrize(
    ("rule", "expected"),
    [
        pytest.param(TagRule(), ORDINARY, id="everything but digest tags"),
        pytest.param(TagRule(digest_tags=True), ALL, id="digest tags too"),
        pytest.param(
            TagRule(include=("sha256-*.sig",), digest_tags=True), [f"sha256-{HEX}.sig"], id="one kind of these"
        ),
        pytest.param(TagRule(include=("1.25.3", "v1.30.0", "no-such")), ["1.25.3", "v1.30.0"], id="an exact list"),
        pytest.param(
            TagRule(include=("1.25.3*",), exclude=("*-slim", "*-perl")),
            ["1.25.3", "1.25.3-alpine", "1.25.3-alpine3.18", "1.25.3-bookworm"],
            id="globs, and others",
        ),
        pytest.param(TagRule(include=("1.2[67].?",)), ["1.26.2", "1.27.0"], id="sets and single characters"),
        pytest.param(TagRule(include=("V*",)), ["V3.1.0"], id="case matters"),
        pytest.param(
            TagRule(regex=r"\d+\.\d+"), ["1.25", "24.04", "22.04", "20.04", "16.4", "15.8"], id="a full match"
        ),
        pytest.param(
            TagRule(semver=">=1.20 <2"),
            ["1.25.3", "1.25", "1.26.2", "1.27.0", "v1.29.0", "v1.29.1", "v1.30.0", "v1.30.10"],
            id="a range leaves suffixes out",
        ),
        pytest.param(
            TagRule(semver=">=1.29.0-0 <1.30"),
            ["v1.29.0", "v1.29.0-rc.1", "v1.29.1"],
            id="a range that names a suffix has them, but none of its upper end",
        ),
        pytest.param(TagRule(semver="~1.30"), ["v1.30.0", "v1.30.10"], id="a minor version"),
        pytest.param(TagRule(semver="1.x", exclude=("v*",)), [*NGINX[:1], *NGINX[6:7], *NGINX[8:12], "1.2.3_build.5"]),
        pytest.param(TagRule(semver=">=15 <18"), ["16", "16.4", "15.8"], id="one and two numbers are versions"),
        pytest.param(TagRule(semver=">=2000"), ["2024.5.1"], id="dates and hashes are no versions"),
        pytest.param(TagRule(semver="^11 || ^21"), ["11.0.16_8"], id="alternatives"),
        pytest.param(
            TagRule(regex=r"(.*)-alpine", semver=">=1.20"),
            ["1.25.3-alpine", "1.25-alpine", "16-alpine"],
            id="the first group is the version",
        ),
        pytest.param(
            TagRule(regex=r"v(?P<version>[\d.]+)-(?:(rc)\d-)?k3s\d", semver=">=1.28"),
            ["v1.28.2-k3s1", "v1.28.2-rc1-k3s1"],
            id="the group named version is the version",
        ),
        pytest.param(
            TagRule(include=("v1.*",), exclude=("*-*",), latest=2, sort="semver"),
            ["v1.30.0", "v1.30.10"],
            id="the latest by version: 30 comes after 9",
        ),
        pytest.param(
            TagRule(include=("v1.3*", "nightly", "latest"), latest=3, sort="semver"),
            ["v1.30.0-beta.0", "v1.30.0", "v1.30.10"],
            id="what is no version is not the latest one",
        ),
        pytest.param(
            TagRule(regex=r"12\.2\.0-(\w+)-ubuntu.*|11.8.0-(.*)", latest=1, sort="name"),
            ["12.2.0-runtime-ubuntu20.04"],
            id="the latest by name of a group",
        ),
        pytest.param(
            TagRule(include=("noble-*", "jammy-*"), latest=1, sort="name"), ["noble-20240801"], id="the last by name"
        ),
        pytest.param(TagRule(include=("nothing-*",), latest=5, sort="semver"), [], id="none"),
    ],
)
def test_tags_are_chosen_as_told(rule: TagRule, expected: list[str]) -> None:
    """H1: each rule means these of the table, in the order of the list."""
    assert choose(ALL, rule) == expected
    assert choose(ALL[::-1], rule) == expected[::-1], "the order of the list changes nothing but the order"


NOW = datetime(2024, 8, 1, tzinfo=UTC)
MADE = {tag: NOW - timedelta(days=30 * number) for number, tag in enumerate(KUBERNETES)}


@pytest.mark.parametrize(
    ("rule", "expected"),
    [
        (TagRule(since=timedelta(days=60)), KUBERNETES[:3]),
        (TagRule(since=datetime(2024, 7, 1, tzinfo=UTC)), KUBERNETES[:2]),
        (TagRule(latest=2, sort="created"), KUBERNETES[:2]),
        (TagRule(latest=1, sort="created", exclude=("v1.29.*",)), ["v1.30.0-alpha.3"]),
        (TagRule(latest=1, sort="semver", since=timedelta(days=60)), ["v1.29.1"]),
    ],
)
def test_age_counts_where_it_is_asked_for(rule: TagRule, expected: list[str]) -> None:
    """H1: since, and the latest by creation; what nobody knows the age of is left out."""
    assert needs_created(rule)
    assert choose([*KUBERNETES, "unknown", "v9.9.9"], rule, created=MADE, now=NOW) == expected


def test_age_is_not_asked_for_where_names_decide() -> None:
    assert not needs_created(TagRule(latest=3, sort="semver", semver=">=1"))


def test_age_must_be_known_where_it_counts() -> None:
    with pytest.raises(ValueError, match="when the images were made"):
        choose(["1"], TagRule(since=timedelta(days=1)))


def test_latest_without_what_it_goes_by_is_an_error_that_names_the_choices() -> None:
    """H1: the sort key is always named."""
    with pytest.raises(InvalidInput, match="semver, created or name"):
        TagRule(latest=1)


def test_numbers_in_names_are_numbers() -> None:
    tags = ["build-9", "build-10", "build-010", "build-1a", "build"]
    assert choose(tags, TagRule(latest=2, sort="name")) == ["build-10", "build-010"]


def test_equal_versions_are_told_apart_by_name() -> None:
    """Else which one is chosen would depend on the order in which a registry lists them."""
    for tags in (["1.2.3", "v1.2.3"], ["v1.2.3", "1.2.3"]):
        assert choose(tags, TagRule(latest=1, sort="semver")) == ["v1.2.3"]


TEXTS = st.text(alphabet="abv019.-_xXrcé٣\n", max_size=20) | st.sampled_from(ALL)


@given(
    tags=st.lists(TEXTS, max_size=12, unique=True), latest=st.integers(1, 5), sort=st.sampled_from(["semver", "name"])
)
def test_no_tag_is_too_odd(tags: list[str], latest: int, sort: str) -> None:
    """Whatever a registry lists: the choice is of it, in its order, and no more than asked for."""
    rule = TagRule(latest=latest, sort=sort, semver="*" if sort == "semver" else None)  # type: ignore[arg-type]
    chosen = choose(tags, rule)
    assert chosen == [tag for tag in tags if tag in set(chosen)]
    assert len(chosen) <= latest


def test_a_digest_that_is_cut_off_is_a_tag_like_others() -> None:
    assert choose(["sha256-abc", f"sha256-{HEX[:63]}"], TagRule()) == ["sha256-abc", f"sha256-{HEX[:63]}"]
