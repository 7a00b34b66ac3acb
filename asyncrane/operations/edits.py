"""Making the edits that jobs ask for: reading what they are made from, each thing once, and putting it together."""

from __future__ import annotations

import re
from collections.abc import Awaitable, Callable, Mapping, Sequence
from functools import partial
from pathlib import Path
from typing import Generic, TypeVar

import anyio
import anyio.to_thread
import msgspec

from asyncrane.abc import Lister, Place
from asyncrane.archive.formats import LayerFormat, Packing, packing_of
from asyncrane.archive.layers import Layer, directory_layer, layer_file, windows_layer
from asyncrane.archive.streaming import STDIN, Kind, kind_of
from asyncrane.errors import AsyncraneError, ContentError, Failure, InvalidInput, InvalidReference, UnsupportedManifest
from asyncrane.images.append import append_layers, is_windows
from asyncrane.images.empty import empty_image
from asyncrane.images.history import HistoryEntry
from asyncrane.images.mutate import Changes, mutate
from asyncrane.images.rebase import BASE_DIGEST, BASE_NAME, detect, rebase
from asyncrane.images.view import Image, View, images, load, load_rest
from asyncrane.oci.digest import Digest
from asyncrane.oci.platform import DEFAULT_PLATFORM
from asyncrane.oci.reference import Reference
from asyncrane.operations.jobfile import AppendJob, BulkJob, MutateJob, RebaseJob
from asyncrane.operations.losses import losses
from asyncrane.operations.moments import text
from asyncrane.operations.places import SINGLE, TOOK_ONE, Found
from asyncrane.operations.streams import Streams
from asyncrane.session import Session
from asyncrane.stores.cached import AT_ONCE, CachedSource, ReadCache
from asyncrane.stores.locate import Location
from asyncrane.together import all_of

CANDIDATES = 1000
"""Tags of a repository that are looked at to find an old base."""

_DIGEST_TAG = re.compile(r"sha(256|512)-[0-9a-f]+(\..*)?")

Key = TypeVar("Key")
Made = TypeVar("Made")


class Edited(msgspec.Struct, frozen=True):
    """An image before and after, the digest of what the source named, and what there is to say about it."""

    before: View
    after: View
    root: Digest
    notes: tuple[str, ...] = ()

    @property
    def unchanged(self) -> bool:
        """Whether what is there already is what is wanted."""
        return self.after is self.before and (isinstance(self.after, Image) or self.after.manifest.digest == self.root)


