"""``mirror plan``, ``apply``, ``resume``, ``retry-failed``: fleets of images, from one file."""

from __future__ import annotations

import contextlib
import os
import shlex
from collections.abc import Awaitable, Callable, Iterator
from dataclasses import dataclass
from datetime import datetime, timedelta
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import msgspec
import typer

import asyncrane
from asyncrane.cli.options import Connection, OutputFormat, ProgressMode, Reporting
from asyncrane.cli.output import Output, note
from asyncrane.cli.run import reporting, with_session

if TYPE_CHECKING:
    from asyncrane.cli.progress import Display

_RUN = "Run"

SpecArgument = Annotated[Path, typer.Argument(metavar="SPEC", help="The mirror file (YAML).")]
RunArgument = Annotated[int, typer.Argument(metavar="RUN", help="The number of a run: see 'mirror runs'.")]
JournalOption = Annotated[
    Path | None,
    typer.Option(
        "--journal",
        metavar="FILE",
        help="The journal. [default: ~/.local/state/asyncrane/journal.db]",
        show_default=False,
    ),
]


@dataclass(frozen=True, kw_only=True)
class RunOptions:
    """How a run goes."""

    journal: Annotated[
        Path | None,
        typer.Option(
            "--journal",
            metavar="FILE",
            help="The journal. [default: ~/.local/state/asyncrane/journal.db]",
            show_default=False,
            rich_help_panel=_RUN,
        ),
    ] = None
    until: Annotated[
        str | None,
        typer.Option(
            "--until", metavar="TIME", help="Begin no image after 06:00, or 2030-01-31T06:00.", rich_help_panel=_RUN
        ),
    ] = None
    failures: Annotated[
        Path,
        typer.Option(
            "--failures", metavar="FILE", help="Where failures go, one JSON object a line.", rich_help_panel=_RUN
        ),
    ] = Path("failures.jsonl")
    jobs: Annotated[
        int | None,
        typer.Option(
            "--jobs",
            "-j",
            metavar="N",
            min=1,
            help="Requests at a time per registry. [default: adapts]",
            rich_help_panel=_RUN,
        ),
    ] = None
    limit_rate: Annotated[
        str | None,
        typer.Option(
            "--limit-rate", metavar="RATE", help="Bytes a second over all, e.g. 50MiB/s.", rich_help_panel=_RUN
        ),
    ] = None
    max_memory: Annotated[
        str | None,
        typer.Option(
            "--max-memory", metavar="SIZE", help="For bytes that are on their way, e.g. 256MiB.", rich_help_panel=_RUN
        ),
    ] = None
    metrics: Annotated[
        int | None,
        typer.Option(
            "--metrics", metavar="PORT", min=0, max=65535, help="Serve Prometheus metrics.", rich_help_panel=_RUN
        ),
    ] = None


def plan(
    spec: SpecArgument,
    *,
    file: Annotated[
        Path | None, typer.Option("--out", "-o", metavar="FILE", help="Write the plan, for 'mirror apply'.")
    ] = None,
    rate: Annotated[
        str | None,
        typer.Option(
            "--rate", metavar="RATE", help="Reckon with so many bytes a second. [default: as in the last run]"
        ),
    ] = None,
    journal: JournalOption = None,
    connection: Connection,
    reporting_: Reporting,
) -> None:
    """Show what 'mirror apply' would do, to the byte and the request; nothing is written anywhere."""
    with reporting(verbose=connection.verbose):
        loaded = _load(spec)
        expected = asyncrane.parse_size(rate) if rate is not None else None
    with reporting(verbose=connection.verbose), contextlib.ExitStack() as stack:
        path = journal or default_journal()
        book = stack.enter_context(asyncrane.Journal.read(path)) if path.exists() else None  # 'apply' will make it
        if book is not None and expected is None:
            expected = asyncrane.measured_rate(book)
        name = spec.absolute()

        async def operation(session: asyncrane.Session) -> None:
            from asyncrane.cli.progress import progress

            async with progress(reporting_.progress, session.statistics, title="planning"):
                made = await asyncrane.mirror_plan(session, loaded, name=name, rate=expected)
            _show(made, file, Output(json=reporting_.output is OutputFormat.json))

        donors = book.donors if book is not None else None  # what earlier runs know is only read
        with_session(operation, connection, registries=loaded.registries, donors=donors, planning=True)


