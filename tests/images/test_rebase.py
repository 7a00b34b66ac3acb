"""Rebasing: another base under the same image (K2, K3, K4)."""

from __future__ import annotations

import json
from typing import Any

import pytest
from backports import zstd
from hypothesis import given, settings
from hypothesis import strategies as st

from asyncrane.errors import ContentError, InvalidPlatform
from asyncrane.images.family import family
from asyncrane.images.history import HistoryEntry, above, aligned, is_empty
from asyncrane.images.overlay import origins
from asyncrane.images.rebase import BASE_DIGEST, BASE_NAME, detect, rebase
from asyncrane.images.view import Image, images
from asyncrane.oci import media
from asyncrane.oci.digest import Digest
from asyncrane.oci.manifest import Manifest
from asyncrane.oci.platform import Platform
from asyncrane.testing.images import Sample
from tests.images.samples import BOTH, Bench, expanded, image, index, sample, with_config, with_fields


@pytest.fixture
def bench() -> Bench:
    return Bench()


def history(*steps: str) -> list[dict[str, Any]]:
    """Entries by what made them; those in brackets made no layer."""
    return [{"created_by": s[1:-1], "empty_layer": True} if s[0] == "(" else {"created_by": s} for s in steps]


def steps(view: Any) -> list[str]:
    said = next(images(view)).settings()["history"]
    return [f"({e['created_by']})" if e.get("empty_layer") else e["created_by"] for e in said]


async def test_the_new_bases_layers_come_below_the_images_own(bench: Bench) -> None:
    old, new = await bench.load("base", sample(index("a", "b"))), await bench.load("base", sample(index("c", "d", "e")))
    app = await bench.load("app", sample(index("a", "b", "x", "y")))
    after = rebase(app, old, new, name="here/base:2")
    for was, now, base in zip(images(app), images(after), images(new), strict=True):
        assert now.manifest.layers() == (*base.manifest.layers(), *was.manifest.layers()[2:])
        assert now.manifest.annotations == {BASE_NAME: "here/base:2", BASE_DIGEST: str(new.manifest.digest)}
        assert {**now.settings(), "rootfs": 0, "history": 0} == {**was.settings(), "rootfs": 0, "history": 0}
    places = dict(origins(after))
    assert {places[layer.digest] for base in images(new) for layer in base.manifest.layers()} == {new.home}
    assert {places[layer.digest] for was in images(app) for layer in was.manifest.layers()[2:]} == {app.home}
    assert await bench.problems(after) == []


async def test_k4_the_first_layer_of_an_image_without_history_is_not_lost(bench: Bench) -> None:
    """K4: crane drops it (``createAddendums`` is off by one there)."""
    old, new = await bench.load("base", sample(image("a"))), await bench.load("base", sample(image("b")))
    made = with_config(sample(image("a", "x", "y")), history=None)
    app = await bench.load("app", made)
    after = rebase(app, old, new)
    assert after.manifest.layers() == (*new.manifest.layers(), *app.manifest.layers()[1:])
    assert await bench.problems(after) == []


async def test_k4_a_rebase_is_noted_once(bench: Bench) -> None:
    """K4: as a step without a layer, above everything; none is where nothing was to be done."""
    old, new = await bench.load("base", sample(image("a"))), await bench.load("base", sample(image("b")))
    said = HistoryEntry(comment="CVE-2026-1")
    after = rebase(await bench.load("app", sample(image("a", "x"))), old, new, name="here/base:2", history=said)
    assert isinstance(after, Image)
    noted = {"created": "1970-01-01T00:00:00Z", "created_by": "asyncrane rebase", "comment": "CVE-2026-1"}
    assert after.settings()["history"][2:] == [{**noted, "empty_layer": True}]
    assert await bench.problems(after) == []
    assert rebase(after, old, new, name="here/base:2", history=said) is after


