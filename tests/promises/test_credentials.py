"""Who we are, asked for once, and renewed without sending a byte twice."""

from __future__ import annotations

import base64
import json
from collections import Counter

import pytest

from asyncrane import Credential, FixedKeychain, Pair
from asyncrane.server import PlainUsers, Scope, TokenAuth
from asyncrane.server.call import Call, Handler
from asyncrane.server.reply import Reply
from asyncrane.testing import FaultyRegistry, Gate, delay, fault, refuse_mount
from asyncrane.testing.images import random_image
from tests.cli.conftest import Program
from tests.promises.images import image, incomplete, noise, one, put, run, tags

USERS = PlainUsers({"mover": "secret-1", "reader": "secret-2", "writer": "secret-3"})
MOVER = FixedKeychain(Credential("mover", "secret-1"))


async def test_a4_one_ping_and_one_token_for_each_scope_with_many_tasks() -> None:
    """A4: 200 tags, 64 at once; tokens outlive the run."""
    async with FaultyRegistry(auth=TokenAuth(USERS)) as source, FaultyRegistry(auth=TokenAuth(USERS)) as destination:
        for repository in range(2):
            for tag in range(100):
                put(source, f"r{repository}", image(f"{repository}/{tag}", [noise(tag % 7, 5000)]), f"v{tag}")
        pairs = [Pair(f"{source.address}/r{n}", (f"{destination.address}/r{n}",)) for n in range(2)]
        outcomes, _ = await run(pairs, all_tags=True, jobs=64, keychain=MOVER)
        assert [o.failure for o in outcomes if o.failure] == []
        for side in (source, destination):
            assert len(side.requests(kind="ping")) == 1
            scopes = Counter(r.query for r in side.requests(kind="token"))
            assert set(scopes.values()) == {1}, scopes
            assert len(side.requests(status=401)) <= 1
        assert len(source.requests(kind="token")) == 2
        assert len(tags(destination)) == 200


async def test_a4_a_destination_is_listed_with_the_token_that_writes() -> None:
    """A4: one token for a repository that is listed, then written."""
    async with FaultyRegistry() as source, FaultyRegistry(auth=TokenAuth(USERS)) as destination:
        put(source, "a", image("a", [noise("a", 5000)]), "v1")
        await run([Pair(f"{source.address}/a", (f"{destination.address}/a",))], all_tags=True, keychain=MOVER)
        assert len(destination.requests(kind="token")) == 1
        assert incomplete(destination) == []


@pytest.mark.parametrize("moment", ["upload-put", "manifest-put", "mount", "blob-get"])
async def test_c1_tokens_that_end_under_way_are_renewed(moment: str) -> None:
    """C1: whatever comes next is sent with a new token; blob bytes are not sent again."""
    auth = TokenAuth(USERS)
    async with FaultyRegistry(auth=auth) as source, FaultyRegistry(auth=auth) as destination:

        async def expire(call: Call, handler: Handler) -> Reply:
            auth.revoke()
            return await handler(call)

        side = source if moment == "blob-get" else destination
        expired = side.faults.add(fault("expire", expire, kind=moment, nth=(1, 3)))
        sample = random_image("c1", layers=(1000, 200_000))
        outcome, _ = await one(
            put(source, "app", sample, "v1"), f"{destination.address}/app:v1", keychain=MOVER, jobs=1
        )
        assert outcome.failure is None
        assert expired.hits >= 1
        assert incomplete(destination) == []
        assert len([r for r in destination.log if r.kind == "upload-put" and r.status == 201]) == len(sample.blobs)


async def test_c1_a_token_that_ends_while_a_large_blob_is_sent() -> None:
    """C1: the commit is refused, a new token is got, the bytes are there already."""
    auth = TokenAuth(USERS)
    async with FaultyRegistry() as source, FaultyRegistry(auth=auth) as destination:
        sample = random_image("large", layers=(8_000_000,))

        async def refuse_body(call: Call, handler: Handler) -> Reply:
            """As registries do that look at the token when the bytes are in: PATCH keeps them, PUT does not."""
            reply = await handler(call)
            auth.revoke()
            return reply

        destination.faults.add(fault("expire", refuse_body, kind=("upload-post", "upload-patch"), times=2))
        outcome, _ = await one(put(source, "app", sample, "v1"), f"{destination.address}/app:v1", keychain=MOVER)
        assert outcome.failure is None
        assert incomplete(destination) == []
        sent = sum(r.request_bytes for r in destination.log if r.kind in ("upload-put", "upload-patch"))
        assert sent < 2.05 * sample.size


