"""Giving names to what is already in a repository."""

from __future__ import annotations

import anyio

from asyncrane.errors import AsyncraneError, InvalidInput
from asyncrane.oci.descriptor import Descriptor
from asyncrane.oci.reference import Reference, check_tag
from asyncrane.session import Session

_AT_ONCE = 8


async def tag(session: Session, image: str, *tags: str) -> Descriptor:
    """Name ``image`` with every one of ``tags`` in its own repository: one GET, and one PUT for each, some at a time.

    :raises InvalidReference: when one of ``tags`` is not a tag; nothing was sent
    :raises NotFound: when ``image`` names nothing
    :raises AsyncraneError: when one could not be given, the first of them; the others have been tried
    """
    if not tags:
        raise InvalidInput("no tag to give")
    reference = Reference.parse(image)
    wanted = list(dict.fromkeys(check_tag(name) for name in tags))
    remote = session.remote(reference.repository, writing=True)
    found = await remote.manifest(reference.identifier)
    errors: dict[str, AsyncraneError] = {}
    slots = anyio.Semaphore(session.at_once(reference.repository.registry) or _AT_ONCE)

    async def give(name: str) -> None:
        async with slots:
            try:
                await remote.publish(found, name)
            except AsyncraneError as exc:
                errors[name] = exc

    async with anyio.create_task_group() as tasks:
        for name in wanted:
            tasks.start_soon(give, name)
    for name in wanted:
        if name in errors:
            raise errors[name]
    return found.descriptor
