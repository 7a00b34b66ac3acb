"""Deleting: a tag alone, or a manifest with all its tags. One is never taken for the other (K9)."""

from __future__ import annotations

import anyio
import msgspec

from asyncrane.errors import AsyncraneError, InvalidInput, InvalidReference, NotFound, RegistryError
from asyncrane.oci.digest import Digest
from asyncrane.oci.reference import Reference
from asyncrane.registry import google
from asyncrane.session import Session
from asyncrane.stores.remote import Remote

_AT_ONCE = 16
_UNABLE = frozenset({400, 405, 501})
"""What registries answer that delete no tags: 400 DIGEST_INVALID (distribution 2), 405 UNSUPPORTED."""


class Deleted(msgspec.Struct, frozen=True):
    """What is gone: ``tags`` are those that named the deleted manifest, ``None`` where the registry did not say."""

    reference: Reference
    tags: tuple[str, ...] | None = ()


async def delete(session: Session, image: str) -> Deleted:
    """Delete what ``image`` names as it names it: a tag alone, or by digest the manifest with all tags that name it.
    What it lists stays.

    :raises NotFound: when it names nothing
    :raises RegistryError: when the registry does not delete (some delete no tags, some nothing)
    """
    reference = Reference.parse(image)
    remote = session.remote(reference.repository, writing=True)
    if reference.digest is None:
        await _delete_tag(remote, reference, str(reference.tag))
        return Deleted(reference, (str(reference.tag),))
    tags = await _tags_of(remote, reference.digest, session.at_once(reference.repository.registry))
    try:
        await remote.delete(str(reference.digest))
    except RegistryError as exc:
        if "GOOGLE_MANIFEST_DANGLING_TAG" in exc.codes and tags:
            message = f"{exc}: this registry wants its tags deleted first: {', '.join(tags)} ('untag')"
            raise type(exc)(message, status=exc.status, codes=exc.codes) from exc
        raise
    return Deleted(reference, tags)


async def untag(session: Session, image: str) -> Deleted:
    """Delete the tag that ``image`` names, and nothing else. With a digest besides, only if that is what it names.

    :raises InvalidReference: when ``image`` has no tag
    :raises InvalidInput: when the tag names something else than the digest
    :raises NotFound: when there is no such tag
    :raises RegistryError: when the registry cannot delete a tag alone
    """
    reference = Reference.parse(image)
    if reference.tag is None:
        raise InvalidReference(f"{image} has no tag to take away ('delete' deletes the manifest with all its tags)")
    remote = session.remote(reference.repository, writing=True)
    if reference.digest is not None:
        found = await remote.resolve(reference.tag)
        if found.digest != reference.digest:
            raise InvalidInput(f"{reference.repository}:{reference.tag} is {found.digest!s}, not what was named")
    await _delete_tag(remote, reference, reference.tag)
    return Deleted(reference, (reference.tag,))


async def _delete_tag(remote: Remote, reference: Reference, tag: str) -> None:
    try:
        await remote.delete(tag)
    except NotFound as exc:
        raise await _cannot(remote, reference, tag, exc) or exc from exc
    except RegistryError as exc:
        if exc.status not in _UNABLE:
            raise
        raise await _cannot(remote, reference, tag, exc) or exc from exc


async def _cannot(remote: Remote, reference: Reference, tag: str, error: RegistryError) -> RegistryError | None:
    """The registry has the tag and does not delete it: say so, and what would go with the manifest."""
    try:
        found = await remote.resolve(tag)
    except AsyncraneError:
        return None
    message = (
        f"{reference.repository.registry} does not delete a tag alone ({error}); "
        f"'delete {reference.repository}@{found.digest!s}' deletes the manifest with all its tags"
    )
    return RegistryError(message, status=error.status, codes=error.codes)


async def _tags_of(remote: Remote, digest: Digest, at_once: int | None) -> tuple[str, ...] | None:
    """The tags that name ``digest``; ``None`` where the registry does not tell. Google's say so in one answer, others
    are asked for each tag.
    """
    try:
        if google.is_google(remote.place.site.name):
            listing = await google.listing(remote.origin, remote.place.repository)
            if listing.extended:
                return next((one.tags for one in listing.manifests if one.digest == digest), ())
        tags = [tag async for tag in remote.tags()]
    except AsyncraneError:
        return None
    found: set[str] = set()
    unknown: list[AsyncraneError] = []
    slots = anyio.Semaphore(at_once or _AT_ONCE)

    async def look(tag: str) -> None:
        async with slots:
            try:
                named = await remote.resolve(tag)
            except NotFound:
                return
            except AsyncraneError as exc:
                unknown.append(exc)
                return
        if named.digest == digest:
            found.add(tag)

    async with anyio.create_task_group() as tasks:
        for tag in dict.fromkeys(tags):
            tasks.start_soon(look, tag)
    return None if unknown else tuple(tag for tag in dict.fromkeys(tags) if tag in found)
