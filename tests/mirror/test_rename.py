"""Where images go (H2): every mapping that users asked other tools for, in one file; what cannot work is said early."""

from __future__ import annotations

from pathlib import Path

import pytest
from hypothesis import assume, given
from hypothesis import strategies as st

from asyncrane.errors import InvalidInput, InvalidMirrorSpec
from asyncrane.mirror.document import load_mirror
from asyncrane.mirror.globs import compile_glob, is_glob, literal_prefix
from asyncrane.mirror.rename import Template, written
from asyncrane.mirror.spec import Rule, SourcePattern
from asyncrane.oci.digest import Digest
from asyncrane.oci.reference import Repository

DIGEST = Digest.of(b"an image")

MAPPINGS = [
    pytest.param("a:5000/team/**", "b:5000/{path}", "team/x/app:1", "b:5000/team/x/app:1", id="as it is"),
    pytest.param("a:5000/**", "b:5000/copy/{path}", "team/app:1", "b:5000/copy/team/app:1", id="below a prefix"),
    pytest.param("a:5000/**", "b:5000/{registry}/{path}", "app:1", "b:5000/a-5000/app:1", id="below the registry"),
    pytest.param("nginx", "b:5000/{registry}/{path}", "library/nginx:1", "b:5000/docker.io/library/nginx:1", id="Hub"),
    pytest.param("a:5000/team/**", "b:5000/{1}", "team/x/app:1", "b:5000/x/app:1", id="prefix taken off"),
    pytest.param("a:5000/team/**", "b:5000/crew/{1}", "team/x/app:1", "b:5000/crew/x/app:1", id="prefix replaced"),
    pytest.param("a:5000/team/*/*", "b:5000/{2}/{1}", "team/x/app:1", "b:5000/app/x:1", id="parts swapped"),
    pytest.param("a:5000/team/**", "b:5000/flat/{name}", "team/x/app:1", "b:5000/flat/app:1", id="the last part only"),
    pytest.param("a:5000/*/*", "docker.io/me/{1}-{2}", "team/app:1", "index.docker.io/me/team-app:1", id="one level"),
    pytest.param("a:5000/**", "b:5000/all:{name}-{tag}", "team/app:1", "b:5000/all:app-1", id="all in one repository"),
    pytest.param("a:5000/**", "b:5000/{path}:{tag}-mirror", "app:1", "b:5000/app:1-mirror", id="a suffix to tags"),
    pytest.param(
        "a:5000/**", "b:5000/{path}:from-{registry}-{tag}", "app:1", "b:5000/app:from-a-5000-1", id="a prefix"
    ),
    pytest.param("a:5000/**", "b:5000/{path}:stable", "app:1", "b:5000/app:stable", id="a fixed tag"),
    pytest.param("a:5000/**", "b:5000/{path}/{tag}:latest", "app:1", "b:5000/app/1:latest", id="a repository per tag"),
    pytest.param("a:5000/**", "{registry}/backup/{path}", "app:1", "a:5000/backup/app:1", id="the same registry"),
    pytest.param("a:5000/**", "b:5000/{path}@{digest}", "app:1", "b:5000/app", id="no tags"),
    pytest.param(
        {"regex": "a:5000/(?P<org>[^/]+)/(?:images/)?(.+)"},
        "b:5000/{2}/{org}",
        "team/images/x/app:1",
        "b:5000/x/app/team:1",
        id="groups by number and name, something in the middle left out",
    ),
    pytest.param(
        {"registry": "a:5000", "regex": "(?:(.+)/)?app"}, "b:5000/{1}/app", "app:1", "b:5000/app:1", id="an empty group"
    ),
    pytest.param("a:5000/**/app", "b:5000/{1}/app", "app:1", "b:5000/app:1", id="no parts at all"),
]


def _text(source: str | dict[str, str]) -> str:
    if isinstance(source, str):
        return f"'{source}'"
    return "{" + ", ".join(f"{key}: '{value}'" for key, value in source.items()) + "}"


