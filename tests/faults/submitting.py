"""A program that submits very many copies at once, and says what it needed for that.

``python -m tests.faults.submitting SOURCE DESTINATION COUNT`` copies the images 0 to COUNT of ``SOURCE/from/small`` to
``DESTINATION/to/small`` in one session, all of them open at the same time, and prints a :class:`Submitted` as JSON.
"""

from __future__ import annotations

import sys
from pathlib import Path

import anyio
import msgspec

from asyncrane import Pair, Session, copy_all


class Submitted(msgspec.Struct, frozen=True):
    """How many were copied, and the most memory that was used at once, in bytes."""

    copied: int
    peak: int


async def submit(source: str, destination: str, count: int) -> Submitted:
    """Copy them all."""
    pairs = [Pair(f"{source}/from/small:{n}", (f"{destination}/to/small:{n}",)) for n in range(count)]
    async with Session() as session:
        outcomes = await copy_all(session, pairs)
    return Submitted(sum(outcome.targets[0].status == "copied" for outcome in outcomes), peak())


def peak() -> int:
    """The most memory this process has had in use since it was started (Linux)."""
    (line,) = [line for line in Path("/proc/self/status").read_text().splitlines() if line.startswith("VmHWM:")]
    return int(line.split()[1]) * 1024


if __name__ == "__main__":
    done = anyio.run(submit, sys.argv[1], sys.argv[2], int(sys.argv[3]), backend_options={"use_uvloop": True})
    sys.stdout.write(msgspec.json.encode(done).decode())
