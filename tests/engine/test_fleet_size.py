"""What an event costs and what a blob weighs do not depend on how large the fleet is."""

from __future__ import annotations

import gc
import sys
import tracemalloc
from types import FrameType
from typing import Any

import pytest

from asyncrane.engine import reading
from asyncrane.oci import manifest
from benchmarks.simulation import Fleet, Result, Simulation

TAGS = 120
BLOBS_EACH = 8


class Calls:
    """How many calls are made while it is entered, by Python and by C functions: work that no clock distorts."""

    def __init__(self) -> None:
        self.number = 0

    def __enter__(self) -> Calls:
        sys.setprofile(self._count)
        return self

    def __exit__(self, *_: object) -> None:
        sys.setprofile(None)

    def _count(self, frame: FrameType, event: str, argument: Any) -> None:
        if event in ("call", "c_call"):
            self.number += 1


def fleet(times: int, bases: int = 10) -> Fleet:
    return Fleet(tags=TAGS * times, blobs=TAGS * times * BLOBS_EACH, bases=bases)


def cost(simulation: Simulation) -> tuple[float, float, Result]:
    """Calls and looks into the queue, for each event; and what the run came to."""
    with Calls() as calls:
        result = simulation.run()
    assert result.failed == 0
    assert simulation.scheduler.idle
    return calls.number / result.events, simulation.scheduler.queue.looked / result.events, result


@pytest.mark.parametrize("destinations", [1, 3])
@pytest.mark.parametrize("window", [64, 1 << 20])
def test_d8_an_event_costs_the_same_in_a_fleet_four_times_as_large(destinations: int, window: int) -> None:
    """D8, A1: however many images are under way and however much waits."""
    small, large = (cost(Simulation(fleet(times), destinations=destinations, window=window)) for times in (1, 4))
    assert large[0] < 1.05 * small[0]
    assert large[1] < 1.1 * small[1] + 0.1
    assert large[1] < 4
    assert large[2].reads == TAGS * 4 * BLOBS_EACH
    assert large[2].sent == large[2].reads * destinations


def test_d8_an_event_costs_the_same_where_thousands_wait_for_one_blob() -> None:
    """D8, A1: every repository wants the same base, and all but one of them wait for its first upload."""
    small, large = (cost(Simulation(fleet(times, bases=1), window=1 << 20)) for times in (1, 4))
    assert large[0] < 1.05 * small[0]


def test_d8_what_has_landed_weighs_a_line(monkeypatch: pytest.MonkeyPatch) -> None:
    """D8: bytes for each blob that is at its destination; all that the scheduler keeps but the manifests read last."""
    monkeypatch.setattr(reading, "_KEPT", 1)
    weights = []
    for times in (2, 8):
        gc.collect()
        tracemalloc.start()
        simulation = Simulation(fleet(times), window=64)
        simulation.run()
        manifest._named.cache_clear()
        gc.collect()
        weights.append(tracemalloc.get_traced_memory()[0])
        tracemalloc.stop()
        assert simulation.scheduler.idle
    assert (weights[1] - weights[0]) / (6 * TAGS * BLOBS_EACH) < 250