def project_rights(user: str, scope: Scope) -> set[str]:
    """The reader reads team-a, the writer has team-b; nobody sees the other's."""
    if scope.name.startswith("team-a/"):
        return {"pull"} if user == "reader" else set()
    return {"pull", "push"} if user == "writer" else set()


async def test_c5_two_projects_on_one_host_with_two_logins(program: Program) -> None:
    """C5: by --src-creds and --dst-creds, and by the longest matching path of a config file."""
    async with FaultyRegistry(auth=TokenAuth(USERS, grant=project_rights)) as registry:
        sample = random_image("c5", layers=(1000, 300_000))
        name = put(registry, "team-a/app", sample, "v1")
        flags = ("--src-creds", "reader:secret-2", "--dst-creds", "writer:secret-3")
        ended = await program("cp", name, f"{registry.address}/team-b/flags:v1", *flags)
        assert ended.code == 0, ended.err
        auths = {
            f"{registry.address}/team-a": "reader:secret-2",
            f"{registry.address}/team-b": "writer:secret-3",
            f"{registry.address}/team-b/nobody": "mover:secret-1",
            registry.address: "mover:secret-1",
        }
        config = {"auths": {name: {"auth": base64.b64encode(login.encode()).decode()} for name, login in auths.items()}}
        (program.home / ".docker").mkdir(parents=True)
        (program.home / ".docker" / "config.json").write_text(json.dumps(config))
        ended = await program("cp", name, f"{registry.address}/team-b/file:v1", "-v")
        assert ended.code == 0, ended.err
        assert incomplete(registry) == []
        assert "secret-" not in ended.err
        assert (await program("cp", name, f"{registry.address}/team-b/nobody:v1")).code == 4
        assert set(tags(registry)) == {"team-a/app:v1", "team-b/flags:v1", "team-b/file:v1"}


async def test_d10_a_donor_that_may_not_be_read_is_no_error() -> None:
    """D10, C5: a token service that grants nothing of the donor leads to an upload."""
    async with FaultyRegistry() as source, FaultyRegistry(auth=TokenAuth(USERS)) as destination:
        layer = noise("shared", 300_000)
        destination.faults.add(refuse_mount(401, where=lambda call: call.ask("from") != call.route.repository))
        pairs = [
            Pair(put(source, f"r{n}", image(n, [layer]), "v1"), (f"{destination.address}/r{n}:v1",)) for n in range(4)
        ]
        outcomes, _ = await run(pairs, keychain=MOVER)
        assert [o.failure for o in outcomes if o.failure] == []
        assert incomplete(destination) == []


async def test_wrong_credentials_are_exit_4_and_nothing_is_sent(program: Program) -> None:
    """I6: one line, at once, without the password."""
    async with FaultyRegistry() as source, FaultyRegistry(auth=TokenAuth(USERS)) as destination:
        name = put(source, "a", random_image("x"), "v1")
        ended = await program("cp", name, f"{destination.address}/a:v1", "--dst-creds", "writer:wrong-password")
        assert ended.code == 4
        assert "wrong-password" not in ended.error
        assert destination.requests(kind="upload-put") == []


async def test_a_token_service_that_takes_its_time_is_asked_once() -> None:
    """A4: whoever needs the token meanwhile waits for it."""
    async with FaultyRegistry(auth=TokenAuth(USERS)) as source, FaultyRegistry() as destination:
        gate = Gate()
        source.faults.add(delay(gate, kind="token"))
        names = [put(source, "a", image(n, [noise(n, 2000)]), f"v{n}") for n in range(30)]

        async def open_gate(call: Call, handler: Handler) -> Reply:
            gate.release()
            return await handler(call)

        destination.faults.add(fault("open", open_gate, kind="manifest-head", nth=30))
        pairs = [Pair(name, (f"{destination.address}/a:v{n}",)) for n, name in enumerate(names)]
        await run(pairs, keychain=MOVER, jobs=64)
        assert len(source.requests(kind="token")) == 1
        assert len(tags(destination)) == 30
