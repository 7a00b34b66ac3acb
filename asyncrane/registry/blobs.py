"""Blobs: whether they are there, deleting them, and reading them to the end whatever happens to the connection.

(distribution-spec, "Pulling blobs"; resuming as in the containers image library, ``docker/body_reader.go``.)
"""

from __future__ import annotations

import re
from collections.abc import AsyncGenerator, AsyncIterator, Sequence
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
from asyncrane.registry import ranges
from asyncrane.transport import tries
from asyncrane.transport.answer import Answer
from asyncrane.transport.challenge import delete_scope, pull_scope
from asyncrane.transport.origin import Origin

_PROGRESS = 1024 * 1024
_TRIES = 5
_CONTENT_RANGE = re.compile(r"bytes (\d{1,19})-(\d{1,19})/(\d{1,19}|\*)")


async def exists(origin: Origin, path: str, digest: Digest, *, scopes: Sequence[str] = ()) -> bool:
    """Whether repository ``path`` has the blob. A web page, which names no digest, does not say so."""
    answer = await origin.request(
        "HEAD", _target(path, digest), scopes=scopes or (pull_scope(path),), expect=(200, 404)
    )
    page = "html" in answer.headers.get("Content-Type", "") and "Docker-Content-Digest" not in answer.headers
    return answer.status == 200 and not page


async def size(origin: Origin, path: str, digest: Digest, *, scopes: Sequence[str] = ()) -> int | None:
    """Bytes of the blob that repository ``path`` has, ``None`` when the registry does not say (one HEAD).

    :raises NotFound: when it is not there
    """
    answer = await origin.request("HEAD", _target(path, digest), scopes=scopes or (pull_scope(path),))
    return _number(answer.headers.get("Content-Length", "")) or None


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

    A connection that breaks or stalls is resumed at the registry, unnoticed by whoever reads; a large blob that comes
    slowly is read in parts (:mod:`~asyncrane.registry.ranges`). Content that the manifest itself carries, and no
    content, take no request. Where the registry has not got a foreign layer, its ``urls`` are
    asked, without credentials.

    :raises NotFound: when it is not there
    :raises SizeMismatch: when there are more or fewer bytes than the descriptor says
    :raises TransportError: when the connection breaks again and again
    """
    if blob.data is not None or 0 <= blob.size <= start:
        yield _once((blob.data or b"")[start:])
        return
    async with AsyncExitStack() as stack:
        target, known = _target(path, blob.digest), origin.capabilities
        download = _Download(origin, target, blob, start, scopes or (pull_scope(path),), stack)
        await download.begin()
        if blob.size - start < ranges.LARGE or not known.ranges or known.parts < 2:
            yield download.chunks()
            return
        async with ranges.side_by_side(download, download.part, end=blob.size, capabilities=known) as chunks:
            yield chunks


class _Download:
    """One blob on its way, or with ``stop`` a part of it: what has come, and what it comes through."""

    def __init__(
        self,
        origin: Origin,
        target: str,
        blob: Descriptor,
        start: int,
        scopes: Sequence[str],
        stack: AsyncExitStack,
        *,
        stop: int | None = None,
    ) -> None:
        self._origin = origin
        self._blob = blob
        self._target = target
        self._scopes = scopes
        self._stack = stack
        self._answer: Answer
        self._is_part = stop is not None
        self._size: int | None = blob.size if blob.size >= 0 else None
        self._end = self._size if stop is None else stop
        self._skip = 0
        self._tries = 0
        self._resumed_at = start
        self.position = start

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

    @asynccontextmanager
    async def part(self, start: int, stop: int) -> AsyncIterator[AsyncIterator[bytes]]:
        """The bytes from ``start`` up to ``stop``, through another connection, resumed when that breaks.

        :raises Interrupted: where parts are not to be had
        """
        async with AsyncExitStack() as stack:
            part = _Download(self._origin, self._target, self._blob, start, self._scopes, stack, stop=stop)
            await part._connect()
            yield part.chunks()

    async def go_on(self, position: int, cause: AsyncraneError) -> None:
        """Begin again at ``position``; what comes next are the :meth:`chunks` from there on.

        :raises AsyncraneError: ``cause``, when that happens too often
        """
        self.position = position
        await self._resume(cause)

    async def close(self) -> None:
        """Let go of the connection."""
        await self._stack.aclose()

    async def chunks(self) -> AsyncGenerator[bytes, None]:
        """The bytes as they come, from however many connections it takes."""
        while True:
            broken: TransportError | None = None
            try:
                async for chunk in self._answer.chunks():
                    if fresh := self._advance(chunk):
                        yield fresh
            except TransportError as error:
                broken = error
            if self.position == self._end or (broken is None and self._end is None):
                return
            await self._resume(broken or Interrupted(f"{self._where()}: ended at {self.position} of {self._end}"))

    def _advance(self, chunk: bytes) -> bytes:
        """The part of ``chunk`` that has not been read before."""
        if self._skip:
            skipped = min(self._skip, len(chunk))
            self._skip -= skipped
            chunk = chunk[skipped:]
        position = self.position + len(chunk)
        if self._end is not None and position > self._end:
            raise SizeMismatch(f"{self._where()}: more than {self._end} bytes")
        self.position = position
        return chunk

    async def _resume(self, cause: AsyncraneError) -> None:
        """Go on where it broke, as long as that leads somewhere.

        :raises AsyncraneError: ``cause``, when it does not
        """
        if self.position - self._resumed_at >= _PROGRESS:
            self._tries = 0
        self._tries += 1
        if self._tries > _TRIES:
            raise cause
        tries.tell(cause)
        await self._stack.aclose()
        if self._tries > 1:
            await anyio.sleep(0.05 * 2.0**self._tries)
        self._resumed_at = self.position
        await self._connect()

    async def _connect(self) -> None:
        """Ask for what is missing; where parts are not to be had, for everything, and skip what is known.

        :raises Interrupted: when it is a part, and parts are not to be had
        """
        known = self._origin.capabilities
        if (self.position or self._is_part) and known.ranges:
            last = self._end - 1 if self._is_part and self._end else ""
            try:
                if await self._ask({"Range": f"bytes={self.position}-{last}"}):
                    return
            except RegistryError as error:
                if error.status != 416:
                    raise
            known.ranges = False
            await self._stack.aclose()
        if self._is_part:
            raise Interrupted(f"GET {self._target.partition('?')[0]}: {self._origin.registry} sends no parts of blobs")
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
            if said is None or int(said[1]) != self.position:
                if headers:
                    return False
                raise ServerFault(f"{self._where()}: a part that nobody asked for", status=206)
            first, total = self.position, _number(said[3])
        elif self._is_part:
            return False
        if total is not None and self._size is not None and total != self._size:
            raise SizeMismatch(f"{self._where()}: {total} bytes, and the manifest says {self._size}")
        if self._size is None:
            self._size = self._end = total
        self._skip = self.position - first
        return True

    def _where(self) -> str:
        return f"GET {self._answer.url.partition('?')[0]}"


async def _once(data: bytes) -> AsyncIterator[bytes]:
    if data:
        yield data


def _number(text: str) -> int | None:
    return int(text) if text.isascii() and text.isdigit() and len(text) < 20 else None


def _target(path: str, digest: Digest) -> str:
    return f"/v2/{path}/blobs/{digest}"
