"""``cp``: copy images between registries, and to and from files and directories."""

from __future__ import annotations

import time
from collections.abc import Sequence
from typing import TYPE_CHECKING, Annotated, Any

import msgspec
import typer

import asyncrane
from asyncrane.cli.listfile import lines, read_list
from asyncrane.cli.options import (
    Connection,
    Credentials,
    OutputFormat,
    ProgressMode,
    Reporting,
    Selection,
    platforms,
)
from asyncrane.cli.output import Output
from asyncrane.cli.run import reporting, with_session

if TYPE_CHECKING:
    from asyncrane.cli.progress import Display

_WORST_FIRST = ("failed", "cancelled", "copied", "tagged", "skipped", "equal")


def copy(
    source: Annotated[
        str | None, typer.Argument(metavar="SRC", help="The image; with --all-tags a repository.", show_default=False)
    ] = None,
    destinations: Annotated[
        list[str] | None, typer.Argument(metavar="DST", help="Where to, once or more often.", show_default=False)
    ] = None,
    *,
    referrers: Annotated[
        bool, typer.Option("--referrers", help="Copy what is attached to the images too: signatures, SBOMs.")
    ] = False,
    recursive: Annotated[
        bool,
        typer.Option(
            "--recursive",
            "-r",
            help="SRC and DST are repositories: copy them and everything below, untagged "
            "manifests too where the registry lists them.",
        ),
    ] = False,
    selection: Selection,
    credentials: Credentials,
    connection: Connection,
    reporting_: Reporting,
) -> None:
    """Copy an image from SRC to every DST, byte for byte, reading it once.

    SRC and DST are in a registry, or oci:DIR[:REF], oci-archive:FILE[:REF], docker-archive:FILE[:REF],
    docker-daemon:REF.

    A multi-arch image is copied whole unless --platform says otherwise. What a destination has is not sent again; what
    a repository beside it has is mounted.
    """
    with reporting(verbose=connection.verbose):
        images = [*([source] if source is not None else []), *(destinations or [])]
        order = _order(images, selection, referrers=referrers, recursive=recursive)
        single = order.single
    mode = reporting_.progress
    if mode is ProgressMode.auto and connection.verbose:
        mode = ProgressMode.log  # bars and the log would draw over each other

    async def operation(session: asyncrane.Session) -> None:
        from asyncrane.cli.progress import progress, summary

        output = Output(json=reporting_.output is OutputFormat.json)
        started = time.monotonic()
        async with progress(mode, session.statistics) as display:
            outcomes = await order.carry_out(session, display)
        failed = single and any(target.status in ("failed", "skipped") for o in outcomes for target in o.targets)
        if mode not in (ProgressMode.none, ProgressMode.json) and not failed:
            display.say(summary(session.statistics(), time.monotonic() - started))
        output.result(_result(outcomes, session.statistics(), single=single))
        _raise_failures(outcomes, single=single)

    with_session(operation, connection, credentials=credentials, jobs=selection.jobs)


def _order(images: Sequence[str], selection: Selection, *, referrers: bool, recursive: bool) -> _Order | _Jobs | _Tree:
    """What was asked for, from the arguments or the file.

    :raises InvalidInput: when it cannot be used
    """
    if recursive:
        if selection.from_file is not None or selection.all_tags:
            raise asyncrane.InvalidInput("--recursive is for SRC DST alone: it copies all tags of all repositories")
        if len(images) != 2:
            raise asyncrane.InvalidInput("cp --recursive needs SRC and one DST")
        return _Tree(images[0], images[1], selection, referrers=referrers)
    if selection.from_file is None:
        return _Order(_pairs(images), selection, single=not selection.all_tags, referrers=referrers)
    if images:
        raise asyncrane.InvalidInput("cp takes either SRC DST or --from-file, not both")
    name, text = read_list(selection.from_file)
    if not asyncrane.is_job_file(text):
        pairs = _parse_pairs(text, name, all_tags=selection.all_tags)
        return _Order(pairs, selection, single=False, referrers=referrers)
    for given, option in (
        (selection.all_tags, "--all-tags"),
        (selection.no_clobber, "--no-clobber"),
        (selection.platform, "--platform"),
        (selection.allow_nondistributable_artifacts, "--allow-nondistributable-artifacts"),
        (referrers, "--referrers"),
    ):
        if given:
            raise asyncrane.InvalidInput(f"{name}: each job says for itself what {option} would")
    return _Jobs(asyncrane.parse_jobs(text, name))


class _Jobs:
    """Jobs of several kinds, from a file."""

    single = False

    def __init__(self, jobs: Sequence[asyncrane.BulkJob]) -> None:
        self._jobs = jobs

    async def carry_out(self, session: asyncrane.Session, display: Display) -> list[asyncrane.Outcome]:
        return await asyncrane.run_jobs(session, self._jobs, on_outcome=lambda outcome: _tell(display, outcome))


