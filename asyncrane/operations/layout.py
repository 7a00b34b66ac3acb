"""Looking after OCI layouts on disk."""

from __future__ import annotations

from os import PathLike
from pathlib import Path

import anyio.to_thread

from asyncrane.stores.garbage import Garbage, collect


async def layout_gc(path: str | PathLike[str], *, dry_run: bool = False) -> list[Garbage]:
    """Remove from the layout in the directory ``path`` the blobs that no image in it is made of, and what interrupted
    writers have left; with ``dry_run`` only say which.

    Processes of asyncrane that are writing into it are noticed; other tools are not, so let none write meanwhile.

    :raises NotFound: when there is no such directory
    :raises ContentError: when it is no layout, or a manifest in it is damaged: then nothing is removed
    :raises InvalidInput: when somebody is writing into it
    """
    return await anyio.to_thread.run_sync(lambda: collect(Path(path), dry_run=dry_run))
