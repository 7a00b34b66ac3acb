"""Two registries, one a mirror of the other, and what comparing them tells."""

from __future__ import annotations

import json
from collections import Counter
from typing import Any

import msgspec

from asyncrane import Session
from asyncrane.mirror.proof import Verdict, mirror_verify
from asyncrane.mirror.rename import Template
from asyncrane.mirror.spec import MirrorSpec, Rule, SourcePattern
from asyncrane.mirror.verify import Difference, Totals, diff
from asyncrane.testing import FaultyRegistry
from asyncrane.testing.images import Sample, random_index
from tests.promises.images import put

INDEX = random_index("verified", layers=(3000, 4000))
CHILD = INDEX.manifests[0]
WRITES = {"POST", "PUT", "PATCH", "DELETE"}


class Both:
    """Two registries, a rule that mirrors ``app`` to ``copy``, and what verifying it tells."""

    def __init__(self, source: FaultyRegistry, destination: FaultyRegistry) -> None:
        self.source = source
        self.destination = destination
        self.told: list[dict[str, Any]] = []

    def spec(self, **more: Any) -> MirrorSpec:
        options: dict[str, Any] = {"source": SourcePattern(self.source.address, "app"), **more}
        to = (Template.parse(f"{self.destination.address}/copy"),)
        return MirrorSpec(rules=(Rule(line=1, **{"to": to, **options}),))

    def fill(self, sample: Sample, *tags: str) -> None:
        """The same image on both sides."""
        put(self.source, "app", sample, *tags)
        put(self.destination, "copy", sample, *tags)

    def clear(self) -> None:
        self.told.clear()
        self.source.log.clear()
        self.destination.log.clear()

    async def verify(self, session: Session | None = None, **options: Any) -> Verdict:
        """Verify, with what is told as JSON has it."""
        self.clear()
        if session is not None:
            return await self._verify(session, **options)
        async with Session(retries=1) as new:
            return await self._verify(new, **options)

    async def _verify(self, session: Session, *, spec: MirrorSpec | None = None, **options: Any) -> Verdict:
        return await mirror_verify(session, spec or self.spec(), on_difference=self.tell, **options)

    def tell(self, difference: Difference) -> None:
        self.told.append(json.loads(msgspec.json.encode(difference)))

    async def diff(self, a: str = "app", b: str = "copy", **options: Any) -> Totals:
        self.clear()
        async with Session(retries=1) as session:
            where = f"{self.source.address}/{a}", f"{self.destination.address}/{b}"
            return await diff(session, *where, on_difference=self.tell, **options)

    def kinds(self) -> Counter[str]:
        return Counter(told["kind"] for told in self.told)

    def sent(self) -> set[str]:
        """Digests of the blobs whose bytes went to the destination."""
        return {request.digest for request in self.destination.requests(kind="upload-put") if request.request_bytes}

    def written(self) -> list[str]:
        """Names that manifests were written under."""
        return [r.path.rpartition("/")[2] for r in self.destination.requests(kind="manifest-put")]

    def only_read(self) -> bool:
        return not {r.method for r in (*self.source.log, *self.destination.log)} & WRITES
