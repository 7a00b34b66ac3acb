"""Trees of repositories: everything at a path and below it, by the registry's catalog, or child by child where it is
one of Google's.

A repository that cannot be read is told of, and not the end (H3); a list is complete, or an error (H4).
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator

import anyio
import msgspec

from asyncrane.errors import (
    AsyncraneError,
    Denied,
    InvalidReference,
    NotFound,
    RegistryError,
    ServerFault,
    Unauthorized,
)
from asyncrane.oci.reference import Repository
from asyncrane.registry import google
from asyncrane.registry.google import Listing
from asyncrane.registry.listing import catalog, tags
from asyncrane.transport.origin import Origin

AT_ONCE = 16
"""Repositories that are asked for their tags or children at the same time."""

_DEEPEST = 32
_ROUND = 3
"""Levels that may look the same, one below the other, before that is taken for a registry that goes in circles."""

_REFUSALS = frozenset({400, 401, 403, 404, 405, 410, 501})


class Unread(msgspec.Struct, frozen=True):
    """A repository that could not be read; nothing is known of what is below it either where ``below`` says so."""

    path: str
    error: AsyncraneError
    below: bool = False


class Tree(msgspec.Struct, frozen=True):
    """What is at a path and below, by path, each with its listing: repositories and, where the registry tells children,
    the parts of their names, which list nothing but children.
    """

    repositories: tuple[tuple[str, Listing], ...]
    unread: tuple[Unread, ...] = ()


def is_refusal(error: RegistryError) -> bool:
    """Whether the registry does not have the list, or not for us. A site that answers everything with a page for people
    has none.
    """
    return error.status in _REFUSALS or (isinstance(error, ServerFault) and error.status == 200)


def checked(path: str) -> str:
    """Return ``path`` if it names a repository: it becomes part of a URL.

    :raises InvalidReference: when it does not
    """
    return Repository.parse(f"localhost/{path}").path


async def tells_children(origin: Origin, path: str) -> bool:
    """Whether this is a registry like Google's, elsewhere."""
    try:
        return (await google.listing(origin, path)).extended
    except RegistryError:
        return False


async def look(origin: Origin, path: str) -> Listing:
    """What one repository tells of itself: as Google's do, or its tags, all of them.

    :raises NotFound: when there is no such repository
    """
    found = await google.listing(origin, path)
    if found.extended or len(found.tags) < google.PAGE_ELSEWHERE:
        return found
    # a full page without a word on the next: the rest is had by asking for what comes after the last
    return Listing(tags=await _tags(origin, path))


async def read(origin: Origin, top: str) -> Tree:
    """All repositories at ``top`` and below, each with what it has; all of the registry where ``top`` is empty. The
    catalog is asked, unless it is a path in one of Google's registries, which tell the children of each.

    :raises NotFound: when there is nothing at ``top`` or below
    :raises RegistryError: when the registry does not tell what it has; the message says so
    """
    if top and google.is_google(origin.registry):
        return await _by_children(origin, top)
    try:
        found = await _by_catalog(origin, top)
    except RegistryError as exc:
        if not is_refusal(exc):
            raise
        if top and await tells_children(origin, top):
            return await _by_children(origin, top)
        there = f"are below {top}" if top else "it has"
        message = f"{origin.registry} does not say which repositories {there} ({exc})"
        kind = type(exc) if isinstance(exc, Unauthorized | Denied) else RegistryError
        raise kind(message, status=exc.status, codes=exc.codes) from exc
    if found.repositories or found.unread:
        return found
    if top and await tells_children(origin, top):  # a registry like Google's may have an empty catalog
        return await _by_children(origin, top)
    raise _nothing(origin, top)


async def _by_children(origin: Origin, top: str) -> Tree:
    found: dict[str, Listing] = {}
    unread = await Walk(origin, found.__setitem__).run(top)
    if not unread and not any(listing.holds_images for listing in found.values()):
        raise _nothing(origin, top)
    return Tree(tuple(sorted(found.items())), tuple(unread))


