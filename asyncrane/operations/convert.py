"""Converting images: their layers to another compression or to eStargz, their media types to the other family. What
images of one run share is converted once (K7).
"""

from __future__ import annotations

import re
from collections.abc import AsyncIterator, Callable, Iterator, Mapping, Sequence
from contextlib import asynccontextmanager, nullcontext
from typing import Literal, TypeAlias

import anyio
import msgspec

from asyncrane.abc import Lister, Place, Source
from asyncrane.archive.formats import Format, Packing
from asyncrane.archive.packing import Layer
from asyncrane.engine.job import Job, Target
from asyncrane.engine.outcome import Outcome, TargetOutcome
from asyncrane.errors import Failure, InvalidInput, InvalidReference, UnsupportedManifest
from asyncrane.images.convert import Repacked, convertible, retyped, with_layers
from asyncrane.images.family import DOCKER, Family
from asyncrane.images.overlay import Overlay, origins
from asyncrane.images.view import Image, Index, Opaque, View, load, load_rest
from asyncrane.oci.digest import Digest
from asyncrane.oci.platform import Platform
from asyncrane.operations.losses import losses
from asyncrane.operations.places import Found, Places
from asyncrane.operations.repacking import Repacker
from asyncrane.session import Session
from asyncrane.stores.cached import AT_ONCE, ReadCache
from asyncrane.stores.locate import Location, parse_location, parse_repository, refuse_registry

Layers: TypeAlias = Format | Literal["keep"]

WINDOW = 8
"""Images under way at once."""

_DIGEST_TAG = re.compile(r"sha(256|512)-[0-9a-f]+(\..*)?")
"""Tags of what is attached to another manifest, by whose digest they are called."""


class Replaced(msgspec.Struct, frozen=True):
    """What a layer, an image's manifest or an index became."""

    kind: Literal["layer", "manifest", "index"]
    before: Digest
    after: Digest


class Converted(msgspec.Struct, frozen=True):
    """What became of one image: of its layers first, of what the source named last."""

    outcome: Outcome
    replaced: tuple[Replaced, ...] = ()


class Conversion(msgspec.Struct, frozen=True):
    """What is to be done: how layers are packed, at which level, and which family of media types the image gets.

    Without a ``level`` layers that are packed so already are left alone. ``None`` keeps the family, unless a Docker
    image gets zstd layers, for which Docker has no type.
    """

    layers: Layers = "keep"
    level: int | None = None
    family: Family | None = None

    @property
    def packing(self) -> Packing | None:
        """How layers are to be packed, ``None`` when they stay."""
        return None if self.layers == "keep" else Packing(self.layers, self.level)

    def check(self) -> None:
        """See whether it can be done.

        :raises InvalidInput: when it cannot, or nothing is to be done
        """
        packing = self.packing
        if packing is not None:
            packing.check()
        elif self.level is not None:
            raise InvalidInput("a level means nothing to layers that are kept")
        elif self.family is None:
            raise InvalidInput("nothing to convert: neither layers nor media types")
        if self.family == DOCKER and self.layers == "zstd":
            raise InvalidInput("Docker's media types have none for zstd layers")


async def convert(
    session: Session,
    source: str,
    destination: str,
    conversion: Conversion,
    *,
    platforms: Sequence[Platform] = (),
    nondistributable: bool = False,
) -> Converted:
    """Put ``source``, converted, to ``destination``. Of an index every image is converted; one of ``platforms`` chooses
    that image, several an index of these.

    :raises InvalidInput: when the conversion or a name cannot be used
    :raises ContentError: when a layer is not what the image says
    :raises UnsupportedManifest: when it is no image, or cannot be of that family
    """
    done = await convert_all(
        session, [(source, destination)], conversion, platforms=platforms, nondistributable=nondistributable
    )
    if (failure := done[0].outcome.failure) is not None:
        raise failure.error()
    return done[0]


async def convert_all(
    session: Session,
    pairs: Sequence[tuple[str, str]],
    conversion: Conversion,
    *,
    all_tags: bool = False,
    platforms: Sequence[Platform] = (),
    nondistributable: bool = False,
    on_converted: Callable[[Converted], None] | None = None,
) -> list[Converted]:
    """Convert every pair of source and destination in one run; with ``all_tags`` they are repositories. What is no
    image is copied as it is there, and what is attached to others is left out.

    What fails is in the outcomes; the others go on.

    :raises InvalidInput: when the conversion or a name cannot be used, before anything is converted
    """
    conversion.check()
    async with Places(session) as places:
        run = _Run(session, places, conversion, tuple(platforms), nondistributable=nondistributable, lenient=all_tags)
        wanted = [await _pair(places, *pair) for pair in pairs] if not all_tags else await _tags(places, pairs)
        with session.using(run.overlay), run.repacker or nullcontext():
            return await run.all(wanted, on_converted)


class _Wanted(msgspec.Struct, frozen=True):
    """One image to convert, opened."""

    source: Location
    found: Found
    destination: Location
    target: Target


async def _pair(places: Places, source: str, destination: str) -> _Wanted:
    refuse_registry(destination)
    origin, target = parse_location(source), parse_location(destination)
    if target.digest is not None:
        raise InvalidReference(f"{destination!r} names a digest, and what is made has its own: give a tag")
    return _Wanted(origin, await places.source(origin), target, await places.target(target))


async def _tags(places: Places, pairs: Sequence[tuple[str, str]]) -> list[_Wanted]:
    wanted: list[_Wanted] = []
    for source, destination in pairs:
        refuse_registry(destination)
        origin, there = parse_repository(source), parse_repository(destination)
        store = await places.store(origin)
        if not isinstance(store, Lister):
            raise InvalidReference(f"{source!r} cannot say what tags it has")
        target = await places.target(there)
        async for tag in store.tags():
            if not _DIGEST_TAG.fullmatch(tag):
                found = Found((await places.source(origin.named(tag))).place, tag)
                to = msgspec.structs.replace(target, tag=tag)
                wanted.append(_Wanted(origin.named(tag), found, there.named(tag), to))
    return wanted


