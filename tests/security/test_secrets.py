"""A planted secret is looked for in everything that is written: stdout, stderr, journals, plans, reports, metrics,
images, errors, and what every object says of itself.
"""

from __future__ import annotations

import gc
import io
import urllib.request
from collections.abc import Iterator
from pathlib import Path

import anyio
import anyio.to_thread
import pytest
from rich.console import Console
from rich.pretty import Pretty

import asyncrane
from asyncrane.auth.credentials import Credential, Secretive
from asyncrane.auth.keychain import DefaultKeychain
from asyncrane.server.call import Call, Handler
from asyncrane.server.refusal import error_reply
from asyncrane.server.reply import Reply
from asyncrane.testing import Gate, delay, fault
from asyncrane.testing.images import random_image, random_index
from tests.cli.conftest import Program, fill
from tests.security.conftest import BASIC, PASSWORD, Guarded

COMMANDS = """
-v ls A/app
-v catalog A
-v manifest A/app:v1
-v digest A/app:v1
-v config A/app:v1
-v validate --remote A/app:v1
-v pull A/app:v1 T/docker.tar
-v pull --format oci A/app:v1 T/layout
-v push T/layout B/pushed:1
-v export A/app:v1 T/files.tar
-v cp A/app:v1 B/app:v1 --output json
-v cp A/app:v1 B/app:v2 --progress json
-v cp A/app:none B/app:v3
-v cp -a --from-file T/pairs.txt
-v mutate A/app:v1 --label a=b -t A/app:v5
-v index list A/many:v1
-v tag B/app:v1 v9
-v untag B/app:v9
-v delete B/app:v2
-v diff A/app B/app
auth login other.example -u me --password-stdin
auth logout other.example
-v mirror plan T/mirror.yaml -o T/plan.json
-v mirror apply T/plan.json --journal T/journal.db
-v mirror apply T/mirror.yaml --journal T/journal.db --output json
-v mirror verify T/mirror.yaml
mirror runs --journal T/journal.db
mirror report 1 --journal T/journal.db -o T/report.html
mirror explain 1 B/copy/app:v1 --journal T/journal.db
-v mirror rollback 1 --journal T/journal.db
"""
MIRROR = """\
version: 1
registries:
  B: {credentials: {username: me, password_env: MIRROR_PASSWORD}}
mirrors:
  - {from: A/app, to: [B/copy/app]}
"""


def leaks(directory: Path, secrets: set[str], but: Path) -> list[str]:
    """The files, of all below ``directory``, that hold a secret."""
    wanted = [secret.encode() for secret in secrets]
    files = [path for path in directory.rglob("*") if path.is_file() and path != but]
    return [str(path) for path in files if any(secret in path.read_bytes() for secret in wanted)]


async def test_no_command_writes_a_secret_anywhere(program: Program, guarded: Guarded, tmp_path: Path) -> None:
    """At the loudest level, and whether it works or not."""
    fill(guarded.source, "app", random_image("secrets"), "v1", "v2")
    fill(guarded.source, "many", random_index("secrets"), "v1")
    config = program.home / ".docker" / "config.json"
    config.parent.mkdir(parents=True)
    config.write_text(guarded.config)
    names = {"A/": f"{guarded.source.address}/", "B/": f"{guarded.destination.address}/", "T/": f"{tmp_path}/"}

    def named(text: str) -> str:
        for short, name in names.items():
            text = text.replace(short, name)
        return text.replace("B:", f"{guarded.destination.address}:")

    (tmp_path / "pairs.txt").write_text(named("A/app B/pairs\n"))
    (tmp_path / "mirror.yaml").write_text(named(MIRROR))
    codes: dict[str, int] = {}
    said: dict[str, str] = {}
    for line in COMMANDS.strip().splitlines():
        arguments = [guarded.source.address if word == "A" else named(word) for word in line.split()]
        ended = await program(*arguments, stdin=PASSWORD, MIRROR_PASSWORD=PASSWORD)
        codes[line] = ended.code
        said[line] = ended.err + ended.out.decode(errors="replace")
    assert {line: said[line] for line, code in codes.items() if code not in (0, 1)}.keys() == {
        "-v cp A/app:none B/app:v3"
    }
    secrets = guarded.secrets()
    assert len(secrets) > 8
    assert [line for line, text in said.items() if any(secret in text for secret in secrets)] == []
    assert leaks(tmp_path, secrets, but=config) == []
    assert "<redacted>" in said["-v pull A/app:v1 T/docker.tar"]
    assert all((tmp_path / name).exists() for name in ("plan.json", "report.html", "journal.db", "layout"))


