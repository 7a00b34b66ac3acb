"""The embedded registry, in sight of everybody: names, sizes, slow clients, who is let in, what its log shows."""

from __future__ import annotations

import asyncio
import base64
import gzip
import itertools
import json
import socket
import sys
from collections.abc import AsyncGenerator, AsyncIterator, Iterator
from contextlib import aclosing, asynccontextmanager, contextmanager
from dataclasses import replace
from pathlib import Path
from typing import Any, cast

import anyio
import pytest

from asyncrane.oci.digest import Digest
from asyncrane.server import (
    Auth,
    BasicAuth,
    DiskStorage,
    HtpasswdUsers,
    MemoryStorage,
    PlainUsers,
    Storage,
    TokenAuth,
    access_log,
    make_app,
    serving,
)
from asyncrane.server.call import Call, Handler
from asyncrane.server.reply import Chunk, Reply, Stream
from asyncrane.server.routes import _KINDS, _PATHS, find_route
from tests.security.test_files import everything

USERS = PlainUsers({"bob": "secret"})
BOB = base64.b64encode(b"bob:secret").decode()
EMPTY = Digest.of(b"")
LONG = "9" * 5000
METHODS = ("GET", "HEAD", "PUT", "POST", "PATCH", "DELETE", "OPTIONS", "TRACE", "PROPFIND")
EXAMPLES = {
    "ping": "/v2/",
    "token": "/token",
    "catalog": "/v2/_catalog",
    "tags": "/v2/a/b/tags/list",
    "manifest": "/v2/a/b/manifests/x",
    "uploads": f"/v2/a/b/blobs/uploads/?mount={EMPTY}&from=c/d",
    "upload": f"/v2/a/b/blobs/uploads/1?digest={EMPTY}",
    "blob": f"/v2/a/b/blobs/{EMPTY}",
    "referrers": f"/v2/a/b/referrers/{EMPTY}",
}

NOTHING = ("/", "/v2", "/v1/", "//v2/", "/v2/../token", "/metrics", "/v2/a/b", "/token/", "/%76%32/")
"""Paths that nothing is at, which is for those to know who are let in."""


@asynccontextmanager
async def served(storage: Storage | None = None, auth: Auth | None = None, **how: Any) -> AsyncIterator[str]:
    async with serving(make_app(storage or MemoryStorage(), auth=auth), grace=0.1, **how) as address:
        yield address


async def ask(address: str, head: str, body: bytes = b"", *, whole: bool = True) -> tuple[int, bytes]:
    """Send what no client would; the status, 0 when the connection was closed without one, and all of the answer, or
    its head: the registry waits for what was announced and not sent before it hangs up.
    """
    host, _, port = address.rpartition(":")
    reader, writer = await asyncio.open_connection(host, int(port))
    try:
        with anyio.fail_after(20):
            writer.write(f"{head}\r\nHost: x\r\nConnection: close\r\n\r\n".encode() + body)
            answer = await (reader.read() if whole else reader.readuntil(b"\r\n\r\n"))
    finally:
        writer.close()
        await writer.wait_closed()
    return (int(answer.split(b" ", 2)[1]) if answer else 0), answer


class Untouchable:
    """A storage that nobody may touch who was not let in: whatever is asked of it is a failure, and so a 500."""

    def __getattribute__(self, name: str) -> Any:
        raise AssertionError(f"the storage was asked for {name}")


@pytest.mark.parametrize("kind", ["password", "token"])
async def test_no_route_does_anything_for_who_is_not_let_in(kind: str) -> None:
    """Every path of the table, and others, with every method, also those that nothing answers; the storage is not
    touched.
    """
    assert EXAMPLES.keys() == {place for place, _ in _PATHS}
    assert {(place, method) for place, method in _KINDS} <= set(itertools.product(EXAMPLES, METHODS))
    auth = BasicAuth(USERS) if kind == "password" else TokenAuth(USERS)
    async with served(cast("Storage", Untouchable()), auth) as address:
        paths = [*EXAMPLES.items(), *(("nothing", path) for path in NOTHING)]
        for (place, path), method in itertools.product(paths, METHODS):
            if find_route(method, path.partition("?")[0]).kind == "token":
                continue
            for shown in ("", "\r\nAuthorization: Bearer eyJ", f"\r\nAuthorization: Basic {BOB[:-4]}"):
                status, answer = await ask(address, f"{method} {path} HTTP/1.1{shown}")
                assert status == 401, (method, place, answer)
                assert b"WWW-Authenticate: " in answer


