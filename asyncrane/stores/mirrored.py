"""A repository read through mirrors: they are asked first, and what they have not got, or get wrong, is the origin's.

A mirror is a convenience. Whatever goes wrong with it is no failure: the next one is asked, and the origin in the end.
A mirror that does not answer is left out for a while. Nothing is ever written to one, and what must be complete or up
to date is the origin's to say: lists of tags, and what is attached to a manifest.
"""

from __future__ import annotations

import time
from collections.abc import AsyncIterator, Awaitable, Callable, Sequence
from contextlib import AsyncExitStack, asynccontextmanager
from typing import TypeVar

import anyio

from asyncrane.abc import Place, Source
from asyncrane.archive.digesting import Verifier
from asyncrane.errors import AsyncraneError, ContentError, NotFound, RateLimited, TimedOut, TransportError
from asyncrane.oci.descriptor import Descriptor
from asyncrane.oci.digest import Digest
from asyncrane.oci.manifest import Manifest
from asyncrane.stores.remote import Remote

PATIENCE = 10.0
"""Seconds until a mirror has to have begun to answer."""

DOWN = 60.0
"""Seconds for which a mirror that does not answer is not asked again."""

WHOLE = 1024 * 1024
"""Bytes up to which a blob is read whole before any of it is passed on: a wrong one is replaced unnoticed."""

_STRIKES = 3

T = TypeVar("T")


class Mirror:
    """How a mirror host does, as far as all that read through it know."""

    def __init__(self, name: str, *, clock: Callable[[], float] = time.monotonic) -> None:
        self.name = name
        self._clock = clock
        self._until = 0.0
        self._strikes = 0

    @property
    def up(self) -> bool:
        """Whether it is worth asking."""
        return self._clock() >= self._until

    def answered(self) -> None:
        """It did, if only to say that it has not got it."""
        self._strikes = 0

    def failed(self, error: AsyncraneError) -> None:
        """It could not be asked, or had nothing of use to say: at once or after some strikes it is down."""
        self._strikes += 1
        if isinstance(error, TransportError) or self._strikes >= _STRIKES:
            self._strikes = 0
            self._until = self._clock() + DOWN
        if isinstance(error, RateLimited):
            self._until = max(self._until, self._clock() + (error.retry_after or DOWN))

    def __repr__(self) -> str:
        return f"Mirror({self.name}, {'up' if self.up else 'down'})"


class Mirrored:
    """``origin``, read through ``mirrors``: each the same repository elsewhere, asked in their order."""

    def __init__(self, origin: Remote, mirrors: Sequence[tuple[Mirror, Source]]) -> None:
        self._origin = origin
        self._mirrors = tuple(mirrors)
        self._refused: set[tuple[str, Digest]] = set()

    @property
    def place(self) -> Place:
        """The origin's: that is where budgets and journals look."""
        return self._origin.place

    async def resolve(self, identifier: str) -> Descriptor:
        """What a tag or digest names (one HEAD where it is found).

        :raises NotFound: when it names nothing at the origin either
        """
        return await self._first(lambda source: source.resolve(identifier))

    async def manifest(self, identifier: str) -> Manifest:
        """The manifest a tag or digest names (one GET where it is found), checked against a digest.

        :raises NotFound: when it names nothing at the origin either
        :raises ContentError: when the origin's bytes are not that manifest
        """
        return await self._first(lambda source: source.manifest(identifier))

    async def attached(self, subject: Digest, *, fallback: bool = True) -> tuple[tuple[Descriptor, ...], bool]:
        """As :meth:`asyncrane.abc.Attached.attached`: what the origin says."""
        return await self._origin.attached(subject, fallback=fallback)

    async def _first(self, ask: Callable[[Source], Awaitable[T]]) -> T:
        for mirror, source in self._mirrors:
            if not mirror.up:
                continue
            try:
                found = await _soon(mirror, ask(source))
            except NotFound:
                mirror.answered()
            except AsyncraneError as exc:
                mirror.failed(exc)
            else:
                mirror.answered()
                return found
        return await ask(self._origin)

    @asynccontextmanager
    async def open(self, blob: Descriptor, *, start: int = 0) -> AsyncIterator[AsyncIterator[bytes]]:
        """The bytes of ``blob`` from offset ``start`` on, the rest from the origin where a mirror breaks off. Only from
        the beginning on can a mirror's bytes be checked: everything else is read from the origin.

        :raises NotFound: when it is not at the origin either
        :raises DigestMismatch: when a large blob's bytes turn out wrong at the end; the origin is asked the next time
        """
        async with AsyncExitStack() as stack:
            chunks = None
            if start == 0 and blob.data is None and blob.size:
                chunks = await self._from_mirror(blob, stack)
            if chunks is None:
                chunks = await stack.enter_async_context(self._origin.open(blob, start=start))
            yield chunks

    async def _from_mirror(self, blob: Descriptor, stack: AsyncExitStack) -> AsyncIterator[bytes] | None:
        for mirror, source in self._mirrors:
            if not mirror.up or (mirror.name, blob.digest) in self._refused:
                continue
            attempt = AsyncExitStack()
            try:
                chunks = await _soon(mirror, attempt.enter_async_context(source.open(blob)))
                small = 0 <= blob.size <= WHOLE
                found = _one(await _whole(blob, chunks)) if small else self._checked(blob, mirror, chunks, stack)
            except BaseException as exc:
                await attempt.aclose()
                if not isinstance(exc, AsyncraneError):
                    raise
                self._blame(mirror, blob, exc)
                continue
            mirror.answered()
            stack.push_async_callback(attempt.aclose)
            return found
        return None

    async def _checked(
        self, blob: Descriptor, mirror: Mirror, chunks: AsyncIterator[bytes], stack: AsyncExitStack
    ) -> AsyncIterator[bytes]:
        """The bytes from a mirror, and after a break from the origin."""
        verifier, position = Verifier(blob), 0
        rest: AsyncIterator[bytes] | None = None
        while True:
            try:
                async for chunk in chunks:
                    verifier.update(chunk, position)
                    position += len(chunk)
                    yield chunk
                verifier.finish()
            except ContentError as exc:
                self._blame(mirror, blob, exc)
                raise
            except AsyncraneError as exc:
                if chunks is rest:
                    raise
                self._blame(mirror, blob, exc)
            else:
                return
            chunks = rest = await stack.enter_async_context(self._origin.open(blob, start=position))

    def _blame(self, mirror: Mirror, blob: Descriptor, error: AsyncraneError) -> None:
        if isinstance(error, ContentError):
            self._refused.add((mirror.name, blob.digest))
        if isinstance(error, NotFound):
            mirror.answered()
        else:
            mirror.failed(error)

    def __repr__(self) -> str:
        return f"Mirrored({self._origin!r}, {', '.join(mirror.name for mirror, _ in self._mirrors)})"


async def _soon(mirror: Mirror, asking: Awaitable[T]) -> T:
    """What ``asking`` comes to.

    :raises TimedOut: when that takes too long
    """
    with anyio.move_on_after(PATIENCE):
        return await asking
    raise TimedOut(f"{mirror.name}: no answer within {PATIENCE:g} s")


async def _whole(blob: Descriptor, chunks: AsyncIterator[bytes]) -> bytes:
    verifier, pieces, position = Verifier(blob), list[bytes](), 0
    async for chunk in chunks:
        verifier.update(chunk, position)
        position += len(chunk)
        pieces.append(chunk)
    verifier.finish()
    return b"".join(pieces)


async def _one(content: bytes) -> AsyncIterator[bytes]:
    yield content
