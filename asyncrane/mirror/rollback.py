"""Taking a run back: every tag that it moved or deleted names again what it named before, as the journal has it."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Literal, TypeAlias

import anyio
import msgspec

from asyncrane.abc import Place
from asyncrane.engine.journal import Journal
from asyncrane.engine.messages import Probe, Probed, WriteManifest
from asyncrane.errors import AsyncraneError, Failure, JournalError
from asyncrane.mirror.prune import Deleted, Deletion, carry_out
from asyncrane.mirror.wishes import place_of
from asyncrane.oci.digest import Digest
from asyncrane.oci.reference import Reference, Repository
from asyncrane.session import Session
from asyncrane.stores.remote import Remote

_AT_ONCE = 16

Fate: TypeAlias = Literal["restored", "deleted", "kept", "moved-since", "failed"]


class Move(msgspec.Struct, frozen=True, omit_defaults=True):
    """A tag that a run wrote, or pruned: what the run made it name, and what it named before (``None``: nothing)."""

    place: Place
    tag: str
    after: Digest | None
    before: Digest | None = None

    def __str__(self) -> str:
        return f"{self.place}:{self.tag}"


class Restored(msgspec.Struct, frozen=True, omit_defaults=True):
    """What became of one tag: ``restored``; ``deleted`` or ``kept``, where there was none before; ``moved-since``: it
    names neither what it named before nor what the run wrote, so somebody else's word stands; ``failed``.
    """

    destination: str
    fate: Fate
    digest: str = ""
    failure: Failure | None = None


class _Summary(msgspec.Struct, frozen=True):
    """The part of a run's report that is looked at here."""

    deleted: tuple[Deleted, ...] = ()


def moves(journal: Journal, run: int) -> Iterator[Move]:
    """The tags that a run wrote, or was about to write when it died, other than as they were, and those it pruned.

    :raises JournalError: when there is no such run
    """
    asked: dict[int, Probe] = {}
    before: dict[tuple[Place, str], Digest | None] = {}
    after: dict[tuple[Place, str], Digest] = {}
    for record in journal.events(run):
        message = record.message
        match message:
            case Probe():
                asked[message.id] = message
            case Probed() if message.command in asked:
                probe = asked.pop(message.command)
                found = message.descriptor.digest if message.descriptor is not None else None
                before.setdefault((probe.place, probe.identifier), found)
            case WriteManifest() if message.tag is not None:
                after[message.place, message.tag] = message.manifest.digest
            case _:
                pass
    for (place, tag), digest in after.items():
        was = before.get((place, tag))
        if was != digest:
            yield Move(place, tag, digest, was)
    for gone in pruned(journal, run):
        name = Reference.parse(gone.destination)
        if gone.failure is None and name.tag is not None:
            yield Move(place_of(name.repository), name.tag, None, Digest.parse(gone.digest))


def pruned(journal: Journal, run: int) -> tuple[Deleted, ...]:
    """What a run deleted, and failed to, as far as it came to say so.

    :raises JournalError: when there is no such run
    """
    try:
        return msgspec.json.decode(journal.run(run).summary or "{}", type=_Summary).deleted
    except msgspec.DecodeError as exc:
        raise JournalError(f"run {run}: its report cannot be read: {exc}") from exc


async def rollback(session: Session, journal: Journal, run: int, *, delete_created: bool = False) -> list[Restored]:
    """Put back every tag that ``run`` moved or pruned. Tags that did not exist before stay, unless ``delete_created``;
    a pruned one comes back where the registry still has what it named.

    :raises JournalError: when there is no such run
    """
    limiter = anyio.CapacityLimiter(min(_AT_ONCE, session.jobs or _AT_ONCE))
    wanted = list(moves(journal, run))
    done: list[Restored | None] = [None] * len(wanted)

    async def put_back(at: int, move: Move) -> None:
        async with limiter:
            try:
                done[at] = await _put_back(session, move)
            except AsyncraneError as exc:
                done[at] = Restored(str(move), "failed", failure=Failure.of(exc))

    async with anyio.create_task_group() as tasks:
        for at, move in enumerate(wanted):
            tasks.start_soon(put_back, at, move)
    if delete_created:
        await _delete(session, wanted, done)
    return [restored for restored in done if restored is not None]


async def _delete(session: Session, wanted: Sequence[Move], done: list[Restored | None]) -> None:
    """Delete what was kept, as pruning does: some registries delete no tags, and an image takes its tags along."""
    doomed = [
        Deletion(_repository(move), move.tag, digest=str(move.after or ""))
        for move, kept in zip(wanted, done, strict=True)
        if kept is not None and kept.fate == "kept"
    ]
    ended: list[Deleted] = []
    await carry_out(session, doomed, ended)
    gone = {deleted.destination: deleted for deleted in ended}
    for at, move in enumerate(wanted):
        if (deleted := gone.get(str(move))) is not None:
            fate: Fate = "failed" if deleted.failure is not None else "deleted"
            done[at] = Restored(str(move), fate, deleted.digest, deleted.failure)


async def _put_back(session: Session, move: Move) -> Restored:
    remote = session.remote(_repository(move), writing=True)
    now = await remote.probe(move.tag)
    digest = now.digest if now is not None else None
    if digest == move.before:
        return Restored(str(move), "restored", str(digest or ""))
    if digest != move.after:
        return Restored(str(move), "moved-since", str(digest or ""))
    if move.before is None:
        return Restored(str(move), "kept", str(digest))
    await _retag(remote, move.before, move.tag)
    return Restored(str(move), "restored", str(move.before))


def _repository(move: Move) -> Repository:
    return Repository(move.place.site.name, move.place.repository)


async def _retag(remote: Remote, digest: Digest, tag: str) -> None:
    await remote.publish(await remote.manifest(str(digest)), tag)
