"""Expressions and ranges of other tools choose the same tags here, or are named."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from asyncrane.mirror.convert import patterns
from asyncrane.mirror.select import choose
from asyncrane.mirror.spec import TagRule
from asyncrane.mirror.versions import Range, parse_version
from tests.mirror.converting import TAGS, convert, loaded


@pytest.mark.parametrize(
    ("regex", "tags"),
    [
        ("^v1", ["v1.0.0", "v1.2.3", "v1.2.3-rc.1"]),
        ("alpine$", ["1.13.1-alpine"]),
        ("^3$", ["3"]),
        ("rc|edge", ["edge", "v1.2.3-rc.1"]),
        ("^3|^v2", ["3", "3.18", "3.19", "3.20.1", "v2.0.0"]),
        (r"^v(1|2)\.0\.(\d+)$", ["v1.0.0", "v2.0.0"]),
        (r"(?i)^LATEST$", ["latest"]),
        (r"(?P<any>[|(]|e)dge", ["edge"]),
    ],
)
def test_an_expression_that_go_searches_selects_the_same_here(regex: str, tags: list[str]) -> None:
    assert choose(TAGS, TagRule(regex=patterns.searched(regex))) == tags


@pytest.mark.parametrize("regex", ["[[:alpha:]]+", r"\pL", "a(", "*", r"\Qa\E"])
def test_an_expression_that_python_does_not_know_is_named(tmp_path: Path, regex: str) -> None:
    made = convert(tmp_path, f"nginx:/{regex}/: registry.local/x\nquay.io/a: registry.local/y\n")
    assert len(loaded(tmp_path, made.text).rules) == 1
    assert any("nginx" in note and "left out" in note for note in made.notes)


@pytest.mark.parametrize(
    ("constraint", "inside", "outside"),
    [
        (">= 3.12.0", "3.12", "3.11.9"),
        (">=1, <2", "1.9", "2.0"),
        ("~>1.2", "1.2.9", "1.3"),
        ("=>1 =<1.4", "1.4.9", "1.5"),
        ("^0.2.3", "0.2.9", "0.3"),
        ("1.2 - 1.4.5", "1.4.5", "1.4.6"),
        ("1.x || >=3", "3.1", "2.1"),
    ],
)
def test_a_constraint_of_go_holds_for_the_same_versions(constraint: str, inside: str, outside: str) -> None:
    """Masterminds' semver, of skopeo."""
    wanted = Range.parse(patterns.version_range(constraint))
    versions = [parse_version(inside), parse_version(outside)]
    assert [version is not None and version in wanted for version in versions] == [True, False]


RELEASES = ["0.0.2", "0.9.0", "1", "1.2", "1.2.0-rc.1", "v1.2.1", "1.9-alpine", "2.0.0-rc.1", "2", "2.1.0", "3-rc.1"]


@pytest.mark.parametrize(
    ("constraint", "tags"),
    [
        (">=1.2 <2", ["1.2", "v1.2.1", "1.9-alpine", "2.0.0-rc.1"]),
        (">1.2 <=2", ["v1.2.1", "1.9-alpine", "2.0.0-rc.1", "2"]),
        ("^1.2", ["1.2", "v1.2.1", "1.9-alpine", "2.0.0-rc.1"]),
        ("~1", ["1"]),
        ("^0.0.2", ["0.0.2"]),
        ("1.2", ["1.2"]),
        ("=v2", ["2"]),
        (">=1.2.0-rc.1 <1.2.1", ["1.2", "1.2.0-rc.1"]),
        (">2", ["2.1.0", "3-rc.1"]),
    ],
)
def test_a_range_of_regclient_holds_for_the_same_tags(constraint: str, tags: list[str]) -> None:
    """What ``regsync once`` 0.11.7 copies of these: its versions have rules of their own."""
    assert choose(RELEASES, TagRule(semver=patterns.regclient_range(constraint))) == tags


@pytest.mark.parametrize("constraint", ["1.x", ">=1, <2", "1.2 || 3", "!=1", "1.2.3.4", "*"])
def test_a_range_that_cannot_be_said_is_named(tmp_path: Path, constraint: str) -> None:
    step = {"source": "a:1/x", "target": "b:1/x", "type": "repository", "tags": {"semverRange": [constraint]}}
    other = {"source": "a:1/y", "target": "b:1/y", "type": "repository"}
    made = convert(tmp_path, json.dumps({"version": 1, "sync": [step, other]}))
    assert len(loaded(tmp_path, made.text).rules) == 1
    assert [note for note in made.notes if note.startswith("step 1: left out: ")]
