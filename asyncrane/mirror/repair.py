"""Making good what a comparison found, and nothing else (G4): each difference becomes the smallest job that mends it.

A tag that is missing or names something else is copied as its rule has it; of what is broken below a tag that is right
only the manifest concerned, with the blobs that are not there. No tag that is right is written again, so immutable ones
are no obstacle (G5).
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping

import msgspec

from asyncrane.engine.job import Job, Overwrite, Target
from asyncrane.engine.messages import SourceListed
from asyncrane.errors import Failure
from asyncrane.mirror.difference import Difference
from asyncrane.mirror.running import Running
from asyncrane.mirror.wishes import Wish, place_of
from asyncrane.oci.digest import Digest
from asyncrane.oci.reference import Repository
from asyncrane.session import Session

_NAMED = frozenset({"missing-manifest", "corrupt", "missing-referrer"})
_BLOBS = frozenset({"missing-blob", "corrupt-blob"})
_LEFT_AS_THEY_ARE = frozenset({"never", "if-missing"})


class Fault(msgspec.Struct, frozen=True):
    """A difference, and the one destination of a wish that it concerns."""

    difference: Difference
    wish: Wish
    target: Target

    def mend(self) -> Job | None:
        """The job that mends it, without a number; ``None`` when copying does not help, or its rule forbids it."""
        kind = self.difference.kind
        if kind == "missing" or (kind == "different" and self.wish.overwrite not in _LEFT_AS_THEY_ARE):
            return self._whole("if-different")
        if kind in _BLOBS:
            return self._part(self.difference.within, referrers=False)
        if kind in _NAMED:
            made_here = self.wish.platforms and not self.difference.within  # an index that no source has
            if made_here:
                return self._whole("always")
            return self._part(self.difference.expected, referrers=self.wish.referrers and kind != "corrupt")
        return None

    def _whole(self, overwrite: Overwrite) -> Job:
        job = msgspec.structs.replace(self.wish, targets=(self.target,)).job(0)
        return msgspec.structs.replace(job, overwrite=overwrite)

    def _part(self, digest: str, *, referrers: bool) -> Job:
        """One manifest, without the tags that lead to it; with what is attached to it where that is not looked for as
        long as the manifest is missing.
        """
        return Job(
            id=0,
            source=place_of(self.wish.source),
            targets=(Target(self.target.place, self.difference.tag or None),),
            digest=Digest.parse(digest),
            overwrite="always",
            nondistributable=self.wish.nondistributable,
            referrers=referrers,
        )


async def mend(
    session: Session, faults: Iterable[Fault], listings: Mapping[Repository, tuple[str, ...]]
) -> tuple[Failure, ...]:
    """Mend what can be mended; what that failed with. Whether it helped is for another comparison to say.

    :param listings: all tags of sources, which spare questions
    """
    mends = dict.fromkeys(job for fault in faults if (job := fault.mend()) is not None)
    jobs = [msgspec.structs.replace(job, id=session.next_id()) for job in mends]
    async with session.fresh_engine() as engine:
        for source in dict.fromkeys(job.source for job in jobs if job.referrers):
            tags = listings.get(Repository(source.site.name, source.repository))
            if tags is not None:
                engine.feed(SourceListed(source, tags))
        running = Running(engine, jobs)
        await running.run()
    failures = (outcome.failure for outcome in running.outcomes.values())
    return tuple(failure for failure in failures if failure is not None)
