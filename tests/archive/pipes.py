"""Pipes that somebody else writes to."""

from __future__ import annotations

import os
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path


@contextmanager
def pipe(path: Path, content: bytes, step: int = 100_000) -> Iterator[str]:
    """A pipe into which ``content`` is written in pieces of ``step`` bytes, whether it is read to its end or not."""

    def feed() -> None:
        try:
            with path.open("wb", buffering=0) as file:
                for at in range(0, len(content), step):
                    file.write(content[at : at + step])
        except BrokenPipeError:
            pass

    os.mkfifo(path)
    writer = threading.Thread(target=feed, daemon=True)
    writer.start()
    yield str(path)
    writer.join(10)
    assert not writer.is_alive()