class _Run:
    """All images. ``lenient``: what is no image is copied."""

    def __init__(
        self,
        session: Session,
        places: Places,
        conversion: Conversion,
        platforms: tuple[Platform, ...],
        *,
        nondistributable: bool,
        lenient: bool,
    ) -> None:
        packing = conversion.packing
        self.repacker = Repacker(packing) if packing is not None else None
        self._session = session
        self._places = places
        self._conversion = conversion
        self._platforms = platforms
        self._nondistributable = nondistributable
        self._lenient = lenient
        self._cache = ReadCache(at_once=lambda registry: session.at_once(registry) or AT_ONCE)
        self.overlay = Overlay(f"convert-{session.next_id()}", session.source)

    async def all(self, wanted: Sequence[_Wanted], on_converted: Callable[[Converted], None] | None) -> list[Converted]:
        done: dict[int, Converted] = {}
        slots = anyio.Semaphore(WINDOW)

        async def one(number: int) -> None:
            try:
                done[number] = await self._safely(wanted[number])
                if on_converted is not None:
                    on_converted(done[number])
            finally:
                slots.release()

        async with anyio.create_task_group() as tasks:
            for number in range(len(wanted)):
                await slots.acquire()
                tasks.start_soon(one, number)
        return [done[number] for number in range(len(wanted))]

    async def _safely(self, wanted: _Wanted) -> Converted:
        try:
            return await self._convert(wanted)
        except Exception as exc:  # one image's surprise is its failure, never the whole run's
            lost = TargetOutcome(str(wanted.destination), "failed", Failure.of(exc))
            return Converted(Outcome(str(wanted.source), targets=(lost,)))

    async def _convert(self, wanted: _Wanted) -> Converted:
        source = self._source(wanted)
        named = await source.manifest(wanted.found.identifier)
        try:
            before = await load(source, str(named.digest), platforms=self._platforms)
        except UnsupportedManifest:
            if not self._lenient:
                raise
            copying = self._job(wanted, wanted.found.place, named.digest)
            return Converted(await self._copied(wanted, copying, named.digest, ("no image: copied as it is",)))
        async with self._repacked(source, before) as repacked:
            after = with_layers(before, repacked)
            if self._conversion.family is not None:
                after = retyped(after, self._conversion.family)
            outcome = await self._published(wanted, named.digest, before, after)
            if outcome.failure is None and self.repacker is not None and wanted.target.place.site.mounts:
                new = [digest for digest, found in repacked.items() if isinstance(found, Layer)]
                self.repacker.landed(new, wanted.target.place)
        return Converted(outcome, _distinct(before, after, named.digest))

    @asynccontextmanager
    async def _repacked(self, source: Source, view: View) -> AsyncIterator[Mapping[Digest, Repacked]]:
        if self.repacker is None:
            yield {}
        else:
            async with self.repacker.layers(source, convertible(view)) as found:
                yield found

    async def _published(self, wanted: _Wanted, root: Digest, before: View, after: View) -> Outcome:
        if after is before and (isinstance(after, Image) or not self._platforms):
            copying = self._job(wanted, wanted.found.place, after.manifest.digest)
            return await self._copied(wanted, copying, root, ())
        held = await load_rest(self._source(wanted), after)
        self.overlay.add(held)
        try:
            copying = self._job(wanted, self.overlay.place, held.manifest.digest)
            copying = msgspec.structs.replace(copying, origins=origins(held))
            return await self._copied(wanted, copying, root, losses(before, after, "about images that were converted"))
        finally:
            self.overlay.remove(held)

    def _source(self, wanted: _Wanted) -> Source:
        return self._cache.of(self._session.source(wanted.found.place))

    def _job(self, wanted: _Wanted, source: Place, digest: Digest) -> Job:
        return Job(
            id=self._session.next_id(),
            source=source,
            targets=(wanted.target,),
            digest=digest,
            nondistributable=self._nondistributable,
        )

    async def _copied(self, wanted: _Wanted, job: Job, root: Digest, notes: tuple[str, ...]) -> Outcome:
        outcome = await self._session.submit(job)
        self._places.tell(job, outcome)
        return msgspec.structs.replace(
            outcome, source=str(wanted.source), root=str(root), notes=(*notes, *outcome.notes)
        )


def _distinct(before: View, after: View, root: Digest) -> tuple[Replaced, ...]:
    """Every change once, ``root`` for what was chosen out of it."""
    found = {
        (change.kind, change.before): change for change in _changes(before, after) if change.before != change.after
    }
    kind: Literal["manifest", "index"] = "index" if isinstance(after, Index) else "manifest"
    found.pop((kind, before.manifest.digest), None)
    return (*found.values(), Replaced(kind, root, after.manifest.digest))


def _changes(before: View, after: View) -> Iterator[Replaced]:
    if isinstance(before, Image) and isinstance(after, Image):
        for old, new in zip(before.manifest.layers(), after.manifest.layers(), strict=True):
            yield Replaced("layer", old.digest, new.digest)
        yield Replaced("manifest", before.manifest.digest, after.manifest.digest)
    elif isinstance(before, Index) and isinstance(after, Index):
        pairs = [[child for child in view.children if not isinstance(child, Opaque)] for view in (before, after)]
        for old_child, new_child in zip(*pairs, strict=True):
            yield from _changes(old_child, new_child)
        yield Replaced("index", before.manifest.digest, after.manifest.digest)
