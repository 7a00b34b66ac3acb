"""Jobs of all kinds are one run: what they share is read and sent once, and what fails is one job's own."""

from __future__ import annotations

import gzip
import json
import os
from collections import Counter
from collections.abc import Callable
from pathlib import Path
from typing import Any

import anyio
import pytest
from backports import zstd

from asyncrane import InvalidInput, Outcome, Place, Repository, Session
from asyncrane.operations import jobs as running
from asyncrane.operations.jobfile import parse_jobs
from asyncrane.operations.jobs import run_jobs
from asyncrane.testing import FaultyRegistry, status
from tests.archive.test_layers import tar
from tests.images.samples import BOTH, attested, image, index, problems, sample
from tests.peers import require
from tests.promises.images import incomplete, put, tags


async def run(*lines: Any, **options: Any) -> list[Outcome]:
    text = "\n".join(line if isinstance(line, str) else json.dumps(line) for line in lines)
    async with Session(**options) as session:
        return await run_jobs(session, parse_jobs(text, "jobs"))


async def wrong(registry: FaultyRegistry, repository: str, tag: str) -> list[str]:
    async with Session() as session:
        return await problems(session.remote(Repository(registry.address, repository)), tag)


def config(registry: FaultyRegistry, repository: str, identifier: str) -> dict[str, Any]:
    manifest = registry.get_manifest(repository, identifier)
    assert manifest is not None
    named = manifest.config()
    assert named is not None
    body = registry.get_blob(repository, named.digest)
    assert body is not None
    found: dict[str, Any] = json.loads(body)
    return found


async def test_all_kinds_of_jobs_are_one_run(
    source: FaultyRegistry, destination: FaultyRegistry, tmp_path: Path
) -> None:
    """A file is compressed and sent once, however many images get it."""
    at, to = source.address, destination.address
    put(source, "base", sample(index("a")), "1")
    put(source, "base", sample(index("b")), "2")
    put(source, "app", sample(index("a", "x")), "1")
    (tmp_path / "new.tar").write_bytes(tar())
    layers = [str(tmp_path / "new.tar")]
    outcomes = await run(
        {"copy": f"{at}/base:1", "to": [f"{to}/copy:1"]},
        {"append": f"{at}/base:1", "layers": layers, "to": [f"{to}/appended:1", f"{to}/appended:2"]},
        {"append": f"{at}/app:1", "layers": layers, "to": [f"{to}/app:appended"], "set_base_image_annotations": True},
        {"rebase": f"{at}/app:1", "old_base": f"{at}/base:1", "new_base": f"{at}/base:2", "to": [f"{to}/app:rebased"]},
        {"mutate": f"{at}/app:1", "labels": {"a": "b=c,d"}, "layers": layers, "to": f"{to}/app:mutated"},
    )
    assert [(outcome.source, outcome.failure) for outcome in outcomes] == [
        (f"{at}/{name}:1", None) for name in ("base", "base", "app", "app", "app")
    ]
    assert incomplete(destination) == []
    uploads = Counter(r.digest for r in destination.requests(kind="upload-put"))
    assert set(uploads.values()) == {1}
    for name in tags(destination):
        assert await wrong(destination, *name.split(":")) == []
    child = destination.get_manifest("app", "mutated").children()[1]  # type: ignore[union-attr]
    assert config(destination, "app", child.digest)["config"]["Labels"] == {"a": "b=c,d"}
    annotations = destination.get_manifest("app", "appended").annotations  # type: ignore[union-attr]
    assert annotations["org.opencontainers.image.base.name"] == f"{at}/app:1"
    assert annotations["org.opencontainers.image.base.digest"] == outcomes[2].root


