"""Bundles that carry only what an earlier one did not: layouts from which blobs are left out on purpose (J5).

Nothing in such a layout says what was left out: whatever its images name and it does not have must be where it goes.
"""

from __future__ import annotations

from collections.abc import AsyncIterator, Callable, Sequence
from contextlib import AsyncExitStack, asynccontextmanager
from os import PathLike
from pathlib import Path

import anyio
import anyio.to_thread

from asyncrane.abc import Place, Sink
from asyncrane.errors import NotFound
from asyncrane.oci.descriptor import Descriptor
from asyncrane.oci.digest import Digest
from asyncrane.stores.contents import Contents
from asyncrane.stores.layout import open_layout
from asyncrane.stores.ociarchive import open_oci_archive
from asyncrane.together import all_of

_AT_ONCE = 16
_SHOWN = 10


@asynccontextmanager
async def earlier_bundles(paths: Sequence[str | PathLike[str]]) -> AsyncIterator[Callable[[Digest], bool]]:
    """Whether one of the layouts or OCI archives ``paths`` has a blob; to be asked in a thread.

    :raises NotFound: when one is not there
    :raises ContentError: when one is none
    """
    async with AsyncExitStack() as stack:
        opened: list[Contents] = []
        for path in paths:
            directory = await anyio.to_thread.run_sync(Path(path).is_dir)
            context = open_layout(path) if directory else open_oci_archive(path)
            opened.append(await stack.enter_async_context(context))
        yield lambda digest: any(one.holds(digest) for one in opened)


async def left_out(
    bundle: Contents, roots: Sequence[Descriptor], destination: Sink
) -> tuple[tuple[Digest, Place], ...]:
    """What the images ``roots`` name and ``bundle`` does not have, and that it is at ``destination``.

    :raises NotFound: when something is not there either; the message names it, and nothing was written
    """
    wanted: dict[Digest, None] = {}
    for root in roots:
        wanted |= dict.fromkeys(await anyio.to_thread.run_sync(bundle.missing, root))
    slots = anyio.CapacityLimiter(_AT_ONCE)

    async def ask(digest: Digest) -> bool:
        async with slots:
            return await destination.has(digest)

    there = zip(wanted, await all_of(wanted, ask), strict=True)
    lost = [digest for digest, has in there if not has]
    if lost:
        names = sorted(str.__str__(digest) for digest in lost)
        more = f" and {len(names) - _SHOWN} more" if len(names) > _SHOWN else ""
        raise NotFound(
            f"{bundle.place} is not complete, and {destination.place} does not have the rest: push "
            f"what it was made since first; missing: {', '.join(names[:_SHOWN])}{more}",
            status=404,
        )
    return tuple((digest, destination.place) for digest in wanted)
