"""Names: crane's defaults, the specification's grammar, nothing lost when printed."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from asyncrane.errors import AsyncraneError, InvalidDigest, InvalidReference
from asyncrane.oci.digest import Digest
from asyncrane.oci.reference import (
    DOCKER_HUB,
    Reference,
    Repository,
    is_bare_registry,
    is_loopback_or_private,
    parse_registry,
)

HEX = "a" * 64


@pytest.mark.parametrize(
    ("text", "full"),
    [
        ("ubuntu", "index.docker.io/library/ubuntu:latest"),
        ("docker.io/ubuntu", "index.docker.io/library/ubuntu:latest"),
        ("user/app:1", "index.docker.io/user/app:1"),
        ("localhost/app", "localhost/app:latest"),
        ("localhost:5000/app:v1", "localhost:5000/app:v1"),
        ("localhost:5000", "index.docker.io/library/localhost:5000"),
        ("example.com", "index.docker.io/library/example.com:latest"),
        ("example.com/a/b_c/d--e:X.y_z-1", "example.com/a/b_c/d--e:X.y_z-1"),
        (f"example.com/a@sha256:{HEX}", f"example.com/a@sha256:{HEX}"),
        (f"example.com/a:1@sha256:{HEX}", f"example.com/a:1@sha256:{HEX}"),
        ("[::1]:5000/x", "[::1]:5000/x:latest"),
    ],
)
def test_a_reference_prints_in_full(text: str, full: str) -> None:
    assert str(Reference.parse(text)) == full


@pytest.mark.parametrize(
    "text",
    [
        "",
        "a:",
        "a b",
        "UPPER/case",
        "example.com/",
        "example.com//a",
        "example.com/.a",
        "example.com/a:-x",
        "example.com/a:" + "x" * 129,
        "a@sha256:abc",
        "a@md5:" + "0" * 32,
        f"a@sha256:{HEX.upper()}",
        f"a@sha256:{HEX}@sha256:{HEX}",
        "example.com:99999999/a",
        "http://example.com/a",
        "example.com/" + "a/" * 130 + "a",
        "a/../b",
    ],
)
def test_what_is_not_a_reference_is_refused_in_one_line(text: str) -> None:
    with pytest.raises(InvalidReference) as caught:
        Reference.parse(text)
    assert "\n" not in str(caught.value)
    assert len(str(caught.value)) < 400


@given(st.text(max_size=300))
def test_any_text_is_a_reference_or_an_error_of_ours(text: str) -> None:
    try:
        reference = Reference.parse(text)
    except AsyncraneError:
        return
    assert Reference.parse(str(reference)) == reference


@given(
    st.from_regex(r"\A[a-z0-9]+((\.|_|__|-+)[a-z0-9]+)*(/[a-z0-9]+)*\Z").filter(lambda t: len(t) < 200),
    st.from_regex(r"\A[A-Za-z0-9_][A-Za-z0-9._-]{0,127}\Z"),
)
def test_every_name_of_the_specification_is_taken(path: str, tag: str) -> None:
    reference = Reference.parse(f"registry.example.com:5000/{path}:{tag}")
    assert (reference.repository.path, reference.tag) == (path, tag)


def test_docker_hub_has_one_name() -> None:
    for alias in ("docker.io", "index.docker.io", "registry-1.docker.io"):
        assert parse_registry(alias) == DOCKER_HUB
        assert Repository.parse(f"{alias}/busybox") == Repository(DOCKER_HUB, "library/busybox")


@pytest.mark.parametrize("text", ["host:5000", "localhost:5000", "registry.example.com", "localhost:5000/"])
def test_a_registry_without_a_repository_is_noticed(text: str) -> None:
    assert is_bare_registry(text)
    assert not is_bare_registry(f"{text.rstrip('/')}/app")


@pytest.mark.parametrize("text", ["example.com/path", "a b", "example.com:x", ""])
def test_what_is_not_a_registry_is_refused(text: str) -> None:
    with pytest.raises(InvalidReference):
        parse_registry(text)


@pytest.mark.parametrize(
    ("registry", "private"),
    [
        ("localhost:5000", True),
        ("app.localhost", True),
        ("127.0.0.1:5000", True),
        ("[::1]:5000", True),
        ("10.1.2.3", True),
        ("172.16.0.1:80", True),
        ("172.32.0.1", False),
        ("192.168.1.1", True),
        ("nas.local", True),
        ("8.8.8.8", False),
        ("example.com", False),
    ],
)
def test_plain_http_is_tried_only_nearby(registry: str, private: bool) -> None:
    assert is_loopback_or_private(registry) is private


@pytest.mark.parametrize("text", ["sha256:xyz", "sha256:" + "A" * 64, "sha1:" + "0" * 40, "", ":", "sha512:" + HEX])
def test_what_is_not_a_digest_is_refused(text: str) -> None:
    with pytest.raises(InvalidDigest):
        Digest.parse(text)
