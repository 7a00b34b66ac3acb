"""Between registries and files: pulling images into an archive or a layout, and pushing them from there."""

from __future__ import annotations

import os
from collections.abc import Sequence
from contextlib import AbstractAsyncContextManager
from os import PathLike
from pathlib import Path
from typing import Literal, TypeAlias

import anyio
import anyio.to_thread
import msgspec

from asyncrane.abc import Place, Site, Source, Stream
from asyncrane.archive.whole import read_blob
from asyncrane.engine.job import Job, Target
from asyncrane.engine.outcome import Outcome
from asyncrane.errors import ContentError, InvalidInput, InvalidReference, UnsupportedManifest
from asyncrane.oci import media
from asyncrane.oci.descriptor import Descriptor
from asyncrane.oci.digest import Digest
from asyncrane.oci.manifest import Manifest
from asyncrane.oci.platform import DEFAULT_PLATFORM, Platform
from asyncrane.oci.reference import Reference, Repository, is_bare_registry
from asyncrane.oci.select import check_image, pick
from asyncrane.operations.bundles import earlier_bundles, left_out
from asyncrane.session import Session
from asyncrane.stores.files import complaining
from asyncrane.stores.layout import Layout, open_layout
from asyncrane.stores.pulled import BlobCache, PulledSource
from asyncrane.stores.remote import Remote
from asyncrane.stores.tarball import open_archive
from asyncrane.stores.tarball_reading import ArchiveSource

PullFormat: TypeAlias = Literal["tarball", "legacy", "oci"]
"""``tarball``: what ``docker load`` reads, layers as they are in the registry; ``legacy``: the same as docker once
wrote it; ``oci``: an OCI image layout, a directory.
"""

FROM_DIGEST = "i-was-a-digest"
"""The tag, in an archive, of an image that was asked for by digest: crane's."""

STREAM = "-"
"""The path that means stdin or stdout."""


async def pull(
    session: Session,
    images: Sequence[str],
    path: str | PathLike[str],
    *,
    form: PullFormat = "tarball",
    platform: Platform | None = None,
    annotate_ref: bool = False,
    cache: Path | None = None,
    since: Sequence[str | PathLike[str]] = (),
) -> list[Descriptor]:
    """Save ``images`` in the archive or layout ``path``, and say what was saved.

    An archive (``-``: on stdout) holds single images: of a multi-arch one that for ``platform``, or for linux/amd64. It
    replaces what was there when all of it has come. A layout is added to, and takes a multi-arch image whole unless
    there is a ``platform``. Blobs that the directory ``cache`` has are not fetched, and those that are go there.

    :param annotate_ref: in a layout, call each image by its full name
    :param since: layouts and OCI archives; what they have is left out of the layout, and must be where it is pushed to
    :raises NotFound: when an image, or one of ``since``, is not there
    :raises InvalidInput: when a name is no image's, or there is none, or ``path`` cannot be meant
    :raises InvalidPlatform: when an image has none for ``platform``
    :raises AsyncraneError: the first image's failure
    """
    references = [Reference.parse(image) for image in images]
    if not references:
        raise InvalidInput("no image to pull")
    if annotate_ref and form != "oci":
        raise InvalidInput("references are annotated in an OCI layout only")
    if form == "oci" and os.fspath(path) == STREAM:
        raise InvalidInput("an OCI layout is a directory, and cannot be written to a stream")
    if since and form != "oci":
        raise InvalidInput("only an OCI layout can leave out what an earlier one has")
    pulling = _Pulling(session, BlobCache(cache) if cache is not None else None)
    if form == "oci":
        async with earlier_bundles(since) as earlier, open_layout(path, writing=True, earlier=earlier) as layout:
            return await pulling.to_layout(references, layout, platform, annotate=annotate_ref)
    names = [_name(text, reference) for text, reference in zip(images, references, strict=True)]
    return await pulling.to_archive(references, names, path, platform, form)


def _name(text: str, reference: Reference) -> str:
    """What an archive calls the image: as it was typed, with crane's tag where it was typed without one."""
    return text.partition("@")[0] if reference.tag else f"{reference.repository}:{FROM_DIGEST}"


