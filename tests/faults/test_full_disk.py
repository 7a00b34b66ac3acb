"""A disk that is full at any moment: of the journal, of a pulled archive, of a layout. With room again all is done.

The disk is a tmpfs of a random size, less than what is needed. ``ASYNCRANE_FAULTS=all`` has 20 sizes for each, and
more kinds of files; otherwise 1.
"""

from __future__ import annotations

import subprocess
from collections.abc import Iterator
from pathlib import Path

import anyio
import pytest

from tests.cli.conftest import LIMIT, Ended, Program
from tests.faults.ground import ALL, Course, Ground, cells, course, marked, moments, two_registries
from tests.faults.smalldisk import SmallDisk, small_disk

PAGE = 4096
FULL = ": No space left on device"
JOURNAL = 75  # pages; a whole run needs about 100

KINDS = {
    "tarball": ("pull", "{image}", "{disk}/a.tar"),
    "layout": ("pull", "--format", "oci", "{image}", "{disk}/layout"),
}
if ALL:
    KINDS |= {
        "legacy": ("pull", "--format", "legacy", "{image}", "{disk}/a.tar"),
        "oci": ("cp", "{image}", "oci:{disk}/layout:v1"),
        "oci-archive": ("cp", "{image}", "oci-archive:{disk}/a.tar:v1"),
        "docker-archive": ("cp", "{image}", "docker-archive:{disk}/a.tar:v1"),
    }
STORES = {"tarball": "docker-archive", "legacy": "docker-archive", "layout": "oci"}


@pytest.fixture(scope="module")
def ground(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Ground]:
    with two_registries(tmp_path_factory.mktemp("ground")) as made:
        yield made


async def run(disk: SmallDisk, program: Program, *words: str) -> Ended:
    """Run the program where it sees the disk."""
    with anyio.fail_after(LIMIT):
        ended = await anyio.run_process(
            disk.command(program.command(*words)), env=program.environ, stdin=subprocess.DEVNULL, check=False
        )
    return Ended(ended.returncode, ended.stdout, ended.stderr.decode())


@pytest.mark.parametrize("kind", [pytest.param(k, marks=cells("disk full", w[0], k)) for k, w in KINDS.items()])
async def test_a_full_disk_leaves_nothing_of_an_image(ground: Ground, tmp_path: Path, kind: str) -> None:
    """One line that names the place, no file, and the whole image when there is room."""
    program = Program(tmp_path / "home")
    name = "team/large:v1"
    sizes = moments(kind, ground.images[name].size // PAGE)
    for pages in sizes:
        with small_disk(tmp_path / f"disk-{pages}", pages * PAGE) as disk:
            places = {"image": f"{ground.source.address}/{name}", "disk": disk.directory}
            words = [word.format(**places) for word in KINDS[kind]]
            ended = await run(disk, program, *words)
            assert ended.code == 1, f"{pages}: {ended.err}"
            assert str(disk.directory) in ended.error
            assert ended.error.endswith(FULL)
            assert ".asyncrane-" not in ended.error
            assert disk.files() == {}
            assert not program.home.exists()
            if pages == sizes[-1]:
                disk.grow()
                again = await run(disk, program, *words)
                assert again.code == 0, again.err
                assert [path for path in disk.files() if ".asyncrane-" in path] == []
                (result,) = {path.partition("/")[0] for path in disk.files()}
                await check(program, kind, disk.take(result, tmp_path / result), ground, name)


async def check(program: Program, kind: str, result: Path, ground: Ground, name: str) -> None:
    """It is the image: its config says so, and all of its layers are read."""
    told = await program("config", f"{STORES.get(kind, kind)}:{result}")
    (config,) = [blob for blob in ground.images[name].blobs.values() if blob.startswith(b"{")]
    assert (told.code, told.out) == (0, config), told.err


@marked("disk full", "mirror apply", "journal")
async def test_a_full_disk_of_the_journal_stops_a_run_that_goes_on_later(ground: Ground, tmp_path: Path) -> None:
    """Even before the run has a number, in the middle, or shortly before its end."""
    for pages in moments("journal", JOURNAL):
        name = f"full-{pages}"
        with small_disk(tmp_path / f"disk-{pages}", pages * PAGE) as disk:
            async with course(ground, tmp_path, name) as found:
                found.mirror.journal = disk.directory / "journal.db"
                code, told = await again(disk, found, "apply", str(found.mirror.spec))
                assert code == 1
                assert told.startswith(f"asyncrane: error: journal {found.mirror.journal}: "), told
                disk.grow()
                code, told = await again(disk, found, "resume")
                if code and told.endswith("no run yet"):
                    code, told = await again(disk, found, "apply", str(found.mirror.spec))
                assert code == 0, f"{pages}: {told}"
                assert set(disk.files()) == {"journal.db", "journal.db.lock"}
                await found.prove()


async def again(disk: SmallDisk, found: Course, *words: str) -> tuple[int, str]:
    """A mirror command on the disk: its exit code, and the last thing it said."""
    with anyio.fail_after(LIMIT):
        ended = await anyio.run_process(
            disk.command(found.mirror.words(*words)), env=found.environ, stdin=subprocess.DEVNULL, check=False
        )
    return ended.returncode, (ended.stderr.decode().splitlines() or [""])[-1]
