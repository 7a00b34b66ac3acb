"""Samples become series: nothing counted is lost, whatever was left out of the picture."""

from __future__ import annotations

import pytest

from asyncrane.engine.outcome import RegistryView, Statistics
from asyncrane.report.timeline import EVERYWHERE, timeline
from tests.report.books import Sample


def look(at: float, received: int, *, limit: int = 4, host: str = "a") -> Sample:
    view = RegistryView(requests={"GET blobs": received // 10}, received=received, limit=limit, busy=1)
    return Sample(at, Statistics(bytes_read=received, registries={host: view}))


def test_rates_are_what_was_counted_between_two_looks() -> None:
    found = timeline([look(100.0, 0), look(101.0, 50), look(103.0, 150)])
    assert found.elapsed == [0.0, 1.0, 3.0]
    assert found.registries["a"].receiving == [0.0, 50.0, 50.0]
    assert found.registries["a"].received == 150
    assert found.seconds == 3.0


@pytest.mark.parametrize("looks", [2, 59, 1000, 36_000])
def test_however_many_looks_there_were_few_points_are_left_and_all_bytes_are_in_them(looks: int) -> None:
    found = timeline(look(at, at * 1000) for at in range(looks))
    assert len(found.elapsed) <= 362
    widths = [after - before for before, after in zip(found.elapsed, found.elapsed[1:], strict=False)]
    moved = sum(rate * width for rate, width in zip(found.registries["a"].receiving[1:], widths, strict=True))
    assert moved == pytest.approx((looks - 1) * 1000)


def test_the_moment_before_the_last_look_is_no_rate_of_its_own() -> None:
    found = timeline([look(0, 0), look(1, 100), look(2, 200), look(2.001, 300)])
    assert found.elapsed == [0, 1, 2.001]
    assert max(found.registries["a"].receiving) < 201


def test_a_run_that_was_killed_and_resumed_counts_on_and_leaves_the_night_out() -> None:
    found = timeline([look(0, 0), look(1, 100, limit=9), look(30_000, 0), look(30_001, 40), look(30_002, 70)])
    assert found.counts.bytes_read == 170
    assert found.registries["a"].received == 170
    assert found.registries["a"].requests == {"GET blobs": 17}
    assert found.elapsed == [0, 1, 1, 2, 3]
    assert [found.clock[at] for at in found.breaks] == [30_000]
    assert found.registries["a"].receiving == [0, 100, 0, 40, 30]
    assert found.registries["a"].limits == [4, 9, 4, 4, 4]


def test_a_registry_that_is_not_asked_again_after_a_resume_keeps_its_bytes() -> None:
    found = timeline([look(0, 0), look(1, 100), look(60, 0, host="b"), look(61, 30, host="b")])
    assert (found.registries["a"].received, found.registries["b"].received) == (100, 30)
    assert max(found.registries["b"].receiving) == 30


def test_without_counts_of_each_registry_those_of_all_are_drawn() -> None:
    samples = [Sample(at, Statistics(bytes_read=at * 5, bytes_written=at * 7, limits={"a": 3})) for at in range(3)]
    found = timeline(samples)
    assert found.registries[EVERYWHERE].receiving == [0, 5, 5]
    assert found.registries[EVERYWHERE].sending == [0, 7, 7]
    assert found.registries["a"].limits == [3, 3, 3]


def test_no_looks_are_no_time() -> None:
    assert timeline([]).seconds == 0.0