class _Pulling:
    """One call of :func:`pull`."""

    def __init__(self, session: Session, cache: BlobCache | None) -> None:
        self._session = session
        self._cache = cache
        self._sources: dict[Repository, PulledSource] = {}

    async def to_archive(
        self,
        references: Sequence[Reference],
        names: Sequence[str],
        path: str | PathLike[str],
        platform: Platform | None,
        form: Literal["tarball", "legacy"],
    ) -> list[Descriptor]:
        async with open_archive(path, writing=True, form=form) as sink:
            found = await self._chosen(references, platform)
            images: dict[str, Manifest] = {}
            jobs = []
            for reference, name, image in zip(references, names, found, strict=True):
                mine = images.setdefault(name, image).digest == image.digest  # else the name is another image's
                target = Target(sink.place, name if mine else None)
                jobs.append(self._job(reference, target, digest=image.digest))
            sink.expect(images)
            self._session.use(sink)
            await self._submit(jobs)
        return [image.descriptor for image in found]

    async def to_layout(
        self, references: Sequence[Reference], layout: Layout, platform: Platform | None, *, annotate: bool
    ) -> list[Descriptor]:
        self._session.use(layout)
        jobs = [
            msgspec.structs.replace(
                self._job(reference, Target(layout.place, _full_name(reference) if annotate else None)),
                tag=None if reference.digest else reference.tag,
                digest=reference.digest,
                platforms=(platform,) if platform is not None else (),
            )
            for reference in references
        ]
        outcomes = await self._submit(jobs)
        saved = [await layout.manifest(outcome.digest) for outcome in outcomes]
        layout.settle({manifest.digest for manifest in saved})
        return [manifest.descriptor for manifest in saved]

    def _job(self, reference: Reference, target: Target, *, digest: Digest | None = None) -> Job:
        return Job(
            id=self._session.next_id(),
            source=self._source(reference.repository).place,
            targets=(target,),
            digest=digest,
            nondistributable=True,
        )

    async def _submit(self, jobs: Sequence[Job]) -> list[Outcome]:
        """All of them, at once.

        :raises AsyncraneError: the first one's failure
        """
        outcomes: dict[int, Outcome] = {}

        async def submit(job: Job) -> None:
            outcomes[job.id] = await self._session.submit(job)

        async with anyio.create_task_group() as tasks:
            for job in jobs:
                tasks.start_soon(submit, job)
        for job in jobs:
            if (failure := outcomes[job.id].failure) is not None:
                raise failure.error()
        return [outcomes[job.id] for job in jobs]

    def _source(self, repository: Repository) -> PulledSource:
        found = self._sources.get(repository)
        if found is None:
            place = _place(repository)
            found = self._sources[repository] = PulledSource(self._session.source(place), self._cache)
            self._session.use(found)
        return found

    async def _chosen(self, references: Sequence[Reference], platform: Platform | None) -> list[Manifest]:
        """The single images that are meant."""
        found: dict[int, Manifest] = {}
        errors: dict[int, Exception] = {}

        async def choose(at: int, reference: Reference) -> None:
            try:
                found[at] = await self._choose(reference, platform)
            except Exception as exc:  # raised below, the first image's first
                errors[at] = exc

        async with anyio.create_task_group() as tasks:
            for at, reference in enumerate(references):
                tasks.start_soon(choose, at, reference)
        if errors:
            raise errors[min(errors)]
        return [found[at] for at in range(len(references))]

    async def _choose(self, reference: Reference, platform: Platform | None) -> Manifest:
        source = self._source(reference.repository)
        root = found = await source.manifest(reference.identifier)
        while found.is_index:
            found = await source.manifest(pick(found, platform or DEFAULT_PLATFORM).digest)
        config = found.config()
        if config is None:
            raise UnsupportedManifest(f"{reference}: a {found.media_type} has no place in a docker archive")
        if platform is not None and found is root:
            described = config.media_type in media.CONFIGS
            body = await read_blob(source, config) if described else b"{}"
            check_image(_platform(body, reference), [platform])
        return found


def _platform(config: bytes, reference: Reference) -> Platform | None:
    try:
        return Platform.read(msgspec.json.decode(config))
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError) as exc:
        raise ContentError(f"{reference}: the config is not JSON: {str(exc)[:120]}") from exc


def _full_name(reference: Reference) -> str:
    return str(reference.repository.tag(reference.tag)) if reference.tag else str(reference)