@pytest.fixture(scope="module")
def rules(tmp_path_factory: pytest.TempPathFactory) -> tuple[Rule, ...]:
    """All the mappings in one file."""
    path = tmp_path_factory.mktemp("mappings") / "mirror.yaml"
    entries = (f"  - from: {_text(case.values[0])}\n    to: ['{case.values[1]}']\n" for case in MAPPINGS)  # type: ignore[arg-type]
    path.write_text("version: 1\nmirrors:\n" + "".join(entries))
    return load_mirror(path).rules


def _expand(rule: Rule, image: str) -> str:
    path, _, tag = image.rpartition(":")
    assert rule.source is not None
    groups = rule.source.match(path)
    assert groups is not None
    repository, label = rule.to[0].expand(registry=rule.source.registry, path=path, tag=tag, digest=None, groups=groups)
    return f"{repository}:{label}" if label else str(repository)


@pytest.mark.parametrize(("source", "to", "image", "expected"), MAPPINGS)
def test_images_go_where_the_mapping_says(
    rules: tuple[Rule, ...], source: str | dict[str, str], to: str, image: str, expected: str
) -> None:
    """H2: strip, replace, flatten, swap, scope by registry, rename tags."""
    at = next(at for at, case in enumerate(MAPPINGS) if case.values == (source, to, image, expected))
    assert str(rules[at].to[0]) == to
    assert _expand(rules[at], image) == expected


@pytest.mark.parametrize(
    ("to", "expected"),
    [
        ("b:5000/{path}", ("b:5000/team/app", None)),
        ("b:5000/{path}:{digest}", ("b:5000/team/app", DIGEST.hex)),
        ("b:5000/by-digest/{digest}", (f"b:5000/by-digest/{DIGEST.hex}", None)),
        ("b:5000/{path}@{digest}", ("b:5000/team/app", None)),
    ],
)
def test_an_image_without_tag_goes_by_digest(to: str, expected: tuple[str, str | None]) -> None:
    """H2, G3: a digest is written in hex: a tag sha256-... is where referrers are looked for."""
    template = Template.parse(to)
    template.check(groups=(), tag=False, digest=True)
    repository, tag = template.expand(registry="a:5000", path="team/app", tag=None, digest=DIGEST, groups={})
    assert (str(repository), tag) == expected


@pytest.mark.parametrize(
    ("text", "why"),
    [
        ("b:5000", "names no repository"),
        ("b:5000/", "names no repository"),
        ("copy/{path}", "names no registry"),
        ("{path}", "names no repository"),
        ("{1}/app", "the registry must be written out"),
        ("b:99999/app", "not a registry"),
        ("b:5000/Copy/{path}", "lower-case"),
        ("b:5000/-{path}", "not a repository"),
        ("b:5000/{path", "a brace without its partner"),
        ("b:5000/path}", "a brace without its partner"),
        ("b:5000/{{path}}", "a brace without its partner"),
        ("b:5000/{path}:", "nothing follows the colon"),
        ("b:5000/{path}:-{tag}", "not a tag"),
        ("b:5000/{path}:a:b", "not a tag"),
        ("b:5000/{path}@sha256:1", "its own"),
        ("b:5000/{path}:{tag}@{digest}", "for images without a tag"),
        ("http://b:5000/{path}", "leave out http://"),
    ],
)
def test_what_can_be_no_image_is_refused_at_once(text: str, why: str) -> None:
    with pytest.raises(InvalidMirrorSpec, match=why):
        Template.parse(text)


