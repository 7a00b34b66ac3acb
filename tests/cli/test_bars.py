"""I5: on a terminal of any size there is a line for each registry and each large blob, and nothing that is not text."""

from __future__ import annotations

import pytest

from asyncrane import Statistics, TransferView
from asyncrane.cli.bars import Bars
from asyncrane.cli.meter import Meter, largest, part, percent, waits
from asyncrane.engine.outcome import RegistryView

MIB = 1 << 20
SOURCE = RegistryView({"GET blobs": 40, "HEAD manifests": 9}, received=50 * MIB, busy=12, limit=16)
DESTINATION = RegistryView({"PUT uploads": 30}, sent=48 * MIB, retries=3, busy=4, limit=8, parked=17.0)


def running(**registries: RegistryView) -> Statistics:
    return Statistics(
        images_total=100,
        images_done=30,
        images_failed=2,
        blobs_total=300,
        blobs_done=120,
        bytes_total=400 * MIB,
        bytes_read=100 * MIB,
        registries=registries or {"[fe80::1]:5000": SOURCE, "backup.example.com": DESTINATION},
        transfers=tuple(TransferView(f"sha256:{n:064}", n * MIB, MIB // 2, "s/app", ("d/app",)) for n in range(1, 40)),
    )


def drawn(statistics: Statistics, monkeypatch: pytest.MonkeyPatch, *, columns: int = 120, lines: int = 24) -> list[str]:
    monkeypatch.setenv("COLUMNS", str(columns))
    monkeypatch.setenv("LINES", str(lines))
    bars = Bars("Copying")
    try:
        with bars._console.capture() as captured:
            bars._console.print(bars._draw(statistics))
    finally:
        bars.end(statistics)
    return [line.rstrip() for line in captured.get().splitlines()]


def test_each_registry_has_a_line_with_rates_limit_requests_and_waits(monkeypatch: pytest.MonkeyPatch) -> None:
    lines = drawn(running(), monkeypatch)
    assert lines[0].startswith("Copying  30/100 images (2 failed) · 120/300 blobs")
    assert " 25%  104.9 MB of 419.4 MB" in lines[1]
    assert lines[2].startswith("[fe80::1]:5000 "), "brackets are part of a name, not markup"
    assert "12/16 at once" in lines[2]
    assert "49 requests" in lines[2]
    assert "3 repeated" in lines[3]
    assert lines[3].endswith("waits 17 s")


def test_the_largest_blobs_are_shown_in_an_order_that_does_not_change(monkeypatch: pytest.MonkeyPatch) -> None:
    lines = drawn(running(), monkeypatch)
    shown = [line[:12] for line in lines if "app" in line]
    assert shown == [f"{n:064}"[:12] for n in range(39, 31, -1)]
    later = [transfer.digest for transfer in largest(running())]
    assert later == [f"sha256:{n:064}" for n in range(39, 31, -1)]


@pytest.mark.parametrize("columns", [40, 56, 69, 70, 80, 200])
@pytest.mark.parametrize("lines", [6, 10, 24])
def test_nothing_is_wider_or_higher_than_the_terminal(
    columns: int, lines: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    many = {f"registry-{n}.a-long-name-for-a-host.example.com:5000": DESTINATION for n in range(20)}
    seen = drawn(running(**many), monkeypatch, columns=columns, lines=lines)
    assert max(map(len, seen)) <= columns
    assert len(seen) <= lines
    assert seen[-1] == "", "where the terminal writes ^C"


@pytest.mark.parametrize("name", ["registry-1.docker.io", "123456789012.dkr.ecr.eu-central-1.amazonaws.com"])
def test_on_eighty_columns_no_number_of_a_registry_is_cut_off(name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """The name is, if anything: it has been read before."""
    busy = RegistryView({"PUT uploads": 12345}, sent=480 * MIB, retries=321, busy=34, limit=48, parked=125.0)
    lines = drawn(running(**{name: SOURCE, "backup.example.com": busy}), monkeypatch, columns=80)
    assert lines[2].startswith(name[:19])
    for said in ("↓ 0 B/s", "↑ 0 B/s", "34/48", "321 repeated", "waits 2:05"):
        assert said in lines[3]
    assert lines[2].index("12/16") == lines[3].index("34/48")


def test_numbers_keep_their_places_while_they_grow(monkeypatch: pytest.MonkeyPatch) -> None:
    idle = RegistryView({"GET blobs": 1}, busy=1, limit=8)
    busy = RegistryView({"GET blobs": 99999}, busy=12, limit=48)
    first, later = (drawn(running(host=view), monkeypatch)[2] for view in (idle, busy))
    assert [first.index(word) for word in ("at once", "requests")] == [
        later.index(word) for word in ("at once", "requests")
    ]


def test_the_busiest_of_many_registries_are_shown(monkeypatch: pytest.MonkeyPatch) -> None:
    many = {f"registry-{n}": RegistryView({"GET blobs": n}) for n in range(20)}
    lines = drawn(running(**many), monkeypatch)
    assert [line.split()[0] for line in lines if line.startswith("registry-")] == [
        f"registry-{n}" for n in range(14, 20)
    ]


def test_an_old_pause_is_told_where_no_registry_has_a_line(monkeypatch: pytest.MonkeyPatch) -> None:
    assert "slow waits 4.0 s" in drawn(Statistics(parked={"slow": 4.0}), monkeypatch)[0]
    assert waits(running()) == {"backup.example.com": 17.0}


def test_where_no_byte_has_to_be_read_images_say_how_far_it_is() -> None:
    assert part(Statistics()) is None
    assert percent(Statistics()) == "  …"
    assert part(Statistics(images_total=4, images_done=1)) == 0.25
    assert part(Statistics(images_total=4, images_done=1, bytes_total=10, bytes_read=5)) == 0.5
    assert part(Statistics(bytes_total=10, bytes_read=11)) == 1.0, "what is read again is no progress"


def test_the_time_left_is_that_of_what_takes_longer() -> None:
    now = [100.0]
    meter = Meter(lambda: now[0])
    now[0] += 5
    half = Statistics(images_total=100, images_done=10, bytes_total=1000, bytes_read=500)
    meter.take(half)
    assert meter.rate == 100
    assert meter.left(half) == 45, "90 images at 2 a second, not 500 bytes at 100"
    assert meter.left(Statistics(images_total=11, images_done=10, bytes_total=9000, bytes_read=500)) == 85
    assert meter.left(Statistics(images_total=10, images_done=10, bytes_total=500, bytes_read=500)) is None


def test_a_large_blob_at_the_end_says_how_long_it_takes() -> None:
    """Ten blobs went at once and were fast; the one that is left has 9000 bytes to go, at 100 a second."""
    now = [100.0]
    meter = Meter(lambda: now[0])
    for done in (1000, 1100, 1200):
        last = TransferView("sha256:a", 10_200, done, "s/app", ("d/app",))
        seen = Statistics(bytes_total=20_000, bytes_read=done + 9000, transfers=(last,))
        meter.take(seen)
        now[0] += 1
    assert meter.rate == 5100
    assert meter.left(seen) == 90