@pytest.mark.parametrize("name", ["layer.tar", "layer.tar.gz", "layer.tar.zst"])
@pytest.mark.parametrize("docker", [False, True])
async def test_k3_a_tar_of_each_compression_is_appended(
    source: FaultyRegistry, tmp_path: Path, name: str, *, docker: bool
) -> None:
    """K3: the file's bytes are the layer, where they are compressed; base layers are mounted."""
    packs: dict[str, Callable[[bytes], bytes]] = {".tar": bytes, ".gz": gzip.compress, ".zst": zstd.compress}
    pack = packs[Path(name).suffix]
    content = pack(tar({"etc/motd": b"hello" * 100}))
    (tmp_path / name).write_bytes(content)
    base = sample(index("a", docker=docker))
    put(source, "base", base, "1")
    line = {"append": f"{source.address}/base:1", "layers": [str(tmp_path / name)], "to": [f"{source.address}/app:1"]}
    (outcome,) = await run(line)
    assert outcome.failure is None
    assert bool(outcome.notes) == (docker and name.endswith("zst"))
    assert await wrong(source, "app", "1") == []
    layers = {layer.digest for manifest in base.manifests for layer in manifest.layers()}
    assert {r.digest for r in source.requests(kind="mount", status=201)} >= layers
    assert {r.digest for r in source.requests(kind="upload-put")} & layers == set()
    if not name.endswith(".tar"):
        assert content in [source.get_blob("app", r.digest) for r in source.requests(kind="upload-put")]  # type: ignore[arg-type]


@pytest.mark.parametrize(
    ("make", "says"),
    [
        (lambda path: path.write_bytes(gzip.compress(tar({"a": bytes(range(256)) * 90}))[:-60]), "in the middle of"),
        (lambda path: path.write_bytes(b"hello, I am no tar" * 100), "is not a tar archive"),
        (os.mkfifo, "is not a regular file"),
        (lambda path: None, "No such file or directory"),
    ],
    ids=["truncated", "no tar", "pipe", "missing"],
)
async def test_a_bad_layer_is_one_clear_error_and_nothing_is_published(
    source: FaultyRegistry, tmp_path: Path, make: Any, says: str
) -> None:
    """The other jobs go on."""
    make(tmp_path / "bad")
    (tmp_path / "good").write_bytes(tar())
    put(source, "base", sample(image("a")), "1")
    jobs = [
        {"append": f"{source.address}/base:1", "layers": [str(tmp_path / name)], "to": [f"{source.address}/{name}:1"]}
        for name in ("bad", "good")
    ]
    bad, good = await run(*jobs)
    assert bad.failure is not None
    assert says in bad.failure.message
    assert "\n" not in bad.failure.message
    assert good.failure is None
    assert source.get_manifest("bad", "1") is None
    assert [r for r in source.log if r.repository == "bad"] == []


async def test_a_base_that_is_missing_is_asked_for_once_and_fails_its_jobs_only(source: FaultyRegistry) -> None:
    at = source.address
    put(source, "base", sample(image("a")), "1")
    for name in ("one", "two", "three"):
        put(source, name, sample(image("a", name)), "1")
    outcomes = await run(
        *[{"rebase": f"{at}/{n}:1", "old_base": f"{at}/base:1", "new_base": f"{at}/gone:1"} for n in ("one", "two")],
        {"mutate": f"{at}/three:1", "user": "x"},
    )
    assert [o.failure.kind if o.failure else None for o in outcomes] == ["NotFound", "NotFound", None]
    assert len(source.requests(kind="manifest-get", repository="gone")) == 1
    assert config(source, "three", "1")["config"]["User"] == "x"


async def test_a_base_that_fails_for_a_moment_is_read_all_the_same(source: FaultyRegistry) -> None:
    at = source.address
    put(source, "base", sample(image("a")), "1")
    put(source, "base", sample(image("b")), "2")
    put(source, "app", sample(image("a", "x")), "1")
    source.faults.add(status(503, kind="manifest-get", times=1))
    (outcome,) = await run({"rebase": f"{at}/app:1", "old_base": f"{at}/base:1", "new_base": f"{at}/base:2"})
    assert outcome.failure is None
    assert await wrong(source, "app", "1") == []