def _show(made: asyncrane.MirrorPlan, file: Path | None, output: Output) -> None:
    """Write the plan where it is wanted.

    :raises JobsFailed: when not everything in it can be done
    """
    from asyncrane.cli.fleet import show_plan

    if file is not None:
        write(file, made.encode())
    output.result(made)
    if not output.json:
        show_plan(made, file)
    if made.troubled:
        raise asyncrane.JobsFailed("not everything can be mirrored as it stands (see the plan)")


def apply(
    spec: Annotated[Path, typer.Argument(metavar="SPEC", help="The mirror file, or a plan that 'mirror plan' wrote.")],
    *,
    options: RunOptions,
    connection: Connection,
    reporting_: Reporting,
) -> None:
    """Copy what the mirror file says, each blob once per registry; a plan is carried out with the digests it has."""
    with reporting(verbose=connection.verbose):
        made = _decoded(spec)
        loaded = _load(Path(made.spec) if made is not None else spec)

    async def work(campaign: asyncrane.Campaign) -> asyncrane.MirrorReport:
        if made is not None:
            return await campaign.apply_plan(made)
        return await campaign.apply(loaded, name=spec.absolute())

    _run(work, options, connection, reporting_, lambda journal: loaded, make=True)


def resume(
    run: Annotated[
        int | None, typer.Argument(metavar="RUN", help="The run. [default: the last one]", show_default=False)
    ] = None,
    *,
    options: RunOptions,
    connection: Connection,
    reporting_: Reporting,
) -> None:
    """Go on with a run that was stopped or killed: what it finished is not sent again."""
    _again(run, options, connection, reporting_, lambda campaign, number: campaign.resume(number))


def retry_failed(run: RunArgument, *, options: RunOptions, connection: Connection, reporting_: Reporting) -> None:
    """Try the images again that failed in a run, as a run of their own."""
    _again(run, options, connection, reporting_, lambda campaign, number: campaign.retry(number))


def _again(
    run: int | None,
    options: RunOptions,
    connection: Connection,
    reporting_: Reporting,
    verb: Callable[[asyncrane.Campaign, int], Awaitable[asyncrane.MirrorReport]],
) -> None:
    chosen: list[int] = []

    def spec_of(journal: asyncrane.Journal) -> asyncrane.MirrorSpec | None:
        record = journal.run(run)
        chosen.append(record.id)
        return spec_of_run(record)

    async def work(campaign: asyncrane.Campaign) -> asyncrane.MirrorReport:
        return await verb(campaign, chosen[0])

    _run(work, options, connection, reporting_, spec_of, make=False)


def _run(
    work: Callable[[asyncrane.Campaign], Awaitable[asyncrane.MirrorReport]],
    options: RunOptions,
    connection: Connection,
    reporting_: Reporting,
    spec_of: Callable[[asyncrane.Journal], asyncrane.MirrorSpec | None],
    *,
    make: bool,
) -> None:
    """Everything that apply, resume and retry-failed have in common; ``make``: whether the journal may be a new one."""
    with reporting(verbose=connection.verbose):
        until = _until(options.until)
        rate = asyncrane.parse_size(options.limit_rate) if options.limit_rate is not None else None
        memory = asyncrane.parse_size(options.max_memory) if options.max_memory is not None else None
    with reporting(verbose=connection.verbose), contextlib.closing(open_journal(options.journal, make=make)) as journal:
        spec = spec_of(journal)

        async def operation(session: asyncrane.Session) -> None:
            await _watched(session, journal, work, options, reporting_, until)

        with_session(
            operation,
            connection,
            jobs=options.jobs,
            registries=spec.registries if spec is not None else None,
            journal=journal,
            rate=rate,
            memory=memory,
        )


async def _watched(
    session: asyncrane.Session,
    journal: asyncrane.Journal,
    work: Callable[[asyncrane.Campaign], Awaitable[asyncrane.MirrorReport]],
    options: RunOptions,
    reporting_: Reporting,
    until: float | None,
) -> None:
    from asyncrane.cli.fleet import show_report
    from asyncrane.cli.progress import progress

    output = Output(json=reporting_.output is OutputFormat.json)
    mode = reporting_.progress
    campaign = asyncrane.Campaign(session, journal, until=until)
    try:
        with _metrics(options.metrics, campaign):
            async with progress(mode, campaign.statistics) as display:
                campaign.on_outcome = _teller(display)
                report = await work(campaign)
    except BaseException:  # told to stop, or the disk is full
        if campaign.run and campaign.statistics().images_total:
            note(f"run {campaign.run} is not finished: {resume_hint(campaign.run, options.journal)} goes on with it")
        raise
    output.result(report.summary())
    if mode not in (ProgressMode.none, ProgressMode.json):
        show_report(report, options.failures, resume_hint(report.run, options.journal))
    if report.failures or options.failures.is_file():  # what an earlier run left there is not true any more
        lines = b"".join(msgspec.json.encode(lost.line()) + b"\n" for lost in report.failures)
        try:
            write(options.failures, lines)
        except asyncrane.InvalidInput as exc:  # too late to call it a slip in the command line
            raise asyncrane.AsyncraneError(str(exc)) from exc
    if report.status == "failed":
        raise asyncrane.JobsFailed(f"run {report.run}: {report.trouble()}")


