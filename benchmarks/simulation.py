"""``python -m benchmarks.simulation``: the scheduler alone, moving a fleet that exists nowhere.

Images are made up when they are read and forgotten when they are answered; time passes in a heap of end times. What is
left is what the scheduler itself needs: CPU seconds, memory, messages a second, and the requests it would have sent.
"""

from __future__ import annotations

import argparse
import gc
import heapq
import resource
import sys
import time
from collections import Counter
from collections.abc import Iterator, Sequence

import msgspec

from asyncrane.abc import Place, Site
from asyncrane.engine.job import Job, Target
from asyncrane.engine.messages import (
    BlobCopied,
    BlobMounted,
    CopyBlob,
    Ended,
    Event,
    Finish,
    JobAdded,
    Landing,
    ManifestRead,
    ManifestWritten,
    MountBlob,
    Probe,
    Probed,
    ReadManifest,
    Resolve,
    Resolved,
    TagsListed,
    Work,
    WriteManifest,
)
from asyncrane.engine.scheduler import Scheduler
from asyncrane.oci import media
from asyncrane.oci.manifest import Manifest

SOURCE = Site("source", mounts=True)
LAYERS_OF_A_BASE = 3
SIZES = (20_000, 150_000, 900_000, 4_000_000, 12_000_000, 60_000_000)  # of layers in turn, bytes
CONFIG_SIZE = 2000  # bytes

_DESCRIPTOR = '{"mediaType":"%s","digest":"sha256:%064x","size":%d}'
_MANIFEST = '{"schemaVersion":2,"mediaType":"%s","config":%s,"layers":[%s]}'
_OF_BASE, _LAYER, _CONFIG = 1 << 200, 2 << 200, 3 << 200  # a digest that is made up says what it stands for