async def test_an_image_says_itself_what_it_stands_on(source: FaultyRegistry) -> None:
    """After one rebase its annotations are enough for the next; the base's tag may move meanwhile."""
    at = source.address
    put(source, "base", sample(index("a")), "1")
    put(source, "base", sample(index("b")), "stable")
    put(source, "app", sample(index("a", "x")), "1")
    (failed,) = await run({"rebase": f"{at}/app:1", "new_base": f"{at}/base:stable"})
    assert failed.failure is not None
    assert "name its 'old_base', or 'detect' it" in failed.failure.message
    await run({"rebase": f"{at}/app:1", "old_base": f"{at}/base:1", "new_base": f"{at}/base:stable"})
    newer = sample(index("c"))
    put(source, "base", newer, "stable")
    (outcome,) = await run({"rebase": f"{at}/app:1"})
    assert outcome.failure is None
    for child, base in zip(source.get_manifest("app", "1").children(), newer.manifest.children(), strict=True):  # type: ignore[union-attr]
        image_, below = source.get_manifest("app", child.digest), source.get_manifest("base", base.digest)
        assert image_ is not None
        assert below is not None
        assert image_.layers()[:-1] == below.layers()
    assert await wrong(source, "app", "1") == []


async def test_an_old_base_is_found_by_its_layers(source: FaultyRegistry) -> None:
    """Among the tags of the new base's repository, read once for all images; what was found is said."""
    at = source.address
    for tag, layers in {"1.0": ("a",), "1.1": ("a", "b"), "2.0": ("c",)}.items():
        put(source, "base", sample(index(*layers)), tag)
    source.put_manifest("base", sample(image("s")).manifest, f"sha256-{'0' * 64}.sig")
    for name in ("one", "two"):
        put(source, name, sample(index("a", "b", name)), "1")
    lines = [{"rebase": f"{at}/{name}:1", "new_base": f"{at}/base:2.0", "detect": True} for name in ("one", "two")]
    outcomes = await run(*lines)
    assert [outcome.notes for outcome in outcomes] == [(f"stands on {at}/base:1.1, by its layers",)] * 2
    assert len(source.requests(kind="tags")) == 1
    assert len(source.requests(kind="manifest-get", repository="base")) == 3 * 3
    assert len(source.get_manifest("one", str(source.get_manifest("one", "1").children()[0].digest)).layers()) == 2  # type: ignore[union-attr]
    put(source, "other", sample(index("z")), "1")
    (lost,) = await run({"rebase": f"{at}/other:1", "new_base": f"{at}/base:2.0", "detect": True})
    assert lost.failure is not None
    assert "stands on none of the 3 images" in lost.failure.message


async def test_one_platform_of_an_index_can_be_edited_alone(source: FaultyRegistry) -> None:
    """As with a copy: one gives that image, several an index of these."""
    at = source.address
    put(source, "app", attested(sample(index("a"))), "1")
    one, two = await run(
        {"mutate": f"{at}/app:1", "user": "x", "platforms": ["linux/arm64"], "to": [f"{at}/app:arm"]},
        {"mutate": f"{at}/app:1", "user": "x", "platforms": [str(p) for p in BOTH], "to": [f"{at}/app:both"]},
    )
    assert one.failure is two.failure is None
    assert config(source, "app", "arm")["architecture"] == "arm64"
    assert len(source.get_manifest("app", "both").children()) == 2  # type: ignore[union-attr]
    assert two.notes == ("2 attestations left out: about images that were edited",)


async def test_a_change_that_is_none_is_a_plain_copy(source: FaultyRegistry, destination: FaultyRegistry) -> None:
    """With everything that the index lists, and under the same digest."""
    made = attested(sample(index("a")))
    put(source, "app", made, "1")
    line = {"mutate": f"{source.address}/app:1", "unset_labels": ["none"], "to": [f"{destination.address}/app:1"]}
    (outcome,) = await run(line)
    assert (outcome.digest, outcome.root) == (str(made.digest), str(made.digest))
    assert incomplete(destination) == []


async def test_an_image_by_digest_is_edited_into_another_digest(source: FaultyRegistry) -> None:
    made = sample(image("a"))
    put(source, "app", made)
    (outcome,) = await run({"mutate": f"{source.address}/app@{made.digest}", "workdir": "/srv"})
    assert outcome.failure is None
    assert config(source, "app", outcome.digest)["config"]["WorkingDir"] == "/srv"
    assert tags(source) == {}