class Editor:
    """Makes the edits of one run.

    :param where: what files and directories are called
    :param created: when layers are made, unless a job says otherwise: seconds since 1970, also for files in directories
    :param layer_format: what new layers are, unless a job says otherwise
    :param streams: reads layers that can be read once, where that is possible
    """

    def __init__(
        self,
        session: Session,
        *,
        where: Callable[[Location], Found],
        created: int = 0,
        layer_format: LayerFormat | None = None,
        streams: Streams | None = None,
    ) -> None:
        self._session = session
        self._where = where
        self._created = created
        self._layer_format = layer_format
        self._streams = streams
        self._cache = ReadCache(at_once=lambda registry: session.at_once(registry) or AT_ONCE)
        self._layers: _Once[tuple[str, bool, Packing | None], Layer] = _Once()
        self._candidates: _Once[Location, list[tuple[Location, View]]] = _Once()

    async def edit(self, job: BulkJob, target: Place) -> Edited:
        """Read what ``job`` is made from, and make it. Streams are uploaded to ``target``, when all else is at hand.

        :raises AsyncraneError: when that cannot be had, or cannot be done to it
        """
        before, root, notes = await self._begin(job)
        match job:
            case RebaseJob():
                after, found = await self._rebased(job, before)
                notes += found
            case AppendJob():
                after = await self._append(job, before, root, target)
            case MutateJob():
                after = await self._mutated(job, before, target)
            case _:
                raise InvalidInput(f"{job!r} is no edit")
        edited = Edited(before, after, root, (*notes, *losses(before, after, "about images that were edited")))
        if edited.unchanged or isinstance(after, Image):
            return edited
        return msgspec.structs.replace(edited, after=await load_rest(self._source(after.home), after))

    async def _begin(self, job: BulkJob) -> tuple[View, Digest, list[str]]:
        """What is to be edited, the digest of what the source names, and what there is to say."""
        if isinstance(job, AppendJob) and job.scratch is not None:
            if len(job.platforms) > 1:
                raise InvalidInput("an image that is made of nothing is for one platform")
            empty = empty_image(job.scratch, job.platforms[0] if job.platforms else None)
            return empty, empty.manifest.digest, []
        found = self._where(job.source)
        source = self._source(found.place)
        named = await source.manifest(found.identifier)
        wanted, notes = job.platforms, []
        if named.is_index and not wanted and any(target.kind in SINGLE for target in job.targets):
            wanted = (DEFAULT_PLATFORM,)
            notes.append(TOOK_ONE)
        view = await load(source, str(named.digest), platforms=wanted)
        if view.manifest.digest != named.digest:
            _check_narrowing(job)
        return view, named.digest, notes

    def _source(self, place: Place) -> CachedSource:
        """A place, read through this run's cache."""
        return self._cache.of(self._session.source(place))

    async def _append(self, job: AppendJob, before: View, root: Digest, target: Place) -> View:
        default = self._default_history(job.created, "append")
        after = await self._appended(job, before, target, job.history.otherwise(default))
        noted: dict[str, str] = {}
        if job.set_base_image_annotations and job.scratch is None:
            digest = before.manifest.digest if isinstance(before, Image) else root
            noted[BASE_DIGEST] = str.__str__(digest)
            if job.source.digest is None:
                noted[BASE_NAME] = str(job.source)
        if noted or job.created is not None:
            after = mutate(after, Changes(annotations=noted, created=job.created))
        return after

    async def _mutated(self, job: MutateJob, before: View, target: Place) -> View:
        changes, default = job.changes, self._default_history(job.changes.created, "mutate")
        if job.layers:
            before = await self._appended(job, before, target, (changes.history or default).otherwise(default))
        noted = changes.history.otherwise(default) if changes.history is not None and not job.layers else None
        return mutate(before, msgspec.structs.replace(changes, history=noted))

    def _default_history(self, created: str | None, command: str) -> HistoryEntry:
        return HistoryEntry(created=created or text(self._created), created_by=f"asyncrane {command}")

    async def _appended(self, job: AppendJob | MutateJob, view: View, target: Place, history: HistoryEntry) -> View:
        paths, packing = job.layers, packing_of(job.layer_format or self._layer_format)
        windows = [is_windows(image) for image in images(view)]
        kinds = await anyio.to_thread.run_sync(_kinds, paths)
        if sum(kind == "pipe" for kind in kinds) and any(windows):
            raise InvalidInput("layers for Windows are rebuilt, which takes a file or a directory: a pipe is read once")
        rebuilt = [await self._windows_layer(path, packing) for path in paths] if any(windows) else []
        layers: dict[int, Layer] = {}
        if not all(windows):
            # files first: what is wrong with them is known before a stream is touched
            for number in sorted(range(len(paths)), key=lambda at: kinds[at] != "file"):
                layers[number] = await self._layer(paths[number], kinds[number], packing, target)
        return append_layers(
            view,
            [layers[number] for number in sorted(layers)],
            windows=rebuilt,
            history=history,
        )

    async def _windows_layer(self, path: Path, packing: Packing | None) -> Layer:
        make = partial(windows_layer, path, packing, newest=self._created)
        return await self._layers.get((str(path), True, packing), make)

    async def _layer(self, path: Path, kind: Kind, packing: Packing | None, target: Place) -> Layer:
        if self._streams is not None:
            streams = self._streams
            if kind == "file":
                return await streams.file(path, packing, target)
            return await streams.layer(str(path), packing, target)
        make = partial(layer_file, path, packing)
        if kind == "directory":
            make = partial(directory_layer, path, packing, newest=self._created)
        return await self._layers.get((str(path), False, packing), make)

    async def _rebased(self, job: RebaseJob, view: View) -> tuple[View, list[str]]:
        noted = {image.manifest.digest: _noted(image, view) for image in images(view)}
        new_base = job.new_base or _noted_name(job, noted)
        new = await self._load(new_base)
        olds, notes = await self._old_bases(job, view, new_base, noted)
        history = job.history and job.history.otherwise(self._default_history(None, "rebase"))
        after = rebase(view, lambda image: olds[image.manifest.digest], new, name=str(new_base), history=history)
        return after, notes

    async def _old_bases(
        self, job: RebaseJob, view: View, new_base: Location, noted: Mapping[Digest, _Noted]
    ) -> tuple[dict[Digest, View], list[str]]:
        """What each image stands on: as the job says, as the image says, or as it looks."""
        if job.old_base is not None:
            return dict.fromkeys(noted, await self._load(job.old_base)), []
        if all(base.digest for base in noted.values()):
            return {image: await self._load(base.old(new_base)) for image, base in noted.items()}, []
        if not job.detect:
            raise ContentError(f"nothing says what {job.source} stands on: name its 'old_base', or 'detect' it")
        repository = Location(new_base.kind, new_base.path)
        candidates = await self._candidates.get(repository, partial(self._read_tags, repository))
        others = [found for found in candidates if found[1].manifest.digest != view.manifest.digest]
        best = detect(view, [candidate for _, candidate in others])
        if best is None:
            raise ContentError(f"{job.source} stands on none of the {len(others)} images in {repository}")
        reference, base = others[best]
        return dict.fromkeys(noted, base), [f"stands on {reference}, by its layers"]

    async def _load(self, location: Location) -> View:
        found = self._where(location)
        return await load(self._source(found.place), found.identifier)

    async def _read_tags(self, repository: Location) -> list[tuple[Location, View]]:
        """Every image in ``repository`` that has a tag."""
        store = self._session.source(self._where(repository).place)
        if not isinstance(store, Lister):
            raise InvalidInput(f"{repository} has no list of images: name the 'old_base'")
        tags: list[str] = []
        async for tag in store.tags():
            if not _DIGEST_TAG.fullmatch(tag):
                tags.append(tag)
            if len(tags) > CANDIDATES:
                raise InvalidInput(f"{repository} has more than {CANDIDATES} tags: name the 'old_base'")

        async def read(tag: str) -> View | None:
            try:
                return await load(self._source(store.place), tag)
            except UnsupportedManifest:  # no image, so no base either
                return None

        found = zip(tags, await all_of(tags, read), strict=True)
        return [(repository.named(tag), view) for tag, view in found if view is not None]

    def __repr__(self) -> str:
        return f"Editor({self._cache!r})"