NAMES = [
    "..",
    "../../etc",
    "%2e%2e/%2e%2e/etc",
    "..%2f..%2fetc",
    "a%2f..%2f..%2fb",
    "a//b",
    "/etc/passwd",
    "a%00b",
    "a%0d%0aX-Injected:1",
    "%ff%fe",
    "a\\b",
    "a%5c..%5cb",
    "_manifests",
    "a/_blobs",
    "a/.lock",
    "A",
    "a" * 4000,
    "%25%32%65%25%32%65",
]


@pytest.mark.parametrize("name", NAMES)
async def test_no_name_leads_out_of_the_directory(tmp_path: Path, name: str) -> None:
    """As a repository, a tag, a digest, an upload, the repository to mount from: refused, and no file is made."""
    home = tmp_path / "home"
    with DiskStorage(home) as storage:
        before = everything(tmp_path)
        async with served(storage) as address:
            for method, target in (
                ("PUT", f"/v2/{name}/manifests/v1"),
                ("PUT", f"/v2/a/manifests/{name}"),
                ("GET", f"/v2/{name}/tags/list"),
                ("POST", f"/v2/{name}/blobs/uploads/?digest={EMPTY}"),
                ("GET", f"/v2/a/blobs/{name}"),
                ("DELETE", f"/v2/a/blobs/sha256:{name}"),
                ("PATCH", f"/v2/a/blobs/uploads/{name}"),
                ("PUT", f"/v2/a/blobs/uploads/{name}?digest={EMPTY}"),
                ("POST", f"/v2/a/blobs/uploads/?mount={EMPTY}&from={name}"),
                ("GET", f"/v2/a/referrers/sha256:{name}"),
            ):
                status, answer = await ask(address, f"{method} {target} HTTP/1.1\r\nContent-Length: 2", b"{}")
                mounted = "mount=" in target and status == 202  # nothing to mount: an upload instead, which ends here
                assert 400 <= status < 500 or mounted, (method, target, answer)
                assert b"\nX-Injected" not in answer
        made = everything(tmp_path) - before
        assert {path for path in made if not path.startswith("home/uploads/")} == set()


@pytest.mark.parametrize(
    "header",
    [f"Range: bytes={LONG}-", f"Range: bytes=0-{LONG}", f"Range: bytes=-{LONG}", f"If-None-Match: {LONG}"],
)
async def test_numbers_of_any_length_are_no_failure_of_the_registry(header: str) -> None:
    """Found here: int() refuses more than 4300 digits, which was a 500."""
    async with served() as address:
        put = f"POST /v2/a/blobs/uploads/?digest={Digest.of(b'x')} HTTP/1.1\r\nContent-Length: 1"
        assert (await ask(address, put, b"x"))[0] == 201
        status, _ = await ask(address, f"GET /v2/a/blobs/{Digest.of(b'x')} HTTP/1.1\r\n{header}")
        assert status in (200, 206, 416)


@pytest.mark.parametrize("stated", [f"{LONG}-1", f"0-{LONG}", "0-0x", "-"])
async def test_a_range_of_any_length_is_refused_as_one(stated: str) -> None:
    async with served() as address:
        _, opened = await ask(address, "POST /v2/a/blobs/uploads/ HTTP/1.1\r\nContent-Length: 0")
        location = next(line for line in opened.decode().splitlines() if line.startswith("Location: ")).split()[1]
        head = f"PATCH {location} HTTP/1.1\r\nContent-Length: 0\r\nContent-Range: {stated}"
        assert (await ask(address, head))[0] == 400