@pytest.mark.parametrize(
    "command",
    [
        "cp https://me:SECRET@a.example/app:v1 b.example/app:v1",
        "cp me:SECRET@localhost:5000/app:v1 b.example/app:v1",
        "-v cp -a a.example/app docker://me:SECRET@b.example/app",
        "cp --from-file - --output json",
        "ls me:p@SECRET@a.example/app",
        "manifest me:SECRET@a.example/app@sha256:0",
        "catalog me:SECRET@a.example",
        "auth login https://me:SECRET@a.example:5000 -u me --password-stdin",
        "auth logout me:SECRET@localhost",
        "cp a.example/app b.example/app --src-creds SECRET",
    ],
)
async def test_a_password_in_a_name_is_not_repeated(program: Program, command: str) -> None:
    """Who writes it there, as for other tools, is told where it belongs."""
    words = command.replace("SECRET", PASSWORD).split()
    ended = await program(*words, stdin=f"https://me:{PASSWORD}@a.example/app b.example/app\n")
    assert ended.code == 2
    assert PASSWORD not in ended.err + ended.text
    assert "USER:PASSWORD" in ended.err


async def _echo(call: Call, handler: Handler) -> Reply:
    """What a proxy says that is set to tell what it was asked."""
    shown = f"{call.headers.get('Authorization', '')} {PASSWORD} {call.headers.get('X-Meta-Key', '')}"
    reply = error_reply(400, "DEBUG", f"you sent {shown.partition(' ')[2]}")
    return Reply(400, {**reply.headers, "X-Debug": shown, "Server": shown, "Warning": shown}, reply.body)


async def test_what_a_registry_repeats_of_a_secret_is_not_shown(program: Program, guarded: Guarded) -> None:
    """In its errors and headers, at the loudest level: the log is read by more people than the credential is for."""
    guarded.source.faults.add(fault("echo", _echo, kind="manifest-get"))
    guarded.destination.faults.add(fault("echo", _echo, kind="token"))
    for image in (f"{guarded.source.address}/app:v1", f"{guarded.destination.address}/app:v1"):
        ended = await program("-v", "manifest", image, DOCKER_AUTH_CONFIG=guarded.config)
        assert ended.code == 1
        assert "you sent " in ended.err
        tokens = guarded.secrets() - {PASSWORD, BASIC}
        assert [secret for secret in tokens if secret in ended.err] == []


async def test_a_password_that_is_repeated_is_not_shown(program: Program, guarded: Guarded) -> None:
    """The token service is the one that is shown it."""
    guarded.source.faults.add(fault("echo", _echo, kind="token"))
    ended = await program("-v", "manifest", f"{guarded.source.address}/app:v1", DOCKER_AUTH_CONFIG=guarded.config)
    assert ended.code == 1
    assert "you sent " in ended.err
    assert [secret for secret in (PASSWORD, BASIC) if secret in ended.err.replace(f"header-{PASSWORD}", "")] == []


def living() -> Iterator[object]:
    """Every object of ours that the collector knows, and what these hold directly."""
    seen: set[int] = set()
    for one in gc.get_objects():
        for found in (one, *(gc.get_referents(one) if _ours(one) else ())):
            if id(found) not in seen and _ours(found):
                seen.add(id(found))
                yield found


def _ours(one: object) -> bool:
    module = getattr(type(one), "__module__", "")
    return isinstance(module, str) and module.startswith("asyncrane.") and not module.startswith(_PLAYED)


_PLAYED = ("asyncrane.testing", "asyncrane.server")
"""The registries of the test, which must know the secrets."""


def fetched(address: str) -> str:
    with urllib.request.urlopen(address, timeout=20) as answer:  # noqa: S310 - http and loopback, from the server
        return str(answer.read().decode())


async def test_no_object_says_a_secret_of_itself(guarded: Guarded, monkeypatch: pytest.MonkeyPatch) -> None:
    """While a copy is under way: to a debugger, a log of locals, an error tracker."""
    monkeypatch.setenv("DOCKER_AUTH_CONFIG", guarded.config)
    image = fill(guarded.source, "app", random_image("reprs"), "v1")
    gate = Gate()
    guarded.destination.faults.add(delay(gate, kind=("upload-put", "upload-patch")))
    gc.collect()  # what other tests have left
    said: dict[str, str] = {}
    pretty = io.StringIO()
    console = Console(file=pretty, width=200)
    async with (
        asyncrane.Session(keychain=DefaultKeychain(), source_credential=Credential("me", PASSWORD)) as session,
        anyio.create_task_group() as tasks,
    ):
        tasks.start_soon(asyncrane.copy, session, image, f"{guarded.destination.address}/app:v1")
        with anyio.fail_after(20):
            await gate.reached()
        for one in living():
            said[type(one).__qualname__] = said.get(type(one).__qualname__, "") + f"{one!r}\n{one!s}\n"
            if isinstance(one, Secretive):
                console.print(Pretty(one))
        with asyncrane.serve_metrics(session.statistics, port=0) as address:
            said["metrics"] = await anyio.to_thread.run_sync(fetched, address)
        gate.release()
    assert "asyncrane_" in said["metrics"]
    assert {"Session", "Origin", "Tokens", "Token", "Credential", "DefaultKeychain", "Wire", "Scheduler"} <= said.keys()
    secrets = guarded.secrets()
    said["rich"] = pretty.getvalue()
    assert [name for name, text in said.items() if any(secret in text for secret in secrets)] == []
