"""Bundles that leave out what an earlier one has: small, and refused where the rest is not (J5)."""

from __future__ import annotations

import shutil
import tarfile
from pathlib import Path

import pytest

from asyncrane import InvalidInput, NotFound, Session, pull, push
from asyncrane.testing import FaultyRegistry, refuse_mount
from tests.cli.conftest import Program
from tests.images.samples import image, index, sample
from tests.promises.images import incomplete, put, tags
from tests.stores.archives import left

OLD, NEW = sample(index("a", "b")), sample(index("a", "b", "c"))


def blobs(layout: Path) -> set[str]:
    return {path.name for path in (layout / "blobs" / "sha256").iterdir()}


def own() -> set[str]:
    """Blobs that the new image has and the old one does not, and its manifests."""
    new = {digest.hex for digest in NEW.blobs} - {digest.hex for digest in OLD.blobs}
    return new | {manifest.digest.hex for manifest in NEW.manifests}


async def bundles(session: Session, source: FaultyRegistry, path: Path, *, packed: bool = False) -> Path:
    """``old``, and ``new`` without what that has."""
    old, new = put(source, "app", OLD, "1"), put(source, "app", NEW, "2")
    await pull(session, [old], path / "old", form="oci")
    earlier = path / "old"
    if packed:
        earlier = path / "old.tar"
        with tarfile.open(earlier, "w") as archive:
            archive.add(path / "old", ".")
        shutil.rmtree(path / "old")
    source.log.clear()
    await pull(session, [new], path / "new", form="oci", since=[earlier])
    return path / "new"


@pytest.mark.parametrize("packed", [False, True], ids=["layout", "archive"])
async def test_j5_only_what_is_new_is_read_and_kept(source: FaultyRegistry, tmp_path: Path, *, packed: bool) -> None:
    async with Session() as session:
        new = await bundles(session, source, tmp_path, packed=packed)
    assert blobs(new) == own()
    read = {request.digest.removeprefix("sha256:") for request in source.requests(kind="blob-get")}
    assert read == own() - {manifest.digest.hex for manifest in NEW.manifests}


@pytest.mark.parametrize("mounts", [True, False])
async def test_j5_the_rest_is_taken_from_where_it_goes(
    source: FaultyRegistry, destination: FaultyRegistry, tmp_path: Path, *, mounts: bool
) -> None:
    """Also from a registry that does not say by a mount that a blob is there."""
    async with Session() as session:
        new = await bundles(session, source, tmp_path)
        await push(session, tmp_path / "old", f"{destination.address}/app:1")
    if not mounts:
        destination.faults.add(refuse_mount())
    destination.log.clear()
    async with Session() as session:
        pushed = await push(session, new, f"{destination.address}/app:2")
    assert tags(destination) == {"app:1": str(OLD.digest), "app:2": str(NEW.digest)}
    assert pushed.digest == NEW.digest
    assert incomplete(destination) == []
    if mounts:
        assert destination.requests(kind="blob-get") == []


async def test_j5_a_bundle_without_its_base_is_refused_before_anything_is_written(
    source: FaultyRegistry, destination: FaultyRegistry, tmp_path: Path
) -> None:
    """J5: and what is missing is named."""
    async with Session() as session:
        new = await bundles(session, source, tmp_path)
        with pytest.raises(NotFound) as caught:
            await push(session, new, f"{destination.address}/app:2")
    lost = {digest for digest in NEW.blobs if digest.hex not in blobs(new)}
    assert {digest for digest in lost if str(digest) in str(caught.value)} == lost != set()
    assert {request.method for request in destination.requests()} <= {"GET", "HEAD"}
    assert tags(destination) == {}


async def test_only_a_layout_can_leave_something_out(source: FaultyRegistry, tmp_path: Path) -> None:
    name = put(source, "app", sample(image("a")), "1")
    async with Session() as session:
        with pytest.raises(InvalidInput, match="only an OCI layout"):
            await pull(session, [name], tmp_path / "a.tar", since=[tmp_path])
        with pytest.raises(NotFound, match="no such"):
            await pull(session, [name], tmp_path / "a", form="oci", since=[tmp_path / "none"])
    assert source.requests() == []
    assert left(tmp_path) == []


async def test_j5_as_people_say_it(program: Program, source: FaultyRegistry, tmp_path: Path) -> None:
    old, new = put(source, "app", OLD, "1"), put(source, "app", NEW, "2")
    words = ["pull", "--format", "oci"]
    assert (await program(*words, old, str(tmp_path / "old"))).code == 0
    assert (await program(*words, new, str(tmp_path / "new"), "--since", str(tmp_path / "old"))).code == 0
    assert blobs(tmp_path / "new") == own()
    refused = await program("push", str(tmp_path / "new"), f"{source.address}/elsewhere:2")
    assert (refused.code, "is not complete" in refused.error) == (3, True)
    assert (await program("push", str(tmp_path / "new"), f"{source.address}/app:3")).code == 0
    assert (await program("pull", new, str(tmp_path / "a.tar"), "--since", str(tmp_path / "old"))).code == 2


@pytest.fixture
def program(tmp_path: Path) -> Program:
    return Program(tmp_path / "home")
