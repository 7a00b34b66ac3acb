"""Pruning: tags of a destination that its rules select no more are deleted, within narrow bounds.

Only tags that a rule itself would have written count, only where every source of the repository was listed to its end,
only as many as the rule allows. What nobody knows the source of is not touched: other rules' tags, single images, what
is attached to images. A repository whose source has vanished altogether, or has not one tag left, is left as it is.
"""

from __future__ import annotations

import re
from collections.abc import Collection, Iterable, Mapping, Sequence
from fnmatch import fnmatchcase
from typing import TypeAlias

import anyio
import msgspec

from asyncrane.errors import (
    AsyncraneError,
    Failure,
    InvalidMirrorSpec,
    InvalidReference,
    NotFound,
    RegistryError,
)
from asyncrane.mirror import catalog
from asyncrane.mirror.rename import Template
from asyncrane.mirror.select import choose
from asyncrane.mirror.spec import Rule, TagRule
from asyncrane.mirror.wishes import Gathered, Selection, Unreadable
from asyncrane.oci import media
from asyncrane.oci.descriptor import Descriptor
from asyncrane.oci.digest import Digest
from asyncrane.oci.manifest import Manifest
from asyncrane.oci.reference import Reference, Repository, check_tag
from asyncrane.session import Session
from asyncrane.together import all_of

_PROBE = "x-probe-x"
_PLACEHOLDER = re.compile(r"\{[^{}]*\}")
_CANNOT = frozenset({400, 404, 405, 501})
"""How registries refuse to delete a tag by its name: distribution 2.8 knows digests only, Harbor says 400."""

_ATTACHED = ("sha256-", "sha512-")
"""What tags begin with that stand for what is attached to an image: the referrers' fallback, cosign's three."""

_AT_ONCE = 16


class Deletion(msgspec.Struct, frozen=True, omit_defaults=True):
    """A tag to delete. ``refused`` says why it is left after all; ``digest`` is what it names: when it names something
    else later, it stays. ``only_tag``: its manifest is wanted here by digest.
    """

    repository: Repository
    tag: str
    refused: str = ""
    digest: str = ""
    only_tag: bool = False

    def __str__(self) -> str:
        return f"{self.repository}:{self.tag}"


class Deleted(msgspec.Struct, frozen=True, omit_defaults=True):
    """What became of a deletion; ``digest`` is what the tag named."""

    destination: str
    digest: str = ""
    failure: Failure | None = None


class _Mapping(msgspec.Struct, frozen=True):
    """One way that tags come to one repository."""

    rule: Rule
    selection: Selection
    template: Template

    def expand(self, tag: str) -> tuple[Repository, str | None]:
        source = self.selection.source
        return self.template.expand(
            registry=source.registry, path=source.path, tag=tag, digest=None, groups=self.selection.groups
        )

    def covers(self, tag: str) -> bool:
        """Whether the rule would write ``tag``, if the source had it. A name without the source's tag in it is written
        for whatever is selected, and never out of date.
        """
        prefix, found, suffix = (self.expand(_PROBE)[1] or "").partition(_PROBE)
        if not found or len(tag) <= len(prefix) + len(suffix):
            return False
        if not (tag.startswith(prefix) and tag.endswith(suffix)):
            return False
        source = tag[len(prefix) : len(tag) - len(suffix)]
        try:
            check_tag(source)
        except InvalidReference:
            return False
        return self.expand(source)[1] == tag and bool(choose([source], _by_name(self.rule.tags)))


class _Wanted(msgspec.Struct):
    """What is to be in one repository: tags, and manifests that are named by digest only."""

    tags: set[str] = msgspec.field(default_factory=set)
    digests: set[str] = msgspec.field(default_factory=set)


async def deletions(session: Session, gathered: Gathered) -> list[Deletion]:
    """What pruning would delete now; only reads. Destinations that cannot be listed join what could not be read."""
    if not any(selection.rule.prune.enabled for selection in gathered.selections):
        return []
    blocked = _blocked(gathered)
    if blocked is None:
        return []
    wanted = _wanted(gathered)
    found: list[Deletion] = []
    for repository, ways in _by_destination(gathered.selections).items():
        if repository in blocked or not all(way.rule.prune.enabled for way in ways):
            continue
        if any(_may_write(rule, repository) for rule in gathered.rules if not rule.prune.enabled):
            continue
        try:
            found += await _of(session, repository, ways, wanted.get(repository, _Wanted()))
        except NotFound:  # nothing was ever written there
            continue
        except AsyncraneError as exc:
            gathered.unreadable.append(Unreadable(str(repository), Failure.of(exc)))
    return found


