"""What a mirror file says of single registries holds for these and for no others."""

from __future__ import annotations

import asyncio
import contextlib
import json
import ssl
import sys
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack
from pathlib import Path

import anyio
import pytest
import trustme

from asyncrane import Credential, FixedKeychain, Pair, Session, copy, copy_all
from asyncrane.engine.messages import Command, Event, Throttled
from asyncrane.errors import ConnectFailed, InvalidInput, InvalidReference, Unauthorized
from asyncrane.server import PlainUsers, TokenAuth
from asyncrane.testing import FaultyRegistry, Gate, LoggedRequest, corrupt, delay, refuse_mount, status
from asyncrane.testing.images import random_image, random_index
from asyncrane.transport.options import RegistryOptions
from tests.promises.images import image, incomplete, noise, one, put, run, tags

STREAMS = ("blob-get", "upload-put", "upload-patch")


def peak(requests: list[LoggedRequest]) -> int:
    """The most that were under way at once."""
    changes = [(r.started, 1) for r in requests] + [(r.ended, -1) for r in requests if r.ended is not None]
    now = most = 0
    for _, change in sorted(changes):
        now += change
        most = max(most, now)
    return most


def short(registry: FaultyRegistry) -> list[LoggedRequest]:
    return [r for r in registry.log if r.kind not in STREAMS]


def streams(registry: FaultyRegistry, *kinds: str) -> list[LoggedRequest]:
    return [r for r in registry.log if r.kind in (kinds or STREAMS) and (r.method == "GET" or r.request_bytes)]


# limits


@pytest.mark.parametrize("numbers", [(8, 4), (1, 1), (2, 3)], ids=str)
async def test_a5_fixed_numbers_are_obeyed(
    source: FaultyRegistry, destination: FaultyRegistry, numbers: tuple[int, int]
) -> None:
    """A5: also by what the engine does not start itself: lists, tokens, pings."""
    requests, blobs = numbers
    pairs = []
    for repository in range(12):
        for tag in range(2):
            put(source, f"r{repository}", random_index(f"{repository}/{tag}", layers=(500, 300_000)), f"v{tag}")
        pairs.append(Pair(f"{source.address}/r{repository}", (f"{destination.address}/r{repository}",)))
    options = RegistryOptions(requests=requests, streams=blobs)
    for side in (source, destination):
        side.faults.add(delay(0.001))
    outcomes, done = await run(pairs, all_tags=True, registries={source.address: options, destination.address: options})
    assert [o.failure for o in outcomes if o.failure] == []
    assert tags(destination) == tags(source)
    for side in (source, destination):
        assert min(2, requests) <= peak(short(side)) <= requests
        assert min(2, blobs) <= peak(streams(side)) <= blobs
    assert done.registries[source.address].limit == requests + blobs


async def test_a5_the_smallest_limits_hold_within_one_registry(source: FaultyRegistry) -> None:
    """A5: what is read there and written there is one stream in each direction, and nothing waits for itself."""
    source.faults.add(refuse_mount(), delay(0.001))
    pairs = []
    for number in range(6):
        name = put(source, f"a{number}", random_image(number, layers=(1000, 1_500_000)), "v1")
        pairs.append(Pair(name, (f"{source.address}/b{number}:v1",)))
    with anyio.fail_after(30):
        await run(pairs, registries={source.address: RegistryOptions(requests=1, streams=1)})
    assert incomplete(source) == []
    assert peak(short(source)) == 1
    assert peak(streams(source, "blob-get")) == 1
    assert peak(streams(source, "upload-put")) == 1


async def test_a5_a_limit_on_requests_includes_tokens() -> None:
    """A5: who waits for a token does not hold what the token needs."""
    auth = TokenAuth(PlainUsers({"mover": "secret"}))
    async with FaultyRegistry(auth=auth) as source, FaultyRegistry() as destination:
        source.faults.add(delay(0.001))
        pairs = [
            Pair(put(source, f"r{n}", random_image(n), "v1"), (f"{destination.address}/r{n}:v1",)) for n in range(8)
        ]
        options = RegistryOptions(credential=Credential("mover", "secret"), requests=1, streams=1)
        with anyio.fail_after(30):
            outcomes, _ = await run(pairs, registries={source.address: options})
        assert [o.failure for o in outcomes if o.failure] == []
        assert peak(short(source)) == 1
        assert len(source.requests(kind="token")) == 8


