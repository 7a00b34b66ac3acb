"""A program that copies, edits and deletes for a long time, with faults in every twentieth answer, does not grow, save
by what a session remembers on purpose.

``ASYNCRANE_SOAK=1800`` (``make soak``) takes half an hour; by default it is a few rounds, and memory is not weighed.
"""

from __future__ import annotations

import io
import os
import sys
import tarfile
import time
from collections.abc import Sequence
from itertools import count
from pathlib import Path
from statistics import median

import anyio
import msgspec
from anyio.streams.buffered import BufferedByteReceiveStream

from asyncrane.oci.digest import Digest
from asyncrane.server import Storage
from asyncrane.stores.random import Image, Kitchen, Layer
from asyncrane.testing import FaultyRegistry, corrupt, cut_request, cut_response, drop, lose_answer, status
from asyncrane.testing.images import Sample
from tests.cli.conftest import LIMIT
from tests.faults.soaking import APPS, Reading
from tests.mirror.attachments import attach
from tests.promises.images import put

SECONDS = float(os.environ.get("ASYNCRANE_SOAK", "0"))
ROUNDS = 2
REPOSITORIES = 3
SHARE = 0.05

EMPTY = Digest.of(b"{}")

SLACK = 4
"""Connections that may be open or not at the end of a round: what a fault cut is opened again when it is needed."""

REMEMBERED = 320
"""Bytes that a session keeps of a job as long as it lives: a line for each blob and manifest that it knows to be
somewhere (about 45 for the 23 jobs of a round), so that none is ever sent twice.
"""

NOISE = 4 * 1024 * 1024
"""Bytes by which an allocator's need differs from one moment to the next."""


def faulty(registry: FaultyRegistry, seed: int) -> None:
    """Every twentieth request meets one of eight faults."""
    seeds = count(seed)
    share = SHARE / 5
    registry.faults.add(
        status(503, probability=share, seed=next(seeds)),
        status(500, probability=share, seed=next(seeds)),
        status(429, headers={"Retry-After": "0"}, probability=share, seed=next(seeds)),
        drop(probability=share, seed=next(seeds)),
        lose_answer(probability=share, seed=next(seeds)),
        cut_response(1000, probability=share, seed=next(seeds)),
        corrupt(10, probability=share, seed=next(seeds)),
        cut_request(1000, probability=share, seed=next(seeds)),
    )


class Stage:
    """Both registries, and the images of the round that is on."""

    def __init__(self, source: FaultyRegistry, destination: FaultyRegistry, layer: Path) -> None:
        self._registries = source, destination
        self._layer = layer
        self._number = 0
        self.requests = 0

    def prepare(self) -> str:
        """Put the next round's images in place; the repository they are in."""
        self._number += 1
        repository = f"round{self._number % REPOSITORIES}"
        source, _ = self._registries
        below = Layer(f"{self._number} below", 20_000)
        for name in ("old", "new", "signed", *(f"app{number}" for number in range(APPS))):
            own = Layer(f"{self._number} {name}", 5_000)
            layers = (Layer(f"{self._number} new", 20_000),) if name == "new" else (below, own)
            sample = made(Image(layers[:1] if name == "old" else layers))
            put(source, repository, sample, name)
            if name == "signed":
                attach(source, repository, sample.manifest, f"signature {self._number}")
        with tarfile.open(self._layer, "w") as archive:
            archive.addfile(tarfile.TarInfo(f"appended {self._number}"), io.BytesIO())
        return repository

    def clear(self) -> None:
        """Forget everything: what grows in this process is not what is measured."""
        for registry in self._registries:
            self.requests += len(registry.log)
            registry.log.clear()
            for repository in registry.storage.index.repositories():
                empty(registry.storage, repository)


def made(image: Image) -> Sample:
    """An image with its bytes."""
    kitchen = Kitchen()
    kitchen.make(image)
    blobs = {digest: b"".join(kitchen.read(digest)) for digest in kitchen.blobs}
    return Sample(tuple(kitchen.manifests.values()), blobs)


def empty(storage: Storage, repository: str) -> None:
    """Take everything out of a repository that is not in the next rounds' images, too: a session knows what it put
    somewhere, and does not ask again.
    """
    for digest in storage.index.manifests(repository):
        for blob in storage.manifest(repository, digest).blobs():
            if blob.digest != EMPTY and storage.index.blob_size(repository, blob.digest) is not None:
                storage.unlink(repository, blob.digest)
        storage.delete_manifest(repository, digest)


async def test_it_does_not_grow(tmp_path: Path) -> None:
    """Open files, sockets and tasks stay as many as they were; in a long run memory is weighed, too."""
    readings: list[tuple[float, Reading]] = []
    async with FaultyRegistry() as source, FaultyRegistry() as destination:
        for seed, registry in enumerate((source, destination)):
            faulty(registry, seed * 100)
        stage = Stage(source, destination, tmp_path / "layer.tar")
        words = [source.address, destination.address, str(tmp_path / "layer.tar")]
        async with await anyio.open_process(
            [sys.executable, "-m", "tests.faults.soaking", *words], cwd=Path(__file__).parents[2], stderr=None
        ) as process:
            assert process.stdin is not None
            assert process.stdout is not None
            answers = BufferedByteReceiveStream(process.stdout)
            started = time.monotonic()
            while len(readings) < ROUNDS or time.monotonic() - started < SECONDS:
                await process.stdin.send(f"{stage.prepare()}\n".encode())
                with anyio.fail_after(LIMIT):
                    answer = await answers.receive_until(b"\n", 1 << 20)
                readings.append((time.monotonic() - started, msgspec.json.decode(answer, type=Reading)))
                stage.clear()
            await process.stdin.aclose()
            assert await process.wait() == 0
        struck = sum(fault.hits for registry in (source, destination) for fault in registry.faults)
    judge(readings, struck, stage.requests)


def judge(readings: Sequence[tuple[float, Reading]], struck: int, requests: int) -> None:
    """Compare the second sixth of the time (in half an hour: minutes 5 to 10) with the last one."""
    span = readings[-1][0]
    early = [reading for at, reading in readings if span / 6 <= at < span / 3] or [readings[1][1]]
    late = [reading for at, reading in readings if at >= span * 5 / 6]
    jobs = sum(reading.jobs for _, reading in readings)
    failures = [failure for _, reading in readings for failure in reading.failures]
    told = {
        "seconds": round(span),
        "rounds": len(readings),
        "jobs": jobs,
        "requests": requests,
        "faults": struck,
        "failures": len(failures),
        **{name: (_middle(early, name), _middle(late, name)) for name in ("rss", "files", "sockets", "tasks")},
    }
    sys.stderr.write(f"{told}\n")
    assert struck > 0
    assert len(failures) <= 3 + jobs / 100, failures
    assert _middle(late, "tasks") <= _middle(early, "tasks"), told
    assert _middle(late, "sockets") <= _middle(early, "sockets") + SLACK, told
    assert _middle(late, "files") <= _middle(early, "files") + SLACK, told
    if SECONDS:
        between = sum(reading.jobs for at, reading in readings if span / 4 <= at < span * 11 / 12)
        assert _middle(late, "rss") <= _middle(early, "rss") + REMEMBERED * between + NOISE, told


def _middle(readings: Sequence[Reading], name: str) -> int:
    return int(median(getattr(reading, name) for reading in readings))
