"""Mirror files between two registries, and what is done with them, each time in a session of its own."""

from __future__ import annotations

import contextlib
import time
from collections.abc import Callable
from pathlib import Path

from asyncrane import (
    Campaign,
    Journal,
    MirrorPlan,
    MirrorReport,
    MirrorSpec,
    Outcome,
    Session,
    load_mirror,
    mirror_plan,
)
from asyncrane.testing import FaultyRegistry
from asyncrane.testing.images import Sample
from tests.promises.images import image, noise, put

WRITES = ("upload-post", "mount", "upload-patch", "upload-put", "manifest-put", "manifest-delete", "blob-delete")


class Mirror:
    """One mirror file (``A`` and ``B`` stand for the registries' addresses) and one journal."""

    def __init__(self, home: Path, source: FaultyRegistry, destination: FaultyRegistry) -> None:
        self.source = source
        self.destination = destination
        self.path = home / "mirror.yaml"
        self.journal = home / "journal.db"

    def write(self, text: str) -> Path:
        """Make ``text`` the file's content."""
        text = text.replace("A/", f"{self.source.address}/").replace("B/", f"{self.destination.address}/")
        self.path.write_text(f"version: 1\n{text}")
        return self.path

    def rules(self, *lines: str) -> MirrorSpec:
        """A file with these rules, a YAML mapping each."""
        self.write("mirrors:\n" + "".join(f"  - {line}\n" for line in lines))
        return self.load()

    def load(self) -> MirrorSpec:
        """What the file says."""
        return load_mirror(self.path)

    async def plan(self) -> MirrorPlan:
        """Plan what the file says now."""
        spec = self.load()
        async with Session(planning=True, registries=spec.registries) as session:
            return await mirror_plan(session, spec, name=self.path)

    async def apply(
        self,
        *,
        plan: MirrorPlan | None = None,
        until: float | None = None,
        on_outcome: Callable[[Outcome], None] | None = None,
    ) -> MirrorReport:
        """Do what the file, or the plan, says."""
        spec = self.load()
        with contextlib.closing(Journal.open(self.journal)) as journal:
            async with Session(registries=spec.registries, journal=journal, retries=2) as session:
                campaign = Campaign(session, journal, until=until, on_outcome=on_outcome)
                if plan is not None:
                    return await campaign.apply_plan(plan)
                return await campaign.apply(spec, name=self.path)

    async def resume(self, run: int) -> MirrorReport:
        """Go on with a run."""
        with contextlib.closing(Journal.open(self.journal)) as journal:
            async with Session(registries=self.load().registries, journal=journal) as session:
                return await Campaign(session, journal).resume(run)

    async def retry(self, run: int) -> MirrorReport:
        """Do what failed in a run again."""
        with contextlib.closing(Journal.open(self.journal)) as journal:
            async with Session(registries=self.load().registries, journal=journal) as session:
                return await Campaign(session, journal).retry(run)

    def forget(self) -> None:
        """Let both registries' logs begin anew."""
        self.source.log.clear()
        self.destination.log.clear()

    def written(self) -> list[str]:
        """The kinds of writes that the destination has seen."""
        return [request.kind for request in self.destination.log if request.kind in WRITES]


def fleet(registry: FaultyRegistry, *, repositories: int = 4, versions: int = 5, layers: int = 12) -> dict[str, Sample]:
    """Images of three shared layers each, ``team/app0:v0`` and so on, at ``registry``."""
    pool = [noise(f"layer {n}", 3000 + 41 * n) for n in range(layers)]
    made = {}
    for number in range(repositories * versions):
        repository, tag = f"team/app{number % repositories}", f"v{number // repositories}"
        sample = image(f"{repository}:{tag}", [pool[(number * 5 + step * 7) % layers] for step in range(3)])
        put(registry, repository, sample, tag)
        made[f"{repository}:{tag}"] = sample
    return made


def in_an_hour() -> float:
    """A time that no test sees."""
    return time.time() + 3600
