"""Blob uploads (distribution-spec, "Pushing blobs"): sessions, chunks, monolithic pushes, mounts.

Bytes are hashed while they arrive. A session survives broken connections: what came is kept, and the client asks where
to go on. It ends by being finished, cancelled, committed with the wrong digest, or left alone for an hour.
"""

from __future__ import annotations

import asyncio
import hashlib
import re
import time
import uuid
from typing import Any

import anyio.to_thread

from asyncrane.oci.digest import Digest
from asyncrane.server.call import Call
from asyncrane.server.refusal import Refused
from asyncrane.server.reply import Reply
from asyncrane.server.routes import check_name, parse_digest
from asyncrane.server.storage import Incoming, Storage

SESSION_LIFE = 3600.0
"""Seconds an untouched session is kept."""

_CONTENT_RANGE = re.compile(r"([0-9]{1,19})-([0-9]{1,19})")
_ALGORITHMS = frozenset({"sha256", "sha512"})


class _Session:
    """One upload. ``turn`` is held by the request whose bytes are being taken."""

    def __init__(self, repository: str, incoming: Incoming, algorithm: str) -> None:
        self.id = uuid.uuid4().hex
        self.repository = repository
        self.incoming = incoming
        self.algorithm = algorithm
        self.hasher: Any = hashlib.new(algorithm)
        self.turn = asyncio.Lock()
        self.ended = False
        self.touched = time.monotonic()

    @property
    def headers(self) -> dict[str, str]:
        """Where to go on and from what byte; an empty session says 0-0 as every registry does."""
        return {
            "Location": f"/v2/{self.repository}/blobs/uploads/{self.id}",
            "Range": f"0-{max(self.incoming.size - 1, 0)}",
            "Docker-Upload-UUID": self.id,
        }

    async def take(self, call: Call) -> None:
        """Append the body of a request; what arrived before a broken connection stays."""
        incoming, hasher = self.incoming, self.hasher
        try:
            async for chunk in call.body:
                if self.ended:
                    raise _unknown(self.id)
                hasher.update(chunk)
                incoming.write(chunk)
        finally:
            self.touched = time.monotonic()
            incoming.pause()
            if self.ended:
                incoming.discard()

    async def digest(self, algorithm: str) -> Digest:
        """The digest of what arrived; read again if it was hashed with another algorithm, in a thread."""
        if algorithm != self.algorithm:
            self.hasher = await anyio.to_thread.run_sync(_hash, self.incoming, algorithm)
            self.algorithm = algorithm
        return Digest(f"{algorithm}:{self.hasher.hexdigest()}")


