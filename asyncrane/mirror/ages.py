"""When images were made: what ``since`` and ``sort: created`` look at (image-spec, config.md, "created")."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from datetime import UTC, datetime

import anyio
import msgspec

from asyncrane.engine.transfer import read_whole
from asyncrane.errors import NotFound
from asyncrane.mirror.select import choose
from asyncrane.mirror.spec import TagRule
from asyncrane.oci import media
from asyncrane.oci.descriptor import Descriptor
from asyncrane.oci.digest import Digest
from asyncrane.oci.manifest import Manifest
from asyncrane.oci.reference import Repository
from asyncrane.session import Session
from asyncrane.stores.remote import Remote
from asyncrane.together import all_of

_AT_ONCE = 16
_LARGEST_CONFIG = 8 * 1024 * 1024
_NEVER = datetime(1970, 1, 1, tzinfo=UTC)


async def created(
    session: Session, repository: Repository, tags: Iterable[str], rule: TagRule
) -> Mapping[str, datetime]:
    """When each image was made that the rest of ``rule`` lets through; of an index its first image counts.

    What does not say is as old as can be.

    :raises AsyncraneError: when one cannot be read: a guess could leave out an image, or delete one
    """
    rest = msgspec.structs.replace(rule, since=None, latest=None, sort=None)
    remote = session.remote(repository)
    limiter = anyio.CapacityLimiter(_AT_ONCE)
    by_config: dict[Digest, datetime] = {}

    async def read(tag: str) -> datetime:
        config = await _config(remote, await remote.manifest(tag))
        if config is None:
            return _NEVER
        if config.digest not in by_config:
            by_config[config.digest] = _created(await read_whole(remote, config, limit=_LARGEST_CONFIG))
        return by_config[config.digest]

    async def look(tag: str) -> datetime | None:
        async with limiter:
            try:
                return await read(tag)
            except NotFound:  # deleted since it was listed
                return None

    chosen = choose(list(tags), rest)
    found = zip(chosen, await all_of(chosen, look), strict=True)
    return {tag: made for tag, made in found if made is not None}


async def _config(remote: Remote, manifest: Manifest) -> Descriptor | None:
    """The config of an image, or of the first image of an index."""
    while manifest.is_index:
        children = [child for child in manifest.children() if child.platform is None or child.platform.os != "unknown"]
        if not children:
            return None
        manifest = await remote.manifest(str(children[0].digest))
    config = manifest.config()
    return config if config is not None and config.media_type in media.CONFIGS else None


def _created(config: bytes) -> datetime:
    try:
        text = msgspec.json.decode(config).get("created")
        when = datetime.fromisoformat(text)
    except (msgspec.DecodeError, AttributeError, TypeError, ValueError, RecursionError):
        return _NEVER
    return when if when.tzinfo else when.replace(tzinfo=UTC)
