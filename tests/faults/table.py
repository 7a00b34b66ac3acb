"""The table in the README: which fault, during which operation, ended as it must."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path

from asyncrane.testing import PROFILES
from tests.faults.ground import STRIKES
from tests.faults.liars import LIES
from tests.faults.matrix import FAULTS, OPERATIONS

LIKE = {name: f"a registry like {name}" for name in PROFILES}
"""The rows of registries that are made like known ones."""

ROWS = (*FAULTS, *LIES, *LIKE.values(), *STRIKES)
"""The faults, in the order of the table. Whoever tests another one names it here."""

COLUMNS = tuple(OPERATIONS)

BEGIN = "<!-- faults: written by make faults -->"
END = "<!-- end of faults -->"


class Results:
    """What became of the tests of every cell."""

    def __init__(self) -> None:
        self._cells: dict[tuple[str, str], dict[str, bool]] = {}

    def add(self, fault: str, operation: str, what: str, *, passed: bool) -> None:
        """One test has ended; of several that are about the same, each has to pass."""
        cell = self._cells.setdefault((fault, operation), {})
        cell[what] = passed and cell.get(what, True)

    def rows(self, before: Mapping[str, Sequence[str]]) -> Iterator[Sequence[str]]:
        """The table, its head included. A fault that nobody tested keeps the row that it had."""
        yield ["fault", *COLUMNS]
        for fault in ROWS:
            found = [self._cells.get((fault, operation), {}) for operation in COLUMNS]
            row = [fault, *map(_words, found)]
            yield row if any(found) else before.get(fault, row)


def _words(cell: Mapping[str, bool]) -> str:
    if not cell:
        return "-"
    broken = len(cell) - sum(cell.values())
    return f"**fail** ({broken} of {len(cell)})" if broken else f"pass ({len(cell)})"


def write(path: Path, results: Results) -> None:
    """Put the table between the two markers in ``path``."""
    before, _, after = _parts(path)
    old = {row[0]: row for row in read(path) if len(row) == len(COLUMNS) + 1}
    head, *rest = [f"| {' | '.join(cells)} |" for cells in results.rows(old)]
    ruler = f"|{' --- |' * (len(COLUMNS) + 1)}"
    path.write_text("\n".join([f"{before}{BEGIN}", head, ruler, *rest, f"{END}{after}"]))


def read(path: Path) -> list[list[str]]:
    """The table that is in ``path``, its head included."""
    lines = _parts(path)[1].strip().splitlines()
    cells = [[cell.strip() for cell in line.strip("|").split("|")] for line in lines]
    return [row for row in cells if set("".join(row)) - {"-", " "}]


def _parts(path: Path) -> tuple[str, str, str]:
    text = path.read_text()
    before, begin, rest = text.partition(BEGIN)
    table, end, after = rest.partition(END)
    if not begin or not end:
        raise ValueError(f"{path}: no place for the table ({BEGIN} ... {END})")
    return before, table, after