async def test_what_is_too_large_is_refused_before_it_is_read() -> None:
    """A manifest by what it says, or by what comes; heads by their length."""
    async with served() as address:
        large = 4 * 1024 * 1024 + 1
        put = "PUT /v2/a/manifests/x HTTP/1.1"
        assert (await ask(address, f"{put}\r\nContent-Length: {large}", whole=False))[0] == 413
        chunks = b"".join(b"100000\r\n%b\r\n" % bytes(0x100000) for _ in range(5)) + b"0\r\n\r\n"
        assert (await ask(address, f"{put}\r\nTransfer-Encoding: chunked", chunks))[0] == 413
        assert (await ask(address, f"GET /v2/{'a' * 9000} HTTP/1.1"))[0] == 400
        assert (await ask(address, f"GET /v2/ HTTP/1.1\r\nX-Large: {'a' * 9000}"))[0] == 400
        assert (await ask(address, "GET /v2/ HTTP/1.1" + "".join(f"\r\nX-{n}: 1" for n in range(200))))[0] == 400


async def test_what_is_sent_compressed_is_not_expanded() -> None:
    """Some kilobytes would be gigabytes on the disk; and content is what was sent, bit by bit."""
    bomb = gzip.compress(bytes(16 * 1024 * 1024))
    storage = MemoryStorage()
    async with served(storage) as address:
        head = f"POST /v2/a/blobs/uploads/?digest={Digest.of(bomb)} HTTP/1.1\r\nContent-Encoding: gzip"
        assert (await ask(address, f"{head}\r\nContent-Length: {len(bomb)}", bomb))[0] == 201
        assert storage.index.blob_size("a", Digest.of(bomb)) == len(bomb)


async def test_a_client_that_never_ends_its_head_is_hung_up_on() -> None:
    """However steadily it goes on (slowloris); who is slow with the first byte of it, too."""
    async with served(idle=0.3) as address:
        host, _, port = address.rpartition(":")
        for first in (b"GET /v2/ HTTP/1.1\r\nHost: x\r\n", b""):
            reader, writer = await asyncio.open_connection(host, int(port))
            writer.write(first)
            ended = False
            for number in range(100):
                with anyio.move_on_after(0.05):
                    ended = await reader.read(1) == b""
                if ended:
                    break
                if first:
                    writer.write(b"X-%d: 1\r\n" % number)
            writer.close()
            assert ended


@pytest.mark.parametrize("target", ["PUT /v2/a/manifests/x", f"POST /v2/a/blobs/uploads/?digest={EMPTY}"])
async def test_a_client_that_sends_nothing_more_is_hung_up_on(tmp_path: Path, target: str) -> None:
    """It owes a body; what was kept for it is free again."""
    with DiskStorage(tmp_path) as storage:
        async with serving(make_app(storage, silence=0.3), grace=0.1) as address:
            host, _, port = address.rpartition(":")
            reader, writer = await asyncio.open_connection(host, int(port))
            writer.write(f"{target} HTTP/1.1\r\nHost: x\r\nContent-Length: 1000\r\n\r\n{{".encode())
            with anyio.fail_after(20):
                assert await reader.read() == b""
            writer.close()
            await writer.wait_closed()
            assert list((tmp_path / "uploads").iterdir()) == []


async def test_a_client_that_takes_nothing_more_is_hung_up_on() -> None:
    """The answer is let go, with the file that it comes from."""
    content = bytes(16 * 1024 * 1024)
    let_go = anyio.Event()

    async def watching(call: Call, handler: Handler) -> Reply:
        reply = await handler(call)
        if not isinstance(reply.body, Stream):
            return reply
        stream = reply.body

        async def chunks() -> AsyncGenerator[Chunk, None]:
            async with aclosing(stream.chunks()) as pieces:
                try:
                    async for piece in pieces:
                        yield piece
                finally:
                    let_go.set()

        return replace(reply, body=replace(stream, chunks=chunks))

    storage = MemoryStorage()
    incoming = storage.incoming()
    incoming.write(content)
    storage.keep(incoming, "a", Digest.of(content))
    async with serving(make_app(storage, silence=0.3, around=watching), grace=0.1) as address:
        host, _, port = address.rpartition(":")
        with socket.create_connection((host, int(port))) as client:
            head = f"GET /v2/a/blobs/{Digest.of(content)} HTTP/1.1\r\nHost: x\r\n\r\n"
            client.sendall(head.encode())
            with anyio.fail_after(20):
                await let_go.wait()


