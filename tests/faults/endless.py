"""Two ends for more bytes, and more images, than any machine has: a source that makes them up, a sink that counts.

``python -m tests.faults.endless LAYER_SIZE`` serves both at one loopback port, prints ``host:port``, and, when its
stdin ends, a :class:`Tally` as JSON. In repository ``from/vast`` tag N is an image with one layer of that size, zeros
and at the end N: so every digest is known without hashing all of it again. In ``from/small`` it is an image of a few
bytes of its own and a layer that all share. Everywhere else uploads are counted and forgotten; nothing is ever there.
"""

from __future__ import annotations

import asyncio
import hashlib
import json
import re
import sys
from collections.abc import Callable
from dataclasses import asdict, dataclass
from typing import Any, cast

import anyio
import anyio.to_thread
import uvloop

CONFIG = "application/vnd.oci.image.config.v1+json"
LAYER = "application/vnd.oci.image.layer.v1.tar"
MANIFEST = "application/vnd.oci.image.manifest.v1+json"

_PIECE = bytes(1 << 20)
_TAIL = 32
_SMALL = 1 << 16
_HEAD = re.compile(rb"(\w+) (\S+) HTTP/1\.1\r\n(.*?)\r\n\r\n", re.DOTALL)
_LENGTH = re.compile(rb"content-length: *(\d+)", re.IGNORECASE)
_RANGE = re.compile(rb"range: *bytes=(\d+)-", re.IGNORECASE)


@dataclass
class Tally:
    """What happened. ``reading`` and ``writing`` are large bodies under way at once, at most; ``tags`` were written."""

    requests: int = 0
    sent: int = 0
    received: int = 0
    reading: int = 0
    writing: int = 0
    tags: int = 0


class Store:
    """Content that is made when it is asked for."""

    def __init__(self, size: int) -> None:
        self.size = size
        self.tally = Tally()
        self.sending = self.taking = 0
        self._zeros = hashlib.sha256()
        for start in range(0, size - _TAIL, len(_PIECE)):
            self._zeros.update(_PIECE[: min(len(_PIECE), size - _TAIL - start)])
        self._bytes: dict[str, bytes] = {}
        self._tails: dict[str, bytes] = {}
        self._shared = self._keep(b"a layer that all images have")

    def manifest(self, repository: str, tag: str) -> bytes:
        """The image that a tag names, or that is asked for by digest."""
        if ":" in tag:
            return self._bytes[tag]
        config = self._keep(json.dumps({"os": "linux", "architecture": "amd64", "author": tag}).encode())
        layer = self._vast(tag) if repository.endswith("vast") else self._shared
        body = {
            "schemaVersion": 2,
            "mediaType": MANIFEST,
            "config": {"mediaType": CONFIG, **config},
            "layers": [{"mediaType": LAYER, **layer}],
        }
        return self._bytes[str(self._keep(json.dumps(body).encode())["digest"])]

    def blob(self, digest: str) -> tuple[bytes, int]:
        """What a blob ends with, and how many zeros come before."""
        if (tail := self._tails.get(digest)) is not None:
            return tail, self.size - _TAIL
        return self._bytes[digest], 0

    def _vast(self, tag: str) -> dict[str, Any]:
        tail = tag.encode().rjust(_TAIL, b"\0")
        whole = self._zeros.copy()
        whole.update(tail)
        digest = f"sha256:{whole.hexdigest()}"
        self._tails[digest] = tail
        return {"digest": digest, "size": self.size}

    def _keep(self, content: bytes) -> dict[str, Any]:
        digest = f"sha256:{hashlib.sha256(content).hexdigest()}"
        self._bytes[digest] = content
        return {"digest": digest, "size": len(content)}


