"""Other tools' files become mirror files that mean the same, and tell what is lost; secrets go nowhere."""

from __future__ import annotations

import copy
import json
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from asyncrane.errors import InvalidInput
from asyncrane.mirror.convert import mirror_convert
from asyncrane.mirror.convert.reading import read
from tests.mirror.converting import AUTH, IMAGES, REGSYNC, SECRET, SKOPEO, TAGS, about, chosen, convert, loaded


def test_a_skopeo_file_becomes_a_mirror_file(tmp_path: Path) -> None:
    made = convert(tmp_path, SKOPEO, destination="registry.local:5000/mirror/")
    spec = loaded(tmp_path, made.text)
    redis, to = "registry.example.com/team/redis", ["registry.local:5000/mirror/redis"]
    assert [about(rule) for rule in spec.rules] == [
        ("registry.example.com/busybox", ["registry.local:5000/mirror/busybox"]),
        (f"{redis}:1.10", to),
        (f"{redis}:2.0", to),
        (f"{redis}@sha256:{'0' * 32}{'1' * 32}", to),
        ("registry.example.com/nginx", ["registry.local:5000/mirror/nginx"]),
        ("registry.example.com/httpd", ["registry.local:5000/mirror/httpd"]),
        ("registry.example.com/alpine", ["registry.local:5000/mirror/alpine"]),
        ("registry.example.com/team/base", ["registry.local:5000/mirror/base"]),
        ("quay.io/coreos/etcd:latest", ["registry.local:5000/mirror/etcd"]),
    ]
    assert chosen(spec, "registry.example.com/nginx") == ["v1.0.0", "v1.2.3", "v1.2.3-rc.1"]
    assert chosen(spec, "registry.example.com/httpd") == ["3.18", "3.19"]
    assert chosen(spec, "registry.example.com/alpine") == ["3.19", "3.20.1"]
    assert chosen(spec, "registry.example.com/team/base") == [
        *("3", "3.18", "3.19", "3.20.1"),
        *("v1.2.3", "v2.0.0"),
    ]
    assert chosen(spec, "registry.example.com/busybox") == TAGS
    assert spec.registries["quay.io"].insecure
    assert not spec.registries["registry.example.com"].insecure
    credential = spec.registries["registry.example.com"].credential
    assert credential is not None
    assert credential.username == "john"
    assert spec.warnings == ()
    assert any("REGISTRY_EXAMPLE_COM_PASSWORD" in note for note in made.notes)
    assert any("platforms" in note for note in made.notes)


def test_a_skopeo_destination_may_be_a_template(tmp_path: Path) -> None:
    """What --scoped is for: names that end alike do not meet."""
    text = "quay.io: {images: {a/app: [], b/app: []}}"
    made = convert(tmp_path, text, destination="registry.local/m")
    assert any("both go to registry.local/m/app" in note for note in made.notes)
    made = convert(tmp_path, text, destination="registry.local/m/{registry}/{path}")
    assert not any("both go to" in note for note in made.notes)
    assert about(loaded(tmp_path, made.text).rules[1]) == ("quay.io/b/app", ["registry.local/m/{registry}/{path}"])


@pytest.mark.parametrize("destination", [None, "", "nohost", "registry.local/UPPER", "registry.local/{x"])
def test_a_skopeo_file_needs_a_destination(tmp_path: Path, destination: str | None) -> None:
    with pytest.raises(InvalidInput) as error:
        convert(tmp_path, SKOPEO, destination=destination)
    assert SECRET not in str(error.value)


def test_certificates_of_skopeo_are_found_where_they_can_be_told_apart(tmp_path: Path) -> None:
    """containers-certs.d(5): *.crt, *.cert and *.key."""
    folder = tmp_path / "certs"
    folder.mkdir()
    for name in ("ca.crt", "client.cert", "client.key"):
        (folder / name).write_text("x")
    text = f"quay.io: {{images: {{a: []}}, cert-dir: {folder}}}"
    options = loaded(tmp_path, convert(tmp_path, text, destination="registry.local/m").text).registries["quay.io"]
    assert (options.ca, options.cert, options.key) == (
        folder / "ca.crt",
        folder / "client.cert",
        folder / "client.key",
    )
    (folder / "other.crt").write_text("x")
    made = convert(tmp_path, text, destination="registry.local/m")
    assert any("cert-dir" in note for note in made.notes)
    assert loaded(tmp_path, made.text).registries == {}


