"""K7: what images of one run share is converted once, uploaded once, and nothing is left on the disk."""

from __future__ import annotations

import json
import subprocess
from collections import Counter
from pathlib import Path

import anyio
import anyio.to_thread
import pytest

from asyncrane import InvalidInput, InvalidReference, Session, UnsupportedManifest
from asyncrane.oci import media
from asyncrane.oci.digest import Digest
from asyncrane.oci.reference import Repository
from asyncrane.operations import convert as operations
from asyncrane.operations.convert import Conversion, Converted, convert, convert_all
from asyncrane.stores.layout import open_layout
from asyncrane.testing import FaultyRegistry, Gate, corrupt, stall_response
from asyncrane.testing.images import Sample, random_image
from tests.images.samples import attested, image, index, problems, sample
from tests.peers import require
from tests.promises.images import incomplete, put, tags

FLEET = 6


def fleet(registry: FaultyRegistry, repository: str = "app") -> dict[str, Sample]:
    """Images of two platforms that share two layers, each with one of its own."""
    made = {f"v{n}": sample(index("os", "libc", f"code {n}", size=30_000)) for n in range(FLEET)}
    for tag, one in made.items():
        put(registry, repository, one, tag)
    return made


def layers(*made: Sample) -> set[Digest]:
    return {layer.digest for one in made for manifest in one.manifests for layer in manifest.layers()}


async def run(
    pairs: list[tuple[str, str]], conversion: Conversion, *, all_tags: bool = False, jobs: int | None = None
) -> list[Converted]:
    async with Session(jobs=jobs) as session:
        return await convert_all(session, pairs, conversion, all_tags=all_tags)


async def wrong(registry: FaultyRegistry, repository: str, tag: str) -> list[str]:
    async with Session() as session:
        return await problems(session.remote(Repository(registry.address, repository)), tag)


def failures(done: list[Converted]) -> list[str]:
    return [one.outcome.failure.message for one in done if one.outcome.failure is not None]


@pytest.mark.parametrize("format_", ["zstd", "estargz"])
async def test_k7_a_shared_layer_is_read_converted_and_uploaded_once(
    source: FaultyRegistry, destination: FaultyRegistry, format_: str
) -> None:
    made = fleet(source)
    pair = f"{source.address}/app", f"{destination.address}/app"
    done = await run([pair], Conversion(format_), all_tags=True)  # type: ignore[arg-type]
    assert failures(done) == []
    old = layers(*made.values())
    read = Counter(Digest(r.digest) for r in source.requests(kind="blob-get"))
    assert {digest: read[digest] for digest in old} == dict.fromkeys(old, 1)
    sent = Counter(r.digest for r in destination.requests(kind="upload-put"))
    assert set(sent.values()) == {1}
    new = {str(part.after) for one in done for part in one.replaced if part.kind == "layer"}
    assert len(new) == len(old)
    assert new <= set(sent)
    assert incomplete(destination) == []
    for tag in made:
        assert await wrong(destination, "app", tag) == []
        assert tags(destination)[f"app:{tag}"] != str(made[tag].digest)


async def test_k7_in_other_repositories_what_was_converted_is_mounted(
    source: FaultyRegistry, destination: FaultyRegistry
) -> None:
    made = [sample(image("os", f"code {n}", size=30_000)) for n in range(4)]
    names = [put(source, f"app{n}", one, "1") for n, one in enumerate(made)]
    pairs = [(name, f"{destination.address}/new{n}:1") for n, name in enumerate(names)]
    assert failures(await run(pairs, Conversion("zstd"))) == []
    read = Counter(Digest(r.digest) for r in source.requests(kind="blob-get"))
    assert {read[digest] for digest in layers(*made)} == {1}
    sent = Counter(r.digest for r in destination.requests(kind="upload-put"))
    assert set(sent.values()) == {1}
    assert [await wrong(destination, f"new{n}", "1") for n in range(4)] == [[]] * 4
    assert incomplete(destination) == []


def spools() -> int:
    """Temporary files without a name that are open."""
    found = 0
    for descriptor in Path("/proc/self/fd").iterdir():
        try:
            found += "(deleted)" in str(descriptor.readlink()) and descriptor.stat().st_size > 0
        except OSError:
            continue
    return found


