"""Pruning: tags of a destination that the source has no more are deleted, within narrow bounds.

Only tags that the rule itself would have written count, only where every source of the repository was listed to its
end, only as many as the rule allows; what is attached to images stays, and so does every tag that shares a digest.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from fnmatch import fnmatchcase

import msgspec

from asyncrane.errors import AsyncraneError, Failure, InvalidReference, NotFound, RegistryError
from asyncrane.mirror import catalog
from asyncrane.mirror.rename import Template
from asyncrane.mirror.select import choose
from asyncrane.mirror.spec import Rule, TagRule
from asyncrane.mirror.wishes import Selection, Unreadable
from asyncrane.oci.reference import Repository
from asyncrane.session import Session

_PROBE = "x-probe-x"
_CANNOT = frozenset({400, 404, 405, 501})
"""How registries refuse to delete a tag by its name: distribution 2.8 knows digests only, Harbor says 400."""


class Deletion(msgspec.Struct, frozen=True, omit_defaults=True):
    """A tag to delete; ``refused`` says why it is left after all."""

    repository: Repository
    tag: str
    refused: str = ""

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
        """Whether the rule would write ``tag``, if the source had it."""
        prefix, _, suffix = (self.expand(_PROBE)[1] or "").partition(_PROBE)
        if len(tag) <= len(prefix) + len(suffix) or not (tag.startswith(prefix) and tag.endswith(suffix)):
            return False
        source = tag[len(prefix) : len(tag) - len(suffix)]
        return bool(choose([source], _filters(self.rule.tags)))


async def deletions(
    session: Session, selections: Sequence[Selection], unreadable: Sequence[Unreadable]
) -> list[Deletion]:
    """What pruning would delete now; only reads."""
    if not any(selection.rule.prune.enabled for selection in selections):
        return []
    mappings = _by_destination(selections)
    blocked = _blocked(selections, unreadable)
    if blocked is None:
        return []
    found: list[Deletion] = []
    for repository, ways in mappings.items():
        if repository not in blocked and all(way.rule.prune.enabled for way in ways):
            found += await _of(session, repository, ways)
    return found


async def carry_out(session: Session, doomed: Iterable[Deletion]) -> list[Deleted]:
    """Delete them; what cannot be deleted without taking others along stays, and is reported."""
    done: list[Deleted] = []
    for deletion in doomed:
        if deletion.refused:
            done.append(Deleted(str(deletion), failure=Failure("AsyncraneError", deletion.refused)))
            continue
        try:
            digest = await _delete(session, deletion)
        except NotFound:
            continue
        except AsyncraneError as exc:
            done.append(Deleted(str(deletion), failure=Failure.of(exc)))
        else:
            done.append(Deleted(str(deletion), digest))
    return done


async def _delete(session: Session, deletion: Deletion) -> str:
    remote = session.remote(deletion.repository, writing=True)
    named = (await remote.resolve(deletion.tag)).digest
    try:
        await remote.delete(deletion.tag)
    except RegistryError as exc:
        if exc.status not in _CANNOT:
            raise
        for tag in await catalog.tags(session, deletion.repository):
            other = await remote.probe(tag) if tag != deletion.tag else None
            if other is not None and other.digest == named:
                raise AsyncraneError(
                    f"{deletion}: the registry deletes no tags, and {tag} names the same image: left as it is"
                ) from exc
        await remote.delete(str(named))
    return str(named)


async def _of(session: Session, repository: Repository, ways: Sequence[_Mapping]) -> list[Deletion]:
    try:
        there = [tag for tag in await catalog.tags(session, repository) if not tag.startswith("sha256-")]
    except AsyncraneError:  # nothing there, or nothing known: nothing to delete
        return []
    wanted = {way.expand(tag)[1] for way in ways for tag in way.selection.tags}
    keep = [pattern for way in ways for pattern in way.rule.prune.keep]
    gone = [
        tag
        for tag in there
        if tag not in wanted
        and not any(fnmatchcase(tag, pattern) for pattern in keep)
        and any(way.covers(tag) for way in ways)
    ]
    most = min(_most(way.rule, len(there)) for way in ways)
    refused = ""
    if len(gone) > most:
        refused = f"{repository}: not pruned: {len(gone)} of {len(there)} tags would go, and {most} may"
    return [Deletion(repository, tag, refused) for tag in gone]


def _most(rule: Rule, total: int) -> int:
    most = rule.prune.most
    return int(most * total) if isinstance(most, float) else most


def _filters(rule: TagRule) -> TagRule:
    """What a tag's name alone decides."""
    return msgspec.structs.replace(rule, latest=None, since=None, sort=None)


def _by_destination(selections: Sequence[Selection]) -> Mapping[Repository, list[_Mapping]]:
    found: dict[Repository, list[_Mapping]] = {}
    for selection in selections:
        for template in selection.rule.to:
            way = _Mapping(selection.rule, selection, template)
            one, other = way.expand(_PROBE)[0], way.expand("another")[0]
            if one == other:  # where the repository's name has the tag in it, no tag is ever out of date
                found.setdefault(one, []).append(way)
    return found


def _blocked(selections: Sequence[Selection], unreadable: Sequence[Unreadable]) -> set[Repository] | None:
    """Destinations of repositories that could not be listed; ``None``: it is not even known which these are."""
    blocked: set[Repository] = set()
    rules = {selection.rule.line: selection.rule for selection in selections}.values()
    for problem in unreadable:
        try:
            source = Repository.parse(problem.repository)
        except InvalidReference:
            return None
        for rule in rules:
            groups = rule.source.match(source.path) if rule.source is not None else None
            if groups is None:
                continue
            way = Selection(rule, source, groups, frozenset())
            blocked.update(_by_destination([way]))
    return blocked
