"""Versions and ranges of them, against tables and against the ``semver`` package."""

from __future__ import annotations

import pytest
import semver
from hypothesis import given
from hypothesis import strategies as st

from asyncrane.errors import InvalidInput
from asyncrane.mirror.versions import Range, parse_version

VERSIONS = [
    "0.0.3",
    "0.0.4",
    "0.2.3",
    "0.2.9",
    "0.3.0",
    "1.0.0",
    "1.2.0",
    "1.2.3-rc.1",
    "1.2.3",
    "1.2.9",
    "1.3.0",
    "1.4.9",
    "1.5.0",
    "2.0.0-rc.1",
    "2.0.0",
    "3.1.4",
]


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("1.2.3", "1.2.3"),
        ("v1.2.3", "1.2.3"),
        ("=1.2", "1.2.0 1.2.3 1.2.9"),
        ("1.2.x", "1.2.0 1.2.3 1.2.9"),
        ("1.X", "1.0.0 1.2.0 1.2.3 1.2.9 1.3.0 1.4.9 1.5.0"),
        ("!=1.2", "0.0.3 0.0.4 0.2.3 0.2.9 0.3.0 1.0.0 1.3.0 1.4.9 1.5.0 2.0.0 3.1.4"),
        (">1.2", "1.3.0 1.4.9 1.5.0 2.0.0 3.1.4"),
        (">1.2.3", "1.2.9 1.3.0 1.4.9 1.5.0 2.0.0 3.1.4"),
        (">=1.4.9,<3", "1.4.9 1.5.0 2.0.0"),
        (">=1.4.9 <= 2", "1.4.9 1.5.0 2.0.0"),
        ("<0.2", "0.0.3 0.0.4"),
        ("<=0.2", "0.0.3 0.0.4 0.2.3 0.2.9"),
        ("<=0.2.3", "0.0.3 0.0.4 0.2.3"),
        ("^1.2.3", "1.2.3 1.2.9 1.3.0 1.4.9 1.5.0"),
        ("^0.2.3", "0.2.3 0.2.9"),
        ("^0.0.3", "0.0.3"),
        ("^0.0", "0.0.3 0.0.4"),
        ("^0", "0.0.3 0.0.4 0.2.3 0.2.9 0.3.0"),
        ("~1.2.3", "1.2.3 1.2.9"),
        ("~1.2", "1.2.0 1.2.3 1.2.9"),
        ("~1", "1.0.0 1.2.0 1.2.3 1.2.9 1.3.0 1.4.9 1.5.0"),
        ("1.2.9 - 1.4", "1.2.9 1.3.0 1.4.9"),
        ("1.2.9 - 1.4.9", "1.2.9 1.3.0 1.4.9"),
        ("0.3 || 3.x || 1.0.0", "0.3.0 1.0.0 3.1.4"),
        (">=1.2.3-0 <2.0.0", "1.2.3-rc.1 1.2.3 1.2.9 1.3.0 1.4.9 1.5.0"),
        ("1.2.3-rc.1", "1.2.3-rc.1"),
        (">=2.0.0-rc.1 !=2.0.0", "2.0.0-rc.1 3.1.4"),
        (">=1 !=1.3.0 <2 !=1.5", "1.0.0 1.2.0 1.2.3 1.2.9 1.4.9"),
        ("<1.2.3-rc.2 >=1.2.3-rc.1", "1.2.3-rc.1"),
        (" >= 3 ", "3.1.4"),
        ("*", "0.0.3 0.0.4 0.2.3 0.2.9 0.3.0 1.0.0 1.2.0 1.2.3 1.2.9 1.3.0 1.4.9 1.5.0 2.0.0 3.1.4"),
        (">2 <1", ""),
    ],
)
def test_a_range_holds(text: str, expected: str) -> None:
    """Ranges mean what npm's mean, but for pre-releases (see the module)."""
    within = Range.parse(text)
    assert [version for version in VERSIONS if _key(version) in within] == expected.split()


@pytest.mark.parametrize(
    "text",
    [
        "",
        " ",
        "||",
        ">=1 ||",
        "1.x.3",
        "1.x-rc",
        "<*",
        "!=*",
        "abc",
        ">=",
        "1.2.3.4",
        "1.2 -",
        "=>1",
        "~>1",
        ">=1.2;<2",
        "1.2 - 1.3 - 1.4",
        "^",
        "1,2 - 3",
        "9" * 19,
        ">=01.2",
    ],
)
def test_what_is_no_range_is_refused(text: str) -> None:
    with pytest.raises(InvalidInput, match="not a version range"):
        Range.parse(text)


numbers = st.integers(0, 3)
suffixes = st.sampled_from(["", "", "", "-0", "-1", "-rc", "-rc.1", "-rc.2", "-rc.10", "-rc.1.a", "-alpha-1", "-1a"])
versions = st.builds("{}.{}.{}{}".format, numbers, numbers, numbers, suffixes)


@given(versions, versions)
def test_versions_are_ordered_as_the_specification_says(one: str, other: str) -> None:
    expected = semver.Version.parse(one).compare(other)
    mine = (_key(one) > _key(other)) - (_key(one) < _key(other))
    assert mine == expected


@given(versions, st.sampled_from([">", ">=", "<", "<=", "==", "!="]), versions)
def test_comparators_agree_with_the_semver_package(version: str, operator: str, bound: str) -> None:
    """Where pre-releases count because the bound is one, or play no part because neither is."""
    found = semver.Version.parse(version)
    edge = semver.Version.parse(bound)
    if found.prerelease and not edge.prerelease:
        assert _key(version) not in Range.parse(f"{operator.replace('==', '=')}{bound}")
    else:
        assert (_key(version) in Range.parse(f"{operator.replace('==', '=')}{bound}")) == found.match(operator + bound)


@given(st.text(alphabet="0123 .xX*<>=!^~|,-vrca", max_size=24), versions)
def test_any_text_is_a_range_or_an_error(text: str, version: str) -> None:
    try:
        within = Range.parse(text)
    except InvalidInput:
        return
    assert (_key(version) in within) in (True, False)


@given(st.sampled_from(["^", "~"]), numbers, numbers, numbers, versions)
def test_carets_and_tildes_hold_numbers_fixed(operator: str, major: int, minor: int, patch: int, version: str) -> None:
    """Nothing below, and no other first number (minor number) than that of the bound."""
    found, bound = semver.Version.parse(version), semver.Version(major, minor, patch)
    fixed = 2 if operator == "~" else next((at for at, number in enumerate((major, minor, patch), 1) if number), 3)
    expected = found >= bound and found.to_tuple()[:fixed] == bound.to_tuple()[:fixed] and not found.prerelease
    assert (_key(version) in Range.parse(f"{operator}{bound}")) == expected


def _key(version: str) -> tuple[int, int, int, tuple[object, ...]]:
    key = parse_version(version)
    assert key is not None
    return key