async def test_a5_what_is_parked_holds_up_nobody(source: FaultyRegistry, destination: FaultyRegistry) -> None:
    """A5, B1: a request that waits for its registry to open again does not keep the only lane."""
    source.faults.add(status(429, headers={"Retry-After": "1"}, error="TOOMANYREQUESTS", nth=(3, 6)))
    pairs = [Pair(put(source, f"r{n}", random_image(n), "v1"), (f"{destination.address}/r{n}:v1",)) for n in range(6)]
    with anyio.fail_after(30):
        outcomes, done = await run(pairs, registries={source.address: RegistryOptions(requests=1, streams=1)})
    assert [o.failure for o in outcomes if o.failure] == []
    assert len(tags(destination)) == 6
    assert done.registries[source.address].retries >= 1


async def observed(pairs: list[Pair], **options: object) -> tuple[list[Throttled], dict[str, int]]:
    """What the engine heard of throttling, and its limits in the end."""
    seen: list[Throttled] = []

    def observe(message: Event | Command) -> None:
        if isinstance(message, Throttled):
            seen.append(message)

    async with Session(**options) as session:  # type: ignore[arg-type]
        session.observe(observe)
        outcomes = await copy_all(session, pairs)
        limits = session.statistics().limits
    assert [o.failure for o in outcomes if o.failure] == []
    return seen, limits


@pytest.mark.parametrize("code", [429, 503, 504])
async def test_b1_answers_that_say_too_much_halve_the_limit_of_their_registry(
    source: FaultyRegistry, destination: FaultyRegistry, code: int
) -> None:
    """B1: of nobody else's, once for all that meet the same trouble, also where no time to wait is given."""
    source.faults.add(status(code, kind="blob-get", times=3))
    pairs = [Pair(put(source, "a", random_image("a"), "v1"), (f"{destination.address}/a:v1",))]
    seen, limits = await observed(pairs)
    assert {message.site.name for message in seen} == {source.address}
    assert 1 <= len(seen) <= 3
    assert limits[source.address] < limits[destination.address]


async def test_b1_a_registry_that_does_not_answer_in_time_is_asked_for_less(
    source: FaultyRegistry, destination: FaultyRegistry
) -> None:
    source.faults.add(delay(Gate(), kind="manifest-get", times=1))
    pairs = [Pair(put(source, "a", random_image("a"), "v1"), (f"{destination.address}/a:v1",))]
    seen, limits = await observed(pairs, stall_timeout=0.3)
    assert [(message.site.name, message.seconds) for message in seen] == [(source.address, 0.0)]
    assert limits[source.address] < limits[destination.address]


# credentials

USERS = PlainUsers({"one": "secret-1", "other": "secret-2"})


async def test_c5_each_registry_has_its_own_credential() -> None:
    """C5, C6: nobody else sees it, and what a person gives for this one run comes first."""
    async with FaultyRegistry(auth=TokenAuth(USERS)) as source, FaultyRegistry(auth=TokenAuth(USERS)) as destination:
        name, target = put(source, "a", random_image("a"), "v1"), f"{destination.address}/a:v1"
        registries = {source.address: RegistryOptions(credential=Credential("one", "secret-1"))}
        outcome, _ = await one(name, target, registries=registries, keychain=FixedKeychain(), retries=0)
        assert outcome.failure is not None
        assert outcome.failure.kind == "Unauthorized"
        assert all("Authorization" not in r.headers for r in destination.requests(kind="token"))
        registries[destination.address] = RegistryOptions(credential=Credential("other", "secret-2"))
        outcome, _ = await one(name, target, registries=registries)
        assert outcome.failure is None
        registries[destination.address] = RegistryOptions(credential=Credential("other", "of yesterday"))
        outcome, _ = await one(
            name, target, registries=registries, destination_credential=Credential("one", "secret-1")
        )
        assert outcome.failure is None
        with pytest.raises(Unauthorized):
            async with Session(registries=registries, retries=0) as session:
                await copy(session, name, target)