async def push(
    session: Session,
    path: str | PathLike[str],
    image: str,
    *,
    name: str | None = None,
    index: bool = False,
    nondistributable: bool = False,
) -> Descriptor:
    """Copy what the archive or layout ``path`` (``-``: an archive on stdin) holds to ``image``, and say what that is.

    An archive is what docker saves or an OCI layout in a tar, plain or compressed. Layers go up as they are; those that
    a docker archive holds unpacked are compressed first. An OCI image keeps its digest. What a layout does not have
    (:func:`pull`, ``since``) must be in the repository.

    :param name: which of several images
    :param index: all images as one multi-arch image, as the layout's ``index.json`` lists them
    :param nondistributable: upload also layers that are normally left where their ``urls`` point
    :raises InvalidReference: when ``image`` is no image name, or there are several images and no ``name``
    :raises NotFound: when there is no such file or directory, or no image ``name`` in it, or blobs are neither there
        nor in the repository: then nothing was written
    :raises ContentError: when it holds no images, or they are incomplete or damaged
    """
    if index and name is not None:
        raise InvalidInput("all images as one and one of several exclude each other")
    if is_bare_registry(image):
        raise InvalidReference(f"{image!r} is a registry without a repository (expected {image.rstrip('/')}/NAME)")
    reference = Reference.parse(image)
    async with await anyio.to_thread.run_sync(_opened, os.fspath(path)) as store:
        if index:
            root = await _whole(store)
            source: Source = _WithRoot(store, root)
            wanted, images = root.digest, root.children()
        else:
            source = store
            image_ = await (_sole(store) if name is None else store.resolve(name))
            wanted, images = image_.digest, (image_,)
        remote = session.remote(reference.repository, writing=True)
        job = Job(
            id=session.next_id(),
            source=session.use(source),
            targets=(Target(remote.place, reference.tag, reference.digest),),
            digest=wanted,
            nondistributable=nondistributable,
            origins=await _left_out(store, images, remote),
        )
        outcome = await session.submit(job)
        if outcome.failure is not None:
            raise outcome.failure.error()
        return await source.resolve(str(wanted))


async def _left_out(
    store: Layout | ArchiveSource, images: Sequence[Descriptor], remote: Remote
) -> tuple[tuple[Digest, Place], ...]:
    contents = store if isinstance(store, Layout) else store.layout
    if contents is None:
        return ()
    there = [image for image in images if await anyio.to_thread.run_sync(contents.holds, image.digest)]
    return await left_out(contents, there, remote)


async def _sole(store: Layout | ArchiveSource) -> Descriptor:
    try:
        return await store.sole()
    except InvalidReference as exc:
        raise InvalidReference(f"{exc} (name one, or push all as one index)") from exc


def _opened(path: str) -> AbstractAsyncContextManager[Layout | ArchiveSource]:
    return open_layout(path) if path != STREAM and Path(path).is_dir() else open_archive(path)


async def _whole(store: Layout | ArchiveSource) -> Manifest:
    """The ``index.json``, as a multi-arch image."""
    if isinstance(store, Layout):
        body = await anyio.to_thread.run_sync(_index_body, store.path)
    elif store.layout is not None:
        body = store.layout.body
    else:
        raise InvalidInput("a docker archive has no index: its images are pushed one by one")
    root = Manifest.read(body, content_type=media.OCI_INDEX)
    if not root.children():
        raise ContentError("the index is empty: there is no image to push")
    return root


def _index_body(directory: Path) -> bytes:
    with complaining(directory):
        return (directory / "index.json").read_bytes()


class _WithRoot:
    """A store, and one more manifest, which lists what is in it."""

    def __init__(self, store: Source, root: Manifest) -> None:
        self._store = store
        self._root = root

    @property
    def place(self) -> Place:
        """Where the store is."""
        return self._store.place

    async def resolve(self, identifier: str) -> Descriptor:
        """What a name or digest names."""
        return (await self.manifest(identifier)).descriptor

    async def manifest(self, identifier: str) -> Manifest:
        """The manifest a name or digest names."""
        return self._root if identifier == self._root.digest else await self._store.manifest(identifier)

    def open(self, blob: Descriptor, *, start: int = 0) -> Stream:
        """The bytes of ``blob``."""
        return self._store.open(blob, start=start)


def _place(repository: Repository) -> Place:
    return Place(Site(repository.registry, mounts=True), repository.path)
