"""The structure of the code, as facts: which package knows which, what start-up costs, how large a module is."""

from __future__ import annotations

import ast
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

import asyncrane

ROOT = Path(__file__).parent.parent
LONGEST = 600
HEAVY = ("aiohttp", "uvloop", "sqlite3")
"""What `--help` does not need: what comes with the first real piece of work."""


def modules(*folders: str) -> list[Path]:
    return [path for folder in folders for path in sorted((ROOT / folder).rglob("*.py"))]


def run(*command: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(command, cwd=ROOT, capture_output=True, text=True, timeout=120, check=False)


def imported_by(*arguments: str) -> set[str]:
    """The names of all modules a run of Python imports."""
    ended = run(sys.executable, "-X", "importtime", *arguments)
    assert ended.returncode == 0, ended.stderr[-2000:]
    lines = (line for line in ended.stderr.splitlines() if line.startswith("import time:"))
    return {line.rpartition("|")[2].strip() for line in lines}


def test_imports_point_down() -> None:
    """The contracts are in pyproject.toml."""
    ended = run(str(Path(sys.executable).with_name("lint-imports")), "--no-cache")
    assert ended.returncode == 0, ended.stdout[-4000:]


@pytest.mark.parametrize("arguments", [("--help",), ("cp", "--help"), ("version",)], ids=" ".join)
def test_help_does_not_wait_for_an_http_client(arguments: tuple[str, ...]) -> None:
    loaded = imported_by("-m", "asyncrane", *arguments)
    assert "asyncrane.cli.app" in loaded
    assert not loaded & {*HEAVY}


def test_the_root_package_loads_nothing_until_asked() -> None:
    loaded = {name for name in imported_by("-c", "import asyncrane") if name.startswith("asyncrane")}
    assert loaded == {"asyncrane", "asyncrane._version"}


@pytest.mark.parametrize("name", dir(asyncrane))
def test_every_public_name_can_be_imported(name: str) -> None:
    assert getattr(asyncrane, name) is not None


def test_type_checkers_see_the_names_that_are_loaded_lazily() -> None:
    """`__init__` says them twice: once for mypy, once for `__getattr__`."""
    typed = {(f"{node.module}", alias.name) for node in _checked_imports() for alias in node.names}
    assert typed == {(module, name) for name, module in asyncrane._HOME.items()}


@pytest.mark.parametrize("path", modules("asyncrane", "benchmarks"), ids=lambda path: str(path.relative_to(ROOT)))
def test_a_module_says_its_subject_and_keeps_to_it(path: Path) -> None:
    text = path.read_text()
    assert ast.get_docstring(ast.parse(text)), "no docstring"
    assert len(text.splitlines()) < LONGEST
    assert path.stem not in ("utils", "util", "common", "misc"), "not a subject"


def test_every_folder_of_modules_is_a_package() -> None:
    folders = {path.parent for path in modules("asyncrane", "tests", "benchmarks")}
    assert [str(folder) for folder in folders if not (folder / "__init__.py").exists()] == []


def test_tests_use_no_mocks() -> None:
    """A fake is a small real implementation."""
    found = [path for path in modules("tests") for name in _imports(path) if name.startswith(("unittest", "mock"))]
    assert found == []


def _checked_imports() -> list[ast.ImportFrom]:
    tree = ast.parse((ROOT / "asyncrane" / "__init__.py").read_text())
    guarded = next(node for node in tree.body if isinstance(node, ast.If))
    return [node for node in guarded.body if isinstance(node, ast.ImportFrom)]


def _imports(path: Path) -> Iterator[str]:
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom) and node.module:
            yield node.module
