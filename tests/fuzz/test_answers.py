"""What a registry or token service answers: headers, JSON, places to go."""

from __future__ import annotations

import json
from collections.abc import Sequence
from typing import Any

import pytest
from hypothesis import example, given
from hypothesis import strategies as st
from multidict import CIMultiDict
from yarl import URL

from asyncrane.auth.credentials import Credential
from asyncrane.auth.keychain import FixedKeychain
from asyncrane.errors import ServerFault
from asyncrane.registry import links
from asyncrane.registry.sessions import received
from asyncrane.transport import failure, redaction, retry
from asyncrane.transport.challenge import TokenRequest, parse_challenges, read_grant
from asyncrane.transport.redirect import resolve
from asyncrane.transport.tokens import Tokens, is_foreign_private
from tests.fuzz.hostile import changed, examples, refused, said, texts

REALM = "https://auth.example/token"
HERE = "https://registry.example/v2/x/tags/list?n=9"
GRANTS = [
    {"token": "abc", "expires_in": 300, "issued_at": "2024-01-01T00:00:00Z"},
    {"access_token": "abc", "refresh_token": "def", "expires_in": "60"},
]
ERRORS = [
    {"errors": [{"code": "DENIED", "message": "no", "detail": {"a": 1}}, {"code": "X"}]},
    {"error": "invalid", "error_description": "why", "details": "more", "message": "no"},
]
WORDS = ["Bearer ", "Basic ", "realm=", '"', ",", " ", "=", "service=", "scope=", "\\", REALM, "http://[", "\x1b"]
PLACES = [
    "http",
    "https",
    "://",
    "[",
    "]",
    "@",
    ":",
    "/",
    "?",
    "#",
    "%",
    "..",
    "registry.example",
    "127.1",
    "\0",
    "ä",
    "//",
]
LINKS = ["<", ">", ";", ",", "rel", "=", '"', "next", " ", "/v2/x?a=b", "http://[", "\\"]
SMALL_HEADERS = ["Retry-After", "RateLimit-Remaining", "RateLimit-Limit", "RateLimit-Reset", "Range"]


def joined(words: Sequence[str]) -> st.SearchStrategy[str]:
    return st.lists(st.sampled_from(words) | texts, max_size=9).map("".join)


@examples(60)
@given(changed(GRANTS))
def test_a_token_services_answer_is_a_token_or_an_error(body: bytes) -> None:
    grants = []
    refused(lambda: grants.append(read_grant(body, REALM)))
    assert all(grant.life > 0 and grant.token.isascii() and "\n" not in grant.token for grant in grants)


@examples(60)
@given(changed(ERRORS), st.sampled_from(["application/json", "text/html", ""]), st.integers(200, 599))
def test_an_error_is_one_line_whatever_the_registry_says(body: bytes, kind: str, status: int) -> None:
    error = failure.of_answer("GET", HERE, status, {"Content-Type": kind}, body)
    assert said(error).isprintable()


@examples(60)
@given(joined(WORDS))
@example('Bearer realm="http://[x"')
@example('Bearer realm="https://auth.example:port/token"')
@example('Bearer realm="https://\u00b2http/token"')
async def test_a_challenge_leads_to_an_https_url_or_to_an_error(line: str) -> None:
    asked: list[TokenRequest] = []

    async def send(request: TokenRequest) -> bytes:
        asked.append(request)
        raise ServerFault("enough")

    tokens = Tokens("registry.example", FixedKeychain(Credential("u", "p")), send)
    tokens.base = "https://registry.example"
    tokens.challenged(parse_challenges([line]), demanded=True)
    try:
        await tokens.get(("repository:x:pull",))
    except ServerFault as exc:
        said(exc)
    for request in asked:
        url = URL(request.url, encoded=True)
        assert (url.scheme, bool(url.host), bool(url.port)) == ("https", True, True)


class Linked:
    """An answer, as far as its links are looked at."""

    def __init__(self, lines: list[str]) -> None:
        self._lines = lines

    def all(self, name: str) -> list[str]:
        assert name == "Link"
        return self._lines


@examples(80)
@given(st.lists(joined(LINKS), max_size=3))
@example(["<" * 200_000])
@example(["<a>" + ";b " * 50_000])
@example(['<a>;rel="' + " next " * 50_000])
@example(["<http://[>;rel=next"])
def test_a_link_is_a_url_or_an_error(lines: list[str]) -> None:
    answer: Any = Linked(lines)
    link = links.next_page(answer)
    if link is not None:
        refused(lambda: links.same_host(HERE, links.resolve(HERE, link)))


@examples(80)
@given(joined(PLACES))
@example("https://[::1")
@example("//sha256:http")
@example("http://[]@")
@example("http://\u00b2http")
@example("https://storage.example:port/x")
@example("https://\uff11\uff12\uff17.0.0.1/")
def test_a_place_to_go_to_is_a_public_https_url_or_an_error(place: str) -> None:
    found: list[tuple[URL, bool]] = []
    problem = refused(lambda: found.append(resolve("https://registry.example", place, insecure=False)))
    assert problem.isprintable()
    for url, foreign in found:
        assert url.scheme == "https" or not foreign
        assert not (foreign and is_foreign_private(url.host or "", "registry.example"))
    assert redaction.bare_url(place).isprintable()
    redaction.shown_url(place)


@examples(60)
@given(st.dictionaries(st.sampled_from(SMALL_HEADERS), joined(["0", "-", ";w=", "9" * 5000, "e", "bytes", " ", "²"])))
def test_numbers_in_headers_are_numbers_or_nothing(headers: dict[str, str]) -> None:
    found: CIMultiDict[str] = CIMultiDict(headers)
    for seconds in (retry.retry_after(found, 0.0), retry.exhausted(found)):
        assert seconds is None or 0 <= seconds < float("inf")
    size = received(found)
    assert size is None or size >= 0


@pytest.mark.parametrize("number", ["1" + "0" * 400, "0", "-1", '"x"', '"1e999"', '"nan"', "null", "[]"])
def test_a_life_of_any_length_is_one(number: str) -> None:
    assert read_grant(b'{"token":"a","expires_in":' + number.encode() + b"}", REALM).life > 0


def test_what_a_server_repeats_of_a_secret_is_not_shown() -> None:
    """Proxies that say what they were asked put it into their errors, in whatever form."""
    shown = {"Authorization": f"Basic {Credential('me', 'hunter2!').basic()}"}
    secrets = redaction.secrets_in(shown, b"grant_type=refresh_token&refresh_token=r%2Fefresh")
    body = json.dumps({"message": f"me:hunter2! r/efresh {Credential('me', 'hunter2!').basic()}"}).encode()
    text = str(failure.of_answer("GET", HERE, 400, {}, body, secrets=secrets))
    assert text.endswith("400 Bad Request: me:<redacted> <redacted> <redacted>")
