"""What others on the machine, and a terminal, get to see."""

from __future__ import annotations

import json
import os
import pty
import subprocess
from collections.abc import AsyncIterator
from pathlib import Path

import anyio
import anyio.to_thread
import pytest

from asyncrane.server.call import Call, Handler
from asyncrane.server.reply import Reply
from asyncrane.testing import FaultyRegistry, Gate, delay, fault
from asyncrane.testing.images import random_image
from asyncrane.transport.redaction import bare_url
from tests.cli.conftest import Program, fill
from tests.security.conftest import PASSWORD

ESCAPES = "\x1b]0;owned\x07\x1b[2J\r"


@pytest.fixture
async def odd() -> AsyncIterator[FaultyRegistry]:
    """A registry whose names and errors would do something to a terminal."""

    async def named(call: Call, handler: Handler) -> Reply:
        return Reply.of_json({"name": "app", "tags": ["v1", f"v2{ESCAPES}"]})

    async def failing(call: Call, handler: Handler) -> Reply:
        return Reply(400, {}, json.dumps({"errors": [{"code": "X", "message": f"no{ESCAPES}"}]}).encode())

    async with FaultyRegistry() as registry:
        registry.faults.add(fault("names", named, kind="tags"), fault("errors", failing, kind="manifest-get"))
        yield registry


async def test_an_error_does_nothing_to_a_terminal(program: Program, odd: FaultyRegistry, tmp_path: Path) -> None:
    """Whoever it quotes: a registry, or the names in an archive."""
    (tmp_path / "oci-layout").write_text('{"imageLayoutVersion":"1.0.0"}')
    entry = {
        "mediaType": "application/vnd.oci.image.manifest.v1+json",
        "digest": f"sha256:{'0' * 64}",
        "size": 1,
        "annotations": {"org.opencontainers.image.ref.name": f"v1{ESCAPES}"},
    }
    (tmp_path / "index.json").write_text(json.dumps({"schemaVersion": 2, "manifests": [entry]}))
    for command in (
        ("manifest", f"{odd.address}/app:v1"),
        ("cp", f"oci:{tmp_path}:v2", f"{odd.address}/app:v1"),
        ("cp", "-a", f"{odd.address}/app", f"{odd.address}/other"),
    ):
        ended = await program("-v", *command)
        assert ended.code != 0
        assert [line for line in ended.err.splitlines() if not line.isprintable()] == []
    assert bare_url(f"https://x/{ESCAPES}").isprintable()


async def test_a_list_does_nothing_to_a_terminal_and_is_exact_in_a_pipe(program: Program, odd: FaultyRegistry) -> None:
    command = ["ls", f"{odd.address}/app"]
    assert (await program(*command)).text == f"v1\nv2{ESCAPES}\n"
    ours, theirs = pty.openpty()

    def run() -> bytes:
        subprocess.run(
            program.command(*command),
            env=program.environ,
            stdout=theirs,
            stderr=subprocess.DEVNULL,
            check=True,
            timeout=60,
        )
        os.close(theirs)
        return os.read(ours, 10_000)

    shown = await anyio.to_thread.run_sync(run)
    os.close(ours)
    assert shown == b"v1\r\nv2?]0;owned??[2J?\r\n"


async def test_a_password_in_the_arguments_is_warned_of(program: Program) -> None:
    """Everybody on the machine may read them (``ps``)."""
    login = ("auth", "login", "a.example", "-u", "me")
    shown = await program(*login, "-p", PASSWORD)
    quiet = await program(*login, "--password-stdin", stdin=PASSWORD)
    assert (shown.code, quiet.code) == (0, 0)
    warning = "others on this machine can see a --password"
    assert (warning in shown.err, warning in quiet.err) == (True, False)
    assert PASSWORD not in shown.err + quiet.err


async def test_credentials_in_the_arguments_are_warned_of(program: Program) -> None:
    """And what to do instead is said, there and by the help."""
    async with FaultyRegistry() as registry:
        image = fill(registry, "app", random_image("seen"), "v1")
        command = ("cp", image, f"{registry.address}/b:v1")
        for option in ("--src-creds", "--dst-creds"):
            shown = await program(*command, option, f"me:{PASSWORD}")
            assert shown.code == 0
            assert "others on this machine can see --src-creds and --dst-creds; ASYNCRANE_AUTH_<HOST>" in shown.err
            assert PASSWORD not in shown.err
        assert "can see" not in (await program(*command)).err
    assert "ASYNCRANE_AUTH_HOST" in (await program("cp", "--help")).text


async def test_no_process_has_a_secret_in_its_arguments(program: Program, tmp_path: Path) -> None:
    """Neither ours, with a password in a variable, nor the helper that is asked for one."""
    seen, helper = tmp_path / "seen", tmp_path / "docker-credential-look"
    script = f"""#!/bin/sh
tr '\\0' ' ' </proc/$PPID/cmdline >>{seen}
echo "$0 $@" >>{seen}
cat >/dev/null
echo '{{"Username":"me","Secret":"{PASSWORD}"}}'
"""
    helper.write_text(script)
    helper.chmod(0o755)
    async with FaultyRegistry() as source:
        image = fill(source, "app", random_image("ps"), "v1")
        config = {"credHelpers": {source.address: "look"}}
        environ = {"DOCKER_AUTH_CONFIG": json.dumps(config), "PATH": f"{tmp_path}:{program.environ['PATH']}"}
        gate = Gate()
        source.faults.add(delay(gate, kind="manifest-get"))
        command = program.command("manifest", image)
        whole = {**program.environ, **environ, "ASYNCRANE_AUTH_OTHER_EXAMPLE": f"me:{PASSWORD}"}
        async with await anyio.open_process(command, env=whole, stdin=subprocess.DEVNULL) as process:
            with anyio.fail_after(60):
                await gate.reached()
            arguments = Path(f"/proc/{process.pid}/cmdline")
            shown = arguments.read_bytes() if arguments.exists() else b""  # noqa: ASYNC240  (nothing is read from a disk)
            gate.release()
            assert await process.wait() == 0
    assert PASSWORD not in shown.decode() + seen.read_text()
    assert "docker-credential-look get" in seen.read_text()
