"""The table in the README is what the tests said, all of them, and nothing else."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.faults.matrix import FAULTS, OPERATIONS, cells, sample
from tests.faults.table import BEGIN, COLUMNS, END, ROWS, Results, read, write

README = Path(__file__).parents[2] / "README.md"


def test_the_readme_has_a_row_for_every_fault_and_a_column_for_every_operation() -> None:
    head, *rows = read(README)
    assert head == ["fault", *COLUMNS]
    assert [row[0] for row in rows] == list(ROWS)
    assert [cell for row in rows for cell in row[1:] if "fail" in cell] == []


def test_the_readme_counts_the_kinds_of_requests_that_meet_a_fault() -> None:
    kinds: dict[tuple[str, str], set[str]] = {}
    for cell in cells():
        kinds.setdefault((cell.fault, cell.operation), set()).add(cell.kind)
    counted = {row[0]: row[1:] for row in read(README)}
    for fault in FAULTS:
        found = [kinds.get((fault, operation), ()) for operation in OPERATIONS]
        assert counted[fault] == [f"pass ({len(kind)})" if kind else "-" for kind in found]


def test_the_sample_lets_everything_meet_everything() -> None:
    every = list(cells())
    chosen = sample(every)
    met = {pair for cell in chosen for pair in cell.pairs()}
    assert {pair for cell in every if not cell.slow for pair in cell.pairs()} == met
    assert {(cell.fault, cell.kind) for cell in every} == {(cell.fault, cell.kind) for cell in chosen}
    assert len(chosen) < len(every) / 8


def test_a_cell_passes_when_all_its_tests_do(tmp_path: Path) -> None:
    results = Results()
    fault, other, *_ = FAULTS
    results.add(fault, "cp", "ping", passed=True)
    results.add(fault, "cp", "ping", passed=True)
    results.add(fault, "cp", "token", passed=True)
    results.add(other, "push", "ping", passed=True)
    results.add(other, "push", "ping", passed=False)
    results.add(other, "push", "token", passed=True)
    page = tmp_path / "page.md"
    page.write_text(f"before\n\n{BEGIN}\n{END}\n\nafter\n")
    write(page, results)
    table = {row[0]: dict(zip(COLUMNS, row[1:], strict=True)) for row in read(page)}
    assert (table[fault]["cp"], table[fault]["pull"], table[other]["push"]) == ("pass (2)", "-", "**fail** (1 of 2)")
    assert page.read_text().startswith(f"before\n\n{BEGIN}\n| fault |")
    assert page.read_text().endswith(f"|\n{END}\n\nafter\n")


def test_a_run_of_some_tests_changes_their_rows_only(tmp_path: Path) -> None:
    page = tmp_path / "page.md"
    page.write_text(f"{BEGIN}\n{END}")
    first, second = Results(), Results()
    fault, other, *_ = FAULTS
    first.add(fault, "cp", "ping", passed=True)
    first.add(other, "cp", "ping", passed=True)
    second.add(other, "pull", "ping", passed=True)
    write(page, first)
    write(page, second)
    rows = {row[0]: row[1:] for row in read(page)}
    assert rows[fault] == ["pass (1)", "-", "-", "-", "-"]
    assert rows[other] == ["-", "-", "pass (1)", "-", "-"]


def test_a_page_without_a_place_for_it_is_refused(tmp_path: Path) -> None:
    page = tmp_path / "page.md"
    page.write_text("nothing")
    with pytest.raises(ValueError, match="no place for the table"):
        write(page, Results())
