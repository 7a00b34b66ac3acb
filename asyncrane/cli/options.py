"""What options are called, what they mean, and which belong together.

An option that has no effect for a command is not declared there, so using it is a usage error (promise E4).
"""

from __future__ import annotations

import functools
import inspect
from collections.abc import Callable, Sequence
from dataclasses import dataclass, fields, is_dataclass
from enum import StrEnum
from pathlib import Path
from typing import Annotated, Any, get_type_hints

import typer

import asyncrane
from asyncrane.cli.output import notes_as_json

_CONNECTION = "Connection"
_OUTPUT = "Output"


class OutputFormat(StrEnum):
    """What stdout carries."""

    human = "human"
    json = "json"


class LayerFormat(StrEnum):
    """What new layers become."""

    gzip = "gzip"
    zstd = "zstd"
    estargz = "estargz"
    uncompressed = "uncompressed"


class ProgressMode(StrEnum):
    """How progress is shown on stderr."""

    auto = "auto"
    bar = "bar"
    log = "log"
    json = "json"
    none = "none"


class Loop(StrEnum):
    """Which event loop runs everything."""

    auto = "auto"
    uvloop = "uvloop"
    asyncio = "asyncio"


ImageArgument = Annotated[str, typer.Argument(metavar="IMAGE", help="REPOSITORY[:TAG][@DIGEST]; the tag is latest.")]
RepositoryArgument = Annotated[
    str, typer.Argument(metavar="REPO", help="[REGISTRY/]PATH; Docker Hub without REGISTRY.")
]
RegistryArgument = Annotated[str, typer.Argument(metavar="REGISTRY", help="HOST[:PORT]")]
FullRef = Annotated[bool, typer.Option("--full-ref", help="Print full references.")]
OnePlatform = Annotated[
    str | None,
    typer.Option(
        "--platform", metavar="OS/ARCH", help="Of a multi-arch image this one: OS/ARCH[/VARIANT][:OSVERSION]."
    ),
]
LayerFormatOption = Annotated[
    LayerFormat | None,
    typer.Option(
        "--layer-format",
        metavar="FORMAT",
        help="What new layers become: gzip, zstd, estargz or uncompressed. [default: as they are, and gzip]",
        show_default=False,
    ),
]
Verbose = Annotated[bool, typer.Option("--verbose", "-v", help="Log every request and answer on stderr.")]


@dataclass(frozen=True, kw_only=True)
class Connection:
    """How registries are talked to."""

    insecure: Annotated[
        bool,
        typer.Option(
            "--insecure",
            help="Allow plain HTTP, and do not check certificates.",
            rich_help_panel=_CONNECTION,
        ),
    ] = False
    ca: Annotated[
        Path | None,
        typer.Option("--ca", metavar="FILE", help="Trust these certificates too.", rich_help_panel=_CONNECTION),
    ] = None
    cert: Annotated[
        Path | None,
        typer.Option("--cert", metavar="FILE", help="Client certificate to show.", rich_help_panel=_CONNECTION),
    ] = None
    key: Annotated[
        Path | None,
        typer.Option("--key", metavar="FILE", help="Its private key, if not in --cert.", rich_help_panel=_CONNECTION),
    ] = None
    retries: Annotated[
        int,
        typer.Option(
            "--retries", metavar="N", min=0, help="Try a request again up to N times.", rich_help_panel=_CONNECTION
        ),
    ] = 5
    retry_max_time: Annotated[
        float,
        typer.Option(
            "--retry-max-time",
            metavar="SECONDS",
            min=0,
            help="Give up trying again after this.",
            rich_help_panel=_CONNECTION,
        ),
    ] = 900
    stall_timeout: Annotated[
        float,
        typer.Option(
            "--stall-timeout",
            metavar="SECONDS",
            min=1,
            help="Nothing moved for so long: broken.",
            rich_help_panel=_CONNECTION,
        ),
    ] = 60
    verbose: Verbose = False
    loop: Annotated[
        Loop,
        typer.Option(
            "--loop", metavar="LOOP", help="Event loop: auto, uvloop or asyncio.", rich_help_panel=_CONNECTION
        ),
    ] = Loop.auto


