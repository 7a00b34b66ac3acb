"""Files that are not whole yet: those of processes that are gone are taken away, all others are left alone."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from asyncrane.stores.files import PARTIAL, sweep, unfinished


@pytest.mark.parametrize("folder", [False, True])
def test_what_nobody_writes_any_more_is_swept_away(tmp_path: Path, folder: bool) -> None:
    """A lock ends with the descriptor, and that with the process."""
    descriptor, path = unfinished(tmp_path, folder=folder)
    sweep(tmp_path)
    assert path.exists()
    if folder:
        (path / "blobs").mkdir()
        (path / "blobs" / "some").write_bytes(b"content")
    os.close(descriptor)
    sweep(tmp_path)
    assert list(tmp_path.iterdir()) == []


def test_what_has_another_name_stays(tmp_path: Path) -> None:
    """A person may call a file nearly so."""
    names = (f"{PARTIAL}notes", f"{PARTIAL}0123456789abcdef.tar", f"x{PARTIAL}0123456789abcdef", "index.json")
    for name in names:
        (tmp_path / name).write_bytes(b"mine")
    sweep(tmp_path)
    assert sorted(path.name for path in tmp_path.iterdir()) == sorted(names)


def test_links_are_not_followed(tmp_path: Path) -> None:
    """Neither to a file nor to a directory, and they stay."""
    target = tmp_path / "target"
    target.mkdir()
    (target / "file").write_bytes(b"mine")
    links = tmp_path / "links"
    links.mkdir()
    (links / f"{PARTIAL}{'0' * 16}").symlink_to(target)
    (links / f"{PARTIAL}{'1' * 16}").symlink_to(target / "file")
    sweep(links)
    assert (target / "file").read_bytes() == b"mine"
    assert len(list(links.iterdir())) == 2


def test_where_there_is_no_directory_there_is_nothing_to_do(tmp_path: Path) -> None:
    """It will be made later."""
    sweep(tmp_path / "absent")
    assert list(tmp_path.iterdir()) == []
