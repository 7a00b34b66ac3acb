"""A line with a round-trip time, and if need be so many bytes a second for each connection: a TCP proxy.

Every byte leaves half a round trip after it came, in order, in each direction; what a client sends first leaves one
round trip later still, as if the connection had to be made over the line. Without a rate bandwidth is not limited: what
is on its way is held in memory. With one, it is what every single connection lets through towards the client, as
registries and storages limit it. ``python -m benchmarks.proxy RTT[/RATE] HOST:PORT...`` serves one loopback port per
upstream and prints the ports in one line of JSON; a process of its own, so that its work is not the harness's or a
client's.
"""

from __future__ import annotations

import asyncio
import functools
import json
import subprocess
import sys
from collections import deque
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import dataclass
from typing import TYPE_CHECKING, cast

import anyio
import anyio.lowlevel

from .processes import cpu_seconds, started

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Sequence

    from anyio.abc import TaskGroup

HELD = 128 << 20  # bytes on their way in one direction of one connection before its sender must wait
AHEAD = 0.05  # seconds of a limited connection's bytes that are held
TICK = 0.0005  # seconds: what is due within the clock's resolution goes in the same write
BACKLOG = 1024


class _End(asyncio.Protocol):
    """One side of a connection: what it says goes to ``away``, what ``home`` lets go of is said to it."""

    def __init__(self, alive: set[_End]) -> None:
        self._alive = alive
        self.transport: asyncio.Transport | None = None
        self.away: _Direction
        self.home: _Direction

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self.transport = cast("asyncio.Transport", transport)
        self._alive.add(self)
        self.home.flush()

    def data_received(self, data: bytes) -> None:
        self.away.feed(data)

    def eof_received(self) -> bool:
        self.away.feed(None)
        return True  # the other half is still open

    def connection_lost(self, exc: Exception | None) -> None:
        self._alive.discard(self)
        self.away.feed(None)
        self.home.drop()

    def pause_writing(self) -> None:
        self.home.choke(choked=True)

    def resume_writing(self) -> None:
        self.home.choke(choked=False)


class _Direction:
    """One direction of one connection: bytes, each with the time it is due; ``None`` is the end."""

    def __init__(
        self, sender: _End, receiver: _End, delay: float, *, not_before: float = 0.0, rate: float = 0.0
    ) -> None:
        self._loop = asyncio.get_running_loop()
        self._sender, self._receiver = sender, receiver
        self._delay = delay
        self._not_before = not_before  # what comes earlier counts as coming then: the handshake
        self._rate = rate  # bytes a second, 0: as they come
        self._most = min(HELD, int(rate * (AHEAD + delay))) if rate else HELD
        self._due: deque[tuple[float, bytes | None]] = deque()
        self._timer: asyncio.TimerHandle | None = None
        self._held = 0
        self._free = 0.0
        self._choked = self._paused = self._ended = False
        self.done = False

    def feed(self, data: bytes | None) -> None:
        """Take what the sender said."""
        if self._ended or self.done:
            return
        when = max(self._loop.time(), self._not_before) + self._delay
        if self._rate:  # after all that came before
            when = self._free = max(self._free, when) + len(data or b"") / self._rate
        self._ended = data is None
        self._held += len(data or b"")
        self._due.append((when, data))
        if self._timer is None:
            self._timer = self._loop.call_at(when, self.flush)
        self._regulate()

    def flush(self) -> None:
        """Pass on what is due, if there is somebody to take it."""
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None
        receiver = self._receiver.transport
        if receiver is None or self.done:
            return
        now, ready = self._loop.time() + TICK, []
        while self._due and self._due[0][0] <= now:
            data = self._due.popleft()[1]
            if data is None:
                self.done = True
            else:
                ready.append(data)
        if ready:
            self._held -= sum(map(len, ready))
            receiver.writelines(ready)
        if self.done:
            self._end(receiver)
        elif self._due:
            self._timer = self._loop.call_at(self._due[0][0], self.flush)
        self._regulate()

    def drop(self) -> None:
        """Nobody is left to take anything."""
        self.done = True
        self._due.clear()
        if self._timer is not None:
            self._timer.cancel()
        if self._sender.home.done and self._sender.transport is not None:
            self._sender.transport.close()

    def choke(self, *, choked: bool) -> None:
        """The receiver's side is full, or no longer."""
        self._choked = choked
        self._regulate()

    def _end(self, receiver: asyncio.Transport) -> None:
        if self._receiver.away.done:
            receiver.close()
            if self._sender.transport is not None:
                self._sender.transport.close()
        elif not receiver.is_closing():
            receiver.write_eof()

    def _regulate(self) -> None:
        sender = self._sender.transport
        full = self._choked or self._held > self._most
        if sender is None or full == self._paused or sender.is_closing():
            return
        self._paused = full
        if full:
            sender.pause_reading()
        else:
            sender.resume_reading()