@pytest.mark.parametrize(
    ("text", "why"),
    [
        ("b:5000/{nam}", r"there is no \{nam\}: did you mean \{name\}\?"),
        (
            "b:5000/{other}",
            r"there is no \{other\} \(there are \{registry\}, \{path\}, \{name\}, \{tag\}, \{digest\}, \{1\}",
        ),
        ("b:5000/{2}", r"there is no \{2\}"),
        ("b:5000/{}", r"there is no \{\}"),
        ("b:5000/{path!r}", r"there is no \{path!r\}"),
        ("b:5000/{path}:{digest}", "by digest"),
    ],
)
def test_a_placeholder_must_have_a_value(text: str, why: str) -> None:
    with pytest.raises(InvalidMirrorSpec, match=why):
        Template.parse(text).check(groups={"1"}, tag=True, digest=False)


@pytest.mark.parametrize(
    ("text", "groups"),
    [
        ("b:5000/{1}", {"1": ""}),
        ("b:5000/{1}", {"1": "-x"}),
        ("b:5000/x:{1}", {"1": "a/b"}),
        ("b:5000/x:{1}", {"1": ""}),
    ],
)
def test_a_name_that_is_none_after_all_is_an_error_that_says_for_what(text: str, groups: dict[str, str]) -> None:
    with pytest.raises(InvalidMirrorSpec, match="for a:5000/app"):
        Template.parse(text).expand(registry="a:5000", path="app", tag="1", digest=None, groups=groups)


@pytest.mark.parametrize(
    ("registry", "expected"),
    [
        ("registry-a:5000", "registry-a-5000"),
        ("Registry.Example.COM", "registry.example.com"),
        ("index.docker.io", "docker.io"),
        ("[fe80::1]:5000", "fe80-1-5000"),
        ("a_b.example", "a_b.example"),
    ],
)
def test_a_registry_can_be_part_of_a_path(registry: str, expected: str) -> None:
    assert written(registry) == expected
    assert Repository.parse(f"localhost/{expected}/app").path == f"{expected}/app"


def test_templates_are_values() -> None:
    assert {Template.parse("b:5000/{path}"), Template.parse("b:5000/{path}")} == {Template.parse("b:5000/{path}")}
    assert str(Template.parse("b:5000/{path}:{tag}")) == "b:5000/{path}:{tag}"


@pytest.mark.parametrize(
    ("pattern", "path", "groups"),
    [
        ("team/**", "team/app", ("app",)),
        ("team/**", "team/x/app", ("x/app",)),
        ("team/**", "team", None),
        ("team/**", "teams/app", None),
        ("**", "app", ("app",)),
        ("**/app", "app", ("",)),
        ("**/app", "x/y/app", ("x/y",)),
        ("**/app", "x/my-app", None),
        ("a/**/b/*-?", "a/b/c-1", ("", "c")),
        ("team/*", "team/x/app", None),
        ("team/app-[0-9]*", "team/app-7x", ("x",)),
        ("team/app-[!0-9]", "team/app-x", ()),
        ("team/app-[!0-9]", "team/app-7", None),
        ("team/[!a]app", "team//app", None),
        ("a.b", "axb", None),
    ],
)
def test_a_glob_goes_segment_by_segment(pattern: str, path: str, groups: tuple[str, ...] | None) -> None:
    source = SourcePattern("a:5000", pattern)
    expected = None if groups is None else {str(at): text for at, text in enumerate(groups, 1)}
    assert source.match(path) == expected


@pytest.mark.parametrize(
    "pattern", ["", "/a", "a//b", "a/", "a**", "**b", "A", "a b", "[", "[]", "[z-a]", "a:1", "{a,b}"]
)
def test_what_is_no_glob_of_repositories_is_refused(pattern: str) -> None:
    with pytest.raises(InvalidInput):
        SourcePattern("a:5000", pattern)


segments = st.lists(st.text(alphabet="ab1-", min_size=1, max_size=3), min_size=1, max_size=4)


