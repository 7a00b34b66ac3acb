"""Validating images wherever they are: everything is read, each blob once, many at a time, and compared with what is
said of it.
"""

from __future__ import annotations

import os
from collections.abc import Awaitable, Callable, Sequence
from functools import partial
from itertools import count

import anyio
import msgspec

from asyncrane.abc import Source
from asyncrane.archive.inspection import Inspection, inspect_blob
from asyncrane.archive.whole import read_blob
from asyncrane.errors import AsyncraneError, ContentError, InvalidInput, NotFound, UnsupportedManifest
from asyncrane.images.validate import Found, Node, blobs, problems
from asyncrane.oci import media
from asyncrane.oci.descriptor import Descriptor
from asyncrane.oci.digest import Digest
from asyncrane.oci.manifest import Manifest
from asyncrane.oci.nesting import Nesting
from asyncrane.oci.platform import Platform
from asyncrane.oci.select import pick
from asyncrane.operations.places import located
from asyncrane.registry.blobs import exists
from asyncrane.session import Session
from asyncrane.stores.contents import Contents
from asyncrane.stores.layout import open_layout
from asyncrane.stores.locate import parse_location
from asyncrane.stores.remote import Remote
from asyncrane.stores.tarball import open_archive
from asyncrane.stores.tarball_reading import ArchiveSource
from asyncrane.together import all_of

AT_ONCE = 8
"""Blobs of one run that are read at once, where nobody says otherwise."""


class Verdict(msgspec.Struct, frozen=True):
    """What became of one image. ``problem`` says what is wrong with it, in lines; empty when nothing is."""

    name: str
    digest: str = ""
    problem: str = ""

    @property
    def passed(self) -> bool:
        """Whether it is what it says."""
        return not self.problem


async def validate(
    session: Session,
    *,
    remotes: Sequence[str] = (),
    tarballs: Sequence[str] = (),
    layouts: Sequence[str] = (),
    platform: Platform | None = None,
    fast: bool = False,
    on_verdict: Callable[[Verdict], None] | None = None,
) -> list[Verdict]:
    """Judge images, mostly of registries, and all images in archives and in OCI layouts. ``on_verdict`` gets each:
    those of tarballs, then remotes, then those of layouts.

    An index is judged with everything in it, or with ``platform`` its image for that one. ``fast`` only asks whether
    layers are there; manifests and configs are judged all the same.

    :raises InvalidInput: when there is nothing to validate
    :raises AsyncraneError: when one cannot be read at all; the others have been judged
    """
    if not (remotes or tarballs or layouts):
        raise InvalidInput("nothing to validate")
    places = [parse_location(name) for name in remotes]
    registries = {place.repository.registry for place in places if place.kind == "registry"}
    limits = [limit for registry in registries if (limit := session.at_once(registry))]
    judge = _Judge(platform, fast=fast, at_once=min(limits, default=AT_ONCE))
    line = _Line(on_verdict)
    subjects: list[Callable[[], Awaitable[list[Verdict]]]] = [
        *[partial(_in_archive, judge, path) for path in tarballs],
        *[partial(_in_place, judge, session, name) for name in remotes],
        *[partial(_in_layout, judge, path) for path in layouts],
    ]
    async with anyio.create_task_group() as tasks:
        for number, subject in enumerate(subjects):
            tasks.start_soon(line.wait_for, number, subject)
    if line.errors:
        raise line.errors[min(line.errors)]
    return line.verdicts


async def validate_source(source: Source, identifier: str, *, name: str = "", fast: bool = False) -> Verdict:
    """Judge what ``identifier`` names in any source.

    :raises AsyncraneError: when it cannot be read at all
    """
    return await _Judge(None, fast=fast, at_once=AT_ONCE).verdict(name or str(source.place), source, identifier)


class _Line:
    """Verdicts in the order of the subjects, as soon as those before are there."""

    def __init__(self, on_verdict: Callable[[Verdict], None] | None) -> None:
        self.verdicts: list[Verdict] = []
        self.errors: dict[int, AsyncraneError] = {}
        self._on_verdict = on_verdict
        self._ready: dict[int, list[Verdict]] = {}
        self._next = 0

    async def wait_for(self, number: int, subject: Callable[[], Awaitable[list[Verdict]]]) -> None:
        """Judge one subject, and tell what can be told."""
        try:
            self._ready[number] = await subject()
        except AsyncraneError as exc:
            self.errors[number], self._ready[number] = exc, []
        while (ready := self._ready.pop(self._next, None)) is not None:
            self._next += 1
            self.verdicts += ready
            for verdict in ready if self._on_verdict is not None else ():
                self._on_verdict(verdict)  # type: ignore[misc]


async def _in_place(judge: _Judge, session: Session, name: str) -> list[Verdict]:
    async with located(session, name) as found:
        return [await judge.verdict(name, session.source(found.place), found.identifier)]


async def _in_archive(judge: _Judge, path: str) -> list[Verdict]:
    async with open_archive(path) as archive:
        return await _all_of(judge, path, archive, await _archived(archive))


async def _in_layout(judge: _Judge, path: str) -> list[Verdict]:
    async with open_layout(path) as layout:
        return await _all_of(judge, path, layout, await _listed(layout))


