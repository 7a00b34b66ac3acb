"""docs/library.md: every block runs as it stands, and prints what the page says."""

from __future__ import annotations

import ast
import contextlib
import inspect
import io
import re
from dataclasses import dataclass
from pathlib import Path
from types import CodeType
from typing import Any

import anyio
import pytest

from asyncrane import images
from tests.recipes.test_recipes import back, names, pattern, there

__all__ = ["names"]

PAGE = (Path(__file__).parent.parent.parent / "docs" / "library.md").read_text()
LIMIT = 60
_BLOCK = re.compile(r"^```python\n(.*?)^```$(?:\n\n^```text\n(.*?)^```$)?", re.MULTILINE | re.DOTALL)


@dataclass(frozen=True)
class Example:
    """A block, by the heading it stands under, and what it prints."""

    name: str
    program: str
    shown: str


def examples() -> list[Example]:
    """Every block of the page."""
    found = []
    for part in re.split(r"^##+ ", PAGE, flags=re.MULTILINE)[1:]:
        title = re.sub(r"\W+", "-", part.partition("\n")[0].lower()).strip("-")
        found += [Example(title, program, shown) for program, shown in _BLOCK.findall(part)]
    return found


@pytest.mark.parametrize("example", examples(), ids=lambda example: example.name)
async def test_an_example_does_what_it_says(
    example: Example, names: dict[str, str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """As ``python -m asyncio`` runs it, in an empty directory."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("DOCKER_CONFIG", str(tmp_path / "nothing"))
    code = compile(there(example.program, names), example.name, "exec", flags=ast.PyCF_ALLOW_TOP_LEVEL_AWAIT)
    printed = io.StringIO()
    with anyio.fail_after(LIMIT), contextlib.redirect_stdout(printed):
        await run(code)
    out = back(printed.getvalue(), names)
    assert re.fullmatch(pattern(example.shown), out), out


async def run(code: CodeType) -> None:
    """Run a module whose top level may wait."""
    namespace: dict[str, Any] = {"__name__": "example"}
    waiting = eval(code, namespace)  # noqa: S307  (the page is ours)
    if inspect.iscoroutine(waiting):
        await waiting


def test_every_example_shows_what_it_prints() -> None:
    assert len({example.name for example in examples()}) == len(examples()) == PAGE.count("```python") >= 15
    assert [example.name for example in examples() if not example.shown] == []


def test_everything_public_is_explained_and_on_the_page() -> None:
    for name in images.__all__:
        value = getattr(images, name)
        assert name == "View" or inspect.getdoc(value), name
    functions = {name for name in images.__all__ if inspect.isfunction(getattr(images, name))}
    assert {name for name in functions if f"{name}(" not in PAGE} == {"load_rest", "windows_layer"}
