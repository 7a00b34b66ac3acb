"""Uploading what is read once and whose digest is known at its end: a session, its bytes as they come, and the digest
with the request that commits them (distribution-spec, "Pushing a blob in chunks").

Nothing is kept of a stream, so what has been sent and did not arrive is lost, and that is said. Only its first
:data:`HEAD` bytes can be sent again: a registry that does not take streams says so early, and gets pieces.
"""

from __future__ import annotations

from collections.abc import AsyncIterator, Callable

import anyio
from anyio.streams.memory import MemoryObjectReceiveStream, MemoryObjectSendStream

from asyncrane.errors import AsyncraneError, Failure, RegistryError, TransportError
from asyncrane.oci.digest import Digest
from asyncrane.registry import blobs, sessions
from asyncrane.registry.sessions import HELD, Session
from asyncrane.registry.strategy import CHUNK, temporary
from asyncrane.transport.answer import Body
from asyncrane.transport.challenge import push_scope
from asyncrane.transport.origin import Origin

HEAD = 4 * 1024 * 1024
"""Bytes of a stream that are kept until more than these are sent."""

_AHEAD = 4
_OCTETS = {"Content-Type": "application/octet-stream"}
_LOST = "what was read of a stream cannot be sent again: save it to a file, and take that"


async def put_stream(origin: Origin, path: str, chunks: AsyncIterator[bytes], digest: Callable[[], Digest]) -> Digest:
    """Store ``chunks`` as a blob of repository ``path``; ``digest`` is asked when they have come to their end.

    Whatever ``chunks`` raises keeps the blob from being stored. While one piece is on its way the next ones are made.

    :raises RegistryError: when the registry does not take it
    :raises TransportError: when the connection breaks
    """
    sending, stored, error = _Sending(origin, path), None, None
    stream, source = anyio.create_memory_object_stream[bytes](_AHEAD)
    flow = _Flow(source)
    with stream, source:
        async with anyio.create_task_group() as tasks:
            tasks.start_soon(flow.fill, chunks, stream)
            try:
                stored = await sending.run(flow, digest)
            except AsyncraneError as exc:
                error = flow.failure or exc
            tasks.cancel_scope.cancel()
    if stored is None:
        raise error or AsyncraneError(f"{origin.registry}/{path}: a stream was not stored")
    return stored


class _Flow:
    """A stream that can be gone back in as long as no more than its head was taken. ``failure`` is what its maker ended
    with, if that was not its end.
    """

    def __init__(self, source: MemoryObjectReceiveStream[bytes]) -> None:
        self.failure: AsyncraneError | None = None
        self._source = source
        self._head: list[bytes] | None = []
        self._kept = 0
        self._again: list[bytes] = []

    async def fill(self, chunks: AsyncIterator[bytes], stream: MemoryObjectSendStream[bytes]) -> None:
        """Hand on what is made, until nobody takes it."""
        async with stream:
            try:
                async for chunk in chunks:
                    await stream.send(chunk)
            except AsyncraneError as exc:
                self.failure = exc
            except anyio.BrokenResourceError:
                return

    @property
    def whole(self) -> bool:
        """Whether it can still be sent from its start."""
        return self._head is not None

    def rewind(self) -> None:
        """Begin again at the start."""
        self._again, self._kept = list(self._head or ()), 0
        self._head = []

    async def next(self) -> bytes | None:
        """The next bytes, ``None`` at the end.

        :raises AsyncraneError: what the maker ended with
        """
        if self._again:
            chunk = self._again.pop(0)
        else:
            try:
                chunk = await self._source.receive()
            except anyio.EndOfStream:
                if self.failure is not None:
                    raise self.failure from None
                return None
        if self._head is not None:
            self._kept += len(chunk)
            self._head.append(chunk)
            if self._kept > HEAD:
                self._head = None
        return chunk

    async def all(self) -> AsyncIterator[bytes]:
        """What is left."""
        while (chunk := await self.next()) is not None:
            yield chunk


