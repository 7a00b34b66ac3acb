"""Layers on top: every platform gets them, types fit, the rest stays (K1, K3, K4)."""

from __future__ import annotations

from pathlib import Path

import pytest
from backports import zstd

from asyncrane.archive.layers import Layer, layer_file
from asyncrane.errors import UnsupportedManifest
from asyncrane.images.append import append_layers
from asyncrane.images.family import family
from asyncrane.images.history import HistoryEntry
from asyncrane.images.overlay import origins
from asyncrane.images.rebuild import each
from asyncrane.images.view import Image, Index, images, opaques
from asyncrane.oci import media
from asyncrane.oci.platform import Platform
from asyncrane.oci.select import ATTESTS
from asyncrane.testing.images import Sample
from tests.archive.test_layers import tar
from tests.images.samples import BOTH, Bench, attested, image, index, sample, with_config, with_fields

THREE = (*BOTH, Platform("linux", "arm", "v7"))


@pytest.fixture
def bench() -> Bench:
    return Bench()


async def layer(path: Path, *, zstandard: bool = False, name: str = "etc/motd") -> Layer:
    content = tar({name: b"hello"})
    file = path / f"{name.replace('/', '-')}.{zstandard}"
    file.write_bytes(zstd.compress(content) if zstandard else content)
    return await layer_file(file)


async def test_k1_every_platform_of_an_index_gets_the_layer(bench: Bench, tmp_path: Path) -> None:
    """K1: three new manifests, one new index; order, platforms and annotations kept."""
    made = with_fields(sample(index("os", platforms=THREE)), annotations={"of": "the index"})
    fields = made.manifest.fields()
    for number, entry in enumerate(fields["manifests"]):
        entry["annotations"] = {"number": str(number)}
    made = with_fields(made, manifests=fields["manifests"])
    view = await bench.load("app", made)
    after = append_layers(view, [await layer(tmp_path)])
    assert isinstance(after, Index)
    assert after.manifest.annotations == {"of": "the index"}
    before = made.manifest.children()
    for old, new in zip(before, after.manifest.children(), strict=True):
        assert new.digest != old.digest
        assert (new.platform, new.annotations, new.media_type) == (old.platform, old.annotations, old.media_type)
    for old_image, new_image in zip(images(view), images(after), strict=True):
        assert new_image.manifest.layers()[:-1] == old_image.manifest.layers()
    assert await bench.problems(after) == []


@pytest.mark.parametrize("docker", [False, True])
async def test_k3_a_layer_has_a_type_of_its_images_family(bench: Bench, tmp_path: Path, *, docker: bool) -> None:
    view = await bench.load("app", sample(image("os", docker=docker)))
    after = append_layers(view, [await layer(tmp_path)])
    assert after.manifest.media_type == view.manifest.media_type
    expected = media.DOCKER_LAYER_GZIP if docker else media.OCI_LAYER_GZIP
    assert after.manifest.layers()[-1].media_type == expected
    assert await bench.problems(after) == []


@pytest.mark.parametrize("recipe", [image("os", docker=True), index("os", docker=True)], ids=["image", "list"])
async def test_k3_zstd_on_dockers_makes_an_oci_image(bench: Bench, tmp_path: Path, recipe) -> None:  # type: ignore[no-untyped-def]
    """K3: Docker's family has no type for it, so all of the image is OCI's."""
    after = append_layers(await bench.load("app", sample(recipe)), [await layer(tmp_path, zstandard=True)])
    assert family(after.manifest.media_type) == "oci"
    assert [i.manifest.layers()[-1].media_type for i in images(after)] == [media.OCI_LAYER_ZSTD] * len(
        list(images(after))
    )
    assert await bench.problems(after) == []


async def test_k4_an_image_without_history_gets_one_entry_for_each_layer(bench: Bench, tmp_path: Path) -> None:
    """K4: also those layers that nobody had written down."""
    view = await bench.load("app", with_config(sample(image("a", "b")), history=None))
    said = HistoryEntry(created_by="me", comment="it was asked for", author="")
    after = append_layers(view, [await layer(tmp_path)], history=said)
    assert isinstance(after, Image)
    history = after.settings()["history"]
    assert history[2:] == [{"created": "1970-01-01T00:00:00Z", "created_by": "me", "comment": "it was asked for"}]
    assert await bench.problems(after) == []


async def test_attestations_of_edited_images_are_left_out(bench: Bench, tmp_path: Path) -> None:
    """They are about bytes that are not here; those of images that nobody edited would stay."""
    view = await bench.load("app", attested(sample(index("os"))))
    assert len(list(opaques(view))) == 2
    after = append_layers(view, [await layer(tmp_path)])
    assert len(after.manifest.children()) == 2
    assert list(opaques(after)) == []
    assert await bench.problems(after) == []


async def test_an_attestation_stays_with_an_image_that_nobody_edited(bench: Bench, tmp_path: Path) -> None:
    view = await bench.load("app", attested(sample(index("os"))))
    new = await layer(tmp_path)
    after = each(view, lambda i: append_layers(i, [new]) if i.platform == BOTH[0] else i)  # type: ignore[return-value,arg-type]
    untouched = view.manifest.children()[1]
    assert [child.digest for child in after.manifest.children()[1:]] == [
        untouched.digest,
        next(c.digest for c in view.manifest.children() if c.annotations.get(ATTESTS) == untouched.digest),
    ]
    assert len(list(opaques(after))) == 1


async def test_k3_an_index_that_mixed_families_does_so_no_more(bench: Bench, tmp_path: Path) -> None:
    """K3: other tools make such; what is edited comes out as OCI's altogether."""
    docker, oci = sample(index("os", docker=True)), sample(index("os"))
    entries = [docker.manifest.fields()["manifests"][0], oci.manifest.fields()["manifests"][1]]
    mixed = with_fields(oci, manifests=entries)
    made = Sample((*docker.manifests[:-1], *mixed.manifests), {**docker.blobs, **oci.blobs})
    after = append_layers(await bench.load("app", made), [await layer(tmp_path)])
    assert await bench.problems(after) == []


async def test_only_new_bytes_are_in_the_overlay(bench: Bench, tmp_path: Path) -> None:
    """What the base has is named with where it is."""
    view = await bench.load("app", sample(image("a", "b")))
    new = await layer(tmp_path)
    after = append_layers(view, [new, new])
    assert isinstance(after, Image)
    assert set(after.added) == {new.digest, after.manifest.config().digest}  # type: ignore[union-attr]
    assert dict(origins(after)) == {blob.digest: view.home for blob in view.manifest.layers()}
    assert await bench.problems(after) == []


async def test_the_same_edit_gives_the_same_digest(bench: Bench, tmp_path: Path) -> None:
    """K5: in one step or in two, made now or later."""
    view = await bench.load("app", sample(index("a")))
    one, two = await layer(tmp_path), await layer(tmp_path, name="etc/issue")
    assert append_layers(view, [one, two]).manifest == append_layers(append_layers(view, [one]), [two]).manifest


async def test_nothing_appended_changes_nothing(bench: Bench) -> None:
    view = await bench.load("app", sample(index("a")))
    assert append_layers(view, []) is view


async def test_a_windows_image_is_refused(bench: Bench, tmp_path: Path) -> None:
    view = await bench.load("app", sample(image("os", platform=Platform("windows", "amd64", "", "10.0.17763.1"))))
    with pytest.raises(UnsupportedManifest, match="Windows"):
        append_layers(view, [await layer(tmp_path)])
