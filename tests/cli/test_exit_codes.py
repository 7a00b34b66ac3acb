"""I6: every way to end, its exit code, and the one line that says why."""

from __future__ import annotations

import json
import os
import signal
import socket
import subprocess
from pathlib import Path

import anyio
import pytest

from asyncrane.cli.app import main
from asyncrane.errors import AsyncraneError, ContentError, CredentialError, Denied, InvalidInput, NotFound, RateLimited
from asyncrane.server import BasicAuth, PlainUsers
from asyncrane.testing import FaultyRegistry, Gate, corrupt, delay, status
from asyncrane.testing.images import random_image
from tests.cli.conftest import LIMIT, Program, fill, run, stopped_by

WRONG_WORDS = {
    "no such command": ["nope"],
    "no such option": ["cp", "a", "b", "--nope"],
    "an option nobody knows before the command": ["--nope", "cp", "a", "b"],
    "no destination": ["cp", "a"],
    "a reference that is none": ["digest", "UPPER/case"],
    "a destination that is none": ["cp", "127.0.0.1:1/a", "127.0.0.1:1/b:-"],
    "a digest that is none": ["manifest", "127.0.0.1:1/a@sha256:12"],
    "a platform that is none": ["cp", "127.0.0.1:1/a", "127.0.0.1:1/b", "--platform", "linux"],
    "several platforms where one is meant": ["digest", "127.0.0.1:1/a", "--platform", "linux/amd64,linux/arm64"],
    "a blob without a digest": ["blob", "127.0.0.1:1/a:v1"],
    "a tag that is none": ["tag", "127.0.0.1:1/a:v1", "v1", ":"],
    "a registry with a path": ["catalog", "127.0.0.1:1/a"],
    "a number that is none": ["cp", "127.0.0.1:1/a", "127.0.0.1:1/b", "--jobs", "many"],
    "pairs that are not there": ["cp", "--from-file", "/nonexistent"],
    "a mirror file to plan that is not there": ["mirror", "plan", "/nonexistent"],
    "a plan to apply that is not there": ["mirror", "apply", "/nonexistent"],
    "a mirror file to verify that is not there": ["mirror", "verify", "/nonexistent"],
    "another tool's file that is not there": ["mirror", "convert", "/nonexistent"],
    "credentials without a colon": ["cp", "127.0.0.1:1/a", "127.0.0.1:1/b", "--src-creds", "user"],
    "a key without a certificate": ["digest", "127.0.0.1:1/a", "--key", "/dev/null"],
    "an address that is none": ["registry", "serve", "--address", "127.0.0.1:http"],
    "nobody to log in": ["auth", "login", "127.0.0.1:1", "-u", "user"],
}


def test_the_table_is_the_documented_one() -> None:
    codes: dict[type[AsyncraneError], int] = {
        AsyncraneError: 1,
        InvalidInput: 2,
        NotFound: 3,
        Denied: 4,
        CredentialError: 4,
        ContentError: 5,
        RateLimited: 6,
    }
    assert {kind: kind.exit_code for kind in codes} == codes


@pytest.mark.parametrize("arguments", WRONG_WORDS.values(), ids=WRONG_WORDS.keys())
def test_2_for_words_that_cannot_be_used(arguments: list[str], capsys: pytest.CaptureFixture[str]) -> None:
    assert main(arguments) == 2
    said = capsys.readouterr()
    assert said.out == ""
    assert len(said.err.splitlines()) == 1
    assert said.err.startswith("asyncrane: error: ")


@pytest.mark.parametrize("line", ["127.0.0.1:1/a", "127.0.0.1:1/a UPPER/b", "127.0.0.1:1/a http://127.0.0.1:1/b"])
@pytest.mark.parametrize("options", [[], ["-a"]])
async def test_2_for_pairs_that_cannot_be_used_and_where_they_are(
    program: Program, line: str, options: list[str]
) -> None:
    ended = await program("cp", *options, "--from-file", "-", stdin=f"# pairs\n{line}\n")
    assert ended.code == 2
    assert "stdin, line 2: " in ended.error


async def test_2_for_pairs_that_are_no_text(program: Program, tmp_path: Path) -> None:
    (tmp_path / "pairs").write_bytes(b"\xff\xfe")
    ended = await program("cp", "--from-file", str(tmp_path / "pairs"))
    assert (ended.code, "not UTF-8 text" in ended.error) == (2, True)


async def test_1_for_a_host_that_does_not_listen(program: Program) -> None:
    with socket.create_server(("127.0.0.1", 0)) as taken:
        address = f"127.0.0.1:{taken.getsockname()[1]}"
    ended = await program("digest", f"{address}/a:v1", "--retries", "0")
    assert ended.code == 1
    assert address in ended.error


async def test_1_for_a_host_that_does_not_exist(program: Program) -> None:
    ended = await program("digest", "no-such-host.invalid/a:v1", "--retries", "0")
    assert ended.code == 1
    assert "no-such-host.invalid" in ended.error


