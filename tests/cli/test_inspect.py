"""The commands that look, list and name: results on stdout, exactly as crane prints them."""

from __future__ import annotations

import re

import pytest

from asyncrane.oci.digest import Digest
from asyncrane.testing import FaultyRegistry
from asyncrane.testing.images import random_image, random_index
from tests.cli.conftest import Program, fill, run
from tests.peers import require

QUESTIONS = [
    "digest {image}",
    "digest {image} --platform linux/arm64",
    "digest {image} --platform all",
    "digest {image} --full-ref",
    "digest {repository}@{digest}",
    "digest {repository}:v1@{digest} --full-ref",
    "manifest {image}",
    "manifest --platform linux/amd64 {image}",
    "--platform linux/arm64 manifest {image}",
    "config {image}",
    "config {image} --platform linux/arm64",
    "config {repository}:single",
    "blob {repository}@{layer}",
    "ls {repository}",
    "ls {repository} --full-ref",
    "ls -O {repository}",
    "ls --omit-digest-tags --full-ref {repository}",
    "catalog {registry}",
    "catalog {registry} --full-ref",
    "--insecure -v digest {image}",
]


def words(question: str, registry: FaultyRegistry) -> list[str]:
    """The question about a registry filled for it."""
    index, single = random_index("ask"), random_image("ask one")
    image = fill(registry, "team/app", index, "v1", f"sha256-{index.digest.hex}.sig")
    fill(registry, "team/app", single, "single")
    fill(registry, "a", single, "v1")
    return question.format(
        image=image,
        repository=f"{registry.address}/team/app",
        registry=registry.address,
        digest=index.digest,
        layer=single.manifest.layers()[0].digest,
    ).split()


@pytest.mark.parametrize("question", QUESTIONS)
async def test_stdout_is_what_crane_prints(program: Program, registry: FaultyRegistry, question: str) -> None:
    crane = require("crane")
    asked = words(question, registry)
    ours, theirs = await program(*asked), await run([str(crane), *asked], program.environ)
    assert (ours.code, theirs.code) == (0, 0), ours.err + theirs.err
    assert ours.out == theirs.out
    assert ours.out


async def test_a_manifest_and_a_config_are_printed_byte_for_byte(program: Program, registry: FaultyRegistry) -> None:
    sample = random_image("bytes")
    image = fill(registry, "a", sample, "v1")
    config = sample.manifest.config()
    assert config is not None
    assert (await program("manifest", image)).out == sample.manifest.body
    assert (await program("config", image)).out == sample.blobs[config.digest]


async def test_a_blob_of_any_size_comes_through(program: Program, registry: FaultyRegistry) -> None:
    digest = registry.put_blob("a", bytes(3_000_000))
    ended = await program("blob", f"{registry.address}/a@{digest}")
    assert (ended.code, ended.err) == (0, "")
    assert Digest.of(ended.out) == digest


async def test_a_platform_that_is_not_there_is_an_error_that_names_those_that_are(
    program: Program, registry: FaultyRegistry
) -> None:
    image = fill(registry, "a", random_index("p"), "v1")
    for command in ("digest", "manifest", "config"):
        ended = await program(command, image, "--platform", "linux/s390x")
        assert ended.code == 2
        assert "linux/amd64" in ended.error
        assert "linux/arm64" in ended.error


async def test_a_digest_costs_one_request(program: Program, registry: FaultyRegistry) -> None:
    sample = random_image("one")
    ended = await program("digest", fill(registry, "a", sample, "v1"))
    assert ended.text == f"{sample.digest}\n"
    assert [entry.method for entry in registry.requests(repository="a")] == ["HEAD"]


async def test_lists_longer_than_a_page_are_complete(program: Program) -> None:
    sample = random_image("many")
    async with FaultyRegistry(page=3) as registry:
        for number in range(10):
            fill(registry, f"r{number}", sample, *(f"t{n}" for n in range(10)))
        assert (await program("ls", f"{registry.address}/r0")).text.split() == [f"t{n}" for n in range(10)]
        assert (await program("catalog", registry.address)).text.split() == [f"r{n}" for n in range(10)]


async def test_a_tag_costs_one_get_and_one_put_each(program: Program, registry: FaultyRegistry) -> None:
    sample = random_index("tag")
    image = fill(registry, "a", sample, "v1")
    ended = await program("tag", image, "v2", "latest")
    assert (ended.code, ended.out) == (0, b""), ended.err
    assert f"{registry.address}/a:v2: digest: {sample.digest} size: {sample.manifest.size}" in ended.err
    assert registry.get_manifest("a", "v2") == registry.get_manifest("a", "latest") == sample.manifest
    assert [entry.method for entry in registry.requests(repository="a")] == ["GET", "PUT", "PUT"]


async def test_a_tag_and_a_manifest_can_be_deleted(program: Program, registry: FaultyRegistry) -> None:
    sample = random_image("delete")
    image = fill(registry, "a", sample, "v1", "v2")
    assert (await program("delete", image)).code == 0
    assert registry.get_manifest("a", "v1") is None
    assert registry.get_manifest("a", "v2") is not None
    assert (await program("delete", f"{registry.address}/a@{sample.digest}")).code == 0
    assert registry.get_manifest("a", sample.digest) is None
    assert (await program("delete", image)).code == 3


async def test_verbose_shows_requests_and_no_secrets(program: Program, registry: FaultyRegistry) -> None:
    image = fill(registry, "a", random_image("v"), "v1")
    environ = {"DOCKER_AUTH_CONFIG": f'{{"auths":{{"{registry.address}":{{"username":"u","password":"hunter2"}}}}}}'}
    ended = await program("-v", "manifest", image, **environ)
    assert ended.code == 0
    assert re.search(r"^--> GET http://\S+/v2/a/manifests/v1\n    \S+: ", ended.err, re.MULTILINE)
    assert "hunter2" not in ended.err


async def test_verbose_shows_where_only_when_the_error_is_not_the_users(
    program: Program, registry: FaultyRegistry
) -> None:
    ended = await program("-v", "manifest", f"{registry.address}/a:none")
    assert ended.code == 3
    assert "Traceback" not in ended.err
