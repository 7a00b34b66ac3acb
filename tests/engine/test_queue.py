"""Who goes first, and what has to wait: lanes never block each other, and nobody is forgotten."""

from __future__ import annotations

from collections.abc import Callable

from hypothesis import given
from hypothesis import strategies as st

from asyncrane.abc import Place, Site
from asyncrane.engine.budget import HEAVIEST, WINDOW, Budget, SiteLimits
from asyncrane.engine.messages import Ended, Probe, Probed, Work
from asyncrane.engine.queue import Queue

A, B, C = Site("a"), Site("b"), Site("c")


class Errand:
    """A command that remembers when it was begun."""

    def __init__(self, name: str, *, wanted: Callable[[], bool] = lambda: True) -> None:
        self.name = name
        self._wanted = wanted

    def make(self, number: int) -> Work | None:
        return Probe(number, Place(A), self.name) if self._wanted() else None

    def ended(self, event: Ended) -> None:
        pass


def names(commands: list[Work]) -> list[str]:
    return [command.identifier for command in commands if isinstance(command, Probe)]


def end(queue: Queue, command: Work) -> list[Work]:
    queue.ended(command.id)
    return queue.take()


def test_the_most_urgent_goes_first_then_what_most_wait_for_then_who_came_first() -> None:
    queue = Queue(Budget(jobs=1))
    for name, priority, demand in (("late", 2, 0), ("rare", 1, 1), ("wanted", 1, 5), ("first", 1, 5)):
        queue.add(Errand(name), (A,), priority=priority, demand=demand, stream=True)
    order, running = [], queue.take()
    while running:
        order += names(running)
        running = end(queue, running[0])
    assert order == ["wanted", "first", "rare", "late"]


def test_what_waits_for_one_site_does_not_hold_another() -> None:
    queue = Queue(Budget(jobs=1))
    for name, sites in (("a1", (A,)), ("a2", (A,)), ("ab", (A, B)), ("b1", (B,))):
        queue.add(Errand(name), sites, priority=1)
    first = queue.take()
    assert names(first) == ["a1", "b1"]
    assert names(end(queue, first[0])) == ["a2"]
    assert len(queue) == 1


def test_of_a_few_large_ones_the_largest_goes_first() -> None:
    queue = Queue(Budget(jobs=1))
    for size in (3, 9, 5):
        queue.add(Errand(str(size)), (A,), priority=1, weight=size, stream=True)
    order, running = [], queue.take()
    while running:
        order += names(running)
        running = end(queue, running[0])
    assert order == ["9", "5", "3"]


def test_a_light_one_passes_where_a_heavy_one_has_to_wait() -> None:
    """Also when it comes after the heavy one was put aside."""
    queue = Queue(Budget())
    heavy = WINDOW // HEAVIEST
    for number in range(heavy + 1):
        queue.add(Errand(f"heavy{number}"), (A,), priority=3, weight=HEAVIEST, stream=True)
    running = queue.take()
    assert len(running) == heavy
    queue.add(Errand("small"), (A,), priority=2, stream=True)
    assert names(queue.take()) == ["small"]
    assert names(end(queue, running[0])) == [f"heavy{heavy}"]


def test_a_gate_that_lets_something_out_opens_the_lanes_it_refused() -> None:
    """The memory of all sites is one gate."""
    queue = Queue(Budget(memory=1))
    for site in (A, B, C):
        queue.add(Errand(site.name), (site,), priority=1, weight=100, stream=True)
    running = queue.take()
    seen = names(running)
    while running:
        running = end(queue, running[0])
        seen += names(running)
    assert seen == ["a", "b", "c"]


def test_what_nobody_wants_any_more_takes_no_slot() -> None:
    queue = Queue(Budget(jobs=1))
    queue.add(Errand("gone", wanted=lambda: False), (A,), priority=1)
    queue.add(Errand("here"), (A,), priority=2)
    assert names(queue.take()) == ["here"]
    assert queue.running == 1


def test_a_limit_that_grows_lets_in_what_it_refused() -> None:
    queue = Queue(Budget())
    for number in range(100):
        queue.add(Errand(str(number)), (A,), priority=1)
    running = queue.take()
    limit = queue.budget.limit(A)
    before = len(running)
    limit.slots = before + 5
    assert len(end(queue, running[0])) == 6


_SITES = st.sampled_from([(A,), (B,), (A, B), (A, C), (B, C)])
_ERRANDS = st.tuples(_SITES, st.integers(0, 3), st.booleans(), st.sampled_from([0, 1, HEAVIEST, 10 * HEAVIEST]))


@given(data=st.data(), errands=st.lists(_ERRANDS, max_size=40), jobs=st.sampled_from([None, 1, 3]))
def test_whatever_waits_comes_to_its_turn(
    data: st.DataObject, errands: list[tuple[tuple[Site, ...], int, bool, int]], jobs: int | None
) -> None:
    """In whatever order commands end; what could start does not wait, and every slot comes back."""
    queue = Queue(Budget(jobs=jobs, limits={"c": SiteLimits(requests=2, streams=1)}, memory=3 * HEAVIEST))
    running: list[Work] = []
    begun = 0
    for sites, priority, stream, weight in errands:
        queue.add(Errand("x"), sites, priority=priority, weight=weight if stream else 0, stream=stream)
        if data.draw(st.booleans()):
            running += queue.take()
    running += queue.take()
    while running:
        command = running.pop(data.draw(st.integers(0, len(running) - 1)))
        begun += 1
        queue.ended(Probed(command.id, None).command)
        running += queue.take()
        assert not queue.take(), "all that may start has started"
    assert begun == len(errands)
    assert len(queue) == queue.running == 0
    assert all(limit.busy == limit.streams == limit.weight == 0 for limit in queue.budget.sites().values())