@given(segments, st.data())
def test_a_path_matches_every_glob_made_from_it(parts: list[str], data: st.DataObject) -> None:
    """Parts become ``*``, runs of them ``**``; groups hold what was there, and the template puts it back together."""
    pattern, template = [], []
    for part in parts:
        kind = data.draw(st.sampled_from(["literal", "star", "tail"]))
        cut = data.draw(st.integers(0, len(part)))
        pattern.append({"literal": part, "star": "*", "tail": part[:cut] + "*"}[kind])
        number = sum("*" in piece for piece in pattern)
        template.append({"literal": part, "star": f"{{{number}}}", "tail": f"{part[:cut]}{{{number}}}"}[kind])
    path = "/".join(parts)
    source = SourcePattern("a:5000", "/".join(pattern))
    groups = source.match(path)
    assert groups is not None
    assert "/".join(template).format("", *(groups[str(at)] for at in range(1, len(groups) + 1))) == path
    assert source.exact == (path if not any(map(is_glob, pattern)) else None)
    assert f"{path}/".startswith(literal_prefix(source.pattern))


@given(segments, st.lists(st.sampled_from(["**", "*", "a", "?", "[ab]1"]), min_size=1, max_size=4))
def test_globs_agree_with_a_matcher_that_tries_everything(parts: list[str], pattern: list[str]) -> None:
    assume(pattern.count("**") <= 2)
    found = compile_glob("/".join(pattern)).fullmatch("/".join(parts)) is not None
    assert found == _matches(parts, pattern)


def _matches(parts: list[str], pattern: list[str]) -> bool:
    if not pattern:
        return not parts
    head, rest = pattern[0], pattern[1:]
    if head == "**":
        fewest = 0 if rest else 1
        return any(_matches(parts[taken:], rest) for taken in range(fewest, len(parts) + 1))
    if not parts or not _matches(parts[1:], rest):
        return False
    part = parts[0]
    return {"*": True, "a": part == "a", "?": len(part) == 1, "[ab]1": part in ("a1", "b1")}[head]


def test_a_regular_expression_must_match_the_whole_path() -> None:
    source = SourcePattern("a:5000", regex="team/(?P<app>x.)(y)?")
    assert source.match("team/x1") == {"1": "x1", "2": "", "app": "x1"}
    assert source.match("team/x12") is None
    assert source.match("my/team/x1") is None
    assert source.groups == {"1", "2", "app"}


def test_names_need_no_pattern() -> None:
    source = SourcePattern("a:5000", names=("team/app", "b"))
    assert source.match("b") == {}
    assert source.match("c") is None
    assert source.exact is None


@pytest.mark.parametrize(
    "source",
    [
        SourcePattern("a:5000", "team/*"),
        SourcePattern("a:5000", regex="team/app"),
        SourcePattern("a:5000", names=("team/app",)),
    ],
)
def test_only_an_exact_source_reads_as_a_repository(source: SourcePattern) -> None:
    """Pruning relies on it: that a pattern could not be listed says nothing about the repository of that name (H5)."""
    with pytest.raises(InvalidInput):
        Repository.parse(str(source))
    assert str(Repository.parse(str(SourcePattern("a:5000", "team/app")))) == "a:5000/team/app"


@pytest.mark.parametrize("given_", [{}, {"pattern": "a", "regex": "b"}, {"pattern": "a", "names": ("b",)}])
def test_a_source_is_one_thing(given_: dict[str, str]) -> None:
    with pytest.raises(InvalidInput, match="a pattern, a regular expression or a list"):
        SourcePattern("a:5000", **given_)  # type: ignore[arg-type]


def test_a_mapping_that_the_file_cannot_mean_is_refused_with_its_place(tmp_path: Path) -> None:
    """H2: line and column of the template."""
    path = tmp_path / "mirror.yaml"
    path.write_text("version: 1\nmirrors:\n  - from: a:5000/**\n    to: [b:5000/{path}, b:5000/{2}]\n")
    with pytest.raises(InvalidMirrorSpec, match=r"mirror\.yaml:4:25: .*there is no \{2\}"):
        load_mirror(path)
