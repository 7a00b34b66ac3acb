"""Where images are, as people write it."""

from __future__ import annotations

import pytest

from asyncrane.errors import InvalidDigest, InvalidInput, InvalidReference
from asyncrane.oci.digest import Digest
from asyncrane.oci.reference import Reference
from asyncrane.stores.locate import Location, open_location, parse_location, parse_repository, refuse_registry

SHA = Digest.of(b"x")


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("oci:out", Location("oci", "out")),
        ("oci:./out:1", Location("oci", "out", "1")),
        ("oci:/abs/out:reg.example:5000/a/b:1", Location("oci", "/abs/out", "reg.example:5000/a/b:1")),
        (f"oci:out@{SHA}", Location("oci", "out", None, SHA)),
        (f"oci:out:1@{SHA}", Location("oci", "out", "1", SHA)),
        ("oci:mail@home:1", Location("oci", "mail@home", "1")),
        ("oci:5000/app", Location("oci", "5000/app")),
        ("oci-archive:f.tar", Location("oci-archive", "f.tar")),
        ("oci-archive:-:1", Location("oci-archive", "-", "1")),
        ("docker-archive:f.tar:alpine:3.20", Location("docker-archive", "f.tar", "alpine:3.20")),
        ("docker-archive:f.tar:@1", Location("docker-archive", "f.tar", "@1")),
        ("docker-daemon:app:dev", Location("docker-daemon", "app:dev")),
        ("alpine", Location("registry", "index.docker.io/library/alpine", "latest")),
        ("docker://reg.example/a:1", Location("registry", "reg.example/a", "1")),
        (f"docker://oci:5000/app@{SHA}", Location("registry", "oci:5000/app", None, SHA)),
        ("oci/app:1", Location("registry", "index.docker.io/oci/app", "1")),
        ("oci", Location("registry", "index.docker.io/library/oci", "latest")),
        ("oci-archives:1", Location("registry", "index.docker.io/library/oci-archives", "1")),
    ],
)
def test_a_location_is_read(text: str, expected: Location) -> None:
    found = parse_location(text)
    assert found == expected
    assert parse_location(str(found)) == found or found.kind == "registry"


@pytest.mark.parametrize(
    "text",
    ["oci:", "oci::1", "oci:out:", "oci:out:a b", "oci:out:\n", "oci-archive:", "docker-daemon:", "http://x/y", "A"],
)
def test_what_is_no_location_is_refused(text: str) -> None:
    with pytest.raises(InvalidInput):
        parse_location(text)


def test_a_bad_digest_is_no_part_of_a_path() -> None:
    with pytest.raises(InvalidDigest, match="64 lower-case hex digits"):
        parse_location("oci:out@sha256:123")


@pytest.mark.parametrize("text", ["reg.example:5000/a/b:1", "alpine", f"a/b@{SHA}", f"a/b:1@{SHA}"])
def test_in_a_registry_it_is_what_the_reference_is(text: str) -> None:
    found, reference = parse_location(text), Reference.parse(text)
    assert (found.repository, found.tag, found.digest) == (reference.repository, reference.tag, reference.digest)
    assert str(found) == str(reference)
    assert found.identifier == reference.identifier


def test_parts_of_a_place_are_named_from_it() -> None:
    found = parse_location("oci:out:1")
    assert str(found.at(SHA)) == f"oci:out@{SHA}"
    assert str(found.named("2")) == "oci:out:2"
    with pytest.raises(InvalidReference, match="oci:out:1 is not in a registry"):
        _ = found.repository


def test_where_all_are_meant_none_may_be_named() -> None:
    assert parse_repository("oci:out") == Location("oci", "out")
    assert parse_repository("docker://reg.example/a") == Location("registry", "reg.example/a")
    for text in ("oci:out:1", f"oci-archive:f@{SHA}", "docker-daemon:app", "reg.example/a:1"):
        with pytest.raises(InvalidReference):
            parse_repository(text)


@pytest.mark.parametrize("text", ["host:5000", "docker://host.example", "localhost"])
def test_a_registry_alone_is_no_place_for_an_image(text: str) -> None:
    with pytest.raises(InvalidReference, match="is a registry without a repository"):
        refuse_registry(text)


def test_a_directory_is_never_taken_for_a_registry() -> None:
    refuse_registry("oci:5000")


def test_a_registry_is_not_opened_as_a_file() -> None:
    with pytest.raises(InvalidReference, match="is in a registry"):
        open_location(parse_location("alpine"), writing=False)
