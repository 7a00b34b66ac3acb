"""How many things happen at once: both ends or neither, more while answers are prompt, half when it is too much."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from asyncrane.abc import Site
from asyncrane.engine.budget import CEILING, FLOOR, HEAVIEST, WINDOW, Budget, Limit

A, B = Site("a"), Site("b")


def answers(limit: Limit, seconds: float, *, number: int = 400, kind: str = "Probe") -> None:
    """Answers of one kind while everything that may run runs."""
    for _ in range(number):
        limit.busy = int(limit.slots)
        limit.observe(kind, seconds)
    limit.busy = 0


def test_both_ends_or_neither() -> None:
    budget = Budget(jobs=1)
    assert budget.acquire([A])
    assert not budget.acquire([A, B])
    assert budget.limit(B).busy == 0
    budget.release([A])
    assert budget.acquire([A, B])


def test_few_huge_blobs_fill_the_window_and_many_small_ones_do_not() -> None:
    budget = Budget()
    started = 0
    while budget.acquire([A], 10 * HEAVIEST):
        started += 1
    assert started == WINDOW // HEAVIEST
    assert budget.acquire([A], 0)


def test_an_idle_site_takes_a_blob_of_any_size() -> None:
    assert Budget(jobs=1).acquire([A], 1 << 50)


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
