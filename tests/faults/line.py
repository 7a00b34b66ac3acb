"""A TCP line to a server that can break: torn, closed, or silent, at a moment that is counted and not timed.

What goes over it is counted in *steps*: one for every request, and one for every 256 KiB of either direction. At a
chosen step something is done before the bytes that made it go on (:meth:`Line.at`): a process is killed, the line is
torn. So a moment is the same on a fast machine and on a slow one.
"""

from __future__ import annotations

import asyncio
import re
import socket
import struct
from collections.abc import AsyncIterator, Callable, Iterator
from contextlib import AsyncExitStack, asynccontextmanager, contextmanager, suppress
from typing import cast

import anyio
import anyio.lowlevel
from anyio.abc import TaskGroup

STRIDE = 256 * 1024
"""Bytes in one direction that are a step."""

_REQUEST = re.compile(rb"(?:GET|HEAD|POST|PUT|PATCH|DELETE) /")
_AT_ONCE = struct.pack("ii", 1, 0)  # SO_LINGER: what is closed is reset


@asynccontextmanager
async def laid(upstream: str) -> AsyncIterator[Line]:
    """A line to ``upstream`` (``host:port``), listening at its own address."""
    async with AsyncExitStack() as group:
        tasks = await group.enter_async_context(anyio.create_task_group())
        line = Line(upstream, tasks)
        line.open()
        try:
            yield line
        finally:
            line.close()
            tasks.cancel_scope.cancel()
            with anyio.CancelScope(shield=True):
                while line.ends:  # in its next turn the loop lets go of their sockets
                    await anyio.lowlevel.checkpoint()
            await group.aclose()  # what failed in the block is not the group's, and is not to be wrapped in one


class Line:
    """Listens at ``address`` and passes everything on to ``upstream``, and back."""

    def __init__(self, upstream: str, group: TaskGroup) -> None:
        host, _, port = upstream.rpartition(":")
        self.upstream = host, int(port)
        self.address = ""
        self.requests = 0
        self.silent = False
        self.ends: set[End] = set()
        self._bytes = 0
        self._moments: list[tuple[int, Callable[[], object]]] = []
        self._listening: socket.socket | None = None
        self._taken: set[socket.socket] = set()
        self._group = group

    def __repr__(self) -> str:
        return f"Line({self.address} to {self.upstream[1]}, {self.steps} steps)"

    @property
    def steps(self) -> int:
        """How much has gone over it."""
        return self.requests + self._bytes // STRIDE

    @contextmanager
    def at(self, step: int, act: Callable[[], object]) -> Iterator[anyio.Event]:
        """Call ``act`` when so many more steps are made, before the bytes that make them go on; then the event is set.

        What was not reached when the block ends is called off.
        """
        struck = anyio.Event()

        def strike() -> None:
            act()
            struck.set()

        moment = (self.steps + step, strike)
        self._moments.append(moment)
        try:
            yield struck
        finally:
            if moment in self._moments:
                self._moments.remove(moment)

    def tear(self) -> None:
        """Reset every connection there is."""
        for end in list(self.ends):
            end.reset()

    def close(self) -> None:
        """Reset every connection there is, and refuse new ones."""
        if self._listening is not None:
            asyncio.get_running_loop().remove_reader(self._listening)
            self._listening.close()
            self._listening = None
        for taken in self._taken:
            taken.close()
        self._taken.clear()
        self.tear()

    def open(self) -> None:
        """Take new connections again, at the same address."""
        if self._listening is None:
            self._listening = socket.create_server(("127.0.0.1", int(self.address.rpartition(":")[2] or 0)))
            self._listening.setblocking(False)
            self.address = f"127.0.0.1:{self._listening.getsockname()[1]}"
            asyncio.get_running_loop().add_reader(self._listening, self._accept)

    def _accept(self) -> None:
        """Take one connection. (A server of asyncio's forgets those that it took in the moment it is closed.)"""
        if self._listening is not None:
            with suppress(OSError):
                taken, _ = self._listening.accept()
                taken.setblocking(False)
                self._taken.add(taken)
                self._group.start_soon(self._serve, taken)

    async def _serve(self, taken: socket.socket) -> None:
        if taken in self._taken:
            self._taken.remove(taken)
            await asyncio.get_running_loop().connect_accepted_socket(lambda: Caller(self), taken)

    def fall_silent(self) -> None:
        """Let no byte pass, as if the cable were cut: nobody is told."""
        self.silent = True
        for end in self.ends:
            end.regulate()

    def speak(self) -> None:
        """Let pass what was held, and all that follows."""
        self.silent = False
        for end in self.ends:
            end.regulate()

    def start(self, caller: Caller) -> None:
        """Have the server called for a new connection."""
        self._group.start_soon(caller.call)

    def count(self, data: bytes, *, asked: bool) -> None:
        """Bytes are about to pass; ``asked`` says that they go to the server."""
        self.requests += asked and _REQUEST.match(data) is not None
        self._bytes += len(data)
        due = [moment for moment in self._moments if moment[0] <= self.steps]
        self._moments = [moment for moment in self._moments if moment[0] > self.steps]
        for _, act in due:
            act()


class End(asyncio.Protocol):
    """One side of a connection: what it says is said to the other side."""

    def __init__(self, line: Line) -> None:
        self._line = line
        self.transport: asyncio.Transport | None = None
        self.other: End
        self._full = False
        self._paused = False

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self.transport = cast("asyncio.Transport", transport)
        self._line.ends.add(self)
        self.regulate()

    def data_received(self, data: bytes) -> None:
        self._line.count(data, asked=isinstance(self, Caller))
        if self.transport is not None and not self.transport.is_closing() and self.other.transport is not None:
            self.other.transport.write(data)

    def connection_lost(self, exc: Exception | None) -> None:
        self._line.ends.discard(self)
        if self.other.transport is None:
            return
        if exc is not None:
            self.other.reset()
        else:
            self.other.transport.close()

    def pause_writing(self) -> None:
        self.other.regulate(full=True)

    def resume_writing(self) -> None:
        self.other.regulate(full=False)

    def regulate(self, *, full: bool | None = None) -> None:
        """Read on, or do not: while the line is silent, the other side is full, or is not there yet."""
        self._full = self._full if full is None else full
        wanted = self._full or self._line.silent or self.other.transport is None
        if self.transport is None or self.transport.is_closing() or wanted == self._paused:
            return
        self._paused = wanted
        if wanted:
            self.transport.pause_reading()
        else:
            self.transport.resume_reading()

    def reset(self) -> None:
        """End the connection at once, so that the peer notices."""
        if self.transport is not None and not self.transport.is_closing():
            connection: socket.socket = self.transport.get_extra_info("socket")
            connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, _AT_ONCE)
            self.transport.abort()


class Caller(End):
    """The side that connected to us."""

    def __init__(self, line: Line) -> None:
        super().__init__(line)
        self.other = Callee(line, self)

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        super().connection_made(transport)
        self._line.start(self)

    async def call(self) -> None:
        """Connect to the server."""
        try:
            await asyncio.get_running_loop().create_connection(lambda: self.other, *self._line.upstream)
        except OSError:
            self.reset()
        if self.transport is None or self.transport.is_closing():  # gone meanwhile
            self.other.reset()
        self.regulate()


class Callee(End):
    """The server's side."""

    def __init__(self, line: Line, caller: Caller) -> None:
        super().__init__(line)
        self.other = caller