def spared(doomed: Iterable[Deletion], failed: Iterable[str]) -> list[Deletion]:
    """Those in repositories that nothing failed in; ``failed`` are destinations as outcomes name them (H5)."""
    broken = {Reference.parse(destination).repository for destination in failed}
    return [deletion for deletion in doomed if deletion.repository not in broken]


async def carry_out(session: Session, doomed: Iterable[Deletion], done: list[Deleted]) -> None:
    """Delete them; what cannot be deleted without taking others along stays, and is reported. ``done`` hears of each at
    once: whoever is stopped knows what is gone.
    """
    by_repository: dict[Repository, list[Deletion]] = {}
    for deletion in doomed:
        by_repository.setdefault(deletion.repository, []).append(deletion)
    for repository, wanted in by_repository.items():
        await _Removal(session, repository, wanted).run(done)


# what is to go


async def _of(session: Session, repository: Repository, ways: Sequence[_Mapping], wanted: _Wanted) -> list[Deletion]:
    tags = await catalog.tags(session, repository, writing=True)
    there = [tag for tag in tags if not tag.startswith(_ATTACHED)]
    keep = [pattern for way in ways for pattern in way.rule.prune.keep]
    gone = [
        tag
        for tag in there
        if tag not in wanted.tags
        and not any(fnmatchcase(tag, pattern) for pattern in keep)
        and any(way.covers(tag) for way in ways)
    ]
    most = min(_most(way.rule, len(there)) for way in ways)
    if len(gone) > most:
        refused = f"{repository}: not pruned: {len(gone)} of {len(there)} tags would go, and {most} may"
        return [Deletion(repository, tag, refused) for tag in gone]
    named = await _resolved(session, repository, gone)
    return [
        Deletion(repository, tag, digest=str(found.digest), only_tag=str(found.digest) in wanted.digests)
        for tag, found in named.items()
    ]


def _most(rule: Rule, total: int) -> int:
    most = rule.prune.most
    return int(most * total) if isinstance(most, float) else most


def _by_name(rule: TagRule) -> TagRule:
    """What a tag's name alone decides."""
    return msgspec.structs.replace(rule, latest=None, since=None, sort=None)


def _wanted(gathered: Gathered) -> Mapping[Repository, _Wanted]:
    """By destination, whoever wants it: also images that are named one by one, and rules that do not prune."""
    found: dict[Repository, _Wanted] = {}
    for wish in gathered.wishes:
        for target in wish.targets:
            place = found.setdefault(Repository(target.place.site.name, target.place.repository), _Wanted())
            if target.tag is not None:
                place.tags.add(target.tag)
            else:
                place.digests.add(str(target.digest or wish.digest))
    for repository, ways in _by_destination(gathered.selections).items():
        place = found.setdefault(repository, _Wanted())
        place.tags.update(name for way in ways for tag in way.selection.tags if (name := way.expand(tag)[1]))
    return found


def _by_destination(selections: Iterable[Selection]) -> Mapping[Repository, list[_Mapping]]:
    found: dict[Repository, list[_Mapping]] = {}
    for selection in selections:
        for template in selection.rule.to:
            way = _Mapping(selection.rule, selection, template)
            one, other = way.expand(_PROBE)[0], way.expand("another")[0]
            if one == other:  # where the repository's name has the tag in it, no tag is ever out of date
                found.setdefault(one, []).append(way)
    return found


def _blocked(gathered: Gathered) -> set[Repository] | None:
    """Destinations of repositories that could not be listed, or that are empty: so they are at a registry that has lost
    its data. ``None``: it is not even known which these are.
    """
    blocked = set(_by_destination(found for found in gathered.selections if not gathered.listings.get(found.source)))
    sources = [(rule, rule.source) for rule in gathered.rules if rule.source is not None]
    unknown = {str(source) for _, source in sources if source.exact is None}
    for problem in gathered.unreadable:
        try:
            repository = Repository.parse(problem.repository)
        except InvalidReference:  # a pattern, or all that is below a name
            return None
        if problem.repository in unknown:
            return None
        for rule, source in sources:
            groups = source.match(repository.path) if source.registry == repository.registry else None
            if groups is None:
                continue
            try:
                blocked.update(_by_destination([Selection(rule, repository, groups, frozenset())]))
            except InvalidMirrorSpec:  # it would have been an error, had it been read
                return None
    return blocked