class _Tree:
    """A repository and everything below it."""

    single = False

    def __init__(self, source: str, destination: str, selection: Selection, *, referrers: bool) -> None:
        self._source = source
        self._destination = destination
        self._platforms = platforms(selection.platform)
        self._clobber = not selection.no_clobber
        self._nondistributable = selection.allow_nondistributable_artifacts
        self._referrers = referrers

    async def carry_out(self, session: asyncrane.Session, display: Display) -> list[asyncrane.Outcome]:
        return await asyncrane.copy_tree(
            session,
            self._source,
            self._destination,
            platforms=self._platforms,
            clobber=self._clobber,
            nondistributable=self._nondistributable,
            referrers=self._referrers,
            on_outcome=lambda outcome: _tell(display, outcome),
        )


class _Order:
    """Images or repositories to copy."""

    def __init__(self, pairs: Sequence[asyncrane.Pair], selection: Selection, *, single: bool, referrers: bool) -> None:
        self._pairs = pairs
        self.single = single
        self._all_tags = selection.all_tags
        self._platforms = platforms(selection.platform)
        self._clobber = not selection.no_clobber
        self._nondistributable = selection.allow_nondistributable_artifacts
        self._referrers = referrers

    async def carry_out(self, session: asyncrane.Session, display: Display) -> list[asyncrane.Outcome]:
        return await asyncrane.copy_all(
            session,
            self._pairs,
            all_tags=self._all_tags,
            platforms=self._platforms,
            clobber=self._clobber,
            nondistributable=self._nondistributable,
            referrers=self._referrers,
            on_outcome=lambda outcome: _tell(display, outcome, failures=not self.single),
        )


def _tell(display: Display, outcome: asyncrane.Outcome, *, failures: bool = True) -> None:
    for text in outcome.notes:
        display.say(f"{outcome.source}: {text}")
    for target in outcome.targets:
        if target.failure is not None and failures:
            display.say(f"failed: {outcome.source} -> {target.destination}: {target.failure.message}")
    display.outcome(outcome)


def _pairs(images: Sequence[str]) -> list[asyncrane.Pair]:
    """What the arguments say.

    :raises InvalidInput: when it is too little
    """
    if len(images) < 2:
        raise asyncrane.InvalidInput("cp needs SRC and at least one DST, or --from-file (see 'asyncrane cp --help')")
    return [asyncrane.Pair(images[0], tuple(images[1:]))]


def _parse_pairs(text: str, name: str, *, all_tags: bool) -> list[asyncrane.Pair]:
    parse = asyncrane.parse_repository if all_tags else asyncrane.parse_location
    pairs = []
    for number, words in lines(text):
        if len(words) == 1:
            raise asyncrane.InvalidInput(f"{name}, line {number}: expected SRC DST [DST]..., found only {words[0]!r}")
        try:
            for word in words:
                parse(word)
        except asyncrane.InvalidInput as exc:
            raise asyncrane.InvalidInput(f"{name}, line {number}: {exc}") from None
        pairs.append(asyncrane.Pair(words[0], tuple(words[1:])))
    if not pairs:
        raise asyncrane.InvalidInput(f"{name}: nothing to copy")
    return pairs


def _result(outcomes: Sequence[asyncrane.Outcome], statistics: asyncrane.Statistics, *, single: bool) -> dict[str, Any]:
    """The JSON result: the image itself where one was asked for, else all images by what became of them."""
    counts = {
        name: getattr(statistics, name)
        for name in ("bytes_read", "bytes_written", "bytes_mounted", "bytes_existing", "requests")
    }
    images = [_image(outcome) for outcome in outcomes]
    if single and images:
        return {**images[0], **counts}
    return {"images": {s: [i for i in images if i["status"] == s] for s in _WORST_FIRST}, **counts}


def _image(outcome: asyncrane.Outcome) -> dict[str, Any]:
    statuses = {target.status for target in outcome.targets}
    fields: dict[str, Any] = msgspec.to_builtins(outcome)
    return {
        "source": outcome.source,
        "digest": outcome.digest,
        "media_type": outcome.media_type,
        "status": next((status for status in _WORST_FIRST if status in statuses), "failed"),
        "destinations": fields.get("targets", []),
        "notes": list(outcome.notes),
    }


def _raise_failures(outcomes: Sequence[asyncrane.Outcome], *, single: bool) -> None:
    """What the exit code is made of.

    :raises TagExists: when a single image was not to clobber and its tag names something else
    :raises JobsFailed: when some of many images failed
    :raises AsyncraneError: when the single image failed
    """
    if single:
        for target in (target for outcome in outcomes for target in outcome.targets):
            if target.failure is not None:
                raise target.failure.error()
            if target.status == "skipped":
                raise asyncrane.TagExists(f"refusing to clobber existing tag {target.destination}")
    failures = tuple(outcome.failure for outcome in outcomes if outcome.failure is not None)
    if failures:
        raise asyncrane.JobsFailed(f"{len(failures)} of {len(outcomes)} images failed", failures=failures)
