"""Changing and rebasing one image: an index stays one, and it goes where it is told."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from asyncrane import ContentError, InvalidInput, InvalidPlatform, NotFound, Outcome, Session
from asyncrane.images.mutate import Changes
from asyncrane.operations.surgery import append, mutate, rebase
from asyncrane.testing import FaultyRegistry
from tests.archive.test_layers import tar
from tests.images.samples import BOTH, image, index, sample, with_config
from tests.operations.test_jobs import config, wrong
from tests.promises.images import put, tags


async def test_k1_a_part_of_an_index_does_not_take_its_place(source: FaultyRegistry) -> None:
    """K1: crane's mutate leaves one platform of a tag."""
    name = put(source, "app", sample(index("a")), "1")
    before = tags(source)["app:1"]
    async with Session() as session:
        with pytest.raises(InvalidInput, match="names an index, and would name a part of it"):
            await mutate(session, name, Changes(user="x"), platforms=[BOTH[0]])
        assert tags(source)["app:1"] == before
        whole = await mutate(session, name, Changes(user="x", annotations={"a": "b"}))
        part = await mutate(session, name, Changes(user="y"), platforms=[BOTH[1]], to=f"{source.address}/app:arm")
    made = source.get_manifest("app", "1")
    assert made is not None
    assert (whole.digest, made.annotations, len(made.children())) == (str(made.digest), {"a": "b"}, 2)
    assert config(source, "app", "arm")["config"]["User"] == "y"
    assert config(source, "app", "arm")["architecture"] == "arm64"
    assert part.digest == tags(source)["app:arm"]


async def test_where_it_goes_is_as_in_crane(source: FaultyRegistry) -> None:
    """By tag over the tag, by digest beside the digest, to another repository by digest."""
    name = put(source, "app", sample(image("a")), "1")
    at, digest = source.address, tags(source)["app:1"]
    async with Session() as session:
        beside = await mutate(session, f"{at}/app@{digest}", Changes(user="one"))
        both = await mutate(session, f"{name}@{digest}", Changes(user="two"))
        elsewhere = await mutate(session, name, Changes(user="three"), repository=f"{at}/other")
        assert tags(source) == {"app:1": digest}
        over = await mutate(session, name, Changes(user="four"))
    assert tags(source) == {"app:1": over.digest}
    assert [config(source, r, o.digest)["config"]["User"] for r, o in (("app", beside), ("app", both))] == [
        "one",
        "two",
    ]
    assert config(source, "other", elsewhere.digest)["config"]["User"] == "three"
    async with Session() as session:
        with pytest.raises(InvalidInput, match="exclude each other"):
            await mutate(session, name, Changes(), to=name, repository=f"{at}/other")


async def test_nothing_to_change_is_a_copy(source: FaultyRegistry) -> None:
    name = put(source, "app", sample(index("a")), "1")
    async with Session() as session:
        outcome = await mutate(session, name, Changes(), to=f"{source.address}/new:1")
    assert (outcome.digest, tags(source)["new:1"]) == (tags(source)["app:1"],) * 2


async def test_k8_what_nobody_knows_survives_and_layers_go_on_top(source: FaultyRegistry, tmp_path: Path) -> None:
    """K8: unknown fields of the config, at every depth, are as they were."""
    odd = {"x": 1.50, "y": [1, {"z": None}]}
    made = with_config(sample(image("a")), config={"Odd": odd, "Labels": {"a": "1", "b": "2"}}, odd=odd)
    name = put(source, "app", made, "1")
    (tmp_path / "file").write_bytes(tar())
    async with Session() as session:
        changes = Changes(labels={"c": "x,y=z"}, unset_labels=("a",), created="2020-01-01T00:00:00Z")
        await mutate(session, name, changes, layers=[tmp_path / "file"])
    after = config(source, "app", "1")
    assert (after["odd"], after["config"]["Odd"]) == (odd, odd)
    assert after["config"]["Labels"] == {"b": "2", "c": "x,y=z"}
    assert after["created"] == after["history"][-1]["created"] == "2020-01-01T00:00:00Z"
    assert await wrong(source, "app", "1") == []


async def test_images_in_layouts_are_edited_like_those_in_registries(source: FaultyRegistry, tmp_path: Path) -> None:
    base, layout = put(source, "base", sample(index("a")), "1"), f"oci:{tmp_path / 'layout'}"
    (tmp_path / "file").write_bytes(tar())
    async with Session() as session:
        first = await append(session, [tmp_path / "file"], f"{layout}:1", base=base)
        second = await mutate(session, f"{layout}:1", Changes(user="x"))
        third = await mutate(session, f"{layout}:1", Changes(), to=f"{source.address}/app:1")
    assert first.digest != second.digest == third.digest
    assert await wrong(source, "app", "1") == []


async def test_k2_a_rebase_goes_where_it_is_told_and_refuses_what_does_not_fit(source: FaultyRegistry) -> None:
    """K2: no base for a platform, none that is known, not this base."""
    at = source.address
    for tag, made in {
        "1": sample(index("a")),
        "2": sample(index("b")),
        "3": sample(index("c")),
        "amd": sample(image("b")),
    }.items():
        put(source, "base", made, tag)
    name = put(source, "app", sample(index("a", "x")), "1")
    before = tags(source)

    async def attempt(**options: Any) -> Outcome:
        async with Session() as session:
            return await rebase(session, name, **options)

    for options, error, says in (
        ({"old_base": f"{at}/base:1", "new_base": f"{at}/base:amd"}, InvalidPlatform, "no image for linux/arm64"),
        ({"new_base": f"{at}/base:2"}, ContentError, "name its 'old_base'"),
        ({"old_base": f"{at}/base:1"}, ContentError, "name its 'new_base'"),
        ({"old_base": f"{at}/base:2", "new_base": f"{at}/base:3"}, ContentError, "does not stand on"),
        ({"old_base": f"{at}/gone:2", "new_base": f"{at}/base:1"}, NotFound, "gone"),
        ({"old_base": f"{at}/base:1", "new_base": f"{at}/base:2", "detect": True}, InvalidInput, "not looked for"),
    ):
        with pytest.raises(error, match=says):
            await attempt(**options)
    assert tags(source) == before
    done = await attempt(new_base=f"{at}/base:2", detect=True, to=f"{at}/app:2", platforms=[BOTH[1]])
    assert tags(source) == {**before, "app:2": done.digest}
    assert config(source, "app", "2")["architecture"] == "arm64"
    assert await wrong(source, "app", "2") == []
