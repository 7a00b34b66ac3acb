"""Flattening images where they are, or to another name."""

from __future__ import annotations

import os
from collections.abc import Sequence

from asyncrane import images
from asyncrane.archive.formats import LayerFormat, packing_of
from asyncrane.oci.platform import Platform
from asyncrane.operations.losses import losses
from asyncrane.operations.moments import source_date_epoch, text
from asyncrane.operations.places import Places
from asyncrane.operations.publish import Published, destination, publish
from asyncrane.session import Session
from asyncrane.stores.locate import parse_location


async def flatten(
    session: Session,
    image: str,
    *,
    tag: str | None = None,
    layer_format: LayerFormat | None = None,
    platforms: Sequence[Platform] = (),
    keep_attestations: bool = False,
) -> Published:
    """``image`` with the layers of each of its images made one, to ``tag``, or back to where it is: over its tag, or,
    where it was named by digest, beside it. One of ``platforms`` chooses an image of an index, several an index of
    these.

    The new layers are gzip unless ``layer_format`` says something else. The config stays but for layers and history;
    when it was made stays, too, unless ``SOURCE_DATE_EPOCH`` is set. Attestations are left out, as they are about
    layers that are not there any more, unless ``keep_attestations``.

    :raises InvalidReference: when ``image`` or ``tag`` cannot be used
    :raises InvalidPlatform: when it has not all of ``platforms``
    :raises NotFound: when ``image`` names nothing
    :raises ContentError: when a layer is not what the image says, or cannot be unpacked; nothing was published
    """
    origin = parse_location(image)
    target = destination(origin, tag)
    said = source_date_epoch(os.environ)
    async with Places(session) as places:
        found = await places.source(origin)
        source = session.source(found.place)
        before = await images.load(source, found.identifier, platforms=platforms)
        created = text(said) if said is not None else None
        async with images.flatten(
            source,
            before,
            packing=packing_of(layer_format),
            created=created,
            keep_attestations=keep_attestations,
        ) as after:
            notes = losses(before, after, "about layers that were merged")
            return await publish(session, places, await images.load_rest(source, after), target, notes=notes)