class _Caller(_End):
    """The side that connected to us: the upstream is called for it."""

    def __init__(self, alive: set[_End], group: TaskGroup, upstream: tuple[str, int], rtt: float, rate: float) -> None:
        super().__init__(alive)
        self._group, self._upstream = group, upstream
        self._callee = callee = _End(alive)
        now = asyncio.get_running_loop().time()
        self.away = callee.home = _Direction(self, callee, rtt / 2, not_before=now + rtt)
        self.home = callee.away = _Direction(callee, self, rtt / 2, rate=rate)

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        super().connection_made(transport)
        self._group.start_soon(self._call)

    async def _call(self) -> None:
        try:
            await asyncio.get_running_loop().create_connection(lambda: self._callee, *self._upstream)
        except OSError:
            if self.transport is not None:
                self.transport.abort()


@asynccontextmanager
async def delayed(upstream: str, rtt: float, rate: float = 0.0) -> AsyncIterator[str]:
    """The ``host:port`` of a line to ``upstream`` (``host:port``) with a round trip of ``rtt`` seconds and, if that is
    not 0, ``rate`` bytes a second for each connection.
    """
    host, _, port = upstream.rpartition(":")
    alive: set[_End] = set()
    async with anyio.create_task_group() as group:
        make = functools.partial(_Caller, alive, group, (host, int(port)), rtt, rate)
        server = await asyncio.get_running_loop().create_server(make, "127.0.0.1", 0, backlog=BACKLOG)
        try:
            yield f"127.0.0.1:{server.sockets[0].getsockname()[1]}"
        finally:
            server.close()
            group.cancel_scope.cancel()
            for end in list(alive):
                if end.transport is not None:
                    end.transport.abort()
            with anyio.CancelScope(shield=True):
                await (
                    anyio.lowlevel.checkpoint()
                )  # in the next turn of the loop aborted transports let go of their sockets


@dataclass(frozen=True)
class Lines:
    """Running lines, one per upstream, in order."""

    addresses: tuple[str, ...]
    pid: int = 0

    def cpu_seconds(self) -> float:
        """The CPU time the proxy has used so far."""
        return cpu_seconds(self.pid) if self.pid else 0.0


@asynccontextmanager
async def lines(upstreams: Sequence[str], rtt: float, rate: float = 0.0) -> AsyncIterator[Lines]:
    """Lines to every upstream, served by a process of their own; the upstreams themselves when nothing is limited."""
    if not rtt and not rate:
        yield Lines(tuple(upstreams))
        return
    command = [sys.executable, "-m", "benchmarks.proxy", f"{rtt}/{rate}", *upstreams]
    async with started(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=None) as process:
        if process.stdout is None:
            raise AssertionError("the proxy was started with a pipe")
        said = b""
        while not said.endswith(b"\n"):
            said += await process.stdout.receive()
        yield Lines(tuple(json.loads(said)), process.pid)


async def _serve(rtt: float, rate: float, upstreams: Sequence[str]) -> None:
    """Serve until stdin ends, that is: as long as whoever started us lives."""
    async with AsyncExitStack() as stack:
        addresses = [await stack.enter_async_context(delayed(upstream, rtt, rate)) for upstream in upstreams]
        print(json.dumps(addresses), flush=True)
        await anyio.to_thread.run_sync(sys.stdin.buffer.read, abandon_on_cancel=True)


def main(arguments: Sequence[str]) -> None:
    """Serve the lines the command line asks for."""
    line, *upstreams = arguments
    rtt, _, rate = line.partition("/")
    anyio.run(_serve, float(rtt), float(rate or 0), upstreams, backend_options={"use_uvloop": sys.platform != "win32"})


if __name__ == "__main__":
    main(sys.argv[1:])