async def test_a_tag_that_is_not_to_be_moved_is_not_moved(source: FaultyRegistry) -> None:
    at, made = source.address, sample(image("a"))
    put(source, "app", made, "1", "2")
    (outcome,) = await run({"mutate": f"{at}/app:1", "user": "x", "to": [f"{at}/app:2"], "overwrite": "never"})
    assert outcome.targets[0].status == "conflict"
    assert tags(source)["app:2"] == str(made.digest)


async def test_only_some_edits_are_under_way_at_once(source: FaultyRegistry, monkeypatch: pytest.MonkeyPatch) -> None:
    """So that memory does not grow with the number of jobs; and what has ended leaves nothing behind."""
    monkeypatch.setattr(running, "WINDOW", 4)
    for number in range(12):
        put(source, f"app{number}", sample(index("a", str(number))), "1")
    held: list[int] = []
    lines = [{"mutate": f"{source.address}/app{number}:1", "user": "x"} for number in range(12)]
    async with Session() as session:
        overlays: list[Any] = []
        use = session.use

        def remembered(store: Any) -> Place:
            overlays.append(store)
            return use(store)

        monkeypatch.setattr(session, "use", remembered)
        seen: list[Outcome] = []

        def ended(outcome: Outcome) -> None:
            seen.append(outcome)
            held.append(len(overlays[0]._manifests))

        outcomes = await run_jobs(session, parse_jobs("\n".join(map(json.dumps, lines)), "j"), on_outcome=ended)
    assert sorted(outcome.source for outcome in seen) == sorted(outcome.source for outcome in outcomes)
    assert max(held) <= 4 * 3
    assert repr(overlays[0]).endswith("0 manifests, 0 blobs)")


async def test_source_date_epoch_is_when_layers_were_made(
    source: FaultyRegistry, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """K5: https://reproducible-builds.org/specs/source-date-epoch."""
    (tmp_path / "a.tar").write_bytes(tar())
    put(source, "base", sample(image("a")), "1")
    line = {
        "append": f"{source.address}/base:1",
        "layers": [str(tmp_path / "a.tar")],
        "to": [f"{source.address}/app:1"],
    }
    monkeypatch.setenv("SOURCE_DATE_EPOCH", "1700000000")
    await run(line)
    assert config(source, "app", "1")["history"][-1]["created"] == "2023-11-14T22:13:20Z"
    monkeypatch.setenv("SOURCE_DATE_EPOCH", "yesterday")
    with pytest.raises(InvalidInput, match="SOURCE_DATE_EPOCH"):
        await run(line)


@pytest.mark.parametrize("docker", [False, True])
async def test_others_find_nothing_wrong_with_what_was_edited(
    source: FaultyRegistry, tmp_path: Path, *, docker: bool
) -> None:
    """crane validates it and reads its config; skopeo copies it, which checks every digest."""
    crane, skopeo, at = require("crane"), require("skopeo", package="skopeo"), source.address
    (tmp_path / "new.tar").write_bytes(tar())
    put(source, "app", sample(index("a", "b", docker=docker)), "1")
    layers = [str(tmp_path / "new.tar")]
    await run(
        {"append": f"{at}/app:1", "layers": layers, "to": [f"{at}/app:appended"]},
        {"mutate": f"{at}/app:1", "layers": layers, "labels": {"a": "b,c=d"}, "env": {"X": "y"}, "to": [f"{at}/app:2"]},
    )
    for tag in ("appended", "2"):
        assert (await peer(crane, "validate", "--remote", f"{at}/app:{tag}")).startswith("PASS")
        copied = f"dir:{tmp_path / tag}"
        await peer(skopeo, "copy", "--all", "--src-tls-verify=false", f"docker://{at}/app:{tag}", copied)
    read = json.loads(await peer(crane, "config", "--platform", "linux/arm64", f"{at}/app:2"))
    assert read["config"]["Labels"] == {"a": "b,c=d"}
    assert read["config"]["Env"][-1] == "X=y"


async def peer(program: Path, *arguments: str) -> str:
    ended = await anyio.run_process([program, *arguments], check=False)
    assert ended.returncode == 0, ended.stderr.decode()
    return ended.stdout.decode()
