"""Files that mirror files name: of repositories, and of images (G3)."""

from __future__ import annotations

from pathlib import Path

import pytest
from hypothesis import HealthCheck, given, settings

from asyncrane.errors import InvalidMirrorSpec
from asyncrane.mirror.spec import SourcePattern
from asyncrane.oci.digest import Digest
from tests.mirror.files import DIGESTS, Folder, hostile, problem


@pytest.fixture
def folder(tmp_path: Path) -> Folder:
    return Folder(tmp_path)


def test_repositories_can_be_listed_in_a_file(folder: Folder) -> None:
    """H3: no catalog is needed; paths are seen from the mirror file, wherever the program runs."""
    folder.put("repos.txt", "# ours\na:5000/team/app  # the app\n\n  a:5000/b\na:5000/b\n")
    folder.put("paths.txt", "team/app\r\nb\r\n")
    full, paths = folder.rules(
        "{from: {file: repos.txt}, to: 'b:5000/{path}'}", "{from: {registry: a:5000, file: paths.txt}, to: b:5000/x}"
    )
    assert full.source == paths.source == SourcePattern("a:5000", names=("team/app", "b"))


LIST = f"""\
# pinned
a:5000/app@{DIGESTS[0]}
a:5000/app:1@{DIGESTS[1]}   # with a label
  alpine
a:5000/app@{DIGESTS[0]}
"""
MANIFESTS = f"""\
apiVersion: v1
kind: Pod
metadata: {{annotations: {{image.example/x: "no: image"}}}}
spec:
  initContainers: [{{name: first, image: "a:5000/app@{DIGESTS[0]}"}}]
  containers:
    - image: a:5000/app:1@{DIGESTS[1]}
      name: app
    - &sidecar
      image: alpine
      command: [echo, image]
    - *sidecar
---
kind: CronJob
spec: {{jobTemplate: {{spec: {{template: {{spec: {{containers: [{{image: alpine}}]}}}}}}}}}}
---
"""
LOCK = f"""\
---
apiVersion: imgpkg.carvel.dev/v1alpha1
images:
- annotations: {{kbld.carvel.dev/id: app}}
  image: a:5000/app@{DIGESTS[0]}
- image: a:5000/app:1@{DIGESTS[1]}
- image: index.docker.io/library/alpine:latest
kind: ImagesLock
"""
VALUES = f"""\
image: {{registry: a:5000, repository: app, tag: "", digest: "{DIGESTS[0]}"}}
sidecar:
  image: {{repository: a:5000/app, tag: 1, digest: "{DIGESTS[1]}"}}
  extra: {{image: "", images: [alpine]}}
schema: {{image: {{type: object, description: which one}}}}
"""


@pytest.mark.parametrize(
    "content",
    [
        LIST,
        MANIFESTS,
        LOCK,
        VALUES,
        f'["a:5000/app@{DIGESTS[0]}",\n\t"a:5000/app:1@{DIGESTS[1]}", "alpine"]',
        f'{{"containers": [{{"image": "a:5000/app@{DIGESTS[0]}"}}, {{"image": "a:5000/app:1@{DIGESTS[1]}"}}],'
        ' "other": {"image": "alpine"}}',
        f"- a:5000/app@{DIGESTS[0]}\n- a:5000/app:1@{DIGESTS[1]}\n- alpine\n",
    ],
    ids=["list", "manifests", "lock file", "chart", "json list", "json", "yaml list"],
)
def test_images_can_be_listed_in_a_file(folder: Folder, content: str) -> None:
    """G3: untagged images are found by their digests in lists, lock files, Kubernetes manifests, charts."""
    folder.put("images", content)
    rules = folder.rules("{images_file: images, to: 'b:5000/{registry}/{path}'}")
    assert [str(rule.image) for rule in rules] == [
        f"a:5000/app@{DIGESTS[0]}",
        f"a:5000/app:1@{DIGESTS[1]}",
        "index.docker.io/library/alpine:latest",
    ]
    assert {rule.line for rule in rules} == {3}
    repository, tag = (
        rules[0].to[0].expand(registry="a:5000", path="app", tag=None, digest=Digest.parse(DIGESTS[0]), groups={})
    )
    assert (str(repository), tag) == ("b:5000/a-5000/app", None)


@pytest.mark.parametrize(
    ("content", "error"),
    [
        ("app:1\nApp:2\n", "images:2:1: not a repository: 'App'"),
        ("app:1 app:2 # both\n", "images:1:1: 'app:1 app:2 # both': expected one name a line"),
        ("app:1\n  app:2 copy\n", "images:2:1: 'app:2 copy': expected one name a line"),
        ("a:\n  image: $(TAG)\n", "images:2:10: not a repository: '$(TAG)'"),
        ("a: {image: x:1, image: y:1}\n", "images:1:17: the key 'image' is there twice: also in line 1"),
        ("# nothing\n", "images: no image in it"),
        ("kind: List\nitems: []\n", "images: no image in it"),
    ],
)
def test_what_is_wrong_with_a_list_of_images_is_said_with_its_place(folder: Folder, content: str, error: str) -> None:
    folder.put("images", content)
    with pytest.raises(InvalidMirrorSpec) as caught:
        folder.rules("{images_file: images, to: 'b:5000/{path}'}")
    assert str(caught.value).startswith(f"{folder.path}/{error}")


@pytest.mark.parametrize(
    ("content", "error"),
    [
        ("a:5000/x\nb:5000/y\n", "repos:2:1: b:5000 after a:5000"),
        ("a:5000/x:1\n", "repos:1:1: not a repository"),
        ("\n", "repos: no repository in it"),
    ],
)
def test_what_is_wrong_with_a_list_of_repositories_is_said_with_its_place(
    folder: Folder, content: str, error: str
) -> None:
    folder.put("repos", content)
    with pytest.raises(InvalidMirrorSpec) as caught:
        folder.rules("{from: {file: repos}, to: 'b:5000/{path}'}")
    assert str(caught.value).startswith(f"{folder.path}/{error}")


@settings(suppress_health_check=[HealthCheck.function_scoped_fixture], max_examples=100)
@given(hostile)
def test_any_list_is_images_or_an_error(folder: Folder, content: bytes) -> None:
    (folder.path / "images").write_bytes(content)
    said = problem(lambda: folder.rules("{images_file: images, to: 'b:5000/{path}'}"))
    assert said is None or said.startswith(f"{folder.path}/")
