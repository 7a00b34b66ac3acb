"""What a copy takes of the machine it runs on: little memory, and no disk."""

from __future__ import annotations

import hashlib
import json
import subprocess
import sys
from collections.abc import AsyncIterator, Sequence
from dataclasses import replace
from pathlib import Path

import anyio
import psutil
import pytest

from asyncrane import Manifest
from asyncrane.oci import media
from asyncrane.oci.digest import Digest
from asyncrane.server import DiskStorage
from asyncrane.server.call import Call, Handler
from asyncrane.server.reply import Reply
from asyncrane.testing import FaultyRegistry, fault
from asyncrane.testing.images import random_index
from tests.cli.conftest import LIMIT, Program
from tests.promises.images import described, incomplete, noise, put, tags

MIB = 1024 * 1024
EVERY = 4 * MIB


def put_large(registry: FaultyRegistry, repository: str, sizes: Sequence[int]) -> str:
    """An image of layers too large to be held, each a repeated block."""
    config = b"{}"
    registry.put_blob(repository, config)
    layers = []
    for number, size in enumerate(sizes):
        block = noise(number, MIB)
        incoming, hasher = registry.storage.incoming(), hashlib.sha256()
        for _ in range(size // MIB):
            incoming.write(block)
            hasher.update(block)
        incoming.pause()
        digest = Digest(f"sha256:{hasher.hexdigest()}")
        registry.storage.keep(incoming, repository, digest)
        layers.append({"mediaType": media.OCI_LAYER_GZIP, "digest": str(digest), "size": size // MIB * MIB})
    fields = {"schemaVersion": 2, "config": described(media.OCI_CONFIG, config), "layers": layers}
    registry.put_manifest(repository, Manifest.read(json.dumps(fields).encode()), "v1")
    return f"{registry.address}/{repository}:v1"


class Scale:
    """Weighs a process each time some bytes have gone by."""

    def __init__(self) -> None:
        self.process: psutil.Process | None = None
        self.heaviest = 0
        self.weighed = 0
        self._bytes = 0

    def saw(self, count: int) -> None:
        self._bytes += count
        if self.process is not None and self._bytes // EVERY > self.weighed:
            self.weighed = self._bytes // EVERY
            self.heaviest = max(self.heaviest, self.process.memory_info().rss)

    async def effect(self, call: Call, handler: Handler) -> Reply:
        async def body() -> AsyncIterator[bytes]:
            async for chunk in call.body:
                self.saw(len(chunk))
                yield chunk

        return await handler(replace(call, body=body()))


async def test_d8_memory_does_not_grow_with_the_image(tmp_path: Path, program: Program) -> None:
    """D8: four large layers at once in less than 150 MiB."""
    with DiskStorage(tmp_path / "a") as here, DiskStorage(tmp_path / "b") as there:
        async with FaultyRegistry(here) as source, FaultyRegistry(there) as destination:
            name = put_large(source, "app", [(128 + n) * MIB for n in range(4)])
            scale = Scale()
            destination.faults.add(fault("weigh", scale.effect, kind="upload-put"))
            command = program.command("cp", name, f"{destination.address}/app:v1")
            with anyio.fail_after(LIMIT):
                async with await anyio.open_process(
                    command, env=program.environ, stdin=subprocess.DEVNULL, stdout=None, stderr=None
                ) as process:
                    scale.process = psutil.Process(process.pid)
                    assert await process.wait() == 0
            assert list(tags(destination)) == ["app:v1"]
            assert scale.weighed > 100
            assert scale.heaviest < 150 * MIB, f"{scale.heaviest / MIB:.0f} MiB"


@pytest.mark.skipif(sys.platform == "win32", reason="ulimit is of POSIX shells")
async def test_d9_a_copy_writes_no_file(
    source: FaultyRegistry, destination: FaultyRegistry, program: Program, tmp_path: Path
) -> None:
    """D9: the system allows no file to grow, and there is no TMPDIR."""
    name = put(source, "app", random_index("d9", layers=(1000, 8 * MIB)), "v1")
    command = program.command("cp", name, f"{destination.address}/app:v1")
    environ = {**program.environ, "TMPDIR": str(tmp_path / "nowhere"), "PYTHONDONTWRITEBYTECODE": "1"}
    with anyio.fail_after(LIMIT):
        ended = await anyio.run_process(
            ["sh", "-c", 'ulimit -f 0 && exec "$@"', "sh", *command], env=environ, check=False
        )
    assert ended.returncode == 0, ended.stderr.decode()
    assert incomplete(destination) == []
    assert list(tags(destination)) == ["app:v1"]
    assert not (tmp_path / "nowhere").exists()
    assert not program.home.exists() or not [path for path in program.home.rglob("*") if path.is_file()]