@pytest.mark.skipif(not Path("/proc/self/fd").exists(), reason="descriptors are counted in /proc")
async def test_what_has_landed_takes_no_room_any_more(
    source: FaultyRegistry, destination: FaultyRegistry, monkeypatch: pytest.MonkeyPatch
) -> None:
    """One image after the other: whatever the number of images, the disk holds the layers of one."""
    monkeypatch.setattr(operations, "WINDOW", 1)
    made = fleet(source)
    before, seen = spools(), list[int]()
    pair = f"{source.address}/app", f"{destination.address}/app"
    async with Session() as session:
        done = await convert_all(
            session, [pair], Conversion("zstd"), all_tags=True, on_converted=lambda one: seen.append(spools() - before)
        )
    assert failures(done) == []
    assert seen == [0] * FLEET
    read = Counter(Digest(r.digest) for r in source.requests(kind="blob-get"))
    assert {read[digest] for digest in layers(*made.values())} == {1}
    assert incomplete(destination) == []


async def test_k7_what_was_converted_before_converts_to_the_same_and_changes_nothing(
    source: FaultyRegistry, destination: FaultyRegistry
) -> None:
    """K5, K7: the second run makes the same digests, and tags that name them are left alone."""
    fleet(source)
    pair = f"{source.address}/app", f"{destination.address}/app"
    first = await run([pair], Conversion("estargz"), all_tags=True)
    second = await run([pair], Conversion("estargz"), all_tags=True)
    assert [one.replaced for one in second] == [one.replaced for one in first]
    assert {target.status for one in second for target in one.outcome.targets} == {"equal"}


async def test_what_is_as_wanted_is_copied_as_it_is(source: FaultyRegistry, destination: FaultyRegistry) -> None:
    made = attested(sample(index("a", size=30_000)))
    name = put(source, "app", made, "1")
    [done] = await run([(name, f"{destination.address}/app:1")], Conversion("gzip", family="oci"))
    assert done.outcome.digest == str(made.digest)
    assert [(part.before, part.after) for part in done.replaced] == [(made.digest, made.digest)]
    assert incomplete(destination) == []


async def test_attestations_that_are_left_out_are_spoken_of(
    source: FaultyRegistry, destination: FaultyRegistry
) -> None:
    name = put(source, "app", attested(sample(index("a", size=30_000))), "1")
    [done] = await run([(name, f"{destination.address}/app:1")], Conversion("zstd"))
    assert done.outcome.notes == ("2 attestations left out: about images that were converted",)
    assert await wrong(destination, "app", "1") == []


async def test_a_docker_image_that_becomes_ocis_is_spoken_of(
    source: FaultyRegistry, destination: FaultyRegistry
) -> None:
    name = put(source, "app", sample(index("a", docker=True)), "1")
    [done] = await run([(name, f"{destination.address}/app:1")], Conversion("zstd"))
    assert done.outcome.notes == ("made an OCI image: Docker's media types have none for zstd",)
    assert done.outcome.media_type == media.OCI_INDEX


async def test_one_broken_layer_fails_its_images_and_no_other(
    source: FaultyRegistry, destination: FaultyRegistry
) -> None:
    """It is read once for all, and once more as it was garbled; named, and nothing of it is published."""
    made = fleet(source)
    broken = layers(made["v0"]) - layers(made["v1"])
    faults = [source.faults.add(corrupt(20_000, kind="blob-get", path=digest)) for digest in broken]
    done = await run([(f"{source.address}/app", f"{destination.address}/app")], Conversion("zstd"), all_tags=True)
    assert [one.outcome.failure is None for one in done] == [False] + [True] * (FLEET - 1)
    assert any(str(digest) in failures(done)[0] for digest in broken)
    assert max(fault.hits for fault in faults) == 2
    assert set(tags(destination)) == {f"app:v{n}" for n in range(1, FLEET)}
    assert incomplete(destination) == []


async def test_what_is_no_image_is_copied_among_many_and_refused_alone(
    source: FaultyRegistry, destination: FaultyRegistry
) -> None:
    app = sample(image("a"))
    put(source, "app", app, "1", f"sha256-{app.digest.hex}.sig")
    chart = random_image("chart")
    fields = chart.manifest.fields()
    fields["config"]["mediaType"] = "application/vnd.cncf.helm.config.v1+json"
    chart = Sample((type(chart.manifest).read(json.dumps(fields).encode()),), chart.blobs)
    name = put(source, "app", chart, "chart")
    target = f"{destination.address}/app"
    done = await run([(f"{source.address}/app", target)], Conversion("zstd"), all_tags=True)
    assert failures(done) == []
    assert tags(destination)["app:chart"] == str(chart.digest)
    assert set(tags(destination)) == {"app:1", "app:chart"}
    assert [one.outcome.notes for one in done if one.outcome.source.endswith(":chart")] == [
        ("no image: copied as it is",)
    ]
    async with Session() as session:
        with pytest.raises(UnsupportedManifest, match="is no image"):
            await convert(session, name, f"{target}:other", Conversion("zstd"))


