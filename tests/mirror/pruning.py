"""Rules that prune, what they would delete, and what is left."""

from __future__ import annotations

from collections.abc import Sequence

from asyncrane.mirror.prune import Deleted, Deletion, carry_out, deletions
from asyncrane.mirror.rename import Template
from asyncrane.mirror.spec import MirrorSpec, Prune, Rule, SourcePattern, TagRule
from asyncrane.mirror.wishes import Gathered, gather
from asyncrane.session import Session
from asyncrane.testing import FaultyRegistry, status
from asyncrane.testing.images import random_image
from tests.promises.images import put

ALL = Prune(enabled=True, most=1.0)
OFF = Prune()


def fill(registry: FaultyRegistry, repository: str, *names: str) -> None:
    """An image of its own for every tag."""
    for name in names:
        put(registry, repository, random_image(f"{repository}:{name}", layers=[50]), name)


def rule(
    source: FaultyRegistry, pattern: str, to: str, *, prune: Prune = ALL, keep: TagRule | None = None, line: int = 1
) -> Rule:
    """From ``pattern`` to the template ``to``."""
    return Rule(
        line=line,
        source=SourcePattern(source.address, pattern),
        to=(Template.parse(to),),
        tags=keep or TagRule(),
        prune=prune,
    )


async def doomed(*rules: Rule) -> tuple[list[Deletion], Gathered]:
    """What these rules would delete, and what they mean."""
    async with Session(retries=0) as session:
        gathered = await gather(session, MirrorSpec(rules=rules))
        return await deletions(session, gathered), gathered


async def delete(found: Sequence[Deletion]) -> list[Deleted]:
    async with Session(retries=0) as session:
        done: list[Deleted] = []
        await carry_out(session, found, done)
        return done


async def prune(*rules: Rule) -> list[Deleted]:
    """Delete it."""
    found, _ = await doomed(*rules)
    return await delete(found)


def names(found: Sequence[Deletion]) -> list[str]:
    return [f"{deletion.repository.path}:{deletion.tag}" for deletion in found]


def only_digests(registry: FaultyRegistry) -> None:
    """Let it be like distribution 2.8, which deletes no tags."""
    registry.faults.add(
        status(405, error="UNSUPPORTED", kind="manifest-delete", where=lambda call: not call.route.by_digest)
    )
