"""``cp``: copy images from registry to registry."""

from __future__ import annotations

import time
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import msgspec
import typer

import asyncrane
from asyncrane.cli.options import (
    Connection,
    Credentials,
    OutputFormat,
    ProgressMode,
    Reporting,
    Selection,
    platforms,
)
from asyncrane.cli.output import Output, read_stdin
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
    selection: Selection,
    credentials: Credentials,
    connection: Connection,
    reporting_: Reporting,
) -> None:
    """Copy an image from SRC to every DST, byte for byte, reading it once.

    A multi-arch image is copied whole unless --platform says otherwise. What a destination has is not sent again; what
    a repository beside it has is mounted.
    """
    with reporting(verbose=connection.verbose):
        images = [*([source] if source is not None else []), *(destinations or [])]
        pairs = _pairs(images, selection.from_file, all_tags=selection.all_tags)
        single = len(pairs) == 1 and not selection.all_tags and selection.from_file is None
        order = _Order(pairs, selection, single=single)
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


class _Order:
    """What was asked for, checked."""

    def __init__(self, pairs: Sequence[asyncrane.Pair], selection: Selection, *, single: bool) -> None:
        self._pairs = pairs
        self._single = single
        self._all_tags = selection.all_tags
        self._platforms = platforms(selection.platform)
        self._clobber = not selection.no_clobber
        self._nondistributable = selection.allow_nondistributable_artifacts

    async def carry_out(self, session: asyncrane.Session, display: Display) -> list[asyncrane.Outcome]:
        def ended(outcome: asyncrane.Outcome) -> None:
            for text in outcome.notes:
                display.say(f"{outcome.source}: {text}")
            for target in outcome.targets:
                if target.failure is not None and not self._single:
                    display.say(f"failed: {outcome.source} -> {target.destination}: {target.failure.message}")

        return await asyncrane.copy_all(
            session,
            self._pairs,
            all_tags=self._all_tags,
            platforms=self._platforms,
            clobber=self._clobber,
            nondistributable=self._nondistributable,
            on_outcome=ended,
        )


def _pairs(images: Sequence[str], from_file: str | None, *, all_tags: bool) -> list[asyncrane.Pair]:
    """What to copy, from the arguments or the file.

    :raises InvalidInput: when there is too little, or both
    """
    if from_file is None:
        if len(images) < 2:
            raise asyncrane.InvalidInput(
                "cp needs SRC and at least one DST, or --from-file (see 'asyncrane cp --help')"
            )
        return [asyncrane.Pair(images[0], tuple(images[1:]))]
    if images:
        raise asyncrane.InvalidInput("cp takes either SRC DST or --from-file, not both")
    return _parse_pairs(_read(from_file), "stdin" if from_file == "-" else from_file, all_tags=all_tags)


def _read(name: str) -> str:
    try:
        return read_stdin() if name == "-" else Path(name).read_text(encoding="utf-8")
    except OSError as exc:
        raise asyncrane.InvalidInput(f"cannot read {name}: {exc.strerror or exc}") from exc
    except UnicodeDecodeError:
        raise asyncrane.InvalidInput(f"cannot read {name}: it is not UTF-8 text") from None


def _parse_pairs(text: str, name: str, *, all_tags: bool) -> list[asyncrane.Pair]:
    parse = asyncrane.Repository.parse if all_tags else asyncrane.Reference.parse
    pairs = []
    for number, line in enumerate(text.splitlines(), 1):
        words = line.partition("#")[0].split()
        if len(words) == 1:
            raise asyncrane.InvalidInput(f"{name}, line {number}: expected SRC DST [DST]..., found only {words[0]!r}")
        try:
            for word in words:
                parse(word)
        except asyncrane.InvalidInput as exc:
            raise asyncrane.InvalidInput(f"{name}, line {number}: {exc}") from None
        if words:
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
