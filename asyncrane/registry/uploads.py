"""Uploads: blobs get to a repository with the fewest requests and bytes that its registry allows.

The POST that opens a session asks for a mount from the repository itself: 201 means that the blob is here already,
202 opens the session, so no HEAD is needed. Registries that mount nothing say 202 of every blob (ECR by default, that
of crane), so that a HEAD follows for a large one: always, so that a plan can say so. What comes next is decided by
:class:`~asyncrane.registry.strategy.Strategy`; this module does it.
"""

from __future__ import annotations

from collections.abc import Mapping
from contextlib import AsyncExitStack
from weakref import WeakKeyDictionary

import anyio

from asyncrane.abc import DOUBTED, Reader, UploadLedger
from asyncrane.errors import DigestMismatch, RateLimited, RegistryError, ServerFault, TransportError
from asyncrane.oci.descriptor import Descriptor
from asyncrane.oci.digest import Digest
from asyncrane.registry import blobs, sessions
from asyncrane.registry.feed import Feed
from asyncrane.registry.sessions import HELD, Refused, Session
from asyncrane.registry.strategy import CHUNK, MOST_LOSSES, Phase, Strategy, Verdict, temporary
from asyncrane.registry.trail import Trail
from asyncrane.registry.trials import first
from asyncrane.transport import tries
from asyncrane.transport.answer import Answer, Body
from asyncrane.transport.challenge import push_scope
from asyncrane.transport.origin import Origin
from asyncrane.transport.redaction import bare_url

SMALL = 256 * 1024
"""Blobs up to this size are read whole and sent in one piece, which transport can send again by itself."""

COMMITTED = 8 * 1024 * 1024
"""Bytes a second at which a registry may hash and move an upload before it answers: object stores copy it whole."""

_OCTETS = {"Content-Type": "application/octet-stream"}

_self_mounts: WeakKeyDictionary[Origin, anyio.Event] = WeakKeyDictionary()


class _Donors:
    """What the repositories of one registry are good for as donors: ``trials`` of those that were asked, and those that
    are ``closed`` to everybody or have been ``generous`` to somebody.
    """

    def __init__(self) -> None:
        self.trials: dict[str, anyio.Event] = {}
        self.closed: set[str] = set()
        self.generous: set[str] = set()


_donors: WeakKeyDictionary[Origin, _Donors] = WeakKeyDictionary()


