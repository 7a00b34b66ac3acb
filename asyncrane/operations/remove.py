"""Deleting an image from its registry."""

from __future__ import annotations

from asyncrane.oci.reference import Reference
from asyncrane.session import Session


async def delete(session: Session, image: str) -> None:
    """Delete the tag or, by digest, the manifest that ``image`` names; what it lists stays.

    :raises NotFound: when it names nothing
    :raises RegistryError: when the registry does not delete (some delete no tags, some nothing)
    """
    reference = Reference.parse(image)
    await session.remote(reference.repository, writing=True).delete(reference.identifier)
