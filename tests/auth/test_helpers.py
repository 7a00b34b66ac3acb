"""Credential helpers: real programs on a real PATH."""

from __future__ import annotations

import os
from pathlib import Path

import anyio
import psutil
import pytest

from asyncrane.auth.credentials import ANONYMOUS, Credential
from asyncrane.auth.helpers import Helpers
from asyncrane.errors import CredentialError
from tests.auth.conftest import User

HOST = "registry.example"


def helpers(user: User, limit: float = 30.0) -> Helpers:
    return Helpers(environ=user.environ, limit=limit)


async def test_a_helper_gets_stores_lists_and_erases(user: User) -> None:
    user.helper("one", {})
    mine = helpers(user)
    assert await mine.get("one", HOST) == ANONYMOUS
    await mine.store("one", HOST, Credential("user", "s3cr\u00e9t"))
    assert await mine.get("one", HOST) == Credential("user", "s3cr\u00e9t")
    assert await mine.list("one") == {HOST: "user"}
    await mine.erase("one", HOST)
    assert await mine.get("one", HOST) == ANONYMOUS
    await mine.erase("one", HOST)


async def test_the_user_token_marks_an_identity_token_both_ways(user: User) -> None:
    user.helper("one", {HOST: ("<token>", "refresh")})
    mine = helpers(user)
    assert await mine.get("one", HOST) == Credential(identity_token="refresh")
    await mine.store("one", "other.example", Credential(identity_token="fresh"))
    assert await mine.list("one") == {HOST: "<token>", "other.example": "<token>"}


async def test_many_tasks_start_the_helper_once(user: User) -> None:
    """C4: 64 tasks on one host."""
    user.helper("slow", {HOST: ("user", "secret")})
    mine, found = helpers(user), list[Credential]()

    async def ask() -> None:
        found.append(await mine.get("slow", HOST))

    async with anyio.create_task_group() as tasks:
        for _ in range(64):
            tasks.start_soon(ask)
    assert found == [Credential("user", "secret")] * 64
    assert user.calls("slow") == [f"get {HOST}"]
    assert mine.statistics() == {"runs": 1, "known": 1}


async def test_that_nothing_is_known_is_remembered_too(user: User) -> None:
    user.helper("one", {})
    mine = helpers(user)
    assert await mine.get("one", HOST) == await mine.get("one", HOST) == ANONYMOUS
    assert len(user.calls("one")) == 1


async def test_a_failure_is_told_to_all_who_waited_and_not_kept(user: User) -> None:
    user.script("flaky", f'#!/bin/sh\necho x >> "{user.bin}/flaky.log"\necho "session expired" >&2\nexit 3\n')
    mine, failures = helpers(user), list[str]()

    async def ask() -> None:
        with pytest.raises(CredentialError) as caught:
            await mine.get("flaky", HOST)
        failures.append(str(caught.value))

    async with anyio.create_task_group() as tasks:
        for _ in range(64):
            tasks.start_soon(ask)
    assert failures == [f"docker-credential-flaky get {HOST}: session expired (exit 3)"] * 64
    assert len(user.calls("flaky")) == 1
    user.helper("flaky", {HOST: ("user", "secret")})
    assert await mine.get("flaky", HOST) == Credential("user", "secret")


async def test_the_next_task_takes_over_from_a_cancelled_one(user: User) -> None:
    """The helper run belongs to nobody in particular; a cancelled run is killed."""
    started, pid = user.bin / "started", user.bin / "pid"
    os.mkfifo(started)
    script = f'#!/bin/sh\necho $$ > "{pid}"\necho > "{started}"\nexec sleep 600\n'
    user.script("one", script)
    mine, found = helpers(user), list[Credential]()

    async def ask(scope: anyio.CancelScope) -> None:
        with scope:
            found.append(await mine.get("one", HOST))

    async with anyio.create_task_group() as tasks:
        first = anyio.CancelScope()
        tasks.start_soon(ask, first)
        await anyio.Path(started).read_bytes()
        tasks.start_soon(ask, anyio.CancelScope())
        user.helper("one", {HOST: ("user", "secret")})
        first.cancel()
    assert found == [Credential("user", "secret")]
    assert not psutil.pid_exists(int(pid.read_text()))


