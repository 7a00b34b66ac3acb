"""Options and help: what belongs to which command, and how it is read."""

from __future__ import annotations

import re
from typing import Annotated

import pytest
import typer
from typer.testing import CliRunner

import asyncrane
from asyncrane.cli.app import COMMANDS as TABLE
from asyncrane.cli.app import app
from asyncrane.cli.help import behind_the_command, without_values
from asyncrane.cli.lazy import Branch, Entry
from asyncrane.cli.options import Connection, flat, platform, platforms
from asyncrane.cli.quantities import duration, plural, rate, size
from tests.cli.conftest import Program

COMMANDS = {
    "cp": "--insecure --platform --allow-nondistributable-artifacts --verbose",
    "copy": "--insecure --platform --allow-nondistributable-artifacts --verbose",
    "pull": "--insecure --platform --verbose",
    "push": "--insecure --allow-nondistributable-artifacts --verbose",
    "digest": "--insecure --platform --verbose",
    "manifest": "--insecure --platform --verbose",
    "config": "--insecure --platform --verbose",
    "blob": "--insecure --verbose",
    "export": "--insecure --platform --verbose",
    "validate": "--insecure --platform --verbose",
    "diff": "--insecure --verbose",
    "mirror plan": "--insecure --verbose",
    "mirror apply": "--insecure --verbose",
    "mirror resume": "--insecure --verbose",
    "mirror retry-failed": "--insecure --verbose",
    "mirror verify": "--insecure --verbose",
    "mirror runs": "",
    "mirror explain": "",
    "mirror rollback": "--insecure --verbose",
    "mirror report": "",
    "mirror schema": "",
    "mirror convert": "",
    "append": "--insecure --platform --allow-nondistributable-artifacts --verbose",
    "mutate": "--insecure --platform --allow-nondistributable-artifacts --verbose",
    "rebase": "--insecure --platform --allow-nondistributable-artifacts --verbose",
    "flatten": "--insecure --platform --verbose",
    "convert": "--insecure --platform --allow-nondistributable-artifacts --verbose",
    "index append": "--insecure --allow-nondistributable-artifacts --verbose",
    "index filter": "--insecure --platform --allow-nondistributable-artifacts --verbose",
    "index remove": "--insecure --allow-nondistributable-artifacts --verbose",
    "index list": "--insecure --verbose",
    "ls": "--insecure --verbose",
    "catalog": "--insecure --verbose",
    "tag": "--insecure --verbose",
    "untag": "--insecure --verbose",
    "delete": "--insecure --verbose",
    "gc": "--insecure --verbose",
    "demo": "",
    "version": "",
    "auth login": "",
    "auth logout": "",
    "auth get": "",
    "auth token": "--insecure --verbose",
    "registry serve": "--verbose",
    "completion": "",
    "edit config": "--insecure --platform --verbose",
    "edit manifest": "--insecure --verbose",
    "edit fs": "--insecure --platform --verbose",
    "layout gc": "",
}
GLOBAL = {
    "--insecure": ["--insecure"],
    "--platform": ["--platform", "linux/amd64"],
    "--allow-nondistributable-artifacts": ["--allow-nondistributable-artifacts"],
    "--verbose": ["-v"],
}


@pytest.mark.parametrize("option", GLOBAL)
@pytest.mark.parametrize("command", COMMANDS)
def test_an_option_without_effect_is_a_usage_error(command: str, option: str) -> None:
    """E4: every command x every global option, before and after the command. What is complained about is either the
    option, or the nonsense behind it."""
    wrong = "--nonsense" if option in COMMANDS[command].split() else GLOBAL[option][0]
    for arguments in ([*GLOBAL[option], *command.split()], [*command.split(), *GLOBAL[option]]):
        ended = CliRunner().invoke(app, [*arguments, "--nonsense"], standalone_mode=False)
        assert str(ended.exception) == f"No such option: {wrong}"


def test_every_command_is_in_the_table() -> None:
    found = {entry.name for entry in TABLE if isinstance(entry, Entry)}
    for branch in TABLE:
        if isinstance(branch, Branch):
            found |= {f"{branch.name} {entry.name}" for entry in branch.entries}
    assert found == set(COMMANDS)


@pytest.mark.parametrize("command", COMMANDS)
async def test_every_command_has_help_that_names_it(program: Program, command: str) -> None:
    ended = await program(*command.split(), "--help")
    assert (ended.code, ended.err) == (0, "")
    assert f"Usage: asyncrane {command}" in ended.text
    assert (await program(*command.split(), "-h")).out == ended.out


