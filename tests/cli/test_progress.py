"""I5: progress is shown where it is looked at: bars on a terminal, lines in a log, objects for programs."""

from __future__ import annotations

import json
import os
import pty
import re
import subprocess
from contextlib import closing

import anyio
import anyio.to_thread
import msgspec
import pytest

from asyncrane import Failure, Outcome, Statistics, TargetOutcome, TransferView
from asyncrane.cli.bars import Bars
from asyncrane.cli.meter import Meter
from asyncrane.cli.options import ProgressMode
from asyncrane.cli.progress import JsonLines, Log, progress, summary
from asyncrane.engine.outcome import RegistryView
from asyncrane.testing import FaultyRegistry, Gate, delay
from asyncrane.testing.images import random_image
from tests.cli.conftest import LIMIT, Program, fill

HALF = Statistics(
    images_total=4,
    images_done=1,
    images_failed=1,
    blobs_total=8,
    blobs_done=2,
    bytes_total=2_000_000,
    bytes_read=1_000_000,
    transfers=tuple(TransferView(f"sha256:{n:064}", 100 + n, n, "a/x", ("b/y",)) for n in range(12)),
    parked={"slow.example.com": 4.0},
)


def test_a_log_line_says_how_far_and_how_fast(capsys: pytest.CaptureFixture[str]) -> None:
    Log().show(HALF)
    said = capsys.readouterr()
    assert said.out == ""
    assert "1/4 images (1 failed), 2/8 blobs, 1.0 MB of 2.0 MB" in said.err
    assert "slow.example.com waits 4.0 s" in said.err
    assert said.err.count("\n") == 1


def test_json_lines_are_objects_with_all_counts(capsys: pytest.CaptureFixture[str]) -> None:
    lines = JsonLines()
    lines.show(HALF)
    lines.say("a message")
    lines.end(HALF)
    first, second, third = (json.loads(line) for line in capsys.readouterr().err.splitlines())
    assert (first["event"], second["event"], third["event"]) == ("progress", "message", "end")
    assert first["bytes_total"] == 2_000_000
    assert first["images_failed"] == 1


def test_a_log_is_written_less_often_after_some_minutes(capsys: pytest.CaptureFixture[str]) -> None:
    log = Log()
    log.show(HALF)
    assert log.period == 5.0
    log._meter.started -= 121
    log.show(HALF)
    assert log.period == 30.0
    assert capsys.readouterr().err.splitlines()[1].startswith("2:01: 1/4 images")


def test_json_lines_tell_of_registries_transfers_and_each_image(capsys: pytest.CaptureFixture[str]) -> None:
    lines = JsonLines()
    view = RegistryView({"GET blobs": 2}, received=7, limit=4)
    lines.show(msgspec.structs.replace(HALF, registries={"a": view}))
    lines.outcome(Outcome("a/x:1", targets=(TargetOutcome("b/y:1", "failed", Failure("Denied", "no", 403)),)))
    first, second = (json.loads(line) for line in capsys.readouterr().err.splitlines())
    assert first["registries"]["a"]["requests"] == {"GET blobs": 2}
    assert [transfer["size"] for transfer in first["transfers"]] == list(range(111, 103, -1))
    assert second["event"] == "image"
    assert second["targets"][0]["failure"] == {"kind": "Denied", "message": "no", "status": 403}


def test_bars_show_the_busiest_transfers_only(capsys: pytest.CaptureFixture[str]) -> None:
    bars = Bars("Copying")
    bars.show(HALF)
    bars.say("[b]this stays[/b]")
    bars.end(HALF)
    said = capsys.readouterr()
    assert said.out == ""
    assert "[b]this stays[/b]" in said.err


