"""What is wrong with a mirror file is said with line and column, whatever is in it."""

from __future__ import annotations

import time
from pathlib import Path

import pytest
from hypothesis import HealthCheck, given, settings

from asyncrane.errors import InvalidMirrorSpec
from asyncrane.mirror.document import load_mirror
from asyncrane.mirror.tree import Limits, parse
from tests.mirror.files import SECRET, Folder, hostile, problem, registry


@pytest.fixture
def folder(tmp_path: Path) -> Folder:
    return Folder(tmp_path)


def _entry(text: str) -> str:
    return f"version: 1\nmirrors:\n  - {{from: a:5000/x, to: b:5000/x, {text}}}\n"


ERRORS = [
    # the file
    ("", "1:1: nothing in it"),
    ("[]", "1:1: a mirror file: expected a mapping (version, registries, defaults, mirrors), not a list"),
    ("mirrors: []", "1:1: a mirror file needs 'version'"),
    ("version: 2\nmirrors: []", "1:10: expected version 1, the form that this program reads, not the number 2"),
    ("version: 1", "1:1: a mirror file needs 'mirrors'"),
    ("version: 1\nmirrors: []", "2:10: mirrors: the list is empty"),
    ("version: 1\nmirrors: {}", "2:10: mirrors: expected a list, not a mapping"),
    ("version: 1\nmirrors:", "2:9: mirrors: expected a list, not nothing"),
    ("version: 1\nmirors: []", "2:1: unknown key 'mirors': did you mean 'mirrors'?"),
    ("version: 1\nzzz: []", "2:1: unknown key 'zzz': known are version, registries, defaults, mirrors"),
    ("version: 1\nversion: 1", "2:1: the key 'version' is there twice: also in line 1"),
    ("version: 1\n--- \nversion: 1", "3:1: a second document: expected one"),
    ("a: [1", "1:6: not YAML: expected ',' or ']', but got '<stream end>' while parsing a flow sequence"),
    ("a: 1\n b: 2", "2:3: not YAML: mapping values are not allowed here"),
    ("a: *b", "1:4: an alias of nothing above"),
    ("a: &a [*a]", "1:8: an alias of what it is in"),
    ("a: !!int 1", "1:4: a tag means nothing here"),
    ("a: !x [1]", "1:4: a tag means nothing here"),
    ("[a]: 1", "1:1: a list as a key: expected a text"),
    (b"version: 1\n# \xff", "2:3: not UTF-8 text"),
    ("a: '\x07'", "1:1: not YAML"),
    # entries
    ("version: 1\nmirrors: [x]", "2:11: an entry of mirrors: expected a mapping"),
    ("version: 1\nmirrors:\n- {to: b:5000/x}", "3:3: an entry of mirrors needs one of from, image, images_file"),
    (_entry("image: a:5000/x"), "3:36: an entry of mirrors has from already: one of from, image, images_file"),
    ("version: 1\nmirrors:\n- {from: a:5000/x}", "3:3: an entry of mirrors needs 'to'"),
    ("version: 1\nmirrors:\n- from: a:5000/x\n  to: []", "4:7: to: the list is empty"),
    (
        "version: 1\nmirrors:\n- from: a:5000/x\n  to: b:5000",
        "4:7: 'b:5000' names no repository (expected e.g. b:5000/{path})",
    ),
    ("version: 1\nmirrors:\n- from: a:5000/x\n  to: [b:5000/x, b:5000/x]", "4:18: 'b:5000/x' is there twice"),
    (
        "version: 1\nmirrors:\n- from: a:5000/x\n  to: [b:5000/x, b:5000/{1}]",
        "4:18: 'b:5000/{1}': there is no {1} (there are {registry}, ",
    ),
    (
        "version: 1\nmirrors:\n- from: a:5000/x\n  to: b:5000/{pathh}",
        "4:7: 'b:5000/{pathh}': there is no {pathh}: did you mean {path}?",
    ),
    (
        "version: 1\nmirrors:\n- from: {registry: a:5000, regex: '(?P<app>.+)'}\n  to: b:5000/{ap}",
        "4:7: 'b:5000/{ap}': there is no {ap}: did you mean {app}?",
    ),
    ("version: 1\nmirrors:\n- from: a:5000/x\n  to: [b:5000/X]", "4:8: 'b:5000/X': not a repository"),
    (
        "version: 1\nmirrors:\n- from: a:5000\n  to: b:5000/x",
        "3:9: 'a:5000' is a registry: all its repositories are a:5000/**",
    ),
    ("version: 1\nmirrors:\n- from: a:5000/x:1\n  to: b:5000/x", "3:9: 'a:5000/x:1': expected repositories"),
    ("version: 1\nmirrors:\n- from: a:5000/X*\n  to: b:5000/x", "3:9: not a pattern of repositories: 'X*'"),
    ("version: 1\nmirrors:\n- from: {regex: 'x'}\n  to: b:5000/x", "3:17: 'x': expected REGISTRY/REGEX"),
    ("version: 1\nmirrors:\n- from: {regex: 'a:1/x|a:1/y'}\n  to: b:5000/x", "3:17: 'x|a:1/y': with a | outside"),
    ("version: 1\nmirrors:\n- from: {regex: 'a:1/('}\n  to: b:5000/x", "3:17: not a regular expression: '('"),
    (
        "version: 1\nmirrors:\n- from: {regex: 'a:1/(?P<tag>x)'}\n  to: b:5000/x",
        "3:17: the group 'tag' needs another name",
    ),
    ("version: 1\nmirrors:\n- from: {registry: a:1}\n  to: b:5000/x", "3:9: from needs one of regex, file"),
    (
        "version: 1\nmirrors:\n- from: {glob: a}\n  to: b:5000/x",
        "3:10: unknown key 'glob': known are registry, regex, file",
    ),
    ("version: 1\nmirrors:\n- image: a:5000/X\n  to: b:5000/x", "3:10: not a repository: 'a:5000/X'"),
    ("version: 1\nmirrors:\n- image: x:1\n  to: b:5000/x\n  tags: {}", "5:3: tags is for entries with 'from'"),
    ("version: 1\nmirrors:\n- image: x:1\n  to: b:5000/x\n  prune: {}", "5:3: prune is for entries with 'from'"),
    (
        "version: 1\nmirrors:\n- image: x:1\n  to: b:5000/x:{digest}",
        "4:7: index.docker.io/library/x:1: 'b:5000/x:{digest}'",
    ),
    ("version: 1\nmirrors:\n- images_file: no.txt\n  to: b:5000/x", "3:16: there is no file"),
    # options
    (_entry("tagz: {}"), "3:36: unknown key 'tagz': did you mean 'tags'?"),
    (_entry("platforms: []"), "3:47: platforms: the list is empty (all: every platform)"),
    (_entry("platforms: [linux]"), "3:48: not a platform: 'linux'"),
    (_entry("overwrite: yes"), "3:47: expected if-different, if-missing, never or always, not the text 'yes'"),
    (_entry("referrers: yes"), "3:47: expected true or false, not the text 'yes'"),
    (_entry("referrers: 'true'"), "3:47: expected true or false, not the text 'true'"),
    (_entry("tags: [v1]"), "3:42: tags: expected a mapping"),
    (_entry("tags: {latest: 1}"), "3:43: latest by what? add sort: semver, sort: created or sort: name"),
    (_entry("tags: {sort: name}"), "3:43: sort has no effect without latest"),
    (_entry("tags: {latest: 0, sort: name}"), "3:51: expected a whole number, 1 or more, not the number 0"),
    (_entry("tags: {latest: 1.5, sort: name}"), "3:51: expected a whole number, 1 or more, not the number 1.5"),
    (_entry("tags: {latest: 1, sort: age}"), "3:60: expected semver, created or name, not the text 'age'"),
    (_entry("tags: {semver: new}"), "3:51: not a version range: 'new'"),
    (_entry("tags: {regex: '('}"), "3:50: not a regular expression: '('"),
    (_entry("tags: {since: soon}"), "3:50: not a time: 'soon'"),
    (_entry("tags: {since: 90}"), "3:50: expected a text (in quotes?), not the number 90"),
    (_entry("tags: {include: [true]}"), "3:53: expected a text (in quotes?), not the boolean true"),
    (_entry("tags: {include: [[a]]}"), "3:53: expected a text (in quotes?), not a list"),
    (_entry("tags: {include: ['']}"), "3:53: expected a text, not an empty one"),
    (_entry("prune: {enabled: true}"), "3:44: pruning needs max"),
    (_entry("prune: {max: 101%}"), "3:49: not a share: '101%'"),
    (_entry("prune: {max: 0.1}"), "3:49: expected a whole number, 0 or more, not the number 0.1"),
    (_entry("prune: {max: few}"), "3:49: expected a whole number or a share, e.g. 10%, not the text 'few'"),
    ("version: 1\ndefaults: {to: x}\nmirrors: []", "2:12: unknown key 'to': known are tags, platforms"),
    # registries
    ("version: 1\nregistries: []", "2:13: registries: expected a mapping of hosts, not a list"),
    ("version: 1\nregistries: {a/b: {}}", "2:14: not a registry: 'a/b'"),
    (
        "version: 1\nregistries: {docker.io: {}, index.docker.io: {}}",
        "2:29: index.docker.io is the registry index.docker.io",
    ),
    (
        registry("credentials: {username: x}"),
        "4:18: credentials needs one of password_env, password_file, password, helper",
    ),
    (registry("credentials: {password_env: X}"), "4:18: credentials needs 'username'"),
    (registry("credentials: {username: x, password_env: X}"), "4:46: the environment variable 'X' is not set"),
    (registry("credentials: {username: x, password_env: EMPTY}"), "4:46: the environment variable 'EMPTY' is empty"),
    (registry("credentials: {username: x, password_file: no}"), "4:47: there is no file"),
    (registry("credentials: {username: a:b, password_env: CI}"), "4:29: a user name has no colon"),
    (registry("credentials: {helper: x, username: x}"), "4:30: a helper knows the user name"),
    (
        registry("credentials: {username: x, password: y, helper: z}"),
        "4:45: credentials has password already: one of password_env, password_file, password, helper",
    ),
    (
        registry("credentials: {helper: docker-credential-x}"),
        "4:27: not a credential helper: 'docker-credential-x' (leave out docker-credential-)",
    ),
    (registry("credentials: {helper: ../x}"), "4:27: not a credential helper: '../x'"),
    (registry("tls: {ca: no.pem}"), "4:15: there is no file"),
    (registry("tls: {key: mirror.yaml}"), "4:11: a key without its cert"),
    (registry("tls: {plain_http: true, ca: mirror.yaml}"), "4:29: ca has no effect with plain_http"),
    (registry("limits: {requests: 0}"), "4:24: expected a whole number, 1 or more, not the number 0"),
    (registry("limits: {streams: many}"), "4:23: expected auto or a whole number, not the text 'many'"),
    (registry("limits: {rate: fast}"), "4:20: not a size: 'fast'"),
    (registry("mirrors: [a:5000]"), "4:15: a registry is no mirror of itself"),
    (registry("mirrors: c:5000/x"), "4:14: not a registry: 'c:5000/x'"),
    (registry("on_missing_repository: ask"), "4:28: expected fail, create or {command: [...]}, not the text 'ask'"),
    (registry("on_missing_repository: {command: []}"), "4:38: command: the list is empty"),
    (registry("on_missing_repository: {cmd: []}"), "4:29: unknown key 'cmd': did you mean 'command'?"),
]


