"""Temporary files: read by many, and left out where there is no room for them."""

from __future__ import annotations

from pathlib import Path

import pytest

from asyncrane.archive.spool import Bounded, Room, Spool
from asyncrane.errors import AsyncraneError


def test_what_was_written_is_read_from_anywhere() -> None:
    with Spool() as spool:
        spool.write(b"hello ")
        spool.write(b"world")
        assert (spool.size, spool.read_at(6, 100), spool.read_at(11, 1)) == (11, b"world", b"")


def test_a_file_is_whole_or_not_there_and_gives_its_room_back() -> None:
    room = Room(10)
    with Bounded(room) as first, Bounded(room) as second, Bounded(room) as third:
        first.write(b"1234")
        second.write(b"123456")
        second.write(b"7")
        assert second.spool is None
        second.write(b"8")  # and stays out
        third.write(b"123456")
        assert first.spool is not None
        assert third.spool is not None
        assert (first.spool.read_at(0, 9), third.spool.read_at(0, 9)) == (b"1234", b"123456")
        assert not room.take(1)


def test_nothing_is_left_of_a_spool_and_no_room_is_one_line(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("tempfile.tempdir", str(tmp_path))
    with Spool() as spool:
        spool.write(b"content")
        assert list(tmp_path.iterdir()) == []
        assert spool.read_at(3, 100) == b"tent"
    monkeypatch.setattr("tempfile.tempdir", str(tmp_path / "missing"))
    with pytest.raises(AsyncraneError, match="cannot write a temporary file in"):
        Spool()