@pytest.mark.parametrize("columns", [40, 60, 120])
def test_bars_fit_the_terminal(columns: int, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("COLUMNS", str(columns))
    bars = Bars("Copying")
    with bars._console.capture() as captured:
        bars._console.print(bars._draw(HALF))
    bars.end(HALF)
    lines = captured.get().splitlines()
    assert max(map(len, lines)) <= columns
    assert "50%" in lines[1]
    assert [line[:10] for line in lines[2:]] == [*[f"{0:010}"] * 8, ""], "and a line where ^C is written"
    assert ("x → y" in lines[2]) == (columns > 40)


def test_what_is_left_is_said_only_when_it_can_be() -> None:
    meter = Meter()
    assert meter.left(HALF) is None
    meter.take(HALF)
    assert meter.left(Statistics()) is None


def test_the_summary_names_what_was_moved_and_what_was_not() -> None:
    done = Statistics(
        images_done=1, bytes_read=5_000_000, bytes_written=10_000_000, bytes_mounted=1000, requests={"h": {"x": 1}}
    )
    assert summary(done, 2.0) == ("1 image in 2.0 s: read 5.0 MB at 2.5 MB/s, wrote 10.0 MB, mounted 1.0 kB; 1 request")
    assert summary(Statistics(images_done=2), 0.1) == "2 images in 0.1 s: nothing to move; 0 requests"


async def test_the_last_look_is_taken_even_when_the_work_fails(capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(ExceptionGroup):
        async with progress(ProgressMode.json, lambda: HALF):
            raise ValueError("no")
    assert json.loads(capsys.readouterr().err)["event"] == "end"


async def test_a_terminal_gets_bars_on_stderr_and_results_on_stdout(
    program: Program, registry: FaultyRegistry, other: FaultyRegistry
) -> None:
    image, gate = fill(registry, "app", random_image("bars", layers=(300_000, 2000)), "v1"), Gate()
    registry.faults.add(delay(gate, kind="blob-get"))
    environ = {name: value for name, value in program.environ.items() if name != "NO_COLOR"}
    main, terminal = pty.openpty()
    with anyio.fail_after(LIMIT), closing(os.fdopen(main, "rb", buffering=0)) as screen:
        async with await anyio.open_process(
            program.command("cp", image, f"{other.address}/b:v1", "--output", "json"),
            env={**environ, "TERM": "xterm", "COLUMNS": "120"},
            stdin=subprocess.DEVNULL,
            stderr=terminal,
        ) as process:
            os.close(terminal)
            shown = b""
            while b"0/1 image" not in shown:
                shown += await anyio.to_thread.run_sync(screen.read, 4096)
            gate.release()
            assert process.stdout is not None
            result = b"".join([chunk async for chunk in process.stdout])
            assert await process.wait() == 0
            shown += await anyio.to_thread.run_sync(_rest, screen.fileno())
    assert json.loads(result)["status"] == "copied"
    text = re.sub(r"\x1b\[[0-9;?]*[A-Za-z]", "", shown.decode())
    assert "━━━" in text
    assert "1 image in" in text.splitlines()[-1]


def _rest(descriptor: int) -> bytes:
    """What is still to be read from a terminal whose other end is closed, which Linux reports as an error."""
    found = b""
    try:
        while chunk := os.read(descriptor, 4096):
            found += chunk
    except OSError:
        return found
    return found


async def test_with_json_every_line_of_stderr_is_an_object(
    program: Program, registry: FaultyRegistry, other: FaultyRegistry
) -> None:
    """Warnings and the error at the end too: who reads the stream trips over any other line."""
    image = fill(registry, "app", random_image("objects"), "v1")
    program.home.mkdir()
    spec = program.home / "mirror.yaml"
    spec.write_text(
        f"version: 1\nregistries:\n  {registry.address}: {{credentials: {{username: u, password: p}}}}\nmirrors:\n"
        f"  - image: {image}\n    to: [{other.address}/a:v1]\n"
        f"  - image: {registry.address}/app:gone\n    to: [{other.address}/b:v1]\n"
    )
    files = ("--journal", str(program.home / "j.db"), "--failures", str(program.home / "f.jsonl"))
    for arguments in (("mirror", "apply", str(spec), *files, "--metrics", "0"), ("cp", f"{image}x", f"{image}y")):
        ended = await program(*arguments, "--progress", "json")
        assert ended.code != 0
        events = [json.loads(line) for line in ended.err.splitlines()]
        assert {"message", "end"} <= {event["event"] for event in events}
        assert "error" in events[-1]["message"]
    assert (await program("cp", f"{image}x", f"{image}y")).err.startswith("asyncrane: error"), "as ever"
