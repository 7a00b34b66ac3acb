"""Files: what archives and layouts lead to, where is written, and who may read it."""

from __future__ import annotations

import contextlib
import io
import os
import stat
import tarfile
import tempfile
from collections.abc import Iterator
from pathlib import Path

import pytest

import asyncrane
from asyncrane.archive.spool import Spool
from asyncrane.auth.dockerconfig import write_entry
from asyncrane.engine.journal import Journal
from asyncrane.testing import FaultyRegistry
from asyncrane.testing.images import random_image
from tests.cli.conftest import Program, fill
from tests.stores import archives

MARKER = b'{"imageLayoutVersion":"1.0.0"}'


def everything(directory: Path) -> set[str]:
    return {str(path.relative_to(directory)) for path in directory.rglob("*")}


@contextlib.contextmanager
def no_umask() -> Iterator[None]:
    """New files are everybody's, unless whoever makes them says otherwise."""
    before = os.umask(0)
    try:
        yield
    finally:
        os.umask(before)


def mode(path: Path) -> int:
    return stat.S_IMODE(path.stat().st_mode)


@pytest.mark.parametrize("link", ["blobs", "blobs/sha256"])
async def test_nothing_is_written_through_a_link_in_a_layout(program: Program, tmp_path: Path, link: str) -> None:
    """A layout that came in an archive may have its blobs anywhere."""
    layout, outside = tmp_path / "layout", tmp_path / "outside"
    (layout / link).parent.mkdir(parents=True)
    (outside / "sha256").mkdir(parents=True)
    (layout / "oci-layout").write_bytes(MARKER)
    (layout / link).symlink_to(outside if link == "blobs" else outside / "sha256")
    async with FaultyRegistry() as registry:
        image = fill(registry, "app", random_image("link"), "v1")
        ended = await program("pull", "--format", "oci", image, str(layout))
    assert ended.code == 5
    assert f"{layout / link} is a symbolic link, which is not followed" in ended.err
    assert everything(outside) == {"sha256"}


@pytest.mark.parametrize("link", ["blobs", "blobs/sha256"])
async def test_nothing_is_collected_through_a_link(program: Program, tmp_path: Path, link: str) -> None:
    """What looks like garbage there is somebody else's image."""
    layout, theirs = tmp_path / "layout", tmp_path / "theirs"
    (theirs / "blobs" / "sha256").mkdir(parents=True)
    (theirs / "blobs" / "sha256" / ("0" * 64)).write_text("precious")
    (layout / link).parent.mkdir(parents=True)
    (layout / "oci-layout").write_bytes(MARKER)
    (layout / "index.json").write_text('{"schemaVersion":2,"manifests":[]}')
    (layout / link).symlink_to(theirs / link)
    ended = await program("layout", "gc", str(layout))
    assert (ended.code, "is a symbolic link" in ended.err) == (5, True)
    assert (theirs / "blobs" / "sha256" / ("0" * 64)).read_text() == "precious"


@pytest.mark.parametrize("name", ["oci-layout", "index.json"])
@pytest.mark.parametrize("what", ["a pipe", "a device", "a directory", "a link"])
async def test_a_layout_of_odd_files_is_refused_at_once(program: Program, tmp_path: Path, name: str, what: str) -> None:
    """A pipe would be waited for and ``/dev/zero`` read for ever; a link may lead to what only we can read."""
    layout = tmp_path / "layout"
    layout.mkdir()
    (layout / "oci-layout").write_bytes(MARKER)
    (layout / "index.json").write_text('{"schemaVersion":2,"manifests":[]}')
    (layout / name).unlink()
    match what:
        case "a pipe":
            os.mkfifo(layout / name)
        case "a device":
            (layout / name).symlink_to("/dev/zero")
        case "a directory":
            (layout / name).mkdir()
        case _:
            (tmp_path / "secret").write_text("hunter2")
            (layout / name).symlink_to(tmp_path / "secret")
    ended = await program("push", str(layout), "127.0.0.1:1/app:v1")
    assert ended.code == 5, ended.err
    assert "is not a regular file" in ended.err or "is a symbolic link" in ended.err
    assert "hunter2" not in ended.err