class Conversation(asyncio.Protocol):
    """One connection: HTTP/1.1 as far as this needs it."""

    def __init__(self, store: Store) -> None:
        self._store = store
        self._transport: asyncio.Transport
        self._held = b""
        self._body = 0
        self._kept = b""
        self._then: Callable[[bytes], None] = lambda body: None
        self._writable = asyncio.Event()
        self._writable.set()
        self._sending: asyncio.Task[None] | None = None

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self._transport = cast("asyncio.Transport", transport)

    def connection_lost(self, exc: Exception | None) -> None:
        if self._sending is not None:
            self._sending.cancel()

    def pause_writing(self) -> None:
        self._writable.clear()

    def resume_writing(self) -> None:
        self._writable.set()

    def data_received(self, data: bytes) -> None:
        if self._body > len(data):  # most bytes there are: counted, not looked at
            self._take(data)
            return
        self._held += data
        while self._held and self._step():
            pass

    def _step(self) -> bool:
        if self._body:
            taken, self._held = self._held[: self._body], self._held[self._body :]
            self._take(taken)
            return not self._body
        found = _HEAD.match(self._held)
        if found is None:
            return False
        self._held = self._held[found.end() :]
        length = _LENGTH.search(found[3])
        self._body = int(length[1]) if length else 0
        self._kept = b""
        self._then = self._begin(found[1].decode(), found[2].decode(), found[3])
        if not self._body:
            self._then(b"")
        return True

    def _take(self, data: bytes) -> None:
        self._body -= len(data)
        self._store.tally.received += len(data)
        if len(self._kept) + len(data) < _SMALL:
            self._kept += data
        if not self._body:
            self._then(self._kept)

    def _begin(self, method: str, target: str, head: bytes) -> Callable[[bytes], None]:
        """What to do when the body is here."""
        store, (path, _, query) = self._store, target.partition("?")
        store.tally.requests += 1
        _, _, rest = path.partition("/v2/")
        repository, kind, name = _parts(rest)
        if method == "PUT" and kind == "blobs":
            large = self._body >= _SMALL
            store.taking += large
            store.tally.writing = max(store.tally.writing, store.taking)

            def taken(body: bytes) -> None:
                store.taking -= large
                self._answer(201, {"Docker-Content-Digest": query.partition("digest=")[2].replace("%3A", ":")})

            return taken
        if method == "POST":
            return lambda body: self._answer(202, {"Location": f"/v2/{repository}/blobs/uploads/1"})
        if method == "PUT":
            store.tally.tags += ":" not in name
            return lambda body: self._answer(201, {"Docker-Content-Digest": _digest(body)})
        if not rest or not repository.startswith("from/"):
            return lambda body: self._answer(404 if rest else 200)
        if kind == "manifests":
            content = store.manifest(repository, name)
            headers = {"Content-Type": MANIFEST, "Docker-Content-Digest": _digest(content)}
            return lambda body: self._answer(200, headers, content, bare=method == "HEAD")
        start = _RANGE.search(head)
        return lambda body: self._send(name, int(start[1]) if start else 0)

    def _answer(
        self, status: int, headers: dict[str, str] | None = None, body: bytes = b"", *, bare: bool = False
    ) -> None:
        fields = {**(headers or {}), "Content-Length": len(body)}
        head = "".join(f"{name}: {value}\r\n" for name, value in fields.items())
        self._transport.write(f"HTTP/1.1 {status} X\r\n{head}\r\n".encode() + (b"" if bare else body))

    def _send(self, digest: str, start: int) -> None:
        tail, zeros = self._store.blob(digest)
        size = zeros + len(tail)
        status = f"206 X\r\nContent-Range: bytes {start}-{size - 1}/{size}" if start else "200 X"
        self._transport.write(f"HTTP/1.1 {status}\r\nContent-Length: {size - start}\r\n\r\n".encode())
        if start >= zeros:
            self._transport.write(tail[start - zeros :])
            return
        self._sending = asyncio.get_running_loop().create_task(self._stream(zeros - start, tail))

    async def _stream(self, zeros: int, tail: bytes) -> None:
        store = self._store
        store.sending += 1
        store.tally.reading = max(store.tally.reading, store.sending)
        try:
            while zeros > 0:
                piece = memoryview(_PIECE)[: min(zeros, len(_PIECE))]
                self._transport.write(piece)
                store.tally.sent += len(piece)
                zeros -= len(piece)
                await self._writable.wait()
            self._transport.write(tail)
        finally:
            store.sending -= 1


def _parts(rest: str) -> tuple[str, str, str]:
    for kind in ("manifests", "blobs", "tags"):
        repository, found, name = rest.partition(f"/{kind}/")
        if found:
            return repository, kind, name
    return rest, "", ""


def _digest(content: bytes) -> str:
    return f"sha256:{hashlib.sha256(content).hexdigest()}"


async def _serve(size: int) -> None:
    store = Store(size)
    server = await asyncio.get_running_loop().create_server(lambda: Conversation(store), "127.0.0.1", 0, backlog=1024)
    _say(f"127.0.0.1:{server.sockets[0].getsockname()[1]}")
    await anyio.to_thread.run_sync(sys.stdin.buffer.read)
    server.close()
    _say(json.dumps(asdict(store.tally)))


def _say(line: str) -> None:
    sys.stdout.write(f"{line}\n")
    sys.stdout.flush()


if __name__ == "__main__":
    uvloop.run(_serve(int(sys.argv[1])))