async def _all_of(judge: _Judge, name: str, store: Source, images: dict[Digest, str]) -> list[Verdict]:
    """Every image in a file. A single one goes by the file's name, as in crane."""
    if not images:
        raise NotFound(f"{name} holds no image", status=404)
    single = len(images) == 1
    return [
        await judge.verdict(name if single else f"{name}{called}", store, str(digest))
        for digest, called in images.items()
    ]


async def _listed(contents: Contents) -> dict[Digest, str]:
    """What each image in ``index.json`` is called, behind the layout's own name."""
    found: dict[Digest, str] = {}
    for entry in await contents.index():
        called = f":{entry.names[0]}" if entry.names else f"@{entry.descriptor.digest!s}"
        found.setdefault(entry.descriptor.digest, called)
    return found


async def _archived(archive: ArchiveSource) -> dict[Digest, str]:
    """The same for an archive of docker's, where images go by number, too."""
    found: dict[Digest, str] = {}
    for number in count():
        try:
            digest = (await archive.resolve(f"@{number}")).digest
        except NotFound:
            break
        found.setdefault(digest, f"@{number}")
    if not found and archive.layout is not None:
        return await _listed(archive.layout)
    names = {(await archive.resolve(name)).digest: f":{name}" async for name in archive.tags()}
    return {digest: names.get(digest, called) for digest, called in found.items()}


class _Judge:
    """Reads what a verdict needs. One for a whole run, so that all of it together keeps to its limits."""

    def __init__(self, platform: Platform | None, *, fast: bool, at_once: int) -> None:
        self._platform = platform
        self._fast = fast
        self._slots = anyio.Semaphore(at_once)
        self._threads = anyio.CapacityLimiter(os.cpu_count() or 2)

    async def verdict(self, name: str, source: Source, identifier: str) -> Verdict:
        """Judge one image.

        :raises AsyncraneError: when it cannot be read at all
        """
        try:
            root = await self._manifest(source, identifier)
            while self._platform is not None and root.is_index:
                root = await self._manifest(source, str(pick(root, self._platform).digest))
        except ContentError as exc:
            return Verdict(name, problem=f"validating manifest: {exc}")
        node = await self._node(source, root, Nesting())
        found = await self._look(source, node)
        return Verdict(name, str.__str__(root.digest), problems(node, found))

    async def _manifest(self, source: Source, identifier: str) -> Manifest:
        async with self._slots:
            return await source.manifest(identifier)

    async def _node(
        self, source: Source, manifest: Manifest, nesting: Nesting, entry: Descriptor | None = None, depth: int = 0
    ) -> Node:
        """``manifest`` with its config, or with everything it lists."""
        if manifest.is_index:
            try:
                listed = nesting.entries(manifest, depth)
            except UnsupportedManifest as exc:
                return Node(problem=str(exc), entry=entry)
            return Node(manifest, entry=entry, children=await self._children(source, listed, nesting, depth))
        described = manifest.config()
        if described is None:
            return Node(manifest, entry=entry)
        try:
            async with self._slots:
                return Node(manifest, config=await read_blob(source, described), entry=entry)
        except (ContentError, NotFound) as exc:
            return Node(manifest, config_problem=str(exc), entry=entry)

    async def _children(
        self, source: Source, entries: Sequence[Descriptor], nesting: Nesting, depth: int
    ) -> tuple[Node, ...]:
        async def read(entry: Descriptor) -> Node:
            if entry.media_type not in media.MANIFESTS:
                return Node(entry=entry)  # a blob: an index may list anything
            try:
                manifest = await self._manifest(source, str(entry.digest))
            except (ContentError, NotFound) as exc:
                return Node(problem=str(exc), entry=entry)
            return await self._node(source, manifest, nesting, entry, depth + 1)

        return tuple(await all_of(entries, read))

    async def _look(self, source: Source, node: Node) -> Found:
        """What all blobs are, each read once, however many images have it."""
        wanted: dict[Digest, tuple[Descriptor, bool]] = {}
        for blob, layer in blobs(node):
            known = wanted.get(blob.digest)
            wanted[blob.digest] = (blob, layer or (known is not None and known[1]))

        async def look(one: tuple[Descriptor, bool]) -> tuple[Digest, Inspection | str | None]:
            blob, layer = one
            async with self._slots:
                try:
                    return blob.digest, await self._inspect(source, blob, layer=layer)
                except NotFound as exc:
                    # where its urls point nobody has to have it
                    return blob.digest, None if media.is_nondistributable(blob.media_type) else str(exc)
                except ContentError as exc:
                    return blob.digest, str(exc)

        largest_first = sorted(wanted.values(), key=lambda one: -one[0].size)
        return dict(await all_of(largest_first, look))

    async def _inspect(self, source: Source, blob: Descriptor, *, layer: bool) -> Inspection | None:
        if not self._fast:
            return await inspect_blob(source, blob, layer=layer, threads=self._threads)
        if isinstance(source, Remote):
            if not await exists(source.origin, source.place.repository, blob.digest):
                raise NotFound(f"{source.place} has no blob {blob.digest!s}", status=404)
        else:
            async with source.open(blob):
                pass
        return None
