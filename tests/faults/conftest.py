"""Every test here says what it proves: ``@pytest.mark.cell(fault, operation, what)``, more than once if need be.

``fault`` is a row of the README's table (``ROWS`` in ``table.py``), ``operation`` a column, ``what`` one of the things
that are counted there: a kind of request, a way of lying, a moment; left out, it is the test. With
``ASYNCRANE_FAULTS_TABLE=README.md`` the process that runs the tests (with xdist the one that hands them out) writes the
table when all have ended. Rows that nobody tested stay as they are.
"""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from tests.faults.table import COLUMNS, ROWS, Results, write

_CELL = "cell"


class _Table:
    """Hears of every test's end, on whatever worker."""

    def __init__(self, path: Path) -> None:
        self._path = path
        self._results = Results()

    def pytest_runtest_logreport(self, report: pytest.TestReport) -> None:
        if report.skipped or (report.passed and report.when != "call"):
            return
        for name, cell in report.user_properties:
            if name == _CELL and isinstance(cell, list | tuple):
                self._results.add(*cell, passed=report.passed)

    def pytest_sessionfinish(self, exitstatus: int) -> None:
        if exitstatus in (pytest.ExitCode.OK, pytest.ExitCode.TESTS_FAILED):
            write(self._path, self._results)


def pytest_configure(config: pytest.Config) -> None:
    path = os.environ.get("ASYNCRANE_FAULTS_TABLE")
    if path and not hasattr(config, "workerinput"):
        config.pluginmanager.register(_Table(config.rootpath / path))


def pytest_itemcollected(item: pytest.Item) -> None:
    for marker in item.iter_markers(_CELL):
        fault, operation, *what = marker.args
        if fault not in ROWS or operation not in COLUMNS:
            raise pytest.UsageError(
                f"{item.nodeid}: no row {fault!r} or no column {operation!r} (tests/faults/table.py)"
            )
        item.user_properties.append((_CELL, [fault, operation, *(what or [item.nodeid])]))