async def test_a_helper_that_hangs_is_killed_with_what_it_started(user: User) -> None:
    """C4: after the limit, naming the helper."""
    alive = user.bin / "alive"
    os.mkfifo(alive)
    reader = os.open(alive, os.O_RDONLY | os.O_NONBLOCK)
    try:
        user.script("hung", f'#!/bin/sh\nexec 3> "{alive}"\necho started >&3\nsleep 600 &\nwait\n')
        with pytest.raises(CredentialError, match=r"^docker-credential-hung get: no answer within 1 s, killed$"):
            await helpers(user, limit=1).get("hung", HOST)
        os.set_blocking(reader, True)
        with anyio.fail_after(30):  # the pipe ends when the last process that holds it has
            assert await anyio.to_thread.run_sync(os.read, reader, 100, abandon_on_cancel=True) == b"started\n"
            assert await anyio.to_thread.run_sync(os.read, reader, 100, abandon_on_cancel=True) == b""
    finally:
        os.close(reader)


async def test_a_helper_that_leaves_a_child_with_its_output_is_not_waited_for_for_ever(user: User) -> None:
    """C4."""
    user.script("leaky", "#!/bin/sh\nsleep 600 &\n")
    with pytest.raises(CredentialError, match="docker-credential-leaky get: no answer within"):
        await helpers(user, limit=0.5).get("leaky", HOST)


@pytest.mark.parametrize(
    ("script", "message"),
    [
        ("echo 'no such profile'; exit 1", f"docker-credential-odd get {HOST}: no such profile (exit 1)"),
        ("echo 'one' >&2; echo 'two' >&2; exit 7", f"docker-credential-odd get {HOST}: two (exit 7)"),
        ("exit 1", f"docker-credential-odd get {HOST}: failed (exit 1)"),
        ('echo \'{"Username":"u","Secret":"hunter2"}\'; exit 1', f"docker-credential-odd get {HOST}: failed (exit 1)"),
        ("echo hunter2", f"docker-credential-odd get {HOST}: the answer is not JSON with Username and Secret"),
        ("echo '[\"hunter2\"]'", f"docker-credential-odd get {HOST}: the answer is not JSON with Username and Secret"),
        ("printf '\\377'", f"docker-credential-odd get {HOST}: the answer is not JSON with Username and Secret"),
    ],
)
async def test_a_failing_helper_is_named_in_one_line_without_secrets(user: User, script: str, message: str) -> None:
    user.script("odd", f"#!/bin/sh\n{script}\n")
    with pytest.raises(CredentialError) as caught:
        await helpers(user).get("odd", HOST)
    assert str(caught.value) == message


async def test_a_failed_store_does_not_repeat_the_secret(user: User) -> None:
    user.script("odd", "#!/bin/sh\necho cannot keep hunter2\nexit 1\n")
    with pytest.raises(CredentialError, match=r"docker-credential-odd store registry.example: failed") as caught:
        await helpers(user).store("odd", HOST, Credential("u", "hunter2"))
    assert "hunter2" not in str(caught.value)


async def test_not_found_is_understood_on_either_stream(user: User) -> None:
    user.script("odd", "#!/bin/sh\necho 'credentials not found in native keychain' >&2\nexit 1\n")
    assert await helpers(user).get("odd", HOST) == ANONYMOUS


async def test_a_helper_that_reads_nothing_is_heard(user: User) -> None:
    user.script("deaf", '#!/bin/sh\nexec <&-\necho \'{"Username":"u","Secret":"p"}\'\n')
    assert await helpers(user).get("deaf", HOST * 100_000) == Credential("u", "p")


async def test_a_helper_that_cannot_be_run_is_named(user: User) -> None:
    with pytest.raises(CredentialError, match="docker-credential-absent is configured and not on PATH"):
        await helpers(user).get("absent", HOST)
    user.script("broken", "#!/nonexistent/interpreter\n")
    with pytest.raises(CredentialError, match=r"cannot run .*docker-credential-broken: No such file"):
        await helpers(user).get("broken", HOST)


@pytest.mark.parametrize("suffix", ["../../tmp/x", "a/b", "", "a b", "-x", "a\0b"])
async def test_a_suffix_cannot_leave_the_path(user: User, suffix: str) -> None:
    with pytest.raises(CredentialError, match="not the name of a credential helper"):
        await helpers(user).get(suffix, HOST)


def test_the_environment_is_the_one_given(user: User, tmp_path: Path) -> None:
    async def run() -> Credential:
        script = '#!/bin/sh\necho "{\\"Username\\":\\"$WHO\\",\\"Secret\\":\\"p\\"}"\n'
        user.script("env", script)
        user.environ["WHO"] = "me"
        return await helpers(user).get("env", HOST)

    assert anyio.run(run) == Credential("me", "p")