class Uploads:
    """The open sessions of a registry."""

    def __init__(self, storage: Storage) -> None:
        self._storage = storage
        self._sessions: dict[str, _Session] = {}
        self._swept = time.monotonic()

    def __len__(self) -> int:
        return len(self._sessions)

    def __repr__(self) -> str:
        return f"Uploads({len(self)} open)"

    async def post(self, call: Call) -> Reply:
        """Open a session, or take a whole blob at once (``?digest=``)."""
        if wanted := call.ask("digest"):
            digest = parse_digest(wanted)
            session = self._open(call, digest.algorithm)
            try:
                await session.take(call)
                return await self._commit(session, digest)
            finally:
                self._end(session)
        algorithm = call.ask("digest-algorithm") or "sha256"
        if algorithm not in _ALGORITHMS:
            raise Refused(400, "DIGEST_INVALID", f"digest algorithm {algorithm[:40]!r} is not supported")
        return Reply(202, self._open(call, algorithm).headers)

    async def mount(self, call: Call, *, allowed: bool) -> Reply:
        """Take a blob from another repository (201), or open a session where that cannot be (202)."""
        digest = parse_digest(call.ask("mount"))
        donor = call.ask("from")
        if donor and allowed and self._storage.index.blob_size(check_name(donor), digest) is not None:
            self._storage.link(call.route.repository, digest)
            return _created(call.route.repository, digest)
        return Reply(202, self._open(call, digest.algorithm).headers)

    async def patch(self, call: Call) -> Reply:
        """Append a chunk, or a stream without a stated range."""
        session = self._find(call)
        async with session.turn:
            self._append_at(session, call)
            await self._take(session, call)
            return Reply(202, session.headers)

    async def put(self, call: Call) -> Reply:
        """Finish: take the last bytes, if any, and check the digest."""
        session = self._find(call)
        digest = parse_digest(call.ask("digest"))
        async with session.turn:
            self._append_at(session, call)
            if digest.algorithm != session.algorithm and not session.incoming.size:
                session.algorithm, session.hasher = digest.algorithm, digest.hasher()
            await self._take(session, call)
            try:
                return await self._commit(session, digest)
            finally:
                self._end(session)

    async def status(self, call: Call) -> Reply:
        """How far it got."""
        session = self._find(call)
        session.touched = time.monotonic()
        return Reply(204, session.headers)

    async def delete(self, call: Call) -> Reply:
        """Cancel."""
        self._end(self._find(call))
        return Reply(204)

    def _open(self, call: Call, algorithm: str) -> _Session:
        self._sweep()
        session = _Session(call.route.repository, self._storage.incoming(), algorithm)
        self._sessions[session.id] = session
        return session

    def _find(self, call: Call) -> _Session:
        session = self._sessions.get(call.route.identifier)
        if session is None or session.repository != call.route.repository:
            raise _unknown(call.route.identifier)
        return session

    def _append_at(self, session: _Session, call: Call) -> None:
        """Refuse a chunk that does not follow what is here, or is not as long as it says."""
        if session.ended:
            raise _unknown(session.id)
        stated = call.headers.get("Content-Range")
        if stated is None:
            return
        found = _CONTENT_RANGE.fullmatch(stated)
        if found is None:
            raise Refused(400, "BLOB_UPLOAD_INVALID", f"Content-Range {stated[:60]!r} is not FIRST-LAST")
        first, last = int(found[1]), int(found[2])
        if first != session.incoming.size or last + 1 < first:
            size = session.incoming.size
            raise Refused(416, "RANGE_INVALID", f"the next byte is {size}, not {first}", headers=session.headers)
        if call.length not in (-1, last + 1 - first):
            raise Refused(400, "SIZE_INVALID", f"{stated} is not a range of {call.length} bytes")

    async def _take(self, session: _Session, call: Call) -> None:
        before = session.incoming.size
        await session.take(call)
        found = _CONTENT_RANGE.fullmatch(call.headers.get("Content-Range", ""))
        if found and session.incoming.size - before != int(found[2]) + 1 - int(found[1]):
            raise Refused(400, "SIZE_INVALID", "the body is not as long as its Content-Range", headers=session.headers)

    async def _commit(self, session: _Session, digest: Digest) -> Reply:
        actual = await session.digest(digest.algorithm)
        if actual != digest:
            detail = {"expected": digest, "received": actual, "size": session.incoming.size}
            raise Refused(400, "DIGEST_INVALID", "the content has another digest", detail=detail)
        if session.ended:
            raise _unknown(session.id)
        self._storage.keep(session.incoming, session.repository, digest)
        return _created(session.repository, digest)

    def _end(self, session: _Session) -> None:
        session.ended = True
        session.incoming.discard()
        self._sessions.pop(session.id, None)

    def _sweep(self) -> None:
        now = time.monotonic()
        if now - self._swept > 60:
            self._swept = now
            for session in [s for s in self._sessions.values() if now - s.touched > SESSION_LIFE]:
                if not session.turn.locked():
                    self._end(session)


def _created(repository: str, digest: Digest) -> Reply:
    return Reply(201, {"Location": f"/v2/{repository}/blobs/{digest}", "Docker-Content-Digest": digest})


def _unknown(session: str) -> Refused:
    return Refused(404, "BLOB_UPLOAD_UNKNOWN", "blob upload unknown to registry", detail={"upload": session[:80]})


def _hash(incoming: Incoming, algorithm: str) -> Any:
    hasher = hashlib.new(algorithm)
    for piece in incoming.pieces(0, incoming.size):
        hasher.update(piece)
    return hasher
