"""Giving names to what is already in a repository."""

from __future__ import annotations

from asyncrane.errors import InvalidInput
from asyncrane.oci.descriptor import Descriptor
from asyncrane.oci.reference import Reference, check_tag
from asyncrane.session import Session


async def tag(session: Session, image: str, *tags: str) -> Descriptor:
    """Name ``image`` with every one of ``tags`` in its own repository: one GET, and one PUT for each.

    :raises InvalidReference: when one of ``tags`` is not a tag; nothing was sent
    :raises NotFound: when ``image`` names nothing
    """
    if not tags:
        raise InvalidInput("no tag to give")
    reference = Reference.parse(image)
    wanted = list(dict.fromkeys(check_tag(name) for name in tags))
    remote = session.remote(reference.repository, writing=True)
    found = await remote.manifest(reference.identifier)
    for name in wanted:
        await remote.publish(found, name)
    return found.descriptor
