"""Reading and changing docker's config.json and podman's auth.json."""

from __future__ import annotations

import base64
import json
import stat
from pathlib import Path

import pytest

from asyncrane.auth.credentials import Credential
from asyncrane.auth.dockerconfig import AuthFile, candidates, normalise, write_entry
from asyncrane.errors import CredentialError
from tests.auth.conftest import auth


def parse(fields: object) -> AuthFile:
    return AuthFile.parse(json.dumps(fields).encode(), "file")


@pytest.mark.parametrize(
    ("key", "host"),
    [
        ("registry.example", "registry.example"),
        ("Registry.Example:5000", "registry.example:5000"),
        ("https://registry.example", "registry.example"),
        ("https://registry.example/v1/", "registry.example"),
        ("http://registry.example:5000/v2/", "registry.example:5000"),
        ("registry.example/v1/", "registry.example"),
        ("registry.example/team/app", "registry.example/team/app"),
        ("registry.example/v1", "registry.example/v1"),
        ("https://index.docker.io/v1/", "index.docker.io"),
        ("index.docker.io/v1/", "index.docker.io"),
        ("docker.io", "index.docker.io"),
        ("docker.io/library/alpine", "index.docker.io/library/alpine"),
        ("registry-1.docker.io", "index.docker.io"),
        ("[::1]:5000", "[::1]:5000"),
    ],
)
def test_keys_of_all_ages_name_the_same_registry(key: str, host: str) -> None:
    assert normalise(key) == host


def test_candidates_go_from_the_repository_up_to_the_host() -> None:
    assert list(candidates("h.example", "a/b")) == ["h.example/a/b", "h.example/a", "h.example"]
    assert list(candidates("index.docker.io")) == ["index.docker.io"]


@pytest.mark.parametrize(
    ("entry", "credential"),
    [
        (auth("u", "p:q"), Credential("u", "p:q")),
        ({"username": "u", "password": "p"}, Credential("u", "p")),
        ({**auth("u", "p"), "username": "x", "password": "y"}, Credential("u", "p")),
        ({"auth": base64.b64encode(b"u:p\0\0").decode()}, Credential("u", "p")),
        ({"auth": base64.b64encode(b"user:p").decode().rstrip("=")}, Credential("user", "p")),
        ({"auth": "", "identitytoken": "t"}, Credential(identity_token="t")),
        ({**auth("u", ""), "identitytoken": "t"}, Credential("u", identity_token="t")),
        ({"registrytoken": "t"}, Credential(registry_token="t")),
        ({**auth("u", "p"), "email": "u@example", "later": {"unknown": []}}, Credential("u", "p")),
        ({}, None),
        (None, None),
    ],
)
def test_every_way_to_write_an_entry_is_understood(entry: object, credential: Credential | None) -> None:
    assert parse({"auths": {"h.example": entry}}).credential("h.example") == credential


@pytest.mark.parametrize("text", ["%%%hunter2", base64.b64encode(b"hunter2").decode(), "é", "/w=="])
def test_an_undecodable_entry_is_an_error_only_where_it_is_needed(text: str) -> None:
    file = parse({"auths": {"bad.example": {"auth": text}, "good.example": auth("u", "p")}})
    assert file.credential("good.example") == Credential("u", "p")
    with pytest.raises(CredentialError, match=r"from file: 'auth' of bad.example is not base64") as caught:
        file.credential("bad.example")
    assert text not in str(caught.value)
    assert caught.value.__suppress_context__


@pytest.mark.parametrize(
    "body",
    [
        b'{"auths": {"h": {"auth": "hunter2',
        b"hunter2",
        b'["hunter2"]',
        b'{"auths": "hunter2"}',
        b'{"auths": {"hunter2": 5}}',
        b'{"auths": {"h": {"auth": ["hunter2"]}}}',
        b'{"credsStore": {"hunter2": 1}}',
        b'{"credsStore": "hunter2\xff"}',
        b"[" * 100_000,
    ],
)
def test_a_malformed_file_is_named_and_never_quoted(body: bytes) -> None:
    with pytest.raises(CredentialError, match=r"cannot read credentials from /some/config\.json: ") as caught:
        AuthFile.parse(body, "/some/config.json")
    assert "hunter2" not in str(caught.value)
    assert "\n" not in str(caught.value)
    assert caught.value.__suppress_context__


@pytest.mark.parametrize("body", [b"", b" \n", b"{}", b"\xef\xbb\xbf{}", b'{"auths": null, "credHelpers": null}'])
def test_an_empty_file_is_an_empty_configuration(body: bytes) -> None:
    file = AuthFile.parse(body, "file")
    assert not file.auths
    assert not file.helper("h.example")