def test_a_regsync_file_becomes_a_mirror_file(tmp_path: Path) -> None:
    spec = loaded(tmp_path, convert(tmp_path, REGSYNC).text)
    assert [about(rule) for rule in spec.rules] == [
        ("docker.io/library/busybox:latest", ["registry.local:5000/library/busybox"]),
        ("ghcr.io/team/app:v1", ["registry.local:5000/team/app:stable"]),
        ("docker.io/library/alpine", ["registry.local:5000/library/alpine"]),
        ("ghcr.io/team/base", ["registry.local:5000/team/base"]),
        ("ghcr.io/team/tools", ["registry.local:5000/team/tools"]),
        ("ghcr.io/team/tools", ["registry.local:5000/team/tools"]),
        ("quay.io/(regex (?!org/old.*$)org/.*)", ["registry.local:5000/quay/{path}"]),
        ("own.example.com/**", ["registry.local:5000/{path}"]),
    ]
    assert [rule.referrers for rule in spec.rules[:3]] == [True, False, True]
    assert list(map(str, spec.rules[2].platforms)) == ["linux/amd64", "linux/arm64"]
    assert chosen(spec, "docker.io/library/alpine") == ["latest", "3", "3.19"]
    assert chosen(spec, "ghcr.io/team/base") == ["v1.2.3"]
    assert chosen(spec, "ghcr.io/team/tools") == ["latest", "edge", "v1.0.0", "v1.2.3", "v2.0.0"]
    quay = spec.rules[6].source
    assert quay is not None
    assert [quay.match(path) is not None for path in ("org/app", "org/older", "other/app")] == [True, False, False]
    assert spec.warnings == ()


def test_a_regsync_file_has_logins_and_certificates(tmp_path: Path) -> None:
    registries = loaded(tmp_path, convert(tmp_path, REGSYNC).text).registries
    assert registries["registry.local:5000"].plain_http
    assert (registries["index.docker.io"].requests, registries["index.docker.io"].mirrors) == (3, ("cache.local:5000",))
    users = {host: options.credential.username for host, options in registries.items() if options.credential}
    assert users == {"index.docker.io": "mirror", "ghcr.io": "robot", "quay.io": "file"}
    assert registries["123456789012.dkr.ecr.eu-west-1.amazonaws.com"].helper == "ecr-login"
    assert registries["quay.io"].insecure
    assert registries["own.example.com"].ca == tmp_path / "certs/own.pem"


def test_a_regsync_file_tells_what_is_lost(tmp_path: Path) -> None:
    """Each thing once, whatever the number of steps."""
    notes = convert(tmp_path, REGSYNC).notes
    for lost in (
        "defaults: backup:",
        "defaults: interval:",
        "defaults: ratelimit:",
        "defaults: parallel:",
        "step 3: schedule:",
        "step 8: left out: directories",
        "GHCR_IO_PASSWORD",
        "'repoAuth'",
        "own.example.com: clientKey:",
        "platforms:",
    ):
        assert len([note for note in notes if lost in note]) == 1, lost