class _Sending:
    """One stream on its way."""

    def __init__(self, origin: Origin, path: str) -> None:
        self._origin = origin
        self._path = path
        self._scopes = (push_scope(path),)
        capabilities = origin.capabilities
        self._pieces = capabilities.upload == "chunks" or capabilities.chunk > 0

    async def run(self, flow: _Flow, digest: Callable[[], Digest]) -> Digest:
        """Send all of it, and commit it; a session that is not finished is given up."""
        session = await sessions.begin(self._origin, self._path)
        try:
            try:
                await self._send(session, flow)
            except (RegistryError, TransportError) as exc:
                if flow.failure is not None or not flow.whole:
                    raise
                await sessions.abandon(self._origin, self._path, session)
                session = await self._begin_again(exc, flow)
                await self._send(session, flow)
            name = digest()
            await self._commit(session, name)
        except BaseException as exc:
            await sessions.abandon(self._origin, self._path, session)
            if isinstance(exc, RegistryError | TransportError) and exc is not flow.failure:
                raise _lost(exc) from exc
            raise
        return name

    async def _begin_again(self, error: AsyncraneError, flow: _Flow) -> Session:
        """Another session, in pieces where the first was refused: these can be sent again by themselves."""
        if isinstance(error, RegistryError) and error.status in (401, 403):
            raise error
        flow.rewind()
        self._pieces = True
        return await sessions.begin(self._origin, self._path)

    async def _send(self, session: Session, flow: _Flow) -> None:
        if self._pieces:
            await self._send_pieces(session, flow)
            return
        answer = await self._origin.request(
            "PATCH", session.url, scopes=self._scopes, headers=_OCTETS, body=Body(flow.all), expect=(200, 201, 202, 204)
        )
        session.moved(answer)

    async def _send_pieces(self, session: Session, flow: _Flow) -> None:
        size = max(self._origin.capabilities.chunk or CHUNK, min(session.minimum, HELD))
        held = bytearray()
        while (chunk := await flow.next()) is not None:
            held += chunk
            while len(held) >= size:
                await self._piece(session, bytes(held[:size]))
                del held[:size]
        if held:
            await self._piece(session, bytes(held))

    async def _piece(self, session: Session, content: bytes) -> None:
        """One PATCH, and where it broke what is missing of it: these bytes are at hand."""
        start, end = session.offset, session.offset + len(content)
        while session.offset < end:
            rest = content[session.offset - start :]
            headers = {**_OCTETS, "Content-Range": f"{session.offset}-{end - 1}"}
            before = session.offset
            try:
                answer = await self._origin.request(
                    "PATCH", session.url, scopes=self._scopes, headers=headers, body=rest, expect=(200, 201, 202, 204)
                )
            except (RegistryError, TransportError) as exc:
                refused = isinstance(exc, RegistryError) and exc.status != 416 and not temporary(exc)
                if refused:
                    raise
                await sessions.update(self._origin, self._path, session)
                if not before < session.offset <= end:
                    raise
            else:
                session.moved(answer)
                session.offset = end

    async def _commit(self, session: Session, digest: Digest) -> None:
        try:
            await self._origin.request(
                "PUT", session.committing(digest), scopes=self._scopes, headers=_OCTETS, expect=(200, 201, 202, 204)
            )
        except (RegistryError, TransportError) as exc:
            unknown = isinstance(exc, TransportError) or exc.status == 404 or temporary(exc)
            if not unknown or not await blobs.exists(self._origin, self._path, digest, scopes=self._scopes):
                raise

    def __repr__(self) -> str:
        return f"_Sending({self._origin.registry}/{self._path})"


def _lost(error: AsyncraneError) -> AsyncraneError:
    failure = Failure.of(error)
    return Failure(
        failure.kind, f"{failure.message} ({_LOST})", failure.status, failure.codes, failure.retry_after
    ).error()
