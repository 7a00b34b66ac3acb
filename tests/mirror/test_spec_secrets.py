"""Passwords of mirror files: where they come from, and that nothing shows them (C6)."""

from __future__ import annotations

import traceback
from pathlib import Path

import pytest

from asyncrane.auth.credentials import Credential
from asyncrane.errors import InvalidMirrorSpec
from tests.mirror.files import SECRET, Folder, registry


@pytest.fixture
def folder(tmp_path: Path) -> Folder:
    return Folder(tmp_path)


def test_a_password_in_the_file_works_with_a_warning(folder: Folder) -> None:
    """C6: the warning says where, and not what."""
    spec = folder.load(registry(f"credentials: {{username: ci, password: {SECRET}}}"))
    assert spec.registries["a:5000"].credential == Credential("ci", SECRET)
    assert spec.warnings == (
        f"{folder.spec}:4:43: a password in the file: better password_env, password_file or helper",
    )


def test_a_password_can_be_in_a_file_of_its_own(folder: Folder) -> None:
    """C6: as orchestrators hand secrets to containers; the user <token> makes it an identity token."""
    folder.put("secret", f"{SECRET}\n")
    spec = folder.load(registry("credentials: {username: <token>, password_file: secret}"))
    assert spec.registries["a:5000"].credential == Credential(identity_token=SECRET)
    assert spec.warnings == ()


LEAKS = [
    f"credentials: {SECRET}",
    f"credentials: [{SECRET}]",
    f"credentials: {{username: ci, password: [{SECRET}]}}",
    f"credentials: {{username: ci, password: *{SECRET}}}",
    f"credentials: {{username: ci, password: !{SECRET}}}",
    f"credentials: {{username: ci, password: !{SECRET}!x}}",
    f"credentials: {{username: ci, password: &{SECRET}}}",
    f"credentials: {{username: ci, password: %{SECRET}}}",
    f"credentials: {{username: ci, password: @{SECRET}}}",
    f"credentials: {{username: ci, password: {SECRET}: x}}",
    f"credentials: {{username: ci, password: '{SECRET}",
    f'credentials: {{username: ci, password: "{SECRET}\\q"}}',
    f"credentials: {{username: ci, password: {SECRET}, helper: x}}",
    f"credentials: {{username: a:b, password: {SECRET}}}",
    f"credentials: {{username: ci, password: {SECRET}, password_env: CI}}",
    f"credentials: {{username: ci, password: {SECRET}}}\n    tls: {{key: mirror.yaml}}",
]


@pytest.mark.parametrize("text", LEAKS)
def test_no_error_shows_a_password(folder: Folder, text: str) -> None:
    """C6: neither the message nor a traceback, whatever YAML makes of it."""
    with pytest.raises(InvalidMirrorSpec) as caught:
        folder.load(registry(text), CI=SECRET)
    assert SECRET not in "".join(traceback.format_exception(caught.value))


def test_numbers_are_no_passwords_and_not_shown(folder: Folder) -> None:
    error = folder.error(registry("credentials: {username: ci, password: 314159}"))
    assert error == "4:43: expected a text (in quotes)"


def test_values_print_no_password(folder: Folder) -> None:
    """C6."""
    for way in ("password_env: CI", f"password: {SECRET}"):
        spec = folder.load(registry(f"credentials: {{username: ci, {way}}}"), CI=SECRET)
        assert SECRET not in f"{spec!r}{spec}{spec.warnings}"


@pytest.mark.parametrize("place", ["from: USER@a/app, to: b.example/app", "from: a.example/app, to: USER@b:5000/app"])
@pytest.mark.parametrize("scheme", ["", "https://"])
def test_no_error_shows_a_password_that_is_in_a_name(folder: Folder, place: str, scheme: str) -> None:
    """C6: as other tools have it, who are told URLs."""
    with pytest.raises(InvalidMirrorSpec, match="USER:PASSWORD@ is no part of it") as caught:
        folder.load(f"version: 1\nmirrors:\n  - {{{place.replace('USER', f'{scheme}ci:{SECRET}')}}}\n")
    assert SECRET not in "".join(traceback.format_exception(caught.value))
