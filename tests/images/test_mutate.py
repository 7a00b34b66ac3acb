"""What a config and annotations say is changed, and only that (K8)."""

from __future__ import annotations

from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from asyncrane.abc import Place, Site
from asyncrane.errors import ContentError, InvalidInput
from asyncrane.images.history import HistoryEntry
from asyncrane.images.mutate import Changes, mutate
from asyncrane.images.view import Image, Index, View, images, opaques
from asyncrane.oci.manifest import Manifest
from asyncrane.oci.platform import Platform
from asyncrane.testing.images import Sample
from tests.images.samples import Bench, attested, image, index, sample, with_config, with_fields

HOME = Place(Site("here"), "app")
RUNTIME: dict[str, Any] = {
    "Env": ["PATH=/bin", "A=1", "B=x=y", "A=2"],
    "Labels": {"kept": "as it is", "old": "1"},
    "Entrypoint": ["/run"],
    "Cmd": ["--now"],
    "User": "nobody",
    "WorkingDir": "/srv",
    "ExposedPorts": {"80/tcp": {}},
    "Healthcheck": {"Test": ["CMD", "true"], "Interval": 10**20},
    "of nobody's": None,
}


def view(made: Sample) -> Image:
    config = made.manifest.config()
    assert config is not None
    return Image(made.manifest, made.blobs[config.digest], HOME)


def dressed(**runtime: Any) -> Image:
    return view(with_config(sample(image("os")), config={**RUNTIME, **runtime}, **{"x.unknown": [1, {"y": 1.5}]}))


def after(image: View, **changes: Any) -> dict[str, Any]:
    """The runtime part of the config after ``changes``."""
    changed = mutate(image, Changes(**changes))
    assert isinstance(changed, Image)
    found: dict[str, Any] = changed.settings()["config"]
    return found


@pytest.mark.parametrize(
    ("changes", "expected"),
    [
        ({"labels": {"old": "2", "new": "a=b,c"}}, {"Labels": {"kept": "as it is", "old": "2", "new": "a=b,c"}}),
        ({"unset_labels": ("old", "never there")}, {"Labels": {"kept": "as it is"}}),
        ({"unset_labels": ("old", "kept")}, {"Labels": None}),
        ({"env": {"A": "3", "NEW": "p,q=r"}}, {"Env": ["PATH=/bin", "A=3", "B=x=y", "NEW=p,q=r"]}),
        ({"unset_env": ("A",)}, {"Env": ["PATH=/bin", "B=x=y"]}),
        ({"unset_env": ("A",), "env": {"A": "4"}}, {"Env": ["PATH=/bin", "A=4", "B=x=y"]}),
        ({"entrypoint": ("/go", "a b")}, {"Entrypoint": ["/go", "a b"], "Cmd": None}),
        ({"entrypoint": ("/go",), "cmd": ("x",)}, {"Entrypoint": ["/go"], "Cmd": ["x"]}),
        ({"entrypoint": ()}, {"Entrypoint": None, "Cmd": None}),
        ({"cmd": ()}, {"Cmd": None}),
        ({"user": "1000:1000", "workdir": "/app"}, {"User": "1000:1000", "WorkingDir": "/app"}),
        ({"user": "", "workdir": ""}, {"User": None, "WorkingDir": None}),
        ({"exposed_ports": ("8080", "53/udp")}, {"ExposedPorts": {"8080": {}, "53/udp": {}}}),
        ({"exposed_ports": ()}, {"ExposedPorts": None}),
    ],
    ids=str,
)
def test_k8_a_change_is_made_and_everything_else_stays(changes: dict[str, Any], expected: dict[str, Any]) -> None:
    """K8: ``None`` in the table is a key that has gone."""
    wanted = {key: value for key, value in {**RUNTIME, **expected}.items() if value is not None or key not in expected}
    before = dressed()
    changed = mutate(before, Changes(**changes))
    assert isinstance(changed, Image)
    assert changed.settings() == {**before.settings(), "config": wanted}
    assert list(changed.settings()) == list(before.settings())
    assert changed.manifest.layers() == before.manifest.layers()


texts = st.text(st.characters(exclude_categories=["Cs"]), max_size=20) | st.sampled_from(["a=b", "a,b", "=", ",", '"'])
names = st.text(st.characters(exclude_categories=["Cs"], exclude_characters="=\0"), min_size=1, max_size=8)


@settings(max_examples=100, deadline=None)
@given(
    labels=st.dictionaries(texts, texts, max_size=4),
    annotations=st.dictionaries(texts, texts, max_size=4),
    env=st.dictionaries(names, texts, max_size=4),
    cmd=st.none() | st.lists(texts, max_size=3).map(tuple),
)
def test_k8_what_is_set_is_read_back_and_what_is_unset_is_gone(
    labels: dict[str, str], annotations: dict[str, str], env: dict[str, str], cmd: tuple[str, ...] | None
) -> None:
    """K8: commas, equals signs, quotes and all of Unicode; taking it away again gives the first config back."""
    before = view(with_config(sample(image("os")), config=None))
    changed = mutate(before, Changes(labels=labels, annotations=annotations, env=env, cmd=cmd))
    assert isinstance(changed, Image)
    runtime = changed.settings().get("config") or {}
    assert runtime.get("Labels", {}) == labels
    assert changed.manifest.annotations == annotations
    assert [variable.partition("=")[::2] for variable in runtime.get("Env", [])] == list(env.items())
    assert tuple(runtime.get("Cmd", ())) == (cmd or ())
    gone = Changes(
        unset_labels=tuple(labels), unset_annotations=tuple(annotations), unset_env=tuple(env), cmd=() if cmd else None
    )
    back = mutate(changed, gone)
    assert isinstance(back, Image)
    assert (back.settings().get("config") or {}) == {}
    assert {**back.settings(), "config": {}} == {**before.settings(), "config": {}}
    assert mutate(changed, Changes(labels=labels, annotations=annotations, env=env)) is changed


