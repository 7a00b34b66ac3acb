"""``mirror`` and ``diff`` on the command line: what is printed, where, and how they end."""

from __future__ import annotations

import json
import signal
from pathlib import Path

import pytest

from asyncrane.testing import FaultyRegistry, Gate, faults
from asyncrane.testing.images import random_image
from tests.cli.conftest import Program, fill, run, stopped_by
from tests.mirror.runs import Mirror, fleet
from tests.promises.images import incomplete, tags

TREE = "{from: 'A/team/**', to: ['B/copy/{path}']}"


@pytest.fixture
def mirror(tmp_path: Path, registry: FaultyRegistry, other: FaultyRegistry) -> Mirror:
    return Mirror(tmp_path, registry, other)


def ready(mirror: Mirror) -> list[str]:
    """A fleet at the source and a file about it; returns the file and the option that names the journal."""
    fleet(mirror.source, repositories=2)
    mirror.rules(TREE)
    return [str(mirror.path), "--journal", str(mirror.journal)]


async def test_a_plan_is_a_table_for_people_and_json_for_apply(
    program: Program, mirror: Mirror, tmp_path: Path
) -> None:
    """The journal that a run will make need not be there yet, and planning does not make it."""
    spec, *journal = ready(mirror)
    file = tmp_path / "plan.json"
    shown = await program("mirror", "plan", spec, "-o", str(file), *journal, "--progress", "none")
    assert (shown.code, shown.err) == (0, "")
    assert not mirror.journal.exists()
    assert "new" in shown.text
    assert mirror.destination.address in shown.text
    assert f"'asyncrane mirror apply {file}' does exactly this." in shown.text
    as_json = await program("mirror", "plan", spec, "--output", "json", "--progress", "none")
    assert json.loads(as_json.text)["images"] == json.loads(file.read_text())["images"]
    applied = await program("mirror", "apply", str(file), "--journal", str(mirror.journal), "--progress", "none")
    assert (applied.code, applied.err) == (0, "")
    assert incomplete(mirror.destination) == []
    again = await program("mirror", "plan", spec, "--progress", "none")
    assert "Nothing to do." in again.text


def unfinished(folder: Path) -> list[Path]:
    """What was not renamed to what it should become."""
    return list(folder.glob(".asyncrane-*"))


async def test_a_plan_that_cannot_be_written_leaves_the_one_that_is_there(
    program: Program, mirror: Mirror, tmp_path: Path
) -> None:
    """Where files may not grow, as on a full disk, and where there is no directory."""
    spec, *_ = ready(mirror)
    file = tmp_path / "plan.json"
    file.write_text("the last one")
    words = program.command("mirror", "plan", spec, "-o", str(file))
    ended = await run(["sh", "-c", 'ulimit -f 0; exec "$@"', "sh", *words], program.environ, "")
    assert (ended.code, file.read_text()) == (1, "the last one")
    assert unfinished(tmp_path) == []
    ended = await program("mirror", "plan", spec, "-o", str(tmp_path / "no" / "plan.json"))
    assert ended.code == 2
    assert ended.err.splitlines()[-1].startswith(f"asyncrane: error: cannot write {tmp_path}/no/plan.json: ")


async def test_the_summary_of_a_run_is_json_on_stdout_and_a_table_on_stderr(program: Program, mirror: Mirror) -> None:
    """I4, A8: bytes by what became of them, requests by host and kind, images by outcome."""
    spec, *journal = ready(mirror)
    ended = await program("mirror", "apply", spec, *journal, "--output", "json")
    result = json.loads(ended.text)
    assert (ended.code, result["status"], result["images"]) == (0, "done", {"copied": 10})
    moved = sum(r.response_bytes for r in mirror.source.requests(kind="blob-get"))
    assert result["bytes_read"] == result["bytes_written"] == moved
    assert result["bytes_mounted"] > 0
    assert result["bytes_existing"] == 0
    assert set(result["requests"]) == {mirror.source.address, mirror.destination.address}
    assert "run 1: done" in ended.err
    assert "10 copied" in ended.err