def test_the_two_files_of_image_syncer_become_one(tmp_path: Path) -> None:
    """In any order; its older form has both in one."""
    made = convert(tmp_path, AUTH, IMAGES)
    assert convert(tmp_path, IMAGES, AUTH).text.partition("\n")[2] == made.text.partition("\n")[2]
    spec = loaded(tmp_path, made.text)
    proxy = "quay.io/coreos/proxy"
    assert [about(rule) for rule in spec.rules] == [
        (proxy, ["registry.example.com/all/proxy"]),
        (f"{proxy}:v1.0", ["registry.example.com/one/proxy", "registry.example.com/some/proxy:a"]),
        (f"{proxy}:v2.0", ["registry.example.com/some/proxy:b"]),
        (f"{proxy}@sha256:{'2' * 64}", ["registry.example.com/fixed/proxy"]),
        (f"{proxy}:v1.1", ["registry.example.com/x/proxy", "registry.example.com/y/proxy"]),
        ("docker.io/library/nginx", ["registry.example.com/hub/nginx"]),
    ]
    assert chosen(spec, "docker.io/library/nginx") == ["v1.0.0", "v1.2.3", "v1.2.3-rc.1"]
    assert spec.registries["quay.io"].insecure
    assert "password_env: HUB_PASSWORD" in made.text
    for lost in ("QUAY_IO_PASSWORD", "some of its repositories", "2 tags cannot become 1", "from the environment"):
        assert any(lost in note for note in made.notes), lost
    both = f"auth:\n  quay.io: {{username: bot, password: {SECRET}}}\nimages:\n  {proxy}: registry.example.com/proxy\n"
    assert [about(rule) for rule in loaded(tmp_path, convert(tmp_path, both).text).rules] == [
        (proxy, ["registry.example.com/proxy"])
    ]


@pytest.mark.parametrize("files", [(SKOPEO,), (REGSYNC,), (AUTH, IMAGES)])
def test_secrets_are_written_nowhere(tmp_path: Path, files: tuple[str, ...]) -> None:
    """F-strings of passwords, tokens and keys do not reach the file, its comments or the notes."""
    assert any(SECRET in text for text in files)
    made = convert(tmp_path, *files, destination="registry.local/m")
    assert SECRET not in made.text
    assert SECRET not in "".join(made.notes)
    assert "PRIVATE KEY" not in made.text


def test_the_same_file_gives_the_same_text(tmp_path: Path) -> None:
    """With a comment that says where it is from, and what is left to do."""
    made = convert(tmp_path, REGSYNC)
    assert convert(tmp_path, REGSYNC) == made
    unused = convert(tmp_path, REGSYNC, destination="registry.local/m").notes
    assert [note for note in unused if note not in made.notes] == [
        "the destination that was given is not used: the file says where to"
    ]
    comment = [line for line in made.text.splitlines() if line.startswith("#")]
    assert comment[0] == "# A mirror file for asyncrane, converted from regsync, file0.yml."
    assert all(len(line) <= 120 for line in made.text.splitlines())
    assert made.text.splitlines()[len(comment)] == "version: 1"
    said = " ".join(line.removeprefix("#").strip().removeprefix("- ") for line in comment)
    assert all(note in said for note in made.notes)


def test_a_name_cannot_end_the_comment_it_stands_in(tmp_path: Path) -> None:
    text = '"quay.io/a:/x(/": registry.local/b\n"quay.io/c": registry.local/d\n"quay.io/e\\nmirrors: []\\u2028x": "f"\n'
    made = convert(tmp_path, text)
    assert [about(rule)[0] for rule in loaded(tmp_path, made.text).rules] == ["quay.io/c"]


@pytest.mark.parametrize(
    "text",
    [
        "version: 1\nmirrors: []\n",
        "just: {some: yaml}\n",
        "- a\n- b\n",
        "",
        "text",
        f"a: [{SECRET}\nb: }}",
        f"quay.io:\n  images: {{a: []}}\n  credentials: {{password: {SECRET}, password: {SECRET}}}\n",
        "\tquay.io: x",
        '{"quay.io": ',
        "quay.io: {username: a, password: b}\n",
        "sync: []\n",
    ],
)
def test_what_is_none_of_these_is_refused_in_one_line(tmp_path: Path, text: str) -> None:
    with pytest.raises(InvalidInput) as error:
        convert(tmp_path, text, destination="registry.local/m")
    assert "\n" not in str(error.value)
    assert SECRET not in str(error.value)


ODD: tuple[Any, ...] = (
    None,
    True,
    7,
    "",
    ":",
    "a:b:c",
    "@",
    "/x/",
    "{{",
    "{tag}",
    "\n",
    "..",
    [None, [1]],
    {"a": {"b": 1}},
)


