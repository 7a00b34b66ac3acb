"""Very many copies in one call: not all are begun at once, so memory does not grow with their number."""

from __future__ import annotations

from pathlib import Path

from asyncrane import Pair, Session, copy_all
from asyncrane.engine.messages import Command, Event, Finish, JobAdded
from asyncrane.operations.copy import OPEN
from asyncrane.testing import FaultyRegistry
from tests.promises.images import image, put


class Open:
    """Counts jobs from the engine's messages."""

    def __init__(self) -> None:
        self.now = 0
        self.most = 0

    def see(self, message: Event | Command) -> None:
        """One more, or one less."""
        self.now += isinstance(message, JobAdded) - isinstance(message, Finish)
        self.most = max(self.most, self.now)


async def test_d8_no_more_jobs_are_open_than_keep_registries_busy(tmp_path: Path) -> None:
    """D8: most of these fail at once, which is as good an end as another; every one has its outcome."""
    many = OPEN + 50
    async with FaultyRegistry() as registry, Session() as session:
        name = put(registry, "app", image("app", [b"layer"]), "v1")
        absent = [Pair(f"{registry.address}/absent:v1", (f"oci:{tmp_path}:{n}",)) for n in range(many)]
        counted = Open()
        session.observe(counted.see)
        outcomes = await copy_all(session, [*absent, Pair(name, (f"oci:{tmp_path}:v1",))])
    assert (counted.most, counted.now) == (OPEN, 0)
    assert [outcome.failure is None for outcome in outcomes].count(False) == many
    assert len(outcomes) == many + 1
