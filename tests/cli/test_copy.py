"""``asyncrane cp``: what it moves, what it prints, and what it refuses."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from asyncrane.testing import FaultyRegistry, status
from asyncrane.testing.images import random_image, random_index
from tests.cli.conftest import Program, fill, run
from tests.peers import require


@pytest.mark.parametrize("name", ["cp", "copy"])
async def test_an_image_is_copied_and_stdout_stays_empty(
    program: Program, registry: FaultyRegistry, other: FaultyRegistry, name: str
) -> None:
    sample = random_index("a")
    source = fill(registry, "app", sample, "v1")
    ended = await program(name, source, f"{other.address}/b:v2")
    assert (ended.code, ended.out) == (0, b""), ended.err
    assert ended.err.startswith("1 image in ")
    copied = other.get_manifest("b", "v2")
    assert copied is not None
    assert copied.body == sample.manifest.body


async def test_several_destinations_read_the_source_once(
    program: Program, registry: FaultyRegistry, other: FaultyRegistry
) -> None:
    sample = random_image("b")
    source = fill(registry, "app", sample, "v1")
    ended = await program("cp", source, f"{other.address}/b:v1", f"{other.address}/c:v1", f"{registry.address}/d:v1")
    assert ended.code == 0, ended.err
    assert len(registry.requests(kind="blob-get")) == len(sample.blobs)
    assert other.get_manifest("b", "v1") == other.get_manifest("c", "v1") == registry.get_manifest("d", "v1")


async def test_json_for_one_image_has_its_digest_and_what_was_moved(
    program: Program, registry: FaultyRegistry, other: FaultyRegistry
) -> None:
    """I4: `asyncrane cp ... --output json 2>/dev/null | jq .digest`."""
    sample = random_image("c")
    source = fill(registry, "app", sample, "v1")
    ended = await program("cp", source, f"{other.address}/b:v1", "--output", "json")
    result = json.loads(ended.text)
    assert ended.code == 0
    assert result["digest"] == sample.digest
    assert result["status"] == "copied"
    assert result["destinations"] == [{"destination": f"{other.address}/b:v1", "status": "copied"}]
    assert result["bytes_read"] == result["bytes_written"] == sample.size
    assert result["requests"][other.address]
    again = json.loads((await program("cp", source, f"{other.address}/b:v1", "--output", "json")).text)
    assert (again["status"], again["bytes_read"]) == ("equal", 0)


async def test_all_tags_are_copied_and_listed_by_what_became_of_them(
    program: Program, registry: FaultyRegistry, other: FaultyRegistry
) -> None:
    for number in range(3):
        fill(registry, "app", random_image(f"t{number}"), f"v{number}")
    fill(other, "b", random_image("t1"), "v1")
    fill(other, "b", random_image("mine"), "v2")
    names = f"{registry.address}/app", f"{other.address}/b"
    ended = await program("cp", "-a", "-n", *names, "--output", "json", "--progress", "none")
    images = json.loads(ended.text)["images"]
    assert (ended.code, ended.err) == (0, "")
    assert [len(images[kind]) for kind in ("copied", "equal", "skipped", "failed")] == [1, 1, 1, 0]
    assert images["copied"][0]["source"] == f"{registry.address}/app:v0"


async def test_pairs_come_from_a_file_or_stdin(
    program: Program, registry: FaultyRegistry, other: FaultyRegistry, tmp_path: Path
) -> None:
    first, second = fill(registry, "a", random_image("p"), "v1"), fill(registry, "b", random_image("q"), "v1")
    pairs = f"# two\n{first} {other.address}/a:v1 {other.address}/a:v2 # both\n\n{second}  {other.address}/b:v1\n"
    assert (await program("cp", "--from-file", "-", stdin=pairs)).code == 0
    (tmp_path / "pairs").write_text(pairs)
    assert (await program("cp", "--from-file", str(tmp_path / "pairs"))).code == 0
    assert other.get_manifest("a", "v1") == other.get_manifest("a", "v2") is not None
    assert other.get_manifest("b", "v1") is not None


async def test_what_fails_of_many_is_named_and_the_rest_goes_on(
    program: Program, registry: FaultyRegistry, other: FaultyRegistry
) -> None:
    good = fill(registry, "a", random_image("p"), "v1")
    pairs = f"{registry.address}/none:v1 {other.address}/a:v2\n{good} {other.address}/a:v1\n"
    ended = await program("cp", "--from-file", "-", "--output", "json", stdin=pairs)
    lines = ended.err.splitlines()
    assert ended.code == 1
    assert lines[0].startswith(f"failed: {registry.address}/none:v1 -> {other.address}/a:v2: ")
    assert lines[-1] == "asyncrane: error: 1 of 2 images failed"
    failed = json.loads(ended.text)["images"]["failed"]
    assert failed[0]["destinations"][0]["failure"]["kind"] == "NotFound"
    assert other.get_manifest("a", "v1") is not None


@pytest.mark.parametrize("before", [True, False])
async def test_global_options_stand_before_or_after_the_command(
    program: Program, registry: FaultyRegistry, other: FaultyRegistry, before: bool
) -> None:
    sample = random_index("g")
    words = ("cp", fill(registry, "app", sample, "v1"), f"{other.address}/b:v1")
    options = ("--platform", "linux/arm64", "--insecure", "--allow-nondistributable-artifacts")
    ended = await program(*(*options, *words) if before else (*words, *options))
    assert ended.code == 0, ended.err
    copied = other.get_manifest("b", "v1")
    assert copied is not None
    assert copied.digest == sample.manifest.children()[1].digest


async def test_platforms_may_be_repeated_or_listed(
    program: Program, registry: FaultyRegistry, other: FaultyRegistry
) -> None:
    sample = random_index("l")
    source = fill(registry, "app", sample, "v1")
    for options in (["--platform", "linux/arm64,linux/amd64"], ["--platform=linux/amd64", "--platform=linux/arm64"]):
        assert (await program("cp", source, f"{other.address}/b:v1", *options)).code == 0
        copied = other.get_manifest("b", "v1")
        assert copied is not None
        assert copied.digest == sample.digest


async def test_no_clobber_leaves_a_tag_as_it_is(
    program: Program, registry: FaultyRegistry, other: FaultyRegistry
) -> None:
    source, mine = fill(registry, "app", random_image("n"), "v1"), random_image("mine")
    fill(other, "b", mine, "v1")
    ended = await program("cp", "-n", source, f"{other.address}/b:v1")
    assert ended.code == 1
    assert "refusing to clobber existing tag" in ended.error
    kept = other.get_manifest("b", "v1")
    assert kept is not None
    assert kept.digest == mine.digest
    assert (await program("cp", source, f"{other.address}/b:v1")).code == 0
    assert (await program("cp", "-n", source, f"{other.address}/b:v1")).code == 0  # it is the same image


async def test_a_destination_without_a_repository_is_no_docker_hub_name(program: Program) -> None:
    for words in (["cp"], ["cp", "-a"]):
        ended = await program(*words, "127.0.0.1:1/a", "127.0.0.1:5000")
        assert ended.code == 2
        assert "without a repository" in ended.error


async def test_progress_as_json_lines_is_json_only(
    program: Program, registry: FaultyRegistry, other: FaultyRegistry
) -> None:
    """I5."""
    sample = random_image("j")
    ended = await program("cp", fill(registry, "app", sample, "v1"), f"{other.address}/b:v1", "--progress", "json")
    events = [json.loads(line) for line in ended.err.splitlines()]
    assert events[-1]["event"] == "end"
    assert events[-1]["bytes_read"] == events[-1]["bytes_total"] == sample.size
    assert events[-1]["images_done"] == 1


async def test_nothing_is_half_published_when_a_blob_is_missing(
    program: Program, registry: FaultyRegistry, other: FaultyRegistry
) -> None:
    source = fill(registry, "app", random_index("h"), "v1")
    registry.faults.add(status(404, kind="blob-get", times=1))
    ended = await program("cp", source, f"{other.address}/b:v1")
    assert ended.code == 3, ended.err
    assert ended.error
    assert other.get_manifest("b", "v1") is None


@pytest.mark.parametrize("docker", [True, False])
async def test_crane_finds_the_copy_valid(
    program: Program, registry: FaultyRegistry, other: FaultyRegistry, docker: bool
) -> None:
    crane = require("crane")
    source = fill(registry, "app", random_index("valid", docker=docker, layers=(0, 5, 300_000)), "v1")
    assert (await program("cp", source, f"{other.address}/b:v1")).code == 0
    judged = await run([str(crane), "validate", "--remote", f"{other.address}/b:v1"], program.environ)
    assert judged.text == f"PASS: {other.address}/b:v1\n"


async def test_a_file_of_jobs_is_one_run(program: Program, registry: FaultyRegistry, other: FaultyRegistry) -> None:
    """K2: copies and edits together, each with its own outcome; what they share goes up once."""
    fill(registry, "app", random_image("app", layers=(5000,)), "v1")
    source, copied = f"{registry.address}/app:v1", f"{other.address}/app:v1"
    lines = [
        {"copy": source, "to": copied},
        {"mutate": source, "labels": {"team": "shop"}, "to": f"{other.address}/labelled:v1"},
        {"copy": f"{registry.address}/none:v1", "to": f"{other.address}/none:v1"},
    ]
    text = "".join(f"{json.dumps(line)}\n" for line in lines)
    ended = await program("cp", "--from-file", "-", "--output", "json", "--progress", "none", stdin=text)
    assert ended.code == 1
    assert ended.err.splitlines()[-1] == "asyncrane: error: 1 of 3 images failed"
    images = json.loads(ended.text)["images"]
    assert [len(images[kind]) for kind in ("copied", "failed")] == [2, 1]
    config = json.loads((await program("config", f"{other.address}/labelled:v1")).text)
    assert config["config"]["Labels"] == {"team": "shop"}
    puts = [r.digest for r in other.requests(kind="upload-put")]
    assert len(puts) == len(set(puts)) == 3  # two configs, and the layer once


@pytest.mark.parametrize("option", [["-a"], ["-n"], ["--platform", "linux/amd64"]])
async def test_what_each_job_says_for_itself_is_no_option(program: Program, option: list[str]) -> None:
    ended = await program("cp", "--from-file", "-", *option, stdin='{"copy": "a/b:1", "to": "c.example/d:1"}\n')
    assert ended.code == 2
    assert "each job says for itself" in ended.error


async def test_a_line_that_is_no_job_is_named(program: Program, tmp_path: Path) -> None:
    file = tmp_path / "jobs"
    file.write_text('# jobs\n{"copy": "a/b:1", "to": "c.example/d:1"}\n{"copi": "a/b:1", "to": "c.example/d:2"}\n')
    ended = await program("cp", "--from-file", str(file))
    assert ended.code == 2
    assert f"{file}:3: " in ended.error


async def test_a_tree_is_copied_with_all_its_repositories(
    program: Program, registry: FaultyRegistry, other: FaultyRegistry
) -> None:
    """Never "nothing, exit 0": a tree that is not there is an error."""
    for name in ("team", "team/a", "team/a/b", "other"):
        fill(registry, name, random_image(name), "v1", "v2")
    ended = await program("cp", "-r", f"{registry.address}/team", f"{other.address}/copy", "--progress", "none")
    assert (ended.code, ended.err) == (0, "")
    index = other.storage.index
    assert {name: index.tags(name) for name in index.repositories()} == {
        name: ["v1", "v2"] for name in ("copy", "copy/a", "copy/a/b")
    }
    nothing = await program("cp", "-r", f"{registry.address}/none", f"{other.address}/copy")
    assert nothing.code == 3
    assert "none" in nothing.error
    for wrong in (["-a"], ["--from-file", "x"], ["third.example/x"]):
        assert (await program("cp", "-r", "a.example/x", "b.example/y", *wrong)).code == 2
