"""``completion``: what makes a shell complete commands and options."""

from __future__ import annotations

import os
from enum import StrEnum
from importlib import import_module
from typing import Annotated, Any

import typer

from asyncrane.cli.help import WORDS_ONLY
from asyncrane.cli.output import Output


class Shell(StrEnum):
    """Shells that can be told."""

    bash = "bash"
    zsh = "zsh"
    fish = "fish"
    powershell = "powershell"


_VARIABLE = "_ASYNCRANE_COMPLETE"
"""What typer's machinery is asked by; it answers before any command runs."""


def completion(
    shell: Annotated[Shell, typer.Argument(metavar="SHELL", help="bash, zsh, fish or powershell")],
    *,
    no_descriptions: Annotated[
        bool, typer.Option("--no-descriptions", help="Complete words without saying what they mean; bash never does.")
    ] = False,
) -> None:
    """Print what makes a shell complete asyncrane's words.

    For this session: source <(asyncrane completion bash). To keep it, write it where the shell looks:
    ~/.local/share/bash-completion/completions/asyncrane, a directory of zsh's $fpath as _asyncrane,
    ~/.config/fish/completions/asyncrane.fish.
    """
    asked_by = WORDS_ONLY if no_descriptions else _VARIABLE
    Output().line(_machinery().get_completion_script(prog_name="asyncrane", complete_var=asked_by, shell=shell.value))


def answer_shells() -> None:
    """Let typer's machinery answer when a shell asks what may come next; to be called before the command line is read.
    It is not loaded otherwise, as it takes time.
    """
    if WORDS_ONLY in os.environ:
        os.environ[_VARIABLE] = os.environ[WORDS_ONLY]
    if _VARIABLE in os.environ:
        _machinery().completion_init()


def _machinery() -> Any:
    return import_module("typer.completion")
