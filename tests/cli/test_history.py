"""``mirror runs``, ``explain``, ``report``, ``rollback``, ``resume`` and the journal: what is missing, what is left."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from asyncrane.engine.journal import Journal
from asyncrane.engine.messages import JobAdded
from tests.cli.conftest import Program
from tests.engine.journals import job, record

ABOUT_A_RUN = {
    "explain": ["explain", "7", "team/app:v1"],
    "report": ["report", "7"],
    "rollback": ["rollback", "7"],
    "resume": ["resume", "7"],
    "retry-failed": ["retry-failed", "7"],
}


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "state" / "journal.db"


@pytest.fixture
def journal(path: Path) -> Path:
    """A journal with one run of one image in it."""
    path.parent.mkdir()
    with Journal.open(path) as opened:
        assert record(opened, JobAdded(job(1, "v1"))) == 1
    return path


def kept(journal: Path) -> dict[str, bytes]:
    """The files of a journal's folder."""
    return {file.name: file.read_bytes() for file in journal.parent.iterdir()}


async def test_where_nothing_has_run_there_are_no_runs(program: Program) -> None:
    """Which is no failure, as an empty list is none; and no journal is made for it."""
    shown = await program("mirror", "runs")
    assert (shown.code, shown.text, shown.err) == (0, "", "there are no runs\n")
    as_json = await program("mirror", "runs", "--output", "json")
    assert (as_json.code, json.loads(as_json.text), as_json.err) == (0, [], "there are no runs\n")
    assert not program.home.exists()


@pytest.mark.parametrize("words", [["runs"], *ABOUT_A_RUN.values()], ids=["runs", *ABOUT_A_RUN])
async def test_3_for_a_journal_that_is_named_and_not_there(program: Program, path: Path, words: list[str]) -> None:
    """And none is made: a slip of the pen leaves no file."""
    ended = await program("mirror", *words, "--journal", str(path))
    assert (ended.code, ended.error) == (3, f"asyncrane: error: there is no journal {path}")
    assert not path.parent.exists()


@pytest.mark.parametrize("words", ABOUT_A_RUN.values(), ids=ABOUT_A_RUN)
async def test_3_for_a_run_that_is_not_there(program: Program, journal: Path, words: list[str]) -> None:
    ended = await program("mirror", *words, "--journal", str(journal))
    assert (ended.code, ended.error) == (3, f"asyncrane: error: journal {journal}: there is no run 7")


async def test_3_for_what_a_run_has_nothing_about(program: Program, journal: Path) -> None:
    ended = await program("mirror", "explain", "1", "no/such:tag", "--journal", str(journal))
    assert (ended.code, ended.error) == (3, "asyncrane: error: run 1: nothing about no/such:tag")


@pytest.mark.parametrize(
    "words", [["runs"], ["explain", "1", "team/app:v1"], ["report", "1", "-o", "/dev/null"]], ids=lambda words: words[0]
)
async def test_who_only_reads_the_journal_leaves_it_alone(program: Program, journal: Path, words: list[str]) -> None:
    """The files that SQLite keeps beside it are gone, as they are when nobody has it open."""
    before = kept(journal)
    assert before.keys() == {"journal.db", "journal.db.lock"}
    assert (await program("mirror", *words, "--journal", str(journal))).code == 0
    assert kept(journal) == before