@pytest.mark.parametrize(
    ("old", "new", "app", "expected"),
    [
        (["a", "(cmd)"], ["b"], ["a", "(cmd)", "x", "(run)"], ["b", "x", "(run)"]),
        (["a"], ["b", "(env)", "c"], ["a", "x"], ["b", "(env)", "c", "x"]),
        (["a", "(cmd)"], ["b"], ["(args)", "a", "(other)", "x"], ["b", "(other)", "x"]),
        ([], ["b"], ["a", "x"], ["b", "x"]),
        (["a"], [], ["a", "x"], ["unknown", "x"]),
        (["a"], ["b"], ["a"], ["b", "unknown"]),
    ],
    ids=str,
)
async def test_k4_the_history_is_the_new_bases_and_then_the_images_own(
    bench: Bench, old: list[str], new: list[str], app: list[str], expected: list[str]
) -> None:
    """K4: steps of the base that made no layer go with it, where they are known by its own history."""

    def made(name: str, layers: tuple[str, ...], said: list[str]) -> Sample:
        return with_config(sample(image(*layers)), history=history(*said))

    below = await bench.load("old", made("old", ("l1",), old))
    layers = tuple(f"n{n}" for n in range(max(1, sum(s[0] != "(" for s in new))))
    above_ = await bench.load("new", made("new", layers, new))
    after = rebase(await bench.load("app", made("app", ("l1", "own"), app)), below, above_)
    assert steps(after) == expected
    assert await bench.problems(after) == []


entries = st.lists(st.sampled_from(history("layer", "(none)", "other")), max_size=8)


@settings(deadline=None)
@given(said=entries, base=entries, layers=st.integers(0, 6), under=st.integers(0, 6))
def test_k4_a_history_always_has_as_many_entries_as_layers(
    said: list[dict[str, Any]], base: list[dict[str, Any]], layers: int, under: int
) -> None:
    """K4: whatever was there before."""
    under = min(under, layers)
    whole = aligned(said, layers)
    assert sum(not is_empty(entry) for entry in whole) == layers
    assert [e["created_by"] for e in whole[: len(said)]] == [e["created_by"] for e in said]
    rest = above(whole, aligned(base, under), under)
    assert sum(not is_empty(entry) for entry in rest) == layers - under


@pytest.mark.parametrize(("app_docker", "base_docker"), [(True, False), (False, True)])
async def test_k3_an_image_keeps_its_family_on_a_base_of_the_other(
    bench: Bench, *, app_docker: bool, base_docker: bool
) -> None:
    """K3: the base's layers get the image's types."""
    old = await bench.load("base", sample(index("a", docker=app_docker)))
    new = await bench.load("base", sample(index("b", docker=base_docker)))
    app = await bench.load("app", sample(index("a", "x", docker=app_docker)))
    after = rebase(app, old, new)
    assert after.manifest.media_type == app.manifest.media_type
    assert await bench.problems(after) == []


async def test_k3_a_zstd_base_makes_an_oci_image_of_dockers(bench: Bench) -> None:
    """K3: there is no Docker type for its layers."""
    made = sample(image("b"))
    fields, layer = made.manifest.fields(), made.manifest.layers()[0]
    packed = zstd.compress(expanded(made.blobs[layer.digest]))
    fields["layers"] = [{"mediaType": media.OCI_LAYER_ZSTD, "digest": str(Digest.of(packed)), "size": len(packed)}]
    blobs = {d: b for d, b in made.blobs.items() if d != layer.digest} | {Digest.of(packed): packed}
    new = await bench.load("base", Sample((Manifest.read(json.dumps(fields).encode()),), blobs))
    old = await bench.load("base", sample(image("a", docker=True)))
    after = rebase(await bench.load("app", sample(image("a", "x", docker=True))), old, new)
    assert family(after.manifest.media_type) == "oci"
    assert await bench.problems(after) == []


async def test_annotations_of_the_image_and_the_index_are_kept(bench: Bench) -> None:
    old, new = await bench.load("base", sample(index("a"))), await bench.load("base", sample(index("b")))
    made = with_fields(sample(index("a", "x")), annotations={"mine": "1", BASE_NAME: "base:1"})
    after = rebase(await bench.load("app", made), old, new, name="base:2")
    noted = {"mine": "1", BASE_NAME: "base:2", BASE_DIGEST: str(new.manifest.digest)}
    assert after.manifest.annotations == noted


async def test_a_base_for_another_platform_is_refused(bench: Bench) -> None:
    """K2: nothing is built of parts that cannot run together."""
    app = await bench.load("app", sample(index("a", "x")))
    amd = await bench.load("amd", sample(image("a")))
    with pytest.raises(InvalidPlatform, match="old base has no image for linux/arm64; there are: linux/amd64"):
        rebase(app, amd, await bench.load("base", sample(index("b"))))
    with pytest.raises(InvalidPlatform, match="new base has no image for linux/arm64"):
        rebase(app, await bench.load("base", sample(index("a"))), amd)


