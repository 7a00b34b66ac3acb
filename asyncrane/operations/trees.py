"""Whole trees of repositories: copying them, and finding what in them no tag leads to."""

from __future__ import annotations

from collections.abc import AsyncIterator, Callable, Collection, Iterable, Sequence

import anyio
import msgspec

from asyncrane.engine.outcome import Outcome, TargetOutcome
from asyncrane.errors import AsyncraneError, Failure, InvalidReference, JobsFailed, NotFound, RegistryError
from asyncrane.oci import media
from asyncrane.oci.digest import Digest
from asyncrane.oci.manifest import Manifest
from asyncrane.oci.platform import Platform
from asyncrane.oci.reference import Reference, Repository
from asyncrane.operations.copy import Pair, copy_all
from asyncrane.registry import tree
from asyncrane.registry.google import Listing
from asyncrane.registry.tree import Tree, Unread
from asyncrane.session import Session
from asyncrane.stores.locate import parse_repository, refuse_registry
from asyncrane.stores.remote import Remote
from asyncrane.together import all_of

_AT_ONCE = 16
"""Manifests of one repository that are read at once."""


class TreePairs(msgspec.Struct, frozen=True):
    """What a tree is to be copied as, and the repositories in it that could not be read."""

    pairs: tuple[Pair, ...]
    unread: tuple[tuple[Repository, Failure], ...] = ()


async def pairs(session: Session, source: str, destination: str, *, untagged: bool = True) -> TreePairs:
    """Every image at ``source`` and below, and where it goes: the same path below ``destination``.

    A registry like Google's tells the digest of every tag, and what has no tag, which goes along ``untagged``: these
    pairs are by digest. Others tell their tags.

    :raises InvalidReference: when one of them is no repository
    :raises NotFound: when there is nothing at ``source`` or below
    :raises RegistryError: when the registry does not tell what is there
    """
    top = parse_repository(source).repository
    refuse_registry(destination)
    target = parse_repository(destination).repository
    found = await tree.read(session.origin(top.registry), top.path)
    wanted: list[Pair] = []
    unread = [*found.unread]
    for path, listing in found.repositories:
        try:
            there = Repository.parse(f"{target}{path.removeprefix(top.path)}")
        except InvalidReference as exc:
            unread.append(Unread(path, exc))
            continue
        wanted += _pairs(Repository(top.registry, path), listing, there, untagged=untagged)
    failures = tuple((Repository(top.registry, one.path), Failure.of(one.error)) for one in unread)
    return TreePairs(tuple(wanted), failures)


async def copy_tree(
    session: Session,
    source: str,
    destination: str,
    *,
    platforms: Sequence[Platform] = (),
    clobber: bool = True,
    nondistributable: bool = False,
    referrers: bool = False,
    on_outcome: Callable[[Outcome], None] | None = None,
) -> list[Outcome]:
    """Copy everything at ``source`` and below to the same paths below ``destination``, in one run. With ``platforms``
    only what has a tag. What fails, and what cannot be read, is in the outcomes; the others go on.

    :raises NotFound: when there is nothing at ``source`` or below
    :raises RegistryError: when the registry does not tell what is there
    """
    found = await pairs(session, source, destination, untagged=not platforms)
    outcomes = [
        Outcome(str(repository), targets=(TargetOutcome(destination, "failed", failure),))
        for repository, failure in found.unread
    ]
    for outcome in outcomes if on_outcome is not None else ():
        on_outcome(outcome)  # type: ignore[misc]
    return outcomes + await copy_all(
        session,
        found.pairs,
        platforms=platforms,
        clobber=clobber,
        nondistributable=nondistributable,
        referrers=referrers,
        on_outcome=on_outcome,
    )


def _pairs(source: Repository, listing: Listing, target: Repository, *, untagged: bool) -> list[Pair]:
    found = []
    for manifest in listing.manifests:
        if manifest.tags:
            found.append(Pair(str(source.at(manifest.digest)), tuple(str(target.tag(tag)) for tag in manifest.tags)))
        elif untagged:
            found.append(Pair(str(source.at(manifest.digest)), (str(target.at(manifest.digest)),)))
    named = {tag for manifest in listing.manifests for tag in manifest.tags}
    loose = [tag for tag in listing.tags if tag not in named]
    return found + [Pair(str(source.tag(tag)), (str(target.tag(tag)),)) for tag in loose]


async def garbage(session: Session, repository: str, *, recursive: bool = False) -> AsyncIterator[Reference]:
    """The manifests of ``repository``, and with ``recursive`` of those below it, that no tag leads to. What an index in
    use lists is in use, and so is what is attached to a manifest in use.

    :raises RegistryError: when the registry does not tell what has no tag, as only Google's do
    :raises JobsFailed: when some repositories could not be read; what is in the others has been told
    """
    top = parse_repository(repository).repository
    origin = session.origin(top.registry)
    if recursive:
        found = await tree.read(origin, top.path)
    else:
        found = Tree(((top.path, await tree.look(origin, top.path)),))
    failures = [Failure.of(one.error) for one in found.unread]
    for path, listing in found.repositories:
        if not listing.extended:
            raise RegistryError(f"{top.registry} does not tell which manifests of {path} have no tag")
        place = Repository(top.registry, path)
        try:
            unused = await _unused(session.remote(place), listing, session.at_once(top.registry) or _AT_ONCE)
        except AsyncraneError as exc:
            failures.append(Failure.of(exc))
            continue
        for digest in unused:
            yield place.at(digest)
    if failures:
        first = failures[0].message
        raise JobsFailed(f"{len(failures)} repositories could not be read: {first}", failures=tuple(failures))


async def _unused(remote: Remote, listing: Listing, at_once: int) -> list[Digest]:
    """Read what has to be read to know what is in use, and see."""
    tagged = {one.digest for one in listing.manifests if one.tags}
    if len(tagged) == len(listing.manifests):
        return []
    wanted = [
        one.digest
        for one in listing.manifests
        if not one.tags or one.media_type in media.INDEXES or one.media_type not in media.MANIFESTS
    ]
    slots = anyio.Semaphore(at_once)

    async def read(digest: Digest) -> Manifest | None:
        async with slots:
            try:
                return await remote.manifest(str(digest))
            except NotFound:
                return None  # deleted since it was listed

    found = zip(wanted, await all_of(wanted, read), strict=True)
    known = {digest: manifest for digest, manifest in found if manifest is not None}
    used = in_use(tagged, known.values())
    return [one.digest for one in listing.manifests if one.digest in known and one.digest not in used]


def in_use(roots: Iterable[Digest], manifests: Collection[Manifest]) -> set[Digest]:
    """``roots``, and whatever of ``manifests`` an index in use lists or is attached to a manifest in use."""
    attached: dict[Digest, list[Digest]] = {}
    below = {one.digest: tuple(child.digest for child in one.children()) for one in manifests}
    for one in manifests:
        if (subject := one.subject) is not None:
            attached.setdefault(subject.digest, []).append(one.digest)
    used: set[Digest] = set()
    waiting = list(roots)
    while waiting:
        digest = waiting.pop()
        if digest not in used:
            used.add(digest)
            waiting += [*below.get(digest, ()), *attached.get(digest, ())]
    return used
