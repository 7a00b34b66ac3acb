"""The reading side of an upload: a blob's bytes, cut to the pieces an upload wants, from any offset.

The last bytes of a blob are handed out only after its reader came to the end without complaint: a reader that finds a
wrong digest fails before the upload is complete, so nothing is committed.
"""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import AsyncExitStack
from types import TracebackType

from asyncrane.abc import Reader
from asyncrane.errors import Interrupted, SizeMismatch
from asyncrane.oci.descriptor import Descriptor


class Feed:
    """Opens ``read`` where :meth:`seek` says; :meth:`take` gives what follows.

    ``failure`` is what went wrong on this side; ``position`` the offset of the next byte; ``complete`` whether all
    bytes were handed out.
    """

    def __init__(self, blob: Descriptor, read: Reader) -> None:
        self.failure: Exception | None = None
        self.position = 0
        self.complete = False
        self._blob = blob
        self._read = read
        self._stack = AsyncExitStack()
        self._chunks: AsyncIterator[bytes]
        self._opened = False
        self._fetched = 0
        self._left = b""
        self._ahead: bytes | None = None
        self._ended = False
        self._torn = False

    async def __aenter__(self) -> Feed:
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        await self._stack.__aexit__(kind, error, trace)

    async def seek(self, offset: int) -> None:
        """Make ``offset`` the next byte; opens the reader anew unless it is there already."""
        if self._opened and not self._torn and offset == self.position:
            return
        await self._stack.aclose()
        self._left, self._ahead = b"", None
        self._opened = self._ended = self._torn = self.complete = False
        self.position = self._fetched = offset
        try:
            self._chunks = await self._stack.enter_async_context(self._read(offset))
        except Exception as error:
            self.failure = error
            raise
        self._opened = True

    async def take(self, length: int | None = None) -> AsyncIterator[bytes]:
        """The next ``length`` bytes, or all that are left.

        :raises SizeMismatch: when the reader has more or fewer bytes than the descriptor says
        """
        if self._torn:
            raise Interrupted(f"the reading of blob {self._blob.digest!s} was interrupted")
        wanted = length
        while wanted is None or wanted > 0:
            piece = self._left or await self._guarded()
            if piece is None:
                return
            if wanted is not None and len(piece) > wanted:
                piece, self._left = piece[:wanted], piece[wanted:]
            else:
                self._left = b""
            wanted = None if wanted is None else wanted - len(piece)
            self.position += len(piece)
            self.complete = self._ended and not self._left
            yield piece

    async def gather(self, length: int | None = None) -> bytes:
        """What :meth:`take` gives, in one piece."""
        pieces = [piece async for piece in self.take(length)]
        return pieces[0] if len(pieces) == 1 else b"".join(pieces)

    async def _guarded(self) -> bytes | None:
        try:
            return await self._fetch()
        except Exception as error:
            self.failure = error
            raise

    async def _fetch(self) -> bytes | None:
        """The next bytes of the reader; the last ones only when it has nothing to say against them."""
        size, chunk = self._blob.size, self._ahead
        self._ahead = None
        if chunk is None and not self._ended:
            chunk = await self._next()
        if chunk is None:
            self._ended = self.complete = True
            if size not in (-1, self._fetched):
                raise self._mismatch(f"ended after {self._fetched}")
            return None
        self._fetched += len(chunk)
        if size == -1 or self._fetched >= size:
            self._ahead = await self._next()
            self._ended = self._ahead is None
            if size != -1 and (self._fetched > size or not self._ended):
                raise self._mismatch("has more")
        return chunk

    async def _next(self) -> bytes | None:
        self._torn = True  # a cancelled reader is of no more use
        chunk: bytes | None = b""
        while chunk == b"":
            chunk = await anext(self._chunks, None)
        self._torn = False
        return chunk

    def _mismatch(self, what: str) -> SizeMismatch:
        return SizeMismatch(f"blob {self._blob.digest!s} has {self._blob.size} bytes, and what is read of it {what}")

    def __repr__(self) -> str:
        return f"Feed({str(self._blob.digest)[:19]!r}, {self.position} of {self._blob.size})"
