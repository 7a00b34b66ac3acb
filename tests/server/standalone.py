"""A registry in a directory, as a process a test may kill: ``python -m tests.server.standalone DIR`` says where."""

from __future__ import annotations

import asyncio
import sys

import anyio

from asyncrane.server import DiskStorage, make_app, serving


async def main(path: str) -> None:
    with DiskStorage(path) as storage:
        async with serving(make_app(storage)) as address:
            sys.stdout.write(f"{address}\n")
            sys.stdout.flush()
            await anyio.sleep_forever()


if __name__ == "__main__":
    asyncio.run(main(sys.argv[1]))
