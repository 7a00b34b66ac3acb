"""``index.json``: what is found by which name, and what stays when it is changed."""

from __future__ import annotations

import json
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from asyncrane.errors import ContentError, InvalidReference, NotFound
from asyncrane.oci import media
from asyncrane.oci.descriptor import Descriptor
from asyncrane.oci.digest import Digest
from asyncrane.stores.imageindex import IMAGE_NAME, REF_NAME, ImageIndex


def manifest(content: object) -> Descriptor:
    return Descriptor(media.OCI_MANIFEST, Digest.of(str(content).encode()), 7)


def entry(content: object, **annotations: str) -> dict[str, Any]:
    names = {"ref": REF_NAME, "image": IMAGE_NAME}
    notes = {names.get(key, key): value for key, value in annotations.items()}
    described = manifest(content)
    return {
        "mediaType": described.media_type,
        "digest": str(described.digest),
        "size": 7,
        **({"annotations": notes} if notes else {}),
    }


def index(*entries: dict[str, Any], **more: Any) -> ImageIndex:
    return ImageIndex.read(json.dumps({"schemaVersion": 2, "manifests": entries, **more}).encode(), "here")


FULL = "index.docker.io/library/alpine:3.20"


@pytest.mark.parametrize(
    ("annotations", "asked"),
    [
        ({"ref": "v1"}, "v1"),
        ({"ref": FULL}, FULL),
        ({"ref": FULL}, "alpine:3.20"),
        ({"ref": FULL}, "docker.io/library/alpine:3.20"),
        ({"ref": FULL}, "3.20"),
        ({"ref": "3.20", "image": "docker.io/library/alpine:3.20"}, "3.20"),
        ({"ref": "3.20", "image": "docker.io/library/alpine:3.20"}, "alpine:3.20"),
        ({"ref": "no reference @ all"}, "no reference @ all"),
    ],
)
def test_an_image_is_found_by_its_name_its_reference_and_its_tag(annotations: dict[str, str], asked: str) -> None:
    found = index(entry("other", ref="other"), entry("it", **annotations))
    assert found.find(asked).digest == manifest("it").digest


def test_the_very_name_wins_over_the_tag_of_another() -> None:
    found = index(entry("a", ref="reg.example/a:v1"), entry("b", ref="v1"))
    assert found.find("v1").digest == manifest("b").digest


def test_an_unknown_name_is_answered_with_those_there_are() -> None:
    with pytest.raises(NotFound, match=r"^here has no image 'v9'; there is: v1, reg.example/a:v2, @sha256:"):
        index(entry("a", ref="v1"), entry("b", ref="reg.example/a:v2"), entry("c")).find("v9")
    with pytest.raises(NotFound, match=r"there is: nothing$"):
        index().find("v9")
    with pytest.raises(NotFound, match=r"0, 1, .* 19 and 5 more$"):
        index(*[entry(n, ref=str(n)) for n in range(25)]).find("v9")


def test_a_name_that_several_images_have_is_refused() -> None:
    with pytest.raises(InvalidReference, match=r"has 2 images 'v1', say which one: @sha256:.*, @sha256:"):
        index(entry("a", ref="v1"), entry("b", ref="v1")).find("v1")
    twice = index(entry("a", ref="v1"), entry("a", ref="v1"))  # as crane pull leaves it
    assert twice.find("v1").digest == manifest("a").digest


def test_where_none_is_named_there_must_be_one_only() -> None:
    assert index(entry("a", ref="v1"), entry("a", ref="v2")).sole().digest == manifest("a").digest
    with pytest.raises(InvalidReference, match="here holds 2 images, say which one: v1, v2"):
        index(entry("a", ref="v1"), entry("b", ref="v2")).sole()
    with pytest.raises(NotFound, match="here holds no image"):
        index().sole()


def test_entries_keep_what_they_have_when_another_is_added() -> None:
    odd = {"mediaType": "x", "digest": "blake3:abc", "size": 1}
    kept = entry("a", ref="v1", note="kept") | {"platform": {"os": "linux", "architecture": "arm64"}, "x-own": [1]}
    changed = index(kept, odd, annotations={"a": "b"}, xtra=1).adding(manifest("b"), "v2")
    fields = json.loads(changed.body())
    assert fields["manifests"] == [kept, entry("b", ref="v2"), odd]
    assert (fields["annotations"], fields["xtra"], fields["schemaVersion"]) == ({"a": "b"}, 1, 2)


def test_a_name_moves_and_an_image_may_have_several() -> None:
    changed = index(entry("a", ref="v1")).adding(manifest("b"), "v1").adding(manifest("b"), "v2")
    assert [(e.ref_name, e.descriptor.digest) for e in changed] == [
        ("v1", manifest("b").digest),
        ("v2", manifest("b").digest),
    ]


def test_the_same_again_changes_nothing() -> None:
    before = index(entry("a", ref="v1", note="kept"), entry("b"))
    assert before.adding(manifest("a"), "v1") is before
    assert before.adding(manifest("a"), None) is before
    assert before.adding(manifest("b"), None) is before


def test_an_image_without_a_name_gets_the_one_it_is_given() -> None:
    changed = index(entry("a", note="kept")).adding(manifest("a"), "v1")
    assert json.loads(changed.body())["manifests"] == [entry("a", note="kept", ref="v1")]


@given(st.lists(st.tuples(st.integers(0, 3), st.sampled_from(["a", "b", "c", None]))))
def test_every_name_is_that_of_the_last_image_it_was_given_to(changes: list[tuple[int, str | None]]) -> None:
    found = ImageIndex.empty("here")
    for content, name in changes:
        found = found.adding(manifest(content), name)
    found = ImageIndex.read(found.body(), "here")
    last = {name: content for content, name in changes if name is not None}
    assert {name: found.find(name).digest for name in found.names()} == {
        name: manifest(content).digest for name, content in last.items()
    }
    pairs = [(e.ref_name, e.descriptor.digest) for e in found]
    assert len(pairs) == len(set(pairs))
    named = {e.descriptor.digest for e in found if e.ref_name}
    assert not any(e.descriptor.digest in named for e in found if not e.ref_name)


@pytest.mark.parametrize("body", [b"", b"[]", b"{", b'{"manifests":{}}', b"[" * 100_000, b"\xff"])
def test_what_is_no_index_is_refused(body: bytes) -> None:
    with pytest.raises(ContentError, match=r"^here: index\.json "):
        ImageIndex.read(body, "here")
