"""Layers that unpack to a thousand times their size: read as a stream, in the memory of any other layer, and refused
where the config says something else of them.

``ASYNCRANE_FAULTS=all`` (``make faults``) unpacks ten gigabytes, with every operation that unpacks layers.
"""

from __future__ import annotations

import gzip
import hashlib
import json
import os
import subprocess
import sys
from functools import cache
from pathlib import Path

import anyio
import pytest

from asyncrane.oci import media
from asyncrane.oci.digest import Digest
from asyncrane.oci.manifest import Manifest
from asyncrane.testing import FaultyRegistry
from asyncrane.testing.images import Sample
from tests.cli.conftest import Ended, Program
from tests.promises.images import described, put, tags

ALL = os.environ.get("ASYNCRANE_FAULTS") == "all"
MIB = 1024 * 1024
PIECE = 64 * MIB
PIECES = 160 if ALL else 3
HEAVIEST = 120 * MIB
LONGEST = 900 if ALL else 60
"""Seconds after which a run counts as hanging."""

OPERATIONS = ("append", "convert", "cp", "export", "flatten", "pull", "validate")
CHOSEN = [(operation, honest) for operation in OPERATIONS for honest in (True, False)]
if not ALL:
    CHOSEN = [("export", True), ("validate", False)]

TAKEN = ("append", "cp", "pull")
"""What does not unpack it has no reason to refuse it."""

WEIGHED = """
import sys
from asyncrane.cli.app import main
code = main(sys.argv[1:])
print(*[line for line in open("/proc/self/status") if line.startswith("VmHWM")], file=sys.stderr)
sys.exit(code)
"""


@cache
def bomb(*, honest: bool) -> Sample:
    """An image of one layer of zeros, an empty tar with much behind it, of which its config may say something else."""
    layer, hasher = gzip.compress(bytes(PIECE), mtime=0) * PIECES, hashlib.sha256()
    for _ in range(PIECES):
        hasher.update(bytes(PIECE))
    diff_id = f"sha256:{hasher.hexdigest() if honest else '0' * 64}"
    fields = {"os": "linux", "architecture": "amd64", "rootfs": {"type": "layers", "diff_ids": [diff_id]}}
    config = json.dumps(fields).encode()
    manifest = {
        "schemaVersion": 2,
        "config": described(media.OCI_CONFIG, config),
        "layers": [described(media.OCI_LAYER_GZIP, layer)],
    }
    blobs = {Digest.of(content): content for content in (config, layer)}
    return Sample((Manifest.read(json.dumps(manifest).encode()),), blobs)


async def weighed(program: Program, *arguments: str) -> tuple[Ended, int]:
    """How the program ends, and its peak memory in bytes."""
    with anyio.fail_after(LONGEST):
        ended = await anyio.run_process(
            [sys.executable, "-c", WEIGHED, *arguments], env=program.environ, stdin=subprocess.DEVNULL, check=False
        )
    err, _, weight = ended.stderr.decode().rpartition("VmHWM:")
    return Ended(ended.returncode, ended.stdout, err), int(weight.split()[0]) * 1024


@pytest.mark.skipif(sys.platform != "linux", reason="memory is read from /proc")
@pytest.mark.parametrize(("operation", "honest"), CHOSEN, ids=[f"{o}-{'honest' if h else 'lying'}" for o, h in CHOSEN])
async def test_a_bomb_takes_no_memory(tmp_path: Path, operation: str, honest: bool) -> None:
    program, file = Program(tmp_path / "home"), tmp_path / "files" / "image.tar"
    file.parent.mkdir()
    new = tmp_path / "new"
    new.mkdir()
    async with FaultyRegistry() as source, FaultyRegistry() as destination:
        name, target = put(source, "app", bomb(honest=honest), "v1"), f"{destination.address}/app:v1"
        commands = {
            "append": ("-b", name, "-f", str(new), "-t", target),
            "convert": (name, target, "--layers", "zstd", "--progress", "none"),
            "cp": (name, target, "--progress", "none"),
            "export": (name, str(file)),
            "flatten": (name, "-t", target),
            "pull": (name, str(file)),
            "validate": ("--remote", name),
        }
        ended, weight = await weighed(program, operation, *commands[operation])
        assert weight <= HEAVIEST
        if honest or operation in TAKEN:
            assert ended.code == 0, ended.err
        else:
            assert ended.code == 5, ended.err
            assert ended.error
            assert tags(destination) == {}
            assert [*file.parent.iterdir()] == []
        assert destination.open_uploads == 0
