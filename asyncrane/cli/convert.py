"""``convert``: layers in another compression or as eStargz, images with the other family of media types."""

from __future__ import annotations

from collections.abc import Sequence
from enum import StrEnum
from typing import Annotated, Any

import msgspec
import typer

import asyncrane
from asyncrane.cli.options import Connection, OutputFormat, ProgressMode, Reporting, platforms
from asyncrane.cli.output import Output
from asyncrane.cli.run import reporting, with_session


class LayerKind(StrEnum):
    """What layers become."""

    keep = "keep"
    gzip = "gzip"
    zstd = "zstd"
    estargz = "estargz"
    plain = "plain"


def convert(  # noqa: PLR0913  (they are the options)
    source: Annotated[str, typer.Argument(metavar="SRC", help="The image; with --all-tags a repository.")],
    destination: Annotated[str, typer.Argument(metavar="DST", help="Where to.")],
    *,
    layers: Annotated[
        LayerKind,
        typer.Option("--layers", "--layer-format", metavar="KIND", help="keep, gzip, zstd, estargz or plain."),
    ] = LayerKind.keep,
    level: Annotated[
        int | None,
        typer.Option(
            "--level",
            metavar="N",
            help="gzip, estargz: 0 to 9; zstd: 1 to 22. Layers that are so already are made again. [default: fast]",
            show_default=False,
        ),
    ] = None,
    to_oci: Annotated[bool, typer.Option("--to-oci", help="Give everything OCI's media types.")] = False,
    to_docker: Annotated[bool, typer.Option("--to-docker", help="Give everything Docker's media types.")] = False,
    all_tags: Annotated[
        bool, typer.Option("--all-tags", "-a", help="SRC and DST are repositories: convert all tags.")
    ] = False,
    platform: Annotated[
        list[str] | None,
        typer.Option(
            "--platform",
            metavar="OS/ARCH,...",
            help="Only these platforms of multi-arch images: one gives that image, several an index of them.",
        ),
    ] = None,
    allow_nondistributable_artifacts: Annotated[
        bool,
        typer.Option("--allow-nondistributable-artifacts", help="Copy non-distributable (foreign) layers too."),
    ] = False,
    connection: Connection,
    reporting_: Reporting,
) -> None:
    """Convert an image and put it to DST; stdout gets a line OLD -> NEW for each digest that changes.

    The last line is that of the image. What images share is converted once. Layers in gzip or zstd have the same files
    and diff ids as before; eStargz adds a table of contents, by which files can be fetched one by one.
    """
    with reporting(verbose=connection.verbose):
        if to_oci and to_docker:
            raise asyncrane.InvalidInput("--to-oci and --to-docker exclude each other")
        conversion = asyncrane.Conversion(layers.value, level, "oci" if to_oci else "docker" if to_docker else None)
        conversion.check()
        chosen = platforms(platform)
    mode = reporting_.progress
    if mode is ProgressMode.auto and connection.verbose:
        mode = ProgressMode.log  # bars and the log would draw over each other

    async def operation(session: asyncrane.Session) -> None:
        from asyncrane.cli.progress import progress

        async with progress(mode, session.statistics) as display:

            def tell(done: asyncrane.Converted) -> None:
                for text in done.outcome.notes:
                    display.say(f"{done.outcome.source}: {text}")
                for target in done.outcome.targets:
                    if target.failure is not None and all_tags:
                        display.say(f"failed: {done.outcome.source} -> {target.destination}: {target.failure.message}")
                display.outcome(done.outcome)

            done = await asyncrane.convert_all(
                session,
                [(source, destination)],
                conversion,
                all_tags=all_tags,
                platforms=chosen,
                nondistributable=allow_nondistributable_artifacts,
                on_converted=tell,
            )
        _print(Output(json=reporting_.output is OutputFormat.json), done, single=not all_tags)
        _raise_failures(done, single=not all_tags)

    with_session(operation, connection)


def _print(output: Output, done: Sequence[asyncrane.Converted], *, single: bool) -> None:
    if output.json:
        found = [_fields(one) for one in done]
        output.result(found[0] if single else {"images": found})
        return
    lines = [f"{part.before!s} -> {part.after!s}" for one in done for part in one.replaced]
    for line in dict.fromkeys(lines):
        output.line(line)


def _fields(done: asyncrane.Converted) -> dict[str, Any]:
    outcome = done.outcome
    return {
        "source": outcome.source,
        "root": outcome.root,
        "digest": outcome.digest,
        "media_type": outcome.media_type,
        "destinations": msgspec.to_builtins(outcome.targets),
        "notes": list(outcome.notes),
        "replaced": [
            {"kind": one.kind, "before": f"{one.before!s}", "after": f"{one.after!s}"} for one in done.replaced
        ],
    }


def _raise_failures(done: Sequence[asyncrane.Converted], *, single: bool) -> None:
    """What the exit code is made of.

    :raises JobsFailed: when some of many images failed
    :raises AsyncraneError: when the single image failed
    """
    failures = tuple(one.outcome.failure for one in done if one.outcome.failure is not None)
    if failures and single:
        raise failures[0].error()
    if failures:
        raise asyncrane.JobsFailed(f"{len(failures)} of {len(done)} images failed", failures=failures)
