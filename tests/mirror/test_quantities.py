"""Sizes, durations and shares as people write them."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta

import pytest
from hypothesis import given
from hypothesis import strategies as st

from asyncrane.errors import InvalidInput
from asyncrane.mirror.quantities import parse_duration, parse_share, parse_since, parse_size


@pytest.mark.parametrize(
    ("text", "size"),
    [
        ("1048576", 1048576),
        ("1", 1),
        ("512B", 512),
        ("10M", 10 * 1024**2),
        ("10k", 10 * 1024),
        ("1kB", 1000),
        ("50MiB/s", 50 * 1024**2),
        ("50 MB/s", 50_000_000),
        ("256MiB", 256 * 1024**2),
        ("256Mi", 256 * 1024**2),
        ("1.5GiB", 3 * 1024**3 // 2),
        ("0.5K", 512),
        ("2T", 2 * 1024**4),
        (" 1G ", 1024**3),
        ("100/s", 100),
    ],
)
def test_a_size_is(text: str, size: int) -> None:
    assert parse_size(text) == size


@pytest.mark.parametrize(
    "text",
    [
        "",
        "0",
        "0.1B",
        "-1",
        "+1",
        "1e6",
        "10Mb",
        "10mb",
        "10Mbit/s",
        "M",
        "1 000",
        "1,5M",
        "٣M",
        "1MiBs",
        "9" * 19,
        "99999999P",
        "1iB",
        "1Bi",
        "1M/S",
        "inf",
    ],
)
def test_what_is_no_size_is_refused(text: str) -> None:
    """``Mb`` could be bits, a guess would be wrong by a factor of eight."""
    with pytest.raises(InvalidInput, match="not a size"):
        parse_size(text)


@given(st.integers(1, 10**9), st.sampled_from([("", 0), ("Ki", 1), ("KiB", 1), ("MiB", 2), ("G", 3)]))
def test_whole_numbers_of_a_unit_are_exact(count: int, unit: tuple[str, int]) -> None:
    assert parse_size(f"{count}{unit[0]}/s") == count * 1024 ** unit[1]


@given(st.text(max_size=12) | st.text(alphabet="0123.kKMGiB/s ", max_size=12))
def test_any_text_is_a_size_or_an_error(text: str) -> None:
    try:
        assert parse_size(text) > 0
    except InvalidInput:
        return


@pytest.mark.parametrize(
    ("text", "duration"),
    [
        ("90d", timedelta(days=90)),
        ("12h", timedelta(hours=12)),
        ("1h30m", timedelta(minutes=90)),
        ("1w 2d", timedelta(days=9)),
        ("1y", timedelta(days=365)),
        ("1.5h", timedelta(minutes=90)),
        ("45 s", timedelta(seconds=45)),
    ],
)
def test_a_duration_is(text: str, duration: timedelta) -> None:
    assert parse_duration(text) == duration
    assert parse_since(text) == duration


@pytest.mark.parametrize("text", ["", "90", "d", "90 days", "-1d", "1d-", "1M", "999999999y", "٣d"])
def test_what_is_no_duration_is_refused(text: str) -> None:
    with pytest.raises(InvalidInput, match="not a length of time"):
        parse_duration(text)


@pytest.mark.parametrize(
    ("text", "when"),
    [
        ("2030-01-31", datetime(2030, 1, 31, tzinfo=UTC)),
        ("2030-01-31T06:00Z", datetime(2030, 1, 31, 6, tzinfo=UTC)),
        ("2030-01-31T06:00+02:00", datetime(2030, 1, 31, 4, tzinfo=UTC)),
    ],
)
def test_since_may_be_a_date(text: str, when: datetime) -> None:
    assert parse_since(text) == when


@pytest.mark.parametrize("text", ["yesterday", "2030-13-01", "90", "999999999y"])
def test_what_is_neither_is_refused(text: str) -> None:
    with pytest.raises(InvalidInput, match="not a"):
        parse_since(text)


@pytest.mark.parametrize(("text", "share"), [("10%", 0.1), ("100%", 1.0), ("0.5 %", 0.005), ("0%", 0.0)])
def test_a_share_is(text: str, share: float) -> None:
    assert parse_share(text) == share


@pytest.mark.parametrize("text", ["101%", "10", "%", "-1%", "ten%"])
def test_what_is_no_share_is_refused(text: str) -> None:
    with pytest.raises(InvalidInput, match="not a share"):
        parse_share(text)
