"""Reading ``WWW-Authenticate``, merging scopes, and the token dance, without any I/O."""

from __future__ import annotations

from urllib.parse import parse_qs, urlsplit

import pytest
from hypothesis import given
from hypothesis import strategies as st

from asyncrane.auth.credentials import ANONYMOUS, Credential
from asyncrane.errors import RegistryError, ServerFault
from asyncrane.transport.challenge import (
    Challenge,
    catalog_scope,
    choose,
    delete_scope,
    merge_scopes,
    parse_challenges,
    pull_scope,
    push_scope,
    repository_of,
    token_dance,
)

REALM = "https://auth.example/token"
NAMES = st.from_regex(r"[a-z]{1,8}", fullmatch=True)
VALUES = st.text(st.characters(min_codepoint=32, max_codepoint=126), max_size=30)
PARAMETERS = st.dictionaries(NAMES, VALUES, min_size=1, max_size=4)
SCHEMES = st.sampled_from(["bearer", "basic", "negotiate"])


def _quoted(parameters: dict[str, str], space: str) -> str:
    escaped = {name: value.replace("\\", "\\\\").replace('"', '\\"') for name, value in parameters.items()}
    return f"{space},{space}".join(f'{name}={space}"{value}"' for name, value in escaped.items())


@given(st.lists(st.tuples(SCHEMES, PARAMETERS), max_size=4), st.sampled_from(["", " ", "\t "]), st.booleans())
def test_what_is_written_is_read_in_one_line_or_several(
    challenges: list[tuple[str, dict[str, str]]], space: str, one: bool
) -> None:
    written = [f"{scheme} {_quoted(parameters, space)}" for scheme, parameters in challenges]
    lines = [", ".join(written)] if one else written
    assert [(c.scheme, c.parameters) for c in parse_challenges(lines)] == challenges


@given(SCHEMES, st.dictionaries(NAMES, st.from_regex(r"[!#-+\--~]{1,20}", fullmatch=True), min_size=1))
def test_values_need_no_quotes(scheme: str, parameters: dict[str, str]) -> None:
    line = f"{scheme.upper()} {','.join(f'{name.upper()}={value}' for name, value in parameters.items())}"
    assert parse_challenges([line]) == [Challenge(scheme, parameters)]


@given(st.lists(st.text(max_size=60), max_size=3))
def test_nonsense_is_read_without_complaint(lines: list[str]) -> None:
    for challenge in parse_challenges(lines):
        assert challenge.scheme


@pytest.mark.parametrize(
    ("line", "realm", "service", "scopes"),
    [
        (  # Docker Hub
            'Bearer realm="https://auth.docker.io/token",service="registry.docker.io",scope="repository:a/b:pull"',
            "https://auth.docker.io/token",
            "registry.docker.io",
            ("repository:a/b:pull",),
        ),
        (  # zot with anonymous reading: lower case, no quotes
            "bearer realm=https://zot.example/zot/auth/token,service=zot,scope=",
            "https://zot.example/zot/auth/token",
            "zot",
            (),
        ),
        ('Bearer realm="https://h/t", scope=""', "https://h/t", "", ()),
        ('Bearer realm = "https://h/t" , service = "s"', "https://h/t", "s", ()),
        ('Bearer realm="https://h/t', "https://h/t", "", ()),
        ('Negotiate abc==, Bearer realm="https://h/t?a=b,c",error="invalid_token"', "https://h/t?a=b,c", "", ()),
        ('Bearer realm="https://h/t",scope="repository:a:pull repository:b:push"', "https://h/t", "", None),
    ],
)
def test_registries_own_forms(line: str, realm: str, service: str, scopes: tuple[str, ...] | None) -> None:
    found = choose(parse_challenges([line]))
    assert found is not None
    assert (found.realm, found.service) == (realm, service)
    assert found.scopes == (scopes if scopes is not None else ("repository:a:pull", "repository:b:push"))


def test_the_first_challenge_that_can_be_met_is_chosen() -> None:
    assert choose(parse_challenges(["Negotiate", "Bearer service=x", 'Basic realm="r"', 'Bearer realm="r"'])) == (
        Challenge("basic", {"realm": "r"})
    )
    assert choose(parse_challenges(["Negotiate"])) is None


def test_scopes_are_spelled_as_ggcr_spells_them() -> None:
    assert pull_scope("library/x") == "repository:library/x:pull"
    assert push_scope("x") == "repository:x:push,pull"
    assert delete_scope("x") == "repository:x:push,pull,delete"
    assert catalog_scope() == "registry:catalog:*"


def test_the_repository_is_the_first_one_named() -> None:
    assert repository_of(("registry:catalog:*", "repository(plugin):a/b:c:pull", "repository:d:pull")) == "a/b:c"
    assert repository_of(("registry:catalog:*",)) == ""