def test_of_several_spellings_the_one_that_says_something_wins_then_todays() -> None:
    old, new, empty = auth("old", "p"), auth("new", "p"), dict[str, str]()
    for first, second in (("https://h.example/v1/", "h.example"), ("h.example", "https://h.example/v1/")):
        both = {"https://h.example/v1/": old, "h.example": new}
        file = parse({"auths": {first: both[first], second: both[second]}})
        assert file.credential("h.example") == Credential("new", "p")
    file = parse({"auths": {"https://h.example/v1/": old, "h.example": empty}})
    assert file.credential("h.example") == Credential("old", "p")
    file = parse({"auths": {"https://index.docker.io/v1/": new, "docker.io": old}})
    assert file.credential("index.docker.io") == Credential("new", "p")


def test_a_helper_of_one_host_beats_the_store_and_an_empty_one_switches_it_off() -> None:
    file = parse({"credsStore": "all", "credHelpers": {"https://a.example": "one", "b.example": ""}})
    assert file.helper("a.example") == "one"
    assert file.helper("b.example") == ""
    assert file.helper("c.example") == "all"
    assert file.helper("c.example/team") == ""


def test_writing_keeps_everything_else(tmp_path: Path) -> None:
    path = tmp_path / "config.json"
    before = {"psFormat": "table", "auths": {"a.example": {"auth": "eDp5"}}, "plugins": {"x": {"big": 2**70}}}
    path.write_text(json.dumps(before))
    assert not write_entry(path, "b.example", auth("u", "p"))
    assert json.loads(path.read_text()) == {**before, "auths": {**before["auths"], "b.example": auth("u", "p")}}  # type: ignore[dict-item]
    assert write_entry(path, "b.example", None)
    assert json.loads(path.read_text()) == before


def test_a_written_file_is_the_owners_alone_and_leaves_nothing_beside_it(tmp_path: Path) -> None:
    path = tmp_path / "new" / "config.json"
    write_entry(path, "index.docker.io", auth("u", "p"))
    assert stat.S_IMODE(path.stat().st_mode) == 0o600
    assert stat.S_IMODE(path.parent.stat().st_mode) == 0o700
    assert list(path.parent.iterdir()) == [path]
    assert json.loads(path.read_text()) == {"auths": {"https://index.docker.io/v1/": auth("u", "p")}}


def test_writing_replaces_every_spelling_of_the_registry(tmp_path: Path) -> None:
    path = tmp_path / "config.json"
    path.write_text(json.dumps({"auths": {"docker.io": auth("a", "b"), "docker.io/team": auth("t", "t")}}))
    assert write_entry(path, "index.docker.io", auth("u", "p"))
    assert list(json.loads(path.read_text())["auths"]) == ["docker.io/team", "https://index.docker.io/v1/"]
    assert write_entry(path, "index.docker.io", None)
    assert list(json.loads(path.read_text())["auths"]) == ["docker.io/team"]


def test_a_link_to_the_file_stays_a_link(tmp_path: Path) -> None:
    target, link = tmp_path / "dotfiles.json", tmp_path / "config.json"
    target.write_text("{}")
    link.symlink_to(target)
    write_entry(link, "h.example", auth("u", "p"))
    assert link.is_symlink()
    assert AuthFile.read(target) == AuthFile.parse(link.read_bytes(), str(target))


@pytest.mark.parametrize("body", [b'{"auths": ', b'{"unknown": "hunter2\xff"}'])
def test_a_file_that_cannot_be_understood_is_not_overwritten(tmp_path: Path, body: bytes) -> None:
    path = tmp_path / "config.json"
    path.write_bytes(body)
    with pytest.raises(CredentialError, match=r"config\.json: "):
        write_entry(path, "h.example", auth("u", "p"))
    assert path.read_bytes() == body


def test_a_place_that_cannot_be_read_or_written_is_named(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    with pytest.raises(CredentialError, match=r"cannot write credentials in .*config.json: "):
        write_entry(tmp_path / "file" / "config.json", "h.example", auth("u", "p"))
    (tmp_path / "directory").mkdir()
    with pytest.raises(CredentialError, match=r"cannot read credentials in .*directory: Is a directory"):
        AuthFile.read(tmp_path / "directory")
    assert AuthFile.read(tmp_path / "none") is None
    assert AuthFile.read(tmp_path / "file" / "none") is None


def test_removing_what_is_not_there_makes_no_file(tmp_path: Path) -> None:
    assert not write_entry(tmp_path / "config.json", "h.example", None)
    assert list(tmp_path.iterdir()) == []
