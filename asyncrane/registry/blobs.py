"""Blobs: whether they are there, deleting them, and reading them to the end whatever happens to the connection.

(distribution-spec, "Pulling blobs"; resuming as in the containers image library, ``docker/body_reader.go``.)
"""

from __future__ import annotations

import re
from collections.abc import AsyncIterator, Sequence
from contextlib import AsyncExitStack, asynccontextmanager

import anyio

from asyncrane.errors import (
    AsyncraneError,
    Interrupted,
    NotFound,
    RegistryError,
    ServerFault,
    SizeMismatch,
    TransportError,
)
from asyncrane.oci.descriptor import Descriptor
from asyncrane.oci.digest import Digest
from asyncrane.transport.answer import Answer
from asyncrane.transport.challenge import delete_scope, pull_scope
from asyncrane.transport.origin import Origin

_PROGRESS = 1024 * 1024
_TRIES = 5
_CONTENT_RANGE = re.compile(r"bytes (\d+)-(\d+)/(\d+|\*)")


async def exists(origin: Origin, path: str, digest: Digest, *, scopes: Sequence[str] = ()) -> bool:
    """Whether repository ``path`` has the blob."""
    answer = await origin.request(
        "HEAD", _target(path, digest), scopes=scopes or (pull_scope(path),), expect=(200, 404)
    )
    return answer.status == 200


async def delete(origin: Origin, path: str, digest: Digest) -> None:
    """Take the blob out of repository ``path``.

    :raises NotFound: when it is not there
    """
    await origin.request("DELETE", _target(path, digest), scopes=(delete_scope(path),), expect=(200, 202, 204))


@asynccontextmanager
async def read(
    origin: Origin, path: str, blob: Descriptor, *, start: int = 0, scopes: Sequence[str] = ()
) -> AsyncIterator[AsyncIterator[bytes]]:
    """The bytes of ``blob`` from ``start`` on; the request is on its way when this is entered.

    A connection that breaks or stalls is resumed at the registry, unnoticed by whoever reads. Content that the manifest
    itself carries, and no content, take no request. Where the registry has not got a foreign layer, its ``urls`` are
    asked, without credentials.

    :raises NotFound: when it is not there
    :raises SizeMismatch: when there are more or fewer bytes than the descriptor says
    :raises TransportError: when the connection breaks again and again
    """
    if blob.data is not None or 0 <= blob.size <= start:
        yield _once((blob.data or b"")[start:])
        return
    async with AsyncExitStack() as stack:
        download = _Download(origin, path, blob, start, scopes or (pull_scope(path),), stack)
        await download.begin()
        yield download.chunks()


class _Download:
    """One blob on its way: what has come, and what it comes through."""

    def __init__(
        self, origin: Origin, path: str, blob: Descriptor, start: int, scopes: Sequence[str], stack: AsyncExitStack
    ) -> None:
        self._origin = origin
        self._blob = blob
        self._target = _target(path, blob.digest)
        self._scopes = scopes
        self._stack = stack
        self._answer: Answer
        self._position = start
        self._end: int | None = blob.size if blob.size >= 0 else None
        self._skip = 0
        self._tries = 0
        self._resumed_at = start

    async def begin(self) -> None:
        """Ask the registry, and where it has not got a foreign layer, those who have."""
        try:
            await self._connect()
        except NotFound:
            for url in self._blob.urls:
                self._target, self._scopes = url, ()
                try:
                    return await self._connect()
                except AsyncraneError:
                    continue  # what the registry said is the error, if none of them has it
            raise
        return None

    async def chunks(self) -> AsyncIterator[bytes]:
        """The bytes as they come, from however many connections it takes."""
        while True:
            broken: TransportError | None = None
            try:
                async for chunk in self._answer.chunks():
                    if fresh := self._advance(chunk):
                        yield fresh
            except TransportError as error:
                broken = error
            if self._position == self._end or (broken is None and self._end is None):
                return
            await self._resume(broken or Interrupted(f"{self._where()}: ended at {self._position} of {self._end}"))

    def _advance(self, chunk: bytes) -> bytes:
        """The part of ``chunk`` that has not been read before."""
        if self._skip:
            skipped = min(self._skip, len(chunk))
            self._skip -= skipped
            chunk = chunk[skipped:]
        position = self._position + len(chunk)
        if self._end is not None and position > self._end:
            raise SizeMismatch(f"{self._where()}: more than {self._end} bytes")
        self._position = position
        return chunk

    async def _resume(self, cause: TransportError) -> None:
        """Go on where it broke, as long as that leads somewhere.

        :raises TransportError: ``cause``, when it does not
        """
        if self._position - self._resumed_at >= _PROGRESS:
            self._tries = 0
        self._tries += 1
        if self._tries > _TRIES:
            raise cause
        await self._stack.aclose()
        if self._tries > 1:
            await anyio.sleep(0.05 * 2.0**self._tries)
        self._resumed_at = self._position
        await self._connect()

    async def _connect(self) -> None:
        """Ask for what is missing; where parts are not to be had, for everything, and skip what is known."""
        if self._position and self._origin.capabilities.ranges:
            try:
                if await self._ask({"Range": f"bytes={self._position}-"}):
                    return
            except RegistryError as error:
                if error.status != 416:
                    raise
            self._origin.capabilities.ranges = False
            await self._stack.aclose()
        await self._ask({})

    async def _ask(self, headers: dict[str, str]) -> bool:
        """``False`` when the answer is another part than the one that was asked for."""
        answer = await self._stack.enter_async_context(
            self._origin.stream("GET", self._target, scopes=self._scopes, headers=headers, expect=(200, 206))
        )
        self._answer = answer
        first, total = 0, _number(answer.headers.get("Content-Length", ""))
        if answer.status == 206:
            said = _CONTENT_RANGE.fullmatch(answer.headers.get("Content-Range", "").strip())
            if said is None or int(said[1]) != self._position:
                if headers:
                    return False
                raise ServerFault(f"{self._where()}: a part that nobody asked for", status=206)
            first, total = self._position, _number(said[3])
        if total is not None and self._end is not None and total != self._end:
            raise SizeMismatch(f"{self._where()}: {total} bytes, and the manifest says {self._end}")
        self._end = total if self._end is None else self._end
        self._skip = self._position - first
        return True

    def _where(self) -> str:
        return f"GET {self._answer.url.partition('?')[0]}"


async def _once(data: bytes) -> AsyncIterator[bytes]:
    if data:
        yield data


def _number(text: str) -> int | None:
    return int(text) if text.isascii() and text.isdigit() else None


def _target(path: str, digest: Digest) -> str:
    return f"/v2/{path}/blobs/{digest}"
