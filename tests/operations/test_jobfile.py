"""Job files: every line becomes a typed job, or a message that says where and why."""

from __future__ import annotations

import re
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from asyncrane import InvalidInput, Platform
from asyncrane.images.history import HistoryEntry
from asyncrane.images.mutate import Changes
from asyncrane.operations.jobfile import KEYS, AppendJob, CopyJob, MutateJob, RebaseJob, is_job_file, parse_jobs
from asyncrane.stores.locate import parse_location

LINES = {
    '{"copy": "a.io/b:1", "to": ["c.io/d:1", "e.io/f:1"], "platforms": ["linux/arm64"], "referrers": true}': CopyJob(
        line=1,
        source=parse_location("a.io/b:1"),
        to=(parse_location("c.io/d:1"), parse_location("e.io/f:1")),
        platforms=(Platform("linux", "arm64"),),
        referrers=True,
    ),
    '{"rebase": "a.io/app:1", "new_base": "a.io/base:2", "old_base": "a.io/base:1"}': RebaseJob(
        line=1,
        source=parse_location("a.io/app:1"),
        new_base=parse_location("a.io/base:2"),
        old_base=parse_location("a.io/base:1"),
    ),
    "{rebase: a.io/app:1, to: a.io/app:2, detect: true, overwrite: never}": RebaseJob(
        line=1,
        source=parse_location("a.io/app:1"),
        to=(parse_location("a.io/app:2"),),
        detect=True,
        overwrite="never",
    ),
    "{append: a.io/base, layers: [x.tar, 'y z.tar.gz'], to: [a.io/app:1], nondistributable: true}  # later": AppendJob(
        line=1,
        source=parse_location("a.io/base:latest"),
        layers=(Path("x.tar"), Path("y z.tar.gz")),
        to=(parse_location("a.io/app:1"),),
        nondistributable=True,
    ),
    '{"append": "a.io/b:1", "layers": ["x"], "history": {"created_by": "make", "comment": "a"}}': AppendJob(
        line=1,
        source=parse_location("a.io/b:1"),
        layers=(Path("x"),),
        history=HistoryEntry(created_by="make", comment="a"),
    ),
    '{"mutate": "a.io/b:1", "layers": ["x"], "history": {"author": "a"}, "created": "2024-02-29T12:00:00Z"}': MutateJob(
        line=1,
        source=parse_location("a.io/b:1"),
        layers=(Path("x"),),
        changes=Changes(created="2024-02-29T12:00:00Z", history=HistoryEntry(author="a")),
    ),
    '{"mutate": "a.io/app:1", "labels": {"a": "b,c=d"}, "cmd": [], "set_platform": "linux/arm", "user": ""}': MutateJob(
        line=1,
        source=parse_location("a.io/app:1"),
        changes=Changes(labels={"a": "b,c=d"}, cmd=(), user="", platform=Platform("linux", "arm")),
    ),
}


@pytest.mark.parametrize("line", LINES)
def test_a_line_becomes_a_typed_job(line: str) -> None:
    assert parse_jobs(line, "jobs") == (LINES[line],)


