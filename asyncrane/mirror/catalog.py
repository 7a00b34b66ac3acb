"""Which repositories a pattern means: by the registry's catalog, or child by child where it is one of Google's.

A repository that cannot be read is a problem to report, not the end (H3); a list is complete, or an error (H4).
"""

from __future__ import annotations

import msgspec

from asyncrane.errors import Denied, Failure, InvalidReference, NotFound, RegistryError, Unauthorized
from asyncrane.mirror.globs import compile_glob
from asyncrane.mirror.regexes import literal_start
from asyncrane.mirror.spec import SourcePattern
from asyncrane.oci.reference import Repository
from asyncrane.registry import google
from asyncrane.registry.google import Listing
from asyncrane.registry.listing import catalog
from asyncrane.registry.tree import Walk, checked, is_refusal, tells_children
from asyncrane.session import Session
from asyncrane.transport.origin import Origin


class Problem(msgspec.Struct, frozen=True):
    """A repository that could not be read. Where nothing is known of what is below it either, it ends in ``/**``."""

    repository: str
    failure: Failure


class Repositories(msgspec.Struct, frozen=True):
    """What a pattern means now: paths of repositories, and what could not be found out."""

    names: tuple[str, ...]
    problems: tuple[Problem, ...] = ()


async def repositories(session: Session, source: SourcePattern) -> Repositories:
    """The repositories that ``source`` names. Only a pattern asks the registry.

    :raises RegistryError: when the registry does not tell what it has; the message says what to do instead
    """
    if source.exact is not None:
        return Repositories((source.exact,))
    if source.names is not None:
        return Repositories(tuple(dict.fromkeys(source.names)))
    origin = session.origin(source.registry)
    top = _top(source)
    if google.is_google(source.registry) and top:
        return await _of_children(origin, source, top)
    try:
        return await _of_catalog(origin, source)
    except RegistryError as exc:
        if not is_refusal(exc):
            raise
        if top and await tells_children(origin, top):
            return await _of_children(origin, source, top)
        raise _advised(source, exc) from exc


async def tags(session: Session, repository: Repository, *, writing: bool = False) -> tuple[str, ...]:
    """Every tag of ``repository``, in the registry's order. ``writing`` asks as who we are when we write there.

    :raises NotFound: when there is no such repository
    :raises AsyncraneError: when the list cannot be had completely
    """
    remote = session.remote(repository, writing=writing)
    # Artifactory puts digests between them (skopeo#2346), and what has a colon is no tag
    return tuple(dict.fromkeys([tag async for tag in remote.tags() if ":" not in tag]))


async def _of_catalog(origin: Origin, source: SourcePattern) -> Repositories:
    names: dict[str, None] = {}
    problems: dict[str, Problem] = {}
    async for name in catalog(origin):
        if source.match(name) is None:
            continue
        try:
            names[checked(name)] = None
        except InvalidReference as exc:
            problems[name] = Problem(f"{source.registry}/{name}", Failure.of(exc))
    return Repositories(tuple(names), tuple(problems.values()))


async def _of_children(origin: Origin, source: SourcePattern, top: str) -> Repositories:
    """Down from the part of the pattern that is no pattern."""
    names: list[str] = []

    def found(path: str, listing: Listing) -> None:
        if listing.holds_images and source.match(path) is not None:
            names.append(path)

    try:
        unread = await Walk(origin, found, leads=lambda path: _may_lead_to(source, path)).run(top)
    except RegistryError as exc:
        if is_refusal(exc):
            raise _advised(source, exc) from exc
        raise
    problems = (Problem(f"{source.registry}/{one.path}/**", Failure.of(one.error)) for one in unread)
    return Repositories(tuple(sorted(names)), tuple(problems))


def _advised(source: SourcePattern, error: RegistryError) -> RegistryError:
    kind = type(error) if isinstance(error, Unauthorized | Denied | NotFound) else RegistryError
    message = (
        f"{source.registry} does not say which repositories it has ({error}): name them instead, one by one, or one a "
        f"line in a file: 'from: {{registry: {source.registry}, file: repositories.txt}}'"
    )
    return kind(message, status=error.status, codes=error.codes)


def _top(source: SourcePattern) -> str:
    """The parts that every name begins with that ``source`` matches; empty where there are none."""
    if source.regex is None:
        return source.prefix
    return literal_start(source.regex).rpartition("/")[0]


def _may_lead_to(source: SourcePattern, path: str) -> bool:
    """Whether a repository that matches may be at ``path`` or below: up to ``**``, a pattern goes part by part."""
    if source.regex is not None:
        return True
    wanted, given = source.pattern.split("/"), path.split("/")
    endless = "**" in wanted
    fixed = wanted[: wanted.index("**")] if endless else wanted
    if len(given) > len(fixed) and not endless:
        return False
    known = min(len(given), len(fixed))
    return not known or compile_glob("/".join(fixed[:known])).fullmatch("/".join(given[:known])) is not None