@dataclass(frozen=True, kw_only=True)
class Credentials:
    """Who to be, where that is not what the credential files say."""

    src_creds: Annotated[
        str | None,
        typer.Option(
            "--src-creds",
            metavar="USER:PASS",
            help="Credentials for the sources; see --dst-creds.",
            rich_help_panel=_CONNECTION,
        ),
    ] = None
    dst_creds: Annotated[
        str | None,
        typer.Option(
            "--dst-creds",
            metavar="USER:PASS",
            help="Credentials for the destinations. Others see arguments: better ASYNCRANE_AUTH_HOST, a variable.",
            rich_help_panel=_CONNECTION,
        ),
    ] = None


@dataclass(frozen=True, kw_only=True)
class Selection:
    """What is copied, and over what."""

    all_tags: Annotated[bool, typer.Option("--all-tags", "-a", help="SRC and DST are repositories: copy all tags.")] = (
        False
    )
    no_clobber: Annotated[
        bool, typer.Option("--no-clobber", "-n", help="Leave tags that exist in DST as they are.")
    ] = False
    platform: Annotated[
        list[str] | None,
        typer.Option(
            "--platform",
            metavar="OS/ARCH,...",
            help="Only these platforms of multi-arch images: one gives that image, several an index of them.",
        ),
    ] = None
    allow_nondistributable_artifacts: Annotated[
        bool,
        typer.Option("--allow-nondistributable-artifacts", help="Copy non-distributable (foreign) layers too."),
    ] = False
    from_file: Annotated[
        str | None,
        typer.Option(
            "--from-file",
            metavar="FILE",
            help="Copy every line SRC DST [DST]... of a file (-: stdin), or do the jobs in it, one JSON object a line.",
        ),
    ] = None
    jobs: Annotated[
        int | None, typer.Option("--jobs", "-j", metavar="N", min=1, help="Transfers at a time. [default: adapts]")
    ] = None


@dataclass(frozen=True, kw_only=True)
class Reporting:
    """What is shown where."""

    output: Annotated[
        OutputFormat,
        typer.Option("--output", metavar="FORMAT", help="On stdout: human or json.", rich_help_panel=_OUTPUT),
    ] = OutputFormat.human
    progress: Annotated[
        ProgressMode,
        typer.Option(
            "--progress", metavar="MODE", help="On stderr: auto, bar, log, json or none.", rich_help_panel=_OUTPUT
        ),
    ] = ProgressMode.auto

    def __post_init__(self) -> None:
        notes_as_json(self.progress is ProgressMode.json)


def flat(command: Callable[..., None]) -> Callable[..., None]:
    """``command`` as typer wants it: each parameter that is a group of options spread into its fields."""
    hints = get_type_hints(command, include_extras=True)
    groups: dict[str, type[Any]] = {}
    spread: list[inspect.Parameter] = []
    for name, parameter in inspect.signature(command).parameters.items():
        if is_dataclass(hints[name]):
            groups[name] = hints[name]
            spread += _members(hints[name])
        else:
            spread.append(parameter.replace(kind=inspect.Parameter.KEYWORD_ONLY, annotation=hints[name]))

    @functools.wraps(command)
    def flattened(**values: Any) -> None:
        built = {
            name: group(**{member.name: values.pop(member.name) for member in fields(group)})
            for name, group in groups.items()
        }
        command(**values, **built)

    flattened.__annotations__ = {parameter.name: parameter.annotation for parameter in spread}
    vars(flattened)["__signature__"] = inspect.Signature(spread)
    del vars(flattened)["__wrapped__"]
    return flattened


def platforms(texts: Sequence[str] | None) -> tuple[asyncrane.Platform, ...]:
    """The platforms of a repeatable, comma-separated option; ``all`` and nothing mean no choice.

    :raises InvalidPlatform: when one is none, or ``all`` stands beside others
    """
    names = [name.strip() for text in texts or () for name in text.split(",")]
    if names in ([], ["all"]):
        return ()
    return tuple(dict.fromkeys(asyncrane.Platform.parse(name) for name in names))


def platform(text: str | None) -> asyncrane.Platform | None:
    """The one platform of an option that takes one.

    :raises InvalidPlatform: when it is none, or several
    """
    chosen = platforms([text] if text is not None else None)
    if len(chosen) > 1:
        raise asyncrane.InvalidPlatform(f"one platform is needed here, not {len(chosen)}: {text}")
    return chosen[0] if chosen else None


def _members(group: type[Any]) -> list[inspect.Parameter]:
    hints = get_type_hints(group, include_extras=True)
    kind = inspect.Parameter.KEYWORD_ONLY
    return [
        inspect.Parameter(member.name, kind, default=member.default, annotation=hints[member.name])
        for member in fields(group)
    ]
