"""``append`` and ``mutate``: images made of images."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from typing import Annotated

import typer

import asyncrane
from asyncrane.cli.making import (
    WHAT,
    WHERE,
    ArchiveOption,
    CreatedOption,
    History,
    Share,
    TagOption,
    print_image,
    progress_mode,
)
from asyncrane.cli.options import Connection, ImageArgument, LayerFormatOption, platforms
from asyncrane.cli.output import note
from asyncrane.cli.run import reporting, with_session
from asyncrane.cli.wordlists import given, listed, pairs, variables


def append(  # noqa: PLR0913  (they are the options)
    new_layer: Annotated[
        list[str],
        typer.Option(
            "--new_layer",
            "-f",
            metavar="PATH,...",
            help="A tar (plain, gzip, zstd), a directory, a pipe, or - for stdin; again and again, the first lowest.",
            rich_help_panel=WHAT,
        ),
    ],
    new_tag: Annotated[
        str, typer.Option("--new_tag", "-t", metavar="IMAGE", help="The image to make.", rich_help_panel=WHERE)
    ],
    *,
    base: Annotated[
        str | None,
        typer.Option("--base", "-b", metavar="IMAGE", help="The image to put layers on.", rich_help_panel=WHAT),
    ] = None,
    output: ArchiveOption = None,
    layer_format: LayerFormatOption = None,
    oci_empty_base: Annotated[
        bool, typer.Option("--oci-empty-base", help="Without --base make an OCI image.", rich_help_panel=WHAT)
    ] = False,
    set_base_image_annotations: Annotated[
        bool,
        typer.Option("--set-base-image-annotations", help="Note the base, for rebase to find.", rich_help_panel=WHAT),
    ] = False,
    created: CreatedOption = "keep",
    history: History,
    share: Share,
    connection: Connection,
) -> None:
    """Put layers on top of an image: on every platform of a multi-arch image, unless --platform says otherwise.

    What can be read only once (a pipe, stdin, a directory) is compressed and uploaded as it arrives.
    """
    with reporting(verbose=connection.verbose):
        if oci_empty_base and base is not None:
            raise asyncrane.InvalidInput("--oci-empty-base and --base exclude each other")
        if set_base_image_annotations and base is None:
            raise asyncrane.InvalidInput("--set-base-image-annotations means nothing without --base")
        layers, wanted, made = listed(new_layer), platforms(share.platform), asyncrane.moment(created)
        said = history.entry() or asyncrane.HistoryEntry()
    if base is None:
        note("asyncrane: base unspecified, using an empty image")

    async def operation(session: asyncrane.Session) -> asyncrane.Outcome:
        return await asyncrane.append(
            session,
            layers,
            new_tag,
            base=base,
            scratch="oci" if oci_empty_base else "docker",
            layer_format=layer_format.value if layer_format is not None else None,
            platforms=wanted,
            set_base_image_annotations=set_base_image_annotations,
            created=made,
            history=said,
            nondistributable=share.allow_nondistributable_artifacts,
            archive=output,
        )

    _carry_out(operation, new_tag, share, connection, silent=output is not None)


@dataclass(frozen=True, kw_only=True)
class Settings:
    """What a config and annotations say."""

    annotation: Annotated[
        list[str] | None,
        typer.Option("--annotation", "-a", metavar="NAME=VALUE", help="Set an annotation.", rich_help_panel=WHAT),
    ] = None
    unset_annotation: Annotated[
        list[str] | None,
        typer.Option("--unset-annotation", metavar="NAME,...", help="Take it away.", rich_help_panel=WHAT),
    ] = None
    label: Annotated[
        list[str] | None,
        typer.Option("--label", "-l", metavar="NAME=VALUE", help="Set a label.", rich_help_panel=WHAT),
    ] = None
    unset_label: Annotated[
        list[str] | None,
        typer.Option("--unset-label", metavar="NAME,...", help="Take it away.", rich_help_panel=WHAT),
    ] = None
    env: Annotated[
        list[str] | None,
        typer.Option("--env", "-e", metavar="NAME=VALUE", help="Set a variable.", rich_help_panel=WHAT),
    ] = None
    unset_env: Annotated[
        list[str] | None,
        typer.Option("--unset-env", metavar="NAME,...", help="Take it away.", rich_help_panel=WHAT),
    ] = None
    entrypoint: Annotated[
        list[str] | None,
        typer.Option(
            "--entrypoint",
            metavar="WORD,...",
            help="What is run; the old --cmd goes. '' takes it away, as of the next four.",
            rich_help_panel=WHAT,
        ),
    ] = None
    cmd: Annotated[
        list[str] | None,
        typer.Option("--cmd", metavar="WORD,...", help="With what words.", rich_help_panel=WHAT),
    ] = None
    exposed_ports: Annotated[
        list[str] | None,
        typer.Option(
            "--exposed-ports", metavar="PORT,...", help="All ports there will be: 80, 53/udp.", rich_help_panel=WHAT
        ),
    ] = None
    user: Annotated[str | None, typer.Option("--user", "-u", metavar="USER", help="As whom.", rich_help_panel=WHAT)] = (
        None
    )
    workdir: Annotated[
        str | None, typer.Option("--workdir", "-w", metavar="DIR", help="Where.", rich_help_panel=WHAT)
    ] = None
    set_platform: Annotated[
        str | None,
        typer.Option("--set-platform", metavar="OS/ARCH", help="What a single image is for.", rich_help_panel=WHAT),
    ] = None
    created: CreatedOption = "keep"

    def changes(self, history: asyncrane.HistoryEntry | None) -> asyncrane.Changes:
        """All of it, and what the history says of it.

        :raises InvalidInput: when something cannot be said
        """
        return asyncrane.Changes(
            labels=pairs(self.label, "label"),
            unset_labels=listed(self.unset_label),
            annotations=pairs(self.annotation, "annotation"),
            unset_annotations=listed(self.unset_annotation),
            env=variables(self.env),
            unset_env=listed(self.unset_env),
            entrypoint=given(self.entrypoint),
            cmd=given(self.cmd),
            user=self.user,
            workdir=self.workdir,
            exposed_ports=given(self.exposed_ports),
            platform=asyncrane.Platform.parse(self.set_platform) if self.set_platform is not None else None,
            created=asyncrane.moment(self.created),
            history=history,
        )


def mutate(  # noqa: PLR0913  (they are the options)
    image: ImageArgument,
    *,
    settings: Settings,
    append: Annotated[
        list[str] | None,
        typer.Option(
            "--append", metavar="PATH,...", help="Put layers on top first, as append does.", rich_help_panel=WHAT
        ),
    ] = None,
    layer_format: LayerFormatOption = None,
    tag: TagOption = None,
    repo: Annotated[
        str | None,
        typer.Option("--repo", metavar="REPO", help="Store it here, by digest.", rich_help_panel=WHERE),
    ] = None,
    output: ArchiveOption = None,
    history: History,
    share: Share,
    connection: Connection,
) -> None:
    """Change what an image says of itself: labels, annotations, variables, what is run.

    All platforms of a multi-arch image are changed, and annotations of the index too. In lists quotes keep a comma:
    --cmd 'sh,-c,"a, b"'.
    """
    with reporting(verbose=connection.verbose):
        if repo is not None and tag is not None:
            raise asyncrane.InvalidInput("--repo and --tag exclude each other")
        if layer_format is not None and not append:
            raise asyncrane.InvalidInput("--layer-format means nothing without --append")
        changes, layers = settings.changes(history.entry()), listed(append)
        wanted = platforms(share.platform)

    async def operation(session: asyncrane.Session) -> asyncrane.Outcome:
        return await asyncrane.mutate(
            session,
            image,
            changes,
            layers=layers,
            layer_format=layer_format.value if layer_format is not None else None,
            to=tag,
            repository=repo,
            platforms=wanted,
            nondistributable=share.allow_nondistributable_artifacts,
            archive=output,
        )

    _carry_out(operation, repo or tag or image, share, connection, silent=output is not None)


def _carry_out(
    edit: Callable[[asyncrane.Session], Awaitable[asyncrane.Outcome]],
    target: str,
    share: Share,
    connection: Connection,
    *,
    silent: bool,
) -> None:
    """Do it, and print what was made, unless it went to a file."""

    async def operation(session: asyncrane.Session) -> None:
        from asyncrane.cli.progress import progress

        async with progress(progress_mode(share, connection), session.statistics) as display:
            outcome = await edit(session)
            for text in outcome.notes:
                display.say(f"asyncrane: {outcome.source}: {text}")
        if not silent:
            print_image(target, outcome)

    with_session(operation, connection)
