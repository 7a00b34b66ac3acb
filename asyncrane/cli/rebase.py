"""``rebase``: an image, or many, put on another base."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Annotated

import typer

import asyncrane
from asyncrane.cli.listfile import lines, read_list
from asyncrane.cli.making import WHAT, History, Share, TagOption, print_image, progress_mode
from asyncrane.cli.options import Connection, platforms
from asyncrane.cli.run import reporting, with_session


def rebase(  # noqa: PLR0913  (they are crane's)
    image: Annotated[
        str | None, typer.Argument(metavar="IMAGE", help="The image to rebase.", show_default=False)
    ] = None,
    *,
    new_base: Annotated[
        str | None,
        typer.Option(
            "--new_base", metavar="IMAGE", help="What to put it on. [default: what it says]", rich_help_panel=WHAT
        ),
    ] = None,
    old_base: Annotated[
        str | None,
        typer.Option(
            "--old_base", metavar="IMAGE", help="What it stands on. [default: what it says]", rich_help_panel=WHAT
        ),
    ] = None,
    detect: Annotated[
        bool,
        typer.Option(
            "--detect",
            help="If it does not say, find the old base among the new one's tags, by its layers.",
            rich_help_panel=WHAT,
        ),
    ] = False,
    tag: TagOption = None,
    from_file: Annotated[
        str | None,
        typer.Option(
            "--from-file", metavar="FILE", help="Rebase every line IMAGE [TAG] of a file (-: stdin), or its jobs."
        ),
    ] = None,
    original: Annotated[str | None, typer.Option("--original", metavar="IMAGE", hidden=True)] = None,
    rebased: Annotated[str | None, typer.Option("--rebased", metavar="IMAGE", hidden=True)] = None,
    history: History,
    share: Share,
    connection: Connection,
) -> None:
    """Put an image on another base: the old base's layers go, the new one's come, without the image's own being moved.

    All platforms of a multi-arch image are rebased, each on the base for it.
    """
    with reporting(verbose=connection.verbose):
        image, tag = _one(image, original, "IMAGE and --original"), _one(tag, rebased, "--tag and --rebased")
        wanted, noted = platforms(share.platform), history.entry()

        def job(name: str, to: str | None, line: int = 0) -> asyncrane.BulkJob:
            return asyncrane.rebase_job(
                name,
                to=to,
                new_base=new_base,
                old_base=old_base,
                detect=detect,
                history=noted,
                platforms=wanted,
                nondistributable=share.allow_nondistributable_artifacts,
                line=line,
            )

        if (image is None) == (from_file is None) or (from_file is not None and tag is not None):
            raise asyncrane.InvalidInput(
                "rebase takes either IMAGE, with --tag if it is to have another, or --from-file"
            )
        jobs = [job(image, tag)] if image is not None else _jobs(from_file or "-", job)

    _carry_out(jobs, share, connection, single=from_file is None)


def _one(first: str | None, second: str | None, what: str) -> str | None:
    if first is not None and second is not None:
        raise asyncrane.InvalidInput(f"{what} exclude each other")
    return first if first is not None else second


def _jobs(name: str, job: Callable[[str, str | None, int], asyncrane.BulkJob]) -> Sequence[asyncrane.BulkJob]:
    """The jobs in a file: each a line of its own, or an image and its new name.

    :raises InvalidInput: when something else is in it
    """
    shown, text = read_list(name)
    if asyncrane.is_job_file(text):
        return asyncrane.parse_jobs(text, shown)
    jobs = []
    for number, words in lines(text):
        if len(words) > 2:
            raise asyncrane.InvalidInput(f"{shown}:{number}: expected IMAGE [TAG], found {len(words)} words")
        try:
            jobs.append(job(words[0], words[1] if len(words) > 1 else None, number))
        except asyncrane.InvalidInput as exc:
            raise asyncrane.InvalidInput(f"{shown}:{number}: {exc}") from None
    if not jobs:
        raise asyncrane.InvalidInput(f"{shown}: nothing to rebase")
    return jobs


def _carry_out(jobs: Sequence[asyncrane.BulkJob], share: Share, connection: Connection, *, single: bool) -> None:
    """Do all, and print what was made of each, in their order."""

    async def operation(session: asyncrane.Session) -> None:
        from asyncrane.cli.progress import progress

        async with progress(progress_mode(share, connection), session.statistics) as display:

            def ended(outcome: asyncrane.Outcome) -> None:
                for text in outcome.notes:
                    display.say(f"asyncrane: {outcome.source}: {text}")
                if outcome.failure is not None and not single:
                    display.say(f"asyncrane: failed: {outcome.source}: {outcome.failure.message}")
                display.outcome(outcome)

            outcomes = await asyncrane.run_jobs(session, jobs, on_outcome=ended)
        for outcome in outcomes:
            if outcome.failure is None:
                for target in outcome.targets:
                    print_image(target.destination, outcome)
        failures = tuple(outcome.failure for outcome in outcomes if outcome.failure is not None)
        if failures and single:
            raise failures[0].error()
        if failures:
            raise asyncrane.JobsFailed(f"{len(failures)} of {len(outcomes)} images failed", failures=failures)

    with_session(operation, connection)