class _Noted(msgspec.Struct, frozen=True):
    """What an image's annotations say of its base; empty where they say nothing."""

    name: str
    digest: str

    def old(self, new_base: Location) -> Location:
        """The base it was made on: the repository of that name, or the new base's."""
        repository = _in_registry(self.name) if self.name else new_base
        return repository.at(Digest.parse(self.digest))


def _noted(image: Image, view: View) -> _Noted:
    here, above = image.manifest.annotations, view.manifest.annotations
    return _Noted(*[here.get(key) or above.get(key) or "" for key in (BASE_NAME, BASE_DIGEST)])


def _noted_name(job: RebaseJob, noted: Mapping[Digest, _Noted]) -> Location:
    names = {base.name for base in noted.values()}
    if len(names) != 1 or not all(names):
        raise ContentError(f"nothing says what {job.source} is to stand on: name its 'new_base'")
    try:
        return _in_registry(names.pop())
    except InvalidReference as exc:
        raise ContentError(f"{job.source} says that it stands on something that cannot be: {exc}") from exc


def _in_registry(name: str) -> Location:
    """What an image says of another one: never a file of this machine."""
    reference = Reference.parse(name)
    return Location("registry", str(reference.repository), reference.tag, reference.digest)


def _kinds(paths: Sequence[Path]) -> list[Kind]:
    """What kinds of files there are.

    :raises InvalidInput: when one is missing or of no use, or stdin is there twice
    """
    if [str(path) for path in paths].count(STDIN) > 1:
        raise InvalidInput("stdin can be one layer only")
    return [kind_of(str(path)) for path in paths]


def _check_narrowing(job: BulkJob) -> None:
    """A tag that names an index is not to name a part of it unasked.

    :raises InvalidInput: when it would
    """
    for target in job.targets:
        if target.tag is not None and (target.kind, target.path, target.tag) == _name(job.source):
            raise InvalidInput(f"{target} names an index, and would name a part of it: say another tag")


def _name(location: Location) -> tuple[str, str, str | None]:
    return location.kind, location.path, location.tag


class _Once(Generic[Key, Made]):
    """Things made once for all who ask, and what became of those that could not be made."""

    def __init__(self) -> None:
        self._made: dict[Key, Made | Failure] = {}
        self._locks: dict[Key, anyio.Lock] = {}

    async def get(self, key: Key, make: Callable[[], Awaitable[Made]]) -> Made:
        async with self._locks.setdefault(key, anyio.Lock()):
            if key not in self._made:
                try:
                    self._made[key] = await make()
                except AsyncraneError as exc:
                    self._made[key] = Failure.of(exc)
                    raise
        made = self._made[key]
        if isinstance(made, Failure):
            raise made.error()
        return made