def test_demands_are_merged_into_what_is_held() -> None:
    assert merge_scopes(["repository:a:pull"], ["repository:a:push,pull"]) == ("repository:a:pull,push",)
    assert merge_scopes(["repository:a:pull"], ["repository:b:pull"]) == ("repository:b:pull", "repository:a:pull")


SCOPES = st.lists(
    st.builds("repository:{}:{}".format, NAMES, st.sampled_from(["pull", "push,pull", "delete", "*"])), max_size=5
)


@given(SCOPES, SCOPES)
def test_merging_again_does_not_grow_c2(held: list[str], demanded: list[str]) -> None:
    once = merge_scopes(held, demanded)
    assert merge_scopes(once, demanded) == once
    names = [scope.split(":")[1] for scope in once]
    assert len(names) == len(set(names))
    assert {s.split(":")[1] for s in [*held, *demanded]} == set(names)


def test_a_password_is_shown_by_get_to_the_realms_own_query() -> None:
    dance = token_dance(f"{REALM}?a=b", "svc", ["repository:x:pull", "repository:y:pull"], Credential("u", "p"))
    request = next(dance)
    assert (request.method, request.authorization) == ("GET", "Basic dTpw")
    query = parse_qs(urlsplit(request.url).query)
    assert query == {"a": ["b"], "service": ["svc"], "scope": ["repository:x:pull", "repository:y:pull"]}
    with pytest.raises(StopIteration) as end:
        dance.send(b'{"token": "t", "access_token": "a", "expires_in": 5}')
    assert (end.value.value.token, end.value.value.life) == ("a", 5.0)


def test_nobody_shows_nothing() -> None:
    assert next(token_dance(REALM, "", [], ANONYMOUS)) == next(token_dance(REALM, "", [], Credential()))
    assert next(token_dance(REALM, "", [], ANONYMOUS)).url == REALM


def test_an_identity_token_is_shown_by_post_and_the_refresh_token_is_kept() -> None:
    dance = token_dance(REALM, "svc", ["a:b:c", "d:e:f"], Credential(identity_token="id"))
    request = next(dance)
    assert (request.method, request.url, request.authorization) == ("POST", REALM, "")
    assert parse_qs(request.form.decode()) == {
        "grant_type": ["refresh_token"],
        "refresh_token": ["id"],
        "service": ["svc"],
        "client_id": ["asyncrane"],
        "scope": ["a:b:c d:e:f"],
    }
    with pytest.raises(StopIteration) as end:
        dance.send(b'{"access_token": "t", "refresh_token": "next"}')
    assert (end.value.value.life, end.value.value.refresh_token) == (60.0, "next")


@pytest.mark.parametrize("status", [404, 405])
def test_a_service_without_oauth2_is_asked_by_get(status: int) -> None:
    dance = token_dance(REALM, "", [], Credential(identity_token="id"))
    next(dance)
    assert dance.throw(RegistryError("no", status=status)).method == "GET"


def test_a_refused_refresh_token_gives_way_to_the_identity_token() -> None:
    dance = token_dance(REALM, "", [], Credential(identity_token="id"), refresh_token="old")
    assert b"refresh_token=old" in next(dance).form
    assert b"refresh_token=id" in dance.throw(RegistryError("no", status=401)).form


def test_a_refused_identity_token_is_refused() -> None:
    dance = token_dance(REALM, "", [], Credential(identity_token="id"))
    next(dance)
    with pytest.raises(RegistryError):
        dance.throw(RegistryError("no", status=401))


@pytest.mark.parametrize(
    "body", [b"", b"<html>", b"[]", b"{}", b'{"token": ""}', b'{"token": 1}', b'{"token": "a\\r\\nb"}']
)
def test_an_answer_without_a_token_is_a_fault(body: bytes) -> None:
    dance = token_dance(REALM, "", [], ANONYMOUS)
    next(dance)
    with pytest.raises(ServerFault, match=r"^https://auth\.example/token: "):
        dance.send(body)


@pytest.mark.parametrize("value", ["null", "-1", "0", '"soon"', "[]"])
def test_a_senseless_life_is_sixty_seconds_c2(value: str) -> None:
    dance = token_dance(REALM, "", [], ANONYMOUS)
    next(dance)
    with pytest.raises(StopIteration) as end:
        dance.send(b'{"token": "t", "expires_in": %s}' % value.encode())
    assert end.value.value.life == 60.0


def test_requests_and_grants_print_no_secret() -> None:
    request = next(token_dance(REALM, "svc", [], Credential("user", "hunter2")))
    assert "dXNlcjpodW50ZXIy" not in repr(request)
    assert "hunter2" not in repr(next(token_dance(REALM, "", [], Credential(identity_token="hunter2"))))