def _teller(display: Display) -> Callable[[asyncrane.Outcome], None]:
    def tell(outcome: asyncrane.Outcome) -> None:
        for text in outcome.notes:
            display.say(f"{outcome.source}: {text}")
        for target in outcome.targets:
            if target.failure is not None and target.failure.kind != "JournalError":  # said once, at the end
                display.say(f"{target.status}: {outcome.source} -> {target.destination}: {target.failure.message}")
        display.outcome(outcome)

    return tell


@contextlib.contextmanager
def _metrics(port: int | None, campaign: asyncrane.Campaign) -> Iterator[None]:
    if port is None:
        yield
        return
    with asyncrane.serve_metrics(campaign.statistics, port=port) as address:
        note(f"metrics: {address}")
        yield


def open_journal(path: Path | None, *, make: bool) -> asyncrane.Journal:
    """The journal to write; ``make``: if it is not there, a new one.

    :raises JournalMissing: when it is not there, and a new one has nothing to go on with
    """
    chosen = path or default_journal()
    if not make and not chosen.exists():
        raise asyncrane.JournalMissing(f"there is no journal {chosen}")
    try:
        chosen.parent.mkdir(parents=True, exist_ok=True)
    except OSError as exc:
        raise asyncrane.JournalError(f"cannot make {chosen.parent}: {exc.strerror or exc}") from exc
    return asyncrane.Journal.open(chosen)


def default_journal() -> Path:
    """Where the journal is when nobody says otherwise (XDG Base Directory Specification)."""
    state = os.environ.get("XDG_STATE_HOME")
    folder = Path(state) if state else Path.home() / ".local" / "state"
    return folder / "asyncrane" / "journal.db"


def resume_hint(run: int, journal: Path | None) -> str:
    """The command that goes on with a run."""
    where = f" --journal {shlex.quote(str(journal))}" if journal is not None else ""
    return f"'asyncrane mirror resume {run}{where}'"


def write(path: Path, content: bytes) -> None:
    """A file of the user's choosing, whole or not at all.

    :raises InvalidInput: when it cannot be made
    :raises AsyncraneError: when it cannot be written
    """
    try:
        with asyncrane.replaced(path) as file:
            file.write(content)
    except OSError as exc:
        raise asyncrane.AsyncraneError(f"cannot write {path}: {exc.strerror or exc}") from exc


def _load(path: Path) -> asyncrane.MirrorSpec:
    spec = asyncrane.load_mirror(path)
    for warning in spec.warnings:
        note(f"asyncrane: warning: {warning}")
    return spec


def spec_of_run(run: asyncrane.Run) -> asyncrane.MirrorSpec | None:
    """The mirror file of a run, which says how its registries are talked to, if it is still there."""
    path = Path(run.spec)
    if path.is_file():
        return _load(path)
    note(f"asyncrane: warning: {path} is not there: what it says of registries (credentials, tls, limits) is not known")
    return None


def _decoded(path: Path) -> asyncrane.MirrorPlan | None:
    """The plan in a file that holds one: JSON, where a mirror file is YAML."""
    try:
        content = path.read_bytes()
    except OSError:
        return None  # loading says why
    return asyncrane.MirrorPlan.decode(content, name=str(path)) if content.lstrip()[:1] == b"{" else None


def _until(text: str | None) -> float | None:
    """A time of day (the next one), or a date with time, as seconds since the epoch.

    :raises InvalidInput: when it is neither
    """
    if text is None:
        return None
    now = datetime.now().astimezone()
    try:
        if ":" in text and len(text) <= 5:
            clock = datetime.strptime(text, "%H:%M").time()  # noqa: DTZ007 - a wall clock's time of day
            when = now.replace(hour=clock.hour, minute=clock.minute, second=0, microsecond=0)
            return (when if when > now else when + timedelta(days=1)).timestamp()
        return datetime.fromisoformat(text).astimezone().timestamp()
    except ValueError:
        raise asyncrane.InvalidInput(f"--until {text!r}: expected 06:00 or 2030-01-31T06:00") from None
