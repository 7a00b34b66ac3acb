"""K2: many images on one new base in one run. The base's new layers are moved once, the images' own not at all."""

from __future__ import annotations

import json
import os
import subprocess
from collections import Counter
from collections.abc import Mapping

import anyio.to_thread
import pytest

from asyncrane import Outcome, Repository, Session, Statistics
from asyncrane.oci.digest import Digest
from asyncrane.operations import jobs as operations
from asyncrane.operations.jobfile import parse_jobs
from asyncrane.operations.jobs import run_jobs
from asyncrane.testing import FaultyRegistry, delay
from asyncrane.testing.images import Sample
from asyncrane.transport.options import RegistryOptions
from tests.images.samples import index, problems, sample
from tests.peers import require
from tests.promises.images import incomplete, put, tags

APPS = int(os.environ.get("ASYNCRANE_TEST_REBASES", "60"))
OLD, NEW = ("os", "libc"), ("os 2", "libc 2", "certificates")


def apps(registry: FaultyRegistry, number: int = APPS) -> dict[str, Sample]:
    """Two platforms on the old base, each with two layers of its own, in a repository of its own."""
    made = {f"team/app{n}": sample(index(*OLD, f"deps {n}", f"code {n}", size=4000)) for n in range(number)}
    for name, app in made.items():
        put(registry, name, app, "1")
    return made


def bases(registry: FaultyRegistry) -> tuple[Sample, Sample]:
    old, new = sample(index(*OLD, size=4000)), sample(index(*NEW, size=4000))
    put(registry, "base", old, "1")
    put(registry, "base", new, "2")
    return old, new


def job(source: str, base: str, to: str = "") -> str:
    fields = {"rebase": source, "old_base": f"{base}:1", "new_base": f"{base}:2"}
    return json.dumps({**fields, "to": [to]} if to else fields)


async def run(
    lines: list[str], *, jobs: int | None = None, registries: Mapping[str, RegistryOptions] | None = None
) -> tuple[list[Outcome], Statistics]:
    async with Session(jobs=jobs, registries=registries) as session:
        outcomes = await run_jobs(session, parse_jobs("\n".join(lines), "jobs"))
        return outcomes, session.statistics()


def layers(*made: Sample) -> set[Digest]:
    return {layer.digest for one in made for manifest in one.manifests for layer in manifest.layers()}


def uploaded(registry: FaultyRegistry) -> Counter[str]:
    return Counter(request.digest for request in registry.requests(kind="upload-put"))


async def wrong(registry: FaultyRegistry, repository: str, tag: str) -> list[str]:
    async with Session() as session:
        return await problems(session.remote(Repository(registry.address, repository)), tag)


async def test_k2_on_one_registry_no_layer_is_moved_at_all(source: FaultyRegistry) -> None:
    """K2: the base's layers are mounted, the images' own are not even asked for, and a base is read once."""
    old, new = bases(source)
    fleet = apps(source)
    outcomes, done = await run(
        [job(f"{source.address}/{n}:1", f"{source.address}/base", f"{source.address}/{n}:2") for n in fleet]
    )
    assert [outcome for outcome in outcomes if outcome.failure] == []
    assert {target.status for outcome in outcomes for target in outcome.targets} == {"copied"}
    moved = {Digest(r.digest) for kind in ("blob-get", "upload-put") for r in source.requests(kind=kind)}
    assert moved & layers(old, new, *fleet.values()) == set()
    own = layers(*fleet.values()) - layers(old)
    assert [r for r in source.log if r.digest in own] == []
    mounts = Counter(r.digest for r in source.requests(kind="mount", status=201))
    assert mounts == dict.fromkeys(layers(new), len(fleet))
    gets = Counter((r.repository, r.path.rpartition("/")[2]) for r in source.requests(kind="manifest-get"))
    assert set(gets.values()) == {1}
    assert sum(1 for repository, _ in gets if repository == "base") == 2 * 3
    configs = [r for r in source.requests(kind="blob-get") if r.repository == "base"]
    assert len(configs) == 2 * 2
    assert done.bytes_mounted == sum(len(new.blobs[digest]) for digest in layers(new)) * len(fleet)
    assert incomplete(source) == []


async def test_k2_what_comes_from_another_registry_is_sent_once(
    source: FaultyRegistry, destination: FaultyRegistry
) -> None:
    """K2: the images are at home; the new base's layers come from elsewhere, once, and are then mounted."""
    _, new = bases(source)
    fleet = apps(destination)
    at = destination.address
    outcomes, _ = await run([job(f"{at}/{name}:1", f"{source.address}/base", f"{at}/{name}:2") for name in fleet])
    assert [outcome for outcome in outcomes if outcome.failure] == []
    read = Counter(r.digest for r in source.requests(kind="blob-get"))
    assert {digest: read[digest] for digest in layers(new)} == dict.fromkeys(layers(new), 1)
    sent = uploaded(destination)
    assert {digest: sent[digest] for digest in layers(new)} == dict.fromkeys(layers(new), 1)
    assert sent.keys() & layers(*fleet.values()) == set()
    mounted = Counter(r.digest for r in destination.requests(kind="mount", status=201))
    assert mounted == dict.fromkeys(layers(new), len(fleet) - 1)
    assert incomplete(destination) == []