class Uploads:
    """The uploads to one repository. Remembers sessions that mounts have opened, for the puts that follow; with a
    ``ledger`` also large uploads that were broken off, for whoever tries again.
    """

    def __init__(self, origin: Origin, path: str, *, ledger: UploadLedger | None = None) -> None:
        self._origin = origin
        self._path = path
        self._ledger = ledger
        self._kept: dict[Digest, Session] = {}
        self._donors = _donors.setdefault(origin, _Donors())

    async def mount(self, blob: Descriptor, donor: str) -> bool:
        """Take the blob from repository ``donor``. A refusal of whatever kind is ``False``, and the donor is not asked
        again, by no repository of the registry; the first question to a donor is answered before others follow.
        """
        if self._is_refused(donor):
            return False
        async with AsyncExitStack() as stack:
            for key in self._questions(donor):
                await stack.enter_async_context(first(self._donors.trials, key))
            if self._is_refused(donor):
                return False
            try:
                session = await self._ask(blob, donor)
            except RegistryError:
                return False
        unused = self._kept.pop(blob.digest, None)
        if session is not None:
            self._kept[blob.digest] = session
        if unused is not None:
            await sessions.abandon(self._origin, self._path, unused)
        return session is None

    def _questions(self, donor: str) -> tuple[str, ...]:
        """What is not known before somebody has asked: whether there is anything to be had from the donor, and, where
        it is in another project, for this repository (Harbor: not, harbor#17097).
        """
        ours = donor.partition("/")[0] == self._path.partition("/")[0]
        return (donor,) if ours else (donor, f"{donor} for {self._path}")

    def _is_refused(self, donor: str) -> bool:
        return donor in self._donors.closed or (self._path, donor) in self._origin.capabilities.refused_donors

    async def _ask(self, blob: Descriptor, donor: str) -> Session | None:
        """Ask for a mount, and where that is refused begin the upload it leads to. If that goes well it is the donor
        that is not to be had, by nobody if nobody has had of it; otherwise it is this repository that gets nothing.
        """
        try:
            session = await sessions.begin_mounting(self._origin, self._path, blob.digest, donor)
        except Refused:
            self._origin.capabilities.refused_donors.add((self._path, donor))
        else:
            if session is None:
                self._donors.generous.add(donor)
            return session
        session = await self._begin(blob)
        if donor not in self._donors.generous:
            self._donors.closed.add(donor)
        if session is not None:
            session.kept = True
        return session

    async def put(self, blob: Descriptor, read: Reader) -> bool:
        """Store the blob; ``False`` when it was here already and nothing was read.

        :raises DigestMismatch: when the registry finds that the bytes are not the blob
        :raises SizeMismatch: when there are more or fewer bytes than the descriptor says
        """
        trail = Trail(self._ledger, self._origin, self._path, blob)
        session = await self._find(blob, trail)
        if session is None:
            trail.drop()
            return False
        await _Sending(self._origin, self._path, blob, Feed(blob, read), session, trail).run()
        return True

    async def _find(self, blob: Descriptor, trail: Trail) -> Session | None:
        """The session that has most of the blob; ``None`` when it is here."""
        begun, kept = await trail.session(), self._kept.pop(blob.digest, None)
        if begun is None:
            return await self._doubted(blob, kept or await self._begin(blob))
        if kept is not None:
            await sessions.abandon(self._origin, self._path, kept)
        return begun

    async def _doubted(self, blob: Descriptor, session: Session | None) -> Session | None:
        """The session, if the blob is not here: 202 may be what the registry answers whatever is to be mounted."""
        origin, known = self._origin, self._origin.capabilities
        if session is None or blob.size < DOUBTED or not (session.kept or known.self_mount):
            return session
        try:
            here = await blobs.exists(origin, self._path, blob.digest, scopes=(push_scope(self._path),))
        except RegistryError:
            return session
        except BaseException:
            await sessions.abandon(origin, self._path, session)
            raise
        if not here:
            return session
        if not session.kept:
            known.self_mount = False
        await sessions.abandon(origin, self._path, session)
        return None

    async def _begin(self, blob: Descriptor) -> Session | None:
        """A session for the blob; ``None`` when it is here."""
        origin, path = self._origin, self._path
        if origin.capabilities.self_mount:
            async with first(_self_mounts, origin):
                if origin.capabilities.self_mount:
                    try:
                        return await sessions.begin_mounting(origin, path, blob.digest, path)
                    except Refused:
                        return await self._begin_plainly(blob)
        return await self._begin_plainly(blob)

    async def _begin_plainly(self, blob: Descriptor) -> Session | None:
        origin, path = self._origin, self._path
        here = await blobs.exists(origin, path, blob.digest, scopes=(push_scope(path),))
        session = None if here else await sessions.begin(origin, path)
        # learned only now: a repository that cannot be written at all says nothing about mounts
        origin.capabilities.self_mount = False
        return session

    def __repr__(self) -> str:
        return f"Uploads({self._origin.registry}/{self._path}, {len(self._kept)} sessions kept)"