async def test_failures_have_a_file_of_their_own_and_exit_code_1(
    program: Program, mirror: Mirror, tmp_path: Path
) -> None:
    """I1: and are tried again alone."""
    spec, *journal = ready(mirror)
    broken = mirror.source.get_manifest("team/app0", "v2")
    assert broken is not None
    content = mirror.source.get_blob("team/app0", broken.blobs()[-1].digest)
    assert content is not None
    mirror.source.storage.unlink("team/app0", broken.blobs()[-1].digest)
    file = tmp_path / "failures.jsonl"
    ended = await program("mirror", "apply", spec, *journal, "--failures", str(file))
    assert ended.code == 1
    assert ended.err.splitlines()[-1] == "asyncrane: error: run 1: 1 failed"
    (line,) = [json.loads(text) for text in file.read_text().splitlines()]
    assert (line["class"], line["status"], line["outcome"]) == ("NotFound", 404, "failed")
    assert line["source"] == f"{mirror.source.address}/team/app0:v2"
    assert str(broken.blobs()[-1].digest) in line["url"]
    again = await program("mirror", "retry-failed", "1", *journal, "--failures", str(file), "--output", "json")
    assert (again.code, json.loads(again.text)["images"]) == (1, {"failed": 1})
    nowhere = await program("mirror", "retry-failed", "1", *journal, "--failures", str(tmp_path / "no" / "file"))
    assert (nowhere.code, "1 failed" in nowhere.err) == (1, True), "the summary comes first"
    mirror.source.put_blob("team/app0", content)
    assert (await program("mirror", "retry-failed", "1", *journal, "--failures", str(file))).code == 0
    assert file.read_text() == "", "nothing failed in the last run"


async def test_runs_explain_rollback_and_report_read_the_journal(
    program: Program, mirror: Mirror, tmp_path: Path
) -> None:
    spec, *journal = ready(mirror)
    fill(mirror.destination, "copy/team/app0", random_image("before"), "v0")
    before = tags(mirror.destination)
    assert (await program("mirror", "apply", spec, *journal, "--progress", "none")).code == 0
    listed = await program("mirror", "runs", *journal)
    assert (listed.code, len(listed.text.splitlines())) == (0, 1)
    assert " apply " in listed.text
    assert " done " in listed.text
    name = f"{mirror.destination.address}/copy/team/app0:v0"
    told = await program("mirror", "explain", "1", name, *journal)
    assert f"-> {name}: copied (before: {before['copy/team/app0:v0']})" in told.text
    page = tmp_path / "page.html"
    assert (await program("mirror", "report", "1", "-o", str(page), *journal)).code == 0
    assert page.read_text().startswith("<!DOCTYPE html>")
    back = await program("mirror", "rollback", "1", "--delete-created", *journal)
    assert back.code == 0
    assert f"restored {name} {before['copy/team/app0:v0']}" in back.text
    assert tags(mirror.destination) == before


async def test_ctrl_c_says_how_to_go_on_and_going_on_sends_nothing_twice(program: Program, mirror: Mirror) -> None:
    """The first one stops at once, exit code 130."""
    spec, *journal = ready(mirror)
    gate = Gate()
    mirror.destination.faults.add(faults.delay(gate, kind="manifest-put", after=3))
    command = program.command("mirror", "apply", spec, *journal, "--progress", "none")
    ended = await stopped_by(command, program.environ, signal.SIGINT, gate.reached)
    gate.release()
    mirror.destination.faults.clear()
    hint = f"run 1 is not finished: 'asyncrane mirror resume 1 --journal {mirror.journal}' goes on with it"
    assert (ended.code, ended.err.splitlines()) == (130, [hint, "asyncrane: interrupted"])
    sent = {r.digest for r in mirror.destination.requests(kind="upload-put", status=201)}
    mirror.forget()
    resumed = await program("mirror", "resume", *journal, "--output", "json", "--progress", "none")
    assert (resumed.code, json.loads(resumed.text)["status"]) == (0, "done")
    assert incomplete(mirror.destination) == []
    assert len(tags(mirror.destination)) == 10
    assert sent & {r.digest for r in mirror.destination.requests(kind="upload-put")} == set()
    listed = await program("mirror", "runs", *journal, "--output", "json")
    assert [run["status"] for run in json.loads(listed.text)] == ["done"]


@pytest.mark.parametrize("words", [["resume"], ["retry-failed", "1"], ["rollback", "1"]], ids=lambda words: words[0])
async def test_who_goes_on_without_the_mirror_file_is_told(program: Program, mirror: Mirror, words: list[str]) -> None:
    """The journal has every image; credentials and the like stand in the file alone."""
    spec, *journal = ready(mirror)
    await program("mirror", "apply", spec, *journal, "--until", "2020-01-01T00:00", "--progress", "none")
    mirror.path.unlink()
    ended = await program("mirror", *words, *journal, "--progress", "none")
    assert ended.code == 0
    assert f"asyncrane: warning: {spec} is not there: what it says of registries" in ended.err


async def test_a_wrong_file_is_one_line_and_exit_code_2(program: Program, mirror: Mirror, tmp_path: Path) -> None:
    """I1: a wrong spec stops before anything is asked."""
    mirror.write("mirrors:\n  - from: A/team\n    too: [B/copy]\n")
    for verb in ("plan", "apply", "verify"):
        ended = await program("mirror", verb, str(mirror.path))
        assert ended.code == 2
        assert f"{mirror.path}:4:5: " in ended.error
        assert "did you mean 'to'" in ended.error
    missing = await program("mirror", "apply", str(tmp_path / "none.yaml"))
    assert missing.code == 2
    assert "none.yaml" in missing.error
    assert len(mirror.source.log) == 0


