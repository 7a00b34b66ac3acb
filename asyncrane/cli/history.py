"""``mirror runs``, ``explain``, ``rollback``, ``report``: what happened, why, and back again."""

from __future__ import annotations

import contextlib
from datetime import datetime
from pathlib import Path
from typing import Annotated

import typer

import asyncrane
from asyncrane.cli.mirror import JournalOption, RunArgument, default_journal, open_journal, spec_of_run, write
from asyncrane.cli.options import Connection, OutputFormat, Reporting
from asyncrane.cli.output import Output, note
from asyncrane.cli.quantities import duration
from asyncrane.cli.run import reporting, with_session

OutputOption = Annotated[OutputFormat, typer.Option("--output", metavar="FORMAT", help="On stdout: human or json.")]


def runs(*, journal: JournalOption = None, output: OutputOption = OutputFormat.human) -> None:
    """List the runs in the journal, the last one first."""
    with reporting():
        found = _runs(journal)
        results = Output(json=output is OutputFormat.json)
        results.result(found)
        if not results.json:
            for run in found:
                results.line(_line(run))
        if not found:
            note("there are no runs")


def explain(
    run: RunArgument,
    subject: Annotated[str, typer.Argument(metavar="DIGEST|TAG", help="A digest, or REGISTRY/REPOSITORY:TAG.")],
    *,
    journal: JournalOption = None,
    output: OutputOption = OutputFormat.human,
) -> None:
    """Tell why a blob, manifest or tag was moved, mounted, skipped or retried in a run, and for whom."""
    with reporting(), contextlib.closing(_read(journal)) as book:
        told = asyncrane.explain(book, run, subject)
        results = Output(json=output is OutputFormat.json)
        results.result(told)
        if not results.json:
            for step in told.steps:
                results.line(f"{_clock(step.at)}  {step.text}")
            for image in told.images:
                results.line(f"for {image}")


def rollback(
    run: RunArgument,
    *,
    delete_created: Annotated[
        bool, typer.Option("--delete-created", help="Delete the tags, too, that did not exist before.")
    ] = False,
    journal: JournalOption = None,
    connection: Connection,
    reporting_: Reporting,
) -> None:
    """Put back every tag that a run moved, to the digest that it named before."""
    with reporting(verbose=connection.verbose), contextlib.closing(open_journal(journal, make=False)) as book:
        spec = spec_of_run(book.run(run))
        registries = spec.registries if spec is not None else None

        async def operation(session: asyncrane.Session) -> None:
            done = await asyncrane.rollback(session, book, run, delete_created=delete_created)
            results = Output(json=reporting_.output is OutputFormat.json)
            results.result(done)
            failed = [one for one in done if one.failure is not None]
            if not results.json:
                for one in done:
                    why = f": {one.failure.message}" if one.failure is not None else ""
                    results.line(f"{one.fate} {one.destination} {one.digest}".rstrip() + why)
            if not done:
                note(f"run {run} moved no tag")
            if failed:
                raise asyncrane.JobsFailed(f"{len(failed)} of {len(done)} tags could not be put back")

        with_session(operation, connection, registries=registries)


def report(
    run: RunArgument,
    *,
    file: Annotated[Path, typer.Option("--out", "-o", metavar="FILE", help="The page to write.")] = Path("report.html"),
    journal: JournalOption = None,
) -> None:
    """Write one HTML page about a run: throughput, limits, where time went, what was saved, failures."""
    with reporting(), contextlib.closing(_read(journal)) as book:
        write(file, asyncrane.report_page(book, run).encode())
        note(f"{file}: run {run}")


def _runs(path: Path | None) -> list[asyncrane.Run]:
    """The last one first. Where nothing has run yet there is no journal, but one that was named must be there."""
    if path is None and not default_journal().exists():
        return []
    with contextlib.closing(_read(path)) as book:
        return sorted(book.runs(), key=lambda run: -run.id)


def _read(path: Path | None) -> asyncrane.Journal:
    return asyncrane.Journal.read(path or default_journal())


def _line(run: asyncrane.Run) -> str:
    took = duration(run.ended - run.started) if run.ended else ""
    when = datetime.fromtimestamp(run.started).astimezone().strftime("%Y-%m-%d %H:%M:%S")
    return f"{run.id:>4}  {when}  {run.kind:<6} {run.status:<11} {took:>8}  {run.spec}"


def _clock(at: float) -> str:
    return datetime.fromtimestamp(at).astimezone().strftime("%H:%M:%S.%f")[:-3]
