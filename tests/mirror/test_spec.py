"""The mirror file as values: every key, its defaults, and how it is written."""

from __future__ import annotations

from datetime import timedelta
from pathlib import Path

import msgspec
import pytest

from asyncrane.auth.credentials import Credential
from asyncrane.mirror.rename import Template
from asyncrane.mirror.spec import Prune, Rule, SourcePattern, TagRule
from asyncrane.oci.platform import Platform
from asyncrane.oci.reference import Reference
from asyncrane.transport.options import RegistryOptions
from tests.mirror.files import DIGESTS, SECRET, WHOLE, Folder


@pytest.fixture
def folder(tmp_path: Path) -> Folder:
    return Folder(tmp_path)


def test_a_file_becomes_values(folder: Folder) -> None:
    """Every key of the documentation, and what it stands for."""
    for name in ("ca.pem", "c.pem", "k.pem"):
        folder.put(name, "")
    spec = folder.load(WHOLE, CI_TOKEN=SECRET)
    assert spec.warnings == ()
    assert spec.registries == {
        "registry.example.com": RegistryOptions(
            credential=Credential("ci", SECRET),
            ca=folder.path / "ca.pem",
            cert=folder.path / "c.pem",
            key=folder.path / "k.pem",
            rate=50 * 1024**2,
            streams=4,
            mirrors=("cache.local:5000",),
            on_missing="create",
        ),
        "index.docker.io": RegistryOptions(helper="ecr-login", on_missing=("make-it", "--now")),
    }
    assert spec.rules == (
        Rule(
            line=14,
            source=SourcePattern("registry-a:5000", "team/**"),
            to=(Template.parse("registry-b:5000/copy/{path}"), Template.parse("backup:5000/{registry}/{path}")),
            tags=TagRule(
                include=("v*",),
                exclude=("*-rc*",),
                semver=">=1.20 <2",
                latest=5,
                sort="semver",
                since=timedelta(days=90),
            ),
            platforms=(Platform("linux", "amd64"), Platform("linux", "arm64")),
            overwrite="if-missing",
            prune=Prune(most=0.1, keep=("stable-*",)),
        ),
        Rule(
            line=19,
            image=Reference.parse(f"registry-a:5000/app@{DIGESTS[0]}"),
            to=(Template.parse("registry-b:5000/app:1.2"),),
            overwrite="never",
        ),
    )


def test_a_default_holds_where_an_entry_says_nothing(folder: Folder) -> None:
    """An entry's key replaces the whole default of that name; tags and pruning are nothing to single images."""
    spec = folder.load(
        "version: 1\n"
        "defaults:\n"
        "  tags: {include: v*, latest: 1, sort: name}\n"
        "  prune: {enabled: true, max: 3}\n"
        "  referrers: false\n"
        "  nondistributable: true\n"
        "mirrors:\n"
        "  - {from: a:5000/x, to: b:5000/x}\n"
        "  - {from: a:5000/y, to: b:5000/y, tags: {exclude: [1.10, latest]}, referrers: true, prune: {}}\n"
        "  - {image: a:5000/z:1, to: b:5000/z}\n"
    )
    one, other, single = spec.rules
    assert one.tags == TagRule(include=("v*",), latest=1, sort="name")
    assert one.prune == Prune(enabled=True, most=3)
    assert (one.referrers, one.nondistributable) == (False, True)
    assert other.tags == TagRule(exclude=("1.10", "latest"))
    assert (other.referrers, other.nondistributable, other.prune) == (True, True, Prune())
    assert (single.tags, single.prune, single.referrers) == (TagRule(), Prune(), False)


@pytest.mark.parametrize(
    ("text", "source"),
    [
        ("a:5000/**", SourcePattern("a:5000", "**")),
        ("a:5000/app", SourcePattern("a:5000", "app")),
        ("nginx", SourcePattern("index.docker.io", "library/nginx")),
        ("docker.io/nginx", SourcePattern("index.docker.io", "library/nginx")),
        ("grafana/*", SourcePattern("index.docker.io", "grafana/*")),
        ("localhost/app", SourcePattern("localhost", "app")),
        ("{regex: 'a:5000/team/(.*)'}", SourcePattern("a:5000", regex="team/(.*)")),
        ("{regex: '^registry\\.example\\.com/(a|b)$'}", SourcePattern("registry.example.com", regex="(a|b)$")),
        ("{registry: docker.io, regex: 'library/a|b'}", SourcePattern("index.docker.io", regex="library/a|b")),
    ],
)
def test_sources_are_written_like_references(folder: Folder, text: str, source: SourcePattern) -> None:
    assert folder.rules(f"{{from: {text}, to: 'b:5000/{{path}}'}}")[0].source == source


def test_placeholders_need_no_quotes_in_bracketed_lists(folder: Folder) -> None:
    """YAML has them end the text, which could only be an error; JSON is read as it is."""
    (rule,) = folder.rules("{from: a:5000/*/*, to: [b:5000/{path}:{tag}-x, {registry}/{1}{2}, 'b:5000/{name}']}")
    assert list(map(str, rule.to)) == ["b:5000/{path}:{tag}-x", "{registry}/{1}{2}", "b:5000/{name}"]
    spec = folder.load(
        '{"version":1,"defaults":{"tags":{"include":["a{b}"]}},"mirrors":[{"from":"a:1/x","to":"b:1/x"}]}'
    )
    assert spec.rules[0].tags.include == ("a{b}",)


def test_tags_that_look_like_numbers_are_read_as_they_are_written(folder: Folder) -> None:
    (rule,) = folder.rules("{from: a:5000/x, to: b:5000/x, tags: {include: [1.10, 3.0, 010, 1e3], semver: 1.20}}")
    assert rule.tags.include == ("1.10", "3.0", "010", "1e3")
    assert rule.tags.semver == "1.20"


def test_aliases_and_byte_order_marks_are_fine(folder: Folder) -> None:
    spec = folder.load(
        b"\xef\xbb\xbfversion: 1\nmirrors:\n- {from: a:5000/x, to: b:5000/x, tags: &t {include: v*}}\n"
        b"- {from: a:5000/y, to: b:5000/y, tags: *t}\n"
    )
    assert spec.rules[0].tags == spec.rules[1].tags == TagRule(include=("v*",))


def test_rules_are_values(folder: Folder) -> None:
    """They can be keys, and be changed only into others."""
    (rule,) = folder.rules("{from: a:5000/x, to: b:5000/x}")
    assert {rule: 1}[msgspec.structs.replace(rule)] == 1
