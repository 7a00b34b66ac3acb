"""What the traffic with one registry keeps to, whoever it is for: how much at once, how many bytes a second.

The engine counts the commands it starts; this counts what really is on the wire, lists and tokens included. A lane is
held by one exchange and never while something else is waited for: tokens are got before, bodies that are read while
another is written have lanes of their own for each direction. So lanes cannot hold each other up for ever.
"""

from __future__ import annotations

import anyio

from asyncrane.transport.call import Call
from asyncrane.transport.options import RegistryOptions
from asyncrane.transport.rate import Bucket, Pace, pace


class Traffic:
    """The limits of one registry: ``received`` and ``sent`` are the paces of blobs, ``None`` where there is none.

    Short requests are all but blobs that come and blobs that go.
    """

    __slots__ = ("_reads", "_requests", "_writes", "received", "sent")

    def __init__(self, options: RegistryOptions, *, down: Bucket | None = None, up: Bucket | None = None) -> None:
        rate = options.rate
        self.received: Pace | None = pace(Bucket(rate) if rate else None, down)
        self.sent: Pace | None = pace(Bucket(rate) if rate else None, up)
        self._requests = _lane(options.requests)
        self._reads = _lane(options.streams)
        self._writes = _lane(options.streams)

    def lane(self, call: Call) -> anyio.Semaphore | None:
        """What ``call`` has to hold while it is on the wire; nothing for another host's, and where nothing is fixed."""
        if call.foreign:
            return None
        if call.limit is None:
            return self._reads
        return self._writes if carries_blob(call) else self._requests

    def __repr__(self) -> str:
        return f"Traffic({self.received!r}, {self._requests!r}, {self._reads!r})"


def carries_blob(call: Call) -> bool:
    """Whether the bytes of a blob go out with ``call``."""
    return call.kind == "uploads" and bool(call.body)


def _lane(number: int | None) -> anyio.Semaphore | None:
    return anyio.Semaphore(number, fast_acquire=True) if number else None
