"""How many things happen at once: both ends or neither, more while answers are prompt, half when it is too much."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from asyncrane.abc import Site
from asyncrane.engine.budget import CEILING, FLOOR, HEAVIEST, HELD, WINDOW, Budget, Limit, SiteLimits
from asyncrane.engine.queue import Lane

A, B = Site("a"), Site("b")


def answers(limit: Limit, seconds: float, *, number: int = 400, kind: str = "Probe") -> None:
    """Answers of one kind while everything that may run runs."""
    for _ in range(number):
        limit.busy = int(limit.slots)
        limit.observe(kind, seconds)
    limit.busy = 0


def passes(budget: Budget, *sites: Site, weight: int = 0, stream: bool = False) -> Lane | None:
    """One more command at ``sites``; ``None`` when it does not fit."""
    lane = Lane(sites, budget.gates(sites, stream=stream), stream=stream, large=weight > 0)
    if lane.refused(weight) is not None:
        return None
    lane.take(weight)
    return lane


def as_many_as_fit(budget: Budget, *sites: Site, weight: int = 0, stream: bool = False) -> int:
    number = 0
    while passes(budget, *sites, weight=weight, stream=stream):
        number += 1
        assert number < 10_000
    return number


def test_both_ends_or_neither() -> None:
    budget = Budget(jobs=1)
    first = passes(budget, A)
    assert first
    assert not passes(budget, A, B)
    assert budget.limit(B).busy == 0
    first.give(0)
    assert passes(budget, A, B)


def test_few_huge_blobs_fill_the_window_and_many_small_ones_do_not() -> None:
    budget = Budget()
    assert as_many_as_fit(budget, A, weight=10 * HEAVIEST, stream=True) == WINDOW // HEAVIEST
    assert passes(budget, A, stream=True)
    assert passes(budget, A)


def test_an_idle_site_takes_a_blob_of_any_size() -> None:
    assert passes(Budget(jobs=1, memory=1), A, weight=1 << 50, stream=True)


@pytest.mark.parametrize("weight", [0, 10 * HEAVIEST])
def test_a5_requests_and_streams_have_numbers_of_their_own(weight: int) -> None:
    """A5: 8 requests and 4 blobs, whatever their size; a site that is not named adapts."""
    budget = Budget(limits={"a": SiteLimits(requests=8, streams=4)})
    assert as_many_as_fit(budget, A, weight=weight, stream=True) == 4
    assert as_many_as_fit(budget, A) == 8
    assert not passes(budget, A, B, weight=weight, stream=True)
    assert as_many_as_fit(budget, B) == FLOOR
    limit = budget.limit(A)
    answers(limit, 0.2)
    limit.congested()
    assert (limit.most_requests, limit.most_streams, limit.slots) == (8, 4, 12)


def test_a5_a_number_of_requests_alone_is_a_ceiling_for_everything() -> None:
    """A5."""
    budget = Budget(limits={"a": SiteLimits(requests=3)})
    assert as_many_as_fit(budget, A, stream=True) == 3
    assert not passes(budget, A)


def test_a5_a_number_of_streams_leaves_the_requests_to_adapt() -> None:
    """A5."""
    budget = Budget(limits={"a": SiteLimits(streams=2)})
    assert as_many_as_fit(budget, A, weight=HEAVIEST, stream=True) == 2
    assert as_many_as_fit(budget, A) == FLOOR - 2
    assert budget.limit(A).adaptive


def test_what_is_said_of_a_site_comes_before_what_is_said_of_all() -> None:
    budget = Budget(jobs=2, limits={"a": SiteLimits(requests=5, streams=1)})
    assert as_many_as_fit(budget, A) == 5
    assert as_many_as_fit(budget, B) == 2


def test_i7_memory_bounds_the_streams_of_all_sites_together() -> None:
    """I7: a stream counts for a few chunks, not for its size; requests for nothing."""
    budget = Budget(memory=4 * HELD)
    assert as_many_as_fit(budget, A, weight=HEAVIEST, stream=True) == 4
    other = budget.limit(B)
    assert not passes(budget, B, weight=HEAVIEST, stream=True)
    assert not passes(budget, B, stream=True)
    assert other.busy == 0
    assert passes(budget, B)


def test_prompt_answers_raise_the_limit_to_its_ceiling() -> None:
    limit = Limit()
    answers(limit, 0.2, number=3000)
    assert limit.slots == CEILING


def test_what_is_never_used_up_is_not_raised() -> None:
    limit = Limit()
    for _ in range(1000):
        limit.busy = 2
        limit.observe("Probe", 0.2)
    assert limit.slots == FLOOR


def test_queueing_answers_bring_it_back() -> None:
    limit = Limit()
    answers(limit, 0.01, number=3000)
    answers(limit, 0.5, number=5000)
    assert limit.slots == FLOOR


def test_new_connections_do_not_look_like_a_queue() -> None:
    """Every third answer takes twice as long, having had to connect first."""
    limit = Limit()
    for turn in range(3000):
        limit.busy = int(limit.slots)
        limit.observe("Probe", 0.4 if turn % 3 == 0 else 0.2)
    assert limit.slots == CEILING


def test_kinds_of_commands_are_not_compared_with_each_other() -> None:
    limit = Limit()
    for turn in range(3000):
        limit.busy = int(limit.slots)
        limit.observe(*(("Probe", 0.01) if turn % 2 else ("CopyBlob", 2.0)))
    assert limit.slots == CEILING


def test_too_many_requests_halve_it() -> None:
    """B1: what comes after a 429 comes slower."""
    limit = Limit()
    answers(limit, 0.2, number=3000)
    limit.congested()
    assert limit.slots == CEILING / 2
    for _ in range(20):
        limit.congested()
    assert limit.slots >= 1


def test_a_fixed_number_of_jobs_stays_fixed() -> None:
    limit = Limit(jobs=5)
    answers(limit, 0.2, number=1000)
    limit.congested()
    assert limit.slots == 5


@given(st.lists(st.tuples(st.sampled_from("ab"), st.floats(0, 100), st.booleans()), max_size=300))
def test_whatever_is_observed_something_may_always_run(seen: list[tuple[str, float, bool]]) -> None:
    limit = Limit()
    for kind, seconds, congested in seen:
        limit.busy = int(limit.slots)
        limit.observe(kind, seconds)
        if congested:
            limit.congested()
        assert 1 <= limit.slots <= CEILING
