"""Comparing images where they come from with where they are: by digest, or down to the last blob."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Iterable
from functools import partial
from typing import TypeAlias

import anyio
import msgspec

from asyncrane.engine.transfer import read_whole
from asyncrane.errors import AsyncraneError, ContentError, Failure, NotFound
from asyncrane.mirror.crew import Crew, Errand
from asyncrane.mirror.difference import Difference, Kind, Totals
from asyncrane.mirror.reading_back import Image, ReadBack
from asyncrane.oci import media
from asyncrane.oci.descriptor import Descriptor
from asyncrane.oci.digest import Digest
from asyncrane.oci.manifest import Manifest
from asyncrane.oci.platform import Platform
from asyncrane.oci.reference import Repository
from asyncrane.oci.select import check_image, pick, strip
from asyncrane.session import Session
from asyncrane.stores.remote import Remote

AT_ONCE = 16
"""Images, manifests or blobs that are looked at at the same time, where the session sets no number."""

_LARGEST_CONFIG = 8 * 1024 * 1024

Sink: TypeAlias = Callable[[Difference, Image], None]
"""Takes in a difference, and the image it is one of."""

_OF_TAGS = frozenset({"missing", "different"})

_Answer: TypeAlias = Digest | Failure | None
"""What a name stands for: nothing, or nobody knows."""


class Route(msgspec.Struct, frozen=True):
    """Two repositories, and how images get from the one to the other."""

    source: Repository
    destination: Repository
    platforms: tuple[Platform, ...] = ()
    referrers: bool = True
    nondistributable: bool = False


class Ledger:
    """What has been looked at, and told, in one destination repository, whatever the sources; ``limiter`` bounds how
    much is looked at at the same time, here and wherever else it is shared; of ``tags`` has been told already.
    """

    __slots__ = ("blobs", "limiter", "told")

    def __init__(self, limiter: anyio.CapacityLimiter, tags: Iterable[str] = ()) -> None:
        self.limiter = limiter
        self.blobs: set[bytes] = set()
        self.told: set[tuple[str, ...]] = {("tag", tag) for tag in tags}


def width(session: Session, registries: Iterable[str]) -> int:
    """How much is looked at at the same time, for none of ``registries`` to be asked more than it may be."""
    return min((session.at_once(registry) or AT_ONCE for registry in registries), default=AT_ONCE)


async def compare(
    session: Session,
    route: Route,
    images: Iterable[Image],
    *,
    deep: bool = False,
    listing: Iterable[str] | None = None,
    ledger: Ledger | None = None,
    sink: Sink,
) -> Totals:
    """Compare ``images`` along ``route``; only reads. One HEAD per image and side, and where platforms are chosen a
    GET at the source. ``deep`` reads every manifest back and asks for every blob and everything attached (G4).

    :param listing: all tags of the source, which spare questions about attachments
    :param ledger: shared by comparisons with one destination
    """
    size = width(session, (route.source.registry, route.destination.registry))
    comparison = _Comparison(
        session, route, deep=deep, ledger=ledger or Ledger(anyio.CapacityLimiter(size)), sink=sink, listing=listing
    )
    return await comparison.run(images, size)


class _Comparison:
    def __init__(
        self,
        session: Session,
        route: Route,
        *,
        deep: bool,
        ledger: Ledger,
        sink: Sink,
        listing: Iterable[str] | None,
    ) -> None:
        self._route = route
        self._ledger = ledger
        self._sink = sink
        self._source = session.remote(route.source)
        self._destination = session.remote(route.destination, writing=True)
        self._apart = route.source.registry != route.destination.registry
        self._crew: Crew | None = None
        self._compared = 0
        self._differences = 0
        self._deep: ReadBack | None = None
        if deep:
            self._deep = ReadBack(
                self._source,
                self._destination,
                add=self._add,
                tell=self._tell,
                asked=ledger.blobs,
                referrers=route.referrers,
                nondistributable=route.nondistributable,
                listing=listing,
            )

    async def run(self, images: Iterable[Image], size: int) -> Totals:
        errands: Iterable[Errand] = (partial(self._image, image) for image in images)
        self._crew = Crew(errands, size=size, limiter=self._ledger.limiter)
        await self._crew.run()
        return Totals(self._compared, self._differences)

    def _add(self, errand: Errand) -> None:
        if self._crew is not None:
            self._crew.add(errand)

    async def _image(self, image: Image) -> None:
        self._compared += 1
        expected, found = await self._both(image)
        match expected:
            case None:
                self._tell("unreadable", image, "", detail=f"{image.name} names nothing at the source")
            case Failure():
                self._tell("unreadable", image, "", detail=expected.message)
            case _:
                self._judge(image, expected, found)

    def _judge(self, image: Image, expected: Digest, found: _Answer) -> None:
        match found:
            case None:
                self._tell("missing", image, expected)
            case Failure():
                self._tell("unreadable", image, expected, detail=found.message)
            case _ if found != expected:
                self._tell("different", image, expected, found=found)
            case _:
                if self._deep is not None:
                    self._deep.look(image, expected)

    async def _both(self, image: Image) -> tuple[_Answer, _Answer]:
        """What should be there, and what is."""
        if ":" in image.name and not self._route.platforms:
            expected: _Answer = Digest.parse(image.name)
        elif self._apart and image.at and not self._route.platforms:
            return await self._at_once(image)
        else:
            expected = await _answer(self._expected(image.name))
        if not isinstance(expected, Digest):
            return expected, None
        return expected, await _answer(_named(self._destination, image.at or expected))

    async def _at_once(self, image: Image) -> tuple[_Answer, _Answer]:
        found: list[_Answer] = [None]

        async def look() -> None:
            found[0] = await _answer(_named(self._destination, image.at))

        async with anyio.create_task_group() as tasks:
            tasks.start_soon(look)
            expected = await _answer(_named(self._source, image.name))
        return expected, found[0]

    async def _expected(self, name: str) -> Digest:
        if not self._route.platforms:
            return await _named(self._source, name)
        return await chosen(self._source, name, self._route.platforms)

    def _tell(
        self,
        kind: Kind,
        image: Image,
        expected: str,
        *,
        found: str = "",
        within: str = "",
        tag: str = "",
        detail: str = "",
    ) -> None:
        """Each difference once, whatever leads to it."""
        digest = str(expected)
        at = image.at or (image.name if ":" in image.name else "")
        if tag or (image.at and kind in _OF_TAGS):  # cosign's tags may be among the images, too
            key: tuple[str, ...] = ("tag", tag or image.at)
        elif kind == "unreadable":
            key = (kind, digest, str(within), *(() if within else (image.name, image.at)))
        else:
            key = (kind, digest)
        if key in self._ledger.told:
            return
        self._ledger.told.add(key)
        self._differences += 1
        self._sink(
            Difference(
                kind,
                source=_name(self._route.source, image.name),
                destination=_name(self._route.destination, at),
                expected=digest,
                found=str(found),
                within=str(within),
                tag=tag,
                detail=detail,
            ),
            image,
        )


async def chosen(source: Remote, identifier: str, platforms: tuple[Platform, ...]) -> Digest:
    """What a copy of ``identifier`` for ``platforms`` is: one choice always gives the same digest.

    :raises InvalidPlatform: when it has none of them
    """
    root = await source.manifest(identifier)
    if not root.is_index:
        check_image(await _platform(source, root), platforms)
        return root.digest
    while len(platforms) == 1:
        child = pick(root, platforms[0])
        if child.media_type not in media.INDEXES:
            return child.digest
        root = await source.manifest(str(child.digest))
    return strip(root, platforms).digest


async def _platform(source: Remote, image: Manifest) -> Platform | None:
    config = image.config()
    if config is None or config.media_type not in media.CONFIGS:
        return Platform.read(image.fields() if image.media_type in media.SCHEMA1 else None)
    body = await read_whole(source, config, limit=_LARGEST_CONFIG)
    try:
        return Platform.read(msgspec.json.decode(body))
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError) as exc:
        raise ContentError(f"config {config.digest!s} is not JSON: {str(exc)[:120]}") from exc


async def _named(remote: Remote, identifier: str) -> Digest:
    found: Descriptor = await remote.resolve(str(identifier))
    return found.digest


async def _answer(asked: Awaitable[Digest]) -> _Answer:
    try:
        return await asked
    except NotFound:
        return None
    except AsyncraneError as exc:
        return Failure.of(exc)


def _name(repository: Repository, identifier: str) -> str:
    separator = "@" if ":" in identifier else ":" if identifier else ""
    return f"{repository}{separator}{identifier}"
