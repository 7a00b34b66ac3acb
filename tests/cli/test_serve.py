"""``registry serve`` and ``demo``: processes that start, say where they are, and leave nothing behind."""

from __future__ import annotations

import json
import signal
import subprocess
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path

import anyio
import pytest
from anyio.abc import Process
from anyio.streams.buffered import BufferedByteReceiveStream

from asyncrane.oci.reference import Repository
from asyncrane.session import Session
from asyncrane.testing.images import random_image
from tests.cli.conftest import LIMIT, Program
from tests.peers import require


@asynccontextmanager
async def served(program: Program, *options: str, **environ: str) -> AsyncIterator[tuple[Process, str, str]]:
    """A registry: the process, its address, and what it said."""
    command = program.command("registry", "serve", *options)
    with anyio.fail_after(LIMIT):
        async with await anyio.open_process(
            command, env={**program.environ, **environ}, stdin=subprocess.DEVNULL
        ) as process:
            try:
                assert process.stderr is not None
                line = (await BufferedByteReceiveStream(process.stderr).receive_until(b"\n", 1000)).decode()
                assert line.startswith("serving on http://"), line
                yield process, line.split()[2].removeprefix("http://"), line
            finally:
                if process.returncode is None:
                    process.terminate()


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
async def test_a_registry_ends_well_when_told_to(program: Program, number: signal.Signals) -> None:
    async with served(program) as (process, address, said):
        assert address.startswith("127.0.0.1:")
        assert "(in memory)" in said
        process.send_signal(number)
        assert await process.wait() == 0
        assert process.stdout is not None
        assert [chunk async for chunk in process.stdout] == []


async def test_a_registry_on_disk_keeps_what_it_has(program: Program, tmp_path: Path) -> None:
    sample = random_image("disk")
    async with served(program, "--disk", str(tmp_path / "d")) as (_, address, _), Session() as session:
        await sample.store(session.remote(Repository(address, "a"), writing=True), "v1")
    async with served(program, "--disk", str(tmp_path / "d")) as (_, address, _):
        assert (await program("digest", f"{address}/a:v1")).text == f"{sample.digest}\n"


async def test_the_port_comes_from_the_environment_as_in_crane(program: Program) -> None:
    async with served(program, PORT="0") as (_, address, _):
        assert address.startswith("0.0.0.0:")
    async with served(program, "--address", "127.0.0.1:0", PORT="1") as (_, address, _):
        assert not address.endswith(":1")


async def test_an_address_that_is_taken_is_an_error_in_one_line(program: Program) -> None:
    async with served(program) as (_, address, _):
        ended = await program("registry", "serve", "--address", address)
        assert ended.code == 2
        assert f"cannot listen on {address}" in ended.error


async def test_users_come_from_an_htpasswd_file(program: Program, tmp_path: Path) -> None:
    htpasswd = require("htpasswd", package="apache2-utils")
    made = await anyio.run_process([str(htpasswd), "-nbB", "me", "hunter2"])
    (tmp_path / "users").write_bytes(made.stdout)
    async with served(program, "--htpasswd", str(tmp_path / "users")) as (_, address, _):
        assert (await program("catalog", address)).code == 4
        auths = json.dumps({"auths": {address: {"username": "me", "password": "hunter2"}}})
        assert (await program("catalog", address, DOCKER_AUTH_CONFIG=auths)).code == 0


async def test_what_is_no_request_is_one_line_in_the_log(program: Program) -> None:
    async with served(program) as (process, address, _):
        host, _, port = address.partition(":")
        async with await anyio.connect_tcp(host, int(port)) as client:
            await client.send(b"GET /v2/\x00 HTTP/1.1\r\nHost: a\r\n\r\n")
            assert b" 400 " in await client.receive()
        process.send_signal(signal.SIGINT)
        assert process.stderr is not None
        said = b"".join([chunk async for chunk in process.stderr]).decode().splitlines()
    assert len(said) == 1
    assert said[0].startswith("asyncrane: error: Error handling request from 127.0.0.1: ")


async def test_the_demo_copies_compares_and_leaves_nothing(program: Program, tmp_path: Path) -> None:
    ended = await program("demo", "--size", "4", TMPDIR=str(tmp_path))
    assert ended.code == 0, ended.err
    assert "18 of 18 digests are equal" in ended.text
    assert "differs" not in ended.text
    assert [entry.name async for entry in anyio.Path(tmp_path).iterdir()] == []
