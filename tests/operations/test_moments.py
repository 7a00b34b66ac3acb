"""Moments that images are made at, as the words for them say."""

from __future__ import annotations

import pytest

from asyncrane import InvalidInput
from asyncrane.operations.moments import moment


@pytest.mark.parametrize(
    ("words", "said", "found"),
    [
        ("keep", "5", None),
        ("epoch", "", "1970-01-01T00:00:00Z"),
        ("epoch", "1000000000", "2001-09-09T01:46:40Z"),
        ("now", "1000000000", "2001-09-09T01:46:40Z"),
        ("1000000000", "5", "2001-09-09T01:46:40Z"),
        ("2020-02-29T12:00:00+02:00", "", "2020-02-29T10:00:00Z"),
        ("2020-02-29T12:00:00.25Z", "", "2020-02-29T12:00:00.250000Z"),
    ],
)
def test_k4_a_moment_is_what_is_said(words: str, said: str, found: str | None) -> None:
    """K4: SOURCE_DATE_EPOCH is what now and the epoch are."""
    assert moment(words, {"SOURCE_DATE_EPOCH": said} if said else {}) == found


def test_k4_now_is_now_and_nonsense_is_refused() -> None:
    """K4: RFC 3339 has a time zone."""
    assert moment("now", {}) >= "2024"  # type: ignore[operator]
    for words in ("yesterday", "", "2020-01-01T00:00:00", "99999999999999999999"):
        with pytest.raises(InvalidInput, match="not a time"):
            moment(words, {})
    with pytest.raises(InvalidInput, match="SOURCE_DATE_EPOCH"):
        moment("now", {"SOURCE_DATE_EPOCH": "soon"})