async def test_c6_a_helper_is_asked_for_its_registry_alone(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """C4, C6: and once."""
    helper, log = tmp_path / "docker-credential-vault", tmp_path / "log"
    answer = json.dumps({"Username": "one", "Secret": "secret-1"})
    script = f"import sys; open({str(log)!r}, 'a').write(sys.stdin.read() + '\\n'); print({answer!r})"
    _write_program(helper, f"#!{sys.executable}\n{script}\n")
    monkeypatch.setenv("PATH", str(tmp_path))
    async with FaultyRegistry(auth=TokenAuth(USERS)) as source, FaultyRegistry() as destination:
        pairs = [
            Pair(put(source, f"r{n}", random_image(n), "v1"), (f"{destination.address}/r{n}:v1",)) for n in range(6)
        ]
        outcomes, _ = await run(pairs, registries={source.address: RegistryOptions(helper="vault")})
        assert [o.failure for o in outcomes if o.failure] == []
        assert _read(log).split() == [source.address]


def _write_program(file: Path, text: str) -> None:
    file.write_text(text)
    file.chmod(0o755)


def _read(file: Path) -> str:
    return file.read_text()


# TLS


class First:
    """A host that says "fine" in plain HTTP to whatever comes, and remembers how each connection began."""

    def __init__(self) -> None:
        self.began: list[bytes] = []
        self.address = ""

    async def __call__(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        with contextlib.suppress(OSError):
            begun = False
            while data := await reader.read(65536):
                if not begun:
                    self.began.append(data[:1])
                    begun = True
                writer.write(b"HTTP/1.1 200 OK\r\nContent-Length: 4\r\n\r\nfine")
                await writer.drain()
        writer.close()


@pytest.fixture
async def first() -> AsyncIterator[First]:
    host = First()
    async with await asyncio.start_server(host, "127.0.0.1") as server:
        host.address = f"127.0.0.1:{server.sockets[0].getsockname()[1]}"
        yield host


async def test_l1_a_plain_registry_gets_no_https_attempt(first: First) -> None:
    async with Session(registries={first.address: RegistryOptions(plain_http=True)}) as session:
        assert (await session.origin(first.address).request("GET", "/v2/x")).body == b"fine"
    assert set(first.began) == {b"G"}
    first.began.clear()
    async with Session(retries=0) as session:
        assert (await session.origin(first.address).request("GET", "/v2/x")).body == b"fine"
    assert b"\x16" in first.began, "any other is asked with TLS"


async def _secure(stack: AsyncExitStack, ca: trustme.CA, *, client: bool = False) -> FaultyRegistry:
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    ca.issue_cert("127.0.0.1").configure_cert(context)
    if client:
        context.verify_mode = ssl.CERT_REQUIRED
        ca.configure_trust(context)
    return await stack.enter_async_context(FaultyRegistry(ssl=context))


async def test_l1_l2_trust_and_identity_are_each_registrys_own(tmp_path: Path) -> None:
    """L1, L2: one is not checked, one has an authority of its own and wants to know who we are; a third has neither."""
    ca = trustme.CA()
    issued = ca.issue_cert("client.example")
    authority, cert, key = tmp_path / "ca.pem", tmp_path / "c.pem", tmp_path / "k.pem"
    ca.cert_pem.write_to_path(authority)
    issued.cert_chain_pems[0].write_to_path(cert)
    issued.private_key_pem.write_to_path(key)
    async with AsyncExitStack() as stack:
        lax, strict, unknown = [await _secure(stack, ca, client=client) for client in (False, True, False)]
        registries = {
            lax.address: RegistryOptions(insecure=True),
            strict.address: RegistryOptions(ca=authority, cert=cert, key=key),
        }
        name = put(lax, "a", random_image("a"), "v1")
        async with Session(registries=registries, retries=0) as session:
            outcome = await copy(session, name, f"{strict.address}/a:v1")
            assert outcome.failure is None
            with pytest.raises(ConnectFailed, match="the certificate is not trusted"):
                await copy(session, name, f"{unknown.address}/a:v1")
        assert incomplete(strict) == []
        assert len(unknown.log) == 0


def test_l2_a_key_without_a_certificate_is_an_early_error(tmp_path: Path) -> None:
    with pytest.raises(InvalidInput, match=r"k\.pem has no certificate"):
        Session(registries={"registry.example": RegistryOptions(key=tmp_path / "k.pem")})
    with pytest.raises(InvalidReference):
        Session(registries={"https://registry.example": RegistryOptions()})


# rates


async def test_i7_the_rate_of_a_registry_is_kept_by_a_copy(source: FaultyRegistry, destination: FaultyRegistry) -> None:
    """I7: 2 MB at 2 MB/s, however many at once; both ends could be quicker."""
    pairs = []
    for number in range(4):
        name = put(source, f"r{number}", image(number, [noise(number, 500_000)]), "v1")
        pairs.append(Pair(name, (f"{destination.address}/r{number}:v1",)))
    options = RegistryOptions(rate=2_000_000)
    started = anyio.current_time()
    _, done = await run(pairs, registries={destination.address: options})
    assert 0.95 <= anyio.current_time() - started <= 2.0
    assert done.bytes_written >= 2_000_000
    assert incomplete(destination) == []


# mirrors


@pytest.fixture
async def mirror() -> AsyncIterator[FaultyRegistry]:
    async with FaultyRegistry() as started:
        yield started


async def test_l4_what_a_mirror_has_is_read_there_and_nothing_is_written_to_it(
    source: FaultyRegistry, mirror: FaultyRegistry, destination: FaultyRegistry
) -> None:
    """L4: the origin is asked for what the mirror has not got."""
    there, elsewhere = random_index("there", layers=(500, 2_000_000)), random_image("elsewhere", layers=(500, 300_000))
    names = [put(source, "a", there, "v1"), put(source, "b", elsewhere, "v1")]
    put(mirror, "proxy/a", there, "v1")
    options = {source.address: RegistryOptions(mirrors=(f"{mirror.address}/proxy",))}
    pairs = [Pair(name, (name.replace(source.address, destination.address),)) for name in names]
    outcomes, done = await run(pairs, registries=options)
    assert [o.failure for o in outcomes if o.failure] == []
    assert tags(destination) == tags(source)
    assert incomplete(destination) == []
    assert {r.repository for r in source.log if r.kind != "ping"} == {"b"}
    assert {r.method for r in mirror.log} <= {"GET", "HEAD"}
    assert done.registries[mirror.address].received >= there.size
    assert done.registries[source.address].received < there.size
    assert done.limits.keys() == {source.address, destination.address}


async def test_l4_writes_go_to_the_registry_and_not_to_its_mirror(
    source: FaultyRegistry, mirror: FaultyRegistry, destination: FaultyRegistry
) -> None:
    name = put(source, "a", random_image("a", layers=(500, 300_000)), "v1")
    options = {destination.address: RegistryOptions(mirrors=(mirror.address,))}
    outcome, _ = await one(name, f"{destination.address}/a:v1", registries=options)
    assert outcome.failure is None
    assert incomplete(destination) == []
    assert len(mirror.log) == 0


@pytest.mark.parametrize("layer", [300_000, 3_000_000], ids=["small", "large"])
async def test_l4_wrong_bytes_of_a_mirror_reach_nobody(
    source: FaultyRegistry, mirror: FaultyRegistry, destination: FaultyRegistry, layer: int
) -> None:
    sample = random_image("wrong", layers=(layer,))
    name = put(source, "a", sample, "v1")
    put(mirror, "a", sample, "v1")
    mirror.faults.add(corrupt(kind="blob-get"))
    options = {source.address: RegistryOptions(mirrors=(mirror.address,))}
    outcome, _ = await one(name, f"{destination.address}/a:v1", registries=options)
    assert outcome.failure is None
    assert incomplete(destination) == []
    assert len(source.requests(kind="blob-get")) == len(sample.blobs)


async def test_l4_a_dead_mirror_costs_little(source: FaultyRegistry, destination: FaultyRegistry) -> None:
    """L4: it is found out once for all, however long a real registry would be waited for."""
    pairs = []
    for number in range(20):
        name = put(source, f"r{number}", random_image(number), "v1")
        pairs.append(Pair(name, (f"{destination.address}/r{number}:v1",)))
    registries = {source.address: RegistryOptions(mirrors=("localhost:1", "localhost:2"))}
    with anyio.fail_after(10):
        outcomes, done = await run(pairs, registries=registries)
    assert [o.failure for o in outcomes if o.failure] == []
    assert len(tags(destination)) == 20
    assert sum(done.registries["localhost:1"].requests.values()) <= 2 * 20


async def test_l4_c5_a_mirror_is_not_shown_the_sources_credentials(
    source: FaultyRegistry, mirror: FaultyRegistry, destination: FaultyRegistry
) -> None:
    name = put(source, "a", random_image("a"), "v1")
    registries = {source.address: RegistryOptions(mirrors=(mirror.address,))}
    await one(name, f"{destination.address}/a:v1", registries=registries, source_credential=Credential("one", "secret"))
    assert len(mirror.log)
    assert all("Authorization" not in r.headers for r in mirror.log)
    assert any("Authorization" in r.headers for r in source.log)


# what can be seen


async def test_statistics_say_everything_of_every_registry(source: FaultyRegistry, destination: FaultyRegistry) -> None:
    sample = random_image("seen", layers=(500, 300_000))
    source.faults.add(status(500, kind="blob-get", times=1))
    _, done = await one(put(source, "a", sample, "v1"), f"{destination.address}/a:v1")
    assert done.registries.keys() == {source.address, destination.address}
    here, there = done.registries[source.address], done.registries[destination.address]
    assert here.received >= sample.size
    assert there.sent >= sample.size
    assert here.retries == 1
    assert (here.busy, here.parked) == (0, 0.0)
    assert here.limit > 0
    assert there.requests["PUT manifests"] == 1
    assert here.requests == done.requests[source.address]