def archive(kind: bytes, target: str = "") -> bytes:
    """An archive of docker's whose layer is no file."""
    config, layers = archives.parts(archives.unpacked("odd"))
    out = io.BytesIO(
        archives.tar(
            [("c.json", config), archives.listed(archives.saved("c.json", ["one", "two"], "a:1")), ("two", layers[1])]
        )
    )
    with tarfile.open(fileobj=out, mode="a") as tar:
        entry = tarfile.TarInfo("one")
        entry.type, entry.linkname, entry.devmajor, entry.devminor = kind, target, 1, 5
        tar.addfile(entry)
    return out.getvalue()


ODD = {
    "a device": (tarfile.CHRTYPE, "", "not a regular file"),
    "a block device": (tarfile.BLKTYPE, "", "not a regular file"),
    "a pipe": (tarfile.FIFOTYPE, "", "not a regular file"),
    "a directory": (tarfile.DIRTYPE, "", "not a regular file"),
    "a symbolic link out": (tarfile.SYMTYPE, "../../../../etc/hostname", "leads out of the archive"),
    "an absolute link": (tarfile.SYMTYPE, "/etc/hostname", "has no file"),
    "a hard link out": (tarfile.LNKTYPE, "../../etc/hostname", "leads out of the archive"),
    "an absolute hard link": (tarfile.LNKTYPE, "/etc/hostname", "has no file"),
    "a link to itself": (tarfile.SYMTYPE, "one", "lead in a circle"),
}


@pytest.mark.parametrize("what", ODD)
async def test_an_archive_leads_to_nothing_but_its_own_files(program: Program, tmp_path: Path, what: str) -> None:
    """Links count inside the archive only, and nothing is ever unpacked."""
    kind, target, why = ODD[what]
    (tmp_path / "a.tar").write_bytes(archive(kind, target))
    async with FaultyRegistry() as registry:
        ended = await program("push", str(tmp_path / "a.tar"), f"{registry.address}/app:v1")
        assert registry.get_manifest("app", "v1") is None
    assert (ended.code, why in ended.err) == (5, True), ended.err
    assert everything(tmp_path) == {"a.tar"}


async def test_a_digest_in_a_layout_is_no_path(program: Program, tmp_path: Path) -> None:
    (tmp_path / "oci-layout").write_bytes(MARKER)
    (tmp_path / "secret").write_text("hunter2")
    for digest in ("sha256:../../secret", "../secret:x", "sha256:" + "../" * 20 + "etc/hostname"):
        entry = f'{{"mediaType":"application/vnd.oci.image.manifest.v1+json","digest":"{digest}","size":7}}'
        (tmp_path / "index.json").write_text(f'{{"schemaVersion":2,"manifests":[{entry}]}}')
        ended = await program("push", str(tmp_path), "127.0.0.1:1/app:v1")
        assert (ended.code, "hunter2" in ended.err) == (3, False), ended.err


async def test_what_is_saved_replaces_a_link_target_and_keeps_the_link(program: Program, tmp_path: Path) -> None:
    """The user's own link is followed, once, to where it led when the file was named; never one beside it."""
    (tmp_path / "real.tar").write_text("old")
    (tmp_path / "link.tar").symlink_to("real.tar")
    async with FaultyRegistry() as registry:
        image = fill(registry, "app", random_image("saved"), "v1")
        for command in (["pull", image], ["export", image]):
            assert (await program(*command, str(tmp_path / "link.tar"))).code == 0
            assert (tmp_path / "link.tar").is_symlink()
            assert tarfile.is_tarfile(tmp_path / "real.tar")
    assert everything(tmp_path) == {"real.tar", "link.tar"}


