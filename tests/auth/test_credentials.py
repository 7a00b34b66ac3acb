"""Credentials read from words, and never shown."""

from __future__ import annotations

import pickle

import pytest
from rich.pretty import pretty_repr

from asyncrane.auth.credentials import ANONYMOUS, Credential
from asyncrane.auth.dockerconfig import AuthFile, Entry
from asyncrane.auth.keychain import FixedKeychain
from asyncrane.errors import InvalidInput


def test_user_and_password_are_split_at_the_first_colon() -> None:
    assert Credential.parse("robot:a:b") == Credential(username="robot", password="a:b")


def test_the_user_token_makes_an_identity_token() -> None:
    assert Credential.parse("<token>:abc") == Credential(identity_token="abc")


@pytest.mark.parametrize("text", ["", "hunter2", ":hunter2"])
def test_words_that_are_no_credentials_are_refused_without_repeating_them(text: str) -> None:
    with pytest.raises(InvalidInput) as caught:
        Credential.parse(text)
    assert "hunter2" not in str(caught.value)


def test_only_an_empty_credential_is_anonymous() -> None:
    assert ANONYMOUS.anonymous
    assert not Credential(username="u").anonymous
    assert not Credential(identity_token="t").anonymous
    assert not Credential(registry_token="t").anonymous


def test_no_secret_is_shown_by_any_way_of_printing() -> None:
    """C6."""
    values = (
        Credential("user", "hunter2", "hunter2", "hunter2"),
        Entry(auth="hunter2", username="u", password="hunter2", identitytoken="hunter2"),
        AuthFile("f", {"h": Entry(auth="hunter2")}, {}, "", {"X-Token": "hunter2"}),
        FixedKeychain(Credential("user", "hunter2"), headers={"X-Token": "hunter2"}),
    )
    for value in values:
        for shown in (repr(value), str(value), f"{value}", pretty_repr(value)):
            assert "hunter2" not in shown
            assert shown


def test_a_credential_can_be_sent_to_another_process() -> None:
    credential = Credential("user", "secret")
    assert pickle.loads(pickle.dumps(credential)) == credential  # noqa: S301  our own bytes


async def test_a_fixed_keychain_answers_the_same_everywhere() -> None:
    chain = FixedKeychain(Credential("user", "secret"), headers={"X-Team": "a"})
    assert await chain.find("a.example", "x") == await chain.find("b.example") == Credential("user", "secret")
    chain.forget("a.example")
    assert chain.headers() == {"X-Team": "a"}