async def test_a_variant_that_goes_without_saying_is_the_same_platform(bench: Bench) -> None:
    """arm64 is arm64/v8, as for containerd; arm/v6 is not arm/v7."""

    def one(variant: str, *layers: str, architecture: str = "arm64") -> Sample:
        made = sample(image(*layers, platform=Platform("linux", architecture)))
        return with_config(made, variant=variant or None)

    old, new = await bench.load("old", one("", "a")), await bench.load("new", one("v8", "b"))
    after = rebase(await bench.load("app", one("v8", "a", "x")), old, new)
    assert await bench.problems(after) == []
    with pytest.raises(InvalidPlatform, match="new base has no image for linux/arm/v6"):
        rebase(
            await bench.load("app6", one("v6", "a", "x", architecture="arm")),
            await bench.load("old6", one("v6", "a", architecture="arm")),
            await bench.load("new7", one("v7", "b", architecture="arm")),
        )


async def test_windows_takes_the_version_of_its_new_base(bench: Bench) -> None:
    def one(version: str, *layers: str) -> Sample:
        return sample(index(*layers, platforms=[Platform("windows", "amd64", "", version)]))

    old = one("10.0.17763.1", "a")
    app, new = one("10.0.17763.1", "a", "x"), one("10.0.17763.2", "a2")
    after = rebase(await bench.load("app", app), await bench.load("old", old), await bench.load("new", new))
    assert [child.platform.os_version for child in after.manifest.children() if child.platform] == ["10.0.17763.2"]
    other = await bench.load("2022", one("10.0.20348.1", "b"))
    with pytest.raises(InvalidPlatform, match=r"there are: windows/amd64:10\.0\.20348\.1"):
        rebase(await bench.load("again", app), await bench.load("older", old), other)


async def test_an_image_that_does_not_stand_on_its_old_base_is_refused(bench: Bench) -> None:
    app = await bench.load("app", sample(image("a", "b", "x")))
    new = await bench.load("new", sample(image("n")))
    with pytest.raises(ContentError, match="of its 3 layers only the first 2 are there"):
        rebase(app, await bench.load("old", sample(image("a", "b", "c"))), new)
    with pytest.raises(ContentError, match="only the first 0 are there"):
        rebase(app, await bench.load("other", sample(image("z"))), new)
    with pytest.raises(ContentError, match="has no layers"):
        rebase(app, await bench.load("empty", sample(image())), new)


async def test_rebasing_twice_is_rebasing_once(bench: Bench) -> None:
    """Also where the new base begins with the old one, or the old one with the new."""
    for old, new in ((("a",), ("b",)), (("a",), ("a", "c")), (("a", "c"), ("a",))):
        below, above_ = await bench.load("old", sample(image(*old))), await bench.load("new", sample(image(*new)))
        app = await bench.load("app", sample(image(*old, "x")))
        once = rebase(app, below, above_, name="base:2")
        assert once.manifest.layers() == (*above_.manifest.layers(), app.manifest.layers()[-1])
        assert rebase(once, below, above_, name="base:2") is once


async def test_the_base_with_the_most_layers_in_common_is_found(bench: Bench) -> None:
    app = await bench.load("app", sample(index("a", "b", "x")))
    names: list[tuple[tuple[str, ...], tuple[Platform, ...]]] = [
        (("a",), BOTH),
        (("a", "b"), BOTH),
        (("a", "b", "z"), BOTH),
        (("a", "b", "x"), BOTH[:1]),
        ((), BOTH),
    ]
    views = [await bench.load(f"base{n}", sample(index(*layers, platforms=p))) for n, (layers, p) in enumerate(names)]
    assert detect(app, views) == 1
    assert detect(app, views[2:]) is None


async def test_a_config_with_too_few_diff_ids_is_refused(bench: Bench) -> None:
    made = with_config(sample(image("a", "x")), rootfs={"type": "layers", "diff_ids": ["sha256:0"]})
    app, base = await bench.load("app", made), await bench.load("base", sample(image("a")))
    assert isinstance(app, Image)
    with pytest.raises(ContentError, match="has 1 diff_ids for 2 layers"):
        rebase(app, base, base)