@pytest.mark.parametrize(
    ("line", "says"),
    [
        ('{"rebse": "a.io/b:1"}', "found 'rebse' (did you mean 'rebase'?)"),
        ("{}", "expected one of copy, rebase, append, mutate; found nothing"),
        ('{"rebase": "a.io/b:1", "new_bsae": "x"}', "rebase: unknown key 'new_bsae' (did you mean 'new_base'?)"),
        ('{"copy": "a.io/b:1", "layers": ["x"]}', "copy: unknown key 'layers' (known are: copy, nondistributable,"),
        ('{"copy": "a.io/b:1", "append": "a.io/b:1"}', "two jobs on one line: copy and append"),
        ('{"copy": "a.io/b:1"}', "copy: needs 'to'"),
        ('{"copy": "a.io/b:1", "to": [1]}', "copy: to[0]: expected str, got int"),
        ('{"copy": 1, "to": ["a.io/b:1"]}', "copy: copy: expected str, got int"),
        ('{"copy": "a.io/B:1", "to": ["a.io/b:1"]}', "names are lower-case"),
        ('{"copy": "a.io/b:1", "to": ["localhost:5000"]}', "is a registry without a repository"),
        ('{"copy": "a.io/b:1", "to": ["c.io/d:1"], "platforms": ["arm"]}', "not a platform: 'arm'"),
        ('{"copy": "a.io/b:1", "to": ["c.io/d:1"], "overwrite": "no"}', "copy: overwrite: invalid enum value 'no'"),
        ('{"rebase": "a.io/b:1", "old_base": "a.io/c:1", "detect": true}', "exclude each other"),
        ('{"append": "a.io/b:1"}', "append: object missing required field layers"),
        ('{"append": "a.io/b:1", "layers": []}', "expected the names of files"),
        ('{"mutate": "a.io/b:1"}', "mutate: nothing to change"),
        ("{mutate: a.io/b:1, labels: {version: 1.10}}", "mutate: labels[...]: expected str, got float"),
        ('{"mutate": "a.io/b:1", "env": {"A=B": ""}}', "not the name of an environment variable: 'A=B'"),
        ('{"mutate": "a.io/b:1", "platform": {}}', "mutate: unknown key 'platform' (did you mean 'platforms'?)"),
        ('{"mutate": "a.io/b:1", "history": {"autor": "me"}}', "history: object contains unknown field autor"),
        ('{"rebase": "a.io/b:1", "history": {"created": "noon"}}', "not a time: 'noon'"),
        ('{"mutate": "a.io/b:1", "exposed_ports": ["http"]}', "not a port: 'http'"),
        ('{"copy": "a.io/b:1", "copy": "a.io/c:1"}', "'copy' is there twice"),
        ("{copy: a.io/b:1, copy: a.io/c:1}", "duplicate key"),
        ('{"copy": "a.io/b:1", ', "neither JSON nor a YAML mapping"),
        ("copy a.io/b:1 a.io/c:1", "not a job (expected one {...} on the line)"),
        ("[1]", "not a job (expected one {...} on the line)"),
    ],
)
def test_a_line_that_is_no_job_is_refused_with_its_place(line: str, says: str) -> None:
    with pytest.raises(InvalidInput) as caught:
        parse_jobs(f'# jobs\n\n{{"copy": "z.io/z:1", "to": ["y.io/y:1"]}}\n  {line}\n', "dir/jobs.txt")
    assert str(caught.value).startswith("dir/jobs.txt:4: ")
    assert says in str(caught.value)
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize(
    ("lines", "says"),
    [
        (
            ['{"copy": "a.io/b:1", "to": ["c.io/d:1"]}', '{"copy": "a.io/b:2", "to": ["c.io/e:1", "c.io/d:1"]}'],
            "j:2: c.io/d:1 is written by line 1, too",
        ),
        (
            ['{"mutate": "a.io/b:1", "user": "x"}', '{"copy": "a.io/b:1", "to": ["c.io/d:1"]}'],
            "j:2: a.io/b:1 is read here and written by line 1; lines of one file do not wait for each other",
        ),
        (
            ['{"rebase": "a.io/b:1", "new_base": "a.io/base"}', '{"mutate": "a.io/base:latest", "user": "x"}'],
            "j:1: a.io/base:latest is read here and written by line 2",
        ),
        (["# nothing", ""], "j: no job in it"),
    ],
)
def test_lines_that_would_have_to_wait_for_each_other_are_refused(lines: list[str], says: str) -> None:
    with pytest.raises(InvalidInput) as caught:
        parse_jobs("\n".join(lines), "j")
    assert says in str(caught.value)


@given(st.text())
def test_no_text_is_more_than_a_message(text: str) -> None:
    """Whatever is in the file, it is a job or one clear line."""
    try:
        parse_jobs("{" + text, "j")
    except InvalidInput as exc:
        assert str(exc).startswith("j:")  # noqa: PT017  (most texts raise, not all)


def test_a_job_file_is_known_by_its_first_line() -> None:
    assert is_job_file('# a comment\n\n  {"copy": "a"}')
    assert not is_job_file("# {\na.io/b:1 c.io/d:1\n")
    assert not is_job_file("")


def test_a_job_knows_what_it_reads_and_writes() -> None:
    (job,) = parse_jobs('{"rebase": "a.io/b:1", "new_base": "a.io/c:1"}', "j")
    assert [str(target) for target in job.targets] == ["a.io/b:1"]
    assert [str(read) for read in job.reads()] == ["a.io/b:1", "a.io/c:1"]


def test_every_example_in_the_documentation_is_a_job_file() -> None:
    text = (Path(__file__).parents[2] / "docs" / "jobs.md").read_text()
    examples = re.findall(r"```(?:json|yaml)\n(.*?)```", text, re.DOTALL)
    assert len(examples) >= 5
    for example in examples:
        assert is_job_file(example)
        assert parse_jobs(example, "docs/jobs.md")


def test_every_key_is_in_the_documentation() -> None:
    text = (Path(__file__).parents[2] / "docs" / "jobs.md").read_text()
    keys = {key for known in KEYS.values() for key in known}
    assert {key for key in keys if f"`{key}`" not in text} == set()


def test_half_a_character_is_one_clear_error() -> None:
    """JSON can name one half of a pair; no file or request can have it."""
    with pytest.raises(InvalidInput, match=r"^jobs:1: mutate: half a character, which cannot be written$"):
        parse_jobs('{"mutate": "a.example/x:1", "to": "b.example/x:1", "cmd": "\\ud800"}', "jobs")