@pytest.mark.parametrize(("text", "error"), ERRORS, ids=[error[:60] for _, error in ERRORS])
def test_every_error_says_where_it_is(folder: Folder, text: str | bytes, error: str) -> None:
    """File, line, column; unknown keys with the nearest known one."""
    assert folder.error(text, EMPTY="", CI=SECRET).startswith(error)


def test_a_file_that_is_not_there_is_an_error(folder: Folder) -> None:
    with pytest.raises(InvalidMirrorSpec, match=r"mirror\.yaml: cannot be read: No such file"):
        load_mirror(folder.spec)


BOMBS = {
    "laughs": "a: &a [x, x, x, x, x, x, x, x, x]\n"
    + "".join(f"{b}: &{b} [{', '.join([f'*{a}'] * 9)}]\n" for a, b in zip("abcdefgh", "bcdefghi", strict=True)),
    "deep lists": "[" * 100_000,
    "deep mappings": "{a: " * 100_000,
    "deep blocks": "- " * 100_000,
    "deep questions": "? " * 100_000,
    "a long tag": "!" * 500_000,
    "a large file": "# " * 2_000_000,
    "a large number": "version: " + "9" * 100_000,
    "many documents": "---\n" * 100_000,
}


@pytest.mark.parametrize("name", BOMBS)
def test_what_would_take_all_memory_or_time_is_refused(folder: Folder, name: str) -> None:
    """Aliases of aliases, depth, size: an error within seconds."""
    started = time.process_time()
    assert folder.error(BOMBS[name])
    assert time.process_time() - started < 15


def test_a_file_holds_so_many_values_and_no_more() -> None:
    """Those that aliases stand for count as often as they are used."""
    limits = Limits(values=10)
    parse("[a, &b [c, d], *b, e, f]", "name", limits)
    with pytest.raises(InvalidMirrorSpec, match="name:1:26: more than 10 values"):
        parse("[a, &b [c, d], *b, e, f, g]", "name", limits)
    with pytest.raises(InvalidMirrorSpec, match="name:1:20: more than 10 values"):
        parse("[a, &b [c, d], *b, *b]", "name", limits)


@settings(suppress_health_check=[HealthCheck.function_scoped_fixture], max_examples=200)
@given(hostile)
def test_any_file_is_a_spec_or_an_error(folder: Folder, content: bytes) -> None:
    """Nothing else is ever raised, and what is raised begins with the file."""
    said = problem(lambda: folder.load(content))
    assert said is None or said.startswith(f"{folder.path}/")
