"""Editing images: ``append`` puts layers on top, ``mutate`` changes what an image says of itself, ``rebase`` puts it on
another base.

An index is edited as a whole, each of its images. What is new is uploaded, all else is mounted, or is there already.
Images may be in registries, layouts, archives and daemons (:func:`asyncrane.stores.locate.parse_location`).
"""

from __future__ import annotations

from collections.abc import Sequence
from os import PathLike, fspath
from pathlib import Path

import msgspec

from asyncrane.archive.formats import LayerFormat
from asyncrane.engine.outcome import Outcome
from asyncrane.errors import InvalidInput
from asyncrane.images.family import Family
from asyncrane.images.history import HistoryEntry
from asyncrane.images.mutate import Changes
from asyncrane.oci.platform import Platform
from asyncrane.oci.reference import Repository
from asyncrane.operations.jobfile import AppendJob, BulkJob, MutateJob, RebaseJob
from asyncrane.operations.jobs import run_jobs
from asyncrane.session import Session
from asyncrane.stores.locate import Location, parse_location, refuse_registry

_UNSAID = HistoryEntry()


async def append(  # noqa: PLR0913  (each is one fact about the image, and each has a default)
    session: Session,
    layers: Sequence[str | PathLike[str]],
    to: str,
    *,
    base: str | None = None,
    scratch: Family = "docker",
    layer_format: LayerFormat | None = None,
    platforms: Sequence[Platform] = (),
    set_base_image_annotations: bool = False,
    created: str | None = None,
    history: HistoryEntry = _UNSAID,
    nondistributable: bool = False,
    archive: Path | None = None,
) -> Outcome:
    """Put ``layers`` on top of the image ``base``, the first one lowest, and store the result as ``to``.

    A layer is a tar file (plain, gzip or zstd), a directory, a pipe, or ``-`` for stdin. What can be read only once is
    compressed and uploaded as it arrives. Without ``base`` the image is made of nothing, of the family ``scratch``.

    :param layer_format: what the layers become; by default gzip and zstd stay, and plain ones become gzip, but all are
        made eStargz where ``GGCR_EXPERIMENT_ESTARGZ=1`` is set
    :param platforms: one takes that image out of an index, several make an index of these; without a base: what for
    :param set_base_image_annotations: note the base, for a later rebase
    :param created: RFC 3339 text; the image's time stays by default, and layers are as old as ``SOURCE_DATE_EPOCH``
    :param history: what the history says of each layer
    :param nondistributable: copy layers that are normally left where their ``urls`` point
    :param archive: write what ``docker load`` reads to this file, with the name ``to``, and nothing to a registry
    :raises InvalidInput: when a name or a file cannot be used; nothing was written
    :raises ContentError: when a layer is none, or the base cannot be edited; nothing was published
    :raises AsyncraneError: when it could not be stored
    """
    if not layers:
        raise InvalidInput("no layer to append")
    target = _target(to)
    job = AppendJob(
        line=0,
        source=target if base is None else _source(base),
        to=(_archived(target, archive),),
        layers=_paths(layers),
        layer_format=layer_format,
        platforms=tuple(platforms),
        set_base_image_annotations=set_base_image_annotations,
        scratch=scratch if base is None else None,
        created=created,
        history=_said(history),
        nondistributable=nondistributable,
    )
    return await _run(session, job)


async def mutate(  # noqa: PLR0913  (as for append)
    session: Session,
    image: str,
    changes: Changes,
    *,
    layers: Sequence[str | PathLike[str]] = (),
    layer_format: LayerFormat | None = None,
    to: str | None = None,
    repository: str | None = None,
    platforms: Sequence[Platform] = (),
    nondistributable: bool = False,
    archive: Path | None = None,
) -> Outcome:
    """Make ``changes`` to every image that ``image`` names, after ``layers`` (they and ``layer_format`` as of
    :func:`append`) were put on top.

    The result is stored as ``to``, or by digest in ``repository``; with neither it takes the place of the tag it was
    made from, or is stored by digest beside an image that was named by digest. ``platforms``, ``nondistributable`` and
    ``archive`` are as of :func:`append`; a part of an index does not take the place of the whole.

    :raises InvalidInput: when a name, a file or a change cannot be used; nothing was written
    :raises ContentError: when a layer is none, or the image cannot be edited; nothing was published
    :raises AsyncraneError: when it could not be stored
    """
    if to is not None and repository is not None:
        raise InvalidInput("a tag and a repository exclude each other")
    if layer_format is not None and not layers:
        raise InvalidInput("the format of layers means nothing without layers")
    changes.check()
    source = _source(image)
    if repository is not None:
        target = Location("registry", str(Repository.parse(repository)))
    else:
        target = _over(source) if to is None else _target(to)
    job = MutateJob(
        line=0,
        source=source,
        to=(_archived(target, archive),),
        changes=changes,
        layers=_paths(layers),
        layer_format=layer_format,
        platforms=tuple(platforms),
        nondistributable=nondistributable,
    )
    return await _run(session, job)