class _Sending:
    """One blob on its way to one repository, through as many sessions as it takes.

    A session that another process, or an earlier attempt, began goes on with the bytes that the registry lacks. Those
    before are not read and hashed again: that the whole is the blob is for the registry to find, as it does for every
    commit; where it finds otherwise, all is sent again in a new session, and checked here on its way.
    """

    def __init__(self, origin: Origin, path: str, blob: Descriptor, feed: Feed, session: Session, trail: Trail) -> None:
        self._origin = origin
        self._path = path
        self._scopes = (push_scope(path),)
        self._blob = blob
        self._feed = feed
        self._session = session
        self._trail = trail
        self._strategy = strategy = Strategy(origin.capabilities, blob.size)
        strategy.rejoined = session.offset > 0
        if trail.kept and strategy.kind == "put":
            strategy.kind = "patch"  # one request more, and what arrived before a break is for more registries to keep
        self._small: bytes | None = None
        self._phase: Phase = "whole"
        self._streamed = False
        self._offset = 0
        self._length = 0

    async def run(self) -> None:
        """Send it, whatever it takes; a session that is not finished is given up, unless its trail is kept."""
        self._trail.note(self._session)
        try:
            async with self._feed:
                while not await self._attempt():
                    pass
        except BaseException as error:
            if not self._trail.outlives(error):
                self._trail.drop()
                await sessions.abandon(self._origin, self._path, self._session)
            raise
        self._trail.drop()
        self._strategy.succeeded()

    async def _attempt(self) -> bool:
        """Whether the blob is stored now."""
        try:
            if self._strategy.kind == "put" and self._session.offset == 0:
                await self._put_whole()
            else:
                await self._patch()
                await self._commit()
        except (RegistryError, TransportError) as error:
            if self._feed.failure is not None:
                raise self._feed.failure from None
            if await self._landed(error):
                return True
            await self._recover(error)
            return False
        return True

    # requests

    async def _put_whole(self) -> None:
        """The whole blob in the PUT that commits it."""
        body = await self._body("whole", 0, self._blob.size)
        await self._send("PUT", self._session.committing(self._blob.digest), body, _OCTETS)

    async def _patch(self) -> None:
        """The bytes that the registry has not got, in as many pieces as the strategy wants."""
        session, size = self._session, self._blob.size
        while session.offset != size and not (size < 0 and session.offset and self._feed.complete):
            start = session.offset
            left = size - start if size >= 0 else -1
            length = self._strategy.piece(left, session.minimum)
            body = await self._body("piece", start, length)
            if isinstance(body, bytes):
                length = len(body)
            headers = _OCTETS
            if length >= 0 and (start or self._strategy.kind == "chunks"):
                headers = {**_OCTETS, "Content-Range": f"{start}-{start + length - 1}"}
            answer = await self._send("PATCH", session.url, body, headers)
            session.moved(answer)
            end = start + length if length >= 0 else self._feed.position
            session.offset = self._strategy.acknowledged(sessions.received(answer.headers), start, end)
            if self._strategy.losses > MOST_LOSSES:
                raise ServerFault(f"PATCH {bare_url(answer.url)}: most of what is sent is lost, again and again")
            self._trail.note(session)

    async def _commit(self) -> None:
        self._phase, self._streamed = "commit", False
        await self._send("PUT", self._session.committing(self._blob.digest), b"", _OCTETS)

    async def _send(self, method: str, url: str, body: bytes | Body, headers: Mapping[str, str]) -> Answer:
        return await self._origin.request(
            method,
            url,
            scopes=self._scopes,
            headers=headers,
            body=body,
            expect=(200, 201, 202, 204),
            patience=max(self._blob.size, 0) / COMMITTED,
        )

    async def _body(self, phase: Phase, start: int, length: int) -> bytes | Body:
        """``length`` bytes from ``start`` on (-1: to the end); in one piece where they are few."""
        self._phase, self._offset, self._length, self._streamed = phase, start, length, False
        feed, size = self._feed, self._blob.size
        if 0 <= size <= SMALL:
            if self._small is None:
                await feed.seek(0)
                self._small = await feed.gather()
            return self._small[start : start + length]
        await feed.seek(start)
        if length < 0 and self._strategy.kind == "chunks":
            return await feed.gather(self._strategy.piece(CHUNK, min(self._session.minimum, HELD)))
        self._streamed = True
        wanted = length if length >= 0 else None
        return Body(lambda: feed.take(wanted), wanted)

    # what to do when one fails

    async def _landed(self, error: RegistryError | TransportError) -> bool:
        """Whether the blob is there although its commit was not answered as it should."""
        complete = self._phase == "commit" or (self._phase == "whole" and self._feed.complete)
        if isinstance(error, TransportError) and not self._streamed:
            return False  # transport has tried long enough: nobody is there to be asked
        unknown = isinstance(error, TransportError) or error.status == 404 or temporary(error)
        if not (complete and unknown):
            return False
        return await blobs.exists(self._origin, self._path, self._blob.digest, scopes=self._scopes)

    async def _recover(self, error: RegistryError | TransportError) -> None:
        """Get ready for another attempt.

        :raises AsyncraneError: when there is to be none
        """
        strategy, session = self._strategy, self._session
        verdict = strategy.judge(
            error, self._phase, offset=self._offset, length=self._length, streamed=self._streamed, kept=session.kept
        )
        if strategy.pause and verdict is not Verdict.GIVE_UP:
            await anyio.sleep(strategy.pause)
        if verdict is Verdict.RESUME:
            try:
                await sessions.update(self._origin, self._path, session)
            except RateLimited:  # for longer than there is time: for a new session, too
                raise error from None
            except RegistryError:
                verdict = strategy.lost()
            else:
                if 0 <= self._blob.size < session.offset:  # it has not got what nobody has
                    verdict = strategy.lost()
                elif session.offset or isinstance(error, RegistryError):
                    strategy.resumed(session.offset, self._offset)
                else:  # a connection broke: nothing to save, and what was under way may still arrive there
                    verdict = strategy.lost()
        if verdict is Verdict.GIVE_UP:
            if isinstance(error, RegistryError) and "DIGEST_INVALID" in error.codes:
                raise DigestMismatch(f"blob {self._blob.digest!s} arrived otherwise: {error}") from error
            raise error
        tries.tell(error)
        if verdict is Verdict.RESTART:
            await sessions.abandon(self._origin, self._path, session)
            self._session = await sessions.begin(self._origin, self._path)
            self._trail.note(self._session)
            strategy.restarted()

    def __repr__(self) -> str:
        return f"_Sending({self._feed!r}, {self._strategy.kind})"
