"""Manifests: the bytes are kept, the kind is never mistaken, nothing strange gets through."""

from __future__ import annotations

import base64
import contextlib
import json
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from asyncrane.errors import AsyncraneError, DigestMismatch, InvalidPlatform, UnsupportedManifest
from asyncrane.oci import media
from asyncrane.oci.digest import Digest
from asyncrane.oci.manifest import LARGEST, Manifest
from asyncrane.oci.platform import Platform
from asyncrane.oci.select import check_image, pick, strip

AMD, ARM, ARM_V7 = Platform("linux", "amd64"), Platform("linux", "arm64"), Platform("linux", "arm", "v7")


def descriptor(name: str, media_type: str = media.OCI_LAYER_GZIP, **more: Any) -> dict[str, Any]:
    return {"mediaType": media_type, "digest": str(Digest.of(name.encode())), "size": len(name), **more}


def entry(name: str, os: str = "", arch: str = "", variant: str = "", **more: Any) -> dict[str, Any]:
    platform = {"os": os, "architecture": arch, **({"variant": variant} if variant else {})}
    return descriptor(name, media.OCI_MANIFEST, **({"platform": platform} if os else {}), **more)


def read(fields: dict[str, Any], content_type: str = "") -> Manifest:
    return Manifest.read(json.dumps(fields).encode(), content_type=content_type)


def an_index(*entries: dict[str, Any]) -> Manifest:
    return read({"schemaVersion": 2, "manifests": list(entries), "annotations": {"z": "1", "a": "ü<&>"}})


def test_blobs_are_layers_and_config_each_once() -> None:
    layer = descriptor("l")
    manifest = read({"schemaVersion": 2, "config": descriptor("c", media.OCI_CONFIG), "layers": [layer, layer]})
    assert [b.digest for b in manifest.blobs()] == [Digest.of(b"l"), Digest.of(b"c")]


def test_the_kind_is_decided_by_content_type_then_body_then_shape() -> None:
    body: dict[str, Any] = {"schemaVersion": 2, "config": descriptor("c"), "layers": []}
    assert read(body).media_type == media.OCI_MANIFEST
    assert read({**body, "mediaType": media.DOCKER_MANIFEST}).media_type == media.DOCKER_MANIFEST
    assert read(body, f"{media.DOCKER_MANIFEST}; charset=utf-8").media_type == media.DOCKER_MANIFEST
    assert read({**body, "mediaType": media.DOCKER_MANIFEST}, "application/json").media_type == media.DOCKER_MANIFEST
    assert read({"manifests": []}).media_type == media.OCI_INDEX


@pytest.mark.parametrize(
    "body",
    [
        b"",
        b"[]",
        b"{}",
        b"<html>",
        b"\xff\xfe",
        b'{"manifests":[],"layers":[]}',
        b'{"mediaType":"application/vnd.oci.image.index.v1+json","layers":[]}',
        b'{"config":5,"layers":[]}',
        b'{"layers":[{"digest":"sha256:abc","size":1}],"config":{}}',
        b'{"manifests":[{"digest":"sha256:' + b"a" * 64 + b'","size":-1}]}',
        b'{"manifests":{}}',
        b"[" * 100_000,
        b'{"a":' * 100_000,
    ],
)
def test_what_is_no_manifest_or_two_at_once_is_refused(body: bytes) -> None:
    with pytest.raises(UnsupportedManifest):
        Manifest.read(body)


def test_a_manifest_too_large_is_refused_unread() -> None:
    with pytest.raises(UnsupportedManifest, match="more than"):
        Manifest.read(b" " * (LARGEST + 1))


def test_other_bytes_than_asked_for_are_refused() -> None:
    with pytest.raises(DigestMismatch):
        Manifest.read(b'{"manifests":[]}', digest=Digest.of(b"something else"))


def test_schema_1_is_digested_without_its_signatures() -> None:
    payload = b'{"schemaVersion":1,"fsLayers":[{"blobSum":"sha256:' + b"b" * 64 + b'"}],"history":[]'
    head, tail = payload, b"}"
    protected = {"formatLength": len(head), "formatTail": base64.urlsafe_b64encode(tail).decode().rstrip("=")}
    encoded = base64.urlsafe_b64encode(json.dumps(protected).encode()).decode().rstrip("=")
    body = head + b',"signatures":[{"protected":"' + encoded.encode() + b'"}]}'
    manifest = Manifest.read(body)
    assert manifest.media_type == media.DOCKER_SCHEMA1_SIGNED
    assert manifest.digest == Digest.of(head + tail)
    assert [(str(b.digest), b.size) for b in manifest.blobs()] == [("sha256:" + "b" * 64, -1)]


