"""The README: its commands are understood, its example runs, its tables are true."""

from __future__ import annotations

import re
import shlex
import sys
from pathlib import Path

import pytest

from asyncrane import errors
from asyncrane.cli.app import COMMANDS as TABLE
from asyncrane.testing import FaultyRegistry
from asyncrane.testing.images import random_image
from tests.cli.conftest import Program, fill, run

README = (Path(__file__).parent.parent.parent / "README.md").read_text()
COMMANDS = re.findall(r"^\$ asyncrane (.*)$", README, re.MULTILINE)
ROWS = re.findall(r"^\| ([0-9`].*?) \| (.*) \|$", README, re.MULTILINE)


def words(line: str) -> list[str]:
    """The arguments of a command line, without what the shell does with it."""
    return shlex.split(re.split(r"\s[|<>]\s", line)[0].replace("[DST ...]", "DST"), comments=True)


def test_there_are_commands_to_try() -> None:
    assert len(COMMANDS) > 8


@pytest.mark.parametrize("line", COMMANDS)
async def test_its_commands_are_understood(program: Program, line: str) -> None:
    """Options are looked at before ``--help`` is answered: an unknown one would be an error."""
    ended = await program(*words(line), "--help")
    assert (ended.code, ended.err) == (0, "")


async def test_its_example_runs(
    program: Program, registry: FaultyRegistry, other: FaultyRegistry, tmp_path: Path
) -> None:
    (code,) = re.findall(r"^```python\n(.*?)^```$", README, re.MULTILINE | re.DOTALL)
    sample = random_image("readme")
    fill(registry, "app", sample, "1")
    for written, real in {"5000": registry, "5001": other, "5002": other}.items():
        code = code.replace(f"localhost:{written}", f"{real.address}{'' if written != '5002' else '/second'}")
    (tmp_path / "example.py").write_text(code)
    ended = await run([sys.executable, str(tmp_path / "example.py")], program.environ)
    assert (ended.code, ended.err) == (0, "")
    assert ended.text == f"{sample.digest} ['copied', 'copied']\n"
    assert other.get_manifest("app", "1") == other.get_manifest("second/app", "1") == sample.manifest


def test_its_table_of_commands_has_every_command() -> None:
    named = {name for first, _ in ROWS for quoted in re.findall("`(.*?)`", first) for name in quoted.split(", ")}
    assert {name.split()[0] for name in named} >= {entry.name for entry in TABLE if not entry.hidden}


def test_its_table_of_exit_codes_is_that_of_the_errors() -> None:
    table = README.partition("| exit code |")[2].partition("\n\n")[0]
    rows = re.findall(r"^\| ([0-9, ]+) \|", table, re.MULTILINE)
    codes = {int(code) for first in rows for code in first.split(", ")}
    found = {kind.exit_code for kind in vars(errors).values() if hasattr(kind, "exit_code")}
    assert codes == found | {0, 130, 141, 143}