@pytest.mark.parametrize("columns", ["60", "80", "200"])
async def test_help_fits_the_terminal_and_cuts_nothing_off(program: Program, columns: str) -> None:
    for command in ("", "cp"):
        ended = await program(*command.split(), "--help", COLUMNS=columns)
        assert max(map(len, ended.text.splitlines())) <= min(int(columns), 100)
        assert "--allow-nondistributable-artifacts\n" in ended.text
        assert not re.search("…|<(str|bool|int|list)|\xa0|\x1b", ended.text)


async def test_a_flag_takes_a_value_as_go_programs_do(program: Program) -> None:
    assert (await program("version", "--help=true")).code == 0
    wrong = await program("cp", "--insecure=maybe", "a", "b")
    assert (wrong.code, "neither true nor false" in wrong.error) == (2, True)
    assert "'asyncrane cp --help'" in wrong.error


async def test_no_command_explains_on_stderr_what_there_is(program: Program) -> None:
    for arguments in ([], ["auth"]):
        ended = await program(*arguments)
        assert (ended.code, ended.out) == (2, b"")
        assert "Usage:" in ended.err


async def test_version_prints_the_version(program: Program) -> None:
    for arguments in (["version"], ["--version"]):
        assert (await program(*arguments)).text == f"{asyncrane.__version__}\n"
    assert (await program.process("version")).text == f"{asyncrane.__version__}\n"


@pytest.mark.parametrize(
    ("given", "read"),
    [
        ("--insecure cp a b", "cp --insecure a b"),
        ("--insecure=true -v=false cp a b", "cp --insecure=true -v=false a b"),
        ("-v --platform linux/amd64 cp a b", "cp -v --platform linux/amd64 a b"),
        ("--platform=linux/amd64 auth token a", "auth --platform=linux/amd64 token a"),
        ("cp a b --insecure", "cp a b --insecure"),
        ("--help cp", "--help cp"),
        ("--insecure --nope cp", "--insecure --nope cp"),
        ("--insecure", "--insecure"),
        ("--platform", "--platform"),
    ],
)
def test_options_before_the_command_are_read_behind_it(given: str, read: str) -> None:
    assert behind_the_command(given.split()) == read.split()


@pytest.mark.parametrize(
    ("given", "read"),
    [
        ("--all --count=3 x", "--all --count=3 x"),
        ("--all=true -a=1 x", "--all -a x"),
        ("--all=false -a=F x", "x"),
        ("--flatten=false --flatten=true", "--no-flatten --flatten"),
        ("-- --all=true", "-- --all=true"),
        ("name=true", "name=true"),
    ],
)
def test_values_of_flags_say_whether_the_flag_is_there(given: str, read: str) -> None:
    assert without_values(given.split(), {"--all": "", "-a": "", "--flatten": "--no-flatten"}) == read.split()


def test_platforms_are_read_from_lists_and_repetitions() -> None:
    amd, arm = asyncrane.Platform("linux", "amd64"), asyncrane.Platform("linux", "arm64", "v8")
    assert platforms(None) == platforms(["all"]) == ()
    assert platforms(["linux/amd64,linux/arm64/v8", "linux/amd64"]) == (amd, arm)
    assert platform("linux/amd64") == amd
    assert platform(None) is platform("all") is None
    for wrong in (["all,linux/amd64"], [""], ["linux"]):
        with pytest.raises(asyncrane.InvalidPlatform):
            platforms(wrong)


def test_a_group_of_options_arrives_as_one_value() -> None:
    seen: list[tuple[str, Connection]] = []

    def command(name: Annotated[str, typer.Argument()], *, connection: Connection) -> None:
        """A command."""
        seen.append((name, connection))

    small = typer.Typer()
    small.command()(flat(command))
    ended = CliRunner().invoke(small, ["x", "--retries", "2", "--insecure"])
    assert ended.exit_code == 0, ended.output
    assert seen == [("x", Connection(retries=2, insecure=True))]


@pytest.mark.parametrize(
    ("shown", "expected"),
    [
        (size(0), "0 B"),
        (size(999), "999 B"),
        (size(999_949), "999.9 kB"),
        (size(999_950), "1.0 MB"),
        (size(1_500_000_000), "1.5 GB"),
        (size(2e18), "2000.0 PB"),
        (rate(10_000), "10.0 kB/s"),
        (duration(0.84), "0.8 s"),
        (duration(9.96), "10 s"),
        (duration(59.7), "1:00"),
        (duration(3723), "1:02:03"),
        (plural(1, "image"), "1 image"),
        (plural(0, "image"), "0 images"),
    ],
)
def test_quantities_read_well(shown: str, expected: str) -> None:
    assert shown == expected
