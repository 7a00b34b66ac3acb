"""Putting an edited image where it belongs: by way of an overlay and the engine, so that what it shares with others is
mounted or left where it is, and nothing is named before all of it is there.
"""

from __future__ import annotations

import msgspec

from asyncrane.abc import Sink
from asyncrane.engine.job import Job, Target
from asyncrane.engine.outcome import Outcome
from asyncrane.errors import InvalidReference
from asyncrane.images.overlay import Overlay, origins
from asyncrane.images.view import Image, Index, load_rest
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


async def put(
    session: Session,
    view: Image | Index,
    to: str | Sink,
    *,
    tag: str | None = None,
    nondistributable: bool = False,
) -> Outcome:
    """Copy the image ``view``, as it was loaded or edited, to where ``to`` says, or into a store of the caller's, as
    ``tag``. It is tagged when all of it is there; without a tag it is stored by digest.

    Only what is new is sent: what the destination has, or can mount, stays where it is. Stores that ``view`` was loaded
    from must be known to the session (:meth:`asyncrane.Session.use`), unless they are repositories of registries.

    :param nondistributable: copy layers that are normally left where their ``urls`` point
    :raises InvalidReference: when ``to`` is no image, or says what ``tag`` is to say
    :raises AsyncraneError: when it could not be stored; nothing is tagged then
    """
    held = await load_rest(session.source(view.home), view) if isinstance(view, Index) else view
    async with Places(session) as places:
        if isinstance(to, str):
            if tag is not None:
                raise InvalidReference(f"{to!r} says what it is to be called, or nothing does")
            target = await places.target(destination(None, to))
        else:
            target = Target(session.use(to), tag)
        return await _landed(session, places, held, target, nondistributable=nondistributable)


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
    target = msgspec.structs.replace(await places.target(location), digest=None)
    outcome = await _landed(session, places, view, target, nondistributable=nondistributable)
    made = view.manifest
    return Published(location, made.digest, made.media_type, made.size, outcome, (*notes, *outcome.notes))


async def _landed(
    session: Session, places: Places, view: Image | Index, target: Target, *, nondistributable: bool
) -> Outcome:
    """What became of the copy of ``view``.

    :raises AsyncraneError: when it failed
    """
    overlay = Overlay(f"edit-{session.next_id()}", session.source)
    overlay.add(view)
    job = Job(
        id=session.next_id(),
        source=overlay.place,
        targets=(target,),
        digest=view.manifest.digest,
        nondistributable=nondistributable,
        origins=origins(view),
    )
    with session.using(overlay):
        outcome = await session.submit(job)
    places.tell(job, outcome)
    if outcome.failure is not None:
        raise outcome.failure.error()
    return outcome


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