@pytest.mark.skipif(os.geteuid() != 0, reason="only root may make a link of another user's")
@pytest.mark.parametrize("to", ["docker-archive:LINK:x/y:1", "oci-archive:LINK:v1", "export"])
async def test_a_strangers_link_in_a_shared_directory_is_not_followed(
    program: Program, tmp_path: Path, to: str
) -> None:
    """In ``/tmp`` everybody may make one, under the name that a script always uses; the user's own is followed."""
    (tmp_path / "precious").write_text("precious")
    shared = tmp_path / "shared"
    shared.mkdir()
    shared.chmod(0o1777)
    os.chown(shared, 1, 1)
    link = shared / "a.tar"
    link.symlink_to(tmp_path / "precious")
    os.chown(link, 65534, 65534, follow_symlinks=False)
    async with FaultyRegistry() as registry:
        image = fill(registry, "app", random_image("link"), "v1")
        words = ["export", image, str(link)] if to == "export" else ["cp", image, to.replace("LINK", str(link))]
        ended = await program(*words)
        assert ended.code != 0
        assert f"{link}: a link of another user's, which is not followed" in ended.err
        assert (tmp_path / "precious").read_text() == "precious"
        os.chown(link, 0, 0, follow_symlinks=False)
        assert (await program(*words)).code == 0
        assert (tmp_path / "precious").read_bytes()[:8] != b"precious"


def test_credentials_are_their_owners_alone_whatever_the_umask(tmp_path: Path) -> None:
    """From the first moment: the file is made so, and takes the place of one that others could read."""
    path = tmp_path / "docker" / "config.json"
    with no_umask():
        write_entry(path, "a.example", {"auth": "c2VjcmV0"})
        assert (mode(path), mode(path.parent)) == (0o600, 0o700)
        path.chmod(0o644)
        before = path.stat().st_ino
        write_entry(path, "b.example", {"auth": "c2VjcmV0"})
    assert mode(path) == 0o600
    assert path.stat().st_ino != before
    assert everything(path.parent) == {"config.json"}


def test_a_journal_is_its_owners_alone_whatever_the_umask(tmp_path: Path) -> None:
    """Upload URLs in it may be as good as credentials."""
    path = tmp_path / "journal.db"
    with no_umask():
        journal = Journal.open(path)
        run = journal.begin("apply", spec="x", options="{}")
        assert run == 1
        modes = {file.name: mode(file) for file in tmp_path.iterdir()}
        journal.finish("done", summary="{}")
        journal.close()
    assert {"journal.db", "journal.db.lock"} <= modes.keys()
    assert set(modes.values()) == {0o600}


def test_a_journal_that_others_could_read_is_its_owners_alone_when_it_is_written_again(tmp_path: Path) -> None:
    """With what a killed process has left of its log."""
    path = tmp_path / "journal.db"
    with no_umask():
        with Journal.open(path) as journal:
            journal.begin("apply", spec="x", options="{}")
            journal.finish("done", summary="{}")
            left = (tmp_path / "journal.db-wal").read_bytes()
        (tmp_path / "journal.db-wal").write_bytes(left)
        for file in (path, tmp_path / "journal.db-wal"):
            file.chmod(0o664)
        with Journal.open(path) as journal:
            assert journal.run().status == "done"
            assert {mode(file) for file in tmp_path.iterdir()} == {0o600}


async def test_a_login_is_kept_under_no_umask(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv("DOCKER_CONFIG", str(tmp_path / "docker"))
    monkeypatch.delenv("REGISTRY_AUTH_FILE", raising=False)
    with no_umask():
        kept = await asyncrane.login("a.example", "me", "hunter2")
    assert mode(kept.file) == 0o600


def test_what_is_kept_for_a_while_has_no_name(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """Layers on their way lie in a temporary file that nobody else can open, and that is gone with the process."""
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path))
    with no_umask(), Spool() as spool:
        spool.write(b"content")
        assert spool.read_at(0, 7) == b"content"
        assert os.fstat(spool.fileno()).st_nlink == 0
        assert everything(tmp_path) == set()