async def test_a_session_is_its_own_repositorys() -> None:
    """Whoever may push to one repository finishes, reads and cancels no upload of another."""
    auth = TokenAuth(USERS)
    async with served(auth=auth) as address:
        heads = {}
        for repository in ("a", "b"):
            basic = f"\r\nAuthorization: Basic {BOB}"
            scope = f"repository:{repository}:pull,push"
            _, answer = await ask(address, f"GET /token?scope={scope} HTTP/1.1{basic}")
            token = json.loads(answer.partition(b"\r\n\r\n")[2])["token"]
            heads[repository] = f"\r\nAuthorization: Bearer {token}"
        start = f"POST /v2/a/blobs/uploads/ HTTP/1.1\r\nContent-Length: 0{heads['a']}"
        _, opened = await ask(address, start)
        location = next(line for line in opened.decode().splitlines() if line.startswith("Location: ")).split()[1]
        session = location.rpartition("/")[2]
        for method in ("GET", "PATCH", "PUT", "DELETE"):
            tail = f"?digest={EMPTY} HTTP/1.1\r\nContent-Length: 0{heads['b']}"
            assert (await ask(address, f"{method} {location}{tail}"))[0] == 401
            assert (await ask(address, f"{method} /v2/b/blobs/uploads/{session}{tail}"))[0] == 404
        assert (await ask(address, f"PUT {location}?digest={EMPTY} HTTP/1.1\r\nContent-Length: 0{heads['a']}"))[
            0
        ] == 201


async def test_the_log_has_one_line_a_request_whatever_is_asked() -> None:
    """No line feed, no escape sequence, no field of somebody's making, and no query, which may be signed."""
    lines: list[str] = []
    async with serving(make_app(MemoryStorage(), around=access_log(lines.append)), grace=0.1) as address:
        for path in (
            "/v2/a%20200%205/tags/list",
            "/v2/%1b%5b2J/tags/list",
            "/v2/a/tags/list?n=1&token=hunter2",
            "/%7f",
        ):
            await ask(address, f"GET {path} HTTP/1.1")
    assert [line.rpartition(" ")[0] for line in lines] == [
        "GET /v2/a%20200%205/tags/list 400",
        "GET /v2/%1B%5B2J/tags/list 400",
        "GET /v2/a/tags/list 404",
        "GET /%7F 404",
    ]


async def test_a_challenge_cannot_be_ended_by_what_is_asked_for() -> None:
    """Found here: a control character in a name was a header that could not be sent, and no answer at all."""
    async with served(auth=TokenAuth(USERS)) as address:
        for name in ("%00", "a%22,realm=%22http://evil.example", "a%0d%0aX-Injected:1", "%c3%a9", "a%5c"):
            status, answer = await ask(address, f"GET /v2/{name}/tags/list HTTP/1.1")
            assert status in (401, 404)
            assert b"evil" not in answer.partition(b"\r\n\r\n")[0]
            assert b"\nX-Injected" not in answer


@contextmanager
def hashing(counted: list[str]) -> Iterator[None]:
    """Count how often a password is hashed."""

    def watch(frame: Any, event: str, _: Any) -> None:
        if event == "call" and frame.f_code.co_name == "_hash":
            counted.append(frame.f_code.co_filename)

    sys.setprofile(watch)
    try:
        yield
    finally:
        sys.setprofile(None)


def test_who_is_a_user_is_not_told_by_the_time_that_it_takes() -> None:
    """A name that is none costs as much as a wrong password."""
    users = HtpasswdUsers({"bob": "$apr1$salt$hash"})
    costs: dict[str, int] = {}
    for name in ("bob", "alice"):
        counted: list[str] = []
        with hashing(counted):
            assert not users.check(name, "guess")
        costs[name] = len(counted)
    assert costs == {"bob": 1, "alice": 1}
