"""The retry policy: how long, how often, by what right. No clock, no sockets."""

from __future__ import annotations

from email.utils import formatdate

import pytest
from hypothesis import given
from hypothesis import strategies as st
from multidict import CIMultiDict

from asyncrane.transport.retry import RETRYABLE, Policy, exhausted, retry_after


@given(st.integers(1, 10_000), st.floats(0, 1))
def test_waits_double_up_to_thirty_seconds_less_up_to_a_half(failures: int, chance: float) -> None:
    delay = Policy(base=0.5).delay(failures, chance)
    longest = min(0.5 * 2 ** min(failures - 1, 30), 30)
    assert longest / 2 <= delay <= longest


@pytest.mark.parametrize(
    ("value", "seconds"),
    [
        ("120", 120.0),
        (" 0 ", 0.0),
        ("1.5", 1.5),
        (formatdate(1_000_030, usegmt=True), 30.0),
        (formatdate(999_000, usegmt=True), 0.0),
        ("Fri, 31 Dec 9999 23:59:59 GMT", 366 * 86400.0),
        ("1e308", 366 * 86400.0),
        ("-5", None),
        ("inf", None),
        ("nan", None),
        ("soon", None),
        ("", None),
        ("Tue, 99 Foo 2026 00:00:00 GMT", None),
    ],
)
def test_retry_after_is_seconds_or_a_date_b1(value: str, seconds: float | None) -> None:
    assert retry_after(CIMultiDict({"retry-after": value}), 1_000_000.0) == seconds


def test_nothing_said_is_none() -> None:
    assert retry_after({}, 0.0) is None
    assert exhausted({}) is None


@given(st.text(max_size=30))
def test_any_header_value_is_survived(value: str) -> None:
    wait = retry_after({"Retry-After": value}, 0.0)
    assert wait is None or wait >= 0.0
    exhausted({"RateLimit-Remaining": value, "RateLimit-Limit": value, "RateLimit-Reset": value})


@pytest.mark.parametrize(
    ("headers", "seconds"),
    [
        ({"ratelimit-limit": "100;w=21600", "ratelimit-remaining": "76;w=21600"}, None),
        ({"ratelimit-limit": "100;w=21600", "ratelimit-remaining": "0;w=21600"}, 21600.0),
        ({"ratelimit-limit": "100;w=60", "ratelimit-remaining": "0"}, 60.0),
        ({"ratelimit-remaining": "0", "ratelimit-reset": "7"}, 7.0),
        ({"ratelimit-remaining": "0"}, None),
        ({"ratelimit-remaining": "0;w=x"}, None),
    ],
)
def test_an_exhausted_quota_says_when_it_refills_b2(headers: dict[str, str], seconds: float | None) -> None:
    assert exhausted(CIMultiDict(headers)) == seconds


def test_answers_that_stay_the_same_are_not_worth_a_second_question_d6() -> None:
    assert {408, 429, 500, 502, 503, 504, 522} <= RETRYABLE
    assert not {400, 401, 403, 404, 405, 409, 413, 416, 501} & RETRYABLE