@pytest.mark.parametrize("command", ["digest", "manifest", "config"])
async def test_3_for_an_image_that_is_not_there(program: Program, registry: FaultyRegistry, command: str) -> None:
    ended = await program(command, f"{registry.address}/a:v1")
    assert ended.code == 3
    assert f"{registry.address}/v2/a/manifests/v1" in ended.error


async def test_3_for_a_repository_that_is_not_there(program: Program, registry: FaultyRegistry) -> None:
    assert (await program("ls", f"{registry.address}/none")).code == 3


async def test_4_for_who_may_not(program: Program) -> None:
    async with FaultyRegistry(auth=BasicAuth(PlainUsers({"me": "secret"}))) as closed:
        image = fill(closed, "a", random_image(), "v1")
        assert (await program("digest", image)).code == 4
        wrong = await program("cp", image, f"{closed.address}/b:v1", "--src-creds", "me:wrong")
        assert wrong.code == 4
        assert "wrong" not in wrong.error
        right = ("--src-creds", "me:secret", "--dst-creds", "me:secret")
        assert (await program("cp", image, f"{closed.address}/b:v1", *right)).code == 0


async def test_4_for_a_credential_file_that_cannot_be_read(program: Program, registry: FaultyRegistry) -> None:
    image = fill(registry, "a", random_image(), "v1")
    (program.home / ".docker").mkdir(parents=True)
    (program.home / ".docker" / "config.json").write_text("{")
    ended = await program("digest", image)
    assert ended.code == 4
    assert "config.json" in ended.error


async def test_5_for_content_that_is_not_what_was_promised(program: Program, registry: FaultyRegistry) -> None:
    sample = random_image("corrupt")
    image = fill(registry, "a", sample, "v1")
    registry.faults.add(corrupt(kind="blob-get"))
    layer = sample.manifest.layers()[0].digest
    ended = await program("blob", f"{registry.address}/a@{layer}")
    assert ended.code == 5
    assert ended.error
    assert (await program("cp", image, f"{registry.address}/b:v1", "--progress", "none", "--retries", "0")).code in (
        0,
        5,
    )


async def test_6_for_a_registry_that_wants_less_of_us(program: Program, registry: FaultyRegistry) -> None:
    registry.faults.add(status(429, kind=("manifest-head", "manifest-get"), error="TOOMANYREQUESTS"))
    ended = await program("manifest", f"{registry.address}/a:v1", "--retries", "0")
    assert ended.code == 6
    assert "429" in ended.error


@pytest.mark.parametrize(
    ("number", "code", "word"), [(signal.SIGINT, 130, "interrupted"), (signal.SIGTERM, 143, "terminated")]
)
async def test_a_signal_ends_a_copy_with_one_line(
    program: Program, registry: FaultyRegistry, other: FaultyRegistry, number: signal.Signals, code: int, word: str
) -> None:
    image = fill(registry, "a", random_image("signal"), "v1")
    gate = Gate()
    registry.faults.add(delay(gate, kind="blob-get"))
    command = program.command("cp", image, f"{other.address}/a:v1")
    ended = await stopped_by(command, program.environ, number, gate.reached)
    assert (ended.code, ended.err) == (code, f"asyncrane: {word}\n")
    assert other.get_manifest("a", "v1") is None
    gate.release()


async def test_141_when_nobody_reads_stdout(program: Program, registry: FaultyRegistry) -> None:
    image = fill(registry, "a", random_image(), "v1")
    reading, writing = os.pipe()
    os.close(reading)
    with anyio.fail_after(LIMIT):
        ended = await anyio.run_process(
            program.command("manifest", image), stdout=writing, stderr=subprocess.PIPE, env=program.environ, check=False
        )
    os.close(writing)
    assert (ended.returncode, ended.stderr) == (141, b"")


@pytest.mark.parametrize("arguments", [["manifest"], ["version"], ["--help"]], ids=" ".join)
async def test_1_when_stdout_is_full(program: Program, registry: FaultyRegistry, arguments: list[str]) -> None:
    words = [*arguments, fill(registry, "a", random_image(), "v1")] if arguments == ["manifest"] else arguments
    ended = await run(["sh", "-c", 'exec "$@" >/dev/full', "sh", *program.command(*words)], program.environ)
    assert ended.code == 1
    assert "No space left on device" in ended.error


async def test_streams_that_the_caller_has_closed_are_done_without(program: Program, registry: FaultyRegistry) -> None:
    """The first socket would get the number of a closed stream."""
    image = fill(registry, "a", random_image(), "v1")
    command = program.command("cp", image, f"{registry.address}/b:v1", "--output", "json")
    ended = await run(["sh", "-c", 'exec "$@" <&- >&- 2>&-', "sh", *command], program.environ)
    assert ended.code == 0
    assert registry.get_manifest("b", "v1") == registry.get_manifest("a", "v1")


async def test_a_failed_copy_still_answers_in_json(program: Program, registry: FaultyRegistry) -> None:
    """I4."""
    words = ("cp", f"{registry.address}/a:v1", f"{registry.address}/b:v1", "--output", "json")
    ended = await program(*words)
    assert ended.code == 3
    assert "/v2/a/manifests/v1" in ended.error
    assert json.loads(ended.text)["destinations"][0]["failure"]["kind"] == "NotFound"