async def test_k2_k4_every_platform_stands_on_its_own_new_base(source: FaultyRegistry) -> None:
    """K2, K3, K4: layers, diff ids, history and families agree, for both platforms of every image."""
    _, new = bases(source)
    fleet = apps(source, 5)
    at = source.address
    await run([job(f"{at}/{name}:1", f"{at}/base", f"{at}/{name}:2") for name in fleet])
    below = {child.platform: source.get_manifest("base", child.digest) for child in new.manifest.children()}
    for name, app in fleet.items():
        before = {child.platform: source.get_manifest(name, child.digest) for child in app.manifest.children()}
        rebased = source.get_manifest(name, "2")
        assert rebased is not None
        assert [child.platform for child in rebased.children()] == list(before)
        for child in rebased.children():
            image, old, base = source.get_manifest(name, child.digest), before[child.platform], below[child.platform]
            assert image is not None
            assert old is not None
            assert base is not None
            assert image.layers() == (*base.layers(), *old.layers()[2:])
            assert image.annotations["org.opencontainers.image.base.digest"] == str(new.digest)
            assert image.annotations["org.opencontainers.image.base.name"] == f"{at}/base:2"
        assert await wrong(source, name, "2") == []


async def test_k2_in_place_and_again_changes_nothing_more(source: FaultyRegistry) -> None:
    """K2: without ``to`` the tag is moved; what stands on the new base already is left alone."""
    bases(source)
    fleet = apps(source, 5)
    lines = [job(f"{source.address}/{name}:1", f"{source.address}/base") for name in fleet]
    first, _ = await run(lines)
    assert [outcome.digest for outcome in first] == [tags(source)[f"{name}:1"] for name in fleet]
    assert [outcome.root for outcome in first] == [str(app.digest) for app in fleet.values()]
    source.log.clear()
    second, _ = await run(lines)
    assert {target.status for outcome in second for target in outcome.targets} == {"equal"}
    assert [outcome.digest for outcome in second] == [outcome.digest for outcome in first]
    assert [r for r in source.log if r.method not in ("GET", "HEAD")] == []


@pytest.mark.parametrize("everywhere", [True, False])
async def test_a5_a_fixed_number_of_requests_holds_while_images_are_edited(
    source: FaultyRegistry, destination: FaultyRegistry, monkeypatch: pytest.MonkeyPatch, *, everywhere: bool
) -> None:
    """A5: reading what is edited counts, too, whether the number is for all registries or for one."""
    monkeypatch.setattr(operations, "WINDOW", 6)
    bases(source)
    fleet = apps(source, 20)
    at = source.address
    lines = [job(f"{at}/{name}:1", f"{at}/base", f"{destination.address}/{name}:2") for name in fleet]
    for kind in ("manifest-get", "blob-get"):
        source.faults.add(delay(0.01, kind=kind))
    one = {at: RegistryOptions(requests=3)}
    outcomes, _ = await run(lines, jobs=3 if everywhere else None, registries=None if everywhere else one)
    assert [outcome for outcome in outcomes if outcome.failure] == []
    assert source.log.peak() == 3
    assert destination.log.peak() <= 3 or not everywhere
    assert incomplete(destination) == []


@pytest.mark.parametrize("tool", ["crane", "skopeo"])
async def test_k2_others_find_nothing_wrong_with_a_rebased_image(source: FaultyRegistry, tool: str) -> None:
    """K2: crane's own validation, and skopeo's reading."""
    program = require(tool, package="skopeo" if tool == "skopeo" else "")
    bases(source)
    apps(source, 1)
    await run([job(f"{source.address}/team/app0:1", f"{source.address}/base")])
    name = f"{source.address}/team/app0:1"
    arguments = {
        "crane": ["validate", "--remote", name],
        "skopeo": ["inspect", "--tls-verify=false", f"docker://{name}"],
    }
    ended = await anyio.to_thread.run_sync(
        lambda: subprocess.run([program, *arguments[tool]], capture_output=True, text=True, timeout=60, check=False)
    )
    assert ended.returncode == 0, ended.stderr
    if tool == "crane":
        assert ended.stdout.startswith("PASS")
    else:
        assert len(json.loads(ended.stdout)["Layers"]) == len(NEW) + 2