async def rebase(
    session: Session,
    image: str,
    *,
    to: str | None = None,
    new_base: str | None = None,
    old_base: str | None = None,
    detect: bool = False,
    history: HistoryEntry | None = None,
    platforms: Sequence[Platform] = (),
    nondistributable: bool = False,
) -> Outcome:
    """Put ``image`` on ``new_base`` instead of ``old_base``; both are by default what its annotations say. With
    ``detect`` the old base may be found by its layers, among the tags of the new base's repository.
    With ``history`` the step is noted in the image's history, as one that made no layer.

    The result is stored as ``to``, by default as of :func:`mutate`.

    :raises InvalidInput: when a name cannot be used, or a base has not all platforms; nothing was written
    :raises ContentError: when the image does not stand on the old base, or nothing says what it stands on
    :raises AsyncraneError: when it could not be stored
    """
    job = rebase_job(
        image,
        to=to,
        new_base=new_base,
        old_base=old_base,
        detect=detect,
        history=history,
        platforms=platforms,
        nondistributable=nondistributable,
    )
    return await _run(session, job)


def rebase_job(
    image: str,
    *,
    to: str | None = None,
    new_base: str | None = None,
    old_base: str | None = None,
    detect: bool = False,
    history: HistoryEntry | None = None,
    platforms: Sequence[Platform] = (),
    nondistributable: bool = False,
    line: int = 0,
) -> RebaseJob:
    """What :func:`rebase` does, as one of many jobs for :func:`~asyncrane.operations.jobs.run_jobs`.

    :raises InvalidInput: when a name cannot be used
    """
    if old_base is not None and detect:
        raise InvalidInput("an old base that is named is not looked for")
    source = _source(image)
    return RebaseJob(
        line=line,
        source=source,
        to=(_over(source) if to is None else _target(to),),
        new_base=None if new_base is None else _source(new_base),
        old_base=None if old_base is None else _source(old_base),
        detect=detect,
        history=history and _said(history),
        platforms=tuple(platforms),
        nondistributable=nondistributable,
    )


async def _run(session: Session, job: BulkJob) -> Outcome:
    outcomes: list[Outcome] = await run_jobs(session, [job], streams=True)
    if outcomes[0].failure is not None:
        raise outcomes[0].failure.error()
    return outcomes[0]


def _said(history: HistoryEntry) -> HistoryEntry:
    history.check()
    return history


def _source(text: str) -> Location:
    refuse_registry(text)
    return parse_location(text)


def _target(text: str) -> Location:
    """Where ``text`` says; by the result's own digest, if that is how it is named (as in crane)."""
    return _over(_source(text))


def _over(source: Location) -> Location:
    """The place of what ``source`` names; by digest only, if that is how it is named."""
    return msgspec.structs.replace(source, tag=source.tag if source.digest is None else None, digest=None)


def _archived(target: Location, archive: Path | None) -> Location:
    """``target``, or a file in which the image has that name."""
    if archive is None:
        return target
    name = str(target) if target.tag is not None else f"{target}:i-was-a-digest"
    return Location("docker-archive", str(archive), name)


def _paths(layers: Sequence[str | PathLike[str]]) -> tuple[Path, ...]:
    names = [fspath(layer) for layer in layers]
    if not all(names):
        raise InvalidInput("the name of a layer is empty")
    return tuple(Path(name) for name in names)
