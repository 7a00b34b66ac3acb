"""Putting an edited image where it belongs: by way of an overlay and the engine, so that what it shares with others is
mounted or left where it is, and nothing is named before all of it is there.
"""

from __future__ import annotations

import msgspec

from asyncrane.engine.job import Job, Target
from asyncrane.engine.outcome import Outcome
from asyncrane.errors import InvalidReference
from asyncrane.images.overlay import Overlay, origins
from asyncrane.images.view import Image, Index
from asyncrane.oci.digest import Digest
from asyncrane.operations.places import Places
from asyncrane.session import Session
from asyncrane.stores.locate import Location, parse_location, refuse_registry


class Published(msgspec.Struct, frozen=True):
    """What was put where: ``location`` as it was asked for, ``reference`` by digest. ``notes`` are what there is to say
    about it.
    """

    location: Location
    digest: Digest
    media_type: str
    size: int
    outcome: Outcome
    notes: tuple[str, ...] = ()

    @property
    def reference(self) -> Location:
        """Where it is, by digest."""
        return self.location.at(self.digest)


async def publish(
    session: Session,
    places: Places,
    view: Image | Index,
    location: Location,
    *,
    nondistributable: bool = False,
    notes: tuple[str, ...] = (),
) -> Published:
    """Put ``view``, whose manifests are all at hand, to ``location``: under its tag, or by digest where it has none.

    :raises AsyncraneError: when that fails
    """
    overlay = Overlay(f"edit-{session.next_id()}", session.source)
    overlay.add(view)
    source = session.use(overlay)
    target = await places.target(location)
    job = Job(
        id=session.next_id(),
        source=source,
        targets=(Target(target.place, target.tag, None),),
        digest=view.manifest.digest,
        nondistributable=nondistributable,
        origins=origins(view),
    )
    try:
        outcome = await session.submit(job)
    finally:
        overlay.remove(view)
    places.tell(job, outcome)
    if outcome.failure is not None:
        raise outcome.failure.error()
    made = view.manifest
    return Published(location, made.digest, made.media_type, made.size, outcome, (*notes, *outcome.notes))


def destination(source: Location | None, wanted: str | None) -> Location:
    """Where an edit of ``source`` goes: to ``wanted``, or back, where its tag is moved; what was named by digest gets
    another digest beside it.

    :raises InvalidReference: when ``wanted`` is no image, or it is made of nothing and does not go anywhere
    """
    if wanted is not None:
        refuse_registry(wanted)
        found = parse_location(wanted)
        if found.digest is not None:
            raise InvalidReference(f"{wanted!r} names a digest, and what is made has its own: give a tag")
        return found
    if source is None:
        raise InvalidReference("it is not said where it goes")
    return Location(source.kind, source.path, None if source.digest else source.tag, None)