def _may_write(rule: Rule, repository: Repository) -> bool:
    """Whether a pattern's rule can have written there once, from a source that is gone: rather too often than not."""
    source = rule.source
    if source is None or source.exact is not None or source.names is not None:
        return False
    for template in rule.to:
        registry = source.registry if template.registry == "{registry}" else template.registry
        pieces = (re.escape(piece.strip("/")) for piece in _PLACEHOLDER.split(template.path))
        if registry == repository.registry and re.fullmatch(".*".join(pieces), repository.path):
            return True
    return False


async def _resolved(session: Session, repository: Repository, tags: Collection[str]) -> Mapping[str, Descriptor]:
    """What ``tags`` name, in their order, without those that name nothing any more.

    :raises AsyncraneError: when it is not known of one of them
    """
    remote = session.remote(repository, writing=True)
    limiter = anyio.CapacityLimiter(_AT_ONCE)

    async def resolve(tag: str) -> Descriptor | None:
        async with limiter:
            try:
                return await remote.resolve(tag)
            except NotFound:
                return None

    found = zip(tags, await all_of(tags, resolve), strict=True)
    return {tag: named for tag, named in found if named is not None}


# how it goes

_Seen: TypeAlias = dict[Digest, Manifest]


class _Removal:
    """Tags of one repository, deleted one after the other."""

    def __init__(self, session: Session, repository: Repository, doomed: Sequence[Deletion]) -> None:
        self._session = session
        self._repository = repository
        self._remote = session.remote(repository, writing=True)
        self._doomed = {deletion.tag: deletion for deletion in doomed}
        self._gone: set[str] = set()
        self._indexes: _Seen = {}

    async def run(self, done: list[Deleted]) -> None:
        """Tell ``done`` what became of each; a tag that somebody else has deleted is not mentioned."""
        for deletion in self._doomed.values():
            if deletion.refused:
                done.append(Deleted(str(deletion), failure=Failure("AsyncraneError", deletion.refused)))
            elif deletion.tag in self._gone:
                done.append(Deleted(str(deletion), deletion.digest))
            else:
                try:
                    done.append(Deleted(str(deletion), await self._delete(deletion)))
                except NotFound:
                    continue
                except AsyncraneError as exc:
                    done.append(Deleted(str(deletion), failure=Failure.of(exc)))

    async def _delete(self, deletion: Deletion) -> str:
        named = (await self._remote.resolve(deletion.tag)).digest
        if deletion.digest and deletion.digest != named:
            raise AsyncraneError(f"{deletion}: it names another image since it was found to be out of date: it stays")
        try:
            await self._remote.delete(deletion.tag)
        except RegistryError as exc:
            if exc.status not in _CANNOT:
                raise
            await self._delete_image(deletion, named, exc)
        return str(named)

    async def _delete_image(self, deletion: Deletion, named: Digest, refusal: RegistryError) -> None:
        """By digest, which takes along whatever names the same: only if that is to go as well."""
        if deletion.only_tag:
            raise AsyncraneError(f"{deletion}: the registry deletes no tags, and the image is to stay") from refusal
        there = await catalog.tags(self._session, self._repository, writing=True)
        others = await _resolved(self._session, self._repository, there)
        if deletion.tag not in others:
            raise NotFound(f"{deletion}: gone already", status=404)
        along = {tag for tag, other in others.items() if other.digest == named}
        for tag in along:
            if not self._may_go(tag, named):
                raise AsyncraneError(
                    f"{deletion}: the registry deletes no tags, and {tag} names the same image: it stays"
                ) from refusal
        for tag, other in others.items():
            if tag not in along and await self._lists(other, named):
                raise AsyncraneError(
                    f"{deletion}: the registry deletes no tags, and its image is one of those of {tag}: it stays"
                ) from refusal
        await self._remote.delete(str(named))
        self._gone |= along

    def _may_go(self, tag: str, named: Digest) -> bool:
        other = self._doomed.get(tag)
        return other is not None and not other.refused and not other.only_tag and other.digest in ("", named)

    async def _lists(self, index: Descriptor, wanted: Digest) -> bool:
        """Whether ``index`` is one, and has the manifest ``wanted`` in it or below."""
        waiting, seen = [index], set[Digest]()
        while waiting:
            found = waiting.pop()
            if found.digest in seen or found.media_type not in media.INDEXES:
                continue
            seen.add(found.digest)
            manifest = self._indexes.get(found.digest)
            if manifest is None:
                try:
                    manifest = await self._remote.manifest(str(found.digest))
                except NotFound:  # an index may list what is not there
                    continue
                self._indexes[found.digest] = manifest
            if any(child.digest == wanted for child in manifest.children()):
                return True
            waiting += reversed(manifest.children())
        return False
