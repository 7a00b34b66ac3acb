"""Opening what people name: registries, and the files, directories and daemons that a session learns of by and by."""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import AbstractAsyncContextManager, asynccontextmanager
from pathlib import Path
from types import TracebackType
from typing import Any, NamedTuple, Protocol, Self, runtime_checkable

import anyio

from asyncrane.abc import Place, Site
from asyncrane.engine.job import Job, Target
from asyncrane.engine.outcome import Outcome
from asyncrane.errors import Failure, InvalidReference
from asyncrane.oci.descriptor import Descriptor
from asyncrane.oci.digest import Digest
from asyncrane.oci.platform import DEFAULT_PLATFORM
from asyncrane.oci.reference import Repository
from asyncrane.session import Session
from asyncrane.stores.locate import Location, open_location, parse_location

SINGLE = frozenset({"docker-archive", "docker-daemon"})
"""Kinds of places that hold single images. Of an index they get the one for :data:`DEFAULT_PLATFORM`."""

TOOK_ONE = f"took {DEFAULT_PLATFORM!s} of the index: only a single image can be there"
"""What is said of that."""


@runtime_checkable
class Sole(Protocol):
    """A store that knows what is meant where nothing is named."""

    async def sole(self) -> Descriptor:
        """The only image.

        :raises NotFound: when there is none
        :raises InvalidReference: when there are several
        """
        ...


@runtime_checkable
class Settling(Protocol):
    """A store that is told which of what it got without a tag are images of their own."""

    def settle(self, roots: set[Digest]) -> None:
        """Only ``roots`` are."""
        ...


class Found(NamedTuple):
    """An image, opened: the place, and what it is called there. A source always has a tag or a digest."""

    place: Place
    tag: str | None = None
    digest: Digest | None = None

    @property
    def identifier(self) -> str:
        """What to ask for."""
        return str(self.digest or self.tag or "latest")


class _Opened:
    """A store, and what became of what it was to get."""

    def __init__(self, context: AbstractAsyncContextManager[Any], store: Any, *, writing: bool) -> None:
        self.context = context
        self.store = store
        self.writing = writing
        self.roots: set[Digest] = set()
        self.told = False
        self.got = False
        self.failure: Failure | None = None

    def tell(self, target: Target, status: str, failure: Failure | None, digest: str) -> None:
        self.told = True
        if status in ("copied", "tagged", "equal"):
            self.got = True
            if target.tag is None and digest:
                self.roots.add(Digest(digest))
        elif status != "skipped":
            self.failure = self.failure or failure or Failure("AsyncraneError", f"{target}: {status}")

    async def close(self, error: BaseException | None) -> None:
        """Finish it, unless there is an error, or nothing came that was to come."""
        if error is None and self.told:
            if isinstance(self.store, Settling):
                self.store.settle(self.roots)
            if self.failure is not None and not self.got:
                error = self.failure.error()
        try:
            await self.context.__aexit__(type(error) if error else None, error, error.__traceback__ if error else None)
        except BaseException as exc:
            if exc is not error:
                raise


class Places:
    """Everything that one operation reads and writes: ``async with Places(session) as places``. What is opened is
    complete when the context ends without an error; to be used by the task that entered it.
    """

    def __init__(self, session: Session) -> None:
        self._session = session
        self._opened: dict[tuple[str, str], _Opened] = {}

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        failure: BaseException | None = None
        for opened in reversed(self._opened.values()):
            try:
                with anyio.CancelScope(shield=True):
                    await self._session.runner.let_go(opened.store.place)
                await opened.close(error)
            except BaseException as exc:  # the others are not to suffer
                failure = failure or exc
        if failure is not None and error is None:
            raise failure

    async def source(self, location: Location) -> Found:
        """What is to be read.

        :raises NotFound: when it is not there
        :raises InvalidReference: when it may be several, or is being written
        """
        if location.kind == "registry":
            return Found(place_of(location.repository), location.tag, location.digest)
        store = await self._open(location, writing=False)
        place: Place = store.place
        if not location.identifier and isinstance(store, Sole):
            return Found(place, None, (await store.sole()).digest)
        return Found(place, location.tag, location.digest)

    async def target(self, location: Location) -> Target:
        """What is to be written.

        :raises InvalidReference: when it is being read
        """
        if location.kind == "registry":
            return Target(place_of(location.repository), location.tag, location.digest)
        store = await self._open(location, writing=True)
        return Target(store.place, location.tag, location.digest)

    async def store(self, location: Location, *, writing: bool = False) -> Any:
        """What ``location`` is read with, or written with."""
        if location.kind == "registry":
            return self._session.remote(location.repository, writing=writing)
        return await self._open(location, writing=writing)

    def tell(self, job: Job, outcome: Outcome) -> None:
        """What became of a job: what got nothing but failures is left as it was."""
        stores = {opened.store.place: opened for opened in self._opened.values()}
        for target, ended in zip(job.targets, outcome.targets, strict=False):
            if (opened := stores.get(target.place)) is not None:
                opened.tell(target, ended.status, ended.failure, outcome.digest)

    async def _open(self, location: Location, *, writing: bool) -> Any:
        key = _key(location)
        found = self._opened.get(key)
        if found is not None:
            if found.writing != writing and location.kind != "oci":
                raise InvalidReference(f"{location.kind}:{location.path} cannot be read and written at once")
            return found.store
        context = open_location(location, writing=writing)
        store = await context.__aenter__()
        self._opened[key] = _Opened(context, store, writing=writing)
        self._session.use(store)
        return store

    def __repr__(self) -> str:
        return f"Places({', '.join(f'{kind}:{path}' for kind, path in self._opened)})"


@asynccontextmanager
async def located(session: Session, image: str | Location, *, writing: bool = False) -> AsyncIterator[Found]:
    """The image that is named, opened: what the session's ``source`` or ``sink`` of that place then reads or writes.
    With ``writing`` it is complete when the context ends without an error.

    :raises InvalidReference: when it is no image, or may be several
    :raises NotFound: when it is not there
    """
    location = parse_location(image) if isinstance(image, str) else image
    async with Places(session) as places:
        if writing:
            target = await places.target(location)
            yield Found(target.place, target.tag, target.digest)
        else:
            yield await places.source(location)


def _key(location: Location) -> tuple[str, str]:
    """One file or directory is opened once, whatever it is called."""
    whole = location.kind == "docker-daemon" or location.path == "-"
    return location.kind, location.path if whole else str(Path(location.path).resolve())


def place_of(repository: Repository) -> Place:
    """The place of a repository of a registry."""
    return Place(Site(repository.registry, mounts=True), repository.path)