class Fleet:
    """``tags`` images with ``blobs`` distinct blobs, ``tags_each`` in a repository. Two of ``bases`` are below the
    images of a repository; everything else is an image's own.
    """

    def __init__(self, *, tags: int, blobs: int, bases: int = 200, tags_each: int = 20) -> None:
        self.tags = tags
        self.blobs = blobs
        self._bases = bases
        self._each = tags_each
        self.repositories = -(-tags // tags_each)
        based = {(number // tags_each, self._base(number)) for number in range(tags)}
        shared = len({base for _, base in based}) * LAYERS_OF_A_BASE
        self._own, self._more = divmod(blobs - shared, tags)
        if self._own < 1:
            raise ValueError(f"{blobs} blobs are too few: {tags} images have a config each, and {shared} are shared")
        self.mounts = len(based) * LAYERS_OF_A_BASE - shared
        """What one destination takes from its own repositories when each blob is sent there once."""

    def path(self, number: int) -> str:
        """The repository of image ``number``."""
        return f"team{number // self._each % 97}/app{number // self._each}"

    def manifest(self, number: int) -> Manifest:
        """Image ``number``, as it comes over the wire."""
        base = self._base(number) * LAYERS_OF_A_BASE
        below = [
            _DESCRIPTOR % (media.OCI_LAYER_GZIP, _OF_BASE + n, 2 * SIZES[n % len(SIZES)])
            for n in range(base, base + LAYERS_OF_A_BASE)
        ]
        own = [
            _DESCRIPTOR % (media.OCI_LAYER_GZIP, _LAYER + (number << 32) + n, SIZES[(number + n) % len(SIZES)])
            for n in range(self._own + (number < self._more) - 1)
        ]
        config = _DESCRIPTOR % (media.OCI_CONFIG, _CONFIG + number, CONFIG_SIZE)
        body = _MANIFEST % (media.OCI_MANIFEST, config, ",".join(below + own))
        return Manifest.read(body.encode(), content_type=media.OCI_MANIFEST)

    def _base(self, number: int) -> int:
        return (7 * (number // self._each) + 2 * (number % self._each) // self._each) % self._bases


class Line(msgspec.Struct, frozen=True, kw_only=True):
    """How one registry answers: seconds of round trip, bytes a second, requests a second."""

    latency: float = 0.02
    bandwidth: float = 125e6
    capacity: float = 2000.0


class _Registry:
    """A line in use: what comes waits for what came before."""

    def __init__(self, line: Line) -> None:
        self._line = line
        self._served = 0.0
        self._sent = 0.0

    def answer(self, now: float, size: int) -> float:
        """When a request of ``now`` with ``size`` bytes is through."""
        line = self._line
        self._served = max(self._served, now) + 1 / line.capacity
        ready = self._served + line.latency
        if not size:
            return ready
        self._sent = max(self._sent, ready) + size / line.bandwidth
        return self._sent


class Result(msgspec.Struct, frozen=True):
    """What a run came to. ``events`` is what the scheduler was told, ``commands`` what it answered; ``cpu`` the CPU
    seconds of everything, ``fed`` those inside the scheduler (its share of the time by the clock: asking for CPU time
    twice an event would be a good part of it); ``memory`` the process's peak in bytes, ``took`` seconds by the virtual
    clock.
    """

    events: int
    commands: int
    fed: float
    cpu: float
    memory: int
    took: float
    requests: dict[str, int]
    reads: int
    sent: int
    bytes_read: int
    failed: int

    @property
    def messages(self) -> int:
        """Events in and commands out."""
        return self.events + self.commands

    def rate(self, count: int) -> float:
        """``count`` for each CPU second inside the scheduler."""
        return count / max(self.fed, 1e-9)


class Simulation:
    """``fleet`` on its way to ``destinations`` registries, ``window`` images open at a time. ``listed``: it is known
    which repositories do not exist there; else every tag is asked for.
    """

    def __init__(
        self,
        fleet: Fleet,
        *,
        destinations: int = 1,
        lines: Sequence[Line] = (Line(),),
        window: int = 1024,
        listed: bool = True,
        jobs: int | None = None,
    ) -> None:
        self.scheduler = Scheduler(jobs=jobs)
        self._fleet = fleet
        self._sites = [Site(f"destination{n}", mounts=True) for n in range(destinations)]
        self._registries = {
            site.name: _Registry(lines[min(n, len(lines) - 1)]) for n, site in enumerate([SOURCE, *self._sites])
        }
        self._window = window
        self._listed = listed
        self._numbers: dict[str, int] = {}
        self._running: list[tuple[float, int, float, Work]] = []
        self._open = 0
        self._now = 0.0
        self._events = self._commands = 0
        self._fed = 0.0
        self._requests: Counter[str] = Counter()
        self._reads = self._sent = self._bytes = self._failed = 0

    def run(self) -> Result:
        """Until everything is there."""
        started, began = time.process_time(), time.perf_counter()
        if self._listed:
            for number in range(0, self._fleet.tags, -(-self._fleet.tags // self._fleet.repositories)):
                for site in self._sites:
                    self._feed(TagsListed(Place(site, self._fleet.path(number)), None))
        jobs = self._jobs()
        self._fill(jobs)
        while self._running:
            self._now, _, since, command = heapq.heappop(self._running)
            self._feed(self._answer(command, self._now - since))
            self._fill(jobs)
        cpu, elapsed = time.process_time() - started, time.perf_counter() - began
        peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * (1 if sys.platform == "darwin" else 1024)
        return Result(
            self._events,
            self._commands,
            cpu * self._fed / elapsed,
            cpu,
            peak,
            self._now,
            dict(sorted(self._requests.items())),
            self._reads,
            self._sent,
            self._bytes,
            self._failed,
        )

    def _jobs(self) -> Iterator[Job]:
        for number in range(self._fleet.tags):
            path, tag = self._fleet.path(number), f"v{number}"
            yield Job(number, Place(SOURCE, path), tuple(Target(Place(site, path), tag) for site in self._sites), tag)

    def _fill(self, jobs: Iterator[Job]) -> None:
        while self._open < self._window and (job := next(jobs, None)) is not None:
            self._open += 1
            self._feed(JobAdded(job))

    def _feed(self, event: Event) -> None:
        before = time.perf_counter()
        commands = self.scheduler.feed(event)
        self._fed += time.perf_counter() - before
        self._events += 1
        self._commands += len(commands)
        for command in commands:
            if isinstance(command, Finish):
                self._open -= 1
                self._failed += command.outcome.failure is not None
            else:
                self._start(command)

    def _start(self, command: Work) -> None:
        kind = type(command).__name__
        if isinstance(command, CopyBlob):
            size = command.blob.size
            self._reads += 1
            self._sent += len(command.sinks)
            self._bytes += size
            places = (command.source, *command.sinks)
        else:
            size, places = 0, (command.place,)
        self._requests[kind] += 1
        end = max([self._registries[place.site.name].answer(self._now, size) for place in places])
        heapq.heappush(self._running, (end, command.id, self._now, command))

    def _answer(self, command: Work, elapsed: float) -> Ended:
        """What a registry would say; nothing that is asked for is there yet, and nothing is refused."""
        match command:
            case CopyBlob():
                return BlobCopied(command.id, tuple([Landing(sink, sent=True) for sink in command.sinks]), elapsed)
            case MountBlob():
                return BlobMounted(command.id, mounted=True, elapsed=elapsed)
            case WriteManifest():
                return ManifestWritten(command.id, elapsed)
            case Probe():
                return Probed(command.id, None, elapsed)
            case ReadManifest():
                return ManifestRead(command.id, self._manifest(command.identifier), elapsed)
            case Resolve():
                manifest = self._fleet.manifest(int(command.identifier[1:]))
                self._numbers[manifest.digest] = int(command.identifier[1:])
                return Resolved(command.id, manifest.descriptor, elapsed)
        raise AssertionError(f"nobody asked for {command!r}")

    def _manifest(self, identifier: str) -> Manifest:
        number = self._numbers.pop(identifier, None)
        return self._fleet.manifest(int(identifier[1:]) if number is None else number)


def _arguments(words: Sequence[str] | None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="python -m benchmarks.simulation", description=__doc__)
    parser.add_argument("--tags", type=int, default=10_000)
    parser.add_argument("--blobs", type=int, help="distinct ones (default: ten times the tags)")
    parser.add_argument("--bases", type=int, default=200, help="base images that others are built on")
    parser.add_argument("--tags-each", type=int, default=20, help="tags of a repository")
    parser.add_argument("--destinations", type=int, default=1)
    parser.add_argument("--latency", type=float, action="append", help="seconds of round trip; repeat: per registry")
    parser.add_argument("--bandwidth", type=float, action="append", help="bytes a second; repeat: per registry")
    parser.add_argument("--capacity", type=float, action="append", help="requests a second; repeat: per registry")
    parser.add_argument("--window", type=int, default=1024, help="images open at a time")
    parser.add_argument("--unlisted", action="store_true", help="ask for every tag at the destinations")
    parser.add_argument("--jobs", type=int, help="commands at once per registry")
    return parser.parse_args(words)


def _lines(options: argparse.Namespace) -> list[Line]:
    given = {name: getattr(options, name) for name in Line.__struct_fields__ if getattr(options, name)}
    longest = max((len(values) for values in given.values()), default=1)
    return [Line(**{name: values[min(n, len(values) - 1)] for name, values in given.items()}) for n in range(longest)]


def main(words: Sequence[str] | None = None) -> None:
    """Run one simulation and print what it came to."""
    options = _arguments(words)
    gc.freeze()
    gc.set_threshold(50_000, 20, 20)  # as the command line has it
    blobs = options.blobs or 10 * options.tags
    fleet = Fleet(tags=options.tags, blobs=blobs, bases=options.bases, tags_each=options.tags_each)
    simulation = Simulation(
        fleet,
        destinations=options.destinations,
        lines=_lines(options),
        window=options.window,
        listed=not options.unlisted,
        jobs=options.jobs,
    )
    result = simulation.run()
    print(f"{fleet.tags:,} tags, {blobs:,} blobs, {fleet.repositories:,} repositories to {options.destinations}")
    print(f"CPU             {result.cpu:10.1f} s, of these {result.fed:.1f} in the scheduler")
    print(f"events          {result.events:10,} ({result.rate(result.events):,.0f} a CPU second)")
    print(f"and commands    {result.messages:10,} ({result.rate(result.messages):,.0f} a CPU second)")
    print(f"peak memory     {result.memory / 2**20:10.0f} MiB")
    print(f"predicted time  {result.took:10.1f} s")
    print(f"read            {result.bytes_read / 2**30:10.1f} GiB in {result.reads:,} reads, {result.sent:,} sent")
    for kind, number in result.requests.items():
        print(f"{kind:15} {number:10,}")
    if result.failed:
        raise SystemExit(f"{result.failed} images failed")


if __name__ == "__main__":
    main()