def test_whatever_is_in_a_file_it_becomes_a_mirror_file_or_one_line(tmp_path: Path) -> None:
    """One value after the other is something else."""
    usable, complaints = 0, []
    for text in (SKOPEO, REGSYNC, IMAGES):
        (tmp_path / "whole.yml").write_text(text)
        whole = read(tmp_path / "whole.yml")
        for number, place in enumerate(list(places(whole))[::2]):
            broken = replaced(whole, place, ODD[number % len(ODD)])
            try:
                made = convert(tmp_path, json.dumps(broken), destination="registry.local/m")
            except InvalidInput as exc:
                complaints.append(str(exc))
                continue
            complaints += made.notes
            assert SECRET not in made.text
            usable += bool(loaded(tmp_path, made.text).rules)
    assert usable > 50
    assert not [text for text in complaints if "\n" in text or SECRET in text]


def places(value: Any, above: tuple[Any, ...] = ()) -> Iterator[tuple[Any, ...]]:
    """The way to everything in ``value``."""
    keys = value if isinstance(value, dict) else range(len(value)) if isinstance(value, list) else ()
    for key in keys:
        yield (*above, key)
        yield from places(value[key], (*above, key))


def replaced(value: Any, place: tuple[Any, ...], new: object) -> Any:
    """A copy of ``value`` with ``new`` at ``place``."""
    changed = copy.deepcopy(value)
    inner = changed
    for key in place[:-1]:
        inner = inner[key]
    inner[place[-1]] = new
    return changed


def test_files_that_do_not_belong_together_are_refused(tmp_path: Path) -> None:
    for files in ((SKOPEO, REGSYNC), (IMAGES, IMAGES), (AUTH, SKOPEO), ()):
        with pytest.raises(InvalidInput):
            convert(tmp_path, *files, destination="registry.local/m")
    with pytest.raises(InvalidInput, match="No such file"):
        mirror_convert([tmp_path / "missing.yml"])


def test_one_platform_of_regsync_is_that_image_here_too(tmp_path: Path) -> None:
    """``platform`` names the image itself, so that nothing is lost; ``platforms`` keeps the index, with holes."""
    step = {"source": "a:1/x", "target": "b:1/x", "type": "repository"}
    one = convert(tmp_path, json.dumps({"sync": [{**step, "platform": "linux/arm64"}]}))
    several = convert(tmp_path, json.dumps({"sync": [{**step, "platforms": ["linux/arm64"]}]}))
    for made in (one, several):
        assert list(map(str, loaded(tmp_path, made.text).rules[0].platforms)) == ["linux/arm64"]
    assert one.notes == ()
    assert any(note.startswith("platforms: ") for note in several.notes)


def test_no_key_of_a_regsync_file_is_lost_in_silence(tmp_path: Path) -> None:
    """At the top, and in what selects; x-... is where anchors are kept."""
    tags = {"allow": ["v.*"], "newest": 3}
    step = {"source": "a:1", "target": "b:1", "type": "registry", "tags": tags, "repos": {"depth": 2}}
    sets = {"source": "a:1/y", "target": "b:1/y", "type": "repository", "tagSets": [{"sortBy": "date"}]}
    made = convert(tmp_path, json.dumps({"sync": [step, sets], "webhooks": {"a": "b"}, "x-anchors": {"a": "b"}}))
    lost = [note for note in made.notes if "is not known here" in note]
    assert [note.partition(" is not")[0] for note in lost] == [
        "'webhooks'",
        "step 1: tags: 'newest'",
        "step 1: repos: 'depth'",
        "step 2: tagSets: 'sortBy'",
    ]


def test_commands_that_a_conversion_names_are_there(tmp_path: Path) -> None:
    """Who has a token in his file is told how to log in here."""
    text = f"version: 1\ncreds: [{{registry: a.example.com, token: {SECRET}}}]\nsync:\n"
    made = convert(tmp_path, f"{text}  - {{source: a.example.com/x, target: b.example.com/x, type: repository}}\n")
    note = next(note for note in made.notes if "token" in note)
    words = re.findall(r"'asyncrane ([a-z ]+) a\.example\.com'", note)
    assert words == ["auth login"]
    assert SECRET not in note