@pytest.mark.parametrize("until", ["25:00", "soon", "2030-13-01"])
async def test_a_time_that_is_none_is_a_usage_error(program: Program, mirror: Mirror, until: str) -> None:
    ended = await program("mirror", "apply", *ready(mirror), "--until", until)
    assert (ended.code, "--until" in ended.error) == (2, True)


async def test_verify_prints_differences_as_json_lines_and_repairs_only_these(program: Program, mirror: Mirror) -> None:
    """G4."""
    spec, *journal = ready(mirror)
    await program("mirror", "apply", spec, *journal, "--progress", "none")
    clean = await program("mirror", "verify", spec, "--deep")
    assert (clean.code, clean.text) == (0, "")
    mirror.destination.storage.delete_tag("copy/team/app0", "v1")
    wrong = await program("mirror", "verify", spec)
    assert wrong.code == 1
    (line,) = [json.loads(text) for text in wrong.text.splitlines()]
    assert line["kind"] == "missing"
    assert line["destination"] == f"{mirror.destination.address}/copy/team/app0:v1"
    mirror.forget()
    assert (await program("mirror", "verify", spec, "--repair")).code == 0
    assert [kind for kind in mirror.written() if kind != "mount"] == ["manifest-put"]
    assert (await program("mirror", "verify", spec, "--deep")).code == 0


async def test_diff_copies_nothing(program: Program, mirror: Mirror) -> None:
    fleet(mirror.source, repositories=1, versions=2)
    a, b = f"{mirror.source.address}/team/app0", f"{mirror.destination.address}/team/app0"
    ended = await program("diff", a, b)
    assert ended.code == 1
    assert len(ended.text.splitlines()) >= 1
    fleet(mirror.destination, repositories=1, versions=2)
    same = await program("diff", a, b)
    assert (same.code, same.text) == (0, "")
    assert (
        await program("diff", "-r", mirror.source.address + "/team", mirror.destination.address + "/team")
    ).code == 0
    assert mirror.written() == []


async def test_a_schema_and_other_tools_files(program: Program, mirror: Mirror, tmp_path: Path) -> None:
    schema = json.loads((await program("mirror", "schema")).text)
    assert {"version", "registries", "defaults", "mirrors"} <= set(schema["properties"])
    file = tmp_path / "sync.yaml"
    file.write_text(f"{mirror.source.address}:\n  images:\n    team/app0: [v0, v1]\n")
    fleet(mirror.source, repositories=1)
    converted = await program("mirror", "convert", str(file), "--to", f"{mirror.destination.address}/copy")
    assert converted.code == 0
    mirror.path.write_text(converted.text)
    assert (await program("mirror", "apply", str(mirror.path), "--journal", str(mirror.journal))).code == 0
    assert {name.rpartition(":")[2] for name in tags(mirror.destination)} == {"v0", "v1"}


async def test_a_secret_in_the_file_is_warned_of_and_shown_nowhere(program: Program, mirror: Mirror) -> None:
    """C6: not in what is printed, and not in the journal."""
    fleet(mirror.source, repositories=1)
    mirror.write(
        f"registries:\n  '{mirror.destination.address}':\n    credentials: {{username: me, password: hunter2-text}}\n"
        f"mirrors:\n  - {TREE}\n"
    )
    ended = await program("mirror", "apply", str(mirror.path), "--journal", str(mirror.journal), "-v")
    assert ended.code == 0, ended.err
    assert "warning" in ended.err
    assert "hunter2" not in ended.err + ended.text
    for file in mirror.journal.parent.glob("journal.db*"):
        assert b"hunter2" not in file.read_bytes()


async def test_metrics_are_served_while_it_runs(program: Program, mirror: Mirror) -> None:
    spec, *journal = ready(mirror)
    ended = await program("mirror", "apply", spec, *journal, "--metrics", "0", "--progress", "none")
    assert ended.code == 0
    assert ended.err.splitlines()[0].startswith("metrics: http://127.0.0.1:")


async def test_limits_of_rate_and_memory_are_obeyed(program: Program, mirror: Mirror) -> None:
    """I7: --limit-rate and --max-memory are sizes; anything else is a usage error."""
    spec, *journal = ready(mirror)
    wrong = await program("mirror", "apply", spec, *journal, "--limit-rate", "fast")
    assert wrong.code == 2
    assert "fast" in wrong.error
    fill(mirror.source, "team/large", random_image("large", layers=(300_000,)), "v1")
    limits = ("--limit-rate", "100MiB/s", "--max-memory", "64MiB")
    assert (await program("mirror", "apply", spec, *journal, *limits, "--progress", "none")).code == 0
    assert incomplete(mirror.destination) == []
