"""What the commands that make images of images have in common: options, progress, what they print."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Annotated

import typer

import asyncrane
from asyncrane.cli.options import Connection, ProgressMode
from asyncrane.cli.output import Output, notes_as_json

WHAT, WHERE = "What to change", "Where it goes"
"""What panels of options are called."""

ArchiveOption = Annotated[
    Path | None,
    typer.Option(
        "--output", "-o", metavar="TAR", help="Write this file for docker load instead.", rich_help_panel=WHERE
    ),
]
CreatedOption = Annotated[
    str,
    typer.Option(
        "--created",
        metavar="TIME",
        help="When it was made: now, epoch, keep or RFC 3339; SOURCE_DATE_EPOCH is now.",
        rich_help_panel=WHAT,
    ),
]
TagOption = Annotated[
    str | None,
    typer.Option(
        "--tag",
        "-t",
        metavar="IMAGE",
        help="The image to make. [default: IMAGE itself, by digest if it is named so]",
        rich_help_panel=WHERE,
    ),
]


@dataclass(frozen=True, kw_only=True)
class Share:
    """What all these commands have."""

    platform: Annotated[
        list[str] | None,
        typer.Option(
            "--platform",
            metavar="OS/ARCH,...",
            help="Only these platforms of a multi-arch image: one gives that image, several an index. [default: all]",
        ),
    ] = None
    allow_nondistributable_artifacts: Annotated[
        bool,
        typer.Option("--allow-nondistributable-artifacts", help="Copy non-distributable (foreign) layers too."),
    ] = False
    progress: Annotated[
        ProgressMode,
        typer.Option("--progress", metavar="MODE", help="On stderr: auto, bar, log, json or none."),
    ] = ProgressMode.auto

    def __post_init__(self) -> None:
        notes_as_json(self.progress is ProgressMode.json)


@dataclass(frozen=True, kw_only=True)
class History:
    """What the image's history says of what was done."""

    history_created_by: Annotated[
        str | None,
        typer.Option(
            "--history-created-by",
            metavar="TEXT",
            help="What its history says made the layers; without new layers, what changed it. [default: this command]",
            rich_help_panel=WHAT,
            show_default=False,
        ),
    ] = None
    history_author: Annotated[
        str | None, typer.Option("--history-author", metavar="TEXT", help="Who did.", rich_help_panel=WHAT)
    ] = None
    history_comment: Annotated[
        str | None, typer.Option("--history-comment", metavar="TEXT", help="And why.", rich_help_panel=WHAT)
    ] = None
    history_created: Annotated[
        str | None,
        typer.Option(
            "--history-created", metavar="TIME", help="And when: now, epoch or RFC 3339.", rich_help_panel=WHAT
        ),
    ] = None

    def entry(self) -> asyncrane.HistoryEntry | None:
        """All of it, ``None`` where no option was used.

        :raises InvalidInput: when the time is none
        """
        created = None if self.history_created is None else asyncrane.moment(self.history_created)
        entry = asyncrane.HistoryEntry(
            created=created,
            created_by=self.history_created_by,
            author=self.history_author,
            comment=self.history_comment,
        )
        return entry if entry != asyncrane.HistoryEntry() else None


def progress_mode(share: Share, connection: Connection) -> ProgressMode:
    """How progress is shown: bars and the log of requests would draw over each other."""
    auto = share.progress is ProgressMode.auto
    return ProgressMode.none if auto and connection.verbose else share.progress


def print_image(target: str, outcome: asyncrane.Outcome) -> None:
    """Print what was made, as ``REPOSITORY@DIGEST``."""
    Output().line(str(asyncrane.parse_location(target).at(asyncrane.Digest(outcome.digest))))