async def test_k4_a_change_that_is_noted_is_a_step_without_a_layer() -> None:
    """K4: there are as many entries with a layer as layers, also where nobody had kept a history."""
    bench = Bench()
    before = await bench.load("app", with_config(sample(image("a", "b")), history=None))
    changed = mutate(before, Changes(created="2024-01-01T00:00:00Z", history=HistoryEntry(author="me")))
    assert isinstance(changed, Image)
    noted = {"created": "2024-01-01T00:00:00Z", "created_by": "asyncrane mutate", "author": "me", "empty_layer": True}
    assert changed.settings()["history"][2:] == [noted]
    assert await bench.problems(changed) == []
    with pytest.raises(InvalidInput, match="not a time: 'noon'"):
        mutate(before, Changes(history=HistoryEntry(created="noon")))


async def test_an_index_keeps_all_its_platforms() -> None:
    """Annotations are of the index, too; attestations of what was changed are left out."""
    bench = Bench()
    before = await bench.load("app", attested(with_fields(sample(index("os")), annotations={"a": "1"})))
    changed = mutate(before, Changes(annotations={"b": "2"}, labels={"l": "x"}))
    assert isinstance(changed, Index)
    assert changed.manifest.annotations == {"a": "1", "b": "2"}
    assert [i.platform for i in images(changed)] == [i.platform for i in images(before)]
    assert all(i.manifest.annotations == {"b": "2"} for i in images(changed))
    assert list(opaques(changed)) == []
    assert await bench.problems(changed) == []


async def test_no_change_gives_the_same_bytes() -> None:
    before = await Bench().load("app", attested(sample(index("os"))))
    assert mutate(before, Changes(unset_labels=("none",), unset_annotations=("none",))) is before


async def test_a_platform_is_said_in_the_config_and_in_the_index() -> None:
    bench = Bench()
    arm = Platform("linux", "arm", "v7")
    alone = await bench.load("app", sample(image("os")))
    changed = mutate(alone, Changes(platform=arm))
    assert isinstance(changed, Image)
    assert changed.platform == arm
    only = mutate(await bench.load("one", sample(index("os", platforms=[alone.platform]))), Changes(platform=arm))  # type: ignore[union-attr]
    assert [child.platform for child in only.manifest.children()] == [arm]
    with pytest.raises(InvalidInput, match="index of several images"):
        mutate(await bench.load("both", sample(index("os"))), Changes(platform=arm))


def test_names_of_variables_are_upper_case_on_windows() -> None:
    before = view(
        with_config(sample(image("os", platform=Platform("windows", "amd64"))), config={"Env": ["Path=C:\\", "Temp=x"]})
    )
    assert after(before, env={"path": "D:\\"}, unset_env=("TEMP",))["Env"] == ["PATH=D:\\"]


def test_created_is_changed_when_asked_for() -> None:
    changed = mutate(dressed(), Changes(created="2024-02-03T04:05:06Z"))
    assert isinstance(changed, Image)
    assert changed.settings()["created"] == "2024-02-03T04:05:06Z"


@pytest.mark.parametrize(
    "changes",
    [
        {"env": {"A=B": "c"}},
        {"unset_env": ("",)},
        {"exposed_ports": ("http",)},
        {"exposed_ports": ("0",)},
        {"exposed_ports": ("70000/tcp",)},
        {"exposed_ports": ("80/icmp",)},
    ],
    ids=str,
)
def test_what_cannot_be_said_is_refused(changes: dict[str, Any]) -> None:
    with pytest.raises(InvalidInput, match="not "):
        mutate(dressed(), Changes(**changes))


@pytest.mark.parametrize("runtime", [{"Labels": ["a"]}, {"Env": "A=1"}, {"Env": [1]}], ids=str)
def test_a_config_of_another_shape_is_a_clear_error(runtime: dict[str, Any]) -> None:
    with pytest.raises(ContentError, match="the config of here/app@sha256:"):
        mutate(dressed(**runtime), Changes(labels={"a": "b"}, env={"A": "b"}))


def test_an_embedded_config_is_renewed_and_fields_of_the_manifest_stay() -> None:
    """A manifest's ``data`` is a copy of the blob (image-spec, descriptor.md); ``subject`` and unknown fields stay."""
    made = sample(image("os"))
    fields = made.manifest.fields()
    fields["config"] |= {"data": "e30=", "annotations": {"c": "d"}}
    subject = {"mediaType": "x", "digest": "sha256:" + "0" * 64, "size": 1}
    before = view(with_fields(made, config=fields["config"], subject=subject, unknown=[1]))
    changed = mutate(before, Changes(labels={"a": "b"}))
    assert isinstance(changed, Image)
    found = changed.fields()
    config = Manifest.read(changed.manifest.body).config()
    assert config is not None
    assert config.data == changed.config
    assert config.annotations == {"c": "d"}
    assert (found["subject"], found["unknown"]) == (subject, [1])
    assert list(found) == list(before.fields())