async def test_platforms_are_chosen_before_layers_are_read(source: FaultyRegistry, destination: FaultyRegistry) -> None:
    made = sample(index("a", size=30_000))
    name = put(source, "app", made, "1")
    wanted = made.manifest.children()[0]
    assert wanted.platform is not None
    async with Session() as session:
        done = await convert(
            session, name, f"{destination.address}/app:1", Conversion("zstd"), platforms=[wanted.platform]
        )
    assert done.outcome.media_type == media.OCI_MANIFEST
    assert done.replaced[-1].before == made.digest
    assert len([r for r in source.requests(kind="blob-get") if Digest(r.digest) in layers(made)]) == 1


async def test_layouts_are_converted_from_and_to(source: FaultyRegistry, tmp_path: Path) -> None:
    made = sample(index("a", "b", size=30_000))
    name = put(source, "app", made, "1")
    layout = f"oci:{tmp_path}/first:one"
    assert failures(await run([(name, layout)], Conversion("zstd"))) == []
    assert failures(await run([(layout, f"oci:{tmp_path}/second:two")], Conversion("gzip", 1))) == []
    async with open_layout(tmp_path / "second", writing=False) as found:
        assert await problems(found, "two") == []


async def test_a_cancelled_run_ends_at_once_and_publishes_nothing(
    source: FaultyRegistry, destination: FaultyRegistry
) -> None:
    made, gate = fleet(source), Gate()
    source.faults.add(stall_response(20_000, gate, kind="blob-get", path=min(layers(made["v0"]))))
    with anyio.CancelScope() as scope:
        async with anyio.create_task_group() as tasks:

            async def stop() -> None:
                await gate.reached()
                scope.cancel()

            tasks.start_soon(stop)
            await run([(f"{source.address}/app:v0", f"{destination.address}/app:1")], Conversion("zstd"))
    gate.release()
    assert scope.cancelled_caught
    assert tags(destination) == {}


@pytest.mark.parametrize(
    ("conversion", "says"),
    [
        (Conversion(), "nothing to convert"),
        (Conversion(level=3), "kept"),
        (Conversion("gzip", 11), "no level of gzip: 11"),
        (Conversion("zstd", family="docker"), "none for zstd"),
    ],
)
async def test_what_cannot_be_done_is_said_before_anything_is_sent(
    source: FaultyRegistry, conversion: Conversion, says: str
) -> None:
    with pytest.raises(InvalidInput, match=says):
        await run([(f"{source.address}/a:1", f"{source.address}/b:1")], conversion)
    with pytest.raises(InvalidReference, match="names a digest"):
        await run([(f"{source.address}/a:1", f"{source.address}/b@sha256:{'0' * 64}")], Conversion("zstd"))
    assert list(source.log) == []


@pytest.mark.parametrize(
    ("tool", "conversion"),
    [
        ("crane", Conversion("estargz")),
        ("crane", Conversion("gzip", 9, "docker")),
        ("skopeo", Conversion("zstd")),
        ("skopeo", Conversion("estargz", family="docker")),
        ("skopeo", Conversion("plain")),
    ],
)
async def test_others_read_what_was_converted(
    source: FaultyRegistry, tmp_path: Path, tool: str, conversion: Conversion
) -> None:
    """crane validates digests, sizes and diff ids; skopeo copies and checks every blob."""
    program = require(tool, package="skopeo" if tool == "skopeo" else "")
    name = put(source, "app", sample(index("a", "b", size=30_000)), "1")
    target = f"{source.address}/app:2"
    assert failures(await run([(name, target)], conversion)) == []
    arguments = {
        "crane": ["validate", "--remote", target],
        "skopeo": ["copy", "-q", "--all", "--src-tls-verify=false", f"docker://{target}", f"oci:{tmp_path}/out:1"],
    }
    ended = await anyio.to_thread.run_sync(
        lambda: subprocess.run([program, *arguments[tool]], capture_output=True, text=True, timeout=60, check=False)
    )
    assert ended.returncode == 0, ended.stderr
    assert tool == "skopeo" or ended.stdout.startswith("PASS")
