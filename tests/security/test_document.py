"""docs/security.md names tests and modules; they are there."""

from __future__ import annotations

import ast
import re
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
TEXT = (ROOT / "docs" / "security.md").read_text()
TESTS = sorted(set(re.findall(r"`(tests/[a-z_0-9/]+\.py)::(\w+)`", TEXT)))
MODULES = sorted(set(re.findall(r"`([a-z_]+/(?:[a-z_]+\.py)?)`", TEXT)))
ROWS = [line for line in TEXT.splitlines() if line.startswith("| ") and "guarantee" not in line and "---" not in line]


@pytest.mark.parametrize(("file", "name"), TESTS)
def test_every_test_that_is_named_exists(file: str, name: str) -> None:
    functions = [node for node in ast.parse((ROOT / file).read_text()).body if hasattr(node, "name")]
    assert name in {node.name for node in functions}


def test_every_guarantee_has_a_test_and_a_module_that_exists() -> None:
    assert len(ROWS) > 30
    assert [row for row in ROWS if row.count("::") < 1] == []
    assert [module for module in MODULES if not (ROOT / "asyncrane" / module).exists()] == []


def test_every_test_of_this_directory_is_named() -> None:
    """But for the details: what is tested here and said nowhere is not promised."""
    named = {file for file, _ in TESTS}
    here = {f"tests/security/{path.name}" for path in Path(__file__).parent.glob("test_*.py")}
    assert here - named == {"tests/security/test_document.py"}
