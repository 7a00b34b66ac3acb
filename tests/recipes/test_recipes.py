"""docs/recipes.md: every block does, word for word, what the page says it does."""

from __future__ import annotations

import os
import re
import tempfile
from collections.abc import AsyncIterator, Iterator
from dataclasses import dataclass
from pathlib import Path

import anyio
import pytest

from asyncrane.testing import FaultyRegistry
from tests.cli.conftest import LIMIT
from tests.peers import require
from tests.recipes.quick import installed
from tests.recipes.shop import stock

PAGE = (Path(__file__).parent.parent.parent / "docs" / "recipes.md").read_text()
MARK = "\x1e"
"""What the shell prints between two commands."""
PREFIX = "shop/images/"


@dataclass(frozen=True)
class Command:
    """A command of the page, with the lines shown below it."""

    line: str
    shown: str


@dataclass(frozen=True)
class Recipe:
    """A block, by the heading it stands under."""

    name: str
    commands: tuple[Command, ...]


def recipes() -> list[Recipe]:
    """Every block of the page."""
    found = []
    for part in re.split(r"^##+ ", PAGE, flags=re.MULTILINE)[1:]:
        title = part.partition("\n")[0]
        for number, block in enumerate(re.findall(r"^```console\n(.*?)^```$", part, re.MULTILINE | re.DOTALL)):
            name = re.sub(r"\W+", "-", title.lower()).strip("-") + (f"-{number + 1}" if number else "")
            found.append(Recipe(name, tuple(commands(block))))
    return found


def commands(block: str) -> list[Command]:
    """``$ `` begins a command, ``> `` goes on with it, everything else is what it prints."""
    read = []
    for text in re.split(r"^\$ ", block, flags=re.MULTILINE)[1:]:
        lines = text.splitlines(keepends=True)
        more = next((at for at, line in enumerate(lines[1:], 1) if not line.startswith("> ")), len(lines))
        read.append(Command(lines[0] + "".join(line[2:] for line in lines[1:more]), "".join(lines[more:])))
    return read


@pytest.fixture(scope="module")
def programs() -> Iterator[Path]:
    """Where ``asyncrane`` is."""
    with tempfile.TemporaryDirectory() as directory, installed(Path(directory)) as home:
        yield home


@pytest.fixture
async def names() -> AsyncIterator[dict[str, str]]:
    """The registries of the page, and where they are."""
    async with FaultyRegistry() as registry, FaultyRegistry() as mirror, FaultyRegistry(google=True) as google:
        stock(registry, registry.address)
        stock(google, google.address, prefix=PREFIX)
        yield {
            "registry.example.com": registry.address,
            "mirror.example.com": mirror.address,
            "europe-docker.pkg.dev": google.address,
        }


@pytest.mark.parametrize("recipe", recipes(), ids=lambda recipe: recipe.name)
async def test_a_recipe_does_what_it_says(
    recipe: Recipe, names: dict[str, str], programs: Path, tmp_path: Path
) -> None:
    """In bash, with ``set -euo pipefail``: every command ends well and prints what is shown."""
    bash = require("bash")
    if any("jq " in command.line for command in recipe.commands):
        require("jq", package="jq")
    script = "".join(f"{command.line}\nprintf '{MARK}'\n" for command in recipe.commands)
    work, home = tmp_path / "work", tmp_path / "home"
    work.mkdir()
    environ = {
        "PATH": f"{programs}{os.pathsep}{os.environ['PATH']}",
        "HOME": str(home),
        "DOCKER_CONFIG": str(home),
        "TMPDIR": str(tmp_path),
        "LC_ALL": "C",
        "TZ": "UTC",
    }
    with anyio.fail_after(LIMIT):
        ended = await anyio.run_process(
            [bash, "-c", f"set -euo pipefail\n{there(script, names)}"], env=environ, cwd=work, check=False
        )
    printed = back(ended.stdout.decode(), names).split(MARK)
    for command, out in zip(recipe.commands, printed, strict=False):
        assert re.fullmatch(pattern(command.shown), out), f"$ {command.line}\n{out}\n{ended.stderr.decode()}"
    assert (ended.returncode, len(printed)) == (0, len(recipe.commands) + 1), ended.stderr.decode()
    if "||" not in script:  # in <(...) a failure has no exit code
        assert "asyncrane: error: " not in ended.stderr.decode()


def test_there_are_enough_of_them() -> None:
    assert len({recipe.name for recipe in recipes()}) == len(recipes()) >= 15


def test_a_block_is_read_as_a_person_reads_it() -> None:
    block = "$ cat <<END\n> > $ one\n> END\n> $ one\n$ true\n$ echo two\ntwo\n"
    assert commands(block) == [
        Command("cat <<END\n> $ one\nEND\n$ one\n", ""),
        Command("true\n", ""),
        Command("echo two\n", "two\n"),
    ]


def there(text: str, names: dict[str, str]) -> str:
    """With the real registries."""
    for name, address in names.items():
        text = text.replace(name, address)
    return text


def back(text: str, names: dict[str, str]) -> str:
    """With the page's."""
    for name, address in names.items():
        text = text.replace(address, name)
    return text


def pattern(shown: str) -> str:
    """What the output must be: ``...`` is anything within a line."""
    return re.escape(shown).replace(re.escape("..."), ".+")