@given(
    st.recursive(
        st.none() | st.booleans() | st.integers() | st.text(),
        lambda c: (
            st.lists(c)
            | st.dictionaries(
                st.sampled_from(
                    ["manifests", "layers", "config", "mediaType", "digest", "size", "fsLayers", "signatures"]
                ),
                c,
            )
        ),
    )
)
def test_any_json_is_a_manifest_or_an_error_of_ours(value: Any) -> None:
    with contextlib.suppress(AsyncraneError):
        Manifest.read(json.dumps(value).encode())


def test_a_filtered_index_is_the_same_every_time() -> None:
    """E1, E3: only entries are taken out, and everything else keeps its bytes and order."""
    index = an_index(entry("a", "linux", "amd64"), entry("b", "linux", "arm64"), entry("c", "linux", "arm", "v7"))
    first, second = strip(index, [AMD, ARM]), strip(index, [ARM, AMD])
    assert first == second
    assert [c.platform for c in first.children()] == [AMD, ARM]
    assert first.fields()["annotations"] == index.fields()["annotations"]


def test_an_index_that_loses_nothing_keeps_its_bytes() -> None:
    index = an_index(entry("a", "linux", "amd64"), entry("b", "linux", "arm64"))
    assert strip(index, [AMD, ARM]) is index


def test_attestations_stay_with_their_image() -> None:
    """E6."""
    name = "vnd.docker.reference.digest"
    of_amd = entry("x", "unknown", "unknown", annotations={name: str(Digest.of(b"a"))})
    of_arm = entry("y", "unknown", "unknown", annotations={name: str(Digest.of(b"b"))})
    index = an_index(
        entry("a", "linux", "amd64"), entry("b", "linux", "arm64"), entry("c", "linux", "s390x"), of_amd, of_arm
    )
    kept = [c.digest for c in strip(index, [AMD, Platform("linux", "s390x")]).children()]
    assert kept == [Digest.of(b"a"), Digest.of(b"c"), Digest.of(b"x")]


def test_a_variant_matters_only_if_asked_for() -> None:
    index = an_index(entry("v6", "linux", "arm", "v6"), entry("v7", "linux", "arm", "v7"))
    assert pick(index, Platform("linux", "arm")).digest == Digest.of(b"v6")
    assert pick(index, ARM_V7).digest == Digest.of(b"v7")


def test_an_entry_without_a_platform_counts_as_linux_amd64() -> None:
    assert pick(an_index(entry("a")), AMD).digest == Digest.of(b"a")


def test_every_missing_platform_is_named_with_those_there_are() -> None:
    """E1."""
    index = an_index(entry("a", "linux", "amd64"))
    with pytest.raises(InvalidPlatform, match=r"linux/arm64, linux/arm/v7 .*there are: linux/amd64"):
        strip(index, [AMD, ARM, ARM_V7])
    with pytest.raises(InvalidPlatform, match="is for linux/amd64"):
        check_image(AMD, [ARM])


@pytest.mark.parametrize("text", ["linux", "", "linux/", "/amd64", "a/b/c/d", "linux/amd64:", "linux/amd 64", "all"])
def test_what_is_not_a_platform_is_refused(text: str) -> None:
    with pytest.raises(InvalidPlatform):
        Platform.parse(text)


@pytest.mark.parametrize("text", ["linux/amd64", "linux/arm/v7", "windows/amd64:10.0.17763.1"])
def test_a_platform_prints_as_it_was_written(text: str) -> None:
    assert str(Platform.parse(text)) == text


def test_inline_data_is_used_only_if_it_is_what_it_says() -> None:
    good = descriptor("hello", data=base64.b64encode(b"hello").decode())
    bad = descriptor("hello", data=base64.b64encode(b"jello").decode())
    manifest = read({"config": good, "layers": [bad]})
    layers, config = manifest.layers(), manifest.config()
    assert config is not None
    assert (config.data, layers[0].data) == (b"hello", None)