async def _by_catalog(origin: Origin, top: str) -> Tree:
    paths: list[str] = []
    unread: list[Unread] = []
    async for path in catalog(origin):
        if not top or path == top or path.startswith(f"{top}/"):
            try:
                paths.append(checked(path))
            except InvalidReference as exc:
                unread.append(Unread(path, exc))
    children = children_of(paths)
    found: dict[str, Listing] = {}
    slots = anyio.Semaphore(AT_ONCE)

    async def list_tags(path: str) -> None:
        try:
            found[path] = Listing(tags=await _tags(origin, path), children=children.get(path, ()))
        except AsyncraneError as exc:
            unread.append(Unread(path, exc))
        finally:
            slots.release()

    async with anyio.create_task_group() as tasks:
        for path in dict.fromkeys(paths):
            await slots.acquire()
            tasks.start_soon(list_tags, path)
    return Tree(tuple(sorted(found.items())), tuple(sorted(unread, key=lambda one: one.path)))


async def _tags(origin: Origin, path: str) -> tuple[str, ...]:
    return tuple(dict.fromkeys([tag async for tag in tags(origin, path)]))


def children_of(paths: list[str]) -> dict[str, tuple[str, ...]]:
    """The names of one part that are below each path, and below each part of one."""
    found: dict[str, dict[str, None]] = {}
    for path in sorted(paths):
        above, _, name = path.rpartition("/")
        while above:
            found.setdefault(above, {})[name] = None
            above, _, name = above.rpartition("/")
    return {path: tuple(names) for path, names in found.items()}


def _nothing(origin: Origin, top: str) -> NotFound:
    message = f"{origin.registry} has no repository {top}, and none below it" if top else f"{origin.registry} is empty"
    return NotFound(message, status=404, codes=("NAME_UNKNOWN",))


class _Step(msgspec.Struct, frozen=True):
    """A repository to look at; ``above`` is its parent's listing, seen ``same`` times in a row."""

    path: str
    depth: int = 0
    above: Listing | None = None
    same: int = 0


class Walk:
    """Down a tree that tells the children of each repository, some repositories at a time.

    :param found: gets every path and its listing
    :param leads: whether to go to a path
    """

    def __init__(
        self,
        origin: Origin,
        found: Callable[[str, Listing], None],
        *,
        leads: Callable[[str], bool] = lambda path: True,
    ) -> None:
        self._origin = origin
        self._found = found
        self._leads = leads
        self._unread: list[Unread] = []
        self._left = 1
        self._send, self._receive = anyio.create_memory_object_stream[_Step](math.inf)

    async def run(self, top: str) -> list[Unread]:
        """Look at ``top`` and everything below. What could not be read is returned, by path.

        :raises RegistryError: when not even the first can be read
        """
        with self._send, self._receive:
            self._go_on(await self._look(_Step(top)))
            async with anyio.create_task_group() as tasks:
                for _ in range(AT_ONCE):
                    tasks.start_soon(self._work)
        return sorted(self._unread, key=lambda one: one.path)

    async def _work(self) -> None:
        async with self._receive.clone() as steps:
            async for step in steps:
                below: list[_Step] = []
                try:
                    below = await self._look(step)
                except AsyncraneError as exc:
                    self._unread.append(Unread(step.path, exc, below=True))
                self._go_on(below)

    def _go_on(self, below: list[_Step]) -> None:
        self._left += len(below) - 1
        for step in below:
            self._send.send_nowait(step)
        if not self._left:
            self._send.close()

    async def _look(self, step: _Step) -> list[_Step]:
        """Note what is at ``step``; what is below it."""
        found = await google.listing(self._origin, step.path)
        self._found(step.path, found)
        same = step.same + 1 if found.children and found == step.above else 0
        if same >= _ROUND or (found.children and step.depth >= _DEEPEST):
            raise ServerFault(f"{self._origin.registry}/{step.path}: children of children without end")
        return list(self._below(step, found, same))

    def _below(self, step: _Step, found: Listing, same: int) -> Iterator[_Step]:
        for child in dict.fromkeys(found.children):
            path = f"{step.path}/{child}"
            if not self._leads(path):
                continue
            try:
                yield _Step(checked(path), step.depth + 1, found, same)
            except InvalidReference as exc:
                self._unread.append(Unread(path, exc, below=True))
